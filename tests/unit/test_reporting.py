"""What a report gathers: from a bundle, from files of results, and never of other files than the bundle's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.bundle import BundleWriter, Golden
from edgekit.errors import ArtifactError, InputError
from edgekit.evaluating.records import Evaluation, Evaluations
from edgekit.metrics.intervals import Interval
from edgekit.report import text
from edgekit.report.document import Figure
from edgekit.report.json import render
from edgekit.report.pictures import Points
from edgekit.report.sections import view
from edgekit.reporting import report
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))
TRIAL = {
    **{"title": "null-fp32 on null x1", "format": "null", "precision": "fp32", "status": "shipped", "p50_us": 12.5},
    **{
        "interval_us": [12.0, 13.0],
        "samples_us": [12.0, 12.5, 13.0],
        "metric_value": 0.9,
        "metric_count": 50,
        "size_bytes": 100,
    },
}
LAYER = {"name": "conv", "op_type": "Conv", "plans": {"null-w8a8": {"precision": "w8a8", "weights_sqnr_db": 40.0}}}


def write_bundle(path: Path, provenance: dict[str, Any] | None = None) -> Path:
    """Two files of the null engine, and what `provenance` says of them."""
    golden = Golden(({"x": np.zeros((1, 4), "float32")},), ({"y": np.zeros((1, 2), "float32")},))
    with BundleWriter(path) as writer:
        for precision in ("w8a8", "fp32"):
            file = write_null(
                writer.stage / f"{precision}.null.json", SIGNATURE, delay_ms=0.2 if precision == "fp32" else 0.1
            )
            facts = {"tolerance": {"y": 0.5}, "parity": {"sqnr_db": 30.0, "data": "noise"}}
            writer.add(name=f"null-{precision}", format="null", precision=precision, files=[file], facts=facts)
        writer.commit(
            name="n", signature=SIGNATURE, processing={}, target="host", golden=golden, statistics={},
            provenance=provenance or {},
        )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "n.edge")


@pytest.fixture(scope="module")
def profile_file(bundle: Path) -> Path:
    measured = edgekit.profile(bundle, runtime="null", rounds=2, min_samples=10, min_time_s=0.01, cold_starts=1)
    path = bundle.parent / "profile.json"
    path.write_text(render(measured, schema="edgekit.profile"))
    return path


def evaluation_of(bundle: Path, **changes: Any) -> dict[str, Any]:
    """What ``evaluate -o`` writes of two variants, the first with `changes`."""
    both = [
        Evaluation(
            str(bundle), v.name, v.precision, "null", "null 1", v.files[0].sha256, "top1", "right", True,
            0.9 if v.precision == "w8a8" else 0.92, {"happy": 0.8}, 10, "faces", "test", "ab" * 32,
            interval=Interval(0.85, 0.94, "Wilson", {}),
        )
        for v in edgekit.Bundle.open(bundle).variants
    ]  # fmt: skip
    data: dict[str, Any] = json.loads(render(Evaluations(tuple(both)), schema="x"))
    data["variants"][0].update(changes)
    return data


def test_what_is_unknown_is_absent_and_the_page_says_what_adds_it(bundle: Path) -> None:
    found = report(bundle, measure=False)
    assert (found.profile, found.evaluation, found.optimization, found.layers) == (None, None, None, ())
    assert found.shipped == "null-w8a8"
    assert [part.role for part in found.parts] == ["model", "model", "golden", "manifest"]
    said = text.render(view(found))
    for command in ("edgekit profile", "--data DATA", "--ops", "edgekit convert MODEL"):
        assert command in said
    assert "Never slower, never worse: not known here, as speed and quality are open." in said


def test_a_profile_from_a_file_is_the_one_that_was_written(bundle: Path, profile_file: Path) -> None:
    found = report(bundle, profile=profile_file)
    assert found.profile is not None
    assert {m.candidate.variant for m in found.profile.measured} == {"null-w8a8", "null-fp32"}
    assert found.left_out == ()
    assert (
        json.loads(render(found, schema="x"))["profile"]["measurements"]
        == json.loads(profile_file.read_text())["measurements"]
    )


def test_results_of_other_files_are_left_out_and_named_or_refused(
    bundle: Path, profile_file: Path, tmp_path: Path
) -> None:
    data = json.loads(profile_file.read_text())
    other = next(m for m in data["measurements"] if m["variant"] == "null-fp32")
    other["artifact_sha256"] = "0" * 64
    partly = tmp_path / "partly.json"
    partly.write_text(json.dumps(data))
    found = report(bundle, profile=partly)
    assert [m.candidate.variant for m in (found.profile.measured if found.profile else ())] == ["null-w8a8"]
    assert found.left_out == ("the profile's null-fp32 on null is of another file than the one there is now",)
    assert "Warnings (" in text.render(view(found))
    for measurement in data["measurements"]:
        measurement["artifact_sha256"] = "0" * 64
    partly.write_text(json.dumps(data))
    with pytest.raises(InputError, match="nothing in it is of the files of"):
        report(bundle, profile=partly)


def test_an_evaluation_is_read_from_its_file(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(evaluation_of(bundle, per_class={"happy": 0.8}, unknown=[1])))
    found = report(bundle, measure=False, evaluation=path)
    assert found.evaluation is not None
    assert [row.value for row in found.evaluation.evaluations] == [0.9, 0.92]
    assert found.evaluation.evaluations[0].interval.ends == (0.85, 0.94)
    said = text.render(view(found))
    lost = "top1 is 0.9000 (0.8500 to 0.9400) where null-fp32 has 0.9200 on 10 samples, 0.0200 worse"
    for word in ("Wilson", "happy", lost):
        assert word in said


def test_an_evaluation_of_other_files_is_refused_and_of_some_left_out(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    data = evaluation_of(bundle, artifact_sha256="0" * 64)
    path.write_text(json.dumps(data))
    found = report(bundle, measure=False, evaluation=path)
    assert [row.variant for row in (found.evaluation.evaluations if found.evaluation else ())] == ["null-fp32"]
    assert found.left_out == ("the evaluation's null-w8a8 is of another file than the one there is now",)
    data["variants"][1]["artifact_sha256"] = "0" * 64
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="nothing of the files of"):
        report(bundle, measure=False, evaluation=path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "is no evaluation"),
        ('{"schema": "edgekit.profile"}', "is no evaluation"),
        ('{"schema": "edgekit.evaluation", "version": 99}', "of version 99"),
        ('{"schema": "edgekit.evaluation", "version": 2, "variants": []}', "has no variants"),
        ('{"schema": "edgekit.evaluation", "version": 2, "variants": [3]}', r"variants\[0\] is no object"),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(bundle: Path, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=words):
        report(bundle, measure=False, evaluation=path)


def test_an_evaluation_of_wrong_types_names_the_place(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(evaluation_of(bundle, value="high")))
    with pytest.raises(ArtifactError, match=r"variants\[0\]: value is \"high\", not a number"):
        report(bundle, measure=False, evaluation=path)


def test_a_search_is_read_from_the_bundle_and_shown_with_its_reasons(tmp_path: Path) -> None:
    refused = {**TRIAL, "title": "null-w4", "status": "refused", "reason": "0.2 worse than the source"}
    search = {"schema": "edgekit.optimization", "version": 1, "objective": "latency", "metric": "top1", "seconds": 9.0,
              "trials": [TRIAL, refused], "budget": None}  # fmt: skip
    path = write_bundle(tmp_path / "s.edge", {"optimization": search, "layers": [LAYER]})
    found = report(path, measure=False)
    assert found.optimization is not None
    assert [t.status for t in found.trials] == ["shipped", "refused"]
    said = text.render(view(found))
    assert "out of 2 trials, in 9 s" in said
    assert "0.2 worse than the source" in said
    assert "These are the calls of the search's final." in said
    assert "null-w8a8: 1 of 1 layers are rounded, 0 stay float." in said


@pytest.mark.parametrize(
    ("provenance", "place"),
    [
        ({"layers": [{**LAYER, "plans": 3}]}, r"layers\[0\]: plans is 3"),
        ({"layers": [{"name": "conv"}]}, r"layers\[0\]: op_type is missing"),
        (
            {"optimization": {"objective": "latency", "trials": [{**TRIAL, "p50_us": "fast"}]}},
            r"trials\[0\].p50_us is \"fast\"",
        ),
    ],
)
def test_a_bundle_that_says_something_else_is_an_error_that_names_it(
    tmp_path: Path, provenance: dict[str, Any], place: str
) -> None:
    path = write_bundle(tmp_path / "odd.edge", provenance)
    with pytest.raises(ArtifactError, match=place):
        report(path, measure=False)


def test_a_bare_file_has_a_page_too(bundle: Path) -> None:
    variant = edgekit.Bundle.open(bundle).variants[0]
    found = report(variant.path, measure=False)
    assert [part.path for part in found.parts] == [variant.path.name]
    said = text.render(view(found))
    assert f"{variant.path.name} is what a device takes" in said
    assert "There is no integer variant" in said


def test_numbers_of_a_report_do_not_depend_on_who_asks(bundle: Path, profile_file: Path) -> None:
    first, second = (report(bundle, profile=profile_file) for _ in range(2))
    assert render(first, schema="x") == render(second, schema="x")
    assert text.render(view(first)) == text.render(view(second))
    assert replace(first, left_out=("x",)).to_json()["left_out"] == ["x"]


def test_figures_of_a_share_of_the_data_are_not_drawn_beside_those_of_all(tmp_path: Path) -> None:
    """A trial that fell out after ten lucky samples is no point of the front."""
    lucky = {
        **TRIAL,
        "title": "null-w4",
        "status": "halved",
        "reason": "number 4",
        "metric_value": 1.0,
        "metric_count": 10,
    }
    search = {
        "objective": "latency",
        "metric": "top1",
        "source_value": 0.91,
        "max_drop": 0.02,
        "trials": [TRIAL, lucky],
    }
    found = report(write_bundle(tmp_path / "s.edge", {"optimization": search}), measure=False)
    choice = next(block for block in view(found).blocks if getattr(block, "title", "") == "Choice")
    (figure,) = (block for block in choice.blocks if isinstance(block, Figure))  # type: ignore[union-attr]
    assert isinstance(figure.picture, Points)
    assert [(point.name, point.is_front) for point in figure.picture.points] == [("null-fp32 on null x1", True)]
    assert [row[3:5] for row in figure.table.rows] == [("0.9000", "50"), ("1.0000", "10")]
    assert (
        "top1 is 0.9000 where the source has 0.9100, on 50 samples of the search: 0.0100 worse, 0.0200 may be lost"
        in (text.render(view(found)))
    )
