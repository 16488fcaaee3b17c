"""What becomes of a conversion of which one step fails: that file is refused by its reason, the others are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import edgekit
from edgekit.conversion.gate import TimedFile, compare_speed
from edgekit.converters.tflite import source as tflite_source
from edgekit.errors import ConversionError, UnsupportedError
from tests.unit.networks import from_text

ROWS = 10


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def table(here: Path) -> Path:
    """A net that looks up a table of ten rows, with data that have no other numbers."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.2, (rows, 64)).astype("float32") for name, rows in (("t", ROWS), ("w", 64))}
    body = "e = Gather(t, ids) h = MatMul(e, w) r = Relu(h) y = MatMul(r, w)"
    net = from_text(body, inputs='int64["batch",12] ids', outputs='float["batch",12,64] y', **weights)
    ir.save(net, here / "net.onnx")
    np.savez(here / "data.npz", ids=rng.integers(0, ROWS, (12, 1, 12)))
    return here / "net.onnx"


def convert(source: Path, *precision: str, **more: Any) -> edgekit.ConversionReport:
    options = {"target": "host", "format": "onnx", "processing": "none", "calibration_data": source.parent / "data.npz"}
    return edgekit.convert(source, source.with_suffix(".edge"), precision=precision, **{**options, **more})


def test_files_are_timed_with_the_feeds_they_were_accepted_with(table: Path) -> None:
    """Random integers are below 64, and no row of this table: the engine refuses them."""
    file = TimedFile(table, {"of the source": "ids"})
    ids = [np.full((1, 12), number) for number in (ROWS - 1, 0)]
    with pytest.raises(ConversionError, match=r"it cannot be timed: .*out of data bounds"):
        compare_speed(file, file, [{"of the source": ids[0] + 1}], format="onnx", runtime="onnx", threads=1)
    feeds = [{"of the source": array} for array in (*ids, np.zeros((1, 7, 2), "int64"))]
    assert compare_speed(file, file, feeds, format="onnx", runtime="onnx", threads=1).ratio == pytest.approx(1, rel=0.3)


def test_a_file_that_cannot_be_timed_is_refused_alone(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, np.ndarray]] = []

    def dies(file: TimedFile, base: TimedFile, feeds: Sequence[dict[str, np.ndarray]], **settings: Any) -> None:
        asked.extend(feeds)
        raise ConversionError("it cannot be timed: its process died of SIGSEGV")

    monkeypatch.setattr("edgekit.conversion.job.compare_speed", dies)
    report = convert(table, "fp32", "w8a8-dynamic")
    assert {v.name: v.status for v in report.variants} == {"onnx-fp32": "written", "onnx-w8a8-dynamic": "refused"}
    assert "died of SIGSEGV" in next(v.reason for v in report.variants if v.status == "refused")
    assert report.unmet == ("w8a8-dynamic",)
    assert max(feed["ids"].max() for feed in asked) < ROWS


def test_a_source_the_hub_cannot_take_is_written_by_the_road_that_goes(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edgekit.convert("feed-forward:tiny", "net.edge", target="generic-x86", format="tflite")
    bundle = edgekit.Bundle.open(here / "net.edge")
    bundle.variants[0].path.rename(here / "net.tflite")

    def lacks(model: object) -> None:
        raise UnsupportedError("the hub lacks operations", offenders=["ODD"])

    monkeypatch.setattr(tflite_source, "raise_model", lacks)
    shape = bundle.signature.inputs[0].shape[1:]
    np.save(here / "data.npy", np.random.default_rng(0).normal(0, 1, (12, *shape)).astype("float32"))
    more = {"target": "generic-x86", "format": "tflite", "calibration_data": here / "data.npy", "force": True}
    report = convert(here / "net.tflite", "fp32", "auto", **more)
    statuses = {variant.name: (variant.status, variant.road) for variant in report.variants}
    assert statuses == {"tflite-auto": ("refused", ""), "tflite-fp32": ("written", "the .tflite file as it is")}
    assert "the hub lacks operations: ODD" in report.variants[0].reason
