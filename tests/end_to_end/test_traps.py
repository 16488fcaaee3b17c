"""Files no faster than the floats they replace, as engines' own tools make them: none is shipped, with the reason.

Each test shows the trap in a file of the vendor's own tool, so that it is noticed when that is cured, then what becomes
of it here: the plan avoids it, or the file is refused. None of this hangs on a clock: which kernels run is read from
what the engine prepared. That the gate that does measure refuses what is slower is held in
`tests/contract/test_peer_failures.py` (activations of 16 bits); that convolutions rounded by the call are left in float
in every target's plan, and LSTMs of static integers in ONNX, there and in `tests/contract/test_onnx_precisions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.conversion import VariantReport
from edgekit.converters.tflite.reading import read_model
from edgekit.family import find_size
from edgekit.feeds import random_feeds
from edgekit.graph import bind_dimensions, clean, load, save
from edgekit.making import make_model
from edgekit.network import starting_weights
from edgekit.network.onnx_form import save_onnx
from edgekit.opening import detect_format
from edgekit.quantize.policies import policy_for
from edgekit.recipe import DYNAMIC, STATIC
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions
from edgekit.target import Target

ONE = EngineOptions(threads=1)
X86 = Target.named("generic-x86")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A file of a tiny model with the weights that ship; `convert` knows no data for it."""
    folder = tmp_path_factory.mktemp("sources")

    def made(name: str) -> Path:
        path = folder / f"{name}.onnx"
        return path if path.exists() else make_model(name, output=path).path

    return made


class Made:
    """What `convert` made of a source for any x86, by ``format-recipe``."""

    def __init__(self, source: Path, folder: Path, *precisions: str, **wishes: Any) -> None:
        wishes = {"calibration_data": "random:8", **wishes} if "w8a8" in precisions else wishes
        self.output = folder / f"{source.stem}.edge"
        report = edgekit.convert(source, self.output, target=X86, precision=precisions, **wishes)
        self.variants: dict[str, VariantReport] = {variant.name: variant for variant in report.variants}

    def __getitem__(self, name: str) -> VariantReport:
        return self.variants[name]

    def file(self, name: str) -> Path:
        assert self[name].status == "written", self[name].reason
        return edgekit.Bundle.open(self.output).variant(name).path


def ort_static(path: Path, target: Path) -> Path:
    """By ONNX Runtime's `quantize_static`, nothing told but what it calibrates on."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            with edgekit.load(path, runtime="onnx") as session:
                self.left = iter(random_feeds(session.signature, count=3))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    quantize_static(str(path), str(target), Reader())
    return target


def ai_edge_dynamic(path: Path, target: Path) -> Path:
    """By ai-edge-quantizer's own recipe of dynamic ranges."""
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(path), recipe.dynamic_wi8_afp32()).quantize(None)
    target.write_bytes(bytes(made.quantized_model))
    return target


def rounded_to(path: Path) -> set[str]:
    """Integers that QuantizeLinear makes of activations in an ONNX file."""
    graph = onnx.load(path).graph
    types = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer}
    return {types[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}


def rounding_by_the_call(path: Path) -> set[str]:
    """Operations of a TFLite file that multiply floats by stored integers."""
    ops = (op for graph in read_model(path).graph.graphs() for op in graph.ops)
    kinds = ((op.code, {tensor.dtype for tensor in op.arguments()}) for op in ops)
    return {code for code, dtypes in kinds if {"float32", "int8"} <= dtypes}


def prepared(path: Path) -> Iterator[tuple[str, str, int]]:
    """Type, precision and multiplications of what the engine prepared of the file."""
    for op in RUNTIMES.get(detect_format(path)).placements(path, ONE):
        if op.macs:
            yield op.type, op.precision, op.macs


def int8_share(path: Path) -> float:
    ops = list(prepared(path))
    return sum(macs for _, precision, macs in ops if precision == "int8") / sum(macs for *_, macs in ops)


# --- 1: signed activations with signed weights, for which x86 has no fast kernel in ONNX Runtime ----------------------


def test_activations_in_onnx_files_for_x86_are_unsigned(source: Callable[[str], Path], tmp_path: Path) -> None:
    path = source("resnet:tiny")
    assert rounded_to(ort_static(path, tmp_path / "vendor.onnx")) == {"INT8"}
    made = Made(path, tmp_path, "fp32", "w8a8", format="onnx")
    assert rounded_to(made.file("onnx-w8a8")) == {"UINT8"}
    assert int8_share(made.file("onnx-w8a8")) > 0.95
    for name in Target.names():
        if name != "host" and "x86_64" in Target.named(name).architectures:
            assert Target.named(name).placements["onnx"].activations == "uint8", name


# --- 2: convolutions whose activations are rounded by the call: ConvInteger -------------------------------------------


def test_a_convolutional_net_gets_no_onnx_file_of_dynamic_integers(
    source: Callable[[str], Path], tmp_path: Path
) -> None:
    from onnxruntime.quantization import quantize_dynamic

    path = source("resnet:tiny")
    quantize_dynamic(str(path), str(tmp_path / "vendor.onnx"))
    assert "ConvInteger" in {node.op_type for node in onnx.load(tmp_path / "vendor.onnx").graph.node}
    refused = Made(path, tmp_path, "fp32", "w8a8-dynamic", format="onnx")["onnx-w8a8-dynamic"]
    assert refused.status == "refused"
    assert "of its multiplications run in integers" in refused.reason


# --- 3: TFLite's depthwise and transposed convolutions of dynamic ranges ----------------------------------------------


SLOW = {"mobilenet-v2:tiny": "DEPTHWISE_CONV_2D", "unet:tiny": "TRANSPOSE_CONV"}


@pytest.mark.parametrize("name", SLOW)
def test_slow_kernels_of_dynamic_ranges_are_not_written(
    name: str, source: Callable[[str], Path], tmp_path: Path
) -> None:
    slow = SLOW[name]
    made = Made(source(name), tmp_path, "fp32", "w8a8-dynamic", "w8", format="tflite")
    vendor = ai_edge_dynamic(made.file("tflite-fp32"), tmp_path / "vendor.tflite")
    assert slow in rounding_by_the_call(vendor)
    dynamic = made["tflite-w8a8-dynamic"]
    if dynamic.status == "refused":  # of some nets nothing is left that would be faster
        assert "of its multiplications run in integers" in dynamic.reason
    else:
        assert slow not in rounding_by_the_call(made.file("tflite-w8a8-dynamic"))
        assert {precision for kind, precision, _ in prepared(made.file("tflite-w8a8-dynamic")) if kind == slow} <= {
            "fp32"
        }
    assert rounding_by_the_call(made.file("tflite-w8")) == set()


# --- 4: static integers in TFLite's transformers ----------------------------------------------------------------------


def test_a_transformer_gets_the_range_of_every_call(tmp_path: Path) -> None:
    """Static integers took as long as floats in TFLite, those of every call a third: only these are tried."""
    network = find_size("bert:tiny")[0].network("tiny", width=256, inner=512)
    path = save_onnx(network, starting_weights(network), tmp_path / "bert.onnx")
    policy = policy_for(clean(load(path)))
    assert policy.kind == "transformer"
    assert policy.candidates[0].precision in DYNAMIC
    assert all(recipe.smooth for recipe in policy.candidates if recipe.precision in STATIC)
    ids = np.random.default_rng(0).integers(1, 200, (12, 64))
    np.savez(tmp_path / "texts.npz", input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=np.zeros_like(ids))
    wishes = {"format": "tflite", "calibration_data": tmp_path / "texts.npz", "min_sqnr_db": 15}
    made = Made(path, tmp_path, "fp32", "int8", **wishes)
    found = edgekit.Bundle.open(made.output).variant("tflite-auto")
    assert found.facts["recipe"]["precision"] == "w8a8-dynamic"
    assert rounding_by_the_call(found.path) == {"FULLY_CONNECTED"}
    assert int8_share(found.path) > 0.8


# --- 5: static integers in recurrent layers, which change nothing and say nothing -------------------------------------


def test_a_recurrent_net_has_no_static_integers_in_any_format(source: Callable[[str], Path], tmp_path: Path) -> None:
    """In the file of `quantize_static` the LSTM is as it was; here it is counted, and refused by its name."""
    fixed = tmp_path / "lstm.onnx"
    save(bind_dimensions(load(source("lstm:tiny")), {"steps": 25}), fixed)
    vendor = ort_static(fixed, tmp_path / "vendor.onnx")
    assert "LSTM" in {node.op_type for node in onnx.load(vendor).graph.node}
    assert int8_share(vendor) < 0.05
    made = Made(fixed, tmp_path, "fp32", "w8a8")
    for name in ("onnx-w8a8", "tflite-w8a8", "openvino-w8a8"):
        assert made[name].status == "refused"
        assert "hardly anything" in made[name].reason
        assert "LSTM has no integer kernel here" in made[name].reason
        assert "w8a8-dynamic" in made[name].reason, "what would help is named"


# --- 6: weights stored in integers, which compute in floats -----------------------------------------------------------


def test_small_weights_are_said_to_compute_in_floats(source: Callable[[str], Path], tmp_path: Path) -> None:
    made = Made(source("resnet:tiny"), tmp_path, "fp32", "w8")
    for format in ("onnx", "tflite", "openvino"):
        small, whole = made[f"{format}-w8"], made[f"{format}-fp32"]
        assert small.int8_macs_share == 0
        assert {precision for _, precision, _ in prepared(made.file(f"{format}-w8"))} == {"fp32"}
        assert small.size_bytes is not None
        assert whole.size_bytes is not None
        assert small.size_bytes < whole.size_bytes / 2
    assert "float arithmetic" in edgekit.Recipe.named("w8").description


# --- 7: OpenVINO computes floats in bf16 where the processor can, and says so nowhere ---------------------------------


def test_floats_are_computed_as_floats_unless_bf16_is_asked_for(source: Callable[[str], Path], tmp_path: Path) -> None:
    import openvino

    path = Made(source("autoencoder:tiny"), tmp_path, "fp32", format="openvino").file("openvino-fp32")
    core = openvino.Core()
    by_itself = core.compile_model(path, "CPU").get_property("INFERENCE_PRECISION_HINT").to_string()
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert by_itself == ("bf16" if has_bf16 else "f32")
    exact = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with edgekit.load(path, threads=1) as plain, edgekit.load(path, threads=1, precision="bf16") as half:
        (feed,) = random_feeds(plain.signature, count=1)
        (wanted,) = exact([*feed.values()]).values()
        assert plain.precision == "fp32"
        assert half.precision == ("bf16" if has_bf16 else "fp32")
        (got,) = plain.run(feed).values()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
        (rough,) = half.run(feed).values()
        assert np.allclose(rough, wanted, rtol=1e-5, atol=1e-6) == (not has_bf16)
    profiled = edgekit.profile(tmp_path / "autoencoder:tiny.edge", runtime="openvino", rounds=1, min_samples=1,
                               min_time_s=0, warmup_s=0, cold_starts=0)  # fmt: skip
    assert {measured.arithmetic for measured in profiled.measurements} == {"fp32"}
