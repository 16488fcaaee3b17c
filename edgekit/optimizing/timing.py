"""Units that measure: contenders in turns beside a yardstick, alone on their machine.

What one machine measured is held against nothing but what it measured in the same turns: where several workers
measure, each measures the yardstick too, and ratios to it are what is compared.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.environment import read_environment
from edgekit.errors import ConversionError
from edgekit.feeds import save_feeds
from edgekit.measuring.contest import METHODS
from edgekit.measuring.records import Candidate, Settings
from edgekit.measuring.rounds import Runner
from edgekit.optimizing.journal import key_of
from edgekit.optimizing.kit import open_kit
from edgekit.optimizing.store import Store
from edgekit.spec import Signature

__all__ = ["alone", "hold_final", "look", "machine"]

_FEEDS = 3
_NOT_REPEATABLE = 1e-4

Contender = Mapping[str, Any]
"""``title``, ``format``, ``files``, ``runtime``, ``precision``, ``threads``; ``input_names`` and ``takes``."""


@contextmanager
def alone() -> Iterator[None]:
    """Only one process of a user's on this machine is within it at a time: two that measure disturb each other."""
    path = Path(tempfile.gettempdir()) / f"edgekit-measuring-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def machine() -> dict[str, Any]:
    """What makes latencies of two machines comparable at all."""
    here = read_environment()
    return {"cpu": here.cpu, "features": list(here.features), "cores": here.cores}


def look(
    store: Store, kit: Sequence[tuple[str, str]], contenders: Sequence[Contender], objective: str
) -> dict[str, Any]:
    """A first look: some calls of each in turns, fewer of what has no chance.

    Args:
        store: Has their files.
        kit: For the feeds they are timed with.
        contenders: The yardstick first, where there is one; others in order of preference.
        objective: One of `edgekit.measuring.contest.METHODS`.

    Returns:
        ``standings``, for each title ``score``, ``figures`` and ``reason``; and the ``machine``.
    """
    runners, feeds_of, close = _runners(store, kit, contenders)
    with alone(), tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            standings = METHODS[objective](runners, lambda runner: feeds_of(runner, Path(folder)))
        finally:
            close()
    said = {}
    for contender, runner, standing in zip(contenders, runners, standings, strict=True):
        failure = runner.failure.message if runner.failure is not None else _wrong_arithmetic(contender, runner)
        figures = {**standing.figures, **_further(runner)}
        said[contender["title"]] = {
            "score": None if failure or not np.isfinite(standing.score) else standing.score,
            "figures": {name: float(f"{value:.6g}") for name, value in figures.items()},
            "reason": failure or standing.reason,
            "failed": bool(failure),
            "arithmetic": runner.arithmetic,
        }
    return {"standings": said, "machine": machine()}


def hold_final(
    store: Store,
    kit: Sequence[tuple[str, str]],
    contenders: Sequence[Contender],
    settings: Mapping[str, Any],
    generations: int,
    cold_starts: int,
) -> dict[str, Any]:
    """Many rounds of few contenders; anew in fresh processes, for two of one file differ for as long as they live.

    Returns:
        For each title of ``runs``: ``processes``, of each its rounds of latencies in microseconds; ``cpu_us``;
        ``cold``, of each cold start ``total_ms`` and ``peak_rss_bytes``; or a ``failure``. And the ``machine``.
    """
    chosen = Settings(**settings)
    said: dict[str, dict[str, Any]] = {c["title"]: {"processes": [], "cpu_us": [], "cold": []} for c in contenders}
    with alone(), tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        for turn in range(generations):
            # The other way around each time: who follows whom matters too.
            order = list(contenders) if turn % 2 == 0 else list(contenders)[::-1]
            runners, feeds_of, close = _runners(store, kit, order)
            try:
                _rounds(runners, lambda runner: feeds_of(runner, Path(folder)), chosen, cold_starts if not turn else 0)  # noqa: B023
            finally:
                close()
            for contender, runner in zip(order, runners, strict=True):
                _note(said[contender["title"]], runner)
    return {"runs": said, "machine": machine()}


def _rounds(runners: Sequence[Runner], feeds_of: Callable[[Runner], Path], settings: Settings, starts: int) -> None:
    for runner in runners:
        runner.attempt(runner.open)
        runner.attempt(lambda r=runner: r.prepare(feeds_of(r), settings))  # type: ignore[misc]
    for turn in range(settings.rounds + 1):
        for runner in runners:
            runner.attempt(lambda r=runner, keep=turn > 0: r.time(keep))  # type: ignore[misc]
            runner.attempt(lambda r=runner: _require_repeatable(r))  # type: ignore[misc]
    for runner in runners:
        runner.close()
    for _ in range(starts):
        for runner in runners:
            runner.attempt(lambda r=runner: r.start_cold(feeds_of(r)))  # type: ignore[misc]


def _require_repeatable(runner: Runner) -> None:
    if runner.difference > _NOT_REPEATABLE:
        raise ConversionError(f"timed answers differ from untimed ones by {runner.difference:.1e} of their range")


def _note(said: dict[str, Any], runner: Runner) -> None:
    if runner.failure is not None:
        said["failure"] = runner.failure.message
        return
    said["processes"].append([list(one) for one in runner.rounds])
    said["cpu_us"] += runner.cpu_us
    said["peak_rss_bytes"] = max(runner.peak_rss_bytes or 0, said.get("peak_rss_bytes") or 0) or None
    stages = ("process_ms", "import_ms", "load_ms", "first_run_ms")
    said["cold"] += [
        {"total_ms": sum(one[stage] for stage in stages), "peak_rss_bytes": one["peak_rss_bytes"]}
        for one in runner.cold
    ]


def _further(runner: Runner) -> dict[str, float]:
    """What timing in turns showed beside the score: what a call takes, and the most memory its process had."""
    found = {}
    if runner.rounds:
        found["p50_us"] = float(np.median(np.concatenate(runner.rounds)))
    elif runner.estimate_us:
        found["p50_us"] = runner.estimate_us
    if runner.peak_rss_bytes:
        found["peak_rss_bytes"] = float(runner.peak_rss_bytes)
    return found


def _wrong_arithmetic(contender: Contender, runner: Runner) -> str:
    asked, said = contender["precision"], runner.arithmetic
    if asked != "fp32" and said is not None and said != asked:
        return f"asked for {asked}, {contender['runtime']} computes in {said} here"
    return ""


def _runners(
    store: Store, kit: Sequence[tuple[str, str]], contenders: Sequence[Contender]
) -> tuple[list[Runner], Callable[[Runner, Path], Path], Callable[[], None]]:
    """A runner for each, what writes its feeds into a folder, and what ends them all."""
    reference = open_kit(store, kit).reference
    runners, about = [], {}
    for contender in contenders:
        path = store.open_files(contender["files"])
        options = {} if contender["precision"] == "fp32" else {"precision": contender["precision"]}
        runner = Runner(_candidate(contender, path), path, options)
        about[id(runner)] = contender
        runners.append(runner)

    def feeds_of(runner: Runner, folder: Path) -> Path:
        contender = about[id(runner)]
        place = folder / f"{key_of(contender['title'])[:32]}.npz"
        if not place.exists():
            save_feeds(place, _feeds(reference.feeds, contender))
        return place

    def close() -> None:
        for runner in runners:
            runner.close()

    return runners, feeds_of, close


def _feeds(feeds: Sequence[Mapping[str, np.ndarray]], contender: Contender) -> list[dict[str, np.ndarray]]:
    """Some of the reference's, by the file's names, that fit it and are of one size."""
    names, takes = contender["input_names"], Signature.from_json(contender["takes"])
    renamed = ({names[name]: array for name, array in feed.items()} for feed in feeds)
    fit = [f for f in renamed if all(spec.accepts_shape(np.shape(f[spec.name])) for spec in takes.inputs)]
    sizes = [{name: np.shape(array) for name, array in feed.items()} for feed in fit]
    return [feed for feed, own in zip(fit, sizes, strict=True) if own == sizes[0]][:_FEEDS]


def _candidate(contender: Contender, path: Path) -> Candidate:
    return Candidate(
        variant=contender["title"],
        format=contender["format"],
        precision=None,
        recipe=None,
        runtime=contender["runtime"],
        runtime_version="",
        threads=contender["threads"],
        artifact_sha256="",
        size_bytes=path.stat().st_size,
        in_bundle=False,
    )
