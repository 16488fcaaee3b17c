"""The promise, measured: a quantized file that is slower than its fp32 twin in the same engine is not shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgekit.converter import Feeds
from edgekit.errors import ConversionError
from edgekit.measuring.records import Candidate, Settings
from edgekit.measuring.rounds import Runner, run_rounds
from edgekit.measuring.statistics import contrast
from edgekit.spec import Signature

__all__ = ["SpeedComparison", "TimedFile", "compare_speed"]

_SETTINGS = Settings(rounds=12, min_samples=120, min_time_s=0.4, max_time_s=8.0, warmup_s=0.1, cold_starts=0, seed=0)
_FEEDS = 3


@dataclass(frozen=True)
class TimedFile:
    """A file, and what each of the source's inputs is called in it."""

    path: Path
    input_names: Mapping[str, str]


@dataclass(frozen=True)
class SpeedComparison:
    """Two files in one engine, timed in turns.

    Attributes:
        verdict: ``"faster"``, ``"same"``, ``"slower"`` or ``"unclear"``, by `edgekit.measuring.statistics.contrast`: of
            one process of each, so slower is by more than the 2.8 % that processes of one file may differ by.
        ratio: Median over rounds of the file's median latency over the base's.
        p50_us: Median latency of the file.
        base_p50_us: Median latency of the base.
        runtime: The runtime both ran in.
    """

    verdict: str
    ratio: float
    p50_us: float
    base_p50_us: float
    runtime: str

    def __str__(self) -> str:
        return (
            f"x{self.ratio:.2f} the time of fp32 in {self.runtime} on this machine "
            f"(p50 {self.p50_us / 1000:.3g} against {self.base_p50_us / 1000:.3g} ms, {_SETTINGS.rounds} paired rounds)"
        )


def compare_speed(
    file: TimedFile, base: TimedFile, feeds: Sequence[Feeds], *, format: str, runtime: str, threads: int | None
) -> SpeedComparison:
    """Times `file` against `base` in turns, each in a process of its own.

    Args:
        file: What is to be no slower.
        base: What it is held against.
        feeds: By the source's names, such as both were accepted with; the first that fit, of one size, are timed.
        format: Of both.
        runtime: For both.
        threads: For both.

    Raises:
        ConversionError: One of them does not run.
    """
    runners = [Runner(_candidate(one.path, format, runtime, threads), one.path) for one in (file, base)]
    with TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            run_rounds(runners, lambda s: _renamed(feeds, s, (file, base)), Path(folder), _SETTINGS, lambda step: None)
        finally:
            for runner in runners:
                runner.close()
    for runner, what in zip(runners, ("it", "fp32"), strict=True):
        if runner.failure is not None:
            raise ConversionError(f"{what} cannot be timed: {runner.failure.message}") from runner.failure
    mine, base_rounds = (runner.rounds for runner in runners)
    found = contrast([(mine, base_rounds)])
    return SpeedComparison(
        verdict=found.verdict,
        ratio=found.ratio,
        p50_us=float(np.median(np.concatenate(mine))),
        base_p50_us=float(np.median(np.concatenate(base_rounds))),
        runtime=runtime,
    )


def _candidate(path: Path, format: str, runtime: str, threads: int | None) -> Candidate:
    return Candidate(
        variant=path.name,
        format=format,
        precision=None,
        recipe=None,
        runtime=runtime,
        runtime_version="",
        threads=threads,
        artifact_sha256="",
        size_bytes=path.stat().st_size,
        in_bundle=False,
    )


def _renamed(feeds: Sequence[Feeds], signature: Signature, files: Sequence[TimedFile]) -> list[dict[str, np.ndarray]]:
    """Feeds for the file of this signature. Random numbers would not do: they may be no rows of a table it looks up."""
    taken = {spec.name for spec in signature.inputs}
    names = next((file.input_names for file in files if set(file.input_names.values()) == taken), None)
    if names is None:
        raise ConversionError(f"it takes {', '.join(sorted(taken))} now, and was accepted with other inputs")
    renamed = ({names[name]: array for name, array in feed.items()} for feed in feeds)
    fit = [f for f in renamed if all(spec.accepts_shape(np.shape(f[spec.name])) for spec in signature.inputs)]
    sizes = [{name: np.shape(array) for name, array in feed.items()} for feed in fit]
    return [feed for feed, own in zip(fit, sizes, strict=True) if own == sizes[0]][:_FEEDS]
