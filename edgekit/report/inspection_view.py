"""An `Inspection` and a `Verification` as documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.report.conversion_view import parity_words, synthetic_words
from edgekit.report.document import Block, Document, Fields, table
from edgekit.report.units import dash, megabytes, percent

if TYPE_CHECKING:
    from edgekit.inspection import Inspection
    from edgekit.verification import Verification

__all__ = ["verification_view", "view"]


def view(inspection: Inspection) -> Document:
    """Signature, processing, variants and where it all came from."""
    signature = inspection.signature
    tensors = [("input", spec) for spec in signature.inputs] + [("output", spec) for spec in signature.outputs]
    rows = [
        (way, s.name, s.dtype, "x".join(str(d) for d in s.shape) or "scalar", s.layout or dash) for way, s in tensors
    ]
    blocks: list[Block] = [table(["", "tensor", "dtype", "shape", "layout"], rows, "Signature")]
    if inspection.variants:
        blocks.append(_variants(inspection))
    if inspection.processing:
        blocks.append(Fields(_flat(inspection.processing), "Processing"))
    if inspection.provenance:
        origin = {key: value for key, value in inspection.provenance.items() if key != "searches"}
        blocks.append(Fields(_flat(origin), "Provenance"))
    kind = f"{inspection.kind} for {inspection.target}" if inspection.target else inspection.kind
    return Document(f"{inspection.name}: {kind}{synthetic_words(inspection.provenance)}", tuple(blocks))


def _variants(inspection: Inspection) -> Block:
    rows = [
        (
            variant["name"],
            variant["format"],
            variant["precision"],
            megabytes(variant["size_bytes"]),
            percent(variant.get("int8_macs_share")),
            parity_words(variant.get("parity")),
            str(variant.get("road") or dash),
        )
        for variant in inspection.variants
    ]
    headings = ["variant", "format", "precision", "size>", "int8 share>", "parity with the source", "road"]
    return table(headings, rows, "Variants, in the order a device takes them")


def _flat(data: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Nested data as dotted names with short values, without empty ones and versions of forms."""
    items: list[tuple[str, str]] = []
    for key, value in data.items():
        if key in ("schema", "version"):
            continue
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            items.extend(_flat(value, f"{name}."))
        elif value not in (None, "", [], ()):
            items.append((name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return tuple(items)


def verification_view(verification: Verification) -> Document:
    """A row for every variant and runtime."""
    rows = [
        (row.variant, row.runtime, row.status, _number(row.max_error), _number(row.tolerance), row.reason or dash)
        for row in verification.rows
    ]
    verdict = "passed" if verification.passed else "did not pass"
    headings = ["variant", "runtime", "status", "largest error>", "allowed>", "reason"]
    return Document(f"{verification.bundle}: {verdict}", (table(headings, rows, "Golden answers on this device"),))


def _number(value: float | None) -> str:
    return dash if value is None else f"{value:.2e}"
