"""The choice of variant, runtime and threads for this device: measured once, remembered, and open to inspection."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.cache import cache_folder
from edgekit.cores import num_cores
from edgekit.errors import ArtifactError, InputError
from edgekit.hashing import sha256_hex
from edgekit.record import Record, field

if TYPE_CHECKING:
    import numpy as np

    from edgekit.bundle import Artifact, Golden
    from edgekit.measuring.records import Candidate
    from edgekit.spec import Signature

__all__ = [
    "OBJECTIVES",
    "Choice",
    "Contender",
    "FallbackWarning",
    "Question",
    "announce",
    "decide",
    "forget",
    "require_objective",
    "warn_fallback",
]

SCHEMA = "edgekit.choice"
VERSION = 1

OBJECTIVES = ("latency", "throughput", "memory", "startup", "cpu-time")
"""What a choice can be made for; `edgekit.measuring.contest` says how each is scored."""

_FEEDS = 2


class FallbackWarning(UserWarning):
    """What was to be taken first failed here, and something else was taken: the message says which, and why."""


class Contender(Record):
    """One way to run the model on this device.

    Attributes:
        variant: Name in the bundle; of a bare file the file's.
        runtime: What opens it.
        threads: Threads of one call; None leaves it to the engine.
        figures: What was measured, with units in the names; empty where nothing was.
        status: ``"usable"``; ``"hopeless"`` when a first look was enough; ``"failed"`` when it did not run here or not
            right; ``"absent"`` when its engine is not here; ``"untried"`` when nothing was.
        reason: Why it is not "usable".
    """

    variant: str
    runtime: str
    threads: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    status: str = "untried"
    reason: str = ""

    @property
    def title(self) -> str:
        return f"{self.variant} on {self.runtime}" + ("" if self.threads is None else f" x{self.threads}")


class Choice(Record):
    """What a session runs, and why: ``session.choice``.

    Attributes:
        taken: What runs.
        why: In words.
        how: ``"order"`` of the manifest, among what was asked for; ``"measured"`` just now, or ``"remembered"``.
        objective: What it was measured for; None where nothing was measured.
        others: Whatever else there was, best first, with figures or the reason.
        record: The file the choice is remembered in.
    """

    taken: Contender
    why: str
    how: str
    objective: str | None = None
    others: tuple[Contender, ...] = ()
    record: Path | None = None

    @property
    def variant(self) -> str:
        return self.taken.variant

    @property
    def runtime(self) -> str:
        return self.taken.runtime

    @property
    def threads(self) -> int | None:
        return self.taken.threads

    @property
    def figures(self) -> Mapping[str, float]:
        return self.taken.figures

    def to_json(self) -> dict[str, Any]:
        from dataclasses import asdict

        record = None if self.record is None else str(self.record)
        return {**asdict(self), "record": record}


class Question(Record):
    """What there is to choose from, and for what.

    Attributes:
        path: The bundle's folder, or a bare model file.
        identity: SHA-256 of the manifest, or of the bare file.
        pairs: Variants with a runtime each, in the manifest's order, whether or not it works here.
        threads: Threads asked for; None when they are to be chosen as well.
        objective: One of `OBJECTIVES`.
        options: Further arguments of `edgekit.load` that decide what runs.
        golden: Gives inputs to measure with; None for a bare file, which is measured with random ones.
    """

    path: Path
    identity: str
    pairs: tuple[tuple[Artifact, str], ...]
    threads: int | None
    objective: str
    options: Mapping[str, Any]
    golden: Callable[[], Golden] | None = None


def require_objective(objective: str) -> None:
    """Raises InputError for what is not one of `OBJECTIVES`."""
    if objective not in OBJECTIVES:
        raise InputError(f"there is no objective {objective!r}", hint=f"one of {', '.join(OBJECTIVES)}")


def decide(question: Question) -> list[Choice]:
    """Choices in the order they are to be tried: as remembered, or measured now and remembered.

    Returns:
        Nothing when no engine of the question is here, and when this device has no place to remember a choice in: it
        is then not measured, with a `FallbackWarning`, as that would be done again at every load.

    Raises:
        ArtifactError: Every variant an engine is here for failed, each in a process of its own.
    """
    about = _identity(question)
    file = cache_folder() / "choices" / f"{sha256_hex(_canonical(about))[:32]}.json"
    if remembered := _read(file, about, question):
        return _choices(remembered, question.objective, "remembered", file)
    if not _has_place(file.parent):
        _warn(f"nothing was measured: {file.parent} cannot be written, so the choice could not be remembered; the "
              "manifest's order is taken. Set EDGEKIT_CACHE to a folder that can be")  # fmt: skip
        return []
    from edgekit.staging import locked

    with locked(file.parent):
        # Another process that measured the same meanwhile has left its answer; two at once would disturb each other.
        if remembered := _read(file, about, question):
            return _choices(remembered, question.objective, "remembered", file)
        contenders = _measure(question)
        choices = _choices(contenders, question.objective, "measured", file)
        failed = [f"{c.title}: {c.reason}" for c in contenders if c.status == "failed"]
        if failed and not choices:
            raise ArtifactError(
                "no variant runs here: " + "; ".join(failed), hint="edgekit verify shows each by itself"
            )
        if choices:
            _write(file, about, contenders)
    return choices


def announce(choice: Choice, *, strict: bool) -> None:
    """Warns of every variant that failed when they were measured. Raises ArtifactError instead when `strict`."""
    failed = {(one.variant, one.runtime): one.reason for one in choice.others if one.status == "failed"}
    for (variant, runtime), reason in failed.items():
        said = f"{variant} on {runtime} failed when it was measured on this device: {reason}"
        if strict:
            raise ArtifactError(said, hint="strict=False goes on with the others")
        _warn(f"{said}; {choice.taken.title} is taken")


def warn_fallback(failed: Contender, error: Exception, taken: Contender) -> None:
    """Warns that `taken` is taken in place of `failed`."""
    _warn(f"{failed.title} failed on this device: {error}; {taken.title} is taken in its place")


def _warn(message: str) -> None:
    """A warning that points at the first line that is not edgekit's own."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("edgekit."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, FallbackWarning, stacklevel=level)


def forget(choice: Choice) -> None:
    """Removes the record of a choice that turned out not to work."""
    if choice.record is not None:
        choice.record.unlink(missing_ok=True)


def _choices(contenders: Sequence[Contender], objective: str, how: str, file: Path) -> list[Choice]:
    taken = [one for one in contenders if one.status in ("usable", "hopeless")]
    measured = sum(bool(one.figures) for one in contenders)
    return [
        Choice(
            taken=one,
            why=_why(one, rank, measured, objective),
            how=how,
            objective=objective,
            others=tuple(other for other in contenders if other is not one),
            record=file,
        )
        for rank, one in enumerate(taken, start=1)
    ]


def _why(one: Contender, rank: int, measured: int, objective: str) -> str:
    if not one.figures:
        return one.reason or "the only one there is for this device"
    figures = ", ".join(f"{name} {value:.4g}" for name, value in one.figures.items())
    if one.status != "usable":
        return f"{figures}: {one.reason}"
    return f"{figures}: {'best' if rank == 1 else f'number {rank} in'} {objective} of {measured} measured"


# -- measuring ---------------------------------------------------------------------------------------------------


def _measure(question: Question) -> list[Contender]:
    """Everything there is, best first, then what failed, then what is not here."""
    from edgekit.measuring.contest import hold_contest
    from edgekit.registry import RUNTIMES

    probes = {runtime: RUNTIMES.get(runtime).probe() for _, runtime in question.pairs}
    absent = [
        Contender(artifact.name, runtime, status="absent", reason=probes[runtime].reason)
        for artifact, runtime in question.pairs
        if not probes[runtime].available
    ]
    candidates = [
        _candidate(artifact, runtime, probes[runtime].version, threads, question.golden is not None)
        for artifact, runtime in question.pairs
        if probes[runtime].available
        for threads in thread_counts(question, artifact)
    ]
    if len(candidates) <= 1:
        return [*(Contender(c.variant, c.runtime, c.threads, status="usable") for c in candidates), *absent]

    def feeds(signature: Signature) -> list[dict[str, np.ndarray]]:
        return _feeds(question, signature)

    standings = hold_contest(candidates, question.path, feeds, question.objective, question.options)
    measured = [
        Contender(
            variant=one.candidate.variant,
            runtime=one.candidate.runtime,
            threads=one.candidate.threads,
            figures={name: round(value, 3) for name, value in one.figures.items()},
            status="failed" if one.is_failure else "hopeless" if one.reason else "usable",
            reason=one.reason,
        )
        for one in standings
    ]
    return [*measured, *absent]


def thread_counts(question: Question, artifact: Artifact) -> list[int]:
    """One thread, all cores, and what the bundle says; of memory one thread takes the least, whatever the engine."""
    if question.threads is not None:
        return [question.threads]
    if question.objective == "memory":
        return [1]
    said = artifact.engine_options.get("threads")
    return sorted({1, num_cores(), *([said] if isinstance(said, int) and 1 <= said <= num_cores() else [])})


def _candidate(artifact: Artifact, runtime: str, version: str, threads: int, in_bundle: bool) -> Candidate:
    from edgekit.measuring.records import Candidate

    return Candidate(
        variant=artifact.name,
        format=artifact.format,
        precision=artifact.precision,
        recipe=None,
        runtime=runtime,
        runtime_version=version,
        threads=threads,
        artifact_sha256=artifact.files[0].sha256 if artifact.files else "",
        size_bytes=artifact.size_bytes,
        in_bundle=in_bundle,
    )


def _feeds(question: Question, signature: Signature) -> list[dict[str, np.ndarray]]:
    """The golden inputs that fit this file, all of one shape, or random ones."""
    from edgekit.feeds import random_feeds

    given = [dict(feed) for feed in question.golden().feeds] if question.golden else []
    fitting = [f for f in given if all(s.accepts_shape(f[s.name].shape) for s in signature.inputs if s.name in f)]
    shapes = {name: array.shape for name, array in fitting[0].items()} if fitting else {}
    alike = [feed for feed in fitting if {name: array.shape for name, array in feed.items()} == shapes]
    return alike[:_FEEDS] or [random_feeds(signature, count=1, seed=seed)[0] for seed in range(_FEEDS)]


# -- remembering -------------------------------------------------------------------------------------------------


def _identity(question: Question) -> dict[str, Any]:
    """All that another choice might follow from."""
    from importlib.metadata import entry_points

    from edgekit.environment import read_environment

    here = read_environment()
    plugins = {point.name: f"{point.value} {point.dist.version if point.dist else ''}"
               for point in entry_points(group="edgekit.runtimes")}  # fmt: skip
    return {
        "model": question.identity,
        "variants": [[artifact.name, runtime] for artifact, runtime in question.pairs],
        "objective": question.objective,
        "threads": question.threads,
        "options": dict(question.options),
        "device": {
            "cpu": here.cpu,
            "architecture": here.architecture,
            "features": list(here.features),
            "cores": here.cores,
            "board": here.board,
        },
        "engines": {**here.packages, **plugins},
        "edgekit": here.edgekit,
    }


def _canonical(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, sort_keys=True).encode()


def _read(file: Path, about: Mapping[str, Any], question: Question) -> list[Contender]:
    """What was remembered for exactly this; nothing where there is no record, or one that is not wholly as written."""
    try:
        data = json.loads(file.read_bytes())
        if data["schema"] != SCHEMA or data["version"] != VERSION or data["identity"] != about:
            return []
        contenders = [Contender(**one) for one in data["contenders"]]
        is_whole = data["checksum"] == _checksum(about, contenders)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        # Damaged, cut off, or another program's: it is measured again, and replaced.
        return []
    known = {(artifact.name, runtime) for artifact, runtime in question.pairs}
    is_ours = all((one.variant, one.runtime) in known for one in contenders)
    return contenders if is_whole and is_ours else []


def _write(file: Path, about: Mapping[str, Any], contenders: Sequence[Contender]) -> None:
    from edgekit.staging import write_atomically

    data = {
        "schema": SCHEMA,
        "version": VERSION,
        "identity": about,
        "contenders": [vars(one) for one in contenders],
        "checksum": _checksum(about, contenders),
    }
    try:
        write_atomically(file, json.dumps(data, indent=1).encode(), force=True)
    except (ArtifactError, InputError) as error:
        _warn(f"the choice could not be remembered and will be measured again: {error}")


def _checksum(about: Mapping[str, Any], contenders: Sequence[Contender]) -> str:
    return sha256_hex(_canonical({"about": about, "contenders": [vars(one) for one in contenders]}))


def _has_place(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
