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

__all__ = ["flat", "verification_view", "view"]

_SEARCHED = ("searches", "optimization")
"""How a variant was found, trial by trial: too long for a line. `--json` shows it, and `edgekit report` draws it."""


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
        blocks.append(Fields(flat(inspection.processing), "Processing"))
    if inspection.provenance:
        origin = {key: value for key, value in inspection.provenance.items() if key not in _SEARCHED}
        blocks.append(Fields(flat(origin), "Provenance"))
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


def flat(data: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Nested data as dotted names with short values, without empty ones and versions of forms."""
    items: list[tuple[str, str]] = []
    for key, value in data.items():
        if key in ("schema", "version"):
            continue
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            items.extend(flat(value, f"{name}."))
        elif value not in (None, "", [], ()):
            items.append((name, _short(value)))
    return tuple(items)


def _short(value: object) -> str:
    """JSON, but steps of processing as they are read: the operation, then what it is told."""
    if isinstance(value, list) and value and all(isinstance(step, Mapping) and "op" in step for step in value):
        return ", ".join(_step(step) for step in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _step(step: Mapping[str, Any]) -> str:
    return " ".join([str(step["op"]), *(f"{key}={_short(told)}" for key, told in step.items() if key != "op")])


def verification_view(verification: Verification) -> Document:
    """A row for every variant and runtime."""
    rows = [
        (row.variant, row.runtime, row.status, _number(row.max_error), _number(row.tolerance), row.reason or dash)
        for row in verification.rows
    ]
    verdict = "passed" if verification.passed else "did not pass"
    headings = ["variant", "runtime", "status", "largest error>", "allowed>", "reason"]
    where = verification.device or "this device"
    return Document(f"{verification.bundle}: {verdict}", (table(headings, rows, f"Golden answers on {where}"),))


def _number(value: float | None) -> str:
    return dash if value is None else f"{value:.2e}"
