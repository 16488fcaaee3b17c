"""What every converter that writes must hold: one battery for direct roads, one for writers from the hub.

class TestOnnx(WriterContract):
    converter = "onnx"

class TestTFLite(RoadContract):
    converter = "tflite"
    reader = "keras"
    sample = staticmethod(lambda folder: build_a_small_model(folder))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from edgekit.converter import DirectRoad, RoadRequest, SourceModel, Writer, Written
from edgekit.errors import EdgekitError, UnsupportedError
from edgekit.feeds import random_feeds
from edgekit.parity import compare
from edgekit.registry import CONVERTERS
from edgekit.spec import Signature, TensorSpec
from edgekit.target import Target
from edgekit.testing.converter_contract import ConverterContract, Make, answers, digest_of, feeds_for, open_file

__all__ = ["RoadContract", "WriterContract"]


class RoadContract(ConverterContract):
    """For direct roads: from one source, by each road of the converter, in every precision the road honours.

    Attributes:
        reader: Name of the converter that opens the source.
        sample: Makes the source in the folder it is given.
        min_sqnr_db: What each precision must reach on random feeds.
    """

    reader: ClassVar[str]
    sample: ClassVar[Make]
    min_sqnr_db: ClassVar[Mapping[str, float]] = {"fp32": 80.0, "fp16": 40.0, "w8a8": 15.0}

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceModel]:
        path = cls.sample(tmp_path_factory.mktemp("sample"))
        opened = CONVERTERS.get(cls.reader).read(path, tmp_path_factory.mktemp("stage"))
        yield opened
        opened.close()

    @pytest.fixture(params=["fp32", "fp16", "w8a8"])
    def precision(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def all_roads(self) -> list[DirectRoad]:
        """Those that begin at what the reader exports."""
        return [road for road in self.it.roads if road.needs in CONVERTERS.get(self.reader).exports]

    def roads(self, precision: str) -> list[DirectRoad]:
        found = [road for road in self.all_roads() if precision in road.precisions]
        if not found:
            pytest.skip(f"no direct road to {self.it.format} honours {precision}")
        return found

    def drive(self, road: DirectRoad, source: SourceModel, precision: str, path: Path) -> Written:
        feeds = random_feeds(source.signature, count=8, seed=3)
        return road.drive(source, RoadRequest(precision, Target.named("host"), path, lambda: feeds))

    def test_the_file_agrees_with_the_source(self, source: SourceModel, precision: str, tmp_path: Path) -> None:
        for road in self.roads(precision):
            written = self.drive(road, source, precision, tmp_path / f"model{self.it.suffix}")
            feeds = feeds_for(source.signature)[:2]
            with open_file(written.files[0], self.it.format, source.signature, written) as session:
                got = answers(session.run, feeds)
            parity = compare(answers(source.run, feeds), got, data="random feeds")
            assert parity.sqnr_db >= self.min_sqnr_db[precision]
            assert precision != "fp32" or parity.relative <= self.tolerance
            assert written.versions

    def test_the_same_source_gives_the_same_bytes(self, source: SourceModel, precision: str, tmp_path: Path) -> None:
        for road in self.roads(precision):
            digests = set()
            for folder in (tmp_path / "first", tmp_path / "second"):
                folder.mkdir()
                self.drive(road, source, precision, folder / f"model{self.it.suffix}")
                digests.add(digest_of(folder))
            assert len(digests) == 1

    def test_fewer_bits_make_a_smaller_file(self, source: SourceModel, tmp_path: Path) -> None:
        for road in self.all_roads():
            sizes = {}
            for precision in road.precisions:
                written = self.drive(road, source, precision, tmp_path / f"{precision}{self.it.suffix}")
                sizes[precision] = sum(file.stat().st_size for file in written.files)
            assert all(sizes[precision] < sizes["fp32"] for precision in sizes if precision != "fp32")

    def test_a_failure_leaves_nothing_behind(self, source: SourceModel, tmp_path: Path) -> None:
        for road in self.all_roads():
            request = RoadRequest(road.precisions[-1], Target.named("host"), tmp_path / f"model{self.it.suffix}", list)
            broken = SourceModel(**{**vars(source), "exports": {road.needs: tmp_path / "missing"}})
            with pytest.raises(EdgekitError):
                road.drive(broken, request)
            assert list(tmp_path.iterdir()) == []


class WriterContract(ConverterContract):
    """For converters that write from the hub. The sample network is the battery's own.

    Attributes:
        batch: A batch size that a file takes which is made of a network whose batch is open.
    """

    batch: ClassVar[int] = 2

    @property
    def it(self) -> Writer:
        found: Writer = CONVERTERS.get(self.converter)
        return found

    @pytest.fixture(scope="class")
    @classmethod
    def hub(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return _small_network(tmp_path_factory.mktemp("hub") / "hub.onnx")

    def write(self, hub: Path, path: Path, precision: str = "fp32") -> Written:
        import onnx_ir

        return self.it.write(onnx_ir.load(hub), path, precision=precision, plan=None)

    def signature(self) -> Signature:
        return Signature(
            (TensorSpec("image", "float32", ("batch", 3, 8, 8)),), (TensorSpec("scores", "float32", ("batch", 5)),)
        )

    @pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("fp16", 2e-3)])
    def test_the_file_agrees_with_the_hub(self, hub: Path, precision: str, bound: float, tmp_path: Path) -> None:
        written = self.write(hub, tmp_path / f"model{self.it.suffix}", precision)
        feeds = feeds_for(self.signature(), batch=self.batch)
        with open_file(hub, "reference", self.signature()) as oracle:
            expected = answers(oracle.run, feeds)
        with open_file(written.files[0], self.it.format, self.signature(), written) as session:
            parity = compare(expected, answers(session.run, feeds), data="fixed and random feeds")
        assert parity.relative <= bound

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_the_same_graph_gives_the_same_bytes(self, hub: Path, precision: str, tmp_path: Path) -> None:
        digests = set()
        for folder in (tmp_path / "first", tmp_path / "second"):
            folder.mkdir()
            self.write(hub, folder / f"model{self.it.suffix}", precision)
            digests.add(digest_of(folder))
        assert len(digests) == 1

    def test_fp16_is_smaller(self, hub: Path, tmp_path: Path) -> None:
        sizes = {}
        for precision in ("fp32", "fp16"):
            written = self.write(hub, tmp_path / f"{precision}{self.it.suffix}", precision)
            sizes[precision] = sum(file.stat().st_size for file in written.files)
        assert sizes["fp16"] < 0.75 * sizes["fp32"]

    def test_unknown_operations_are_all_named_and_nothing_is_written(self, tmp_path: Path) -> None:
        import onnx_ir

        graph = onnx_ir.load(_small_network(tmp_path / "hub.onnx", unknown=("Frobnicate", "Quux")))
        (out := tmp_path / "out").mkdir()
        with pytest.raises(UnsupportedError) as caught:
            self.it.write(graph, out / f"model{self.it.suffix}", precision="fp32", plan=None)
        assert all(any(name in offender for offender in caught.value.offenders) for name in ("Frobnicate", "Quux"))
        assert list(out.iterdir()) == []


def _small_network(path: Path, unknown: Sequence[str] = ()) -> Path:
    """A convolution, a pool and a product, 12,000 weights; `unknown` operations are put behind it."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(5)
    shapes = {"kernel": (16, 3, 3, 3), "bias": (16,), "matrix": (256, 48), "offset": (48,), "last": (48, 5)}
    weights = {name: rng.standard_normal(shape).astype("float32") / 8 for name, shape in shapes.items()}
    steps = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "matrix", "offset"], ["g"], "gemm"),
        helper.make_node("Tanh", ["g"], ["t"], "tanh"),
    ]
    tail = "t"
    for name in unknown:
        steps.append(helper.make_node(name, [tail], [name.lower()], name.lower(), domain="com.example"))
        tail = name.lower()
    steps.append(helper.make_node("MatMul", [tail, "last"], ["scores"], "scores"))
    graph = helper.make_graph(
        steps,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid("com.example", 1)] if unknown else [])]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path
