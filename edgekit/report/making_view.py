"""What was made or trained, and data sets that were written, as documents."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.report.document import Block, Document, Fields, table
from edgekit.report.units import dash, megabytes

if TYPE_CHECKING:
    from edgekit.making import MadeModel
    from edgekit.training import TrainingReport

__all__ = ["view", "view_dataset", "view_training"]


def view(made: MadeModel, place: str) -> Document:
    """A file that was made, at `place` as the user typed it, and what to type next."""
    return Document(made.model, (_file(made, place),))


def _file(made: MadeModel, place: str) -> Fields:
    weights = made.weights
    items = [
        ("file", place),
        ("form", made.form),
        ("size", megabytes(made.size_bytes)),
        ("parameters", f"{made.parameters:,}"),
        ("weights", str(weights.get("origin") or f"trained from {weights.get('start')}")),
    ]
    if weights.get("score") is not None:
        items.append((str(weights["metric"]), f"{float(weights['score']):.4f} on the test data of {weights['data']}"))
    if made.form in ("Keras file", "Keras HDF5 file", "SavedModel folder", "ONNX file"):
        items.append(("next", f"edgekit convert {shlex.quote(place)} -o {made.model.partition(':')[0]}.edge"))
    return Fields(tuple(items))


def view_training(report: TrainingReport, place: str) -> Document:
    """How every epoch went, what came out of it, and where it is."""
    losses, judged = (list(report.epochs[-1].losses), list(report.epochs[-1].held_out)) if report.epochs else ([], [])
    rows = []
    for epoch in report.epochs:
        figures = [epoch.losses[name] for name in losses] + [epoch.held_out[name] for name in judged]
        rows.append([str(epoch.number), *(f"{figure:.4f}" for figure in figures), f"{epoch.seconds_s:.1f}"])
    told = [name if "held out" in name else f"{name} held out" for name in judged]
    blocks: list[Block] = [table(["epoch>", *(f"{name}>" for name in (*losses, *told)), "s>"], rows)]
    if report.anew:
        blocks.append(Fields((("started anew", ", ".join(report.anew)),)))
    return Document(f"{report.model} trained on {report.data}", (*blocks, _file(report.made, place)))


def view_dataset(record: Mapping[str, Any]) -> Document:
    """What was written, and how to train on it."""
    labels = record["labels"]
    counts = ", ".join(f"{split} {count}" for split, count in record["samples"].items())
    return Document(
        record["name"],
        (
            Fields(
                (
                    ("folder", record["folder"]),
                    ("task", record["task"] or dash),
                    ("samples", counts),
                    (
                        "labels",
                        f"{len(labels)}: {', '.join(labels[:12])}{', ...' * (len(labels) > 12)}" if labels else dash,
                    ),
                    ("license", record["license"] or dash),
                    ("source", record["source"] or dash),
                )
            ),
        ),
    )
