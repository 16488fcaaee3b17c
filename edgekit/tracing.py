"""What an engine's own profiler says of one call, operation by operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

from edgekit.record import Record

__all__ = ["OpTime", "Traced", "bytes_of", "midmean"]

_BITS = {
    "float": 32, "float16": 16, "bfloat16": 16, "double": 64, "bool": 8, "boolean": 8, "string": 0,
    "f32": 32, "f16": 16, "bf16": 16, "f64": 64, "f8e4m3": 8, "f8e5m2": 8, "nf4": 4, "bin": 1,
    "float8e4m3fn": 8, "float8e5m2": 8, "complex64": 64,
}  # fmt: skip


class OpTime(Record):
    """One operation as an engine ran it, in a call like any other but for the profiler.

    Attributes:
        name: The engine's name of it.
        type: The engine's word for what it does, such as ``"QLinearConv"``.
        precision: The arithmetic it ran in: ``"int8"``, ``"fp32"``, ...
        time_us: What it took in one call, all its runs in a loop together, without what ran inside it.
        macs: Multiply-accumulates of one call: 0 where nothing is multiplied and summed, None where that is unknown.
        bytes_moved: Weights and activations it reads, and what it writes, at the widths they have in memory; None
            where a shape is unknown.
        sources: The operations of the file it stands for, the one it is named after first; none where the engine made
            it up, as it does to change a layout, or does not say.
    """

    name: str
    type: str
    precision: str
    time_us: float
    macs: int | None = None
    bytes_moved: int | None = None
    sources: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) if key == "sources" else value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OpTime:
        return cls(**{**data, "sources": tuple(data["sources"])})


class Traced(Record):
    """What `operation_times` of an engine gives.

    Attributes:
        ops: In the order they ran in.
        profiler: Whose account it is, in words.
        statistic: How `time_us` came of several calls: ``"midmean"``, or what else the engine's account allows.
        calls: How many there were.
        call_us: What such a call took with the profiler on.
    """

    ops: tuple[OpTime, ...]
    profiler: str
    statistic: str
    calls: int
    call_us: float

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ops": [op.to_json() for op in self.ops]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Traced:
        return cls(**{**data, "ops": tuple(map(OpTime.from_json, data["ops"]))})


def midmean(values: Sequence[float]) -> float:
    """The mean of the middle half of at least one value: Tukey, "Exploratory Data Analysis", 1977, chapter 19.

    As little moved by outliers as a median, but finer than the clock: profilers count whole microseconds.
    """
    ordered, outside = sorted(values), len(values) // 4
    middle = ordered[outside : len(ordered) - outside]
    return sum(middle) / len(middle)


def bytes_of(tensors: Iterable[tuple[str, Sequence[int]]]) -> int | None:
    """Bytes of tensors by the engine's name of their type and their shape; None where one is not known."""
    total = 0
    for kind, shape in tensors:
        bits = _BITS.get(kind) or _width(kind)
        if not bits or any(size < 0 for size in shape):
            return None
        total += (prod(shape) * bits + 7) // 8
    return total


def _width(kind: str) -> int:
    """The number at the end of ``"int8"`` or ``"u4"``; 0 where there is none."""
    digits = kind[len(kind.rstrip("0123456789")) :]
    return int(digits) if digits else 0
