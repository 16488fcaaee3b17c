"""``edgekit profile``: how long it goes on, load, and the whole record of a real engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgekit.measuring.reading import read_profile
from edgekit.measuring.watch import cpu_times
from tests.cli.conftest import Typed
from tests.contract.sample_models import dense

Type = Callable[..., Typed]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--interval", "tight"), 2, "a share"),
        (("--interval", "200%"), 2, "a share"),
        (("--rounds", "0"), 2, "rounds"),
        (("--scenario", "sometimes"), 2, "single-stream"),
        (("--scenario", "offline", "--rate", "5"), 3, "no rate"),
        (("--scenario", "server"), 3, "--bound-ms 15"),
        (("--bound-ms", "5"), 3, "--scenario server"),
    ],
)
def test_what_does_not_go_together_is_refused(
    typed: Type, null_bundle: Path, arguments: tuple[str, ...], code: int, word: str
) -> None:
    found = typed("profile", null_bundle, *arguments)
    assert (found.code, found.out) == (code, "")
    assert word in found.err


def test_rounds_go_on_until_the_interval_is_reached_or_are_as_many_as_was_asked(
    typed: Type, null_bundle: Path, tmp_path: Path
) -> None:
    code, out, _ = typed("profile", null_bundle, "--interval", "90%", "--max-time", "1", "-o", tmp_path / "p.json")
    assert code == 0
    assert "until every median was known within 90.0%" in out
    found = read_profile(tmp_path / "p.json")
    assert (found.ended_by, found.settings.interval) == ("interval", 0.9)
    assert len(found.conditions) == len(found.measured[0].latency.rounds_us) == 10  # type: ignore[union-attr]


def test_the_whole_record_of_a_real_engine(typed: Type, tmp_path: Path) -> None:
    onnx.save(dense(), tmp_path / "dense.onnx")
    code, out, _ = typed(
        "profile", tmp_path / "dense.onnx", "--runtime", "onnx", "--rounds", "6", "--max-time", "0.6",
        "--scenario", "multi-stream", "--samples-per-query", "2", "--json",
    )  # fmt: skip
    assert code == 0
    document = json.loads(out)
    assert (document["ended_by"], document["settings"]["interval"]) == ("rounds", None)
    assert document["measurements"]
    for row in document["measurements"]:
        audit, load = row["audit"], row["scenario"]
        assert audit["inputs"] == audit["outputs"] >= 2
        assert audit["calls"] >= audit["calls_checked"] >= 6
        assert audit["unseen_ratio"] > 0
        assert row["timer_ns"] > 0
        assert row["latency"]["interval"]["low"] <= row["latency"]["interval"]["high"]
        assert (load["scenario"], load["samples_per_query"], load["headline"]) == ("multi-stream", 2, "p99_us")
        assert load["latency"]["p50_us"] > row["latency"]["min_us"]  # of two samples
        check_memory(row)
    assert len(document["conditions"]) == 6
    if cpu_times() is not None:
        assert all(one["others_cores"] >= 0 for one in document["conditions"] if one["others_cores"] is not None)


def check_memory(row: dict[str, Any]) -> None:
    parts = {part["name"]: part for part in row["memory"]}
    if not parts:
        assert row["memory_reason"]
        return
    assert list(parts) == ["interpreter", "engine", "model", "runs"]
    assert parts["interpreter"]["added_bytes"] > 5e6
    assert parts["engine"]["added_bytes"] > 1e6
    total = sum(part["added_bytes"] for part in parts.values())
    assert total == pytest.approx(row["peak_rss_bytes"], rel=0.2)
    for part in parts.values():
        if part["file_bytes"] is not None:
            assert part["anonymous_bytes"] + part["file_bytes"] == pytest.approx(part["added_bytes"], abs=64 << 10)
