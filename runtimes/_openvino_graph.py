"""What OpenVINO really prepared, from the runtime model of a compiled one."""

from __future__ import annotations

from typing import Any

from edgekit.runtime import OpPlacement
from edgekit.runtimes import _macs

__all__ = ["placements"]

_SKIPPED = {"Input", "Output", "Const"}
_FILTERED = {"Convolution": 1, "FullyConnected": -1}
_PRODUCTS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
_RECURRENT = {"RNNSeq", "RNNCell"}
_INTEGERS = {"u8": "int8", "i8": "int8"}
_FLOATS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "f64": "fp64"}


def placements(compiled: Any) -> list[OpPlacement]:
    """Every layer of the compiled model in execution order, constants left out."""
    found = []
    for layer in compiled.get_runtime_model().get_ordered_ops():
        said = {key: value.astype(str) for key, value in layer.get_rt_info().items() if key in _KEYS}
        kind = said.get("layerType", layer.get_type_name())
        if kind in _SKIPPED:
            continue
        inputs = [_shape(port) for port in layer.inputs()]
        outputs = [_shape(port) for port in layer.outputs()]
        found.append(
            OpPlacement(
                said.get("originalLayersNames") or layer.get_friendly_name(),
                kind,
                _precision(layer, kind, said.get("runtimePrecision", "")),
                _cost(kind, inputs, outputs) if outputs else None,
            )
        )
    return found


_KEYS = ("layerType", "originalLayersNames", "runtimePrecision")


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
