"""Plans in TFLite, as LiteRT runs them: small weights, kernels that round in each call, groups of 4 bits, 16 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.converters.tflite.model import LiteModel, Op
from edgekit.converters.tflite.raising import raise_model
from edgekit.converters.tflite.reading import read_model
from edgekit.graph import clean
from edgekit.quantize import QuantPlan, make_quant_plan, observe, to_qdq
from edgekit.quantize.plan import GroupedWeight
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions
from edgekit.target import Target
from tests.contract.tflite_ops.against import text_model

ONE = EngineOptions(threads=1)
PLACEMENT = Target.named("generic-x86").placements["tflite"]
RNG = np.random.default_rng(7)


def weight(*shape: int) -> np.ndarray:
    """Numbers as trained ones are, of channels of unlike reach and with a mean that is not zero."""
    rng = np.random.default_rng(abs(hash(shape)) % 1000)
    reach = rng.uniform(0.3, 2, (shape[0], *[1] * (len(shape) - 1)))
    return (rng.normal(0.2, 1, shape) * reach / np.sqrt(np.prod(shape[1:]))).astype("float32")


NETS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "dense": ("(float[1,16,128] x) => (float[1,16,96] y) { m = MatMul(x, w) y = Add(m, b) }",
              {"w": weight(96, 128).T.copy(), "b": weight(96)}),
    "gemm": ("(float[16,128] x) => (float[16,96] y) { y = Gemm<transB=1>(x, w, b) }",
             {"w": weight(96, 128), "b": weight(96)}),
    "convolution": ("(float[1,64,14,14] x) => (float[1,32,14,14] y) { c = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(c) }",
                    {"w": weight(32, 64, 3, 3), "b": weight(32)}),
    "one dimension": ("(float[1,64,50] x) => (float[1,64,50] y) { y = Conv<pads=[1,1]>(x, w) }",
                      {"w": weight(64, 64, 3)}),
    "depthwise": ("(float[1,32,14,14] x) => (float[1,32,14,14] y) { y = Conv<group=32, pads=[1,1,1,1]>(x, w, b) }",
                  {"w": weight(32, 1, 3, 3), "b": weight(32)}),
    "transposed": ("(float[1,32,8,8] x) => (float[1,16,16,16] y) "
                   "{ y = ConvTranspose<strides=[2,2], kernel_shape=[2,2]>(x, w) }", {"w": weight(32, 16, 2, 2)}),
    "transposed, of groups": ("(float[1,32,8,8] x) => (float[1,16,15,15] y) { y = ConvTranspose<strides=[2,2], "
                              "group=4, pads=[1,1,1,1]>(x, w) }", {"w": weight(32, 4, 3, 3)}),
    "transposed, depthwise": ("(float[1,32,8,8] x) => (float[1,32,15,15] y) { y = ConvTranspose<strides=[2,2], "
                              "group=32, pads=[1,1,1,1]>(x, w) }", {"w": weight(32, 1, 3, 3)}),
    "transposed, dilated": ("(float[1,32,8,8] x) => (float[1,16,12,12] y) { y = ConvTranspose<dilations=[2,2]>(x, w) }",
                            {"w": weight(32, 16, 3, 3)}),
    "embedding": ("(int64[1,9] i) => (float[1,9,48] y) { y = Gather(w, i) }", {"w": weight(100, 48)}),
    "lstm": ("(float[12,1,32] x) => (float[12,1,1,96] y) { y = LSTM<hidden_size=96>(x, w, r, b) }",
             {"w": weight(1, 384, 32), "r": weight(1, 384, 96), "b": weight(1, 768)}),
    "a long lstm": ("(float[70,1,32] x) => (float[70,1,1,96] y) { y = LSTM<hidden_size=96>(x, w, r, b) }",
                    {"w": weight(1, 384, 32), "r": weight(1, 384, 96), "b": weight(1, 768)}),
    "gru, both ways": ("(float[12,1,32] x) => (float[12,2,1,80] y) "
                       '{ y = GRU<hidden_size=80, direction="bidirectional">(x, w, r) }',
                       {"w": weight(2, 240, 32), "r": weight(2, 240, 80)}),
}  # fmt: skip

HYBRID = {"dense": 1, "gemm": 1, "convolution": 1, "one dimension": 1, "lstm": 2, "a long lstm": 2, "gru, both ways": 2}
"""Products that kernels compute by rounding in each call; the recurrent ones of this GRU are too small for it."""


def net(name: str) -> ir.Model:
    text, constants = NETS[name]
    return clean(text_model(text, **constants))


def feed(graph: ir.Model) -> np.ndarray:
    (value,) = graph.graph.inputs
    assert value.shape is not None
    shape = [int(size) for size in value.shape]
    rng = np.random.default_rng(3)
    return rng.integers(0, 100, shape) if value.name == "i" else rng.normal(0, 1, shape).astype("float32")


def write(graph: ir.Model, path: Path, plan: QuantPlan | None = None) -> Path:
    CONVERTERS.get("tflite").write(graph, path, precision="fp32" if plan is None else "w8", plan=plan)
    return path


def answer(path: Path, x: np.ndarray) -> np.ndarray:
    opened = RUNTIMES.get("tflite").open(path, ONE)
    found = np.array(opened.run([x])[0])
    opened.close()
    return found


def sqnr(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10((want.astype("float64") ** 2).mean() / (((want - got) ** 2).mean() + 1e-30)))


def ops(model: LiteModel) -> list[Op]:
    return [op for graph in model.graph.graphs() for op in graph.ops]


def hybrid(model: LiteModel) -> list[Op]:
    """Operations that multiply real numbers by integers."""
    found = [op for op in ops(model) if op.code in ("FULLY_CONNECTED", "CONV_2D")]
    return [op for op in found if [t.dtype for t in op.arguments()][:2] in (["float32", "int8"], ["float32", "int4"])]


def with_real_weights(graph: ir.Model, plan: QuantPlan) -> ir.Model:
    """The graph with the real numbers that its stored weights stand for."""
    copied = clean(graph)
    for name, stored in plan.stored.items():
        data = stored.dequantize() if isinstance(stored, GroupedWeight) else stored.params.dequantize(stored.values)
        copied.graph.initializers[name].const_value = ir.tensor(data, name=name)
    return copied


# --- 8 bits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_small_weights_give_what_their_real_numbers_give(name: str, tmp_path: Path) -> None:
    graph = net(name)
    plan = make_quant_plan(graph, PLACEMENT, Recipe.named("w8"))
    path = write(graph, tmp_path / "m.tflite", plan)
    x = feed(graph)
    want = answer(write(with_real_weights(graph, plan), tmp_path / "real.tflite"), x)
    assert np.allclose(answer(path, x), want, rtol=1e-5, atol=1e-5)
    model = read_model(path)
    assert not hybrid(model)
    constants = {t for graph in model.graph.graphs() for t in graph.tensors() if t.data is not None}
    assert {tensor.dtype for tensor in constants if tensor.quant} == {"int8"}
    floats = [tensor for tensor in constants if tensor.dtype == "float32" and tensor.rank > 1]
    assert not [tensor.name for tensor in floats if tensor.size > 100 and tensor.data is not None and tensor.data.any()]
    assert sqnr(answer(write(graph, tmp_path / "float.tflite"), x), want) > 20


@pytest.mark.parametrize("name", NETS)
def test_dynamic_kernels_run_where_they_are_faster(name: str, tmp_path: Path) -> None:
    graph = net(name)
    plan = make_quant_plan(graph, PLACEMENT, Recipe.named("w8a8-dynamic"))
    path = write(graph, tmp_path / "m.tflite", plan)
    assert len(hybrid(read_model(path))) == HYBRID.get(name, 0)
    x = feed(graph)
    want = answer(write(with_real_weights(graph, plan), tmp_path / "real.tflite"), x)
    assert sqnr(want, answer(path, x)) > 30
    computed = [op for op in RUNTIMES.get("tflite").placements(path, ONE) if op.macs]
    assert {op.precision for op in computed} <= ({"int8"} if name in HYBRID else {"fp32"})


def test_a_small_product_stays_float_though_it_is_planned(tmp_path: Path) -> None:
    graph = clean(text_model("(float[1,48] x) => (float[1,40] y) { y = MatMul(x, w) }", w=weight(40, 48).T.copy()))
    plan = make_quant_plan(graph, PLACEMENT, Recipe.named("w8a8-dynamic"))
    assert plan.dynamic_ops
    assert not hybrid(read_model(write(graph, tmp_path / "m.tflite", plan)))


def test_a_table_read_by_two_is_stored_once(tmp_path: Path) -> None:
    text = "(int64[1,9] i) => (float[1,9,500] y) { e = Gather(w, i) t = Transpose<perm=[1,0]>(w) y = MatMul(e, t) }"
    graph = clean(text_model(text, w=weight(500, 64)))
    plan = make_quant_plan(graph, PLACEMENT, Recipe.named("w8"))
    path = write(graph, tmp_path / "m.tflite", plan)
    x = feed(graph)
    want = answer(write(with_real_weights(graph, plan), tmp_path / "real.tflite"), x)
    assert np.allclose(answer(path, x), want, rtol=1e-5, atol=1e-5)


# --- 4 bits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("four_bits", ["group", "channel"])
@pytest.mark.parametrize("name", ["dense", "gemm"])
def test_4_bits_stand_for_what_the_plan_says(name: str, four_bits: str, tmp_path: Path) -> None:
    graph = net(name)
    plan = make_quant_plan(graph, replace(PLACEMENT, four_bits=four_bits), Recipe.named("w4g32"))
    path = write(graph, tmp_path / "m.tflite", plan)
    x = feed(graph)
    want = answer(write(with_real_weights(graph, plan), tmp_path / "real.tflite"), x)
    assert sqnr(want, answer(path, x)) > 30
    (op,) = hybrid(read_model(path))
    assert op.inputs[1] is not None
    assert op.inputs[1].dtype == "int4"
    assert (op.inputs[1].scales is not None) == (four_bits == "group")
    assert path.stat().st_size < (0.3 if four_bits == "channel" else 0.35) * 4 * 96 * 128


def test_groups_that_do_not_come_out_even_are_of_32_or_in_8_bits(tmp_path: Path) -> None:
    for inner, dtype in ((160, "int4"), (100, "int8")):
        text = f"(float[8,{inner}] x) => (float[8,96] y) {{ y = MatMul(x, w) }}"
        graph = clean(text_model(text, w=weight(96, inner).T.copy()))
        plan = make_quant_plan(graph, replace(PLACEMENT, four_bits="group"), Recipe.named("w4g128"))
        path = write(graph, tmp_path / f"{inner}.tflite", plan)
        (op,) = hybrid(read_model(path))
        assert op.inputs[1] is not None
        assert op.inputs[1].dtype == dtype
        x = feed(graph)
        want = answer(write(with_real_weights(graph, plan), tmp_path / "real.tflite"), x)
        assert sqnr(want, answer(path, x)) > 30


@pytest.mark.parametrize(("inner", "dtype"), [(384, "float16"), (2048, "int8")])
def test_what_is_added_to_groups_is_stored_in_the_smaller_form(inner: int, dtype: str, tmp_path: Path) -> None:
    """A row of integers has a scale and a zero point of its own, twelve bytes: more than a few groups' halves."""
    text = f"(float[8,{inner}] x) => (float[8,96] y) {{ y = MatMul(x, w) }}"
    graph = clean(text_model(text, w=weight(96, inner).T.copy()))
    plan = make_quant_plan(graph, replace(PLACEMENT, four_bits="group"), Recipe.named("w4g128"))
    path = write(graph, tmp_path / "m.tflite", plan)
    details = [one for one in Interpreter(str(path)).get_tensor_details() if one["name"].startswith("w/offsets")]
    (offsets,) = [one for one in details if one["dtype"] != np.float32]
    assert offsets["shape"].tolist() == [96, inner // 128]
    assert np.dtype(offsets["dtype"]).name == dtype
    x = feed(graph)
    want = answer(write(with_real_weights(graph, plan), tmp_path / "real.tflite"), x)
    assert sqnr(want, answer(path, x)) > 30


# --- 16 bits ---------------------------------------------------------------------------------------------------------


def test_activations_of_16_bits_run_in_kernels_for_them(tmp_path: Path) -> None:
    text = """(float[1,16,12,12] x) => (float[1,10] y) {
        c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) d = Conv<group=32, pads=[1,1,1,1]>(r, v, b) a = Add(d, r)
        p = GlobalAveragePool(a) f = Flatten(p) y = Gemm<transB=1>(f, g, h) }"""
    constants = {"w": weight(32, 16, 3, 3), "b": weight(32), "v": weight(32, 1, 3, 3), "g": weight(10, 32)}
    graph = clean(text_model(text, **constants, h=weight(10)))
    x = feed(graph)
    statistics = observe(graph, [{"x": x}])
    answers = {}
    for recipe in ("w8a8", "w8a16"):
        plan = make_quant_plan(graph, PLACEMENT, Recipe.named(recipe), statistics)
        path = write(graph, tmp_path / f"{recipe}.tflite", plan)
        answers[recipe] = answer(path, x)
    computing = [op for op in ops(read_model(path)) if op.code not in ("QUANTIZE", "DEQUANTIZE")]
    assert {op.output.dtype for op in computing} == {"int16"}
    assert {op.inputs[2].dtype for op in computing if op.code == "CONV_2D" and op.inputs[2]} == {"int64"}
    want = answer(write(graph, tmp_path / "float.tflite"), x)
    assert sqnr(want, answers["w8a16"]) > sqnr(want, answers["w8a8"]) > 20
    computed = [op for op in RUNTIMES.get("tflite").placements(path, ONE) if op.macs]
    assert {op.precision for op in computed} == {"w8a16"}


def test_what_has_no_kernel_of_16_bits_stays_float(tmp_path: Path) -> None:
    text = """(float[1,16,8,8] x) => (float[1,16,8,8] y) {
        c = Conv(x, w) h = HardSwish(c) y = Conv(h, w) }"""
    graph = clean(text_model(text, w=weight(16, 16, 1, 1)))
    x = feed(graph)
    plan = make_quant_plan(graph, PLACEMENT, Recipe.named("w8a16"), observe(graph, [{"x": x}]))
    path = write(graph, tmp_path / "m.tflite", plan)
    kinds = {op.code: op.output.dtype for op in ops(read_model(path))}
    assert kinds["HARD_SWISH"] == "float32"
    assert kinds["CONV_2D"] == "int16"
    assert sqnr(answer(write(graph, tmp_path / "float.tflite"), x), answer(path, x)) > 30


# --- static 8 bits ---------------------------------------------------------------------------------------------------


def test_a_convolution_of_few_channels_stays_float_in_our_plans_and_not_in_a_source(tmp_path: Path) -> None:
    text = "(float[1,3,16,16] x) => (float[1,32,16,16] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Conv(c, v) }"
    graph = clean(text_model(text, w=weight(16, 3, 3, 3), v=weight(32, 16, 1, 1)))
    x = feed(graph)
    plan = make_quant_plan(graph, PLACEMENT, Recipe.named("w8a8"), observe(graph, [{"x": x}]))
    first, second = [op for op in ops(read_model(write(graph, tmp_path / "m.tflite", plan))) if op.code == "CONV_2D"]
    assert (first.output.dtype, second.output.dtype) == ("float32", "int8")
    assert plan.float_ops == {"Conv_0": "so narrow a convolution is faster in float here"}
    everything = make_quant_plan(graph, replace(PLACEMENT, narrow=()), Recipe.named("w8a8"), observe(graph, [{"x": x}]))
    given = ops(read_model(write(to_qdq(graph, everything), tmp_path / "qdq.tflite")))
    assert [op.output.dtype for op in given if op.code == "CONV_2D"] == ["int8", "int8"]


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("gemm", "w8"), ("gemm", "w8a8-dynamic"), ("convolution", "w8a8-dynamic"), ("gemm", "w4g32"), ("embedding", "w8"),
     ("a long lstm", "w8a8-dynamic")],
)  # fmt: skip
def test_what_is_read_back_is_written_as_it_was(name: str, recipe: str, tmp_path: Path) -> None:
    graph = net(name)
    path = write(graph, tmp_path / "m.tflite", make_quant_plan(graph, PLACEMENT, Recipe.named(recipe)))
    before = read_model(path)
    again = write(clean(raise_model(before)), tmp_path / "again.tflite")
    x = feed(graph)
    assert np.array_equal(answer(path, x), answer(again, x))
    assert len(hybrid(read_model(again))) == len(hybrid(before))
    assert again.stat().st_size <= 1.1 * path.stat().st_size
