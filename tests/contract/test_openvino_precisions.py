"""What OpenVINO files of every precision hold, answer and run in: asked of the engine, not of the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit import graph as hub
from edgekit.converter import Feeds
from edgekit.converters import _openvino_child
from edgekit.converters.openvino import OpenVINOConverter
from edgekit.errors import UnsupportedError
from edgekit.feeds import random_feeds
from edgekit.graph.files import save
from edgekit.making import make_model
from edgekit.quantize import QuantPlan, make_quant_plan, observe
from edgekit.recipe import Recipe, Rule
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, OpPlacement, Session
from edgekit.target import Target

ONE = EngineOptions(threads=1)
FLOAT_ARITHMETIC = replace(ONE, vendor={"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0})
KINDS = ("FullyConnected", "RNNSeq")
WRITER = OpenVINOConverter(_openvino_child.convert)
PLACEMENT = Target.named("generic-x86").placements["openvino"]


def model(
    nodes: list[onnx.NodeProto], shapes: Mapping[str, tuple[int, ...]], x: tuple[int | str, ...], kind: int = 1
) -> ir.Model:
    """A graph from `x` to `y` with random weights of these shapes."""
    rng = np.random.default_rng(7)
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype("float32"), n) for n, s in shapes.items()]
    inputs = [helper.make_tensor_value_info("x", kind, x)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return hub.clean(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))


def one(
    kind: str, x: tuple[int | str, ...], *shapes: tuple[int, ...], dtype: int = 1, **attributes: object
) -> ir.Model:
    """A graph of one operation, whose weights are `shapes`."""
    names = [f"w{i}" for i in range(len(shapes))]
    inputs = [names[0], "x"] if kind == "Gather" else ["x", *names]
    node = helper.make_node(kind, inputs, ["y"], name="op", **attributes)
    return model([node], dict(zip(names, shapes, strict=True)), x, dtype)


def two_products(rows: int | str = 6, length: int = 256, width: int = 64) -> ir.Model:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="second"),
    ]
    return model(nodes, {"w1": (length, width), "w2": (width, width)}, (1, rows, length))


def plan_of(graph: ir.Model, recipe: Recipe, feeds: list[Feeds] | None = None) -> QuantPlan:
    return make_quant_plan(graph, PLACEMENT, recipe, observe(graph, feeds) if feeds else None)


def write(graph: ir.Model, path: Path, recipe: Recipe, feeds: list[Feeds] | None = None) -> QuantPlan:
    plan = plan_of(graph, recipe, feeds)
    WRITER.write(graph, path, precision=recipe.precision, plan=plan)
    return plan


def answer(path: Path, feed: Feeds, options: EngineOptions = ONE) -> np.ndarray:
    runtime = {".xml": "openvino", ".onnx": "onnx"}[path.suffix]
    with Session(RUNTIMES.get(runtime).open(path, options), runtime=runtime) as session:
        return next(iter(session.run(feed).values()))


def exact(graph: ir.Model, plan: QuantPlan, feed: Feeds, folder: Path) -> np.ndarray:
    """ONNX Runtime's answer by the numbers the stored integers stand for."""
    save(graph, folder / "rounded.onnx")
    proto = onnx.load(folder / "rounded.onnx")
    for tensor in proto.graph.initializer:
        if (stored := plan.stored.get(tensor.name)) is not None:
            params = getattr(stored, "params", None)
            real = stored.dequantize() if params is None else params.dequantize(stored.values)  # type: ignore[union-attr]
            tensor.CopyFrom(numpy_helper.from_array(real, tensor.name))
    onnx.save(proto, folder / "rounded.onnx")
    return answer(folder / "rounded.onnx", feed)


def prepared(path: Path, options: EngineOptions = ONE) -> list[OpPlacement]:
    return RUNTIMES.get("openvino").placements(path, options)


def precisions(path: Path, kind: str = "FullyConnected", options: EngineOptions = ONE) -> list[str]:
    return [op.precision for op in prepared(path, options) if op.type == kind]


def weight_types(path: Path) -> list[str]:
    """Types of the weights as the compiled model keeps them."""
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    place = {"FullyConnected": 1, "Gather": 0}
    return [
        layer.input(place[kind]).get_element_type().to_string()
        for layer in compiled.get_runtime_model().get_ordered_ops()
        if (kind := layer.get_rt_info()["layerType"].astype(str)) in place
    ]


def feed(shape: tuple[int, ...], high: int | None = None) -> Feeds:
    rng = np.random.default_rng(8)
    return {"x": rng.standard_normal(shape).astype("float32") if high is None else rng.integers(0, high, shape)}


def sqnr_db(reference: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(reference).sum() / max(np.square(reference - got).sum(), 1e-30)))


def bin_bytes(path: Path) -> int:
    return path.with_suffix(".bin").stat().st_size


STORED: dict[str, tuple[Callable[[], ir.Model], Feeds]] = {
    "Conv": (lambda: one("Conv", (1, 8, 9, 9), (16, 8, 3, 3)), feed((1, 8, 9, 9))),
    "grouped Conv": (lambda: one("Conv", (1, 8, 9, 9), (16, 2, 3, 3), group=4), feed((1, 8, 9, 9))),
    "grouped ConvTranspose": (lambda: one("ConvTranspose", (1, 8, 5, 5), (8, 6, 3, 3), group=2), feed((1, 8, 5, 5))),
    "ConvTranspose": (lambda: one("ConvTranspose", (1, 8, 5, 5), (8, 12, 3, 3)), feed((1, 8, 5, 5))),
    "MatMul": (lambda: one("MatMul", (2, 5, 32), (32, 24)), feed((2, 5, 32))),
    "MatMul of batches": (lambda: one("MatMul", (3, 5, 32), (3, 32, 24)), feed((3, 5, 32))),
    "Gemm": (lambda: one("Gemm", (5, 32), (32, 24), (24,)), feed((5, 32))),
    "Gemm, transposed": (lambda: one("Gemm", (5, 32), (24, 32), (24,), transB=1), feed((5, 32))),
    "Gather": (lambda: one("Gather", (2, 5), (40, 24), dtype=TensorProto.INT64), feed((2, 5), 40)),
    "LSTM": (lambda: one("LSTM", (7, 1, 8), (1, 48, 8), (1, 48, 12), hidden_size=12), feed((7, 1, 8))),
    "LSTM, both ways": (
        lambda: one("LSTM", (7, 1, 8), (2, 48, 8), (2, 48, 12), hidden_size=12, direction="bidirectional"),
        feed((7, 1, 8)),
    ),
    "GRU": (lambda: one("GRU", (7, 1, 8), (1, 36, 8), (1, 36, 12), hidden_size=12), feed((7, 1, 8))),
}


@pytest.mark.parametrize("kind", STORED)
def test_bytes_stand_for_the_numbers_of_the_plan(kind: str, tmp_path: Path) -> None:
    make, x = STORED[kind]
    graph = make()
    plan = write(graph, tmp_path / "w8.xml", Recipe.named("w8"))
    WRITER.write(graph, tmp_path / "fp32.xml", precision="fp32", plan=None)
    want, got = exact(graph, plan, x, tmp_path), answer(tmp_path / "w8.xml", x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    assert np.abs(got - answer(tmp_path / "fp32.xml", x)).max() > 1e-3 * np.abs(want).max(), "nothing was rounded"
    assert bin_bytes(tmp_path / "w8.xml") < 0.5 * bin_bytes(tmp_path / "fp32.xml")


@pytest.mark.parametrize("length", [96, 80, 20])
@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Gemm, transposed"])
def test_four_bits_stand_for_the_numbers_of_the_plan(kind: str, length: int, tmp_path: Path) -> None:
    """Also where the last block is shorter than the others, or the only one."""
    shape, turn = ((24, length), {"transB": 1}) if "transposed" in kind else ((length, 24), {})
    graph = one(kind.split(",")[0], (5, length), shape, **turn)
    plan = write(graph, tmp_path / "w4.xml", Recipe.named("w4g32"))
    want = exact(graph, plan, feed((5, length)), tmp_path)
    assert sqnr_db(want, answer(tmp_path / "w4.xml", feed((5, length)))) > 60, "scales in halves are 2**-12 off"
    assert bin_bytes(tmp_path / "w4.xml") < 24 * length * 0.75
    assert weight_types(tmp_path / "w4.xml") == ["f32" if length == 80 else "u4"]


def test_scales_too_small_for_halves_stay_single(tmp_path: Path) -> None:
    graph = one("MatMul", (5, 64), (64, 24))
    weight = graph.graph.initializers["w0"]
    assert weight.const_value is not None
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1e-5), name="w0")
    plan = write(graph, tmp_path / "w4.xml", Recipe.named("w4g32"))
    want = exact(graph, plan, feed((5, 64)), tmp_path)
    np.testing.assert_allclose(answer(tmp_path / "w4.xml", feed((5, 64))), want, atol=1e-6 * np.abs(want).max())


def test_tables_and_matrices_stay_small_in_memory(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["a"], name="words"),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="dense"),
    ]
    graph = model(nodes, {"table": (50, 64), "w": (64, 32)}, (1, "steps"), TensorProto.INT64)
    write(graph, tmp_path / "w8.xml", Recipe.named("w8"))
    assert sorted(weight_types(tmp_path / "w8.xml")) == ["i8", "i8"]
    write(graph, tmp_path / "w4.xml", Recipe.named("w4g32"))
    assert sorted(weight_types(tmp_path / "w4.xml")) == ["i8", "u4"]


@pytest.mark.parametrize("recipe", ["w8", "w4g32"])
def test_weight_only_files_compute_in_float(recipe: str, tmp_path: Path) -> None:
    """Left alone, OpenVINO would round activations of such layers in each call."""
    write(two_products(), tmp_path / "m.xml", Recipe.named(recipe))
    x = feed((1, 6, 256))
    assert precisions(tmp_path / "m.xml") == ["fp32", "fp32"]
    assert np.array_equal(answer(tmp_path / "m.xml", x), answer(tmp_path / "m.xml", x, FLOAT_ARITHMETIC))


@pytest.mark.parametrize("rows", [1, 6, "rows"])
def test_dynamic_files_say_int8_where_activations_are_rounded(rows: int | str, tmp_path: Path) -> None:
    """They are on processors with VNNI; either way the account agrees with the answer."""
    graph = two_products(rows)
    plan = write(graph, tmp_path / "m.xml", Recipe.named("w8a8-dynamic"))
    assert plan.dynamic_ops == ("first", "second")
    x = feed((1, 6 if rows == "rows" else int(rows), 256))
    got, in_float = answer(tmp_path / "m.xml", x), answer(tmp_path / "m.xml", x, FLOAT_ARITHMETIC)
    said = set(precisions(tmp_path / "m.xml"))
    assert said == {"fp32" if np.array_equal(got, in_float) else "int8"}
    assert set(precisions(tmp_path / "m.xml", options=FLOAT_ARITHMETIC)) == {"fp32"}
    assert sqnr_db(in_float, got) > 30 if said == {"int8"} else np.array_equal(in_float, got)


def test_sums_too_short_for_a_group_are_said_to_run_in_float(tmp_path: Path) -> None:
    """The first product holds nearly all weights and decides the group; the second sums over 20."""
    write(two_products(length=2048, width=20), tmp_path / "m.xml", Recipe.named("w8a8-dynamic"))
    first, second = precisions(tmp_path / "m.xml")
    assert second == "fp32"
    assert first == ("int8" if "int8" in set(precisions_of_long_sums(tmp_path)) else "fp32")


def precisions_of_long_sums(folder: Path) -> list[str]:
    write(two_products(), folder / "long.xml", Recipe.named("w8a8-dynamic"))
    return precisions(folder / "long.xml")


def test_a_share_is_told_of_the_whole_model_or_not_at_all(tmp_path: Path) -> None:
    """The recurrent layer's cost hangs on the steps: the dense layer's alone must not pass for the model's."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r"], ["a", "b"], name="cell", hidden_size=32),
        helper.make_node("MatMul", ["b", "m"], ["y"], name="dense"),
    ]
    shapes = {"w": (1, 128, 8), "r": (1, 128, 32), "m": (32, 16)}
    for steps, known in (("steps", False), (7, True)):
        write(model(nodes, shapes, (1, steps, 8)), tmp_path / "m.xml", Recipe.named("w8"))
        assert all((op.macs is not None) == known for op in prepared(tmp_path / "m.xml") if op.type in KINDS)


@pytest.mark.parametrize("kept", ["w8", "w4g32"])
def test_a_product_the_recipe_keeps_in_float_stays_so_beside_dynamic_ones(kept: str, tmp_path: Path) -> None:
    graph = two_products()
    recipe = Recipe.named("w8a8-dynamic").with_rule(Rule(kept, name="second"))
    plan = write(graph, tmp_path / "m.xml", recipe)
    assert plan.dynamic_ops == ("first",)
    first, second = precisions(tmp_path / "m.xml")
    assert (first, second) == (precisions_of_long_sums(tmp_path)[0], "fp32")
    want = exact(graph, plan, feed((1, 6, 256)), tmp_path)
    np.testing.assert_allclose(
        answer(tmp_path / "m.xml", feed((1, 6, 256)), FLOAT_ARITHMETIC), want, rtol=2e-3, atol=1e-3 * np.abs(want).max()
    )


def test_static_and_stored_weights_live_in_one_file(tmp_path: Path) -> None:
    graph = two_products()
    feeds = [feed((1, 6, 256))]
    recipe = Recipe.named("w8a8").with_rule(Rule("w4g32", name="second"))
    plan = write(graph, tmp_path / "m.xml", recipe, feeds)
    assert plan.quantized_ops == ("first",)
    assert precisions(tmp_path / "m.xml") == ["int8", "fp32"]
    WRITER.write(graph, tmp_path / "fp32.xml", precision="fp32", plan=None)
    assert sqnr_db(answer(tmp_path / "fp32.xml", feeds[0]), answer(tmp_path / "m.xml", feeds[0])) > 15


def test_recurrent_layers_stay_float_beside_integers(tmp_path: Path) -> None:
    """Given integer weights and an input that FakeQuantize stands behind, OpenVINO computes them in bytes, wrongly."""
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["a"], name="cell", hidden_size=12),
        helper.make_node("MatMul", ["x", "m"], ["b"], name="dense"),
        helper.make_node("ReduceMean", ["a"], ["c"], keepdims=0),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    graph = model(nodes, {"w": (1, 48, 8), "r": (1, 48, 12), "m": (8, 16)}, (7, 1, 8))
    feeds = [feed((7, 1, 8))]
    recipe = Recipe.named("w8a8").with_rule(Rule("w8", op_type="LSTM"))
    plan = plan_of(graph, recipe, feeds)
    assert set(plan.stored) == {"w", "r"}
    written = WRITER.write(graph, tmp_path / "m.xml", precision="w8a8", plan=plan)
    assert any("halves" in note and "cell" in note for note in written.notes)
    assert precisions(tmp_path / "m.xml") == ["int8"]
    assert precisions(tmp_path / "m.xml", "RNNSeq") == ["fp32"]


def test_activations_of_16_bits_are_refused(tmp_path: Path) -> None:
    graph = two_products()
    plan = plan_of(graph, Recipe.named("w8a16"), [feed((1, 6, 256))])
    with pytest.raises(UnsupportedError, match="16 bits") as caught:
        WRITER.write(graph, tmp_path / "m.xml", precision="w8a16", plan=plan)
    assert caught.value.offenders
    assert "w8a16" in Target.named("generic-x86").refusals["openvino"]
    assert list(tmp_path.iterdir()) == []


def test_a_bf16_file_asks_for_its_arithmetic_and_can_be_told_otherwise(tmp_path: Path) -> None:
    import openvino

    graph, x = two_products(), feed((1, 6, 256))
    for precision in ("fp32", "bf16"):
        WRITER.write(graph, tmp_path / f"{precision}.xml", precision=precision, plan=None)
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    opened = RUNTIMES.get("openvino").open(tmp_path / "bf16.xml", ONE)
    assert opened.precision == ("bf16" if has_bf16 else "fp32")
    single = replace(ONE, vendor={"INFERENCE_PRECISION_HINT": "f32"})
    want = answer(tmp_path / "fp32.xml", x)
    assert np.array_equal(answer(tmp_path / "bf16.xml", x, single), want)
    assert np.array_equal(answer(tmp_path / "bf16.xml", x), want) == (not has_bf16)


@pytest.mark.parametrize("recipe", ["w8", "w4g32", "w8a8-dynamic"])
def test_bytes_are_the_same_every_time(recipe: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(two_products(), tmp_path / f"{name}.xml", Recipe.named(recipe))
    for suffix in (".xml", ".bin"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("size", "count"),
    [("tiny", 11), pytest.param("50", 53, marks=pytest.mark.slow)],  # 100 MB of weights
)
def test_all_convolutions_of_a_resnet_run_in_bytes(size: str, count: int, tmp_path: Path) -> None:
    graph = hub.clean(hub.load(make_model("resnet", size, output=tmp_path / "resnet.onnx").path))
    feeds = random_feeds(hub.signature(graph), count=1, seed=0)
    write(graph, tmp_path / "m.xml", Recipe.named("w8a8"), feeds)
    assert precisions(tmp_path / "m.xml", "Convolution") == ["int8"] * count


def test_two_static_products_without_a_bias_are_right_or_refused(tmp_path: Path) -> None:
    """OpenVINO 2026.4.1 makes one Subgraph of such a pair between fixed sizes, and its answer can be noise."""
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["a"]), helper.make_node("MatMul", ["a", "w2"], ["y"])]
    graph = model(nodes, {"w1": (64, 128), "w2": (128, 10)}, (4, 64))
    save(graph, tmp_path / "net.onnx")
    np.save(tmp_path / "data.npy", np.random.default_rng(0).standard_normal((16, 4, 64)).astype("float32"))
    wanted = {"target": "generic-x86", "format": "openvino", "precision": "w8a8"}
    try:
        report = edgekit.convert(
            tmp_path / "net.onnx", tmp_path / "net.edge", calibration_data=tmp_path / "data.npy", **wanted
        )
    except UnsupportedError:
        return
    assert report.variants[0].parity is not None
    assert report.variants[0].parity["sqnr_db"] > 20
