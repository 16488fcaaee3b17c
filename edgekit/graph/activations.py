"""Activations that exporters write out, recognized as the one operation they are. Opset 20 or newer is expected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.matching import affine, clamp, factors, is_close, made_by, polynomial, rewrite, scalar
from edgekit.graph.walking import fresh_name, initializer, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fuse_clamps", "fuse_gelu", "fuse_hard_sigmoid", "fuse_hard_swish", "fuse_mish", "fuse_softplus"]

_ROOT_HALF = math.sqrt(0.5)
_TANH_SCALE = math.sqrt(2 / math.pi)
_GELUS = {
    "none": ("Erf", {1: _ROOT_HALF}),
    "tanh": ("Tanh", {1: _TANH_SCALE, 3: _TANH_SCALE * 0.044715}),
}
"""What of x goes into which function; Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016."""


def fuse_gelu(model: ir.Model) -> ir.Model:
    """x / 2 (1 + erf(x / sqrt 2)), or with tanh, in every order of its products, and as x / 2 erfc(-x / sqrt 2)."""
    return rewrite(model, _gelu)


def _gelu(root: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    if root.op_type not in ("Mul", "Div"):
        return None
    number, parts = factors(root.outputs[0])
    for x, gate in (parts, parts[::-1]) if len(parts) == 2 else ():
        for approximate, (function, wanted) in _GELUS.items():
            for scale, shift, value in affine(gate):
                node = made_by(value, function)
                found = polynomial(node.inputs[0], x) if node is not None else None
                if found is None or not is_close(number * shift, 0.5) or not is_close(abs(number * scale), 0.5):
                    continue
                sign = math.copysign(1.0, number * scale)  # both functions are odd
                if _is_same(found, {power: sign * part for power, part in wanted.items()}):
                    return ir.node("Gelu", [x], {"approximate": approximate}, name=root.name)
    return None


def _is_same(found: dict[int, float], wanted: dict[int, float]) -> bool:
    powers = {*found, *wanted}
    return all(abs(found.get(p, 0.0) - wanted.get(p, 0.0)) <= 1e-3 * (abs(wanted.get(p, 0.0)) or 0.03) for p in powers)


def fuse_hard_sigmoid(model: ir.Model) -> ir.Model:
    """A slope limited to 0 and 1 becomes HardSigmoid when it is one that networks use: 1/6 or 1/5, through 1/2."""
    return rewrite(model, _hard_sigmoid)


def _hard_sigmoid(root: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    if root.op_type not in ("Mul", "Div", "Clip", "Min", "Max"):
        return None
    for number, offset, value in affine(root.outputs[0]):
        limits = clamp(value)
        if limits is None or offset or limits[0] or not is_close(number * limits[1], 1.0):
            continue
        for scale, shift, x in affine(limits[2]):
            alpha = next((alpha for alpha in (1 / 6, 0.2) if is_close(number * scale, alpha)), None)
            if alpha is not None and is_close(number * shift, 0.5):
                return ir.node("HardSigmoid", [x], {"alpha": alpha, "beta": 0.5}, name=root.name)
    return None


def fuse_hard_swish(model: ir.Model) -> ir.Model:
    """x HardSigmoid(x) with the slope 1/6, which may be written out, is HardSwish."""
    return rewrite(model, _hard_swish)


def _hard_swish(root: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    if root.op_type not in ("Mul", "Div"):
        return None
    number, parts = factors(root.outputs[0])
    for x, gate in (parts, parts[::-1]) if len(parts) == 2 else ():
        if _is_hard_gate(number, gate, x):
            return ir.node("HardSwish", [x], name=root.name)
    return None


def _is_hard_gate(number: float, gate: ir.Value, x: ir.Value) -> bool:
    node = made_by(gate, "HardSigmoid")
    if node is not None and node.inputs[0] is x:
        slope, middle = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        return is_close(number, 1.0) and is_close(slope, 1 / 6) and is_close(middle, 0.5)
    limits = clamp(gate)
    found = polynomial(limits[2], x) if limits is not None else None
    if limits is None or found is None or limits[0] or not is_close(number * limits[1], 1.0):
        return False
    return _is_same({power: number * part for power, part in found.items()}, {0: 0.5, 1: 1 / 6})


def fuse_clamps(model: ir.Model) -> ir.Model:
    """Limits in a row, or written as Min and Max with a number, are one Clip: Relu6 is Clip from 0 to 6."""
    taken = value_names(model.graph)

    def match(root: ir.Node) -> ir.Node | None:
        limits = clamp(root.outputs[0])
        if limits is None or not all(map(math.isfinite, limits[:2])) or limits[0] > limits[1]:
            return None
        if root.op_type == "Clip" and root.inputs[0] is limits[2]:
            return None
        return _clip(model, taken, root, limits)

    return rewrite(model, match)


def _clip(model: ir.Model, taken: set[str], root: ir.Node, limits: tuple[float, float, ir.Value]) -> ir.Node | None:
    import onnx_ir as ir

    low, high, source = limits
    if source.dtype is None:
        return None
    kind = source.dtype.numpy()
    bounds = [
        initializer(model.graph, fresh_name(taken, f"{root.name}_{word}"), np.array(number, kind))
        for word, number in (("low", low), ("high", high))
    ]
    return ir.node("Clip", [source, *bounds], name=root.name)


def fuse_softplus(model: ir.Model) -> ir.Model:
    """log(1 + exp(x)) is Softplus, and so is max(x, 0) + log(1 + exp(-|x|))."""
    return rewrite(model, _softplus)


def _softplus(root: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    if root.op_type == "Log":
        x = _grown(root)
        return None if x is None else ir.node("Softplus", [x], name=root.name)
    for left, right in ((0, 1), (1, 0)) if root.op_type == "Add" else ():
        limits, log = clamp(root.inputs[left]), made_by(root.inputs[right], "Log", "Softplus")
        small = (log.inputs[0] if log.op_type == "Softplus" else _grown(log)) if log is not None else None
        negative = made_by(small, "Neg")
        size = made_by(negative.inputs[0], "Abs") if negative is not None else None
        if limits is not None and size is not None and limits[:2] == (0.0, math.inf) and size.inputs[0] is limits[2]:
            return ir.node("Softplus", [limits[2]], name=root.name)
    return None


def _grown(log: ir.Node) -> ir.Value | None:
    """The x of log(1 + exp(x))."""
    add = made_by(log.inputs[0], "Add")
    for left, right in ((0, 1), (1, 0)) if add is not None else ():
        exp = made_by(add.inputs[left], "Exp") if add is not None else None
        if add is not None and exp is not None and scalar(add.inputs[right]) == 1.0:
            return exp.inputs[0]
    return None


def fuse_mish(model: ir.Model) -> ir.Model:
    """x tanh(Softplus(x)) is Mish."""
    return rewrite(model, _mish)


def _mish(root: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    for left, right in ((0, 1), (1, 0)) if root.op_type == "Mul" else ():
        tanh = made_by(root.inputs[right], "Tanh")
        softplus = made_by(tanh.inputs[0], "Softplus") if tanh is not None else None
        if softplus is not None and softplus.inputs[0] is root.inputs[left]:
            return ir.node("Mish", [root.inputs[left]], name=root.name)
    return None
