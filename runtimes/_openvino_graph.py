"""What OpenVINO really prepared, from the runtime model of a compiled one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.runtime import OpPlacement
from edgekit.runtimes import _macs

__all__ = ["GROUP_OPTION", "PRODUCTS", "float_name", "layer_names", "placed_layers", "placements"]

_SKIPPED = {"Input", "Output", "Const"}
_FILTERED = {"Convolution": 1, "FullyConnected": -1}
_PRODUCTS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
_RECURRENT = {"RNNSeq", "RNNCell"}
PRODUCTS = frozenset(_PRODUCTS | _RECURRENT)
"""Layers whose cost is known where their shapes are."""

_INTEGERS = {"u8": "int8", "i8": "int8"}
_SMALL = {"u8", "i8", "u4", "i4"}
_FLOATS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "f64": "fp64"}


GROUP_OPTION = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
"""The property that says how many neighbors among the activations share a scale in each call; 0 keeps them float."""


def placements(compiled: Any, compile_model: Callable[[Any, int], Any]) -> list[OpPlacement]:
    """Every layer of the compiled model in execution order, constants left out.

    Args:
        compiled: The model.
        compile_model: Compiles another in the same way, but for the `GROUP_OPTION` it is given.
    """
    found = [placed for _, placed in placed_layers(compiled, compile_model)]
    is_whole = all(op.macs is not None for op in found if op.type in _PRODUCTS or op.type in _RECURRENT)
    # A share counted over the layers of known sizes alone would be taken for that of the model.
    return found if is_whole else [replace(op, macs=None) for op in found]


def layer_names(compiled: Any) -> list[str]:
    """Of every layer, as `placed_layers` has them. Those the engine makes up are others each time."""
    layers = compiled.get_runtime_model().get_ordered_ops()
    return [layer.get_friendly_name() for layer in layers if _kind(layer) not in _SKIPPED]


def _kind(layer: Any) -> str:
    said = layer.get_rt_info()
    return str(said["layerType"].astype(str) if "layerType" in said else layer.get_type_name())


def placed_layers(compiled: Any, compile_model: Callable[[Any, int], Any]) -> Iterator[tuple[Any, OpPlacement]]:
    """Each layer of the runtime model with its own account, whatever is known of the others."""
    rounding = _Rounding(int(compiled.get_property(GROUP_OPTION)), compile_model)
    for layer in compiled.get_runtime_model().get_ordered_ops():
        said = {key: value.astype(str) for key, value in layer.get_rt_info().items() if key in _KEYS}
        kind = _kind(layer)
        if kind in _SKIPPED:
            continue
        inputs = [_shape(port) for port in layer.inputs()]
        outputs = [_shape(port) for port in layer.outputs()]
        precision = _precision(layer, kind, said.get("runtimePrecision", ""))
        yield (
            layer,
            OpPlacement(
                said.get("originalLayersNames") or layer.get_friendly_name(),
                kind,
                "int8" if kind == "FullyConnected" and rounding.is_done_by(layer) else precision,
                _cost(kind, inputs, outputs) if outputs else None,
            ),
        )


class _Rounding:
    """Whether layers with small weights and float activations round these in each call and multiply integers.

    The runtime model looks the same either way, and the engine has conditions of its own (the processor, the length of
    the sum, blocks and zero points of the weights). So it is asked: one layer alike is run with rounding allowed and
    with rounding forbidden, and the answers differ or are equal to the last bit.
    """

    def __init__(self, group: int, compile_model: Callable[[Any, int], Any]) -> None:
        self._group = group
        self._compile = compile_model
        self._seen: dict[tuple[Any, ...], bool] = {}

    def is_done_by(self, layer: Any) -> bool:
        types = tuple(port.get_element_type().to_string() for port in layer.inputs())
        if not self._group or types[0] != "f32" or types[1] not in _SMALL:
            return False
        shapes = [_shape(port) for port in layer.inputs()]
        rows = [size if size > 0 else 2 for size in shapes[0][:-1]]
        blocks = shapes[3][-1] if len(shapes) > 3 and len(shapes[3]) == 2 else 1
        zero = types[4] if len(types) > 4 and shapes[4] != [0] else ""
        key = (*rows, *shapes[1], blocks, types[1], zero)
        if key not in self._seen:
            self._seen[key] = self._ask(rows, shapes[1], blocks, types[1], zero)
        return self._seen[key]

    def _ask(self, rows: list[int], weight: list[int], blocks: int, kind: str, zero: str) -> bool:
        model = _layer_alike(rows, weight, blocks, kind, zero)
        feed = np.random.default_rng(0).standard_normal((*rows, weight[1])).astype("float32")
        with_rounding, without = (self._compile(model, group)([feed])[0] for group in (self._group, 0))
        return not np.array_equal(with_rounding, without)


def _layer_alike(rows: list[int], weight: list[int], blocks: int, kind: str, zero: str) -> Any:
    """One product with a matrix of small integers, in blocks along the sum."""
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(1)

    def integers(shape: list[int], type_name: str) -> Any:
        tensor = openvino.Tensor(getattr(openvino.Type, type_name), openvino.Shape(shape))
        view = tensor.data.view("uint8").reshape(-1)
        view[:] = rng.integers(0, 256, view.size)
        return ops.convert(openvino.op.Constant(tensor), openvino.Type.f32)

    x = ops.parameter([*rows, weight[1]], np.float32)
    product = integers([weight[0], blocks, weight[1] // blocks], kind)
    if zero:
        around = [weight[0], blocks, 1]
        middle = ops.constant(np.full(around, 7, "float32")) if zero in _FLOATS else integers(around, zero)
        product = ops.subtract(product, middle)
    scale = rng.uniform(0.5, 1.0, (weight[0], blocks, 1)).astype("float32")
    product = ops.reshape(ops.multiply(product, ops.constant(scale)), ops.constant(np.array(weight)), False)
    return openvino.Model([ops.matmul(x, product, False, True)], [x], "layer")


_KEYS = ("originalLayersNames", "runtimePrecision")


def float_name(type_name: str) -> str:
    """Our name of a type of floats; empty for another type."""
    return _FLOATS.get(type_name, "")


def _shape(port: Any) -> list[int]:
    shape = port.get_partial_shape()
    return [-1 if d.is_dynamic else d.get_length() for d in shape] if not shape.rank.is_dynamic else [-1]


def _precision(layer: Any, kind: str, said: str) -> str:
    """The arithmetic. A product is in integers when both factors are; else in the type of its activations.

    What the engine calls the runtime precision is the narrowest type in sight, also that of fp16 weights which an f32
    kernel widens.
    """
    types = [port.get_element_type().to_string() for port in layer.inputs()]
    if kind in _PRODUCTS and len(types) > 1:
        return "int8" if all(t in _INTEGERS for t in types[:2]) else _FLOATS.get(types[0], said)
    return _INTEGERS.get(said) or _FLOATS.get(said, said)


def _cost(kind: str, inputs: list[list[int]], outputs: list[list[int]]) -> int | None:
    if kind in _FILTERED:
        # Shapes are given in the order N, C, ... whatever the layout in memory.
        return _macs.filtered(outputs[0], inputs[1], outputs[0][_FILTERED[kind]])
    if kind == "Deconvolution":
        return _macs.filtered(inputs[0], inputs[1], inputs[0][1])
    if kind == "MatMul":
        return _macs.matmul(inputs[0], outputs[0])
    if kind in _RECURRENT:
        # X, states, lengths, then the weights of the input, those of the state, and the bias.
        steps = inputs[0][1] if len(inputs[0]) == 3 else 1
        return _macs.recurrent(steps, inputs[0][0], inputs[-3], inputs[-2])
    return None
