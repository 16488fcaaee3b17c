"""Profiles read back from the JSON they were written as."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.environment import read_environment
from edgekit.errors import ArtifactError
from edgekit.measuring.reading import measurement_from_json, profile_from_json, read_profile, record_from_json
from edgekit.measuring.records import Candidate, Caveat, ColdStart, Latency, Measurement, Profile, Settings
from edgekit.report.json import render
from edgekit.runtimes.null import write_null
from edgekit.spec import QuantParams, Signature, TensorSpec

CANDIDATE = Candidate("model.tflite", "tflite", "int8", "w8a8", "tflite", "ai-edge-litert 2.3.0", 2, "ab" * 32, 9, True)


@dataclass(frozen=True)
class Carrier:
    content: bytes


def one_profile() -> Profile:
    measured = Measurement(
        CANDIDATE,
        "measured",
        latency=Latency(((1.0, 2.5), (3.25, 4.0))),
        cold_start=ColdStart(1.0, 2.0, 3.0, 4.0, 10.0, 0.5, 3),
        cpu_us=12.5,
        peak_rss_bytes=1 << 20,
        versus_best_fp32="faster",
    )
    failed = Measurement(replace(CANDIDATE, threads=None), "failed", "it did not open", "try another")
    settings = Settings(10, 100, 0.5, 10.0, 0.1, 3, 0, "4 random feeds", {"x": [1, 3]})
    caveats = (Caveat("noise", "it varies", "wait"),)
    return Profile("a.edge", "generic", read_environment(), settings, (measured, failed), caveats, 41.5, "ssh://pi@x")


def written(profile: Profile) -> Any:
    return json.loads(render(profile, schema="edgekit.profile"))


def test_a_profile_comes_back_as_it_was() -> None:
    profile = one_profile()
    assert profile_from_json(written(profile)) == profile


def test_a_measured_profile_comes_back_as_it_was_from_a_file(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))
    model = write_null(tmp_path / "a.null.json", signature)
    profile = edgekit.profile(model, rounds=2, min_samples=2, min_time_s=0, cold_starts=1)
    file = tmp_path / "profile.json"
    file.write_text(render(profile, schema="edgekit.profile"), encoding="utf-8")
    read = read_profile(file)
    assert read.measured
    assert render(read, schema="edgekit.profile") == file.read_text(encoding="utf-8")


def test_a_measurement_can_be_read_by_itself() -> None:
    measurement = one_profile().measurements[0]
    assert measurement_from_json(json.loads(json.dumps(measurement.to_json()))) == measurement


def test_what_an_older_version_did_not_write_takes_its_default() -> None:
    data = written(one_profile())
    del data["device"], data["measurements"][0]["cpu_us"]
    read = profile_from_json(data)
    assert read.device is None
    assert read.measurements[0].cpu_us is None
    assert read.measurements[0].latency == one_profile().measurements[0].latency


def test_names_that_no_field_has_are_passed_over() -> None:
    data = written(one_profile())
    data["measurements"][0]["from_the_future"] = {"a": 1}
    assert profile_from_json(data) == one_profile()


def test_records_that_are_no_plain_dataclasses_are_read_too() -> None:
    params = QuantParams("int8", (0.5, 0.25), (0, 1), axis=0)
    assert record_from_json(QuantParams, params.to_json(), "params") == params


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(schema="edgekit.evaluation"), "it says it is 'edgekit.evaluation'"),
        (lambda d: d.pop("schema"), "does not say what it is"),
        (lambda d: d.update(version=99), "version 99"),
        (lambda d: d.update(version=True), "version True"),
        (lambda d: d["environment"].pop("cores"), "the profile: environment.cores is missing"),
        (lambda d: d["measurements"][1].pop("variant"), r"measurements\[1\]\.variant is missing"),
        (lambda d: d["measurements"][0].update(size_bytes="9"), r'measurements\[0\]\.size_bytes is "9", not a whole'),
        (lambda d: d["measurements"][0].update(in_bundle=1), "in_bundle is 1, not true or false"),
        (lambda d: d["measurements"][0].update(cpu_us=True), "cpu_us is true, not a number"),
        (lambda d: d["measurements"][0]["latency"].update(rounds_us=[[1, None]]), r"rounds_us\[0\]\[1\] is null"),
        (lambda d: d["measurements"][0].update(latency=[1]), r"latency is \[1\], not an object"),
        (lambda d: d.update(warnings={}), r"warnings is \{\}, not a list"),
        (lambda d: d["settings"].update(feed_shapes=[]), r"feed_shapes is \[\], not an object"),
    ],
)
def test_what_is_no_profile_is_refused_with_the_place(change: Any, said: str) -> None:
    data = written(one_profile())
    change(data)
    with pytest.raises(ArtifactError, match=said):
        profile_from_json(data)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "3", "null"])
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "profile.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"profile\.json"):
        read_profile(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No such file"):
        read_profile(tmp_path / "none.json")


def test_a_field_that_json_cannot_carry_is_a_mistake_of_whoever_wrote_the_record() -> None:
    with pytest.raises(TypeError, match="cannot be read from JSON"):
        record_from_json(Carrier, {"content": "abc"}, "it")
