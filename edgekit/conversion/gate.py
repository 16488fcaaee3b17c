"""The promise, measured: a quantized file that is slower than its fp32 twin in the same engine is not shipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgekit.errors import ConversionError
from edgekit.feeds import random_feeds
from edgekit.measuring.records import Candidate, Settings
from edgekit.measuring.rounds import Runner, run_rounds
from edgekit.measuring.statistics import compare_rounds
from edgekit.spec import Signature

__all__ = ["SpeedComparison", "compare_speed"]

_SETTINGS = Settings(rounds=12, min_samples=120, min_time_s=0.4, max_time_s=8.0, warmup_s=0.1, cold_starts=0, seed=0)


@dataclass(frozen=True)
class SpeedComparison:
    """Two files in one engine, timed in turns.

    Attributes:
        verdict: ``"faster"``, ``"same"``, ``"slower"`` or ``"unclear"``, by a test over paired rounds.
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


def compare_speed(file: Path, base: Path, *, format: str, runtime: str, threads: int | None) -> SpeedComparison:
    """Times `file` against `base` in turns, each in a process of its own.

    Raises:
        ConversionError: One of them does not run.
    """
    runners = [Runner(_candidate(path, format, runtime, threads), path) for path in (file, base)]
    with TemporaryDirectory(prefix="edgekit-") as folder:
        run_rounds(runners, _feeds, Path(folder), _SETTINGS, lambda step: None)
    for runner in runners:
        if runner.failure is not None:
            raise ConversionError(f"cannot be timed: {runner.failure.message}") from runner.failure
    mine, base_rounds = (runner.rounds for runner in runners)
    ratios = [np.median(a) / np.median(b) for a, b in zip(mine, base_rounds, strict=True)]
    return SpeedComparison(
        verdict=compare_rounds(mine, base_rounds),
        ratio=float(np.median(ratios)),
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


def _feeds(signature: Signature) -> list[dict[str, np.ndarray]]:
    # One at a time: `random_feeds` gives open dimensions another size at every turn.
    return [random_feeds(signature, count=1, seed=seed)[0] for seed in range(3)]
