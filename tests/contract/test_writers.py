"""ONNX as a source and as a format, OpenVINO and TFLite as formats: the shipped batteries, and what is theirs alone."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.converter import Feeds
from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.quantize import QuantPlan, make_quant_plan, observe
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions
from edgekit.target import Target
from edgekit.testing.converter_contract import SourceContract, open_file
from edgekit.testing.writing_contract import WriterContract
from tests.assets import asset
from tests.unit.networks import custom_operations, old_opset, residual_network

ONE_THREAD = EngineOptions(threads=1)


class TestOnnxSource(SourceContract):
    """D2: a network with padding, transposes and three outputs."""

    converter = "onnx"
    tolerance = 1e-4
    oracle = "onnx"  # the reference evaluator needs a minute for this one

    @staticmethod
    def sample(folder: Path) -> Path:
        source = asset("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx")
        return Path(shutil.copyfile(source, folder / "nmp.onnx"))

    @staticmethod
    def unsupported(folder: Path) -> tuple[Path, tuple[str, ...]]:
        return custom_operations(folder / "custom.onnx"), ("Frobnicate", "Quux")


class TestOldOnnxSource(SourceContract):
    """Opset 11 is raised on the way to the hub."""

    converter = "onnx"

    @staticmethod
    def sample(folder: Path) -> Path:
        return old_opset(folder / "old.onnx")


class TestOnnxWriter(WriterContract):
    converter = "onnx"


class TestOpenVINOWriter(WriterContract):
    converter = "openvino"


class TestTFLiteWriter(WriterContract):
    converter = "tflite"
    batch = 1


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return hub.clean(residual_network())


@pytest.fixture(scope="module")
def feeds() -> list[Feeds]:
    rng = np.random.default_rng(4)
    return [{"image": rng.normal(0, 1, (1, 3, 32, 32)).astype("float32")} for _ in range(8)]


def plan_for(network: ir.Model, format: str, feeds: list[Feeds]) -> QuantPlan:
    placement = Target.named("generic-x86").placements[format]
    return make_quant_plan(network, placement, Recipe.named("int8"), observe(network, feeds))


def sqnr_db(reference: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - got).sum()))


@pytest.mark.parametrize("format", ["onnx", "openvino", "tflite"])
def test_int8_keeps_the_answer_in_fewer_bytes(
    format: str, network: ir.Model, feeds: list[Feeds], tmp_path: Path
) -> None:
    writer = CONVERTERS.get(format)
    answers, sizes = {}, {}
    for precision in ("fp32", "w8a8"):
        plan = plan_for(network, format, feeds) if precision == "w8a8" else None
        written = writer.write(network, tmp_path / f"{precision}{writer.suffix}", precision=precision, plan=plan)
        sizes[precision] = sum(file.stat().st_size for file in written.files)
        with open_file(written.files[0], format, hub.signature(network), written) as session:
            answers[precision] = np.concatenate([session.run(feed)["scores"] for feed in feeds])
    assert sqnr_db(answers["fp32"], answers["w8a8"]) > 20
    assert sizes["w8a8"] < 0.45 * sizes["fp32"]


@pytest.mark.parametrize("format", ["onnx", "openvino", "tflite"])
def test_int8_bytes_are_the_same_every_time(format: str, network: ir.Model, feeds: list[Feeds], tmp_path: Path) -> None:
    writer = CONVERTERS.get(format)
    contents = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        plan = plan_for(network, format, feeds)
        written = writer.write(network, tmp_path / folder / f"m{writer.suffix}", precision="w8a8", plan=plan)
        contents.append([file.read_bytes() for file in written.files])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("format", "product"), [("onnx", "QLinearConv"), ("openvino", "Convolution"), ("tflite", "CONV_2D")]
)
def test_every_convolution_really_runs_in_integers(
    format: str, product: str, network: ir.Model, feeds: list[Feeds], tmp_path: Path
) -> None:
    writer, plan = CONVERTERS.get(format), plan_for(network, format, feeds)
    path = tmp_path / f"m{writer.suffix}"
    writer.write(network, path, precision="w8a8", plan=plan)
    ran = RUNTIMES.get(format).placements(path, ONE_THREAD)
    convolutions = Counter(op.precision for op in ran if op.type in (product, "Conv", "FusedConv", "DEPTHWISE_CONV_2D"))
    all_of_them = sum(node.op_type == "Conv" for node, _ in hub.walk(network.graph))
    assert convolutions == Counter(int8=all_of_them - len(plan.float_ops), fp32=len(plan.float_ops))
    assert all("narrow" in reason for reason in plan.float_ops.values())
    assert len(plan.float_ops) == (format == "tflite"), "its first convolution, of 3 channels"


def test_openvino_runs_no_f32_pooling_between_integer_convolutions(
    network: ir.Model, feeds: list[Feeds], tmp_path: Path
) -> None:
    """Parameters are moved up through the pool, so that it too works on bytes."""
    CONVERTERS.get("openvino").write(
        network, tmp_path / "m.xml", precision="w8a8", plan=plan_for(network, "openvino", feeds)
    )
    ran = RUNTIMES.get("openvino").placements(tmp_path / "m.xml", ONE_THREAD)
    assert [op.precision for op in ran if op.type == "Pooling"] == ["int8"]


@pytest.mark.parametrize("format", ["onnx", "openvino", "tflite"])
def test_a_writer_refuses_what_it_cannot_write(format: str, network: ir.Model, tmp_path: Path) -> None:
    for precision in ("w4g32", "w8a8"):
        with pytest.raises(UnsupportedError, match=precision):
            CONVERTERS.get(format).write(network, tmp_path / "m", precision=precision, plan=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", ""])
def test_external_data_outside_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    path = external(tmp_path, location)
    with pytest.raises(ArtifactError, match="outside the model's folder"):
        CONVERTERS.get("onnx").read(path, tmp_path / "stage")


def test_external_data_that_are_missing_or_cut_are_said_so(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    with pytest.raises(ArtifactError, match="missing"):
        CONVERTERS.get("onnx").read(path, tmp_path / "stage")
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8)
    with pytest.raises(ArtifactError, match="too short"):
        CONVERTERS.get("onnx").read(path, tmp_path / "stage")


def test_external_data_in_the_folder_are_read(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").write_bytes(np.arange(4, dtype="float32").tobytes())
    source = CONVERTERS.get("onnx").read(path, tmp_path / "stage")
    answer = source.run({"x": np.ones(4, "float32")})
    assert answer["y"].tolist() == [1, 2, 3, 4]
    assert [file.name for file in (tmp_path / "stage").iterdir()] == ["hub.onnx"]


def external(folder: Path, location: str) -> Path:
    """``y = x + w`` with w in another file."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> m (float[4] x) => (float[4] y) { y = Add(x, w) }'
    )
    weight = model.graph.initializer.add(name="w", data_type=1, dims=[4], data_location=1)
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        weight.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path
