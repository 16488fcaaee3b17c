"""The choice of variant, runtime and threads: its order, its record, and measuring in processes of the null engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit import choosing
from edgekit.bundle import BundleWriter, Golden
from edgekit.choosing import OBJECTIVES, FallbackWarning
from edgekit.cores import num_cores
from edgekit.errors import ArtifactError, InputError, UnavailableError
from edgekit.measuring import contest
from edgekit.measuring.contest import METHODS, Standing, _ranked, hold_contest
from edgekit.measuring.records import Candidate
from edgekit.registry import RUNTIMES, Probe
from edgekit.runtime import EngineOptions, OpenModel
from edgekit.runtimes import null
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))
OTHER = Signature((TensorSpec("z", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own: a choice remembered by one test must not answer another."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, delays_ms: Mapping[str, float], *, broken: Sequence[str] = ()) -> Path:
    """A bundle of variants that take so long, in this order; `broken` ones are of another signature."""
    golden = Golden(({"x": np.zeros((1, 4), "float32")},) * 2, ({"y": np.zeros((1, 2), "float32")},) * 2)
    with BundleWriter(path, force=True) as writer:
        for name, delay_ms in delays_ms.items():
            signature = OTHER if name in broken else SIGNATURE
            file = write_null(writer.stage / f"{name}.null.json", signature, delay_ms=delay_ms)
            writer.add(name=name, format="null", precision="fp32", files=[file], facts={"tolerance": {"y": 0.5}})
        writer.commit(
            name="n", signature=SIGNATURE, processing={}, target="host", golden=golden, statistics={}, provenance={}
        )
    return path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A contest that needs no processes: scores are the delays in the names; gives what it was asked to measure."""
    asked: list[str] = []

    def hold(candidates: Sequence[Candidate], path: Path, feeds: Any, objective: str, options: Any) -> list[Standing]:
        asked.append(objective)
        return _ranked([Standing(c, float(c.variant.rpartition("-")[2]), {"p50_us": 1.0}) for c in candidates])

    monkeypatch.setattr(contest, "hold_contest", hold)
    return asked


def record_of(cache: Path) -> Path:
    (found,) = (cache / "choices").glob("*.json")
    return found


# -- the manifest's order ----------------------------------------------------------------------------------------


def test_without_auto_the_manifest_s_order_is_taken_and_nothing_is_measured(
    tmp_path: Path, measured: list[str]
) -> None:
    path = write(tmp_path / "n.edge", {"a-3": 0, "b-1": 0})
    for arguments in ({}, {"runtime": "auto", "measure": False}):
        with edgekit.load(path, **arguments) as session:
            assert session.choice is not None
            assert (session.choice.variant, session.choice.how, session.choice.objective) == ("a-3", "order", None)
            assert session.artifact is not None
            assert session.artifact.name == "a-3"
    assert measured == []


@pytest.mark.parametrize("lanes", [None, 1, 3])
def test_lanes_are_as_many_as_asked_of_a_bundle_and_of_a_bare_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int | None
) -> None:
    bundle = write(tmp_path / "n.edge", {"a-3": 0})
    opened: list[int | None] = []
    first = null.NullEngine.open

    def noting(self: null.NullEngine, path: Path, options: EngineOptions) -> OpenModel:
        opened.append(options.lanes)
        return first(self, path, options)

    monkeypatch.setattr(null.NullEngine, "open", noting)
    for path in (bundle, write_null(tmp_path / "bare.null.json", SIGNATURE)):
        with edgekit.load(path, lanes=lanes) as session:
            assert session.predict(np.zeros((1, 4), "float32"))["y"].shape == (1, 2)
    assert opened == [lanes, lanes]


def test_a_model_has_one_lane_at_least(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one lane at least, not 0"):
        edgekit.load(write_null(tmp_path / "bare.null.json", SIGNATURE), lanes=0)


def test_what_is_asked_for_is_the_why(tmp_path: Path) -> None:
    path = write(tmp_path / "n.edge", {"a-3": 0, "b-1": 0})
    with edgekit.load(path, runtime="null", variant="b-1", threads=2) as session:
        assert session.choice is not None
        assert session.choice.why == "asked for: runtime null, variant b-1"
        assert session.choice.taken.title == "b-1 on null x2"


def test_a_variant_that_fails_gives_way_to_the_next_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "n.edge", {"a": 0, "b": 0}, broken=["a"])
    with pytest.warns(
        FallbackWarning, match=r"a on null failed on this device: .*not those.*; b on null is taken"
    ) as said:
        session = edgekit.load(path)
    assert said[0].filename == __file__
    assert session.choice is not None
    assert session.choice.variant == "b"
    (failed,) = session.choice.others
    assert (failed.variant, failed.status) == ("a", "failed")
    assert "before it a on null failed" in session.choice.why
    assert json.dumps(session.choice.to_json())


def test_strict_raises_what_the_first_raised(tmp_path: Path) -> None:
    path = write(tmp_path / "n.edge", {"a": 0, "b": 0}, broken=["a"])
    with pytest.raises(ArtifactError, match="not those of the signature"):
        edgekit.load(path, strict=True)


def test_when_all_fail_every_reason_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "n.edge", {"a": 0, "b": 0}, broken=["a", "b"])
    with pytest.raises(ArtifactError, match=r"nothing in the bundle works here: a on null: .*; b on null: "):
        edgekit.load(path)


def test_a_golden_answer_missed_gives_way_to_the_next(tmp_path: Path) -> None:
    golden = Golden(({"x": np.zeros((1, 4), "float32")},), ({"y": np.ones((1, 2), "float32")},))
    with BundleWriter(tmp_path / "n.edge") as writer:
        for name, tolerance in (("a", 0.5), ("b", 2.0)):
            file = write_null(writer.stage / f"{name}.null.json", SIGNATURE)
            writer.add(name=name, format="null", precision="fp32", files=[file], facts={"tolerance": {"y": tolerance}})
        writer.commit(
            name="n", signature=SIGNATURE, processing={}, target="host", golden=golden, statistics={}, provenance={}
        )
    with pytest.warns(FallbackWarning, match="a with null fails its golden test"):
        assert edgekit.load(tmp_path / "n.edge").choice.variant == "b"  # type: ignore[union-attr]


def test_a_damaged_file_is_no_reason_to_take_another(tmp_path: Path) -> None:
    path = write(tmp_path / "n.edge", {"a": 0, "b": 1})
    with edgekit.load(path) as session:
        assert session.artifact is not None
        file = session.artifact.path
    file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(ArtifactError, match="damaged"):
        edgekit.load(path)


# -- measuring, with a contest made up ---------------------------------------------------------------------------


def test_a_choice_is_measured_once_and_remembered(tmp_path: Path, cache: Path, measured: list[str]) -> None:
    path = write(tmp_path / "n.edge", {"a-3": 0, "b-1": 0, "c-2": 0})
    seen = []
    for _ in range(2):
        with edgekit.load(path, runtime="auto", threads=1) as session:
            assert session.choice is not None
            seen.append((session.choice.how, session.choice.variant, session.choice.threads))
            assert session.choice.record == record_of(cache)
            assert [one.variant for one in session.choice.others] == ["c-2", "a-3"]
            assert session.choice.figures == {"p50_us": 1.0}
    assert seen == [("measured", "b-1", 1), ("remembered", "b-1", 1)]
    assert measured == ["latency"]


def test_one_thread_is_always_a_candidate_beside_all_cores(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "num_cores", lambda: 4)
    with edgekit.load(write(tmp_path / "n.edge", {"a-1": 0}), runtime="auto") as session:
        assert session.choice is not None
        assert (session.choice.threads, [one.threads for one in session.choice.others]) == (1, [4])


@pytest.mark.parametrize(
    "change", [{"objective": "memory"}, {"threads": 2}, {"variant": "a-3"}, {"bundle": True}, {"engines": True}]
)
def test_what_another_choice_might_follow_from_is_measured_anew(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    path = write(tmp_path / "n.edge", {"a-3": 0, "b-1": 0})
    edgekit.load(path, runtime="auto").close()
    if change.pop("bundle", False):
        write(path, {"a-3": 0, "b-1": 1})
    if change.pop("engines", False):
        monkeypatch.setattr("edgekit.environment._packages", lambda: {"onnxruntime": "99"})
    edgekit.load(path, runtime="auto", **change).close()
    assert len(measured) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": "edgekit.choice", "version": 1}',
        '{"schema": "other"}',
        "changed",
        "of another bundle",
    ],
)
def test_a_record_that_is_not_as_written_is_measured_again(
    tmp_path: Path, cache: Path, measured: list[str], content: str
) -> None:
    path = write(tmp_path / "n.edge", {"a-3": 0, "b-1": 0})
    edgekit.load(path, runtime="auto").close()
    record = record_of(cache)
    whole = record.read_text()
    changed = {
        "changed": whole.replace('"b-1"', '"a-3"', 3),
        "of another bundle": whole.replace('"model": "', '"model": "f'),
    }
    record.write_text(changed.get(content, content))
    with edgekit.load(path, runtime="auto") as session:
        assert session.choice is not None
        assert (session.choice.how, session.choice.variant) == ("measured", "b-1")
    assert record.read_text() == whole


def test_without_a_place_to_remember_nothing_is_measured(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file" / "cache"))
    path = write(tmp_path / "n.edge", {"a-3": 0, "b-1": 0})
    with pytest.warns(FallbackWarning, match="cannot be written.*the manifest's order is taken"):
        session = edgekit.load(path, runtime="auto")
    assert session.choice is not None
    assert (session.choice.variant, session.choice.how) == ("a-3", "order")
    assert measured == []


def test_what_was_remembered_and_fails_now_is_forgotten(
    tmp_path: Path, cache: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "n.edge", {"a-3": 0, "b-1": 0})
    edgekit.load(path, runtime="auto", threads=1).close()
    first = null.NullEngine.open

    def failing(self: Any, file: Path, options: Any) -> Any:
        if file.name.startswith("b-1"):
            raise ArtifactError("it does not open today")
        return first(self, file, options)

    monkeypatch.setattr(null.NullEngine, "open", failing)
    with pytest.warns(FallbackWarning, match="b-1 on null x1 failed .*today.*a-3 on null x1 is taken"):
        session = edgekit.load(path, runtime="auto", threads=1)
    assert session.choice is not None
    assert session.choice.variant == "a-3"
    assert not list((cache / "choices").glob("*.json"))


def test_an_engine_that_is_not_here_is_dropped_with_its_reason(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Absent:
        name, formats = "absent", ("null",)

        def probe(self) -> Probe:
            return Probe(False, reason="no such board", extra="litert")

    monkeypatch.setattr(RUNTIMES, "names", lambda: ["null", "absent"])
    monkeypatch.setattr(RUNTIMES, "_loaded", {"null": null.ENGINE, "absent": Absent()})
    with edgekit.load(write(tmp_path / "n.edge", {"a-1": 0}), runtime="auto", threads=1) as session:
        assert session.choice is not None
        assert [(one.runtime, one.status, one.reason) for one in session.choice.others] == [
            ("absent", "absent", "no such board")
        ]
        assert session.choice.why == "the only one there is for this device"
    monkeypatch.setattr(RUNTIMES, "_loaded", {"null": Absent(), "absent": Absent()})
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "other"))
    with pytest.raises(UnavailableError, match="no such board"):
        edgekit.load(tmp_path / "n.edge", runtime="auto", threads=1)


def test_an_objective_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no objective 'speed'") as refusal:
        edgekit.load(write(tmp_path / "n.edge", {"a": 0}), objective="speed")
    assert all(name in refusal.value.hint for name in OBJECTIVES)
    assert set(METHODS) == set(OBJECTIVES)


def test_scores_that_are_alike_go_to_the_fewest_threads_then_to_the_first() -> None:
    def standing(name: str, threads: int, score: float, *, failed: bool = False) -> Standing:
        candidate = Candidate(name, "null", "", None, "null", "", threads, "", 1, in_bundle=True)
        return Standing(candidate, score, is_failure=failed)

    inf = float("inf")
    given = [
        standing("failed", 1, inf, failed=True),
        standing("hopeless", 1, inf),
        standing("two", 2, 100.0),
        standing("slow", 1, 120.0),
        standing("one", 1, 102.0),
        standing("late", 1, 101.0),
    ]
    assert [s.candidate.variant for s in _ranked(given)] == ["one", "late", "two", "slow", "hopeless", "failed"]
    assert [s.candidate.variant for s in _ranked(given[:2])] == ["hopeless", "failed"]


# -- measuring, in processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_the_fastest_wins_and_what_fails_is_told(tmp_path: Path, objective: str) -> None:
    path = write(tmp_path / "n.edge", {"slow": 6, "broken": 0, "fast": 3}, broken=["broken"])
    with pytest.warns(FallbackWarning, match="broken on null failed when it was measured .*; fast on null x1 is taken"):
        session = edgekit.load(path, runtime="auto", threads=1, objective=objective)
    assert session.choice is not None
    by_name = {one.variant: one for one in session.choice.others}
    assert session.choice.variant == "fast"
    assert (by_name["broken"].status, by_name["slow"].status) in [("failed", "usable"), ("failed", "hopeless")]
    if objective == "latency":
        assert 3000 <= session.choice.figures["p50_us"] <= session.choice.figures["p95_us"]
    with pytest.raises(ArtifactError, match="broken on null failed when it was measured"):
        edgekit.load(path, runtime="auto", threads=1, objective=objective, strict=True)


def test_what_has_no_chance_is_not_measured_further(tmp_path: Path) -> None:
    path = write(tmp_path / "n.edge", {"hopeless": 200, "fast": 2})
    with edgekit.load(path, runtime="auto", threads=1) as session:
        assert session.choice is not None
        (other,) = session.choice.others
        assert (session.choice.variant, other.status) == ("fast", "hopeless")
        assert "times the best in a first look" in other.reason


@pytest.mark.parametrize(
    ("objective", "figure"), [("memory", "peak_rss_bytes"), ("startup", "total_ms"), ("cpu-time", "cpu_us")]
)
def test_what_a_fresh_process_takes_is_measured(tmp_path: Path, objective: str, figure: str) -> None:
    path = write(tmp_path / "n.edge", {"slow": 400, "fast": 0})
    with edgekit.load(path, runtime="auto", threads=1, objective=objective) as session:
        assert session.choice is not None
        assert session.choice.how == "measured"
        assert session.choice.figures[figure] > 0
        if objective == "startup":
            assert session.choice.variant == "fast"
            assert session.choice.others[0].figures["first_run_ms"] >= 400


def test_a_candidate_that_kills_its_process_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "n.edge", {"a": 1, "b": 1})
    candidates = [
        Candidate(name, "null", "", None, runtime, "", 1, "", 1, in_bundle=True)
        for name, runtime in (("a", "null"), ("b", "no_such_runtime"))
    ]
    feeds = [{"x": np.zeros((1, 4), "float32")}]
    standings = hold_contest(candidates, path, lambda signature: feeds, "latency", {})
    assert [(s.candidate.variant, s.is_failure) for s in standings] == [("a", False), ("b", True)]


def test_two_processes_at_once_measure_once_and_agree(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "n.edge", {"slow": 8, "fast": 4})
    code = f"import edgekit; c = edgekit.load({str(path)!r}, runtime='auto', threads=1).choice; print(c.how, c.variant)"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    said = sorted(process.communicate()[0].strip() for process in running)
    assert said == ["measured fast", "remembered fast"]
    assert record_of(cache).is_file()
    assert [entry.name for entry in (cache / "choices").iterdir()] == [record_of(cache).name]


def test_a_bare_file_is_measured_for_its_threads(tmp_path: Path) -> None:
    path = write_null(tmp_path / "m.null.json", SIGNATURE, delay_ms=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for how in ("measured", "remembered"):
            with edgekit.load(path, runtime="auto") as session:
                assert session.choice is not None
                assert (session.choice.how, session.choice.variant) == (how, path.name)
                counts = {one.threads for one in (session.choice.taken, *session.choice.others)}
                assert counts == {1, num_cores()}
