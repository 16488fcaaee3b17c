"""A graph that is being changed: who makes a tensor and who reads it, kept up to date at every step."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from edgekit.converters.tflite.model import Graph, Op, Tensor

__all__ = ["Rewriter"]


class Rewriter:
    """Changes one graph; `finish` puts its operations in an order in which they can run.

    What is changed is asked for here and never in the graph, whose list of operations is out of date until `finish`.
    Every step costs what it touches.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._places: dict[Op, float] = {}
        self._makers: dict[Tensor, Op] = {}
        self._readers: dict[Tensor, dict[Op, None]] = {}
        self._public: set[Tensor] = {*graph.outputs}
        for place, op in enumerate(graph.ops):
            self._enter(op, float(place))

    def ops(self) -> list[Op]:
        """Those that are there now; new ones stand behind the others."""
        return list(self._places)

    def holds(self, op: Op) -> bool:
        """Whether the operation is still there."""
        return op in self._places

    def producer(self, tensor: Tensor) -> Op | None:
        """The operation that computes it; None for a constant or an input of the graph."""
        return self._makers.get(tensor)

    def consumers(self, tensor: Tensor) -> list[Op]:
        """The operations that read it, each once."""
        return list(self._readers.get(tensor, ()))

    def is_public(self, tensor: Tensor) -> bool:
        """Whether it is an output of the graph."""
        return tensor in self._public

    def sole_consumer(self, tensor: Tensor) -> Op | None:
        """The one operation that reads it, if there is one and nobody outside does."""
        readers = self._readers.get(tensor, {})
        return next(iter(readers)) if len(readers) == 1 and tensor not in self._public else None

    def add(self, op: Op, near: Op | None = None) -> Op:
        """Enters an operation; among those that could run next it takes the place of `near`, or the first."""
        self._enter(op, self._places.get(near, -1.0) if near is not None else -1.0)
        return op

    def remove(self, op: Op) -> None:
        """Takes an operation out; what it made must not be read any more, or be made by another."""
        del self._places[op]
        for tensor in op.arguments():
            self._forget(tensor, op)
        for tensor in op.outputs:
            if self._makers.get(tensor) is op:
                del self._makers[tensor]

    def set_inputs(self, op: Op, inputs: Sequence[Tensor | None]) -> None:
        """Gives an operation other inputs."""
        for tensor in op.arguments():
            self._forget(tensor, op)
        op.inputs = list(inputs)
        for tensor in op.arguments():
            self._readers.setdefault(tensor, {})[op] = None

    def set_outputs(self, op: Op, outputs: Sequence[Tensor]) -> None:
        """Lets an operation make other tensors; what it made so far must be made by another or not be read."""
        for tensor in op.outputs:
            if self._makers.get(tensor) is op:
                del self._makers[tensor]
        op.outputs = list(outputs)
        self._makers.update(dict.fromkeys(outputs, op))

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Lets all that reads `old` read `new`, which takes over its public name."""
        for op in self.consumers(old):
            self.set_inputs(op, [new if tensor is old else tensor for tensor in op.inputs])
        self.publish(old, new)

    def publish(self, old: Tensor, new: Tensor) -> None:
        """Lets whoever calls the graph get `new`, under the name of `old`, where it got `old`."""
        if old in self._public and old is not new:
            self.graph.outputs = [new if tensor is old else tensor for tensor in self.graph.outputs]
            self._public = {*self.graph.outputs}
            if new.data is None and new not in self.graph.inputs:
                new.name = old.name

    def bypass(self, op: Op, new: Tensor) -> None:
        """Puts `new` in place of what `op` makes, and removes it."""
        self.replace(op.output, new)
        self.remove(op)

    def drop_unread(self, ops: Iterable[Op]) -> None:
        """Removes those of `ops` that nobody reads, and what only they read."""
        waiting = list(ops)
        while waiting:
            op = waiting.pop()
            if op not in self._places or any(self._readers.get(t) or t in self._public for t in op.outputs):
                continue
            waiting += [maker for tensor in op.arguments() if (maker := self._makers.get(tensor)) is not None]
            self.remove(op)

    def finish(self) -> None:
        """Puts the operations into the graph: each behind what it reads, else as they stood."""
        order = {op: (place, count) for count, (op, place) in enumerate(self._places.items())}
        missing = {op: len({maker for t in op.arguments() if (maker := self._makers.get(t))}) for op in order}
        by_key = {key: op for op, key in order.items()}
        ready = [order[op] for op, count in missing.items() if not count]
        heapq.heapify(ready)
        found: list[Op] = []
        while ready:
            op = by_key[heapq.heappop(ready)]
            found.append(op)
            for reader in dict.fromkeys(reader for t in op.outputs for reader in self._readers.get(t, ())):
                missing[reader] -= 1
                if not missing[reader]:
                    heapq.heappush(ready, order[reader])
        if len(found) != len(order):
            raise RuntimeError("operations wait for one another")
        self.graph.ops = found

    def _enter(self, op: Op, place: float) -> None:
        self._places[op] = place
        self._makers.update(dict.fromkeys(op.outputs, op))
        for tensor in op.arguments():
            self._readers.setdefault(tensor, {})[op] = None

    def _forget(self, tensor: Tensor, op: Op) -> None:
        readers = self._readers.get(tensor)
        if readers is not None:
            readers.pop(op, None)
            if not readers:
                del self._readers[tensor]
