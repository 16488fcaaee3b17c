"""What every engine does the same way: refuses options, makes names distinct, tries itself on a tiny model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from edgekit.cores import num_cores
from edgekit.errors import InputError, UnsupportedError
from edgekit.registry import Probe, installed
from edgekit.runtime import EngineOptions
from edgekit.spec import Dim

__all__ = [
    "LARGE_BYTES",
    "PROBE_FEED",
    "Run",
    "bound_run",
    "check_options",
    "closed_run",
    "dims",
    "distinct_names",
    "first_line",
    "lanes_for",
    "package",
    "try_engine",
]

PROBE_FEED = np.array([[1, 2]], "float32")
"""Fed to a tiny model that adds its input to itself."""

LARGE_BYTES = 256 << 20
"""A file beyond this gets no second lane in an engine whose lanes have weights of their own."""


def check_options(engine: str, options: EngineOptions, precisions: Sequence[str] = ("fp32",)) -> None:
    """Raises UnsupportedError for a device or precision the engine has not."""
    if options.device != "cpu":
        raise UnsupportedError(f"the {engine} runtime runs on the cpu only, not on {options.device!r}")
    if options.precision not in precisions:
        raise UnsupportedError(
            f"the {engine} runtime has no {options.precision} arithmetic", hint=f"it has: {', '.join(precisions)}"
        )
    if options.lanes is not None and options.lanes < 1:
        raise InputError(f"a model has one lane at least, not {options.lanes}")


def lanes_for(options: EngineOptions, threads: int = 1) -> int:
    """How many calls may run at the same time, each in so many threads: as asked, else what the cores hold."""
    return options.lanes or max(1, num_cores() // threads)


def distinct_names(names: Iterable[str], what: str) -> list[str]:
    """The names, with empty ones filled in and repeated ones numbered, so that each stands for one tensor."""
    given: list[str] = []
    for index, name in enumerate(names):
        wanted = name or f"{what}{index}"
        candidate, copy = wanted, 1
        while candidate in given:
            candidate, copy = f"{wanted}_{copy}", copy + 1
        given.append(candidate)
    return given


def dims(sizes: Iterable[int]) -> tuple[Dim, ...]:
    """Sizes, with a name for each open (negative) one: ``"batch"`` in front, ``"dim<i>"`` elsewhere."""
    return tuple(int(d) if d >= 0 else (f"dim{i}" if i else "batch") for i, d in enumerate(sizes))


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def package(*distributions: str) -> str:
    """Name and version of the first of these distributions that is installed; empty when none is."""
    return next((f"{name} {found}" for name, found in installed(*distributions).items()), "")


Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def bound_run(
    feeds: Sequence[np.ndarray],
    call: Callable[[], object],
    results: Sequence[np.ndarray],
    otherwise: Callable[[Sequence[np.ndarray], Exception], Sequence[np.ndarray]] | None = None,
) -> Run:
    """A `run` that copies into the engine's own `feeds`, makes one `call`, and lends its `results`.

    A closure, as every attribute looked up shows in a call of microseconds. What `call` raises goes to `otherwise`.
    """

    def run(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        for index, array in enumerate(arrays):
            feeds[index][...] = array
        try:
            call()
        except Exception as error:
            if otherwise is None:
                raise
            return otherwise(arrays, error)
        return results

    def run_one(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        only[...] = arrays[0]
        try:
            call()
        except Exception as error:
            if otherwise is None:
                raise
            return otherwise(arrays, error)
        return results

    if len(feeds) != 1:
        return run
    only = feeds[0]
    return run_one


def closed_run(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """The `run` of a model that has been closed, which lets go of what the other held."""
    raise RuntimeError("the model is closed")


def try_engine(run: Callable[[], object], distribution: str, extra: str) -> Probe:
    """Runs the engine of an installed `distribution` on `PROBE_FEED` and reports what came of it."""
    name = package(distribution)
    if not name:
        return Probe(False, reason=f"{distribution} is not installed", extra=extra)
    try:
        answer = np.asarray(run())
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the answer
        return Probe(False, version=name, reason=f"{name} is installed but fails: {first_line(error)}", extra=extra)
    if not np.array_equal(answer, 2 * PROBE_FEED):
        return Probe(False, version=name, reason=f"{name} answers {answer.tolist()} for 1+1, 2+2", extra=extra)
    return Probe(True, version=name, extra=extra)
