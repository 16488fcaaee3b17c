"""What `convert` is going to do, decided before anything is read or written; ``--dry-run`` prints it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.converter import Converter, DirectRoad
from edgekit.errors import UnsupportedError
from edgekit.recipe import Recipe
from edgekit.target import Target

__all__ = ["Plan", "PlannedVariant", "Road", "make_plan"]

NATIVE_PRECISIONS = ("fp32", "fp16", "w8a8")
"""What a writer that starts from the hub honours."""


@dataclass(frozen=True)
class Road:
    """One way to a variant: through the hub, or a direct one.

    Attributes:
        name: As printed.
        why: Why it comes where it comes.
        direct: The direct road; None for the way through the hub.
    """

    name: str
    why: str
    direct: DirectRoad | None = None


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

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "format": self.format,
            "precision": self.precision,
            "recipe": self.recipe.to_json(),
            "roads": [{"name": road.name, "why": road.why} for road in self.roads],
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
        return any(v.precision == "w8a8" and v.roads for v in self.variants)

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
) -> Plan:
    """Decides the roads to every format and recipe asked for.

    Args:
        source: What the user gave, for printing.
        reader: The converter that reads it.
        target: The device.
        recipes: One a precision.
        formats: Empty for all the target takes, in its order.
        converters: All there are; their writers and direct roads are what can be taken.

    Raises:
        UnsupportedError: Nothing of what was asked for has a road; every reason is listed.
    """
    known = list(converters)
    writers = {c.format: c for c in known if c.writes}
    direct = [road for converter in known for road in converter.roads]

    def plan(recipe: Recipe, format: str) -> PlannedVariant:
        return _plan_variant(reader, target, recipe, format, writers, direct)

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


def _preference(recipe: Recipe) -> int:
    """The order a bundle offers its variants in, by rule and not by measurement: integers, then full floats.

    fp16 files compute in fp32 on CPUs, so they come after fp32, which is nearer to the source.
    """
    return {"w8a8": 0, "fp32": 1, "fp16": 2}.get(recipe.precision, 3)


def _plan_variant(
    reader: Converter,
    target: Target,
    recipe: Recipe,
    format: str,
    writers: dict[str, Converter],
    direct: Sequence[DirectRoad],
) -> PlannedVariant:
    refusal = _refusal(target, format, recipe.precision)
    if refusal:
        return PlannedVariant(format, recipe, refusal=refusal)
    roads = []
    if "hub" in reader.exports and format in writers and recipe.precision in NATIVE_PRECISIONS:
        roads.append(Road(f"{reader.name} -> hub -> {format}", "one quantizer for every format"))
    for road in direct:
        if road.format == format and road.needs in reader.exports and recipe.precision in road.precisions:
            if recipe.rules:
                continue  # a direct road honours no rules of ours
            roads.append(Road(road.name, road.why, road))
    if not roads:
        refusal = f"there is no road from {reader.name} to {format} with recipe {recipe.name!r}"
    return PlannedVariant(format, recipe, tuple(roads), refusal)


def _refusal(target: Target, format: str, precision: str) -> str:
    if reason := target.refusals.get(format, {}).get(precision):
        return reason
    if format not in target.formats:
        return f"{target.title} takes {', '.join(target.formats)}"
    if precision not in target.precisions[format]:
        return f"{target.title} takes {', '.join(target.precisions[format])} as {format}"
    return ""
