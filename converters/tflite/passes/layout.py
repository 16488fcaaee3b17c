"""Layout assignment: in which order the axes of every tensor stand, so that as little as possible is transposed.

A naive lowering puts a TRANSPOSE around each operation that wants its channels last. Here a tensor and what is made of
it by TRANSPOSE, or by RESHAPE that only adds and removes axes of size 1, count as one value, demanded in several
layouts. A *move* takes a value and one of those layouts and asks what would follow if it were made, or read, in that
layout alone: from operation to operation, as far as they can be rearranged. Which of them really are is decided at
least cost, by a minimum cut. Moves are made as long as one gains.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.passes.cutting import Decisions
from edgekit.converters.tflite.passes.layouts import Layout, arrange, as_built, inside, outside, sequence, view
from edgekit.converters.tflite.passes.relations import AxisRelation, Order, axis_relation
from edgekit.converters.tflite.passes.reshaping import ReshapeRelation, reshape_relation
from edgekit.converters.tflite.passes.rewriting import Rewriter
from edgekit.converters.tflite.passes.values import Demand, Value

__all__ = ["assign_layouts"]

_REACH = 400
"""Operations one move may ask: keeps the time linear in the size of the graph."""
_ROUNDS = 8
_UNKNOWN = 64
"""Taken for a size that is only known when the model runs."""
_PER_ELEMENT = 1 << 20
"""What transposing one element costs, where one operation more costs 1."""

_Relation = AxisRelation | ReshapeRelation


def assign_layouts(graph: Graph) -> None:
    """Rearranges axes throughout the graph. The elements transposed never become more."""
    rewriter = Rewriter(graph)
    for value in _values(rewriter):
        _Move(rewriter).settle(value)
    for _ in range(_ROUNDS):
        if not sum([_improve(rewriter, value) for value in _values(rewriter)]):
            break
    rewriter.finish()


def _values(rewriter: Rewriter) -> Iterator[Value]:
    """All values that are there in more than one layout, each as it is when its turn comes."""
    tried = set()
    for op in rewriter.ops():
        if rewriter.holds(op) and view(op) is not None:
            value = Value(rewriter, op.output)
            if value.root not in tried:
                tried.add(value.root)
                yield value


def _improve(rewriter: Rewriter, value: Value) -> bool:
    """Tries the moves of a value; whether one was made."""
    for layout in dict.fromkeys(value.members.values()):
        move = _Move(rewriter)
        move.spread(value.root, layout)
        if move.pays():
            move.make()
            return True
    return False


class _Move:
    """Operations that might be rearranged together, and the order each would get."""

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter = rewriter
        self._orders: dict[Op, Order] = {}
        self._relations: dict[Op, _Relation] = {}
        self._needs: dict[Op, dict[Tensor, Layout]] = {}
        """For each operation that might be rearranged its tensors, and each one's layout in terms of itself."""
        self._values: dict[Tensor, Value] = {}
        self._roots: dict[Tensor, Tensor] = {}

    # --- what could be rearranged ------------------------------------------------------------------------------------

    def spread(self, root: Tensor, layout: Layout) -> None:
        """Asks all that make or read the value of `root` to do so in `layout`, and on from there."""
        waiting = [(root, layout)]
        for root, layout in waiting:
            value = self._value(root)
            if value.maker is not None and layout != value.members[root]:
                waiting += self._ask(value.maker, root, layout)
            for op, member, has in value.demands():
                if op is not None and has != layout:
                    waiting += self._ask(op, member, inside(layout, has))

    def _ask(self, op: Op, tensor: Tensor, layout: Layout) -> Iterator[tuple[Tensor, Layout]]:
        """Enters an operation that can do with `tensor` in `layout`; yields what follows for the values around it."""
        if op in self._orders or len(self._orders) >= _REACH:
            return
        relation = reshape_relation(op, self._rewriter) if op.code == "RESHAPE" else axis_relation(op)
        if relation is None or tensor not in relation.tensors():
            return
        order = relation.order(tensor, layout)
        if order is None:
            return
        needs: dict[Tensor, Layout] = {}
        for other in relation.tensors():
            need = relation.layout(other, order)
            if need is None:
                return
            needs[other] = need
        self._orders[op], self._relations[op], self._needs[op] = order, relation, needs
        for other, need in needs.items():
            if other.data is None:
                value = self._value(other)
                yield value.root, outside(need, value.members[other])

    def _value(self, tensor: Tensor) -> Value:
        root = self._roots.get(tensor)
        if root is None:
            value = Value(self._rewriter, tensor)
            root = value.root
            self._values[root] = value
            self._roots.update(dict.fromkeys(value.members, root))
        return self._values[root]

    # --- what is rearranged ------------------------------------------------------------------------------------------

    def pays(self) -> bool:
        """Whether rearranging some of the operations costs less than none; only those are kept."""
        if not self._orders:
            return False
        decisions = Decisions()
        before = sum(self._weigh(decisions, value) for value in self._touched())
        after, changed = decisions.cheapest()
        self._orders = {op: order for op, order in self._orders.items() if op in changed}
        return after < before

    def _touched(self) -> list[Value]:
        tensors = [tensor for op in self._orders for tensor in self._needs[op] if tensor.data is None]
        return list({(value := self._value(tensor)).root: value for tensor in tensors}.values())

    def _after(self, op: Op | None, tensor: Tensor, now: Layout) -> Layout:
        """The layout, in terms of the value, in which an operation will have a tensor that it has in `now`."""
        if op is None or op not in self._orders:
            return now
        return outside(self._needs[op].get(tensor, as_built(tensor)), now)

    def _made(self, value: Value) -> Layout:
        """The layout in which the value will be made."""
        return self._after(value.maker, value.root, value.members[value.root])

    def _demanded(self, value: Value) -> list[Demand]:
        return [(op, member, self._after(op, member, now)) for op, member, now in value.demands()]

    def _weigh(self, decisions: Decisions, value: Value) -> int:
        """Enters what the value's views would cost; returns what they cost now."""
        now, then = value.members[value.root], self._made(value)
        wants = [(op, has, self._after(op, member, has)) for op, member, has in value.demands()]
        elements = int(np.prod([_UNKNOWN if size < 0 else size for size in value.root.shape], dtype="int64"))
        total = 0
        for part, price in ((sequence, elements * _PER_ELEMENT), (tuple, 1)):
            for wanted in dict.fromkeys(part(layout) for _, *both in wants for layout in both):
                as_is = [op for op, has, _ in wants if part(has) == wanted]
                moved = [op for op, _, will in wants if part(will) == wanted]
                prices = price * (part(now) != wanted), price * (part(then) != wanted)
                self._weigh_one(decisions, value.maker, prices, as_is, moved)
                total += prices[0] if as_is else 0
        return total

    def _weigh_one(
        self,
        decisions: Decisions,
        maker: Op | None,
        prices: tuple[int, int],
        as_is: list[Op | None],
        moved: list[Op | None],
    ) -> None:
        """One layout of a value: its price when the maker is left or changed, and who wants it when left or changed.

        Where a cut cannot tell what a choice costs more is charged, but never for leaving all as it is.
        """
        left, changed = prices
        always = any(op not in self._orders or op in moved for op in as_is)
        if left and changed:
            if always:
                decisions.always(left)
            else:
                decisions.any_left(as_is, left)
                decisions.any_changed([op for op in moved if op in self._orders], left)
        elif changed and (always or moved):
            decisions.changed(maker, changed)
        elif changed:
            decisions.any_left(as_is, changed, beside=maker)
        elif left and as_is:
            decisions.left(maker, left)
        elif left:
            decisions.any_changed(moved, left, beside=maker)

    # --- rearranging -------------------------------------------------------------------------------------------------

    def settle(self, value: Value) -> None:
        """Makes every layout of a value straight from its root, in one step where it can be."""
        self._rebuild([value])

    def make(self) -> None:
        """Makes the move."""
        self._rebuild(self._touched())

    def _rebuild(self, values: list[Value]) -> None:
        demanded = [self._demanded(value) for value in values]
        made = [self._made(value) for value in values]
        renamed: dict[Op | None, dict[Tensor, Tensor]] = {}
        for value, layout, demands in zip(values, made, demanded, strict=True):
            maker = value.maker
            given = value.provide(layout, [wanted for *_, wanted in demands])
            renamed.setdefault(maker, {})[value.root] = given[layout]
            for op, member, wanted in demands:
                renamed.setdefault(op, {})[member] = given[wanted]
        for op, names in renamed.items():
            if op is not None:
                self._rewire(op, names)
        for old, new in renamed.get(None, {}).items():
            self._rewriter.publish(old, new)

    def _rewire(self, op: Op, names: dict[Tensor, Tensor]) -> None:
        """Gives an operation its new tensors and, where it is rearranged, sets what in it names axes."""
        inputs = [None if tensor is None else names.get(tensor, tensor) for tensor in op.inputs]
        outputs = [names.get(tensor, tensor) for tensor in op.outputs]
        order = self._orders.get(op)
        if order is not None:
            for place, tensor in enumerate(op.inputs):
                if tensor is not None and tensor.data is not None and tensor in self._needs[op]:
                    inputs[place] = _arranged(tensor, self._needs[op][tensor])
            self._relations[op].rewrite(op, order, inputs, outputs)
        self._rewriter.set_inputs(op, inputs)
        self._rewriter.set_outputs(op, outputs)
        relation = self._relations.get(op)
        columns = relation.columns(order) if order is not None and isinstance(relation, ReshapeRelation) else None
        if columns is not None and isinstance(relation, ReshapeRelation):
            for reader in relation.readers:
                self._rewriter.set_inputs(reader, _with_columns(reader.inputs, columns))


def _arranged(tensor: Tensor, layout: Layout) -> Tensor:
    """A constant in another layout."""
    assert tensor.data is not None
    data = arrange(tensor.data, layout)
    return (
        tensor
        if data.shape == tensor.shape and layout == as_built(tensor)
        else Tensor(tensor.name, data.shape, tensor.dtype, data, tensor.quant)
    )


def _with_columns(inputs: list[Tensor | None], columns: np.ndarray) -> list[Tensor | None]:
    """The inputs of a FULLY_CONNECTED with the columns of its weights in another order."""
    weight = inputs[1]
    assert weight is not None
    assert weight.data is not None
    data = np.ascontiguousarray(weight.data[:, columns])
    return [inputs[0], Tensor(weight.name, weight.shape, weight.dtype, data), *inputs[2:]]
