"""A bench of planted figures: what files and engines would show, with noise, and no file, engine or clock at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgekit.optimizing.exam import Verdict
from edgekit.optimizing.search import Search
from edgekit.optimizing.space import Entrant, File
from edgekit.plan import PlannedVariant, Road
from edgekit.recipe import Recipe
from edgekit.registry import Probe
from edgekit.target import Target

ENGINES = {"swift": ("swift", "plain"), "plain": ("plain",)}
PRECISIONS = ("fp32", "bf16", "w8a8", "w8a8-dynamic", "w8", "fp16")


def engines() -> list[tuple[str, Any]]:
    """Two engines, of which the first also reads the other's format."""
    here = Probe(True, "1.0")
    return [(name, SimpleNamespace(formats=formats, probe=lambda: here)) for name, formats in ENGINES.items()]


def target() -> Target:
    return Target("simulated", "a simulated device", (), ("swift", "plain"),
                  {"swift": PRECISIONS, "plain": tuple(p for p in PRECISIONS if p != "bf16")})  # fmt: skip


def files(*recipes: str) -> list[File]:
    road = Road("by road", "there is one", "hub", ())
    chosen = [Recipe.named(name) for name in (recipes or PRECISIONS)]
    return [
        File(PlannedVariant(format, recipe, (road,)))
        for recipe in chosen
        for format in ("swift", "plain")
        if recipe.precision in target().precisions[format]
    ]


@dataclass
class SimulatedBench:
    """Answers from plants.

    Attributes:
        latency_us: By the start of a title; the longest that fits counts. With two threads a call takes 0.6 of it.
        lost: Of the metric, by the name of the file.
        failing: Names of files that cannot be made, and titles of ways that die when they are looked at.
        noise: Of every single call, as a share; drawn with `seed`.
        shares: Samples of each share of the data.
        late_after: Questions after which time is up.
    """

    latency_us: Mapping[str, float]
    lost: Mapping[str, float] = field(default_factory=dict)
    failing: Sequence[str] = ()
    noise: float = 0.01
    seed: int = 0
    shares: tuple[int, ...] = (32, 128, 500)
    late_after: int = 10**9
    made: list[str] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    judged: list[tuple[str, int]] = field(default_factory=list)
    finals: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    @property
    def is_late(self) -> bool:
        return len(self.made) + len(self.looked) + len(self.judged) >= self.late_after

    @property
    def last_share(self) -> int:
        return len(self.shares) - 1

    def true_us(self, entrant: Entrant) -> float:
        fitting = [key for key in self.latency_us if entrant.title.startswith(key)]
        return self.latency_us[max(fitting, key=len)] * (0.6 if entrant.threads > 1 else 1.0)

    def make(self, files: Sequence[File]) -> None:
        for file in files:
            if self.is_late:
                continue
            self.made.append(file.name)
            if file.name in self.failing:
                file.failure = "by road: the writer refuses"
                continue
            bits = {"w8a8": 8, "w8a8-dynamic": 8, "w8": 8, "fp16": 16}.get(file.recipe.precision, 32)
            file.made = {"size_bytes": bits * 1000, "runtime": file.format, "sqnr_db": 40.0, "agreement": 1.0}

    def accept(self, entrants: Sequence[Entrant]) -> dict[str, str | None]:
        return {e.title: "it gives other shapes" for e in entrants if e.title in self.failing}

    def look(self, groups: Sequence[Sequence[Entrant]]) -> list[Mapping[str, Any] | None]:
        return [None if self.is_late else {e.title: self._standing(e) for e in group} for group in groups]

    def _standing(self, entrant: Entrant) -> dict[str, Any]:
        self.looked.append(entrant.title)
        failed = entrant.title in self.failing
        p50 = self._drawn(entrant, 30)
        return {
            "score": None if failed else p50,
            "figures": {} if failed else {"p50_us": p50, "peak_rss_bytes": 5e7},
            "reason": "its process died of SIGSEGV" if failed else "",
            "failed": failed,
            "arithmetic": entrant.precision,
        }

    def _drawn(self, entrant: Entrant, count: int) -> float:
        return float(np.median(self._calls(entrant, count)))

    def _calls(self, entrant: Entrant, count: int) -> np.ndarray:
        return self.true_us(entrant) * (1 + self.noise * np.abs(self._rng.standard_normal(count)))

    def judge(self, entrants: Sequence[Entrant], share: int) -> list[Verdict | str | None]:
        if self.is_late:
            return [None] * len(entrants)
        return [self._verdict(entrant, share) for entrant in entrants]

    def _verdict(self, entrant: Entrant, share: int) -> Verdict:
        self.judged.append((entrant.title, share))
        count, lost = self.shares[share], self.lost.get(entrant.file.name, 0.0)
        spread = 1.0 / np.sqrt(count) / 5
        gap = max(0.0, lost - 0.005)
        words = f"top1 is {0.9 - lost:.3f} where the source has 0.9" if gap else ""
        return Verdict(0.9 - lost, 0.9, lost, (lost - spread, lost + spread), None, count, gap, words)

    def is_hopeless(self, verdict: Verdict) -> bool:
        return verdict.gap > 0 and verdict.lost_interval is not None and verdict.lost_interval[0] > 0.005

    def final(self, entrants: Sequence[Entrant]) -> Mapping[str, Any]:
        self.finals.append([e.title for e in entrants])
        return {
            e.title: {
                "processes": [[list(self._calls(e, 20)) for _ in range(8)] for _ in range(2)],
                "cpu_us": [],
                "cold": [{"total_ms": 100.0, "peak_rss_bytes": 60_000_000}],
            }
            for e in entrants
        }


def search_with(bench: SimulatedBench, *recipes: str, **settings: Any) -> Search:
    threads, objective = settings.pop("threads", [1, 2]), settings.pop("objective", "latency")
    return Search(files(*recipes), target(), threads, objective, bench, **settings)
