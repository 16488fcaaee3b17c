"""Random small TFLite graphs, written as a naive lowering writes them: channels first, TRANSPOSE around each window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import LiteModel, Tensor

__all__ = ["random_graph"]

_UNARY = ("RELU", "RELU6", "TANH", "LOGISTIC", "ABS", "NEG", "HARD_SWISH")
_LARGEST = 3000


class _Grower:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder()
        self.b.source = "x"
        batch = int(self.rng.choice([1, 1, 2]))
        shape = (batch, int(self.rng.choice([1, 3, 4])), 6, int(self.rng.choice([1, 5, 6])))
        self.b.graph.inputs.append(Tensor("x", shape, "float32"))
        self.there = [*self.b.graph.inputs]

    def numbers(self, *shape: int) -> Tensor:
        return self.b.const(self.rng.normal(0, 0.5, shape).astype("float32"))

    def pick(self, *ranks: int) -> Tensor:
        fitting = [t for t in self.there[-5:] if t.rank in ranks] or [t for t in self.there if t.rank in ranks]
        return fitting[self.rng.integers(len(fitting))]

    def any(self) -> Tensor:
        return self.pick(2, 3, 4, 5)

    def axis(self, x: Tensor) -> int:
        return int(self.rng.integers(x.rank))

    # --- what can be appended ----------------------------------------------------------------------------------------

    def conv(self) -> Tensor:
        x = self.pick(4)
        channels, taps, stride = (int(self.rng.choice(many)) for many in ([1, 2, 3, 4], [1, 3], [1, 2]))
        edge = taps // 2 if self.rng.random() < 0.7 else 2
        padded = self.b.pad(self.b.channels_last(x), [0, edge, edge, 0], [0, edge, edge, 0])
        if min(padded.shape[1:3]) < taps:
            raise ValueError
        sizes = [(n - taps) // stride + 1 for n in padded.shape[1:3]]
        weight = self.numbers(channels, taps, taps, padded.shape[3])
        options = {"strideH": stride, "strideW": stride, "dilationHFactor": 1, "dilationWFactor": 1}
        inputs = [padded, weight, self.numbers(channels)]
        y = self.b.op("CONV_2D", inputs, [x.shape[0], *sizes, channels], padding="VALID",
                      fusedActivationFunction="NONE", **options)  # fmt: skip
        return self.b.channels_first(y)

    def row_conv(self) -> Tensor:
        x = self.b.transpose(self.pick(3), [0, 2, 1])
        row = self.b.reshape(x, [x.shape[0], 1, *x.shape[1:]])
        options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        inputs = [row, self.numbers(3, 1, 1, row.shape[3]), self.numbers(3)]
        y = self.b.op("CONV_2D", inputs, [*row.shape[:3], 3], padding="VALID",
                      fusedActivationFunction="NONE", **options)  # fmt: skip
        return self.b.transpose(self.b.reshape(y, [y.shape[0], *y.shape[2:]]), [0, 2, 1])

    def pool(self) -> Tensor:
        x = self.b.channels_last(self.pick(4))
        shape = [x.shape[0], *(-(-n // 2) for n in x.shape[1:3]), x.shape[3]]
        options = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
        y = self.b.op("MAX_POOL_2D", [x], shape, padding="SAME", fusedActivationFunction="NONE", **options)
        return self.b.channels_first(y)

    def unary(self) -> Tensor:
        return self.b.unary(str(self.rng.choice(_UNARY)), self.any())

    def binary(self) -> Tensor:
        x, code = self.any(), str(self.rng.choice(["ADD", "MUL", "SUB", "MAXIMUM"]))
        others = [t for t in self.there if t.shape == x.shape or (t.rank <= x.rank and _fits(t.shape, x.shape))]
        kind = self.rng.integers(3)
        if kind == 0:
            return self.b.binary(code, x, others[self.rng.integers(len(others))])
        cut = int(self.rng.integers(x.rank)) if kind == 1 else 0
        shape = [n if self.rng.random() < 0.5 else 1 for n in x.shape[cut:]]
        return self.b.binary(code, x, self.numbers(*shape))

    def concat(self) -> Tensor:
        x = self.any()
        axis = self.axis(x)
        others = [t for t in self.there if t.rank == x.rank and _but(t.shape, axis) == _but(x.shape, axis)]
        return self.b.concat([x, others[self.rng.integers(len(others))]], axis)

    def split(self) -> Tensor:
        x = self.any()
        axis = self.axis(x)
        if x.shape[axis] % 2:
            raise ValueError
        half = [n // 2 if i == axis else n for i, n in enumerate(x.shape)]
        parts = self.b.ops("SPLIT", [self.b.const(np.int32(axis)), x], [(half, "float32")] * 2, numSplits=2)
        self.there.append(parts[1])
        return parts[0]

    def reduce(self) -> Tensor:
        x, code = self.pick(3, 4, 5), str(self.rng.choice(["MEAN", "SUM", "REDUCE_MAX"]))
        axes = self.rng.permutation(x.rank)[: self.rng.integers(1, 3)].tolist()
        return self.b.reduce(code, x, axes, keep=bool(self.rng.integers(2)) or x.rank == 3)

    def pad(self) -> Tensor:
        x = self.pick(3, 4)
        return self.b.pad(x, *self.rng.integers(0, 2, (2, x.rank)).tolist())

    def slice(self) -> Tensor:
        x = self.pick(3, 4)
        begin = [int(self.rng.integers(n)) for n in x.shape]
        begin = [n if self.rng.random() < 0.5 else 0 for n in begin]
        return self.b.slice(x, begin, [n - at for n, at in zip(x.shape, begin, strict=True)])

    def strided(self) -> Tensor:
        x = self.pick(3, 4)
        axis = self.axis(x)
        ends = self.b.ints([1 if i == axis else n for i, n in enumerate(x.shape)])
        inputs = [x, self.b.ints([0] * x.rank), ends, self.b.ints([1] * x.rank)]
        masks = {"beginMask": 1, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 1 << axis}
        return self.b.op("STRIDED_SLICE", inputs, _but(x.shape, axis), **masks)

    def along(self) -> Tensor:
        x = self.any()
        code = str(self.rng.choice(["CUMSUM", "REVERSE_V2", "SOFTMAX", "GATHER", "TILE"]))
        axis = self.axis(x)
        if code == "SOFTMAX":
            return self.b.op(code, [x], x.shape, beta=1.0)
        if code == "GATHER":
            return self.b.gather(x, self.b.ints(self.rng.integers(0, x.shape[axis], 2)), axis)
        if code == "TILE":
            times = [2 if i == axis else 1 for i in range(x.rank)]
            return self.b.op(code, [x, self.b.ints(times)], [n * k for n, k in zip(x.shape, times, strict=True)])
        if code == "CUMSUM":
            return self.b.op(code, [x, self.b.const(np.int32(axis))], x.shape, exclusive=False, reverse=False)
        return self.b.op(code, [x, self.b.ints([axis])], x.shape)

    def transpose(self) -> Tensor:
        x = self.pick(3, 4, 5)
        return self.b.transpose(x, self.rng.permutation(x.rank).tolist())

    def merge(self) -> Tensor:
        x = self.pick(3, 4, 5)
        at = int(self.rng.integers(x.rank - 1))
        return self.b.reshape(x, [*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :]])

    def part(self) -> Tensor:
        x = self.pick(3, 4)
        at = self.axis(x)
        factor = next((k for k in (2, 3, 5) if x.shape[at] % k == 0), 1)
        return self.b.reshape(x, [*x.shape[:at], factor, x.shape[at] // factor, *x.shape[at + 1 :]])

    def dense(self) -> Tensor:
        x = self.pick(3, 4)
        if self.rng.random() < 0.5:
            x = self.b.reshape(x, [x.shape[0], int(np.prod(x.shape[1:]))])
        inputs = [x, self.numbers(4, x.shape[-1]), None]
        return self.b.op("FULLY_CONNECTED", inputs, [*x.shape[:-1], 4], keepNumDims=True,
                         fusedActivationFunction="NONE", weightsFormat="DEFAULT")  # fmt: skip


def _but(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _fits(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return all(n in (1, m) for n, m in zip(small[::-1], large[::-1], strict=False))


_STEPS: tuple[tuple[Callable[[_Grower], Tensor], int], ...] = (
    (_Grower.conv, 6), (_Grower.row_conv, 2), (_Grower.pool, 1), (_Grower.unary, 3), (_Grower.binary, 4),
    (_Grower.concat, 2), (_Grower.split, 1), (_Grower.reduce, 2), (_Grower.pad, 1), (_Grower.slice, 1),
    (_Grower.strided, 1), (_Grower.along, 2), (_Grower.transpose, 1), (_Grower.merge, 1), (_Grower.part, 1),
    (_Grower.dense, 1),
)  # fmt: skip


def random_graph(seed: int, steps: int = 14) -> LiteModel:
    """The same for the same seed. All that nobody reads is an output."""
    grower = _Grower(seed)
    chances = np.array([weight for _, weight in _STEPS], "float64")
    while steps:
        before = len(grower.b.graph.ops)
        try:
            found = _STEPS[grower.rng.choice(len(_STEPS), p=chances / chances.sum())][0](grower)
        except (ValueError, IndexError):
            del grower.b.graph.ops[before:]
            continue
        if found.size > _LARGEST or found in grower.there:
            del grower.b.graph.ops[before:]
            continue
        grower.there.append(found)
        steps -= 1
    graph = grower.b.graph
    there = {tensor for op in graph.ops for tensor in op.outputs}
    grower.there = [tensor for tensor in grower.there if tensor in there]
    read = graph.consumers()
    graph.outputs = [tensor for tensor in grower.there if tensor not in read]
    graph.outputs += [tensor for tensor in grower.there[::5] if tensor in read]
    for number, tensor in enumerate(graph.outputs):
        tensor.name = f"y{number}"
    return LiteModel(graph, ["x"], [tensor.name for tensor in graph.outputs])
