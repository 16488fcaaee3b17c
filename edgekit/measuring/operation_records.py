"""Where the time of a call goes, operation by operation, and what this machine could do at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Bandwidth", "Operation", "Operations", "Roofline"]


@dataclass(frozen=True)
class Bandwidth:
    """Bytes read and written a second by a copy that touches so many bytes in all."""

    touched_bytes: int
    bytes_per_s: float


@dataclass(frozen=True)
class Roofline:
    """The most this machine was seen to do.

    Attributes:
        threads: That did it together.
        macs_per_s: Multiply-accumulates a second by precision: of a product of large matrices by whichever engine here
            is fastest at it.
        engines: Whose product that was.
        bandwidths: By the memory that holds what is touched, small to large.
    """

    threads: int
    macs_per_s: dict[str, float]
    engines: dict[str, str]
    bandwidths: tuple[Bandwidth, ...]

    def least_us(self, macs: int | None, touched_bytes: int | None, precision: str) -> tuple[float, str] | None:
        """The shortest time it could take, and what sets it: ``"compute"`` or ``"memory"``. None if unknown."""
        if macs is None or touched_bytes is None or (macs and precision not in self.macs_per_s):
            return None
        computing = macs / self.macs_per_s[precision] if macs else 0.0
        fitting = [one for one in self.bandwidths if touched_bytes <= one.touched_bytes] or [self.bandwidths[-1]]
        moving = touched_bytes / fitting[0].bytes_per_s
        return max(computing, moving) * 1e6, "compute" if computing > moving else "memory"

    def raised(self, other: Roofline) -> Roofline:
        """The higher of both: each was seen."""
        macs, engines = dict(self.macs_per_s), dict(self.engines)
        for precision, rate in other.macs_per_s.items():
            if rate > macs.get(precision, 0.0):
                macs[precision], engines[precision] = rate, other.engines[precision]
        pairs = zip(self.bandwidths, other.bandwidths, strict=True)
        bandwidths = tuple(max(pair, key=lambda one: one.bytes_per_s) for pair in pairs)
        return Roofline(self.threads, macs, engines, bandwidths)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Roofline:
        """What `to_json` gave. Raises KeyError or TypeError for anything else."""
        bandwidths = tuple(Bandwidth(**one) for one in data["bandwidths"])
        return cls(data["threads"], data["macs_per_s"], data["engines"], bandwidths)


@dataclass(frozen=True)
class Operation:
    """One operation as the engine ran it.

    Attributes:
        name: The engine's name of it.
        type: The engine's word for what it does.
        layer: The layer of the bundle it is, by its name there, or the operation of the file where the bundle has no
            name for it; of several the one that multiplies. None where the engine made it up or does not say.
        sources: All the layers, or operations of the file, that went into it.
        precision: The arithmetic it ran in.
        time_us: What it took in one call.
        share: Of the time of all.
        macs: Multiply-accumulates of one call; None where that is unknown.
        bytes_moved: Weights and activations read and written at their real widths; None where that is unknown.
        roofline_share: The shortest time this machine could do it in over the time it took. None where one of them is
            unknown, and where it took less than that, which no share can say.
        bound: What sets that shortest time: ``"compute"`` or ``"memory"``.
        is_beyond: Whether it took less: the machine was seen to do less than it can, the engine has an algorithm with
            fewer multiplications, or the time is too short for the profiler's clock.
    """

    name: str
    type: str
    layer: str | None
    sources: tuple[str, ...]
    precision: str
    time_us: float
    share: float
    macs: int | None = None
    bytes_moved: int | None = None
    roofline_share: float | None = None
    bound: str | None = None
    is_beyond: bool = False

    @property
    def macs_per_byte(self) -> float | None:
        """Arithmetic intensity."""
        return self.macs / self.bytes_moved if self.macs is not None and self.bytes_moved else None

    @property
    def macs_per_s(self) -> float | None:
        return self.macs / self.time_us * 1e6 if self.macs and self.time_us else None

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "sources": list(self.sources),
            "macs_per_byte": None if self.macs_per_byte is None else round(self.macs_per_byte, 3),
            "macs_per_s": None if self.macs_per_s is None else round(self.macs_per_s),
        }


@dataclass(frozen=True)
class Operations:
    """The account of an engine's own profiler.

    Attributes:
        reason: Why there is none.
        profiler: Whose it is, in words.
        statistic: How times came of several calls: ``"midmean"``, the mean of the middle half, or what else the
            engine's account allows.
        calls: Of how many.
        operations: In the order they ran in.
        sum_us: All of them together.
        call_us: A call with the profiler on, which slows it.
        untraced_us: One without it, in the same process right before and behind.
        ratio: `sum_us` over `untraced_us`: far from 1, the profiler's own cost or what is between operations prevails.
        unmapped_share: Of the time, what goes to no layer and no operation of the file.
        macs: Of all operations for which they are known.
        macs_unknown_share: Of the time, what goes to operations for which they are not.
        roofline: What the shares are of; None where it could not be measured.
        roofline_reason: Why it is None.
        roofline_share: The shortest time this machine could do all of them in over the time they took, of those for
            which both are known; those that took less count as if they had taken just that.
        memory_bound_share: Of the time, what goes to operations that memory sets the shortest time of.
    """

    reason: str = ""
    profiler: str = ""
    statistic: str = ""
    calls: int = 0
    operations: tuple[Operation, ...] = ()
    sum_us: float | None = None
    call_us: float | None = None
    untraced_us: float | None = None
    ratio: float | None = None
    unmapped_share: float | None = None
    macs: int | None = None
    macs_unknown_share: float | None = None
    roofline: Roofline | None = None
    roofline_reason: str = ""
    roofline_share: float | None = None
    memory_bound_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "operations": [operation.to_json() for operation in self.operations],
            "roofline": None if self.roofline is None else self.roofline.to_json(),
        }
