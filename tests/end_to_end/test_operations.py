"""``edgekit profile --ops``: a bundle's layers by time in all three engines, the roofline, the trace file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

import edgekit
from edgekit.graph.cost import costs
from edgekit.graph.files import load as load_graph
from edgekit.graph.listing import list_nodes
from edgekit.measuring import operations, roofline
from edgekit.measuring.layers import LayerNames
from edgekit.measuring.operation_records import Bandwidth, Operations, Roofline
from edgekit.measuring.operations import account
from edgekit.measuring.reading import profile_from_json
from edgekit.measuring.records import Candidate, Measurement, Profile
from edgekit.measuring.trace_file import trace_events, write_trace
from edgekit.report.document import Document
from edgekit.report.operations_view import operations_blocks
from edgekit.report.profile_view import view
from edgekit.report.text import render
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec
from edgekit.tracing import OpTime, Traced
from tests.unit.networks import residual_network

ROOF = Roofline(1, {"fp32": 1e9, "int8": 4e9}, {"fp32": "onnx", "int8": "openvino"}, (Bandwidth(1 << 30, 1e9),))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("operations")
    ir.save(residual_network(), folder / "net.onnx")
    edgekit.convert(folder / "net.onnx", folder / "net.edge", format=["onnx", "tflite"])
    return folder / "net.edge"


@pytest.fixture(scope="module")
def profile(bundle: Path) -> Profile:
    """With a made-up roof, as measuring the machine's takes seconds and has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "find_roofline", lambda threads, again=False: ROOF)
        found = edgekit.profile(bundle, threads=1, rounds=1, max_time_s=0.2, cold_starts=0, ops=True)
    assert {m.candidate.runtime for m in found.measured} == {"onnx", "openvino", "tflite"}
    return found


def own(profile: Profile) -> list[tuple[str, Operations]]:
    """The accounts of each engine on the file that says the most of layers."""
    best = {"onnx": "onnx", "openvino": "onnx", "tflite": "tflite"}
    pairs = [(m.candidate, m.operations) for m in profile.measured if best[m.candidate.runtime] == m.candidate.format]
    assert len(pairs) == 3
    assert all(found is not None and not found.reason for _, found in pairs)
    return [(candidate.runtime, found) for candidate, found in pairs if found is not None]


def test_every_engine_accounts_for_the_whole_net(profile: Profile, bundle: Path) -> None:
    (path,) = (bundle / "model-fp32.onnx",)
    want = sum(node.macs or 0 for node in costs(load_graph(path)))
    for _, found in own(profile):
        assert found.sum_us == pytest.approx(sum(op.time_us for op in found.operations))
        assert sum(op.share for op in found.operations) == pytest.approx(1)
        assert found.untraced_us
        assert found.call_us
        assert found.ratio == pytest.approx(found.sum_us / found.untraced_us, abs=1e-3)
        assert found.macs == want
        assert {op.precision for op in found.operations if op.macs} == {"fp32"}


def test_operations_that_multiply_are_the_bundles_layers(profile: Profile, bundle: Path) -> None:
    nodes = {node.name: node for node in list_nodes(bundle / "model-fp32.onnx")}
    want = {name for name, node in nodes.items() if node.op_type in ("Conv", "Gemm", "MatMul")}
    for runtime, found in own(profile):
        assert {op.layer for op in found.operations if op.macs} == want, runtime
        known = [op for op in found.operations if op.layer is not None and op.layer in nodes]
        assert sum(op.share for op in known) > 0.9, runtime
        unmapped = sum(op.time_us for op in found.operations if op.layer is None)
        assert found.unmapped_share == pytest.approx(unmapped / found.sum_us, abs=1e-3)


def test_openvino_names_the_products_of_a_tflite_file(profile: Profile, bundle: Path) -> None:
    (found,) = [
        m.operations for m in profile.measured if (m.candidate.format, m.candidate.runtime) == ("tflite", "openvino")
    ]
    assert found is not None
    convolutions = [node.name for node in list_nodes(bundle / "model-fp32.onnx") if node.op_type == "Conv"]
    assert [op.layer for op in found.operations if op.macs] == [*convolutions, "dense"]


def test_the_record_comes_back_from_json(profile: Profile) -> None:
    back = profile_from_json(json.loads(json.dumps(profile.to_json())))
    assert [m.operations for m in back.measurements] == [m.operations for m in profile.measurements]
    assert back.settings.ops


def test_the_report_shows_the_longest_operations(profile: Profile) -> None:
    text = render(view(profile, top=3))
    assert "the 3 longest of" in text
    assert "conv14 +" in render(view(profile, top=1000))
    assert "the 1000 longest" not in render(view(profile, top=1000))
    assert "1 GMAC/s by onnx" in text


def test_a_trace_is_of_the_format_that_browsers_show(profile: Profile, tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.json", profile.measured)
    data = json.loads((tmp_path / "trace.json").read_text())
    events: list[dict[str, Any]] = data["traceEvents"]
    assert data["displayTimeUnit"] in ("ms", "ns")
    assert events == json.loads(json.dumps(trace_events(profile.measured)))
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert sorted(names.values()) == sorted(m.candidate.title for m in profile.measured)
    for event in events:
        assert event["ph"] in ("X", "M")
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
    for process in names:
        calls = [e for e in events if e["pid"] == process and e["cat" if "cat" in e else "ph"] == "call"]
        parts = [e for e in events if e["pid"] == process and e.get("cat") == "operation"]
        (call,) = calls
        assert parts
        end = call["ts"]
        for part in parts:  # one behind the other, and all within the call
            assert part["ph"] == "X"
            assert part["ts"] == pytest.approx(end, abs=0.01)
            assert part["dur"] >= 0
            end = part["ts"] + part["dur"]
            assert {"layer", "precision", "macs", "bytes_moved"} <= set(part["args"])
        assert end == pytest.approx(call["ts"] + call["dur"], rel=1e-3)


def test_without_asking_there_is_no_account(bundle: Path) -> None:
    found = edgekit.profile(bundle, runtime="onnx", threads=1, rounds=1, max_time_s=0.1, cold_starts=0)
    assert all(m.operations is None for m in found.measured)
    assert "longest" not in render(view(found))


def test_an_engine_without_a_profiler_has_a_reason_in_place_of_numbers(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (1, 4))
    path = write_null(tmp_path / "net.null.json", Signature((spec,), (TensorSpec("y", "float32", (1, 2)),)))
    found = edgekit.profile(path, rounds=1, max_time_s=0.1, cold_starts=0, ops=True)
    (measurement,) = found.measured
    assert measurement.operations is not None
    assert "offers no account" in measurement.operations.reason
    assert measurement.operations.operations == ()
    assert "offers no account" in render(view(found))


def test_an_operation_is_held_against_the_roof_over_it() -> None:
    ops = (
        OpTime("a", "Conv", "fp32", 2000.0, 1_000_000, 1000, ("a",)),  # 1 ms of multiplying, 1 us of reading
        OpTime("b", "Add", "fp32", 4.0, 0, 1000),
        OpTime("c", "Conv", "int8", 1000.0, 4000, 500_000),
        OpTime("d", "Conv", "fp64", 10.0, 1000, 1000),
        OpTime("e", "Loop", "fp32", 10.0, None, 1000),
    )
    found = account(Traced(ops, "a profiler", "midmean", 3, 4000.0), 1512.0, LayerNames({}, {}), ROOF)
    held = [(op.roofline_share, op.bound) for op in found.operations]
    assert held == [(0.5, "compute"), (0.25, "memory"), (0.5, "memory"), (None, None), (None, None)]
    assert found.ratio == pytest.approx(2, abs=1e-3)
    assert found.roofline_share == pytest.approx((1000 + 1 + 500) / 3004, abs=1e-4)
    assert found.memory_bound_share == pytest.approx(1004 / 3024, abs=1e-4)
    assert found.macs_unknown_share == pytest.approx(10 / 3024, abs=1e-4)
    assert found.unmapped_share == pytest.approx(1024 / 3024, abs=1e-4)
    assert [op.layer for op in found.operations] == ["a", None, None, None, None]
    assert not any(op.is_beyond for op in found.operations)
    assert found.operations[0].macs_per_s == pytest.approx(5e8)
    assert found.operations[0].macs_per_byte == pytest.approx(1000)
    without = account(Traced(ops, "a profiler", "midmean", 3, 1.0), 1.0, LayerNames({}, {}), "it died")
    assert (without.roofline, without.roofline_reason, without.roofline_share) == (None, "it died", None)


def test_no_share_is_shown_of_what_took_less_than_seemed_possible() -> None:
    ops = (
        OpTime("a", "Conv", "fp32", 500.0, 1_000_000, 1000, ("a",)),
        OpTime("b", "Conv", "fp32", 1500.0, 1_000_000, 1000, ("b",)),
        OpTime("c", "Reshape", "fp32", 0.0, 0, 1000),
    )
    found = account(Traced(ops, "a profiler", "midmean", 3, 2000.0), 2000.0, LayerNames({}, {}), ROOF)
    assert [(op.roofline_share, op.is_beyond) for op in found.operations] == [
        (None, True), (pytest.approx(0.6667), False), (None, False)
    ]  # fmt: skip
    assert found.roofline_share == pytest.approx((500 + 1000) / 2000, abs=1e-3)
    null = Candidate("a", "onnx", "fp32", None, "onnx", "1", 1, "0", 1, True)
    text = render(Document("", tuple(operations_blocks([Measurement(null, "measured", operations=found)]))))
    assert "beyond" in text
    assert "200%" not in text
    assert "at most 75% of it" in text
    assert "25.0% of it is in what took less" in text


def test_the_roof_is_measured_again_where_more_than_the_clock_beats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(operations, "find_roofline", lambda threads, again=False: asked.append(again) or ROOF)

    def ask(took_us: float) -> list[bool]:
        asked.clear()
        operations._roof(1, [Traced((OpTime("a", "Conv", "fp32", took_us, 20_000, 8),), "", "midmean", 1, 1.0)])
        return list(asked)

    assert ask(20.0) == ask(18.0) == [False]
    assert ask(16.0) == [False, True]


def test_a_damaged_memory_of_the_roof_is_none(tmp_path: Path) -> None:
    file = tmp_path / "roof.json"
    assert roofline._remembered(file) is None
    file.write_text('{"threads": 1')
    assert roofline._remembered(file) is None
    file.write_text(json.dumps(ROOF.to_json()))
    assert roofline._remembered(file) == ROOF


def test_the_roof_is_of_products_and_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_SIZES", {True: (128, 256)})
    monkeypatch.setattr(roofline, "_KIB", (64, 4096))
    monkeypatch.setattr(roofline, "_MAX_S", 0.2)
    is_roof(Roofline.from_json(roofline.measure_peaks(1)))


@pytest.mark.slow  # ten seconds, for the whole search
def test_the_roof_of_a_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    is_roof(roofline.find_roofline(1))
    (file,) = (tmp_path / "rooflines").iterdir()
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "macs_per_s": {"fp32": 1.0}, "engines": {"fp32": "numpy"}}))
    assert roofline.find_roofline(1).macs_per_s == {"fp32": 1.0}


def is_roof(found: Roofline) -> None:
    assert found.threads == 1
    assert {"fp32", "int8"} <= set(found.macs_per_s)
    assert min(found.macs_per_s.values()) > 1e8  # a Raspberry Pi 3 does ten times as much
    assert set(found.engines.values()) <= {"onnx", "openvino", "tflite", "numpy"}
    rates = [one.bytes_per_s for one in found.bandwidths]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 1e8


def test_a_roof_seen_higher_is_higher() -> None:
    other = Roofline(1, {"fp32": 2e9, "bf16": 5e9}, {"fp32": "numpy", "bf16": "openvino"}, (Bandwidth(1 << 30, 5e8),))
    raised = ROOF.raised(other)
    assert raised.macs_per_s == {"fp32": 2e9, "int8": 4e9, "bf16": 5e9}
    assert raised.engines == {"fp32": "numpy", "int8": "openvino", "bf16": "openvino"}
    assert raised.bandwidths == ROOF.bandwidths
    assert Roofline.from_json(json.loads(json.dumps(raised.to_json()))) == raised
