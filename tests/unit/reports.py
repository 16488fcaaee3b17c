"""A report in which every part is known, of names that would be markup if anybody believed them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.environment import read_environment
from edgekit.evaluating.records import Evaluation, Evaluations, Versus
from edgekit.inspection import Inspection
from edgekit.measuring.operation_records import Operation, Operations
from edgekit.measuring.records import Candidate, Caveat, ColdStart, Latency, Measurement, MemoryPart, Profile, Settings
from edgekit.metrics import Confusion
from edgekit.metrics.intervals import Interval
from edgekit.reporting import Layer, LayerPlan, Optimization, Part, Report, Trial
from edgekit.spec import Signature, TensorSpec

HOSTILE = "</title></style><script>document.title='owned'</script><img src=x onerror=\"alert('1')\">"
LONG = "functional_1/" + "block_with_a_long_name_without_any_space/" * 6 + "conv"

_VARIANTS = (
    ("tflite-w8a8", "tflite", "w8a8", 70_000, 0.985),
    ("onnx-w8a8", "onnx", "w8a8", 73_000, 0.984),
    ("onnx-fp32", "onnx", "fp32", 222_000, 0.986),
    ("openvino-fp32", "openvino", "fp32", 250_000, 0.986),
)


def full_report(*, ratio: float = 0.5, versus: str = "faster", hostile: bool = True) -> Report:
    """Of a bundle that was searched for, measured and judged."""
    odd = HOSTILE if hostile else "conv"
    provenance = {
        "source": {"name": odd},
        "calibration": {"samples": 100},
        "apart": {"onnx-w8a8": ["24.9 dB against the source, where tflite-w8a8 has 28.0 dB"]},
    }
    inspection = Inspection(
        "full.edge",
        "bundle",
        odd,
        Signature((TensorSpec("x", "float32", (1, 3, 224, 224)),), (TensorSpec("y", "float32", (1, 10)),)),
        "host",
        {"labels": [odd]},
        tuple(_variant(*one) for one in _VARIANTS),
        provenance,
    )
    parts = tuple(
        Part(f"model-{name}.bin", "model", size, f"{i:064x}", (name,))
        for i, (name, _, _, size, _) in enumerate(_VARIANTS)
    )
    return Report(inspection, parts, _layers(odd), _profile(odd, ratio, versus), _evaluations(odd), _optimization(odd))


def _variant(name: str, format: str, precision: str, size: int, value: float) -> dict[str, object]:
    parity = {
        "sqnr_db": 34.0 if precision == "w8a8" else 130.0,
        "relative": 1e-3,
        "top1_agreement": 0.99,
        "data": "20 samples",
    }
    return {
        **{"name": name, "format": format, "precision": precision, "size_bytes": size, "files": [f"model-{name}.bin"]},
        **{"engine_options": {}, "int8_macs_share": 1.0, "road": "onnx -> hub", "parity": parity},
    }


def _layers(odd: str) -> tuple[Layer, ...]:
    plan = LayerPlan("w8a8", 41.5)
    kept = LayerPlan("fp32", None, "so narrow a convolution is faster in float here")
    return (
        Layer("first", "Conv", {"tflite-w8a8": kept, "onnx-w8a8": plan}, 0.1, 0.01),
        Layer(odd, "Conv", {"tflite-w8a8": plan, "onnx-w8a8": plan}, 0.5, 0.39, 22.5),
        Layer(LONG, "Gemm", {"tflite-w8a8": plan, "onnx-w8a8": plan}, 0.4, 0.6, 31.0),
    )


def _profile(odd: str, ratio: float, versus: str) -> Profile:
    settings = Settings(10, 100, 0.5, 10.0, 0.1, 3, 0, "2 golden feeds", {"x": [1, 3, 224, 224]})
    rng = np.random.default_rng(0)
    measured = []
    for turn, (name, format, precision, size, _) in enumerate(_VARIANTS):
        middle = 2000 * ratio if name == "tflite-w8a8" else 2000 + 300 * turn
        rounds = tuple(tuple(float(x) for x in rng.lognormal(np.log(middle), 0.1, 40)) for _ in range(10))
        measured.append(
            Measurement(
                Candidate(name, format, precision, None, format, f"{format} 1.0", 1, f"{turn:064x}", size, True),
                "measured",
                latency=Latency(rounds),
                cpu_us=middle,
                throughput_per_s=1e6 / middle,
                cold_start=ColdStart(200.0, 50.0, 30.0, 5.0, 285.0, 20.0, 3),
                peak_rss_bytes=80 << 20,
                memory=tuple(
                    MemoryPart(stage, 20 << 20, None, None) for stage in ("interpreter", "engine", "model", "runs")
                ),
                operations=_operations(odd),
                ratio_to_engine_fp32=ratio,
                versus_engine_fp32=versus,
                ratio_to_best_fp32=ratio,
                versus_best_fp32=versus,
            )
        )
    absent = replace(measured[0], status="failed", reason=odd, latency=None, cold_start=None, peak_rss_bytes=None)
    caveats = (Caveat("noise", f"it is noisy {odd}", "be quiet"),)
    return Profile(odd, "host", read_environment(), settings, (*measured, absent), caveats)


def _evaluations(odd: str) -> Evaluations:
    def evaluation(turn: int, name: str, precision: str | None, value: float) -> Evaluation:
        interval = Interval(value - 0.008, value + 0.007, "Wilson", {})
        base = Versus("onnx-fp32", 0.986, value - 0.986, -0.004, 0.002, "McNemar", 0.6, "not measurably worse", 1000)
        return Evaluation(
            "full.edge", name, precision, "engine", "engine 1.0", f"{turn:064x}", "top1", "share that is right", True,
            value, {odd: value, LONG: 1.0}, 1000, odd, "test", "ab" * 32, interval=interval,
            confusion=Confusion((odd, LONG), ((0, 0, 90), (0, 1, 10))), versus=base if precision == "w8a8" else None,
            warnings=(f"all answers are {odd}",),
        )  # fmt: skip

    judged = tuple(
        evaluation(turn, name, precision, value) for turn, (name, _, precision, _, value) in enumerate(_VARIANTS)
    )
    return Evaluations(judged, source_note="the source was not asked")


def _operations(odd: str) -> Operations:
    names = (odd, LONG, "pool", "gemm")
    ran = tuple(
        Operation(
            name, f"Type{turn}", name if turn else None, (), "int8", 100.0 + turn, 0.25, 10_000, 4_000, 0.3, "memory"
        )
        for turn, name in enumerate(names)
    )
    return Operations("", "the engine's profiler", "midmean", 10, ran, 406.0, 450.0, 400.0, 1.015, 0.25, 40_000)


def _optimization(odd: str) -> Optimization:
    trials = (
        Trial(
            "tflite-w8a8 on tflite x1", "tflite", "w8a8", "shipped", runtime="tflite", p50_us=1000.0,
            interval_us=(990.0, 1010.0), size_bytes=70_000, metric_value=0.985, on_front=True,
        ),
        Trial(
            "onnx-fp32 on onnx x1", "onnx", "fp32", "finalist", runtime="onnx", p50_us=2000.0,
            interval_us=(1990.0, 2020.0), size_bytes=222_000, metric_value=0.986, on_front=True,
        ),
        Trial(
            "onnx-w4 on onnx x1", "onnx", "w4g32", "refused", runtime="onnx", reason=f"0.2 worse {odd}",
            p50_us=1900.0, size_bytes=40_000, metric_value=0.79,
        ),
        Trial("onnx-w8 on onnx", "onnx", "w8", "skipped", reason="its kin already lost"),
    )  # fmt: skip
    return Optimization("latency", trials, "top1", 0.986, 0.005, 61.0)
