"""What `convert` is going to do, decided before anything is read or written; ``--dry-run`` prints it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.converter import Converter, DirectRoad
from edgekit.errors import UnsupportedError
from edgekit.recipe import AUTO, FLOATS, Recipe
from edgekit.target import Target

__all__ = ["HUB", "Hop", "Plan", "PlannedVariant", "Road", "make_plan"]

HUB = "hub"
"""The word for the way through the hub."""


@dataclass(frozen=True)
class Hop:
    """One step of a road: from where to where, and by what."""

    name: str
    how: str


@dataclass(frozen=True)
class Road:
    """One way to a variant: through the hub, or a direct one.

    Attributes:
        name: As printed.
        why: Why it comes where it comes.
        word: What it is asked for by: `HUB`, or the direct road's own.
        hops: Its steps.
        direct: The direct road; None for the way through the hub.
    """

    name: str
    why: str
    word: str
    hops: tuple[Hop, ...]
    direct: DirectRoad | None = None

    def to_json(self) -> dict[str, Any]:
        hops = [{"name": hop.name, "how": hop.how} for hop in self.hops]
        return {"name": self.name, "word": self.word, "why": self.why, "hops": hops}


@dataclass(frozen=True)
class PlannedVariant:
    """A file that was asked for: the roads to it in the order they are tried, or why there is none."""

    format: str
    recipe: Recipe
    roads: tuple[Road, ...] = ()
    refusal: str = ""

    @property
    def precision(self) -> str:
        return self.recipe.precision

    @property
    def name(self) -> str:
        return f"{self.format}-{self.recipe.name}"

    @property
    def hub_roads(self) -> tuple[str, ...]:
        """Names of those of its roads that go through the hub."""
        return tuple(road.name for road in self.roads if road.word == HUB)

    @property
    def is_searched(self) -> bool:
        """Whether its recipe is found by trying files."""
        return self.recipe.name == AUTO

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "format": self.format,
            "precision": self.precision,
            "recipe": self.recipe.to_json(),
            "roads": [road.to_json() for road in self.roads],
            "refusal": self.refusal,
        }


@dataclass(frozen=True)
class Plan:
    """Every variant asked for, in the order the bundle will prefer them.

    Attributes:
        yardsticks: fp32 variants nobody asked for, made only to hold the others of their format against.
    """

    source: str
    kind: str
    target: Target
    variants: tuple[PlannedVariant, ...]
    yardsticks: tuple[PlannedVariant, ...] = ()

    @property
    def needs_calibration(self) -> bool:
        return any(v.recipe.needs_calibration and v.roads for v in self.variants)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "kind": self.kind,
            "target": self.target.name,
            "variants": [variant.to_json() for variant in self.variants],
            "yardsticks": [variant.to_json() for variant in self.yardsticks],
        }


def make_plan(
    source: str,
    reader: Converter,
    target: Target,
    recipes: Sequence[Recipe],
    formats: Sequence[str],
    converters: Iterable[Converter],
    road: str = "",
) -> Plan:
    """Decides the roads to every format and recipe asked for.

    Args:
        source: What the user gave, for printing.
        reader: The converter that reads it.
        target: The device.
        recipes: One a precision.
        formats: Empty for all the target takes, in its order.
        converters: All there are; their writers and direct roads are what can be taken.
        road: The word of the only road to be taken; empty for all there are, the best first.

    Raises:
        UnsupportedError: Nothing of what was asked for has a road; every reason is listed.
    """
    known = list(converters)
    writers = {c.format: c for c in known if c.writes}
    direct = [one for converter in known for one in converter.roads]
    if road not in (words := ["", HUB, *dict.fromkeys(one.word for one in direct)]):
        raise UnsupportedError(f"there is no road {road!r}", hint=f"known: {', '.join(words[1:])}")

    def plan(recipe: Recipe, format: str) -> PlannedVariant:
        return _plan_variant(reader, target, recipe, format, writers, direct, road)

    wanted = formats or target.formats
    variants = tuple(plan(recipe, format) for recipe in sorted(recipes, key=_preference) for format in wanted)
    if not any(variant.roads for variant in variants):
        raise UnsupportedError(
            f"nothing to convert {source} to", offenders=[f"{v.name}: {v.refusal}" for v in variants]
        )
    measured = {v.format for v in variants if v.precision == "fp32"}
    unmeasured = dict.fromkeys(v.format for v in variants if v.roads and v.format not in measured)
    yardsticks = tuple(plan(Recipe.named("fp32"), format) for format in unmeasured)
    return Plan(source, reader.name, target, variants, yardsticks)


_ORDER = ("w8a8", "w8a8-dynamic", "bf16", "fp32", "w8", "w4g128", "w4g32", "fp16", "w8a16")


def _preference(recipe: Recipe) -> int:
    """The order a bundle offers its variants in, by rule and not by measurement: integers, then full floats.

    Files whose weights alone are small compute in fp32 on CPUs, so they come after fp32, which is nearer to the source.
    """
    return _ORDER.index(recipe.precision)


def _plan_variant(
    reader: Converter,
    target: Target,
    recipe: Recipe,
    format: str,
    writers: dict[str, Converter],
    direct: Sequence[DirectRoad],
    wanted: str,
) -> PlannedVariant:
    refusal = _refusal(target, format, recipe.precision)
    if refusal:
        return PlannedVariant(format, recipe, refusal=refusal)
    able = [
        one
        for one in direct
        # A direct road honors no rules of ours.
        if one.format == format and one.needs in reader.exports and recipe.precision in one.precisions
        and recipe == Recipe.named(recipe.precision)
    ]  # fmt: skip
    roads = [_direct_road(one) for one in able if recipe.precision in one.better_at]
    if "hub" in reader.exports and format in writers:
        roads.append(_through_hub(reader, writers[format], recipe))
    roads += [_direct_road(one) for one in able if recipe.precision not in one.better_at]
    taken = tuple(one for one in roads if wanted in ("", one.word))
    if not taken:
        which = f" {wanted!r}" if wanted else ""
        refusal = f"there is no road{which} from {reader.name} to {format} with recipe {recipe.name!r}"
    return PlannedVariant(format, recipe, taken, refusal)


def _direct_road(direct: DirectRoad) -> Road:
    return Road(direct.name, direct.why, direct.word, (Hop(direct.name, "in one step"),), direct)


def _through_hub(reader: Converter, writer: Converter, recipe: Recipe) -> Road:
    hops = [Hop(f"{reader.name} -> hub", reader.reading)]
    if not recipe.precisions <= set(FLOATS):
        hops.append(Hop("hub -> integers", f"edgekit's quantizer, placed as the target wants it for {writer.format}"))
    hops.append(Hop(f"hub -> {writer.format}", writer.writing))
    name = f"{reader.name} -> hub -> {writer.format}"
    return Road(name, "one clean-up and one quantizer for every format", HUB, tuple(hops))


def _refusal(target: Target, format: str, precision: str) -> str:
    if reason := target.refusals.get(format, {}).get(precision):
        return reason
    if format not in target.formats:
        return f"{target.title} takes {', '.join(target.formats)}"
    if precision not in target.precisions[format]:
        return f"{target.title} takes {', '.join(target.precisions[format])} as {format}"
    return ""
