"""Products of matrices and recurrent layers, raised."""

from __future__ import annotations

import numpy as np

from edgekit.converters.tflite.model import Op
from edgekit.converters.tflite.raising import Raiser
from edgekit.converters.tflite.table import Unlowerable, raises

__all__: list[str] = []


@raises("FULLY_CONNECTED")
def fully_connected(r: Raiser, op: Op) -> str:
    x, weight = op.inputs[:2]
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    assert x is not None
    assert weight is not None
    if op.options.get("weightsFormat", "DEFAULT") != "DEFAULT":
        raise Unlowerable("shuffled weights")
    rows = r.real(x)
    if x.rank != 2 and (not op.options.get("keepNumDims") or x.shape[-1] != weight.shape[1]):
        rows = r.node("Reshape", [rows, r.ints([-1, weight.shape[1]])])
    found = r.node("MatMul", [rows, r.transpose(r.real(weight), [1, 0])])
    if bias is not None:
        found = r.node("Add", [found, r.real(bias)])
    return r.activated(found, op)


@raises("BATCH_MATMUL")
def batch_matmul(r: Raiser, op: Op) -> str:
    sides = []
    for tensor, turned in zip(op.inputs, (op.options["adjX"], op.options["adjY"]), strict=True):
        assert tensor is not None
        last = [*range(tensor.rank - 2), tensor.rank - 1, tensor.rank - 2]
        sides.append(r.transpose(r.real(tensor), last) if turned else r.real(tensor))
    return r.node("MatMul", sides)


@raises("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(r: Raiser, op: Op) -> str:
    """Of the plain kind: no peepholes, projection or layer norm, and a state that begins at zero."""
    inputs = [*op.inputs, *[None] * (24 - len(op.inputs))]
    x = inputs[0]
    assert x is not None
    if any(tensor is not None for tensor in (*inputs[9:12], *inputs[16:18], *inputs[20:24])):
        raise Unlowerable("peepholes, a projection or normalized gates")
    if op.options["fusedActivationFunction"] != "TANH" or op.options["cellClip"] or op.options["projClip"]:
        raise Unlowerable("another activation than tanh, or clipping")
    if inputs[1] is None:
        raise Unlowerable("an input gate coupled to the forget gate")
    # TFLite: input, forget, cell, output; ONNX: input, output, forget, cell.
    order = (0, 3, 1, 2)

    def stacked(first: int) -> str:
        parts = [r.real(inputs[first + gate]) for gate in order]
        return r.node("Unsqueeze", [r.node("Concat", parts, axis=0), r.ints([0])])

    bias = stacked(12)
    hidden = inputs[5]
    assert hidden is not None
    zeros = r.const(np.zeros((1, 4 * hidden.shape[0]), "float32"))
    both = r.node("Concat", [bias, zeros], axis=1)
    steps = r.real(x) if op.options["timeMajor"] else r.transpose(r.real(x), [1, 0, 2])
    found = r.node("LSTM", [steps, stacked(1), stacked(5), both], hidden_size=hidden.shape[0])
    rows = r.node("Squeeze", [found, r.ints([1])])
    return rows if op.options["timeMajor"] else r.transpose(rows, [1, 0, 2])
