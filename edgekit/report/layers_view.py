"""The layers of a bundle as a document: what each is in every plan, side by side, and what its rounding does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.document import Block, Document, Notes, table
from edgekit.report.units import dash, percent

__all__ = ["layers_view"]


def layers_view(name: str, layers: Sequence[Mapping[str, Any]]) -> Document:
    """A row for each record of `edgekit.quantize.layers.layers_of`, and why operations are float.

    Args:
        name: Of the bundle.
        layers: Its records, of which there is at least one.
    """
    variants = list(dict.fromkeys(variant for layer in layers for variant in layer["plans"]))
    rows = [
        (
            str(layer["name"]),
            str(layer["op_type"]),
            percent(layer["macs_share"], 1),
            percent(layer["bytes_share"], 1),
            *(_form(layer["plans"].get(variant)) for variant in variants),
            _decibels(_weights_db(layer)),
            _decibels(layer["sensitivity_db"]),
        )
        for layer in layers
    ]
    headings = ["layer", "type", "MACs>", "bytes>", *variants, "weights dB>", "alone dB>"]
    title = "Signal to noise: of the rounded weights, and of the outputs when this layer alone is rounded"
    blocks: list[Block] = [table(headings, rows, title)]
    if reasons := _reasons(layers):
        blocks.append(Notes(reasons, "Not in integers"))
    return Document(f"{name}: layers", tuple(blocks))


def _form(plan: Mapping[str, Any] | None) -> str:
    return dash if plan is None else str(plan["precision"])


def _weights_db(layer: Mapping[str, Any]) -> float | None:
    """That of the plan whose weights are worst off."""
    known = [plan["weights_sqnr_db"] for plan in layer["plans"].values()]
    return min((value for value in known if value is not None), default=None)


def _decibels(value: float | None) -> str:
    return dash if value is None else f"{value:.1f}"


def _reasons(layers: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """A line for each reason, with the layers and variants it holds for."""
    said: dict[str, dict[str, list[str]]] = {}
    for layer in layers:
        for variant, plan in layer["plans"].items():
            if plan["why"]:
                said.setdefault(plan["why"], {}).setdefault(str(layer["name"]), []).append(variant)
    return tuple((f"{_places(names)}: {reason}", "") for reason, names in said.items())


def _places(names: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{name} ({', '.join(variants)})" for name, variants in names.items())
