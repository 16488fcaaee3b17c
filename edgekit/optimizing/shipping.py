"""The bundle of a search: the one that won first, and with it what a device is to be told to run it just so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.bundle import Bundle, BundleWriter, Golden
from edgekit.conversion.reference import Reference
from edgekit.optimizing.making import GOLDEN
from edgekit.optimizing.space import Entrant
from edgekit.optimizing.store import Store
from edgekit.processing import Processing
from edgekit.spec import Signature

__all__ = ["ship"]


def ship(
    writer: BundleWriter,
    store: Store,
    chosen: Sequence[Entrant],
    *,
    name: str,
    target: str,
    signature: Signature,
    processing: Processing,
    reference: Reference,
    provenance: Mapping[str, Any],
) -> Bundle:
    """Writes the bundle; of several ways to run one file the first is kept."""
    seen: set[str] = set()
    for entrant in chosen:
        if entrant.file.name not in seen:
            seen.add(entrant.file.name)
            _add(writer, store, entrant)
    count = min(GOLDEN, len(reference.feeds))
    golden = Golden(
        feeds=tuple(dict(feed) for feed in reference.feeds[:count]),
        outputs=tuple(dict(answer) for answer in reference.answers[:count]),
    )
    return writer.commit(
        name=name,
        signature=signature,
        processing=processing.to_json(),
        target=target,
        golden=golden,
        statistics=reference.statistics(),
        provenance=provenance,
    )


def _add(writer: BundleWriter, store: Store, entrant: Entrant) -> None:
    made, record = entrant.file.made, entrant.record
    assert made is not None
    seen = entrant.file.seen(entrant.runtime, entrant.precision)
    path = store.open_files(made["files"])
    pinned: dict[str, Any] = {"runtime": entrant.runtime, "threads": entrant.threads}
    if entrant.precision != "fp32":
        pinned["precision"] = entrant.precision
    writer.add(
        name=entrant.file.name,
        format=entrant.file.format,
        precision=entrant.file.recipe.precision,
        files=[path.with_name(name) for name, _ in made["files"]],
        input_names=made["input_names"],
        output_names=made["output_names"],
        engine_options=pinned,
        facts={
            **seen["facts"],
            "road": made["road"],
            "recipe": made.get("recipe") or entrant.file.recipe.to_json(),
            **({"compression": made["compression"]} if made.get("compression") else {}),
            "notes": made["notes"],
            "tools": made["tools"],
            "tolerance": {name: max(made["tolerance"][name], limit) for name, limit in seen["tolerance"].items()},
            "gate": "measured by `edgekit optimize` on the machine that made it, see provenance: "
            f"p50 {record.p50_us:.6g} us with {entrant.threads} thread{'s' * (entrant.threads > 1)}",
        },
    )
