"""Every precision of a plan as an .onnx file: against the arithmetic written out, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

import edgekit
from edgekit import graph as hub
from edgekit.errors import UnsupportedError
from edgekit.quantize import QuantPlan, make_quant_plan, observe, to_qdq
from edgekit.quantize.plan import GroupedWeight
from edgekit.recipe import Recipe, Rule
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions
from edgekit.target import Target
from tests.unit.networks import from_text

ONE = EngineOptions(threads=1)
PLACEMENT = Target.named("generic-x86").placements["onnx"]
RNG = np.random.default_rng(5)


def numbers(*shape: int) -> np.ndarray:
    """Each row and column of another size, so that scales along a wrong axis show."""
    array = RNG.normal(0, 1, shape)
    for axis, size in enumerate(shape):
        array *= np.exp(RNG.normal(0, 0.7, [size if i == axis else 1 for i in range(len(shape))]))
    return array.astype("float32")


def network(body: str, shape: tuple[int, ...], rank: int, opset: int = 20, **weights: np.ndarray) -> ir.Model:
    sizes, open_sizes = ",".join(map(str, shape)), ",".join("abcde"[:rank])
    inputs, outputs = f"float[{sizes}] x", f"float[{open_sizes}] y"
    return hub.clean(from_text(body, inputs=inputs, outputs=outputs, opset=opset, **weights))


def feeds_of(*shape: int) -> dict[str, np.ndarray]:
    return {"x": RNG.normal(0, 1, shape).astype("float32")}


def plan_of(model: ir.Model, precision: str, *rules: Rule) -> QuantPlan:
    recipe = Recipe.named(precision)
    for rule in rules:
        recipe = recipe.with_rule(rule)
    return make_quant_plan(model, PLACEMENT, recipe)


def written(model: ir.Model, plan: QuantPlan, folder: Path, precision: str = "w8") -> Path:
    path = folder / f"{precision}.onnx"
    CONVERTERS.get("onnx").write(model, path, precision=precision, plan=plan)
    return path


def with_numbers(model: ir.Model, plan: QuantPlan) -> ir.Model:
    """The float model whose weights are what the stored integers stand for."""
    changed = model.clone()
    for name, weight in plan.stored.items():
        real = weight.dequantize() if isinstance(weight, GroupedWeight) else weight.params.dequantize(weight.values)
        changed.graph.initializers[name].const_value = ir.tensor(real, name=name)
    return changed


def sqnr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    error = np.square(wanted - got).sum() / np.square(wanted).sum()
    return float(-10 * np.log10(max(error, 1e-20)))


def evaluated(model: ir.Model | onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    answer: np.ndarray = ReferenceEvaluator(proto).run(None, dict(feeds))[0]
    return answer


def answered_model(model: ir.Model | onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.array(session.run(None, dict(feeds))[0])


def answered(path: Path, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    opened = RUNTIMES.get("onnx").open(path, ONE)
    return np.array(opened.run([feeds[spec.name] for spec in opened.inputs])[0])


def ran(path: Path) -> dict[str, str]:
    return {op.type: op.precision for op in RUNTIMES.get("onnx").placements(path, ONE)}


def large_dtypes(path: Path, elements: int = 200) -> set[str]:
    tensors = [tensor for tensor in onnx.load(path).graph.initializer if np.prod(tensor.dims) >= elements]
    return {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in tensors}


STORED = {
    "Conv": ("y = Conv<pads=[1,1,1,1]>(x, w)", (1, 8, 9, 9), 4, {"w": numbers(12, 8, 3, 3)}),
    "ConvTranspose": ("y = ConvTranspose(x, w)", (1, 8, 5, 5), 4, {"w": numbers(8, 8, 2, 2)}),
    "MatMul": ("y = MatMul(x, w)", (2, 3, 40), 3, {"w": numbers(40, 24)}),
    "batched MatMul": ("y = MatMul(x, w)", (2, 3, 20), 3, {"w": numbers(2, 20, 12)}),
    "Gemm": ("y = Gemm<alpha=0.5,transB=1>(x, w, b)", (3, 40), 2, {"w": numbers(24, 40), "b": numbers(24)}),
    "LSTM": (
        'y, h, c = LSTM<hidden_size=16,direction="bidirectional">(x, w, r)',
        (5, 2, 12),
        4,
        {"w": numbers(2, 64, 12), "r": numbers(2, 64, 16)},
    ),
    "GRU": ("y, h = GRU<hidden_size=16>(x, w, r)", (5, 2, 12), 4, {"w": numbers(1, 48, 12), "r": numbers(1, 48, 16)}),
}  # fmt: skip


@pytest.mark.parametrize("case", STORED)
def test_stored_integers_compute_as_the_numbers_they_stand_for(case: str, tmp_path: Path) -> None:
    body, shape, rank, weights = STORED[case]
    model = network(body, shape, rank, **weights)
    plan = plan_of(model, "w8")
    assert set(plan.stored) == {name for name, array in weights.items() if array.ndim > 1}
    path = written(model, plan, tmp_path)
    feeds = feeds_of(*shape)
    # ONNX's evaluator has one direction of LSTM only; the engine answers for the float model, whose form is not ours.
    evaluate = answered_model if case == "LSTM" else evaluated
    wanted = evaluate(with_numbers(model, plan), feeds)
    for got in (answered(path, feeds), evaluate(onnx.load(path), feeds)):
        assert sqnr_db(wanted, got) > 90
    assert sqnr_db(wanted, evaluate(to_qdq(model, plan, stored=True), feeds)) > 90
    assert 25 < sqnr_db(evaluate(model, feeds), wanted) < 70
    assert large_dtypes(path) == {"INT8"}


def test_stored_weights_become_numbers_when_the_file_is_loaded_and_keep_the_fast_layout(tmp_path: Path) -> None:
    body, shape, rank, weights = STORED["Conv"]
    model = network(body, shape, rank, **weights)
    path = written(model, plan_of(model, "w8"), tmp_path)
    assert ran(path) == {"Conv": "fp32"}


def test_an_embedding_is_picked_as_integers(tmp_path: Path) -> None:
    table = numbers(500, 24)
    model = hub.clean(
        from_text("e = Gather(w, i) y = Neg(e)", inputs="int64[2,3] i", outputs="float[a,b,c] y", opset=20, w=table)
    )
    for precision in ("w8", "w4g32", "w8a8-dynamic"):
        plan = plan_of(model, precision)
        path = written(model, plan, tmp_path)
        ids = {"i": np.array([[0, 3, 499], [-1, 7, 250]])}
        assert answered(path, ids) == pytest.approx(evaluated(with_numbers(model, plan), ids), rel=1e-6)
        assert evaluated(onnx.load(path), ids) == pytest.approx(-table[ids["i"]], abs=float(np.abs(table).max()) / 200)
        assert large_dtypes(path, 600) == {"INT8"}
        readers = {node.op_type for node in onnx.load(path).graph.node}
        assert "DequantizeLinear" not in readers


def test_a_table_of_positions_is_stored_too(tmp_path: Path) -> None:
    body = "n = Shape<start=1,end=2>(x) p = Slice(w, from, n) y = Add(x, p)"
    open_model = from_text(
        body,
        inputs='float[2,"steps",24] x',
        outputs="float[a,b,c] y",
        opset=20,
        **{"w": numbers(30, 24), "from": np.array([0])},
    )
    model = hub.clean(open_model)
    plan = plan_of(model, "w4g32")
    feeds = feeds_of(2, 7, 24)
    path = written(model, plan, tmp_path)
    assert large_dtypes(path) == {"INT8"}
    assert sqnr_db(evaluated(with_numbers(model, plan), feeds), answered(path, feeds)) > 90


FOUR_BITS = {
    "MatMul": ("y = MatMul(x, w)", (3, 64), {"w": numbers(64, 24)}),
    "a last block that is shorter": ("y = MatMul(x, w)", (3, 72), {"w": numbers(72, 24)}),
    "fewer rows than a block has": ("y = MatMul(x, w)", (3, 20), {"w": numbers(20, 24)}),
    "Gemm": ("y = Gemm(x, w, b)", (3, 64), {"w": numbers(64, 24), "b": numbers(24)}),
    "transposed Gemm": ("y = Gemm<transB=1>(x, w, b)", (3, 72), {"w": numbers(24, 72), "b": numbers(24)}),
}


@pytest.mark.parametrize("precision", ["w4g32", "w4g128"])
@pytest.mark.parametrize("case", FOUR_BITS)
def test_4_bits_are_one_kernel_that_computes_what_they_stand_for(case: str, precision: str, tmp_path: Path) -> None:
    body, shape, weights = FOUR_BITS[case]
    model = network(body, shape, 2, **weights)
    plan = plan_of(model, precision)
    assert isinstance(plan.stored["w"], GroupedWeight)
    path = written(model, plan, tmp_path)
    feeds = feeds_of(*shape)
    wanted = evaluated(with_numbers(model, plan), feeds)
    assert sqnr_db(wanted, evaluated(onnx.load(path), feeds)) > 60  # scales are stored in half precision
    assert sqnr_db(wanted, evaluated(to_qdq(model, plan, stored=True), feeds)) > 90
    assert sqnr_db(wanted, answered(path, feeds)) > 34  # the kernel rounds activations to 8 bits
    assert ran(path) == {"MatMulNBits": "int8"}
    assert large_dtypes(path) == {"UINT4"}
    assert onnx.load(path).opset_import[0].version == 21


def test_another_reader_of_4_bits_has_the_same_numbers(tmp_path: Path) -> None:
    model = network("a = MatMul(x, w) b = Transpose(w) y = MatMul(a, b)", (3, 64), 2, w=numbers(64, 24))
    plan = plan_of(model, "w4g32")
    path = written(model, plan, tmp_path)
    feeds = feeds_of(3, 64)
    wanted = evaluated(with_numbers(model, plan), feeds)
    assert sqnr_db(wanted, evaluated(onnx.load(path), feeds)) > 60
    assert sqnr_db(wanted, answered(path, feeds)) > 34


def test_scales_beyond_half_precision_stay_whole(tmp_path: Path) -> None:
    model = network("y = MatMul(x, w)", (3, 64), 2, w=numbers(64, 24) * np.float32(1e-6))
    plan = plan_of(model, "w4g32")
    path = written(model, plan, tmp_path)
    feeds = feeds_of(3, 64)
    assert sqnr_db(evaluated(with_numbers(model, plan), feeds), evaluated(onnx.load(path), feeds)) > 90


DYNAMIC = {
    "MatMul": ("y = MatMul(x, w)", (4, 40), {"w": numbers(40, 24)}),
    "Gemm": ("y = Gemm(x, w, b)", (4, 40), {"w": numbers(40, 24), "b": numbers(24)}),
    "transposed Gemm": ("y = Gemm<transB=1>(x, w, b)", (4, 40), {"w": numbers(24, 40), "b": numbers(24)}),
}


def rounded_by_call(array: np.ndarray) -> np.ndarray:
    """As ONNX defines DynamicQuantizeLinear."""
    low, high = min(array.min(), 0), max(array.max(), 0)
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return (np.clip(np.rint(array / scale) + zero, 0, 255) - zero) * scale


@pytest.mark.parametrize("case", DYNAMIC)
def test_products_round_what_they_take_in_each_call(case: str, tmp_path: Path) -> None:
    body, shape, weights = DYNAMIC[case]
    model = network(body, shape, 2, **weights)
    plan = plan_of(model, "w8a8-dynamic")
    assert len(plan.dynamic_ops) == 1
    assert plan.float_ops == {}
    path = written(model, plan, tmp_path)
    feeds = feeds_of(*shape)
    wanted = evaluated(with_numbers(model, plan), {"x": rounded_by_call(feeds["x"]).astype("float32")})
    assert sqnr_db(wanted, evaluated(onnx.load(path), feeds)) > 90
    assert sqnr_db(wanted, answered(path, feeds)) > 60
    assert ran(path) == {"DynamicQuantizeMatMul": "int8"}


def test_readers_of_one_tensor_round_it_once(tmp_path: Path) -> None:
    body = "a = MatMul(x, q) b = MatMul(x, k) c = Tanh(a) y = Mul(c, b)"
    model = network(body, (2, 5, 40), 3, q=numbers(40, 40), k=numbers(40, 40))
    path = written(model, plan_of(model, "w8a8-dynamic"), tmp_path)
    assert Counter(node.op_type for node in onnx.load(path).graph.node)["DynamicQuantizeLinear"] == 1
    assert ran(path)["MatMulIntegerToFloat"] == "int8"


RECURRENT = {
    "forward": ("y, h, c = LSTM<hidden_size=24>(x, w, r, b)", 1, {}),
    "reverse, clipped": ('y, h, c = LSTM<hidden_size=24,direction="reverse",clip=2.0>(x, w, r, b)', 1, {}),
    "both ways, from a state, with peepholes": (
        'y, h, c = LSTM<hidden_size=24,direction="bidirectional">(x, w, r, b, lengths, h0, c0, p)',
        2,
        {"lengths": np.array([7, 4], "int32"), "h0": numbers(2, 2, 24), "c0": numbers(2, 2, 24), "p": numbers(2, 72)},
    ),
}


@pytest.mark.parametrize("case", RECURRENT)
def test_lstms_round_what_they_take_in_each_call(case: str, tmp_path: Path) -> None:
    body, ways, more = RECURRENT[case]
    sizes = {"w": (ways, 96, 16), "r": (ways, 96, 24), "b": (ways, 192)}
    weights = {name: RNG.uniform(-0.4, 0.4, shape).astype("float32") for name, shape in sizes.items()}
    model = network(body, (7, 2, 16), 4, **weights, **more)
    plan = plan_of(model, "w8a8-dynamic")
    path = written(model, plan, tmp_path)
    feeds = feeds_of(7, 2, 16)
    assert sqnr_db(answered_model(with_numbers(model, plan), feeds), answered(path, feeds)) > 32
    assert ran(path) == {"DynamicQuantizeLSTM": "int8"}
    assert large_dtypes(path, 1000) == {"INT8"}
    assert hub.signature(hub.load(path)) == hub.signature(model)


def test_what_has_no_kernel_that_rounds_computes_in_float_and_is_named(tmp_path: Path) -> None:
    body = "a = Conv(x, k) m = Reshape(a, sizes) s = Gemm<alpha=0.5>(m, w) y = MatMul(s, v)"
    weights = {"k": numbers(8, 16, 1, 1), "w": numbers(72, 32), "v": numbers(32, 9), "sizes": np.array([1, 72])}
    model = network(body, (1, 16, 3, 3), 2, **weights)
    plan = plan_of(model, "w8a8-dynamic")
    assert plan.dynamic_ops == ("MatMul_0",)
    assert plan.float_ops == dict.fromkeys(("Conv_0", "Gemm_0"), "its weights stored as w8")
    assert plan.notes() == ["2 of the operations stay float, its weights stored as w8: Conv_0, ..."]
    found = ran(written(model, plan, tmp_path))
    assert found["DynamicQuantizeMatMul"] == "int8"
    assert found["Conv"] == "fp32"


def test_16_bit_activations_are_accepted_and_exact(tmp_path: Path) -> None:
    weights = {"w": numbers(12, 8, 3, 3), "v": numbers(12, 12, 1, 1)}
    model = network("a = Conv(x, w) r = Relu(a) y = Conv(r, v)", (1, 8, 9, 9), 4, **weights)
    calibration = [feeds_of(1, 8, 9, 9) for _ in range(4)]
    plans = {
        name: make_quant_plan(model, PLACEMENT, Recipe.named(name), observe(model, calibration))
        for name in ("w8a8", "w8a16")
    }
    assert {params.dtype for params in plans["w8a16"].activations.values()} == {"uint16"}
    wanted = evaluated(model, calibration[0])
    paths = {name: written(model, plan, tmp_path, name) for name, plan in plans.items()}
    found = {name: sqnr_db(wanted, answered(path, calibration[0])) for name, path in paths.items()}
    assert found["w8a16"] > found["w8a8"] + 1
    sixteen = evaluated(onnx.load(paths["w8a16"]), calibration[0])
    assert sqnr_db(sixteen, answered(paths["w8a16"], calibration[0])) > 60
    assert onnx.load(paths["w8a16"]).opset_import[0].version == 21
    assert "int8" not in ran(paths["w8a16"]).values()


def test_weights_a_plan_leaves_static_and_stored_live_in_one_file(tmp_path: Path) -> None:
    weights = {"w": numbers(12, 8, 3, 3), "v": numbers(12, 12, 3, 3)}
    model = network("a = Conv(x, w) r = Relu(a) y = Conv(r, v)", (1, 8, 9, 9), 4, **weights)
    calibration = [feeds_of(1, 8, 9, 9) for _ in range(4)]
    recipe = Recipe.named("w8a8").with_rule(Rule("w8", name="Conv_1"))
    plan = make_quant_plan(model, PLACEMENT, recipe, observe(model, calibration))
    path = written(model, plan, tmp_path)
    assert plan.quantized_ops[0] == "Conv_0"
    assert plan.float_ops == {"Conv_1": "its weights stored as w8"}
    ops = RUNTIMES.get("onnx").placements(path, ONE)
    assert {op.precision for op in ops if op.macs} == {"int8", "fp32"}
    assert sqnr_db(evaluated(model, calibration[0]), answered(path, calibration[0])) > 25


def test_a_plan_is_what_integers_are_written_by(tmp_path: Path) -> None:
    model = network("y = MatMul(x, w)", (3, 64), 2, w=numbers(64, 24))
    with pytest.raises(UnsupportedError, match="without a plan"):
        CONVERTERS.get("onnx").write(model, tmp_path / "m.onnx", precision="w4g32", plan=None)


def test_an_lstm_has_no_static_kernel_and_its_refusal_says_what_has(tmp_path: Path) -> None:
    samples = [RNG.normal(0, 1, (4, 12)).astype("float32") for _ in range(3)]
    model = network(
        "a, h, c = LSTM<hidden_size=32>(x, w, r) y = Squeeze(a, one)",
        (4, 1, 12),
        3,
        w=numbers(1, 128, 12),
        r=numbers(1, 128, 32),
        one=np.array([1]),
    )
    hub.save(model, tmp_path / "lstm.onnx")
    for index, sample in enumerate(samples):
        np.save(tmp_path / f"{index}.npy", sample[:, None])
    report = edgekit.convert(
        tmp_path / "lstm.onnx",
        tmp_path / "lstm.edge",
        format=["onnx"],
        precision=["fp32", "w8a8", "w8a8-dynamic"],
        target="generic-x86",
        calibration_data=tmp_path,
    )
    by_name = {variant.name: variant for variant in report.variants}
    assert report.unmet == ("w8a8",)
    assert "LSTM has no integer kernel here" in by_name["onnx-w8a8"].reason
    assert by_name["onnx-w8a8-dynamic"].status == "written"
    assert by_name["onnx-w8a8-dynamic"].int8_macs_share == 1.0
