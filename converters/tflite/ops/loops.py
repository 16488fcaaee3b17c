"""WHILE loops: a step repeated while a condition holds, and a body swept along the first axis of sequences.

LiteRT copies every tensor a WHILE carries in each pass, sequences included, so one loop over T steps moves a multiple
of T x T elements. A long sweep is therefore a loop over blocks, and a loop inside carries the steps of a block only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Unlowerable

__all__ = ["Body", "Inside", "Take", "put", "repeat", "stand_in", "sweep"]

Take = Callable[[Tensor], Tensor]
"""What stands in a body for a tensor of the graph around it."""

Body = Callable[[Builder, Take, list[Tensor], list[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]]
"""From states and the elements of the sequences at one step to the next states and what this step gives."""

_LONGEST = 64
"""A sweep of more steps is split in about `_BLOCKS` blocks."""
_BLOCKS = 10


class Inside:
    """A graph that control flow calls: constants are shared with the graph around, what is computed becomes an input.

    Attributes:
        builder: What writes it.
        taken: The input for each tensor of the graph around.
    """

    def __init__(self, name: str, source: str, stored: Mapping[Tensor, Tensor] | None = None) -> None:
        """`stored` is the `Builder.stored` of the graph around: integers are shared too, not what is made of them."""
        self.builder = Builder(name)
        self.builder.source = source
        self.taken: dict[Tensor, Tensor] = {}
        self._stored = {} if stored is None else stored  # still empty, perhaps: it is shared
        self._own: dict[Tensor, Tensor] = {}

    def take(self, outer: Tensor) -> Tensor:
        if outer.data is not None:
            return outer
        if outer in self._stored:
            if outer not in self._own:
                self._own[outer] = self.builder.dequantize(self._stored[outer])
            return self._own[outer]
        if outer not in self.taken:
            self.taken[outer] = stand_in(outer)
        return self.taken[outer]


def stand_in(tensor: Tensor) -> Tensor:
    """An input of a body for a tensor around it."""
    return Tensor(tensor.name, tensor.shape, tensor.dtype, quant=tensor.quant)


def repeat(
    b: Builder,
    start: Sequence[Tensor],
    goes_on: Callable[[Inside, list[Tensor]], Tensor],
    step: Callable[[Inside, list[Tensor]], Sequence[Tensor]],
) -> list[Tensor]:
    """WHILE: what `start` has become by `step` when `goes_on` gives false; shapes stay what they are.

    Raises:
        Unlowerable: A shape is not known, or a step changes shape or dtype.
    """
    condition, body = (Inside(f"{b.source}/{name}", b.source, b.stored) for name in ("condition", "body"))
    asked, carried = [stand_in(tensor) for tensor in start], [stand_in(tensor) for tensor in start]
    condition.builder.graph.outputs = [goes_on(condition, asked)]
    given = list(step(body, carried))
    for old, new in zip(start, given, strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype) or -1 in old.shape:
            raise Unlowerable(f"a loop that makes {new.dtype}{list(new.shape)} of {old.dtype}{list(old.shape)}")
    given = _apart(body.builder, given, carried, list(body.taken.values()))
    fixed = list(dict.fromkeys([*condition.taken, *body.taken]))
    condition.builder.graph.inputs = [*asked, *map(condition.take, fixed)]
    body.builder.graph.inputs = [*carried, *map(body.take, fixed)]
    body.builder.graph.outputs = [*given, *map(body.take, fixed)]
    everything = [*start, *fixed]
    found = b.ops(
        "WHILE", everything, [(tensor.shape, tensor.dtype) for tensor in everything],
        condSubgraphIndex=condition.builder.graph, bodySubgraphIndex=body.builder.graph,
    )  # fmt: skip
    return found[: len(start)]


def _apart(b: Builder, given: list[Tensor], carried: list[Tensor], fixed: list[Tensor]) -> list[Tensor]:
    """Copies of those results that are an input of the body in another place, or a result twice.

    LiteRT moves the results to the inputs one by one: of two states that change places one would be lost.
    """
    found: list[Tensor] = []
    for own, new in zip(carried, given, strict=True):
        is_shared = new in found or (new is not own and (new in carried or new in fixed))
        found.append(_copy(b, new) if is_shared else new)
    return found


def _copy(b: Builder, x: Tensor) -> Tensor:
    row = b.reshape(x, [1, *x.shape])
    copied = b.op("SLICE", [row, b.ints([0] * row.rank), b.ints(row.shape)], row.shape)
    return b.reshape(copied, x.shape)


def sweep(
    b: Builder,
    steps: int,
    states: Sequence[Tensor],
    sequences: Sequence[Tensor],
    outputs: Sequence[tuple[Sequence[int], str]],
    body: Body,
    *,
    reverse: bool = False,
    unroll: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """`body` for each of `steps` elements along the first axis of `sequences`, from the last one if `reverse`.

    Args:
        b: Where it happens.
        steps: Length of the first axis.
        states: What the first step starts from.
        sequences: What each step sees an element of.
        outputs: Shape and dtype of what each step gives.
        body: The step.
        reverse: From the last element to the first; results stand where their elements stood.
        unroll: Steps one behind the other instead of a loop.

    Returns:
        The states behind the last step, and each output of all steps along a new first axis.
    """
    if steps == 0:
        return list(states), [b.const(np.zeros((0, *shape), dtype)) for shape, dtype in outputs]
    if unroll or steps == 1:
        return _unrolled(b, steps, states, sequences, body, reverse)
    block = _block(steps)
    whole = steps // block * block
    if whole == steps:
        return _looped(b, steps, block, states, sequences, outputs, body, reverse)
    parts: dict[int, list[Tensor]] = {}
    for start, stop in sorted([(0, whole), (whole, steps)], reverse=reverse):
        cut = [_block_at(b, x, start, stop) for x in sequences]
        states, parts[start] = sweep(b, stop - start, states, cut, outputs, body, reverse=reverse)
    return list(states), [b.concat(pair, 0) for pair in zip(parts[0], parts[whole], strict=True)]


def _block(steps: int) -> int:
    """How many steps a pass of the outer loop takes; about a tenth, so that few are left over."""
    if steps <= _LONGEST:
        return 1
    sizes = range(steps // (_BLOCKS + 4), steps // (_BLOCKS - 3) + 1)
    return min(sizes, key=lambda size: (steps % size, abs(size * _BLOCKS - steps)))


def _block_at(b: Builder, x: Tensor, start: int, stop: int) -> Tensor:
    if x.data is not None:
        return b.const(x.data[start:stop])
    return b.slice(x, [start, *[0] * (x.rank - 1)], [stop - start, *x.shape[1:]])


def _unrolled(
    b: Builder, steps: int, states: Sequence[Tensor], sequences: Sequence[Tensor], body: Body, reverse: bool
) -> tuple[list[Tensor], list[Tensor]]:
    given: dict[int, Sequence[Tensor]] = {}
    order = range(steps)
    for i in reversed(order) if reverse else order:
        elements = [b.reshape(_block_at(b, x, i, i + 1), x.shape[1:]) for x in sequences]
        states, given[i] = body(b, lambda tensor: tensor, list(states), elements)
    columns = zip(*(given[i] for i in order), strict=True)
    return list(states), [b.concat([b.reshape(x, [1, *x.shape]) for x in column], 0) for column in columns]


def _looped(
    b: Builder,
    steps: int,
    block: int,
    states: Sequence[Tensor],
    sequences: Sequence[Tensor],
    outputs: Sequence[tuple[Sequence[int], str]],
    body: Body,
    reverse: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """One loop, `block` steps a pass. Carried are the count of steps done, the states, and room for the results."""
    rooms = [b.const(np.zeros((steps, *shape), dtype)) for shape, dtype in outputs]

    def goes_on(inside: Inside, carried: list[Tensor]) -> Tensor:
        return inside.builder.binary("LESS", carried[0], steps)

    def step(inside: Inside, carried: list[Tensor]) -> list[Tensor]:
        inner, done = inside.builder, carried[0]
        old, room = carried[1 : 1 + len(states)], carried[1 + len(states) :]
        at = inner.sub(inner.ints([steps - block]), done) if reverse else done
        cut = [_cut(inner, inside.take(x), at, block) for x in sequences]
        if block > 1:
            new, given = sweep(
                inner, block, old, cut, outputs,
                lambda deep, take, s, elements: body(deep, lambda x: take(inside.take(x)), s, elements),
                reverse=reverse,
            )  # fmt: skip
        else:
            elements = [inner.reshape(x, x.shape[1:]) for x in cut]
            new, single = map(list, body(inner, inside.take, old, elements))
            given = [inner.reshape(x, [1, *x.shape]) for x in single]
        filled = [put(inner, x, part, at) for x, part in zip(room, given, strict=True)]
        return [inner.add(done, block), *new, *filled]

    found = repeat(b, [b.ints([0]), *states, *rooms], goes_on, step)
    return found[1 : 1 + len(states)], found[1 + len(states) :]


def _cut(b: Builder, x: Tensor, at: Tensor, count: int) -> Tensor:
    """`count` elements of `x` from position `at`, which is [1]."""
    if count == 1:
        return b.gather(x, at, 0)
    shape = [count, *x.shape[1:]]
    return b.op("SLICE", [x, _begin(b, at, x.rank), b.ints(shape)], shape)


def put(b: Builder, x: Tensor, part: Tensor, at: Tensor) -> Tensor:
    """`x` with `part` from position `at` on."""
    return b.op("DYNAMIC_UPDATE_SLICE", [x, part, _begin(b, at, x.rank)], x.shape)


def _begin(b: Builder, at: Tensor, rank: int) -> Tensor:
    return b.concat([at, b.ints([0] * (rank - 1))], 0) if rank > 1 else at
