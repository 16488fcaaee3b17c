"""Where the time of a call goes, as blocks of a document: the longest operations, and all of them by their type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgekit.measuring.operation_records import Operation, Operations, Roofline
from edgekit.measuring.records import Measurement
from edgekit.report.document import Block, Fields, Notes, Table, table
from edgekit.report.units import dash, percent

__all__ = ["operations_blocks"]

_FAR = 1.25
"""A sum this many times the latency, or one in so many, is said."""


def operations_blocks(measurements: Iterable[Measurement], top: int = 10) -> list[Block]:
    """For each candidate with an account its `top` longest operations and its types; why others have none."""
    blocks: list[Block] = []
    missing, seen = [], list[Roofline]()
    for measurement in measurements:
        found, title = measurement.operations, measurement.candidate.title
        if found is None:
            continue
        if not found.operations:
            missing.append((f"{title}: {found.reason}", ""))
            continue
        blocks += [_longest(found, title, top), _types(found, title), _whole(found, title)]
        if found.roofline is not None and found.roofline not in seen:
            seen.append(found.roofline)
    blocks += [_roof(roofline) for roofline in seen]
    if missing:
        blocks.append(Notes(tuple(missing), "No account of operations"))
    return blocks


def _longest(found: Operations, title: str, top: int) -> Table:
    ordered = sorted(found.operations, key=lambda operation: -operation.time_us)[:top]
    rows = [(_layer(op), op.type, op.precision or dash, *_cost(op)) for op in ordered]
    headings = ["layer", "engine's operation", "in", "us>", "share>", "GMAC/s>", "MAC/B>", "roofline>", "bound by"]
    count = len(found.operations)
    which = f"the {len(rows)} longest of {count} operations" if count > len(rows) else "its operations"
    return table(headings, rows, f"{title}: {which}, longest first")


def _layer(operation: Operation) -> str:
    if operation.layer is None:
        return "(none)"
    others = len(operation.sources) - 1
    return operation.layer + (f" +{others}" if others else "")


def _cost(operation: Operation) -> tuple[str, ...]:
    rate, intensity = operation.macs_per_s, operation.macs_per_byte
    return (
        f"{operation.time_us:.1f}",
        percent(operation.share, 1),
        dash if rate is None else f"{rate / 1e9:.1f}",
        dash if intensity is None or not operation.macs else f"{intensity:.1f}",
        "beyond" if operation.is_beyond else percent(operation.roofline_share),
        operation.bound or dash,
    )


def _types(found: Operations, title: str) -> Table:
    kinds: dict[tuple[str, str], list[Operation]] = {}
    for operation in found.operations:
        kinds.setdefault((operation.type, operation.precision), []).append(operation)
    ordered = sorted(kinds.items(), key=lambda item: -_time(item[1]))
    rows = []
    for (kind, precision), operations in ordered:
        took, macs = _time(operations), sum(operation.macs or 0 for operation in operations)
        rate = dash if not macs or not took else f"{macs / took / 1e3:.1f}"
        share = percent(took / found.sum_us if found.sum_us else None, 1)
        rows.append((kind, precision or dash, str(len(operations)), f"{took:.1f}", share, rate))
    return table(["engine's operation", "in", "count>", "us>", "share>", "GMAC/s>"], rows, f"{title}: by type")


def _time(operations: Sequence[Operation]) -> float:
    return sum(operation.time_us for operation in operations)


def _whole(found: Operations, title: str) -> Fields:
    """How far the account can be trusted, and what it comes to."""
    times = f"{found.sum_us:.0f} us by {found.profiler}, {found.untraced_us:.0f} us without it"
    ratio = found.ratio or 0.0
    if ratio > _FAR:
        times += f": {ratio:.1f}x, so much does the profiler cost; trust what is long"
    elif 0 < ratio < 1 / _FAR:
        times += f": {ratio:.0%}, the rest is between the operations, or in parts of whole microseconds"
    items = [
        ("sum", times),
        ("unmapped", f"{percent(found.unmapped_share, 1)} of the time, in what the engine made up or does not name"),
    ]
    macs = f"{(found.macs or 0) / 1e6:.1f} million"
    if found.macs_unknown_share:
        macs += f", unknown for {percent(found.macs_unknown_share, 1)} of the time"
    items.append(("MACs", macs))
    if found.roofline is not None:
        memory = percent(found.memory_bound_share)
        beyond = _time([op for op in found.operations if op.is_beyond])
        said = f"{'at most ' if beyond else ''}{percent(found.roofline_share)} of it"
        said += f"; {memory} of the time is bound by memory"
        if beyond and found.sum_us:
            said += f"; {percent(beyond / found.sum_us, 1)} of it is in what took less than was measured to be possible"
        items.append(("roofline", said))
    elif found.roofline_reason:
        items.append(("roofline", found.roofline_reason))
    return Fields(tuple(items), f"{title}: the account as a whole")


def _roof(roofline: Roofline) -> Fields:
    rates = [(f"{rate / 1e9:.0f} GMAC/s", kind, roofline.engines[kind]) for kind, rate in roofline.macs_per_s.items()]
    memory = {f"{one.bytes_per_s / 1e9:.0f} GB/s": one.touched_bytes for one in roofline.bandwidths}
    items = [(kind, f"{rate} by {engine}") for rate, kind, engine in rates]
    items.append(("memory", ", ".join(f"{rate} up to {_size(size)}" for rate, size in memory.items())))
    threads = "1 thread" if roofline.threads == 1 else f"{roofline.threads} threads"
    return Fields(tuple(items), f"The roofline: what was measured of this machine with {threads}")


def _size(touched_bytes: int) -> str:
    return f"{touched_bytes >> 20} MiB" if touched_bytes >= 1 << 20 else f"{touched_bytes >> 10} KiB"
