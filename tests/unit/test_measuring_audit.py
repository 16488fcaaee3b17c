"""Planted engines that do not do the work they are timed for, and what each timed call is held against."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ConversionError
from edgekit.feeds import save_feeds
from edgekit.measuring import child
from edgekit.measuring.caveats import about_measurements
from edgekit.measuring.records import Audit, Candidate, Latency, Measurement
from edgekit.measuring.results import measurement_of
from edgekit.measuring.rounds import Runner

Feeds = Mapping[str, np.ndarray]
Answer = dict[str, np.ndarray]


class _Planted:
    """A session that answers twice its input by `answer`."""

    def __init__(self, answer: Callable[[Feeds], Answer]) -> None:
        self.run = answer


def _honest(feed: Feeds) -> Answer:
    return {"y": feed["x"] * 2}


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Opens a planted session in this process and prepares it with `count` different feeds."""

    def prepare(answer: Callable[[Feeds], Answer], count: int = 4) -> dict[str, Any]:
        feeds = tmp_path / f"{count}.npz"
        save_feeds(feeds, [{"x": np.full((1, 8), i, "float32") + np.arange(8, dtype="float32")} for i in range(count)])
        child._subjects[:] = [child.Subject(_Planted(answer), [], [])]  # type: ignore[arg-type]
        return child.prepare(str(feeds), warmup_s=0.0)

    yield prepare
    child._subjects.clear()


def test_an_honest_engine_passes(prepared: Callable[..., dict[str, Any]]) -> None:
    said = prepared(_honest)
    assert (said["inputs"], said["outputs"], said["is_constant"]) == (4, 4, False)
    for _ in range(5):
        timed = child.time_calls(calls=9, settle_s=0.0)
        assert timed["difference"] == 0
        assert (timed["checked"], len(timed["samples_us"])) == (4, 9)
    assert min(timed["samples_us"]) >= 0


def test_an_engine_that_knows_a_feed_by_its_memory_answers_wrong(prepared: Callable[..., dict[str, Any]]) -> None:
    seen: dict[int, Answer] = {}

    def remembering(feed: Feeds) -> Answer:
        return seen.setdefault(id(feed["x"]), _honest(feed))

    prepared(remembering)
    assert child.time_calls(calls=8, settle_s=0.0)["difference"] > 0.01


def test_an_engine_that_answers_constants_once_it_is_timed_is_found(prepared: Callable[..., dict[str, Any]]) -> None:
    calls = 0

    def tiring(feed: Feeds) -> Answer:
        nonlocal calls
        calls += 1
        return _honest(feed) if calls <= 4 else {"y": np.zeros((1, 8), "float32")}

    prepared(tiring)
    assert child.time_calls(calls=8, settle_s=0.0)["difference"] > 0.01


def test_constant_answers_are_counted(prepared: Callable[..., dict[str, Any]]) -> None:
    said = prepared(lambda feed: {"y": np.ones((1, 8), "float32")})
    assert (said["inputs"], said["outputs"], said["is_constant"]) == (4, 1, True)


def test_an_engine_that_remembers_answers_by_content_is_slow_with_what_it_never_saw(
    prepared: Callable[..., dict[str, Any]],
) -> None:
    seen: dict[bytes, Answer] = {}

    def remembering(feed: Feeds) -> Answer:
        key = feed["x"].tobytes()
        if key not in seen:
            time.sleep(0.005)
            seen[key] = _honest(feed)
        return seen[key]

    prepared(remembering)
    assert child.time_calls(calls=8, settle_s=0.0)["difference"] == 0  # every answer is right
    ratio = child.audit_unseen()
    assert ratio is not None
    assert ratio > 2
    told = {c.kind: c for c in about_measurements([_with_audit(ratio)])}
    assert "remember" in told["remembered answers"].message


def test_an_honest_engine_takes_as_long_for_what_it_never_saw(prepared: Callable[..., dict[str, Any]]) -> None:
    def working(feed: Feeds) -> Answer:
        time.sleep(0.003)
        return _honest(feed)

    prepared(working)
    ratio = child.audit_unseen()
    assert ratio is not None
    assert 0.5 < ratio < 2
    assert "remembered answers" not in {c.kind for c in about_measurements([_with_audit(ratio)])}


def test_what_cannot_be_moved_is_left_in_place(prepared: Callable[..., dict[str, Any]]) -> None:
    prepared(_honest, count=1)
    assert child.time_calls(calls=3, settle_s=0.0)["difference"] == 0
    own = child.subject()
    own.kept = [{"x": np.zeros(3, "U2")}, {"x": np.zeros(3, "U5")}]  # of two widths: moved, the longer would be cut
    own.feeds = [{"x": np.full(3, "ab")}, {"x": np.full(3, "abcde")}]
    own.move_feeds()
    assert own.feeds[0]["x"][0] == "ab"


def test_reading_the_clock_is_known_and_taken_off(prepared: Callable[..., dict[str, Any]]) -> None:
    said = prepared(_honest)
    assert 0 < said["timer_ns"] < 1e5
    child.subject().timer_ns = 1e9
    assert child.time_calls(calls=3, settle_s=0.0)["samples_us"] == [0.0, 0.0, 0.0]  # never below 0


def test_an_engine_that_dies_of_an_input_it_never_saw_keeps_what_was_timed() -> None:
    class Dying(Runner):
        def ask(self, function: str, /, limit_s: float = 0.0, **arguments: Any) -> Any:
            raise ConversionError("its process died of SIGSEGV")

    runner = Dying(CANDIDATE, Path("m"), rounds=[(1.0,)], cpu_us=[1.0])
    runner.attempt(runner.audit)
    found = measurement_of(runner)
    assert (found.status, runner.failure) == ("measured", None)
    assert found.audit is not None
    assert (found.audit.unseen_ratio, found.audit.unseen_reason) == (None, "its process died of SIGSEGV")


CANDIDATE = Candidate("m", "null", "fp32", None, "null", "", None, "", 1, in_bundle=False)


def _with_audit(ratio: float) -> Measurement:
    latency = Latency(((10.0,) * 20,) * 6)
    return Measurement(CANDIDATE, "measured", latency=latency, audit=Audit(4, 4, 120, 24, ratio))
