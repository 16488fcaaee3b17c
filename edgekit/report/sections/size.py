"""What the files weigh, and which layers the weights belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgekit.report.document import Block, Figure, Section, table
from edgekit.report.pictures import Bar, Bars, Segment
from edgekit.report.sections.layers import plan_name
from edgekit.report.sections.shipped import missing
from edgekit.report.units import megabytes, percent, ratio
from edgekit.reporting import Layer, Report

__all__ = ["size_section"]

_MOST = 12


def size_section(report: Report) -> Section:
    """Variants by size, weights by layer, type and precision, then every file."""
    blocks: list[Block] = []
    if report.inspection.variants:
        blocks.append(_variants(report))
    weighed = [layer for layer in report.layers if layer.bytes_share and layer.plans]
    if weighed:
        blocks += _weights(report, weighed)
    else:
        note = "Which layers the weights belong to is written down for integer variants only."
        blocks.append(missing(note, "edgekit convert MODEL -o FILE.edge --precision fp32,int8 --calibration-data DATA"))
    rows = [
        (part.path, part.role, megabytes(part.size_bytes), ", ".join(part.variants) or "all") for part in report.parts
    ]
    total = sum(part.size_bytes for part in report.parts)
    blocks.append(table(["file", "for", "size>", "variants"], rows, f"Files, {megabytes(total)} in all"))
    return Section("Size", tuple(blocks))


def _variants(report: Report) -> Figure:
    fp32 = {v["format"]: int(v["size_bytes"]) for v in report.inspection.variants if v["precision"] == "fp32"}
    bars, rows = [], []
    for variant in sorted(report.inspection.variants, key=lambda v: int(v["size_bytes"])):
        name, size = str(variant["name"]), int(variant["size_bytes"])
        base = fp32.get(variant["format"])
        smaller = f"{base / size:.2f}x smaller than fp32" if base and base > size else ""
        words = ", ".join(filter(None, (megabytes(size), smaller)))
        precision = str(variant["precision"])
        bars.append(Bar(name, (Segment(size / 1000, precision, f"{name}: {words}"),), words))
        rows.append((name, str(variant["format"]), precision, megabytes(size), ratio(size / base if base else None)))
    groups = tuple(dict.fromkeys(str(v["precision"]) for v in report.inspection.variants))
    headings = ["variant", "format", "precision", "files>", "size / fp32>"]
    return Figure(Bars(tuple(bars), "kB", groups), table(headings, rows, "Variants by size"), "Variants")


def _weights(report: Report, layers: list[Layer]) -> Iterable[Block]:
    name = plan_name(report)
    ordered = sorted(layers, key=lambda layer: -(layer.bytes_share or 0))
    bars = tuple(
        Bar(
            f"{layer.name} ({layer.op_type})",
            (
                Segment(
                    100 * (layer.bytes_share or 0),
                    _precision(layer, name),
                    f"{layer.name}: {percent(layer.bytes_share, 1)}",
                ),
            ),
            f"{percent(layer.bytes_share, 1)}, {_precision(layer, name)}",
        )
        for layer in ordered[:_MOST]
    )
    rows = [(layer.name, layer.op_type, _precision(layer, name), percent(layer.bytes_share, 2)) for layer in ordered]
    groups = tuple(dict.fromkeys(_precision(layer, name) for layer in ordered))
    fewer = f" The {_MOST} heaviest of {len(ordered)} are drawn." if len(ordered) > _MOST else ""
    yield Figure(
        Bars(bars, "% of the weights", groups),
        table(["layer", "type", "precision", "of the weights>"], rows, f"Weights by layer, precisions of {name}"),
        "Weights by layer",
        f"Shares are of the source's bytes; colors are what {name} makes of them.{fewer}",
    )
    yield _grouped(layers, lambda layer: layer.op_type, "type")
    yield _grouped(layers, lambda layer: _precision(layer, name), "precision")


def _precision(layer: Layer, name: str) -> str:
    return layer.plans[name].precision if name in layer.plans else "fp32"


def _grouped(layers: list[Layer], key: Callable[[Layer], str], what: str) -> Block:
    sums: dict[str, list[Layer]] = {}
    for layer in layers:
        sums.setdefault(key(layer), []).append(layer)
    rows = sorted(
        ((name, len(group), sum(x.bytes_share or 0 for x in group)) for name, group in sums.items()),
        key=lambda row: -row[2],
    )
    cells = [(name, str(count), percent(share, 1)) for name, count, share in rows]
    return table([what, "layers>", "of the weights>"], cells, f"Weights by {what}")
