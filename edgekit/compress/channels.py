"""Channels that are removed: fewer filters, smaller tensors, the same operations.

What is removed is a plan, plain data, so that the same cut can be made in the framework the weights came from and the
accuracy won back there. Which channels stand or fall together is `edgekit.compress.coupling`'s. "Pruning Filters for
Efficient ConvNets", Li et al., 2017, for the norms; "A Simple and Effective Pruning Approach for Large Language
Models", Sun et al., 2024, for weights times activations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compress.coupling import Coupling, couple
from edgekit.compress.importance import IMPORTANCES, Feeds, score_channels
from edgekit.compress.shrinking import shrink
from edgekit.compress.weights import Changed, require, skipped_nodes
from edgekit.errors import UnsupportedError
from edgekit.graph.cleaning import lift_constants
from edgekit.graph.cost import costs
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import constant, copy_of, static_shape, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ChannelPlan", "apply_channels", "cut_arrays", "plan_channels", "prune_channels"]

Kept = Mapping[str, Mapping[int, tuple[int, ...]]]

_MULTIPLES = (8, 4, 2, 1)
_AXES = {"Conv": (1,), "ConvTranspose": (0,), "Gemm": (), "MatMul": ()}


@dataclass(frozen=True)
class ChannelPlan:
    """Which channels stay.

    Attributes:
        kept: By the name of an initializer, by axis, the places that stay, ascending. Initializers and axes that stay
            whole are not in it.
        shapes: Of those initializers, as they were.
        macs_before: Multiply-accumulates of the graph it was made for, open sizes taken as 1.
        macs_after: The same once it is applied.
    """

    kept: Kept
    shapes: Mapping[str, tuple[int, ...]]
    macs_before: int
    macs_after: int

    def to_json(self) -> dict[str, Any]:
        kept = {name: {str(axis): list(places) for axis, places in axes.items()} for name, axes in self.kept.items()}
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        return {"kept": kept, "shapes": shapes, "macs_before": self.macs_before, "macs_after": self.macs_after}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ChannelPlan:
        kept = {
            name: {int(axis): tuple(int(place) for place in places) for axis, places in axes.items()}
            for name, axes in data["kept"].items()
        }
        shapes = {name: tuple(int(size) for size in shape) for name, shape in data["shapes"].items()}
        return cls(kept, shapes, int(data["macs_before"]), int(data["macs_after"]))


def prune_channels(
    graph: ir.Model,
    *,
    macs: float,
    importance: str = "l2",
    multiple: int | None = None,
    at_least: float = 0.2,
    skip: Sequence[str] = (),
    feeds: Iterable[Feeds] = (),
) -> Changed:
    """`plan_channels` and `apply_channels` in one. The error of an operation's weight is that of what it lost."""
    plan = plan_channels(
        graph, macs=macs, importance=importance, multiple=multiple, at_least=at_least, skip=skip, feeds=feeds
    )
    model = apply_channels(graph, plan)
    return model, _errors(graph, plan)


def plan_channels(
    graph: ir.Model,
    *,
    macs: float,
    importance: str = "l2",
    multiple: int | None = None,
    at_least: float = 0.2,
    skip: Sequence[str] = (),
    feeds: Iterable[Feeds] = (),
) -> ChannelPlan:
    """The channels to keep so that a graph costs no more than a share of what it does.

    Channels that stand or fall together are held against the others of their layers, and those that are least
    important of all go, as many as have to. Inputs and outputs of the graph keep all of theirs.

    Args:
        graph: A hub graph, cleaned or as it was loaded; initializers of one as loaded have the names the framework
            gave its weights, batch normalizations among them.
        macs: Multiply-accumulates afterwards as a share of those before, above 0 and below 1.
        importance: ``"l2"`` or ``"l1"``: norms of a channel's slices of all weights, those that make it and those that
            read it; ``"activation"``: of what reads it only, times the mean square the channel has on `feeds`.
        multiple: Layers keep a multiple of so many channels where they have more, since engines compute 4, 8 or 16 at
            once. None takes the first of 8, 4, 2 and 1 by which the graph becomes cheap enough.
        at_least: Share of its channels that every layer keeps.
        skip: Patterns for names of operations whose weights and outputs stay whole.
        feeds: Inputs by name, a few dozen samples, for ``"activation"``.

    Raises:
        UnsupportedError: A parameter is out of range, a pattern matches nothing, or the graph has not so many channels
            that can go.
        InputError: ``"activation"`` without feeds.
    """
    require(0 < macs < 1, "macs", "a number above 0 and below 1", macs)
    require(importance in IMPORTANCES, "importance", f"one of {', '.join(IMPORTANCES)}", importance)
    require(multiple is None or multiple >= 1, "multiple", "1 or more", multiple)
    require(0 <= at_least < 1, "at_least", "a number from 0 and below 1", at_least)
    model = _prepared(graph)
    coupling = couple(model, skipped_nodes(model, skip))
    groups = _groups(coupling)
    scores = score_channels(model, coupling, groups, importance, feeds)
    bill = _Bill.of(model, coupling)
    before = bill.total(np.zeros(len(scores), "bool"))
    floors = {one: _below(groups, scores, np.inf, one, at_least) for one in ([multiple] if multiple else _MULTIPLES)}
    fitting = next((one for one, least in floors.items() if bill.total(least) <= macs * before), None)
    if fitting is None:
        raise _too_dear(min(bill.total(least) for least in floors.values()) / max(1, before))
    removed = _choose(groups, scores, bill, macs * before, fitting, at_least)
    kept: dict[str, dict[int, tuple[int, ...]]] = {}
    for value, axis, labels in coupling.weights():
        if removed[labels].any():
            places = np.flatnonzero(~removed[labels])
            kept.setdefault(value.name or "", {})[axis] = tuple(int(place) for place in places)
    ordered = {name: dict(sorted(axes.items())) for name, axes in sorted(kept.items())}
    shapes = {name: static_shape(model.graph.initializers[name]) or () for name in ordered}
    return ChannelPlan(ordered, shapes, before, bill.total(removed))


def apply_channels(graph: ir.Model, plan: ChannelPlan) -> ir.Model:
    """A copy without the channels the plan leaves out.

    Weights, biases and the numbers of normalizations are cut; groups of depthwise convolutions, and sizes that Reshape,
    Slice, Split and Resize are told, follow. Names stay, those of all nodes and tensors. What a removed channel gave to
    those that stay is missing: where it was always zero the answers are the same.

    Raises:
        UnsupportedError: The plan is of another graph: names it has are missing, sizes differ, or channels would go
            that cannot.
    """
    model = _prepared(graph)
    coupling = couple(model)
    shrink(model, coupling, _removed(model, coupling, plan))
    return infer_shapes(model)


def cut_arrays(arrays: Mapping[str, np.ndarray], plan: ChannelPlan) -> dict[str, np.ndarray]:
    """Weights of a framework by the names of the plan, cut as it says; those it does not name stay as they are.

    Raises:
        UnsupportedError: Names of the plan are missing, or have other shapes: the ONNX form of our own networks stores
            the matrix of a dense layer over more than two axes turned. Nobody sees that of a square one.
    """
    wrong = [name for name, shape in plan.shapes.items() if name not in arrays or np.shape(arrays[name]) != shape]
    if wrong:
        raise UnsupportedError("these weights are not those of the plan", offenders=wrong)
    return {name: _cut(array, plan.kept.get(name, {})) for name, array in arrays.items()}


def _cut(array: np.ndarray, axes: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    for axis, places in axes.items():
        array = np.take(array, places, axis=axis)
    return array


def _prepared(graph: ir.Model) -> ir.Model:
    return infer_shapes(lift_constants(copy_of(graph)))


def _groups(coupling: Coupling) -> list[np.ndarray]:
    """Labels of channels that may go, together those in the same axes of the same weights."""
    places: dict[int, list[int]] = {}
    for number, (value, _, labels) in enumerate(coupling.weights()):
        if value.shape is None or len(value.shape) < 2:
            continue
        for label in np.unique(labels[~coupling.kept[labels]]):
            places.setdefault(int(label), []).append(number)
    groups: dict[tuple[int, ...], list[int]] = {}
    for label, numbers in places.items():
        groups.setdefault(tuple(numbers), []).append(label)
    return [np.asarray(sorted(labels)) for labels in groups.values() if len(labels) > 1]


@dataclass(frozen=True)
class _Bill:
    """What every operation costs, and the labels of the axes it grows with."""

    terms: list[tuple[int, list[np.ndarray]]]

    @classmethod
    def of(cls, model: ir.Model, coupling: Coupling) -> _Bill:
        terms = []
        for (node, around), cost in zip(walk(model.graph), costs(model), strict=True):
            if cost.macs:
                axes = [] if around else list(_axes(node))
                found = [labels for value, axis in axes if (labels := coupling.of(value, axis)) is not None]
                terms.append((cost.macs, found))
        return cls(terms)

    def total(self, removed: np.ndarray) -> int:
        costs = 0
        for macs, axes in self.terms:
            for labels in axes:
                macs = macs * int(np.count_nonzero(~removed[labels])) // len(labels)
            costs += macs
        return costs


def _axes(node: ir.Node) -> Iterable[tuple[ir.Value | None, int]]:
    """The axes whose sizes' product an operation's cost is a multiple of."""
    if node.op_type not in _AXES:
        return
    out = node.outputs[0]
    yield from ((out, axis) for axis in range(len(out.shape) if out.shape is not None else 0))
    if node.op_type in ("Conv", "ConvTranspose"):
        yield node.inputs[1], _AXES[node.op_type][0]
    elif (left := node.inputs[0]) is not None and left.shape is not None:
        is_turned = "transA" in node.attributes and node.attributes["transA"].as_int()
        yield left, 0 if is_turned else len(left.shape) - 1


def _too_dear(least: float) -> UnsupportedError:
    return UnsupportedError(
        f"not so many channels can go: {least:.0%} of the multiply-accumulates would be left at the least",
        hint=f"ask for more than {least:.2f}, or less of 'at_least', 'multiple' and 'skip'",
    )


def _choose(
    groups: list[np.ndarray], scores: np.ndarray, bill: _Bill, most: float, multiple: int, at_least: float
) -> np.ndarray:
    """For every label whether it goes: as few by score as leave at most `most` multiply-accumulates."""
    limits = np.unique(np.concatenate([scores[group] for group in groups])) if groups else np.empty(0)
    low, high = 0, len(limits)
    best = _below(groups, scores, np.inf, multiple, at_least)
    while low < high:
        middle = (low + high) // 2
        tried = _below(groups, scores, float(limits[middle]), multiple, at_least)
        if bill.total(tried) <= most:
            best, high = tried, middle
        else:
            low = middle + 1
    return best


def _below(groups: list[np.ndarray], scores: np.ndarray, limit: float, multiple: int, at_least: float) -> np.ndarray:
    """Marks labels with scores up to the limit, but for those that make up multiples and what every group keeps."""
    removed = np.zeros(len(scores), "bool")
    for group in groups:
        count = max(int(np.count_nonzero(scores[group] > limit)), int(np.ceil(at_least * len(group))), 1)
        count = min(len(group), -(-count // multiple) * multiple)
        removed[group[np.argsort(scores[group], kind="stable")[: len(group) - count]]] = True
    return removed


def _removed(model: ir.Model, coupling: Coupling, plan: ChannelPlan) -> np.ndarray:
    """For every label whether the plan leaves it out, the plan held against the graph."""
    removed = np.zeros(len(coupling.labels), "bool")
    initializers, wrong = model.graph.initializers, []
    for name, axes in plan.kept.items():
        for axis, places in axes.items():
            labels = coupling.of(initializers[name], axis) if name in initializers else None
            if labels is None or not places or max(places) >= len(labels):
                wrong.append(f"{name}, axis {axis}")
                continue
            removed[np.delete(labels, places)] = True
    for value, axis, labels in coupling.weights():
        found = tuple(np.flatnonzero(~removed[labels]).tolist())
        is_whole = len(found) == len(labels)
        if (removed & coupling.kept)[labels].any() or (
            not is_whole and plan.kept.get(value.name or "", {}).get(axis) != found
        ):
            wrong.append(f"{value.name}, axis {axis}")
    if wrong:
        raise UnsupportedError("the plan is of another graph", offenders=wrong, hint="plan and apply on one graph")
    return removed


def _errors(graph: ir.Model, plan: ChannelPlan) -> dict[str, float]:
    """By operation, what its weight has lost: the root of the squares that went over that of all."""
    errors: dict[str, float] = {}
    for node, _ in walk(graph.graph):
        for value in node.inputs:
            array = constant(value) if value is not None and value.name in plan.kept else None
            if value is None or array is None or array.ndim < 2:
                continue
            parts = array, _cut(array, plan.kept[value.name or ""])
            power, left = (float(np.square(part, dtype="float64").sum()) for part in parts)
            lost = float(np.sqrt(max(0.0, 1 - left / power))) if power else 0.0
            errors[node.name or ""] = max(errors.get(node.name or "", 0.0), lost)
    return errors
