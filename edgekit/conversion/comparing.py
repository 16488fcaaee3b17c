"""Files of one recipe in several formats: where one is less accurate than another, what of their plans differs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.recipe import Recipe

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.quantize.plan import GroupedWeight, QuantizedWeight, QuantPlan
    from edgekit.quantize.sensitivity import Sensitivity

__all__ = ["APART_DB", "FormatFile", "explain_formats"]

APART_DB = 1.0
"""Files of one recipe that are further apart than this are explained."""

_SHOWN = 3
_TELLING = [field.name for field in fields(Recipe) if field.name not in ("name", "description")]
_ALIKE = 1e-3
"""Steps that differ by less are the same, rounded."""


@dataclass(frozen=True)
class FormatFile:
    """A file that was accepted, with all that made it what it is.

    Attributes:
        name: Of the variant.
        asked: Name of the recipe that was asked for; files that share it are held beside each other.
        recipe: What was followed: of a search what it found.
        sqnr_db: Against the source; infinity for no noise at all.
        int8_macs_share: What its engine says it runs in integers; None where nobody says.
        road: The vendor's road it came by; empty for the hub.
        graph: The graph its plan is of.
        plan: What was to become integer; None for floats.
        sensitivity: Where a search measured it.
    """

    name: str
    asked: str
    recipe: Recipe
    sqnr_db: float
    int8_macs_share: float | None = None
    road: str = ""
    graph: ir.Model | None = None
    plan: QuantPlan | None = None
    sensitivity: Sensitivity | None = None


def explain_formats(files: Iterable[FormatFile]) -> dict[str, list[str]]:
    """By variant what sets it apart from the most accurate format of its recipe; nothing of those within `APART_DB`.

    Only differences that are there are named, and their noise only where a search has measured it; where plans are
    equal, that is said. Floats of 32 bits are left out: they differ in the last bits of their kernels alone.
    """
    groups: dict[str, list[FormatFile]] = {}
    for file in files:
        if file.recipe.precision != "fp32":
            groups.setdefault(file.asked, []).append(file)
    found = {}
    for group in groups.values():
        best = max(group, key=lambda file: file.sqnr_db)
        found.update({f.name: list(_reasons(f, best)) for f in group if f.sqnr_db < best.sqnr_db - APART_DB})
    return found


def _reasons(mine: FormatFile, best: FormatFile) -> Iterator[str]:
    yield f"{_decibels(mine.sqnr_db)} against the source, where {best.name} has {_decibels(best.sqnr_db)}"
    if made := [file for file in (mine, best) if file.road]:
        yield from (f"{file.name} was made by {file.road}, which decides by itself what is rounded" for file in made)
        return
    ours, theirs = _without_reasons(mine.recipe), _without_reasons(best.recipe)
    if changed := [name for name in _TELLING if getattr(ours, name) != getattr(theirs, name)]:
        yield f"the search found another recipe for it, of other {', '.join(changed)}"
    differences: list[str] = []
    if mine.plan is not None and best.plan is not None:
        differences += [*_operations(mine, best), *_tensors(mine, best), *_weights(mine.plan, best.plan, best.name)]
        yield from differences
    shares = mine.int8_macs_share, best.int8_macs_share
    if shares[0] is not None and shares[1] is not None and abs(shares[0] - shares[1]) >= 0.005:
        yield f"its engine runs {shares[0]:.1%} of the multiplications in integers, that of {best.name} {shares[1]:.1%}"
    yield from _sums(mine, best)
    if not (changed or differences):
        same = "round the same to the same numbers" if mine.plan is not None else "round nothing to integers"
        yield f"the plans of both {same}: what differs is how their engines compute"


def _without_reasons(recipe: Recipe) -> Recipe:
    return replace(recipe, rules=tuple(replace(rule, reason="") for rule in recipe.rules))


def _operations(mine: FormatFile, best: FormatFile) -> Iterator[str]:
    """Operations that are of another form, the most multiplications first."""
    from edgekit.quantize.layers import join_layers, layers_of

    assert mine.graph is not None
    assert best.graph is not None
    parts = [layers_of(f.graph, {f.name: f.plan}, f.sensitivity) for f in (mine, best) if f.graph and f.plan]
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in join_layers(parts):
        ours, theirs = row["plans"].get(mine.name), row["plans"].get(best.name)
        if ours and theirs and ours["precision"] != theirs["precision"]:
            why = ours["why"] or theirs["why"]
            groups.setdefault((ours["precision"], theirs["precision"], why), []).append(row)
    for (ours, theirs, why), rows in sorted(groups.items(), key=lambda item: -_macs(item[1])):
        because = f" ({why})" if why else ""
        names = _listed([_with_noise(row) for row in sorted(rows, key=lambda row: -(row["macs_share"] or 0))])
        yield (
            f"{_count(rows, 'operation')}, {_macs(rows):.1%} of the multiplications, {ours} here and {theirs} in "
            f"{best.name}{because}: {names}"
        )


def _macs(rows: Sequence[Mapping[str, Any]]) -> float:
    return sum((row["macs_share"] or 0.0 for row in rows), 0.0)


def _with_noise(row: Mapping[str, Any]) -> str:
    known = row["sensitivity_db"]
    return str(row["name"]) if known is None else f"{row['name']} ({known:.1f} dB rounded alone)"


def _tensors(mine: FormatFile, best: FormatFile) -> Iterator[str]:
    """Activations that only one of them rounds, and those that both do by other steps."""
    assert mine.plan is not None
    assert best.plan is not None
    ours, theirs = mine.plan.activations, best.plan.activations
    if only := [name for name in ours if name not in theirs]:
        yield f"{_count(only, 'tensor')} rounded here and float in {best.name}{_noise(mine, only)}: {_listed(only)}"
    if only := [name for name in theirs if name not in ours]:
        yield f"{_count(only, 'tensor')} float here and rounded in {best.name}{_noise(best, only)}: {_listed(only)}"
    steps = {name: ours[name].scale[0] / theirs[name].scale[0] for name in ours if name in theirs}
    if other := [name for name, ratio in steps.items() if abs(ratio - 1) > _ALIKE]:
        widest = sorted(other, key=lambda name: -steps[name])
        shown = _listed([f"{name} (x{steps[name]:.2g})" for name in widest])
        yield f"{_count(other, 'tensor')} rounded in other steps than in {best.name}, so many times as wide: {shown}"


def _noise(file: FormatFile, names: Sequence[str]) -> str:
    """What these roundings were measured to bring, together; empty where they were not."""
    if file.sensitivity is None or file.plan is None:
        return ""
    known = file.sensitivity.noises
    units = [u for u in file.sensitivity.units(file.plan) if u.kind == "activation" and u.name in names and u in known]
    noise = float(np.max(sum((known[unit] for unit in units), np.zeros(1)), initial=0.0))
    return f", {-10 * math.log10(noise):.1f} dB together" if noise > 0 else ""


def _weights(ours: QuantPlan, theirs: QuantPlan, best: str) -> Iterator[str]:
    """Constants that both round, to other numbers."""
    mine, other = {**ours.stored, **ours.weights}, {**theirs.stored, **theirs.weights}
    both = [name for name in mine if name in other]
    if differ := [name for name in both if not np.array_equal(_numbers(mine[name]), _numbers(other[name]))]:
        yield f"{_count(differ, 'weight')} rounded to other numbers than in {best}: {_listed(differ)}"


def _numbers(weight: QuantizedWeight | GroupedWeight) -> np.ndarray:
    from edgekit.quantize.plan import GroupedWeight

    return weight.dequantize() if isinstance(weight, GroupedWeight) else weight.params.dequantize(weight.values)


def _sums(mine: FormatFile, best: FormatFile) -> Iterator[str]:
    if mine.sensitivity is None or best.sensitivity is None or mine.plan is None or best.plan is None:
        return
    ours, theirs = mine.sensitivity.predict_db(mine.plan), best.sensitivity.predict_db(best.plan)
    yield (
        f"measured one at a time on {mine.sensitivity.samples} samples, its roundings add up to {_decibels(ours)}, "
        f"those of {best.name} to {_decibels(theirs)}"
    )


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "no noise"


def _count(things: Sequence[Any], word: str) -> str:
    return f"{len(things)} {word}{'s' if len(things) != 1 else ''}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
