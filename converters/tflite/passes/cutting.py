"""Two-way decisions at least cost: each of many things is left or changed, and neighbors that differ cost."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import pairwise

__all__ = ["Decisions"]

_LEFT, _CHANGED = 0, 1
_ENDLESS = 1 << 200


class Decisions:
    """Costs of leaving and changing things, and the cheapest choice for all at once.

    The choice is a minimum cut between "left" and "changed", found by Dinic's algorithm (Yefim Dinitz, "Algorithm for
    solution of a problem of maximum flow in a network with power estimation", 1970).
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._edges: list[dict[int, int]] = [{}, {}]
        """For each node the capacity left towards others."""
        self._always = 0

    def always(self, cost: int) -> None:
        """`cost` whatever is chosen."""
        self._always += cost

    def left(self, thing: Hashable, cost: int) -> None:
        """`cost` if `thing` is left."""
        self._edge(self._number(thing), _CHANGED, cost)

    def changed(self, thing: Hashable, cost: int) -> None:
        """`cost` if `thing` is changed."""
        self._edge(_LEFT, self._number(thing), cost)

    def any_left(self, things: Iterable[Hashable], cost: int, beside: Hashable = None) -> None:
        """`cost`, once, if any of `things` is left, and, where `beside` is given, that is changed."""
        end = _CHANGED if beside is None else self._number(beside)
        between = self._new()
        self._edge(between, end, cost)
        for thing in things:
            self._edge(self._number(thing), between, _ENDLESS)

    def any_changed(self, things: Iterable[Hashable], cost: int, beside: Hashable = None) -> None:
        """`cost`, once, if any of `things` is changed, and, where `beside` is given, that is left."""
        start = _LEFT if beside is None else self._number(beside)
        between = self._new()
        self._edge(start, between, cost)
        for thing in things:
            self._edge(between, self._number(thing), _ENDLESS)

    def cheapest(self) -> tuple[int, set[Hashable]]:
        """The least cost, and what is changed for it; of choices that cost the same the one that changes most."""
        total = self._always
        while True:
            levels = self._levels()
            if levels[_CHANGED] < 0:
                break
            waiting = [list(edges) for edges in self._edges]
            while pushed := self._push(levels, waiting):
                total += pushed
        return total, {thing for thing, number in self._numbers.items() if levels[number] < 0}

    def _levels(self) -> list[int]:
        levels = [-1] * len(self._edges)
        levels[_LEFT] = 0
        reached = [_LEFT]
        for node in reached:
            for other, capacity in self._edges[node].items():
                if capacity and levels[other] < 0:
                    levels[other] = levels[node] + 1
                    reached.append(other)
        return levels

    def _push(self, levels: list[int], waiting: list[list[int]]) -> int:
        """Sends what one path of rising levels can take; 0 when there is none left."""
        path = [_LEFT]
        while path:
            node = path[-1]
            if node == _CHANGED:
                pairs = list(pairwise(path))
                amount = min(self._edges[a][b] for a, b in pairs)
                for a, b in pairs:
                    self._edges[a][b] -= amount
                    self._edges[b][a] += amount
                return amount
            while waiting[node]:
                other = waiting[node][-1]
                if self._edges[node][other] and levels[other] == levels[node] + 1:
                    path.append(other)
                    break
                waiting[node].pop()
            else:
                path.pop()
                if path:
                    waiting[path[-1]].pop()
        return 0

    def _number(self, thing: Hashable) -> int:
        if thing not in self._numbers:
            self._numbers[thing] = self._new()
        return self._numbers[thing]

    def _new(self) -> int:
        self._edges.append({})
        return len(self._edges) - 1

    def _edge(self, start: int, end: int, cost: int) -> None:
        self._edges[start][end] = self._edges[start].get(end, 0) + cost
        self._edges[end].setdefault(start, 0)
