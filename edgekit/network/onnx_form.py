"""The ONNX form: nodes of standard operators straight from the record, without any framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import ArtifactError, UnavailableError, UnsupportedError
from edgekit.network import _onnx_sequences as sequences
from edgekit.network._onnx_graph import BOOL, FLOAT, OnnxGraph, Part
from edgekit.network.record import Record
from edgekit.spec import STATE_KEY
from edgekit.staging import real_path, require_replaceable, write_atomically

__all__ = ["OPSET", "save_onnx", "to_onnx"]

OPSET = 20
"""The first with Gelu."""

_IR_VERSION = 10
_MAX_INLINE_BYTES = 1_800_000_000
"""A protobuf message ends at 2 GiB; weights beyond this go to a file beside it."""


def to_onnx(network: Record, weights: Mapping[str, np.ndarray], *, metadata: Mapping[str, str] | None = None) -> Any:
    """An ``onnx.ModelProto`` of `network`; its outputs, inputs and symbolic sizes have the record's names.

    Initializers have the weights' names, and PyTorch's layout where ONNX has it too; the matrix of a dense layer over
    more than two axes is stored turned, and a recurrent layer's weights are gathered under ``NAME/W``, ``/R``, ``/B``.

    Args:
        network: What to render.
        weights: Every weight by name, as `edgekit.network.starting_weights` gives them.
        metadata: Goes into the model's own, beside which output is to be fed back as which input.

    Raises:
        ArtifactError: `weights` lack some, or some have another shape.
        UnsupportedError: The record has what ONNX has not.
        UnavailableError: onnx is not installed.
    """
    try:
        from onnx import helper
    except ImportError as error:
        raise UnavailableError("onnx is not installed", hint="pip install 'edgekit-ml[convert]'") from error
    _check(network, weights)
    graph = OnnxGraph(network, weights)
    for layer in network.layers:
        given = _OPS[layer.op](Part(graph, layer), *(graph.values[tensor.name] for tensor in layer.inputs))
        values = given if isinstance(given, tuple) else (given,)
        graph.values.update(zip((tensor.name for tensor in layer.outputs), values, strict=True))
    graph.name_outputs()
    model = helper.make_model(
        graph.to_proto(),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="edgekit",
    )
    properties = dict(metadata or {})
    if network.state:
        properties[STATE_KEY] = json.dumps([[pair.input, pair.output] for pair in network.state])
    helper.set_model_props(model, dict(sorted(properties.items())))
    return model


def save_onnx(
    network: Record,
    weights: Mapping[str, np.ndarray],
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    force: bool = False,
) -> Path:
    """Writes `to_onnx` to a file, whole or not at all; the same bytes for the same network and weights.

    Beyond 1.8 GB of weights these go to ``NAME.data`` beside it.

    Raises:
        InputError: There is a file already and `force` is not given.
        ArtifactError: As `to_onnx`, or the file cannot be written.
    """
    path = Path(path)
    require_replaceable(real_path(path), force=force)
    model = to_onnx(network, weights, metadata=metadata)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > _MAX_INLINE_BYTES:
        from onnx.external_data_helper import convert_model_to_external_data, write_external_data_tensors

        beside = f"{path.name}.data"
        convert_model_to_external_data(model, location=beside)

        def write(staged: Path) -> None:
            write_external_data_tensors(model, str(staged.parent))

        write_atomically(path.with_name(beside), write, force=force)
    return write_atomically(path, model.SerializeToString(deterministic=True), force=force)


def _check(network: Record, weights: Mapping[str, np.ndarray]) -> None:
    wrong = []
    for name, param in network.params.items():
        if name not in weights:
            wrong.append(f"{name} is missing")
        elif tuple(np.shape(weights[name])) != param.shape:
            wrong.append(f"{name} is {list(np.shape(weights[name]))}, not {list(param.shape)}")
    if wrong:
        raise ArtifactError(
            f"the weights are not those of {network.name}: {'; '.join(wrong)}",
            hint="edgekit.weights.fit_weights says what does not fit, and renames",
        )
    both = sorted({tensor.name for tensor in network.inputs} & set(network.outputs))
    if both:
        raise UnsupportedError(
            "ONNX has no two tensors of one name", offenders=both, hint="name outputs otherwise than inputs"
        )


def _conv(part: Part, x: str) -> str:
    options = part.options
    attributes = {
        "kernel_shape": options["kernel"],
        "strides": options["stride"],
        "dilations": [options["dilation"]] * len(options["kernel"]),
        "group": options["groups"],
        "pads": _ends(options["pads"]),
    }
    return part.add("Conv", x, *_weights(part), **attributes)


def _conv_transpose(part: Part, x: str) -> str:
    options = part.options
    pads = [options["pad"]] * (2 * len(options["kernel"]))
    return part.add(
        "ConvTranspose", x, *_weights(part), kernel_shape=options["kernel"], strides=options["stride"], pads=pads
    )


def _weights(part: Part) -> list[str]:
    return [part.weight(role) for role in ("weight", "bias") if role in part.layer.params]


def _ends(pads: tuple[tuple[int, int], ...]) -> list[int]:
    """All befores, then all afters."""
    return [before for before, _ in pads] + [after for _, after in pads]


def _dense(part: Part, x: str) -> str:
    if len(part.layer.inputs[0].shape) > 2:
        return part.project(x)
    return part.add("Gemm", x, *_weights(part), transB=1)


def _batch_norm(part: Part, x: str) -> str:
    tensor = part.layer.output
    roles = [part.weight(role) for role in ("weight", "bias", "running_mean", "running_var")]
    if tensor.is_spatial or len(tensor.shape) == 2:
        return part.add("BatchNormalization", x, *roles, epsilon=part.options["epsilon"])
    last = len(tensor.shape) - 1
    there, back = [0, last, *range(1, last)], [0, *range(2, last + 1), 1]
    turned = part.add("Transpose", x, part="turned", perm=there)
    normal = part.add("BatchNormalization", turned, *roles, part="normal", epsilon=part.options["epsilon"])
    return part.add("Transpose", normal, perm=back)


def _layer_norm(part: Part, x: str) -> str:
    return part.add("LayerNormalization", x, *_weights(part), axis=-1, epsilon=part.options["epsilon"])


def _rms_norm(part: Part, x: str) -> str:
    squares = part.add("Mul", x, x, part="squares")
    mean = part.add("ReduceMean", squares, part.integers("axes", [-1]), part="mean", keepdims=1)
    root = part.add(
        "Sqrt", part.add("Add", mean, part.array("epsilon", part.options["epsilon"]), part="sum"), part="rms"
    )
    return part.add("Mul", part.add("Div", x, root, part="normal"), part.weight("weight"))


def _group_norm(part: Part, x: str) -> str:
    # Through the instance norm of [batch, groups, rest]: opset 21's own operator is not everywhere.
    options, tensor = part.options, part.layer.inputs[0]
    grouped = part.reshape(x, [0, options["groups"], -1], "grouped")
    ones, zeros = part.array("ones", np.ones(options["groups"])), part.array("zeros", np.zeros(options["groups"]))
    normal = part.add("InstanceNormalization", grouped, ones, zeros, part="normal", epsilon=options["epsilon"])
    sizes = [-1 if isinstance(dim, str) else dim for dim in tensor.shape[1:]]
    if sizes.count(-1) < 2:
        back = part.reshape(normal, [0, *sizes], "back")
    else:
        back = part.add("Reshape", normal, part.add("Shape", x, part="shape"), part="back")
    each = (-1, *[1] * (len(tensor.shape) - 2))
    gain, offset = (part.array(role, part.numbers(role).reshape(each)) for role in ("weight", "bias"))
    return part.add("Add", part.add("Mul", back, gain, part="scaled"), offset)


def _embedding(part: Part, ids: str) -> str:
    return part.add("Gather", part.weight("weight"), ids, axis=0)


def _add_positions(part: Part, x: str) -> str:
    table, steps = part.weight("weight"), part.layer.output.shape[1]
    if isinstance(steps, str):
        stop = part.add("Shape", x, part="steps", start=1, end=2)
        rows = part.add("Slice", table, part.integers("starts", [0]), stop, part.integers("axes", [0]), part="rows")
    elif steps < part.layer.params["weight"].shape[0]:
        rows = part.slice(table, [0], [steps], [0], "rows")
    else:
        rows = table
    return part.add("Add", x, rows)


def _activation(part: Part, x: str) -> str:
    kind = part.options["kind"]
    if kind == "leaky_relu":
        return part.add("LeakyRelu", x, alpha=part.options["slope"])
    if kind == "relu6":
        return part.add("Clip", x, part.array("low", 0.0), part.array("high", 6.0))
    if kind == "silu":
        return part.add("Mul", x, part.add("Sigmoid", x, part="sigmoid"))
    return part.add(_FUNCTIONS[kind], x)


_FUNCTIONS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "gelu": "Gelu",
    "hard_swish": "HardSwish",
    "exp": "Exp",
    "sin": "Sin",
    "cos": "Cos",
}


def _affine(part: Part, x: str) -> str:
    scale, offset = part.options["scale"], part.options["offset"]
    scales, moves = (array.ndim > 0 or float(array) != neutral for array, neutral in ((scale, 1.0), (offset, 0.0)))
    if scales:
        x = part.add("Mul", x, part.array("scale", scale), part="scaled" if moves else "")
    return part.add("Add", x, part.array("offset", offset)) if moves else x


def _slice(part: Part, x: str) -> str:
    options = part.options
    return part.slice(x, [options["start"]], [options["stop"]], [options["axis"]])


def _crop(part: Part, x: str) -> str:
    tensor, crops = part.layer.inputs[0], part.options["crops"]
    stops = [tensor.size(2 + axis) - after for axis, (_, after) in enumerate(crops)]
    return part.slice(x, [before for before, _ in crops], stops, range(2, 2 + len(crops)))


def _pad(part: Part, x: str) -> str:
    pads = ((0, 0), (0, 0), *part.options["pads"])
    return part.add("Pad", x, part.integers("pads", _ends(pads)))


def _max_pool(part: Part, x: str) -> str:
    options = part.options
    return part.add(
        "MaxPool", x, kernel_shape=options["kernel"], strides=options["stride"], pads=_ends(options["pads"])
    )


def _avg_pool(part: Part, x: str) -> str:
    return part.add("AveragePool", x, kernel_shape=part.options["kernel"], strides=part.options["stride"])


def _global_avg_pool(part: Part, x: str) -> str:
    return part.add("Flatten", part.add("GlobalAveragePool", x, part="mean"), axis=1)


def _upsample(part: Part, x: str) -> str:
    rank = len(part.layer.output.shape)
    scales = part.array("scales", [1, 1, *[part.options["factor"]] * (rank - 2)])
    if part.options["mode"] == "nearest":
        settings = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        settings = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return part.add("Resize", x, "", scales, **settings)


def _space_to_depth(part: Part, x: str) -> str:
    tensor, corners = part.layer.inputs[0], []
    for column in (0, 1):
        for row in (0, 1):
            stops = (tensor.size(2), tensor.size(3))
            corners.append(part.slice(x, (row, column), stops, (2, 3), f"corner{row}{column}", steps=(2, 2)))
    return part.add("Concat", *corners, axis=1)


def _to_steps(part: Part, x: str) -> str:
    tensor = part.layer.inputs[0]
    rank = len(tensor.shape)
    # Channels last first, so that what runs channels last has nothing to turn.
    perm = [0, *range(2, rank), 1]
    if rank == 3:
        return part.add("Transpose", x, perm=perm)
    turned = part.add("Transpose", x, part="turned", perm=perm)
    return part.reshape(turned, [0, *part.layer.output.shape[1:]])


def _to_spatial(part: Part, x: str) -> str:
    tensor, size = part.layer.inputs[0], part.options["size"]
    if len(tensor.shape) == 2:
        return part.add("Unsqueeze", x, part.integers("axes", range(2, 2 + len(size))))
    apart = x if len(size) == 1 else part.reshape(x, [0, *size, tensor.channels], "apart")
    return part.add("Transpose", apart, perm=[0, len(size) + 1, *range(1, len(size) + 1)])


def _step(part: Part, x: str) -> str:
    return part.add("Gather", x, part.integers("index", part.options["index"]), axis=1)


def _mean_steps(part: Part, x: str) -> str:
    return part.add("ReduceMean", x, part.integers("axes", [1]), keepdims=0)


def _masked_mean(part: Part, x: str, mask: str) -> str:
    seen = part.add("Cast", part.add("Cast", mask, part="seen/bool", to=BOOL), part="seen/flat", to=FLOAT)
    seen = part.add("Unsqueeze", seen, part.integers("axes", [2]), part="seen")
    steps = part.integers("steps", [1])
    total = part.add("ReduceSum", part.add("Mul", x, seen, part="kept"), steps, part="total", keepdims=0)
    count = part.add("ReduceSum", seen, steps, part="count", keepdims=0)
    return part.add("Div", total, part.add("Max", count, part.array("one", 1.0), part="count/least"))


def _unit_length(part: Part, x: str) -> str:
    axis = part.integers("axes", [1 if part.layer.output.is_spatial else -1])
    length = part.add("ReduceL2", x, axis, part="length", keepdims=1)
    return part.add("Div", x, part.add("Max", length, part.array("least", 1e-12), part="length/least"))


def _softmax(part: Part, x: str) -> str:
    return part.add("Softmax", x, axis=1 if part.layer.output.is_spatial else -1)


def _concat(part: Part, *tensors: str) -> str:
    return part.add("Concat", *tensors, axis=part.options["axis"])


_Rule: TypeAlias = Callable[..., str | tuple[str, ...]]

_OPS: Mapping[str, _Rule] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
    "add_positions": _add_positions,
    "lstm": sequences.recurrent,
    "gru": sequences.recurrent,
    "attention": sequences.attention,
    "cached_attention": sequences.cached_attention,
    "activation": _activation,
    "dropout": lambda part, x: x,
    "affine": _affine,
    "sum": lambda part, x, y: part.add("Add", x, y),
    "product": lambda part, x, y: part.add("Mul", x, y),
    "concat": _concat,
    "softmax": _softmax,
    "slice": _slice,
    "crop": _crop,
    "pad": _pad,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "mean_steps": _mean_steps,
    "masked_mean": _masked_mean,
    "unit_length": _unit_length,
    "upsample": _upsample,
    "space_to_depth": _space_to_depth,
    "to_steps": _to_steps,
    "to_spatial": _to_spatial,
    "step": _step,
    "reshape": lambda part, x: part.reshape(x, [0, *part.layer.output.shape[1:]]),
}
