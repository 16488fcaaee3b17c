"""Rounding put into an exported PyTorch module, with gradients that pass through it (the straight-through estimator).

Affine quantization as in Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-
Only Inference" (CVPR 2018). Weights are rounded before batch normalization is folded into them, which gives the same
numbers as after it: symmetric integers of one scale per channel do not care about a factor per channel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.compress._rounding_places import FOLDED, Step, require_matches, rounded_tensors
from edgekit.compress._torch_graph import operation, parameter
from edgekit.compress._tuning import MOMENTUM
from edgekit.errors import UnsupportedError
from edgekit.recipe import DYNAMIC, STATIC, WEIGHT_ONLY, Recipe

__all__ = ["Rounding", "put_rounding"]

_MIN_SPAN = 1e-6
"""Narrower ranges are widened to it, as `edgekit.quantize.solver` does."""

_OP_TYPES = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), "Conv"),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), "ConvTranspose"),
    **dict.fromkeys(("linear", "matmul", "mm"), "MatMul"),
    **dict.fromkeys(("lstm", "gru"), "LSTM"),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), "MaxPool"),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), "AveragePool"),
    **dict.fromkeys(("view", "reshape", "unflatten", "expand"), "Reshape"),
    **dict.fromkeys(("transpose", "permute", "t", "numpy_T"), "Transpose"),
    **dict.fromkeys(("slice", "select", "narrow"), "Slice"),
    **dict.fromkeys(("split", "chunk", "split_with_sizes", "unbind"), "Split"),
    **dict.fromkeys(("pad", "constant_pad_nd"), "Pad"),
    **dict.fromkeys(("relu6", "hardtanh", "clamp", "clamp_min"), "Clip"),
    **dict.fromkeys(("batch_norm", "dropout", "contiguous", "clone", "alias", "detach"), FOLDED),
    "addmm": "Gemm",
    "embedding": "Gather",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "cat": "Concat",
    "mean": "ReduceMean",
    "relu": "Relu",
    "prelu": "PRelu",
    "leaky_relu": "LeakyRelu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hardswish": "HardSwish",
    "flatten": "Flatten",
    "squeeze": "Squeeze",
    "unsqueeze": "Unsqueeze",
    "pixel_shuffle": "DepthToSpace",
    "pixel_unshuffle": "SpaceToDepth",
    "upsample_nearest1d": "Resize",
    "upsample_nearest2d": "Resize",
}
"""ATen operation -> operation of ONNX."""


@dataclass(frozen=True)
class _Weight:
    """A weight an operation multiplies with.

    Attributes:
        source: The node that fetches it.
        operand: The node the operation takes it as: `source`, or its transpose.
        channel: Axis of output channels as stored.
        sum: Axis that products are summed over, as stored.
    """

    source: Any
    operand: Any
    channel: int
    sum: int


@dataclass(frozen=True)
class Rounding:
    """What was put into a graph.

    Attributes:
        ranges: Modules that round activations by ranges they watch; set ``is_watching`` and ``is_rounding`` of each.
        num_weights: How many weights are rounded.
    """

    ranges: Sequence[Any]
    num_weights: int

    def set(self, *, watching: bool, rounding: bool) -> None:
        """Whether ranges move with what passes, and whether what passes is rounded."""
        for module in self.ranges:
            module.is_watching, module.is_rounding = watching, rounding


def put_rounding(graph: Any, recipe: Recipe, followers: frozenset[str]) -> Rounding:
    """Puts rounding into a graph module of `exported`, where `recipe` will have integers.

    Raises UnsupportedError where that is nowhere, or a rule matches nothing.
    """
    nodes = list(graph.graph.nodes)
    steps = {node: _step(node, recipe) for node in nodes if node.op == "call_function"}
    require_matches(recipe, steps.values())
    bits = 16 if "w8a16" in recipe.precisions else 8
    activation_kind, weight_kind = _activation_kind(), _weight_kind()
    ranges = []
    for tensor in rounded_tensors(list(steps.values()), followers, recipe):
        ranges.append(activation_kind(bits))
        _put(graph, tensor, ranges[-1])
    num_weights = 0
    for node, step in steps.items():
        if step.precision in DYNAMIC and step.op_type in ("MatMul", "Gemm"):
            place = 1 if operation(node) == "addmm" else 0
            _put(graph, node.args[place], activation_kind(8, is_dynamic=True), only=node)
        block = WEIGHT_ONLY.get(step.precision) if step.op_type in ("MatMul", "Gemm") else None
        for weight in _weights(node) if step.precision in (*STATIC, *DYNAMIC, *WEIGHT_ONLY) else ():
            axis = weight.channel if block is None else weight.sum
            _put(graph, weight.source, weight_kind(axis, block), only=node, via=weight.operand)
            num_weights += 1
    if not num_weights:
        raise UnsupportedError(
            f"recipe {recipe.name!r} would round nothing of this module", hint="leave the recipe out"
        )
    graph.recompile()
    return Rounding(ranges, num_weights)


def _put(graph: Any, source: Any, module: Any, *, only: Any = None, via: Any = None) -> None:
    """Has what reads `source` read it through `module`: all that do, or `only` one, which may read its transpose."""
    name = f"rounding_{sum(1 for _ in graph.children())}"
    graph.add_submodule(name, module)
    with graph.graph.inserting_after(source):
        rounded = graph.graph.call_module(name, (source,))
    if only is None:
        source.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)
    elif via is None or via is source:
        only.replace_input_with(source, rounded)
    else:
        via.replace_input_with(source, rounded)


def _step(node: Any, recipe: Recipe) -> Step:
    op_type = _op_type(node)
    weights = list(_weights(node))
    inputs = tuple(value for value in node.all_input_nodes if value.op != "get_attr" and _is_float(value))
    if not weights:
        is_product = op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM")
        return Step(node.name, "" if is_product else op_type, inputs, node)
    name = weights[0].source.target.rpartition(".")[0] or weights[0].source.target
    operands = {weight.operand for weight in weights}
    place = 1 if operation(node) == "addmm" else 0
    first = (node.args[place],) if op_type != "Gather" else ()
    inputs = tuple(value for value in first if value not in operands)
    return Step(name, op_type, inputs, node, recipe.precision_of(name, op_type))


def _op_type(node: Any) -> str:
    name = operation(node)
    if name == "getitem":
        return "Split" if _OP_TYPES.get(operation(node.args[0])) == "Split" else ""
    if name == "adaptive_avg_pool2d" and list(node.args[1]) == [1, 1]:
        return "GlobalAveragePool"
    if name == "linear" and len(node.args) > 2 and node.args[2] is not None and node.meta["val"].ndim == 2:
        return "Gemm"
    return _OP_TYPES.get(name, "")


def _is_float(node: Any) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, list | tuple) else [value]
    return any(getattr(one, "dtype", None) is not None and one.dtype.is_floating_point for one in values)


def _weights(node: Any) -> Iterator[_Weight]:
    """The constant matrices or filters a product is of."""
    name = operation(node)
    if name in ("lstm", "gru"):
        for operand in node.args[2]:
            if (found := parameter(operand)) is not None and operand.meta["val"].ndim == 2:
                yield _Weight(found[0], operand, 0, 1)
        return
    places = {"embedding": (0, 0, 1), "linear": (1, 0, 1), "matmul": (1, 1, 0), "mm": (1, 1, 0), "addmm": (2, 1, 0)}
    if name.startswith("conv_transpose"):
        places[name] = (1, 1, 0)
    elif name in ("conv1d", "conv2d", "conv3d"):
        places[name] = (1, 0, 1)
    if name not in places:
        return
    place, channel, summed = places[name]
    operand = node.args[place]
    found = parameter(operand)
    if found is None or operand.meta["val"].ndim < 2 or (name == "matmul" and operand.meta["val"].ndim != 2):
        return
    if found[1]:
        channel, summed = summed, channel
    yield _Weight(found[0], operand, channel, summed)


@functools.cache
def _activation_kind() -> Any:
    """The class, which only exists where PyTorch does."""
    import torch

    class ActivationRounding(torch.nn.Module):  # type: ignore[misc]
        """Rounds a tensor to `bits` within the range it has seen, or within that of the tensor itself."""

        def __init__(self, bits: int, *, is_dynamic: bool = False) -> None:
            super().__init__()
            self.last = 2**bits - 1
            self.is_dynamic = is_dynamic
            self.is_watching = self.is_rounding = is_dynamic
            self.low = self.high = None

        def forward(self, tensor: Any) -> Any:
            if self.is_watching:
                self._watch(*torch.aminmax(tensor.detach()))
            if not self.is_rounding:
                return tensor
            low, high = torch.clamp(self.low, max=0.0), torch.clamp(self.high, min=0.0)
            scale = torch.clamp(high - low, min=_MIN_SPAN) / self.last
            zero = torch.clamp(torch.round(-low / scale), 0, self.last).to(torch.int32)
            return torch.fake_quantize_per_tensor_affine(tensor, scale, zero, 0, self.last)

        def _watch(self, low: Any, high: Any) -> None:
            if self.low is None or self.is_dynamic:
                self.low, self.high = low, high
            elif self.is_rounding:
                self.low, self.high = self.low.lerp(low, 1 - MOMENTUM), self.high.lerp(high, 1 - MOMENTUM)
            else:
                self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)

    return ActivationRounding


@functools.cache
def _weight_kind() -> Any:
    """The class, which only exists where PyTorch does."""
    import torch

    class WeightRounding(torch.nn.Module):  # type: ignore[misc]
        """Rounds a weight to 8 symmetric bits per index of `axis`, or to 4 bits per `block` along it."""

        def __init__(self, axis: int, block: int | None) -> None:
            super().__init__()
            self.axis = axis
            self.block = block

        def forward(self, weight: Any) -> Any:
            if self.block is not None:
                return weight + (_round_groups(weight.detach(), self.axis, self.block) - weight.detach())
            others = [axis for axis in range(weight.ndim) if axis != self.axis]
            scale = torch.clamp(weight.detach().abs().amax(others), min=_MIN_SPAN) / 127
            zeros = torch.zeros_like(scale, dtype=torch.int32)
            return torch.fake_quantize_per_channel_affine(weight, scale, zeros, self.axis, -127, 127)

    return WeightRounding


def _round_groups(weight: Any, axis: int, block: int) -> Any:
    """As `edgekit.quantize.solver.quantize_groups` rounds, asymmetric."""
    import torch

    rows = weight.transpose(axis, -1)
    size = rows.shape[-1]
    groups = torch.nn.functional.pad(rows, (0, -size % block)).unflatten(-1, (-1, block))
    low = groups.amin(-1, keepdim=True).clamp(max=0.0)
    scale = torch.clamp(groups.amax(-1, keepdim=True).clamp(min=0.0) - low, min=_MIN_SPAN) / 15
    zero = torch.clamp(torch.round(-low / scale), 0, 15)
    rounded = (torch.clamp(torch.round(groups / scale) + zero, 0, 15) - zero) * scale
    return rounded.flatten(-2)[..., :size].transpose(axis, -1)
