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
    "CONV_2D": (0, 2), "CONV_3D": (4, 2), "DEPTHWISE_CONV_2D": (3, 2), "FULLY_CONNECTED": (0, 2),
    "TRANSPOSE_CONV": (0, 3),
}  # fmt: skip
"""Operations with weights: the axis of the weights that counts output channels, and the place of the bias."""


def fuse(graph: Graph) -> None:
    """Applies the rules until none fits."""
    rewriter = Rewriter(graph)
    has_changed = True
    while has_changed:
        has_changed = False
        for op in rewriter.ops():
            for rule in _RULES.get(op.code, ()):
                if rewriter.holds(op) and rule(rewriter, op):
                    has_changed = True
                    break
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
    elif op.code == "MINIMUM" and bound == 6 and maker is not None and maker.code == "RELU":
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
    if source is None or amounts is None or amounts.data is None:
        return False
    if -1 in source.shape[1:3] or amounts.data[[0, 3]].any():
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
    is_per_channel = numbers.size == 1 or numbers.size == numbers.shape[-1] == x.shape[-1]
    if not is_per_channel or x.dtype != "float32" or x.shape != op.output.shape:
        return False
    if op.code in ("SUB", "DIV") and op.inputs[0] is not x:
        return False
    flat = np.broadcast_to(numbers.reshape(-1).astype("float64"), x.shape[-1])
    if op.code in ("ADD", "SUB"):
        inputs = _shifted(maker, flat if op.code == "ADD" else -flat)
    elif op.code == "MUL" or flat.all():
        inputs = _scaled(rewriter, maker, flat if op.code == "MUL" else 1 / flat)
    else:
        return False
    if inputs is None:
        return False
    maker.options["fusedActivationFunction"] = op.options.get("fusedActivationFunction", "NONE")
    rewriter.set_inputs(maker, inputs)
    rewriter.bypass(op, x)
    return True


def _shifted(op: Op, offset: np.ndarray) -> list[Tensor | None] | None:
    """The inputs with `offset` in the bias; None where the bias is not known."""
    _, place = _WEIGHED[op.code]
    inputs = [*op.inputs, *[None] * (place + 1 - len(op.inputs))]
    bias = inputs[place]
    if bias is None:
        inputs[place] = Tensor(f"{op.source}/bias", offset.shape, "float32", offset.astype("float32"))
    elif bias.data is not None and bias.dtype == "float32":
        inputs[place] = Tensor(bias.name, bias.shape, "float32", (bias.data + offset).astype("float32"))
    else:
        return None
    return inputs


def _scaled(rewriter: Rewriter, op: Op, factor: np.ndarray) -> list[Tensor | None] | None:
    """The inputs with `factor` in weights and bias; None where these are not known, or others need them as they are."""
    axis, place = _WEIGHED[op.code]
    inputs = list(op.inputs)
    shapes = {1: [-1 if i == axis else 1 for i in range(5)], place: [-1]}
    for at, shape in shapes.items():
        tensor = inputs[at] if at < len(inputs) else None
        if tensor is None:
            continue
        if tensor.data is None or tensor.dtype != "float32" or (at == 1 and len(rewriter.consumers(tensor)) > 1):
            return None
        data = (tensor.data * factor.reshape(shape[: tensor.rank])).astype("float32")
        inputs[at] = Tensor(tensor.name, tensor.shape, "float32", data)
    return inputs


def _hard_swish(rewriter: Rewriter, op: Op) -> bool:
    """x * RELU6(x + 3) / 6, the sixth taken at any place."""
    found = _product(rewriter, op)
    if found is None or op.output.dtype != "float32" or not _plain(op):
        return False
    factors, scale = found
    if len(factors) != 2 or not np.isclose(scale, 1 / 6, rtol=1e-6):
        return False
    for x, gate in (factors, factors[::-1]):
        maker = rewriter.producer(gate)
        if maker is None or maker.code != "ADD" or maker.options.get("fusedActivationFunction") != "RELU6":
            continue
        source, three = _with_constant(maker)
        if source is x and x.shape == op.output.shape and three is not None and three.size == 1 and (three == 3).all():
            op.code, op.options = "HARD_SWISH", {}
            rewriter.set_inputs(op, [x])
            return True
    return False


def _product(rewriter: Rewriter, op: Op) -> tuple[list[Tensor], float] | None:
    """The factors of a product of products that nobody else reads, and the constant numbers among them multiplied."""
    factors: list[Tensor] = []
    scale = 1.0
    for place, tensor in enumerate(op.arguments()):
        maker = rewriter.producer(tensor)
        if tensor.data is not None and tensor.size == 1:
            number = float(tensor.data.reshape(-1)[0])
            scale *= number if op.code == "MUL" or not place else 1 / number if number else np.inf
        elif op.code == "DIV" and place:
            return None
        elif maker is not None and maker.code in ("MUL", "DIV") and _plain(maker) and rewriter.sole_consumer(tensor):
            inner = _product(rewriter, maker)
            factors += [tensor] if inner is None else inner[0]
            scale *= 1.0 if inner is None else inner[1]
        else:
            factors.append(tensor)
    return factors, scale


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
