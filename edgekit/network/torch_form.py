"""The PyTorch form: an ``torch.fx.GraphModule`` of PyTorch's own layers, to train, export or trace like any module."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, UnavailableError
from edgekit.network._torch_attention import attention, cached_attention
from edgekit.network.record import Layer, Record

__all__ = ["to_torch", "torch_weights"]


def to_torch(network: Record, weights: Mapping[str, np.ndarray] | None = None) -> Any:
    """A module in evaluation mode that takes the inputs in order and gives the output, or a tuple of several.

    Its attributes ``input_names`` and ``output_names`` say which is which. Without `weights`, it has those PyTorch
    starts from.

    Raises:
        UnavailableError: PyTorch is not installed.
        ArtifactError: `weights` lack one, or one has another shape.
    """
    try:
        import torch
    except ImportError as error:
        raise UnavailableError("PyTorch is not installed", hint="pip install 'edgekit-ml[torch]'") from error
    form = _Form(network)
    for tensor in network.inputs:
        form.values[tensor.name] = form.graph.placeholder(tensor.name)
    for layer in network.layers:
        form.render(layer)
    outputs = [form.values[tensor.name] for tensor in network.outputs.values()]
    form.graph.output(outputs[0] if len(outputs) == 1 else tuple(outputs))
    module = torch.fx.GraphModule(form.root, form.graph, class_name=network.name)
    for name, constant in form.constants.items():  # a graph module keeps what it copies; these are no weights
        delattr(module, name)
        module.register_buffer(name, constant, persistent=False)
    module.input_names = tuple(tensor.name for tensor in network.inputs)
    module.output_names = tuple(network.outputs)
    if weights is not None:
        _load(module, network, weights)
    return module.eval()


def torch_weights(module: Any, network: Record) -> dict[str, np.ndarray]:
    """The weights of a module that `to_torch` made of `network`, as float32 arrays."""
    state = module.state_dict()
    return {name: state[name].detach().cpu().numpy().astype(np.float32) for name in network.params}


def _load(module: Any, network: Record, weights: Mapping[str, np.ndarray]) -> None:
    import torch

    state = module.state_dict()
    for name, param in network.params.items():
        if name not in weights or tuple(weights[name].shape) != param.shape:
            got = f"has shape {list(weights[name].shape)}" if name in weights else "is missing"
            raise ArtifactError(f"weight {name} {got}; {network.name} wants {list(param.shape)}")
        state[name] = torch.from_numpy(np.array(weights[name], np.float32))
    module.load_state_dict(state)


class _Form:
    """What is built: the modules, the graph that calls them, and the node of each tensor."""

    def __init__(self, network: Record) -> None:
        import torch

        self.torch = torch
        self.nn = torch.nn
        self.functional = torch.nn.functional
        self.root = torch.nn.Module()
        self.graph = torch.fx.Graph()
        self.values: dict[str, Any] = {}
        self.constants: dict[str, Any] = {}

    def render(self, layer: Layer) -> None:
        given = _OPS[layer.op](self, layer, *(self.values[tensor.name] for tensor in layer.inputs))
        nodes = given if isinstance(given, tuple) else (given,)
        for tensor, node in zip(layer.outputs, nodes, strict=True):
            self.values[tensor.name] = node

    def own(self, name: str, module: Any) -> str:
        """Puts `module` at the dotted `name`, with plain modules above it where there are none yet."""
        *path, last = name.split(".")
        place = self.root
        for part in path:
            if part not in place._modules:
                place.add_module(part, self.nn.Module())
            place = place._modules[part]
        place.add_module(last, module)
        return name

    def module(self, name: str, module: Any, *nodes: Any) -> Any:
        return self.graph.call_module(self.own(name, module), nodes)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.graph.call_function(function, args, kwargs)

    def method(self, name: str, *args: Any) -> Any:
        return self.graph.call_method(name, args)

    def constant(self, name: str, array: np.ndarray) -> Any:
        """A fixed array."""
        place = name.replace(".", "_")
        self.constants[place] = self.torch.from_numpy(np.array(array))
        self.root.register_buffer(place, self.constants[place])
        return self.graph.get_attr(place)

    def pad(self, node: Any, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
        flat = [count for pair in reversed(pads) for count in pair]
        return self.call(self.functional.pad, node, flat, "constant", value)


def _symmetric(form: _Form, node: Any, pads: Sequence[tuple[int, int]], value: float = 0.0) -> tuple[Any, list[int]]:
    """The node, padded first where the two ends differ, and what is left for the layer to pad."""
    if all(before == after for before, after in pads):
        return node, [before for before, _ in pads]
    return form.pad(node, pads, value), [0] * len(pads)


def _conv(form: _Form, layer: Layer, x: Any) -> Any:
    options, weight = layer.options, layer.params["weight"].shape
    x, padding = _symmetric(form, x, options["pads"])
    make = {1: form.nn.Conv1d, 2: form.nn.Conv2d}[len(options["kernel"])]
    module = make(
        weight[1] * options["groups"],
        weight[0],
        options["kernel"],
        stride=options["stride"],
        padding=padding,
        dilation=options["dilation"],
        groups=options["groups"],
        bias="bias" in layer.params,
    )
    return form.module(layer.name, module, x)


def _conv_transpose(form: _Form, layer: Layer, x: Any) -> Any:
    options, weight = layer.options, layer.params["weight"].shape
    make = {1: form.nn.ConvTranspose1d, 2: form.nn.ConvTranspose2d}[len(options["kernel"])]
    settings = {"stride": options["stride"], "padding": options["pad"], "bias": "bias" in layer.params}
    return form.module(layer.name, make(weight[0], weight[1], options["kernel"], **settings), x)


def _dense(form: _Form, layer: Layer, x: Any) -> Any:
    weight = layer.params["weight"]
    if weight.name != f"{layer.name}.weight":  # tied to another layer's
        return form.call(form.functional.linear, x, form.graph.get_attr(weight.name))
    return form.module(layer.name, form.nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in layer.params), x)


def _batch_norm(form: _Form, layer: Layer, x: Any) -> Any:
    make = {2: form.nn.BatchNorm1d, 3: form.nn.BatchNorm1d, 4: form.nn.BatchNorm2d}[len(layer.output.shape)]
    options = layer.options
    module = make(layer.params["weight"].size, options["epsilon"], options["momentum"])
    if layer.output.is_spatial or len(layer.output.shape) == 2:
        return form.module(layer.name, module, x)
    # PyTorch looks for the channels of [batch, steps, features] in the middle.
    return form.method("transpose", form.module(layer.name, module, form.method("transpose", x, 1, 2)), 1, 2)


def _layer_norm(form: _Form, layer: Layer, x: Any) -> Any:
    return form.module(layer.name, form.nn.LayerNorm(layer.params["weight"].size, layer.options["epsilon"]), x)


def _rms_norm(form: _Form, layer: Layer, x: Any) -> Any:
    return form.module(layer.name, form.nn.RMSNorm(layer.params["weight"].size, layer.options["epsilon"]), x)


def _group_norm(form: _Form, layer: Layer, x: Any) -> Any:
    options, size = layer.options, layer.params["weight"].size
    return form.module(layer.name, form.nn.GroupNorm(options["groups"], size, options["epsilon"]), x)


def _embedding(form: _Form, layer: Layer, ids: Any) -> Any:
    return form.module(layer.name, form.nn.Embedding(*layer.params["weight"].shape), ids)


def _add_positions(form: _Form, layer: Layer, x: Any) -> Any:
    form.own(layer.name, form.nn.Embedding(*layer.params["weight"].shape))
    table = form.graph.get_attr(layer.params["weight"].name)
    steps = form.method("size", x, 1)
    return form.call(form.torch.add, x, form.method("__getitem__", table, slice(None, steps)))


def _recurrent(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    make = {"lstm": form.nn.LSTM, "gru": form.nn.GRU}[layer.op]
    features = layer.params["weight_ih"].shape[1]
    module = make(features, options["units"], batch_first=True, bidirectional=options["bidirectional"])
    both = form.module(layer.name, module, x)
    if options["sequences"]:
        return form.call(operator.getitem, both, 0)
    last = form.call(operator.getitem, both, 1)
    last = form.call(operator.getitem, last, 0) if layer.op == "lstm" else last
    return form.method("flatten", form.method("transpose", last, 0, 1), 1)


def _activation(form: _Form, layer: Layer, x: Any) -> Any:
    kind, torch, functional = layer.options["kind"], form.torch, form.functional
    if kind == "leaky_relu":
        return form.call(functional.leaky_relu, x, layer.options["slope"])
    functions = {
        "relu": functional.relu,
        "relu6": functional.relu6,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": functional.silu,
        "gelu": functional.gelu,
        "hard_swish": functional.hardswish,
        "exp": torch.exp,
        "sin": torch.sin,
        "cos": torch.cos,
    }
    return form.call(functions[kind], x)


def _dropout(form: _Form, layer: Layer, x: Any) -> Any:
    return form.module(layer.name, form.nn.Dropout(layer.options["rate"]), x)


def _affine(form: _Form, layer: Layer, x: Any) -> Any:
    scale, offset = layer.options["scale"], layer.options["offset"]
    for name, array, function, neutral in (
        ("scale", scale, form.torch.mul, 1.0),
        ("offset", offset, form.torch.add, 0.0),
    ):
        if array.ndim or float(array) != neutral:
            x = form.call(function, x, form.constant(f"{layer.name}_{name}", array) if array.ndim else float(array))
    return x


def _slice(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    return form.call(form.torch.narrow, x, options["axis"], options["start"], options["stop"] - options["start"])


def _crop(form: _Form, layer: Layer, x: Any) -> Any:
    crops = layer.options["crops"]
    return form.call(form.functional.pad, x, [-count for pair in reversed(crops) for count in pair])


def _pool(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    x, padding = _symmetric(form, x, options["pads"], -math.inf)
    pool = getattr(form.functional, f"{layer.op}{len(options['kernel'])}d")
    return form.call(pool, x, options["kernel"], stride=options["stride"], padding=padding)


def _global_avg_pool(form: _Form, layer: Layer, x: Any) -> Any:
    return form.call(form.torch.mean, x, list(range(2, len(layer.inputs[0].shape))))


def _upsample(form: _Form, layer: Layer, x: Any) -> Any:
    mode = layer.options["mode"]
    settings = {"align_corners": False} if mode == "bilinear" else {}
    return form.call(form.functional.interpolate, x, scale_factor=layer.options["factor"], mode=mode, **settings)


def _space_to_depth(form: _Form, layer: Layer, x: Any) -> Any:
    every = slice(None)
    parts = [
        form.call(operator.getitem, x, (every, every, slice(row, None, 2), slice(column, None, 2)))
        for column in (0, 1)
        for row in (0, 1)
    ]
    return form.call(form.torch.cat, parts, 1)


def _to_steps(form: _Form, layer: Layer, x: Any) -> Any:
    return form.method("transpose", form.method("flatten", x, 2), 1, 2)


def _to_spatial(form: _Form, layer: Layer, x: Any) -> Any:
    size = layer.options["size"]
    if len(layer.inputs[0].shape) == 2:
        return form.method("unflatten", x, 1, (layer.inputs[0].channels, *size))
    turned = form.method("transpose", x, 1, 2)
    return turned if len(size) == 1 else form.method("unflatten", turned, 2, size)


def _reshape(form: _Form, layer: Layer, x: Any) -> Any:
    flat = form.method("flatten", x, 1) if len(layer.inputs[0].shape) > 2 else x
    return flat if len(layer.output.shape) == 2 else form.method("unflatten", flat, 1, layer.output.shape[1:])


def _masked_mean(form: _Form, layer: Layer, x: Any, mask: Any) -> Any:
    torch = form.torch
    seen = form.method("to", form.call(torch.ne, form.method("unsqueeze", mask, -1), 0), torch.float32)
    total = form.call(torch.sum, form.call(torch.mul, x, seen), 1)
    return form.call(torch.div, total, form.call(torch.clamp, form.call(torch.sum, seen, 1), 1.0))


def _features(layer: Layer) -> int:
    return 1 if layer.output.is_spatial else -1


def _function(name: str) -> Callable[..., Any]:
    return lambda form, layer, *nodes: form.call(getattr(form.torch, name), *nodes)


_OPS: Mapping[str, Callable[..., Any]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
    "add_positions": _add_positions,
    "lstm": _recurrent,
    "gru": _recurrent,
    "attention": attention,
    "cached_attention": cached_attention,
    "activation": _activation,
    "dropout": _dropout,
    "affine": _affine,
    "sum": _function("add"),
    "product": _function("mul"),
    "concat": lambda form, layer, *nodes: form.call(form.torch.cat, list(nodes), layer.options["axis"]),
    "softmax": lambda form, layer, x: form.call(form.torch.softmax, x, _features(layer)),
    "slice": _slice,
    "crop": _crop,
    "pad": lambda form, layer, x: form.pad(x, layer.options["pads"]),
    "max_pool": _pool,
    "avg_pool": _pool,
    "global_avg_pool": _global_avg_pool,
    "mean_steps": lambda form, layer, x: form.call(form.torch.mean, x, 1),
    "masked_mean": _masked_mean,
    "unit_length": lambda form, layer, x: form.call(form.functional.normalize, x, 2.0, _features(layer)),
    "upsample": _upsample,
    "space_to_depth": _space_to_depth,
    "to_steps": _to_steps,
    "to_spatial": _to_spatial,
    "step": lambda form, layer, x: form.call(form.torch.select, x, 1, layer.options["index"]),
    "reshape": _reshape,
}
