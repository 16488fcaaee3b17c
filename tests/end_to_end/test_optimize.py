"""`edgekit optimize` on real models and engines: what it ships, what a kill leaves, and two workers of a scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.errors import UnavailableError
from edgekit.optimizing import bench
from edgekit.optimizing.records import OptimizationReport

SMALL = ["feed-forward:tiny", "--format", "onnx", "--precision", "w8a8", "--threads", "1"]
"""A net of microseconds, of which int8 is much slower than fp32 in ONNX Runtime: what is shipped is sure."""


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> OptimizationReport:
    folder = tmp_path_factory.mktemp("optimized")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", environment(folder / "cache")["EDGEKIT_CACHE"])
        # What is held here does not hang on how sure the times are.
        patch.setattr(bench, "FINAL", {**bench.FINAL, "min_samples": 40, "min_time_s": 0.1, "max_time_s": 0.5})
        return edgekit.optimize(
            "resnet:tiny", folder / "best.edge", format=("tflite", "onnx"), precision="w8a8", threads=1, keep_front=True
        )


def test_the_bundle_runs_just_what_was_measured_to_be_best(optimized: OptimizationReport) -> None:
    best = optimized.shipped
    assert best is not None
    assert optimized.bundle is not None
    with edgekit.load(optimized.bundle.root) as session:
        assert session.choice is not None
        taken = session.choice.variant, session.choice.runtime, session.choice.threads
        assert taken == (best.file, best.runtime, best.threads)
        assert session.precision == best.engine_precision


def test_what_is_shipped_is_the_fastest_that_is_not_refused(optimized: OptimizationReport) -> None:
    best = optimized.shipped
    assert best is not None
    assert best.p50_us is not None
    others = [t.p50_us for t in optimized.trials if t.status == "finalist" and t.p50_us is not None]
    assert best.p50_us <= min(others) * 1.02
    assert best.metric_value is not None
    assert optimized.source_value is not None
    assert best.metric_value >= optimized.source_value - 0.005
    assert best.metric_count == 1000


@pytest.mark.slow  # TensorFlow opens the source
def test_a_keras_net_is_judged_by_agreement_on_pictures_without_labels(
    tmp_path: Path, emotion_model: Path, faces: Path
) -> None:
    report = edgekit.optimize(emotion_model, tmp_path / "best.edge", data=faces, precision=["w8a8", "bf16"])
    assert (report.metric, report.source_value) == ("agreement", 1.0)
    best = report.shipped
    assert best is not None
    assert best.metric_count == 76, "of 101 faces one in four is calibrated on"
    assert report.bundle is not None
    with edgekit.load(report.bundle.root, strict=True) as session:
        assert session.predict(faces / "astronaut.png")[0]["label"] == "happy"


def test_the_record_is_in_the_bundle_with_a_reason_for_everything_else(optimized: OptimizationReport) -> None:
    assert optimized.bundle is not None
    record: Mapping[str, Any] = optimized.bundle.provenance["optimization"]
    assert (record["schema"], record["objective"], record["metric"]) == ("edgekit.optimization", "latency", "top1")
    needed = {"title", "format", "precision", "recipe", "runtime", "engine_precision", "threads", "status", "reason",
              "stage", "p50_us", "interval_us", "samples_us", "size_bytes", "peak_rss_bytes", "metric_value",
              "metric_interval", "sqnr_db", "on_front"}  # fmt: skip
    assert all(needed <= set(trial) for trial in record["trials"])
    assert all(t["reason"] for t in record["trials"] if t["status"] not in ("shipped", "finalist"))
    assert {t["file"] for t in record["trials"]} == {f"{f}-{p}" for f in ("tflite", "onnx") for p in ("fp32", "w8a8")}
    shipped = [t for t in record["trials"] if t["status"] == "shipped"]
    assert [v.name for v in optimized.bundle.variants] == list(dict.fromkeys(t["file"] for t in shipped))
    assert any(t["on_front"] for t in record["trials"])


def test_every_variant_of_the_front_passes_its_golden_test(optimized: OptimizationReport) -> None:
    assert optimized.bundle is not None
    for variant in optimized.bundle.variants:
        with edgekit.load(optimized.bundle.root, variant=variant.name, strict=True) as session:
            assert session.run(optimized.bundle.golden().feeds[0])


# -- from the command line ---------------------------------------------------------------------------------------


def command(output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "edgekit", "optimize", *SMALL, "-o", str(output), "--force", *more]


def environment(cache: Path) -> dict[str, str]:
    """A cache folder of its own, but the data set of the family from the shared one."""
    shared = Path(os.environ.get("EDGEKIT_CACHE") or Path.home() / ".cache" / "edgekit")
    cache.mkdir(exist_ok=True)
    if (shared / "datasets").is_dir() and not (cache / "datasets").exists():
        (cache / "datasets").symlink_to(shared / "datasets")
    return {**os.environ, "EDGEKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def journal_of(cache: Path) -> list[dict[str, Any]]:
    files = list((cache / "optimizations").glob("*.jsonl")) if (cache / "optimizations").is_dir() else []
    whole = files[0].read_text().rpartition("\n")[0] if files else ""
    return [json.loads(line) for line in whole.splitlines()]


def at_work(cache: Path) -> list[int]:
    """Processes that were started with this cache folder: a run, its workers, and theirs."""
    mark, found = f"EDGEKIT_CACHE={cache}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            continue  # another user's, or gone meanwhile
    return found


def require_nobody_at_work(cache: Path) -> None:
    """A worker of a worker looks every half second whether it is still wanted."""
    deadline = time.monotonic() + 30
    while at_work(cache) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not at_work(cache)


def stop_after(count: int, output: Path, cache: Path, by: signal.Signals, others: set[int] | None = None) -> int | None:
    """Starts a run and sends it a signal once so many units are done; its exit code, or None where it ended before.

    `others` is given the processes that it had started.
    """
    process = subprocess.Popen(
        command(output), env=environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` has it ignored
    )  # fmt: skip
    while process.poll() is None:
        if len(journal_of(cache)) >= count:
            if others is not None:
                others.update(set(at_work(cache)) - {process.pid})
            process.send_signal(by)
            return process.wait()
        time.sleep(0.01)
    return None


def finish(output: Path, cache: Path) -> dict[str, Any]:
    done = subprocess.run(
        command(output, "--resume", "--json"), env=environment(cache), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def killed_at(counts: list[int], folder: Path) -> dict[str, Any]:
    output, cache = folder / "best.edge", folder / "cache"
    before: list[dict[str, Any]] = []
    for count in counts:
        code = stop_after(count, output, cache, signal.SIGKILL)
        assert code == -signal.SIGKILL, f"it ended before {count} units were done"
        lines = journal_of(cache)
        assert lines[: len(before)] == before, "what was done is done"
        assert not output.exists()
        require_nobody_at_work(cache)
        before = lines
    report = finish(output, cache)
    lines = journal_of(cache)
    assert lines[: len(before)] == before
    keys = [line["key"] for line in lines]
    assert len(keys) == len(set(keys)), "no unit that had finished was done again"
    shipped = next(trial for trial in report["trials"] if trial["status"] == "shipped")
    assert shipped["title"] == "onnx-fp32 on onnx x1"
    again = finish(output, cache)
    assert again["trials"] == report["trials"], "the journal decides"
    assert [line["key"] for line in journal_of(cache)][: len(keys)] == keys
    edgekit.Bundle.open(output).verify()
    return report


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return killed_at([4], tmp_path_factory.mktemp("killed"))


def test_a_killed_run_goes_on_where_it_was(killed_once: dict[str, Any]) -> None:
    assert killed_once["reused"] >= 4


@pytest.mark.slow  # twenty kills, each of which starts Python and the engines anew
def test_twenty_kills_cost_nothing_that_was_done(tmp_path: Path) -> None:
    count = len(finished_units(tmp_path / "whole"))
    points = [1 + round(index * (count - 2) / 19) for index in range(20)]
    killed_at(points, tmp_path)


def finished_units(folder: Path) -> list[dict[str, Any]]:
    """What one run from beginning to end does."""
    folder.mkdir()
    finish(folder / "best.edge", folder / "cache")
    return [line for line in journal_of(folder / "cache") if line["key"] != "finished"]


def test_an_interrupted_run_says_so_and_leaves_no_process_behind(tmp_path: Path) -> None:
    others = set[int]()
    assert stop_after(3, tmp_path / "best.edge", tmp_path / "cache", signal.SIGINT, others) == 130
    assert others, "its workers are processes"
    assert len(journal_of(tmp_path / "cache")) >= 3
    require_nobody_at_work(tmp_path / "cache")
    assert not (tmp_path / "best.edge").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".edgekit-stage-")]


# -- a scheduler -------------------------------------------------------------------------------------------------


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, set[int]]]:
    """A scheduler of dask with two workers, processes of one thread that share no folder; its address, their pids."""
    pytest.importorskip("distributed")
    place, processes = tmp_path / "scheduler.json", []

    def start(*words: str, cache: str = "unused") -> int:
        own = environment(tmp_path / cache)
        processes.append(subprocess.Popen(
            [sys.executable, "-m", "dask", *words, "--scheduler-file", str(place)], cwd=tmp_path, env=own,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        ))  # fmt: skip
        return processes[-1].pid

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        single = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory")
        pids = {start("worker", *single, str(tmp_path / f"w{i}"), cache=f"cache-{i}") for i in (1, 2)}
        deadline = time.monotonic() + 60
        while not (place.exists() and place.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield json.loads(place.read_text())["address"], pids
    finally:
        for process in processes:  # at once: a worker whose scheduler is gone waits for it
            process.kill()
            process.wait()


def test_two_workers_find_the_front_that_one_machine_finds(
    scheduler: tuple[str, set[int]], killed_once: dict[str, Any], tmp_path: Path
) -> None:
    address, pids = scheduler
    done = subprocess.run(
        [*command(tmp_path / "far.edge", "--json"), "--scheduler", address],
        env=environment(tmp_path / "far"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    far = json.loads(done.stdout)
    fronts = [{t["title"] for t in report["trials"] if t["on_front"]} for report in (killed_once, far)]
    assert fronts[0] == fronts[1]
    assert [t["title"] for t in far["trials"] if t["status"] == "shipped"] == ["onnx-fp32 on onnx x1"]
    workers = {line["outcome"]["by"]["pid"] for line in journal_of(tmp_path / "far") if "by" in line["outcome"]}
    assert workers == pids
    assert {path.name for path in (tmp_path / "cache-1" / "optimizations").iterdir()} == {"store"}
    edgekit.Bundle.open(tmp_path / "far.edge").verify()


def test_a_scheduler_that_does_not_answer_is_a_typed_error_before_anything_is_read(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(UnavailableError, match=r"no scheduler answers at tcp://127.0.0.1:9"):
        edgekit.optimize("feed-forward:tiny", tmp_path / "x.edge", format="onnx", scheduler="tcp://127.0.0.1:9")


def test_a_budget_that_is_spent_ships_what_is_there(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path / "x.edge", "--budget", "1s", "--json"), env=environment(tmp_path / "cache"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["is_cut"]
    assert [t["title"] for t in report["trials"] if t["status"] == "shipped"] == ["onnx-fp32 on onnx x1"]
    assert {t["reason"] for t in report["trials"] if t["file"] == "onnx-w8a8"} == {"time was up"}


def test_a_dry_run_makes_nothing_and_shows_the_space(tmp_path: Path) -> None:
    report = edgekit.optimize("feed-forward:tiny", tmp_path / "x.edge", format="onnx", dry_run=True)
    assert report.bundle is None
    assert report.estimate.files == len(report.trials) > 5
    assert not list(tmp_path.iterdir())
    assert np.isfinite(report.seconds)
