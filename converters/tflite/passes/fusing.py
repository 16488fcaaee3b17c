"""Operations that another takes over: activations, biases, zeros around a picture, shapes in between.

Each rule looks at one operation and what made its inputs, changes the graph where it fits, and says whether it did.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.passes.joining import JOINING
from edgekit.converters.tflite.passes.layouts import view
from edgekit.converters.tflite.passes.rewriting import Rewriter

__all__ = ["fuse"]

_ACTIVATIONS = {"RELU", "RELU6", "RELU_N1_TO_1"}
_ACTIVATING = {
    "ADD", "AVERAGE_POOL_2D", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "DIV", "FULLY_CONNECTED", "MAX_POOL_2D",
    "MUL", "SUB", "TRANSPOSE_CONV",
}  # fmt: skip
"""Operations whose kernels apply an activation to what they give; those of the schema without a kernel are not here."""

_WEIGHED = {
    "CONV_2D": (0, 2), "CONV_3D": (4, 2), "DEPTHWISE_CONV_2D": (3, 2), "FULLY_CONNECTED": (0, 2), "TRANSPOSE_CONV": (0, 3),
}  # fmt: skip
"""Operations with weights: the axis of the weights that counts output channels, and the place of the bias."""


def fuse(graph: Graph) -> None:
    """Applies the rules until none fits."""
    rewriter = Rewriter(graph)
    waiting = rewriter.ops()
    while waiting:
        changed = []
        for op in waiting:
            for rule in _RULES.get(op.code, ()):
                if rewriter.holds(op) and rule(rewriter, op):
                    changed.append(op)
                    break
        waiting = rewriter.ops() if changed else []
    rewriter.drop_unread(rewriter.graph.ops[::-1])
    rewriter.finish()


def _activation(rewriter: Rewriter, op: Op) -> bool:
    """An activation behind an operation that can apply it, even with another layout in between."""
    tensor = x = op.inputs[0]
    while x is not None and (maker := rewriter.producer(x)) is not None and rewriter.sole_consumer(x) is not None:
        if view(maker) is not None:
            x = maker.inputs[0]
            continue
        if maker.code in _ACTIVATING and x.dtype == "float32" and x.quant == op.output.quant and _plain(maker):
            maker.options["fusedActivationFunction"] = op.code
            assert tensor is not None
            rewriter.bypass(op, tensor)
            return True
        return False
    return False


def _limit(rewriter: Rewriter, op: Op) -> bool:
    """MAXIMUM with 0 is RELU, and MINIMUM with 6 behind it RELU6."""
    x, limit = _with_constant(op)
    if x is None or limit is None or limit.size != 1 or x.shape != op.output.shape or x.dtype != "float32":
        return False
    maker, bound = rewriter.producer(x), float(limit.reshape(-1)[0])
    if op.code == "MAXIMUM" and bound == 0:
        op.code = "RELU"
    elif op.code == "MINIMUM" and bound == 6 and maker is not None and maker.code == "RELU" and rewriter.sole_consumer(x):
        op.code, x = "RELU6", maker.inputs[0]
    else:
        return False
    op.options = {}
    rewriter.set_inputs(op, [x])
    return True


def _zeros_around(rewriter: Rewriter, op: Op) -> bool:
    """PAD in front of a convolution that has a name for it: SAME."""
    x, weight = op.inputs[0], op.inputs[1]
    pad = None if x is None else rewriter.producer(x)
    if weight is None or pad is None or pad.code != "PAD" or op.options["padding"] != "VALID":
        return False
    source, amounts = pad.inputs[0], pad.inputs[1]
    if source is None or amounts is None or amounts.data is None or -1 in source.shape[1:3] or amounts.data[[0, 3]].any():
        return False
    for axis, letter in ((1, "H"), (2, "W")):
        stride, size = op.options[f"stride{letter}"], source.shape[axis]
        extent = (weight.shape[axis] - 1) * op.options.get(f"dilation{letter}Factor", 1) + 1
        count = -(-size // stride)
        total = max((count - 1) * stride + extent - size, 0)
        if amounts.data[axis, 0] != total // 2 or op.output.shape[axis] != count:
            return False
    op.options["padding"] = "SAME"
    rewriter.set_inputs(op, [source, *op.inputs[1:]])
    return True


def _into_weights(rewriter: Rewriter, op: Op) -> bool:
    """A number for each channel added to, or multiplied with, what an operation with constant weights gives."""
    x, numbers = _with_constant(op)
    maker = None if x is None or rewriter.sole_consumer(x) is not op else rewriter.producer(x)
    if x is None or numbers is None or maker is None or maker.code not in _WEIGHED or not _plain(maker):
        return False
    axis, place = _WEIGHED[maker.code]
    inputs = [*maker.inputs, *[None] * (place + 1 - len(maker.inputs))]
    weight, bias = inputs[1], inputs[place]
    flat = numbers.reshape(-1)
    per_channel = numbers.size == 1 or numbers.size == numbers.shape[-1] == x.shape[-1]
    if not per_channel or x.dtype != "float32" or x.shape != op.output.shape or op.inputs[0] is not x and op.code in ("SUB", "DIV"):
        return False
    if weight is None or weight.data is None or weight.dtype != "float32" or (bias is not None and bias.data is None):
        return False
    offset = np.zeros(x.shape[-1], "float64") if bias is None or bias.data is None else bias.data.astype("float64")
    if op.code in ("ADD", "SUB"):
        offset = offset + (flat if op.code == "ADD" else -flat)
    else:
        factor = flat.astype("float64") if op.code == "MUL" else 1 / flat.astype("float64")
        if not np.isfinite(factor).all() or (bias is None and place >= len(maker.inputs) and maker.code == "TRANSPOSE_CONV"):
            return False
        shape = [-1 if i == axis else 1 for i in range(weight.rank)]
        scaled = weight.data * np.broadcast_to(factor, x.shape[-1]).reshape(shape)
        inputs[1] = Tensor(weight.name, weight.shape, "float32", scaled.astype("float32"))
        offset = offset * factor
    if bias is not None or op.code in ("ADD", "SUB"):
        name = bias.name if bias is not None else f"{x.name}/bias"
        inputs[place] = Tensor(name, offset.shape, "float32", offset.astype("float32"))
    maker.options["fusedActivationFunction"] = op.options.get("fusedActivationFunction", "NONE")
    rewriter.set_inputs(maker, inputs)
    rewriter.bypass(op, x)
    return True


def _hard_swish(rewriter: Rewriter, op: Op) -> bool:
    """x * RELU6(x + 3) / 6, the sixth taken at any place."""
    if not _plain(op) or op.output.dtype != "float32":
        return False
    factors, sixths = [], 0
    waiting: list[tuple[Op, Tensor]] = [(op, tensor) for tensor in op.arguments()]
    if op.code == "DIV":
        sixths, waiting = (1, waiting[:1]) if _is(waiting[1][1], 6) else (9, [])
    for _, tensor in waiting:
        maker = rewriter.producer(tensor)
        if _is(tensor, 1 / 6):
            sixths += 1
        elif maker is not None and maker.code in ("MUL", "DIV") and _plain(maker) and rewriter.sole_consumer(tensor):
            if maker.code == "DIV" and not _is(maker.inputs[1], 6):
                factors.append(tensor)
                continue
            sixths += maker.code == "DIV"
            waiting += [(maker, t) for t in list(maker.arguments())[: 1 if maker.code == "DIV" else 2]]
        else:
            factors.append(tensor)
    if sixths != 1 or len(factors) != 2:
        return False
    for x, gate in (factors, factors[::-1]):
        maker = rewriter.producer(gate)
        added = None if maker is None or maker.code != "ADD" else _with_constant(maker)
        if maker is not None and added is not None and added[0] is x and added[1] is not None:
            if maker.options.get("fusedActivationFunction") == "RELU6" and added[1].size == 1 and (added[1] == 3).all() and x.shape == op.output.shape:
                op.code, op.options = "HARD_SWISH", {}
                rewriter.set_inputs(op, [x])
                return True
    return False


def _is(tensor: Tensor | None, number: float) -> bool:
    """Whether a tensor is a constant of this one number."""
    return tensor is not None and tensor.data is not None and tensor.size == 1 and bool(np.isclose(tensor.data, number, rtol=1e-6).all())


def _plain(op: Op) -> bool:
    """Whether it applies no activation yet."""
    return op.options.get("fusedActivationFunction", "NONE") == "NONE"


def _with_constant(op: Op) -> tuple[Tensor | None, np.ndarray | None]:
    """The computed and the constant operand of an operation of two, in either order."""
    x, y = op.inputs[0], op.inputs[1]
    if x is not None and x.data is not None:
        x, y = y, x
    return (x, y.data) if x is not None and y is not None and x.data is None else (None, None)


_RULES: dict[str, tuple[Callable[[Rewriter, Op], bool], ...]] = {
    **dict.fromkeys(_ACTIVATIONS, (_activation,)),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), (_limit,)),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), (_zeros_around,)),
    **dict.fromkeys(("ADD", "SUB"), (_into_weights,)),
    **dict.fromkeys(("MUL", "DIV"), (_hard_swish, _into_weights)),
    **JOINING,
}
