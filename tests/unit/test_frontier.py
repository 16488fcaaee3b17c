"""The benchmark of the frontier: its nets are those of the published table, its verdicts follow from its figures."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.network import count_macs

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

MMACS = {
    **{"mobilenet_v2": 301, "resnet50": 3858, "effnet_lite0": 385, "yolov8n": 1093, "unet": 3034},
    **{"bert_small": 1678, "wavenet": 2622, "lstm_kws": 21, "dscnn_kws": 2.7, "ad_autoencoder": 0.26},
}
"""Millions of multiply-accumulates of the nets that the choice of engines and recipes was first measured on."""


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's modules by the last part of their names; its folder is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield {name: import_module(f"_frontier_{name}") for name in ("nets", "files", "rounds", "tables")}


@pytest.mark.parametrize("name", MMACS)
def test_a_net_multiplies_as_often_as_the_published_one(name: str, bench: dict[str, ModuleType]) -> None:
    net = bench["nets"].NETS[name]
    assert net.mmacs == MMACS[name]
    macs = count_macs(bench["nets"].network_of(net), net.sizes)
    assert macs / 1e6 == pytest.approx(MMACS[name], rel=0.02)
    assert set(bench["nets"].NETS) == set(MMACS)


@pytest.mark.parametrize("name", ["dscnn_kws", "ad_autoencoder", "lstm_kws"])
def test_what_nobody_trained_neither_dies_nor_explodes(name: str, bench: dict[str, ModuleType], tmp_path: Path) -> None:
    made = bench["nets"].make_net(name, str(tmp_path))
    assert all(0.03 < spread < 10 for spread in made["outputs"].values())
    again = bench["nets"].make_net(name, str(tmp_path / "again"))
    assert Path(made["source"]).read_bytes() == Path(again["source"]).read_bytes()
    with np.load(made["batches"]) as batches, np.load(made["samples"]) as samples:
        assert all(np.array_equal(batches[key][:, 0], samples[key]) for key in samples.files)


def row(bench: dict[str, ModuleType], file: str, runtime: str, us: float, threads: int = 1, **more: Any) -> Any:
    maker = more.pop("maker", "edgekit")
    arithmetic = more.pop("arithmetic", "fp32")
    return bench["rounds"].Row(
        file, maker, runtime, arithmetic, threads, us, [us] * 3, more.pop("front_us", [us] * 5), **more
    )


def result(bench: dict[str, ModuleType], net: str, ours_us: float, *rows: Any, optimized_s: float = 1.0) -> Any:
    ours = row(bench, "ours", "", ours_us, threads=0, arithmetic="", maker="optimize")
    return bench["tables"].Result(net, [*rows, ours], 20.0, 12, 20.0, None, optimized_s, "it")


def two_nets(bench: dict[str, ModuleType], ours_us: float = 100.0, optimized_s: float = 1.0) -> list[Any]:
    """One that dynamic integers are best for, and one for which the peer's tool has no file of them."""
    return [
        result(
            bench, "first", ours_us,
            row(bench, "onnx fp32", "onnx", 400.0),
            row(bench, "tflite w8a8-dynamic", "tflite", 100.0),
            row(bench, "onnx ort-dynamic", "onnx", 800.0, maker="ort-dynamic"),
            optimized_s=optimized_s,
        ),
        result(
            bench, "second", 50.0,
            row(bench, "onnx fp32", "onnx", 150.0),
            row(bench, "onnx w8a8", "onnx", 50.0, threads=2),
            row(bench, "onnx w8a8", "onnx", 60.0),
            optimized_s=optimized_s,
        ),
    ]  # fmt: skip


def verdicts(bench: dict[str, ModuleType], results: list[Any]) -> dict[str, tuple[float, bool]]:
    return {bar.name.split(",")[0]: (bar.value, bar.is_met) for bar in bench["tables"].bars(results)}


def test_what_ships_the_best_of_each_net_meets_every_bar(bench: dict[str, ModuleType]) -> None:
    found = verdicts(bench, two_nets(bench))
    assert found["ours over the best measured of our files"] == (1.0, True)
    assert found["times as fast as ONNX Runtime fp32 x1"] == (pytest.approx((4 * 3) ** 0.5), True)
    assert all(met for _, met in found.values()), found


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"ours_us": 106.0}, {"ours over the best measured of our files"}),
        ({"ours_us": 390.0}, {"ours over the best measured of our files", "times as fast as ONNX Runtime fp32 x1"}),
        ({"optimized_s": 15.0}, {"time of optimize over that of a sweep"}),
    ],
)
def test_a_bar_is_missed_by_the_net_that_misses_it(
    changes: dict[str, float], missed: set[str], bench: dict[str, ModuleType]
) -> None:
    found = verdicts(bench, two_nets(bench, **changes))
    assert {name for name, (_, met) in found.items() if not met} == missed


def test_a_peer_that_is_faster_than_what_was_shipped_is_a_missed_bar(bench: dict[str, ModuleType]) -> None:
    first, second = two_nets(bench)
    first.rows.append(row(bench, "tflite ai-edge-static", "tflite", 95.0, maker="ai-edge-static"))
    found = {bar.name: bar for bar in bench["tables"].bars([first, second])}
    bar = found["ours over the best fixed policy, worst net"]
    assert bar.value == pytest.approx(100 / 95)
    assert not bar.is_met
    assert "first: TFLite static int8 (ai-edge-quantizer) x1" in bar.where
    assert bench["tables"].slower_than_peers([first, second]) == [
        "first: 0.095 ms tflite ai-edge-static in tflite fp32 x1; of ours 0.1 ms tflite w8a8-dynamic in tflite fp32 x1"
    ]


def test_a_policy_without_a_file_for_a_net_takes_the_floats_of_its_engine(bench: dict[str, ModuleType]) -> None:
    lines = bench["tables"].policy_table(two_nets(bench)).splitlines()
    (line,) = (line for line in lines if line.startswith("| ONNX Runtime, quantize_dynamic"))
    # 800 over 100; 150, its floats, over 60, the best of one thread.
    assert f"x{(8 * 2.5) ** 0.5:.2f} / x8.0 (first)" in line
    assert line.endswith("| second |")


def test_a_sweep_is_of_the_space_that_optimize_searched(bench: dict[str, ModuleType]) -> None:
    (first, _) = two_nets(bench)
    # Two rows of ours, each profiled for half a second: 100 calls are done in less.
    assert first.exhaustive_s == pytest.approx(20 + 20 + 2 * 0.5)
    first.space = (24, 6)
    assert first.exhaustive_s == pytest.approx(2 * 20 + 3 * (20 + 2 * 0.5))


def test_a_net_for_which_nothing_was_shipped_is_no_success(bench: dict[str, ModuleType]) -> None:
    first, second = two_nets(bench)
    second.rows = [r for r in second.rows if r.file != "ours"]
    found = verdicts(bench, [first, second])
    assert found["nets for which nothing was shipped"] == (1, False)


def test_rows_near_the_best_go_on_and_so_do_the_yardstick_and_ours(bench: dict[str, ModuleType]) -> None:
    rounds = bench["rounds"]
    near, far = row(bench, "a", "onnx", 125.0, front_us=[]), row(bench, "b", "onnx", 135.0, front_us=[])
    best, floats = row(bench, "c", "onnx", 100.0, front_us=[]), row(bench, "onnx fp32", "onnx", 400.0, front_us=[])
    ours = row(bench, "ours", "", 300.0, threads=0, arithmetic="", front_us=[])
    seats = [rounds.Seat("", [one]) for one in (near, far, best, floats, ours)]
    assert rounds._front(seats) == {id(one) for one in (near, best, floats, ours)}


def test_a_row_comes_back_from_its_document(bench: dict[str, ModuleType]) -> None:
    Row = bench["rounds"].Row  # noqa: N806 - a class
    rows = [Row("ours", "optimize", "", "", 0, 3.0, [2.0], [1.0]), Row("a", "edgekit", "onnx", "fp32", 1, reason="no")]
    assert [Row(**one.to_json()) for one in rows] == rows


def test_rounds_that_both_had_decide_between_two(bench: dict[str, ModuleType]) -> None:
    mine = row(bench, "a", "onnx", 100.0, front_us=[110.0, 210.0, 120.0])
    base = row(bench, "b", "onnx", 100.0, front_us=[100.0, 200.0, 100.0])
    assert bench["rounds"].ratio(mine, base) == pytest.approx(1.1)
    assert bench["rounds"].ratio(mine, row(bench, "c", "onnx", 60.0, front_us=[])) == 2.0


@pytest.mark.slow  # a minute: every file of a net in every engine
def test_one_net_goes_all_the_way_and_is_not_measured_twice(tmp_path: Path) -> None:
    import subprocess
    import sys

    words = [sys.executable, str(FOLDER / "frontier.py"), "--nets", "ad_autoencoder", "--rounds", "2"]
    words += ["--no-optimize", "--out", str(tmp_path), "--resume"]
    first = subprocess.run(words, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    for part in ("## Latency, ms, 1 thread", "## What one choice for all costs", "ONNX Runtime, quantize_dynamic"):
        assert part in first.stdout
    second = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "measured before" in second.stderr
    assert second.stdout == first.stdout
