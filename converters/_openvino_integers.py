"""A plan in OpenVINO's own form: FakeQuantize behind activations, weights as integers that are converted and scaled.

The plan crosses to the converter's process as a folder. Weights are found again by their float numbers, because
OpenVINO's reader names constants anew, reshapes those of grouped convolutions, transposes matrices and sorts gates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgekit.errors import ConversionError
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight, QuantPlan
from edgekit.spec import QuantParams

__all__ = ["quantize", "read_plan", "store_halves", "write_plan"]

_PRODUCTS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
_WEIGHTS = {**dict.fromkeys(_PRODUCTS, (1,)), "Gather": (0,), "LSTMSequence": (4, 5), "GRUSequence": (3, 4)}
"""Places of the weights among the inputs."""

_RECURRENT = ("LSTMSequence", "GRUSequence")
"""Layers that must not see integers on both sides (2026.4): where activations come from FakeQuantize, OpenVINO computes
them in integers too, by the scales of the input's weights for the state's weights as well, and by those of the first of
several layers alike for all of them (its cache of kernels ignores scales). Weights are halves there."""

_HALF = "/in half precision"

_GATES = [2, 0, 3, 1]
"""OpenVINO's order of an LSTM's gates, f i c o, in places of ONNX's, i o f c."""

_ACTIVATION_GROUPS = (128, 64, 32, 16)
"""How many neighbors among the activations may share a scale in each call, the fastest first.

MiniLM on AVX-512 VNNI takes .48, .51, .57 and .68 of its time in fp32, at 21.0 to 21.4 dB; a group of the whole row is
no faster and 2 dB worse (2026.4.1, whose default is 32).
"""


class _Small(NamedTuple):
    """What replaces a float weight.

    Attributes:
        name: The hub's initializer.
        integers: int8; or uint8 of 4 bits, in blocks.
        scale: Of the rank of the integers, one for each block along `axis`.
        zero: The same of zero points; None for 0.
        axis: Along which scales differ, or blocks run; None where there is one scale.
        block: Integers along `axis` that share a scale; 0 where there are no blocks.
        is_dynamic: The operation that reads it is to round its activations in each call.
        is_stored: The operation that reads it computes in float, or is dynamic.
    """

    name: str
    integers: np.ndarray
    scale: np.ndarray
    zero: np.ndarray | None
    axis: int | None
    block: int
    is_dynamic: bool
    is_stored: bool

    def turned(self) -> _Small:
        """The same of the transposed matrix."""
        zero, axis = None if self.zero is None else self.zero.T, None if self.axis is None else 1 - self.axis
        return self._replace(integers=self.integers.T, scale=self.scale.T, zero=zero, axis=axis)


def write_plan(plan: QuantPlan, arrays: Mapping[str, np.ndarray], dynamic: Collection[str], folder: Path) -> None:
    """Leaves a plan for `read_plan`.

    Args:
        plan: What becomes integer.
        arrays: The float weights by the initializers' names.
        dynamic: Names of the initializers that only dynamic operations read.
        folder: An existing folder.
    """
    weights: list[dict[str, Any]] = []
    stored = {}
    for is_stored, group in ((False, plan.weights), (True, plan.stored)):
        for name, weight in group.items():
            index, fields = len(weights), _described(weight)
            stored[f"float_{index}"], stored[f"integers_{index}"] = arrays[name], weight.values
            if isinstance(weight, GroupedWeight):
                stored[f"scale_{index}"], stored[f"zero_{index}"] = weight.scale, weight.zero_point
            weights.append({"name": name, "stored": is_stored, "dynamic": is_stored and name in dynamic, **fields})
    stored |= {f"half_{index}": arrays[name] for index, name in enumerate(plan.halves)}
    activations = {name: params.to_json() for name, params in plan.activations.items()}
    data = {"activations": activations, "weights": weights, "halves": list(plan.halves)}
    (folder / "plan.json").write_text(json.dumps(data), encoding="utf-8")
    np.savez(folder / "plan.npz", **stored)  # type: ignore[arg-type]  # no array is called allow_pickle


def _described(weight: QuantizedWeight | GroupedWeight) -> dict[str, Any]:
    if isinstance(weight, GroupedWeight):
        return {"axis": weight.axis % weight.values.ndim, "block": weight.block}
    return {"params": weight.params.to_json()}


class _Plan(NamedTuple):
    """What `write_plan` left: parameters by the tensor's name, and weights by the digest of their float numbers.

    `halves` are names by digests.
    """

    activations: dict[str, QuantParams]
    weights: dict[bytes, _Small]
    halves: dict[bytes, str]


def read_plan(folder: Path) -> _Plan:
    """What `write_plan` left."""
    data: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    weights: dict[bytes, _Small] = {}
    with np.load(folder / "plan.npz") as arrays:
        for index, fields in enumerate(data["weights"]):
            small = _small(fields, index, arrays)
            floats = arrays[f"float_{index}"]
            weights.setdefault(_digest(floats), small)
            if floats.ndim == 2:
                weights.setdefault(_digest(floats.T), small.turned())
        whole = {name: arrays[f"half_{index}"] for index, name in enumerate(data["halves"])}
    halves = {_digest(form): name for name, array in whole.items() for form in _forms(array)}
    activations = {name: QuantParams.from_json(params) for name, params in data["activations"].items()}
    return _Plan(activations, weights, halves)


def _forms(array: np.ndarray) -> list[np.ndarray]:
    """In which OpenVINO's reader may leave the numbers of a weight."""
    gates = array.ndim == 3 and array.shape[1] % len(_GATES) == 0
    return [array, *([array.T] if array.ndim == 2 else []), *([_sorted_gates(array, _GATES)] if gates else [])]


def _small(fields: Mapping[str, Any], index: int, arrays: Mapping[str, np.ndarray]) -> _Small:
    integers, flags = arrays[f"integers_{index}"], (fields["dynamic"], fields["stored"])
    if "block" in fields:
        scale, zero = arrays[f"scale_{index}"], arrays[f"zero_{index}"]
        return _Small(fields["name"], integers, scale, zero, fields["axis"], fields["block"], *flags)
    params = QuantParams.from_json(fields["params"])
    axis = None if params.axis is None else params.axis % integers.ndim
    scale = np.asarray(params.scale, "float32").reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
    return _Small(fields["name"], integers, scale, None, axis, 0, *flags)


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array, dtype="float32").tobytes(), digest_size=16).digest()


def quantize(model: Any, folder: Path) -> int | None:
    """Puts the plan in `folder` into a model as OpenVINO's reader gives it, constants folded.

    Returns:
        What the file has to tell the engine where it has stored weights, lest it rounds activations as it likes: by how
        many neighbors, 0 for not at all.

    Raises:
        ConversionError: Tensors or weights of the plan are not in the model.
    """
    plan = read_plan(folder)
    ports = {name: port for op in model.get_ordered_ops() for port in op.outputs() for name in port.get_names()}
    lost = [name for name in plan.activations if name not in ports]
    lost += _store_weights(model, plan.weights, has_integers=bool(plan.activations))
    _mark_halves(model, plan.halves)
    if lost:
        raise ConversionError(
            f"OpenVINO's reader has changed these tensors beyond recognition: {', '.join(lost[:5])}",
            step="hub -> openvino",
        )
    for name, params in plan.activations.items():
        _fake_quantize(ports[name], params)
    model.validate_nodes_and_infer_types()
    weights = {small.name: small for small in plan.weights.values()}.values()
    return _activation_group(weights) if any(small.is_stored for small in weights) else None


def _activation_group(weights: Iterable[_Small]) -> int:
    """The fastest group that nine tenths of the dynamic weights can have: no shorter sum is rounded."""
    sizes = [(small.integers.size, small.integers.size // small.scale.size) for small in weights if small.is_dynamic]
    for group in _ACTIVATION_GROUPS if sizes else ():
        if sum(size for size, length in sizes if length >= group) >= 0.9 * sum(size for size, _ in sizes):
            return group
    return _ACTIVATION_GROUPS[-1] if sizes else 0


def _fake_quantize(port: Any, params: QuantParams) -> None:
    """One FakeQuantize behind a tensor, shared by all that read it but the model's outputs."""
    from openvino import opset13 as ops

    limits = np.iinfo(params.dtype)
    scale, zero = np.float32(params.scale[0]), params.zero_point[0]
    low, high = (np.float32(scale * (limit - zero)) for limit in (limits.min, limits.max))
    readers = [reader for reader in port.get_target_inputs() if reader.get_node().get_type_name() != "Result"]
    node = ops.fake_quantize(port, low, high, low, high, limits.max - limits.min + 1)
    for reader in readers:
        reader.replace_source_output(node.output(0))


def _store_weights(model: Any, known: Mapping[bytes, _Small], *, has_integers: bool) -> list[str]:
    """Puts integers in the place of float weights; gives the names of those not found."""
    is_mixed = any(small.is_dynamic for small in known.values())
    found = set()
    for op in model.get_ordered_ops():
        for place, small in _found_weights(op, known).items():
            if has_integers and op.get_type_name() in _RECURRENT:
                _mark(op.input_value(place).get_node())
            else:
                _replace(op, place, small, stays_float=is_mixed and not small.is_dynamic)
            found.add(small.name)
    return list(dict.fromkeys(small.name for small in known.values() if small.name not in found))


def _mark_halves(model: Any, known: Mapping[bytes, str]) -> None:
    for op in model.get_ordered_ops() if known else ():
        for place in _WEIGHTS.get(op.get_type_name(), ()):
            constant = op.input_value(place).get_node()
            is_float = constant.get_type_name() == "Constant" and constant.get_element_type().to_string() == "f32"
            if is_float and _digest(constant.get_data()) in known:
                _mark(constant)


def _mark(constant: Any) -> None:
    """Has `store_halves` take this constant up: a conversion that stood there already would be folded by fusions."""
    if not constant.get_friendly_name().endswith(_HALF):
        constant.set_friendly_name(constant.get_friendly_name() + _HALF)


def store_halves(model: Any) -> None:
    """Stores in half precision what `quantize` has marked, in a model whose operations are fused."""
    for op in model.get_ordered_ops():
        if op.get_type_name() == "Constant" and op.get_friendly_name().endswith(_HALF):
            op.set_friendly_name(op.get_friendly_name().removesuffix(_HALF))
            readers, half = op.output(0).get_target_inputs(), _half(op)
            for reader in readers:
                reader.replace_source_output(half.output(0))


def _found_weights(op: Any, known: Mapping[bytes, _Small]) -> dict[int, _Small]:
    """What is to replace the weights of an operation, by their places among its inputs."""
    weights: dict[int, _Small] = {}
    for place in _WEIGHTS.get(op.get_type_name(), ()):
        constant = op.input_value(place).get_node()
        if constant.get_type_name() == "Constant" and constant.get_element_type().to_string() == "f32":
            small = _lookup(op, constant.get_data(), known)
            weights |= {} if small is None else {place: small}
    return weights


def _lookup(op: Any, numbers: np.ndarray, known: Mapping[bytes, _Small]) -> _Small | None:
    if op.get_type_name() != "LSTMSequence":
        return known.get(_digest(numbers))
    small = known.get(_digest(_sorted_gates(numbers, list(np.argsort(_GATES)))))
    if small is None:
        return None
    scale = small.scale if small.axis is None else _sorted_gates(small.scale, _GATES)
    return small._replace(integers=_sorted_gates(small.integers, _GATES), scale=scale)


def _sorted_gates(array: np.ndarray, order: list[int]) -> np.ndarray:
    directions, rows, columns = array.shape
    return array.reshape(directions, len(order), -1, columns)[:, order].reshape(directions, rows, columns)


def _replace(op: Any, place: int, small: _Small, *, stays_float: bool) -> None:
    shape = list(op.input_value(place).get_shape())
    is_matrix = op.get_type_name() == "MatMul" and len(shape) == 2
    if is_matrix and small.is_stored and not op.get_attributes()["transpose_b"]:
        # The kernel with small weights has them by rows; else each call begins with a Transpose.
        small, shape = small.turned(), shape[::-1]
        op.set_attribute("transpose_b", True)
    node = _blocks(small, stays_float) if small.block else _bytes(shape, small, stays_float and is_matrix)
    op.input(place).replace_source_output(node.output(0))


def _bytes(shape: list[int], small: _Small, stays_float: bool) -> Any:
    """Integers, converted and scaled: the form OpenVINO's own tools leave weights in, which its kernels take up."""
    from openvino import Type
    from openvino import opset13 as ops

    along = list(small.scale.shape)
    if len(shape) > len(along):  # of a grouped convolution, whose weight the reader splits by groups
        along = [*shape[:2], *along[1:]] if small.axis == 0 else [1, *along]
    integers = np.ascontiguousarray(small.integers).reshape(shape)
    scale = ops.constant(np.ascontiguousarray(small.scale).reshape(along))
    if not stays_float:
        return ops.multiply(ops.convert(ops.constant(integers, dtype=Type.i8), Type.f32), scale)
    # A zero point in float keeps a layer out of what the file's option lets the others do.
    raised = ops.convert(ops.constant((integers.astype("int16") + 128).astype("uint8")), Type.f32)
    middle = ops.constant(np.full([1] * len(shape), 128, "float32"))
    return ops.multiply(ops.subtract(raised, middle), scale)


def _half(constant: Any) -> Any:
    from openvino import Type
    from openvino import opset13 as ops

    return ops.convert(ops.constant(constant.get_data().astype("float16")), Type.f32)


def _blocks(small: _Small, stays_float: bool) -> Any:
    """4-bit integers in blocks; those of a last, shorter block in a tensor of their own, joined to the others."""
    from openvino import opset13 as ops

    assert small.axis is not None
    length = small.integers.shape[small.axis]
    whole = length // small.block * small.block
    parts = [(0, whole, small.block), (whole, length, length - whole)]
    nodes = [_block_part(small, *part, stays_float) for part in parts if part[1] > part[0]]
    return nodes[0] if len(nodes) == 1 else ops.concat(nodes, small.axis)


def _block_part(small: _Small, start: int, stop: int, block: int, stays_float: bool) -> Any:
    from openvino import Type
    from openvino import opset13 as ops

    axis = small.axis
    assert axis is not None
    assert small.zero is not None
    blocks = range(start // small.block, -(-stop // small.block))
    integers = np.take(small.integers, range(start, stop), axis=axis)
    shape = list(integers.shape)
    scale, zero = (np.expand_dims(np.take(array, blocks, axis=axis), axis + 1) for array in (small.scale, small.zero))
    # Half precision is what OpenVINO's own tools give scales; below its normal range it would lose them.
    is_half = bool((scale >= np.finfo("float16").tiny).all() and (scale < np.finfo("float16").max).all())
    dtype, kind = ("float16", Type.f16) if is_half else ("float32", Type.f32)
    by_block = integers.reshape(*shape[:axis], len(blocks), block, *shape[axis + 1 :])
    zeros = ops.constant(zero.astype(dtype)) if stays_float else ops.convert(_nibbles(zero), kind)
    real = ops.multiply(ops.subtract(ops.convert(_nibbles(by_block), kind), zeros), ops.constant(scale.astype(dtype)))
    joined = ops.reshape(real, ops.constant(np.asarray(shape, "int64")), False)
    return ops.convert(joined, Type.f32) if is_half else joined


def _nibbles(array: np.ndarray) -> Any:
    """A constant of numbers 0 to 15, two in a byte, the first in the lower half."""
    import openvino

    flat = np.append(array.reshape(-1), np.zeros(array.size % 2, "uint8"))
    tensor = openvino.Tensor(openvino.Type.u4, openvino.Shape(list(array.shape)))
    tensor.data.view("uint8").reshape(-1)[:] = flat[0::2] | flat[1::2] << 4
    return openvino.op.Constant(tensor)
