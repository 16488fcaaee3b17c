"""Units that make a file by a recipe and hold it against the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.conversion.acceptance import Accepted, accept
from edgekit.conversion.accuracy import as_written
from edgekit.conversion.reference import Reference
from edgekit.conversion.searching import Budget
from edgekit.conversion.trials import Bar, Journal
from edgekit.conversion.tuning import SENSITIVE_SAMPLES, Bench, Tuner
from edgekit.conversion.writing import write_through_hub
from edgekit.converter import SourceModel, Written
from edgekit.errors import ConversionError
from edgekit.optimizing.journal import key_of
from edgekit.optimizing.kit import open_kit
from edgekit.optimizing.store import Store
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS

__all__ = ["GOLDEN", "accept_elsewhere", "describe", "find_file", "make_file"]

GOLDEN = 2
"""Of the reference's feeds so many become the bundle's golden samples."""

_BUDGET = Budget(max_trials=16, max_seconds=180.0)
"""Of a recipe that is searched for: it is one file of many."""


def make_file(
    store: Store, kit: Sequence[tuple[str, str]], format: str, recipe: Mapping[str, Any], road: str
) -> dict[str, Any]:
    """Writes a file by way of the hub, runs it in a child and holds it against the source.

    Returns:
        What `describe` gives.

    Raises:
        EdgekitError: It cannot be written, does not run, or is too far from the source.
    """
    opened, chosen = open_kit(store, kit), Recipe.from_json(recipe)
    converter = next(c for _, c in CONVERTERS if c.format == format)
    with TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / f"model{converter.suffix}"
        written = write_through_hub(
            opened.source, opened.preparation, opened.reference, opened.target, chosen, converter, path
        )
        accepted = accept(written, format, chosen, opened.source, opened.reference)
        said = describe(store, written, accepted, opened.source, opened.reference, road)
        effects = opened.preparation.effects_of(chosen) if chosen.compress else []
        return {**said, "compression": [effect.to_json() for effect in effects]}


def find_file(
    store: Store,
    kit: Sequence[tuple[str, str]],
    format: str,
    recipe: Mapping[str, Any],
    road: str,
    bar: Mapping[str, Any],
) -> dict[str, Any]:
    """Searches the recipe of a format that keeps `bar` on the samples held out, and makes the file of it.

    Returns:
        What `describe` gives, with the ``recipe`` and the ``search``.

    Raises:
        ConversionError: There is none; what is in the way is said.
    """
    opened = open_kit(store, kit)
    preparation, source, reference, target = opened.preparation, opened.source, opened.reference, opened.target
    converter = next(c for _, c in CONVERTERS if c.format == format)

    def write(one: Recipe, place: Path) -> Written:
        return write_through_hub(
            source, preparation, reference, target, one, converter, place / f"model{converter.suffix}"
        )

    samples = (reference.real or reference.feeds)[:SENSITIVE_SAMPLES]
    known = store.folder / "searches" / f"{key_of(list(kit), format, dict(bar))[:32]}.jsonl"
    with TemporaryDirectory(prefix="edgekit-") as folder:
        tuner = Tuner(preparation, {format: target.placements[format]}, samples, _BUDGET)
        bench = Bench(format, write, source, reference, Bar(**bar), Path(folder))
        found = tuner.find(bench, journal=Journal(known, format))
        if found.recipe is None:
            raise ConversionError("; ".join(found.in_the_way))
        place = Path(folder) / "found"
        place.mkdir()
        written = write(found.recipe, place)
        accepted = accept(written, format, found.recipe, source, reference)
        said = describe(store, written, accepted, source, reference, road)
        return {**said, "recipe": replace(found.recipe, name=recipe["name"]).to_json(), "search": found.to_json()}


def describe(
    store: Store, written: Written, accepted: Accepted, source: SourceModel, reference: Reference, road: str
) -> dict[str, Any]:
    """All that is to be known of a file later, and the file itself in the store.

    Returns:
        ``files``, names and hashes; ``size_bytes``; ``road``; what `_seen` says; the road's ``notes`` and ``tools``.
    """
    files = store.put_files(written.files)
    return {
        "files": files,
        "blobs": [digest for _, digest in files],
        "size_bytes": sum(file.stat().st_size for file in written.files),
        "road": road,
        "notes": list(written.notes),
        "tools": dict(written.versions),
        "sizes": dict(written.sizes),
        **_seen(accepted, source, reference),
    }


def accept_elsewhere(
    store: Store,
    kit: Sequence[tuple[str, str]],
    format: str,
    recipe: Mapping[str, Any],
    files: Sequence[tuple[str, str]],
    sizes: Mapping[str, int],
    runtime: str,
    precision: str,
) -> dict[str, Any]:
    """Holds a file that is made against the source again, with another runtime or in another arithmetic."""
    opened = open_kit(store, kit)
    path = store.open_files(files)
    written = Written(tuple(path.with_name(name) for name, _ in files), sizes=sizes)
    chosen = Recipe.from_json(recipe)
    if precision != "fp32" and chosen.max_relative is not None:
        chosen = Recipe.named(precision)  # what such arithmetic is held to
    accepted = accept(written, format, chosen, opened.source, opened.reference, runtime=runtime, precision=precision)
    return _seen(accepted, opened.source, opened.reference)


def _seen(accepted: Accepted, source: SourceModel, reference: Reference) -> dict[str, Any]:
    parity = accepted.parity.to_json()
    return {
        "runtime": accepted.runtime,
        "arithmetic": accepted.trial.precision,
        "input_names": dict(accepted.trial.input_names),
        "output_names": dict(accepted.output_names),
        "takes": accepted.trial.signature.to_json(),
        "reads": as_written(source.signature, accepted).to_json(),
        "facts": accepted.facts(),
        "tolerance": accepted.tolerance(reference.answers, range(min(GOLDEN, len(reference.feeds)))),
        "sqnr_db": parity["sqnr_db"],
        "agreement": parity["top1_agreement"],
    }
