"""The machine, how it was measured, where the files are from, and what makes the numbers less than they seem."""

from __future__ import annotations

from edgekit.report.document import Block, Fields, Notes, Section, table
from edgekit.report.inspection_view import flat
from edgekit.report.profile_view import environment_fields
from edgekit.report.sections.shipped import missing, place
from edgekit.report.units import dash
from edgekit.reporting import Report

__all__ = ["machine_section", "origin_section", "warnings_section"]

_ELSEWHERE = ("layers", "searches", "optimization", "apart")


def warnings_section(report: Report) -> Section | None:
    """Caveats of the profile and of the files; None if there are none."""
    items = [(w.message, w.remedy) for w in report.profile.warnings] if report.profile else []
    items += [(said, "measure again, on this bundle") for said in report.left_out]
    provenance = report.inspection.provenance
    if (provenance.get("calibration") or {}).get("synthetic"):
        items.append(("calibrated on random numbers: the integers fit no real data", "convert with --calibration-data"))
    return Section(f"Warnings ({len(items)})", (Notes(tuple(items)),)) if items else None


def machine_section(report: Report) -> Section:
    """Where and how it was measured."""
    if (profile := report.profile) is None:
        note = missing(
            "Nothing was measured, so no machine is described.", f"edgekit report {place(report)} -o report.html"
        )
        return Section("Machine and method", (note,))
    s = profile.settings
    shapes = ", ".join(f"{name}{shape}" for name, shape in s.feed_shapes.items())
    counts = [len(m.latency.rounds_us) for m in profile.measured if m.latency]
    rounds = (
        dash if not counts else str(max(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    )
    items = [
        ("rounds", f"{rounds}, interleaved, one process for each candidate"),
        ("cold starts", f"{s.cold_starts} fresh processes for each candidate"),
        ("feeds", f"{s.feeds}: {shapes}" if shapes else s.feeds or dash),
        ("seed", str(s.seed)),
    ]
    if profile.ended_by:
        items.append(("ended by", profile.ended_by))
    if profile.device:
        items.append(("device", profile.device))
    energy = sorted({m.energy_reason for m in profile.measured if m.energy_reason})
    items += [("energy", reason) for reason in energy]
    return Section("Machine and method", (environment_fields(profile.environment), Fields(tuple(items), "How")))


def origin_section(report: Report) -> Section:
    """Signature, processing, provenance."""
    inspection = report.inspection
    tensors = [("input", spec) for spec in inspection.signature.inputs]
    tensors += [("output", spec) for spec in inspection.signature.outputs]
    rows = [(s.name, way, s.dtype, "x".join(map(str, s.shape)) or "scalar", s.layout or dash) for way, s in tensors]
    blocks: list[Block] = [table(["tensor", "", "dtype", "shape", "layout"], rows, "Signature")]
    if inspection.variants:
        roads = [
            (
                str(v["name"]),
                str(v["format"]),
                str(v["precision"]),
                str(v.get("road") or dash),
                str(v.get("gate") or dash),
            )
            for v in inspection.variants
        ]
        blocks.append(table(["variant", "format", "precision", "road", "speed when converted"], roads, "Variants"))
    if inspection.processing:
        blocks.append(Fields(flat(inspection.processing), "Processing"))
    origin = {key: value for key, value in inspection.provenance.items() if key not in _ELSEWHERE}
    if origin:
        blocks.append(Fields(flat(origin), "Provenance"))
    return Section("Origin", tuple(blocks))
