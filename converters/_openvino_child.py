"""What the OpenVINO converter does in its own process: read the hub or a SavedModel, place integers, write IR.

Functions here are called by name through `edgekit.worker.Worker`; arguments and results are plain data and paths.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgekit.errors import ConversionError, EdgekitError, UnsupportedError

__all__ = ["convert", "read_plan", "write_plan"]

_PRODUCTS = {
    "Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul",
}  # fmt: skip
_MADE_UP = re.compile(r"[A-Za-z]+_\d+")
_RT_INFO = ("conversion_parameters", "Runtime_version", "runtime_options", "nncf", "optimization", "framework")


def convert(source: str, target: str, precision: str, plan: str | None = None) -> dict[str, Any]:
    """Converts an .onnx file or a SavedModel folder at `source` to IR at `target`.

    Args:
        source: Path of the hub file or the SavedModel.
        target: Path of the .xml to write; the .bin goes beside it.
        precision: ``"fp32"``, ``"fp16"`` (weights stored so) or ``"w8a8"``.
        plan: Folder left by `write_plan`, for w8a8.

    Returns:
        Names of inputs and outputs in the order of the file, and the version of OpenVINO.
    """
    openvino = _openvino()
    try:
        model = openvino.convert_model(source) if plan is None else _read_and_quantize(source, Path(plan))
    except Exception as error:
        raise _typed(error) from error
    names = {"inputs": _name(model.inputs), "outputs": _name(model.outputs)}
    _make_reproducible(model)
    openvino.save_model(model, target, compress_to_fp16=precision == "fp16")
    return {**names, "version": openvino.__version__.split("-")[0]}


def _openvino() -> Any:
    # Importing openvino or converting with it sends usage events where this package is there; without it, none.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _read_and_quantize(source: str, plan: Path) -> Any:
    """Reads the hub, puts integers in, and only then lets OpenVINO fuse.

    `convert_model` fuses at once: it multiplies scales into the weights of the next convolution, and tensors the plan
    names are gone. Constants have to be folded all the same, or grouped weights and biases hide behind Reshape nodes.
    """
    import openvino
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.passes import ConstantFolding, Manager

    model = openvino.Core().read_model(source)
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    _quantize(model, read_plan(plan))
    apply_moc_transformations(model, cf=False)
    return model


def _typed(error: Exception) -> Exception:
    if isinstance(error, EdgekitError):
        return error
    said = str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith("-- ")]
    if failed or type(error).__name__ == "OpConversionFailure":
        return UnsupportedError(
            "OpenVINO cannot read operations of this model",
            offenders=[line.removeprefix("-- ").removesuffix(" with a message:") for line in failed] or lines[:1],
            hint="choose another format, such as onnx",
        )
    first = lines[0] if lines else type(error).__name__
    return ConversionError(f"OpenVINO: {first}", step="openvino", vendor_message=said)


def _name(ports: Any) -> list[str]:
    """The names of inputs or outputs; a port without one gets that of its node."""
    names = []
    for port in ports:
        if not port.get_names():
            port.get_tensor().set_names({port.get_node().get_friendly_name()})
        names.append(sorted(port.get_names())[0])
    return names


def write_plan(plan: Any, arrays: Mapping[str, np.ndarray], folder: Path) -> None:
    """Leaves a QuantPlan for the child: parameters of activations, and weights by the float numbers they replace.

    Args:
        plan: The `QuantPlan`.
        arrays: The float weights by the initializers' names.
        folder: An existing folder.
    """
    activations = {name: params.to_json() for name, params in plan.activations.items()}
    weights, stored = [], {}
    for index, (name, weight) in enumerate(plan.weights.items()):
        stored[f"float_{index}"] = arrays[name]
        stored[f"integer_{index}"] = weight.values
        weights.append({"name": name, "params": weight.params.to_json()})
    (folder / "plan.json").write_text(json.dumps({"activations": activations, "weights": weights}), encoding="utf-8")
    np.savez(folder / "plan.npz", **stored)  # type: ignore[arg-type]  # no array is called allow_pickle


def read_plan(folder: Path) -> dict[str, Any]:
    """What `write_plan` left, with its arrays."""
    data: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    with np.load(folder / "plan.npz") as stored:
        for index, weight in enumerate(data["weights"]):
            weight["float"], weight["integers"] = stored[f"float_{index}"], stored[f"integer_{index}"]
    return data


def _quantize(model: Any, plan: Mapping[str, Any]) -> None:
    ports = {name: port for op in model.get_ordered_ops() for port in op.outputs() for name in port.get_names()}
    lost = [name for name in plan["activations"] if name not in ports]
    lost += _store_weights(model, plan)
    if lost:
        raise ConversionError(
            f"OpenVINO's reader has changed these tensors beyond recognition: {', '.join(lost[:5])}",
            step="hub -> openvino",
        )
    for name, params in plan["activations"].items():
        _fake_quantize(ports[name], params)


def _fake_quantize(port: Any, params: Mapping[str, Any]) -> None:
    """One FakeQuantize behind a tensor, shared by all that read it but the model's outputs."""
    from openvino import opset13 as ops

    limits = np.iinfo(params["dtype"])
    scale, zero = np.float32(params["scale"][0]), params["zero_point"][0]
    low, high = (np.float32(scale * (limit - zero)) for limit in (limits.min, limits.max))
    readers = [reader for reader in port.get_target_inputs() if reader.get_node().get_type_name() != "Result"]
    node = ops.fake_quantize(port, low, high, low, high, limits.max - limits.min + 1)
    for reader in readers:
        reader.replace_source_output(node.output(0))


def _store_weights(model: Any, plan: Mapping[str, Any]) -> list[str]:
    """Puts integers in the place of float weights; gives the names of those not found."""
    known: dict[bytes, _Rounded] = {}
    for weight in plan["weights"]:
        axis, scale = weight["params"]["axis"], weight["params"]["scale"]
        known.setdefault(_key(weight["float"]), _Rounded(weight["integers"], axis, scale))
        if weight["float"].ndim == 2:  # the reader may have transposed a matrix
            turned = _Rounded(weight["integers"].T, None if axis is None else 1 - axis, scale)
            known.setdefault(_key(weight["float"].T), turned)
    found = set()
    for op in model.get_ordered_ops():
        if op.get_type_name() not in _PRODUCTS:
            continue
        constant = op.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or constant.get_element_type().to_string() != "f32":
            continue
        numbers = constant.get_data()
        if (rounded := known.get(_key(numbers))) is not None:
            op.input(1).replace_source_output(_integer_weight(list(numbers.shape), rounded).output(0))
            found |= {_key(numbers), _key(numbers.T)}
    return [weight["name"] for weight in plan["weights"] if _key(weight["float"]) not in found]


class _Rounded(NamedTuple):
    """The integers that replace a float weight."""

    integers: np.ndarray
    axis: int | None
    scale: list[float]


def _key(array: np.ndarray) -> bytes:
    """The numbers of a weight, by which it is known again: the reader reshapes those of grouped convolutions."""
    return np.ascontiguousarray(array, dtype="float32").tobytes()


def _integer_weight(shape: list[int], rounded: _Rounded) -> Any:
    """Integers, converted and scaled: the form OpenVINO's own tools leave weights in, which its kernels take up."""
    from openvino import Type
    from openvino import opset13 as ops

    axis = rounded.axis
    along = [1] * len(shape)
    if axis is not None:
        split = len(shape) - rounded.integers.ndim
        first = axis if axis == 0 else axis + split
        last = first + split if axis == 0 else first
        along[first : last + 1] = shape[first : last + 1]
    stored = ops.constant(np.ascontiguousarray(rounded.integers).reshape(shape), dtype=Type.i8)
    factors = ops.constant(np.asarray(rounded.scale, "float32").reshape(along))
    return ops.multiply(ops.convert(stored, Type.f32), factors)


def _make_reproducible(model: Any) -> None:
    """Removes what differs from run to run: paths in the notes, and the counters in names OpenVINO makes up."""
    for key in _RT_INFO:
        if model.has_rt_info([key]):
            del model.rt_info[key]
    for index, op in enumerate(model.get_ordered_ops()):
        kind = op.get_type_name()
        if kind not in ("Parameter", "Result") and _MADE_UP.fullmatch(op.get_friendly_name()):
            op.set_friendly_name(f"{kind}_{index}")
