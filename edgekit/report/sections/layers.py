"""What each layer is in the shipped variant, and what rounding it costs."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.report.document import Block, Figure, Notes, Section, Table, Words, table
from edgekit.report.pictures import Bar, Bars, Segment
from edgekit.report.sections.shipped import missing, place
from edgekit.report.units import dash, percent
from edgekit.reporting import Layer, Report

__all__ = ["layers_section", "plan_name"]

_MOST = 24


def plan_name(report: Report) -> str:
    """The variant whose plan is shown: the shipped one, or where that has no integers the first that has."""
    names = list(dict.fromkeys(name for layer in report.layers for name in layer.plans))
    return report.shipped if report.shipped in names else names[0]


def layers_section(report: Report) -> Section:
    """The layers that show most first, and those that stayed float with the reason."""
    if not any(layer.plans for layer in report.layers):
        command = "edgekit convert MODEL -o FILE.edge --precision fp32,int8 --calibration-data DATA"
        what = "There is no integer variant, so there are no plans of single layers."
        return Section("Layers", (missing(what, command),))
    name = plan_name(report)
    layers = [layer for layer in report.layers if name in layer.plans]
    is_measured = any(layer.sensitivity_db is not None for layer in layers)
    what = (
        "the outputs when this layer alone is rounded: short bars are the layers that hurt."
        if is_measured
        else "the layer's own rounded weights; how much of that reaches the outputs is another matter."
    )
    known = sorted(
        (layer for layer in layers if _noise(layer, name, is_measured) is not None),
        key=lambda x: _sort(x, name, is_measured),
    )
    shown = known[:_MOST]
    groups = tuple(dict.fromkeys(layer.plans[name].precision for layer in shown))
    bars = tuple(_bar(layer, name, is_measured) for layer in shown)
    fewer = f" The {len(shown)} lowest of {len(known)} are drawn." if len(shown) < len(known) else ""
    caption = f"Signal to noise of {what}{fewer}"
    floats = [layer for layer in layers if layer.plans[name].precision in ("fp32", "fp16")]
    blocks: list[Block] = [
        Words(f"{name}: {len(layers) - len(floats)} of {len(layers)} layers are rounded, {len(floats)} stay float."),
        Figure(Bars(bars, "dB", groups), _table(layers, name), caption=caption) if bars else _table(layers, name),
    ]
    if not is_measured:
        blocks.append(
            missing(
                "What each layer does to the outputs was not measured: no search needed it.",
                f"edgekit convert MODEL -o {place(report)} --precision fp32,auto --calibration-data DATA",
            )
        )
    if reasons := _reasons(floats, name):
        blocks.append(Notes(reasons, "Why layers stay float"))
    return Section("Layers", tuple(blocks))


def _noise(layer: Layer, name: str, is_measured: bool) -> float | None:
    return layer.sensitivity_db if is_measured else layer.plans[name].weights_sqnr_db


def _sort(layer: Layer, name: str, is_measured: bool) -> float:
    found = _noise(layer, name, is_measured)
    return float("inf") if found is None else found


def _bar(layer: Layer, name: str, is_measured: bool) -> Bar:
    db, precision = _sort(layer, name, is_measured), layer.plans[name].precision
    words = f"{db:.1f} dB, {precision}, {percent(layer.macs_share, 1)} of MACs"
    return Bar(f"{layer.name} ({layer.op_type})", (Segment(max(db, 0.0), precision, f"{layer.name}: {words}"),), words)


def _table(layers: Sequence[Layer], name: str) -> Table:
    rows = [
        (
            layer.name,
            layer.op_type,
            layer.plans[name].precision,
            percent(layer.macs_share, 1),
            percent(layer.bytes_share, 1),
            _decibels(layer.plans[name].weights_sqnr_db),
            _decibels(layer.sensitivity_db),
            layer.plans[name].why or dash,
        )
        for layer in layers
    ]
    headings = ["layer", "type", "precision", "MACs>", "weights>", "weights dB>", "alone dB>", "why float"]
    return table(headings, rows, f"Layers of {name}, in the order they run")


def _decibels(value: float | None) -> str:
    return dash if value is None else f"{value:.1f}"


def _reasons(layers: Sequence[Layer], name: str) -> tuple[tuple[str, str], ...]:
    said: dict[str, list[str]] = {}
    for layer in layers:
        said.setdefault(layer.plans[name].why or "no reason is written down", []).append(layer.name)
    return tuple((f"{', '.join(names)}: {reason}", "") for reason, names in said.items())
