"""If, Loop and Scan: their bodies become graphs of their own, or are written out where that is smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.converters.tflite.bodies import Known, free_values, kept_states, stand_alone, trip_count
from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.loops import Body, Inside, Take, put, repeat, stand_in, sweep
from edgekit.converters.tflite.table import Node, Unlowerable, lowers
from edgekit.graph.walking import walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__: list[str] = []

_UNROLLED = 64
"""A loop of a known number of passes is written out when that takes at most so many nodes."""
_UNROLLED_AT_WORST = 4096
"""The same for a loop whose body has known shapes only when the pass is known."""
_MOST_ROOM = 1 << 26
"""Elements of results kept for a loop that may end before its trip count."""


class _Body:
    """The graph of an attribute, standing alone: what it reads from around is an input or a constant of it."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.graph = node.body(name)
        self.free = free_values(self.graph)

    @property
    def size(self) -> int:
        return sum(1 for _ in walk(self.graph))

    def lower(
        self,
        b: Builder,
        take: Take,
        inputs: Sequence[Tensor],
        refused: list[str] | None = None,
    ) -> list[Tensor]:
        """Writes the body with `b`, its inputs being `inputs`; gives the tensors of its outputs.

        What has no form is added to `refused`, by default the node's own list.
        """
        scope = self.node.scope
        around = {value.name or "": take(scope.tensor(value)) for value in self.free}
        own = {value.name or "": tensor for value, tensor in zip(self.graph.inputs, inputs, strict=True)}
        known = {**around, **own}
        hub = {value.name or "": value for value in (*self.graph.inputs, *self.free)}
        domains = {inner.domain for inner, _ in walk(self.graph)} - {"", "ai.onnx"}
        opsets = {"": scope.opset, **dict.fromkeys(sorted(domains), 1)}
        alone = stand_alone(self.graph, {name: _known(hub[name], tensor) for name, tensor in known.items()}, opsets)
        inside = type(scope)(b, scope.opset, scope.refused if refused is None else refused, dynamic=scope.dynamic)
        for value in (*alone.inputs, *alone.initializers.values()):
            if value.name in known:
                inside.values[value] = known[value.name]
        inside.lower_nodes(alone)
        return [inside.tensor(value) for value in alone.outputs]


def _known(value: ir.Value, tensor: Tensor) -> Known:
    """The type is the hub's where it tells one; tensors are held in wider ones."""
    import onnx

    kind = value.dtype if value.dtype is not None else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return Known(tensor.shape, int(kind), tensor.data)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


@lowers("Constant")
def constant_output(b: Builder, node: Node) -> Tensor:
    """Cleaning makes initializers of all but those that are outputs of a graph, as in a branch of an If."""
    (name, attribute), *_ = node.node.attributes.items()
    if name == "value":
        return b.const(attribute.as_tensor().numpy().astype(node.dtype))
    if name not in ("value_int", "value_ints", "value_float", "value_floats"):
        raise Unlowerable(f"{name} of a constant")
    return b.const(np.asarray(attribute.value, node.dtype))


@lowers("If")
def choose(b: Builder, node: Node) -> Sequence[Tensor | None]:
    known = node.constant(0)
    if known is not None:
        return _Body(node, "then_branch" if known.reshape(-1)[0] else "else_branch").lower(b, _itself, [])
    branches = []
    for name in ("then_branch", "else_branch"):
        inside = Inside(f"{b.source}/{name}", b.source, b.stored)
        given = _Body(node, name).lower(inside.builder, inside.take, [])
        inside.builder.graph.outputs = [given[i] for i, promise in enumerate(node.outputs) if promise]
        branches.append(inside)
    fixed = list(dict.fromkeys([*branches[0].taken, *branches[1].taken]))
    for inside in branches:
        inside.builder.graph.inputs = [inside.take(tensor) for tensor in fixed]
    found = iter(
        b.ops(
            "IF", [node.input(0), *fixed], [promise for promise in node.outputs if promise],
            thenSubgraphIndex=branches[0].builder.graph, elseSubgraphIndex=branches[1].builder.graph,
        )
    )  # fmt: skip
    return [next(found) if promise else None for promise in node.outputs]


@lowers("Scan")
def scan(b: Builder, node: Node) -> list[Tensor]:
    count, body = node.integer("num_scan_inputs"), _Body(node, "body")
    if node.opset < 9:
        raise Unlowerable("Scan of opset 8")
    inputs = [node.input(i) for i in range(len(node.inputs))]
    states, sequences = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    axes, turns = node.integers("scan_input_axes", [0] * count), node.integers("scan_input_directions", [0] * count)
    sequences = [_turned(b, _to_front(b, x, axis), turn) for x, axis, turn in zip(sequences, axes, turns, strict=True)]
    steps = sequences[0].shape[0]
    if any(-1 in x.shape for x in inputs):
        raise Unlowerable("the number of steps is only known when the model runs")
    given = _shapes(node, len(states))
    axes, turns = (
        node.integers("scan_output_axes", [0] * len(given)),
        node.integers("scan_output_directions", [0] * len(given)),
    )
    outputs = [
        ([n for i, n in enumerate(shape) if i != axis % len(shape)], dtype)
        for (shape, dtype), axis in zip(given, axes, strict=True)
    ]

    def step(b: Builder, take: Take, old: list[Tensor], elements: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        found = body.lower(b, take, [*old, *elements])
        return found[: len(old)], found[len(old) :]

    unroll = steps * body.size <= _UNROLLED
    finals, stacks = sweep(b, steps, states, sequences, outputs, step, unroll=unroll)
    placed = [_from_front(b, _turned(b, x, turn), axis) for x, axis, turn in zip(stacks, axes, turns, strict=True)]
    return [*finals, *placed]


def _shapes(node: Node, skipped: int) -> list[tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of the outputs that are collected; those nobody reads have to be known all the same."""
    found = []
    for value, promise in zip(node.node.outputs[skipped:], node.outputs[skipped:], strict=True):
        if promise is None or -1 in promise[0][1:]:
            raise Unlowerable(f"the shape of {value.name} is not known")
        found.append(promise)
    return found


def _to_front(b: Builder, x: Tensor, axis: int) -> Tensor:
    axis %= x.rank
    return b.transpose(x, [axis, *(i for i in range(x.rank) if i != axis)])


def _from_front(b: Builder, x: Tensor, axis: int) -> Tensor:
    axis %= x.rank
    order = list(range(1, x.rank))
    return b.transpose(x, [*order[:axis], 0, *order[axis:]])


def _turned(b: Builder, x: Tensor, turn: int) -> Tensor:
    """`x` from its last element to its first, if it is to be turned."""
    return b.op("REVERSE_V2", [x, b.ints([0])], x.shape) if turn else x


@lowers("Loop")
def loop(b: Builder, node: Node) -> list[Tensor]:
    """Passes are counted when all are known to happen; else the body says after each whether there is another."""
    body = _LoopBody(node)
    steps = trip_count(node.node)
    finals, stacks = _asked(b, node, body) if steps is None else _counted(b, node, body, steps)
    varying = iter(finals)
    whole = [node.input(2 + i) if i in body.kept else next(varying) for i in range(len(node.inputs) - 2)]
    return [*whole, *stacks]


class _LoopBody(_Body):
    """The body of a Loop; states that never change are read from around it.

    Attributes:
        kept: Which those are.
        states: What the others start from.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node, "body")
        self.kept = kept_states(node.node)
        starts = [node.input(i) for i in range(2, len(node.inputs))]
        self.states = [start for i, start in enumerate(starts) if i not in self.kept]
        self.fixed = [start for i, start in enumerate(starts) if i in self.kept]

    def step(
        self, b: Builder, take: Take, told: Sequence[Tensor], states: Sequence[Tensor], refused: list[str]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """From what a pass is told and the states: whether there is another pass, the next states, results."""
        varying, fixed = iter(states), iter(self.fixed)
        count = len(self.states) + len(self.fixed)
        given = [take(next(fixed)) if i in self.kept else next(varying) for i in range(count)]
        more, *found = self.lower(b, take, [*told, *given], refused)
        return more, [x for i, x in enumerate(found[:count]) if i not in self.kept], found[count:]

    def collected(self) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of what a pass gives to be collected, found by writing one to nowhere."""
        nowhere = Inside("nowhere", self.node.name)
        told, states = [Tensor("", (), "int64"), Tensor("", (), "bool")], [stand_in(state) for state in self.states]
        _, new, found = self.step(nowhere.builder, nowhere.take, told, states, [])
        same = dict(zip(new, (state.shape for state in states), strict=True))  # a state keeps its shape
        given = [(same.get(x, x.shape), x.dtype) for x in found]
        if any(-1 in shape for shape, _ in given):
            raise Unlowerable("what a pass gives has no known shape")
        return given


_Found = tuple[list[Tensor], list[Tensor]]
"""States behind the last pass, and what was collected."""


def _counted(b: Builder, node: Node, body: _LoopBody, steps: int) -> _Found:
    def step(refused: list[str]) -> Body:
        def one(b: Builder, take: Take, old: list[Tensor], elements: list[Tensor]) -> _Found:
            return body.step(b, take, [elements[0], b.const(np.asarray(True))], old, refused)[1:]

        return one

    numbers = b.const(np.arange(steps, dtype="int64")) if steps else b.const(np.zeros(1, "int64"))
    if steps * body.size > _UNROLLED:
        refused: list[str] = []
        done = len(b.graph.ops)
        try:
            found = sweep(b, steps, body.states, [numbers], body.collected(), step(refused))
        except Unlowerable as verdict:
            refused.append(str(verdict))
        if not refused:
            return found
        if steps * body.size > _UNROLLED_AT_WORST:
            raise Unlowerable(refused[0])
        del b.graph.ops[done:]
    given = [] if steps else body.collected()
    return sweep(b, steps, body.states, [numbers], given, step(node.scope.refused), unroll=True)


def _asked(b: Builder, node: Node, body: _LoopBody) -> _Found:
    """Carried are the passes done, whether there is another, the states, and room for what is collected."""
    trips, count = node.inputs[0] if node.has(0) else None, len(body.states)
    given = body.collected()
    most = 0 if trips is None or trips.data is None else max(0, int(trips.data.reshape(-1)[0]))
    if given and (not most or most * sum(int(np.prod(shape)) for shape, _ in given) > _MOST_ROOM):
        raise Unlowerable("results are collected in a loop whose length is only known when the model runs")
    rooms = [b.const(np.zeros((most, *shape), dtype)) for shape, dtype in given]
    first = b.reshape(node.input(1), [1]) if node.has(1) else b.const(np.ones(1, "bool"))
    limit = None if trips is None else b.reshape(trips, [1])

    def goes_on(inside: Inside, carried: list[Tensor]) -> Tensor:
        inner = inside.builder
        if limit is None:
            return inner.reshape(carried[1], [1])
        return inner.binary("LOGICAL_AND", carried[1], inner.binary("LESS", carried[0], inside.take(limit)))

    def step(inside: Inside, carried: list[Tensor]) -> list[Tensor]:
        inner, done, old = inside.builder, carried[0], carried[2 : 2 + count]
        told = [inner.reshape(done, []), inner.reshape(carried[1], [])]
        more, new, results = body.step(inner, inside.take, told, old, node.scope.refused)
        at = inner.cast(done, "int32")
        filled = [
            put(inner, room, inner.reshape(x, [1, *room.shape[1:]]), at)
            for room, x in zip(carried[2 + count :], results, strict=True)
        ]
        kept = [_as(inner, x, before) for x, before in zip(new, old, strict=True)]
        return [inner.add(done, 1), inner.reshape(more, [1]), *kept, *filled]

    found = repeat(b, [b.const(np.zeros(1, "int64")), first, *body.states, *rooms], goes_on, step)
    done = b.cast(found[0], "int32")
    return found[2 : 2 + count], [_first(b, room, done) for room in found[2 + count :]]


def _as(b: Builder, x: Tensor, like: Tensor) -> Tensor:
    """`x` in the shape it had before the pass, where that is not known to have changed."""
    return b.reshape(x, like.shape) if -1 in x.shape else x


def _first(b: Builder, x: Tensor, count: Tensor) -> Tensor:
    size = b.concat([count, b.ints(x.shape[1:])], 0) if x.rank > 1 else count
    return b.op("SLICE", [x, b.ints([0] * x.rank), size], [-1, *x.shape[1:]])
