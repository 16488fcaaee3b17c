"""What `clean` makes of whole graphs: bounds, forms of constants, shapes of exporters, and what must stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgekit import graph
from edgekit.errors import ConversionError
from edgekit.graph.cleaning import remove_dead
from edgekit.graph.files import raise_opset
from edgekit.graph.folding import fold_constants
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.simplifying import define_erfc
from tests.unit.networks import from_text

RNG = np.random.default_rng(8)
SQUARE = RNG.normal(0, 1, (64, 64)).astype("float32")
WIDE = {"inputs": 'float["batch",64] x', "outputs": "float[a,b] y"}


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_operations_on_one_weight_are_folded_together() -> None:
    """A weight cut in three, as PyTorch does for its gates, is no larger in three parts."""
    body = """a = Slice(w, zero, third, zero) b = Slice(w, third, end, zero) c = Concat<axis=0>(b, a)
        y = MatMul(x, c)"""
    model = from_text(body, w=SQUARE, zero=np.array([0]), third=np.array([20]), end=np.array([64]), **WIDE)
    cleaned = graph.clean(model)
    assert kinds(cleaned) == ["MatMul"]
    assert graph.weight_bytes(cleaned) == SQUARE.nbytes


def test_a_weight_somebody_else_reads_is_not_stored_twice() -> None:
    """Tied embeddings: looked up, and transposed to be multiplied by."""
    body = "e = Gather(w, i) t = Transpose(w) y = MatMul(e, t)"
    model = from_text(body, inputs='int64["batch"] i', outputs="float[a,b] y", w=SQUARE)
    cleaned = graph.clean(model)
    assert sorted(kinds(cleaned)) == ["Gather", "MatMul", "Transpose"]
    assert graph.weight_bytes(cleaned) == SQUARE.nbytes


@pytest.mark.parametrize(("growth", "expected"), [(4096, ["ConstantOfShape", "Add"]), (1 << 20, ["Add"])])
def test_the_bound_of_folding_can_be_chosen(growth: int, expected: list[str]) -> None:
    model = infer_shapes(from_text("k = ConstantOfShape(n) y = Add(x, k)", n=np.array([1, 8, 16, 16])))
    assert kinds(fold_constants(model, growth)) == expected


def test_many_small_results_grow_a_file_by_a_megabyte_at_most() -> None:
    steps = [f"k{i} = ConstantOfShape(n{i}) a{i + 1} = Add(a{i}, k{i})" for i in range(300)]
    sizes = {f"n{i}": np.array([1, 1000]) for i in range(300)}
    options: dict[str, Any] = {"inputs": "float[1,1000] a0", "outputs": "float[1,1000] y"}
    model = infer_shapes(from_text(" ".join(steps) + " y = Relu(a300)", **options, **sizes))
    assert graph.weight_bytes(remove_dead(fold_constants(model))) <= (1 << 20) + sum(map(np.size, sizes.values())) * 8
    assert kinds(model).count("ConstantOfShape") >= 30


def test_nothing_too_large_is_even_computed() -> None:
    far = {"start": np.array(0), "end": np.array(2**62), "step": np.array(1)}
    model = from_text("r = Range(start, end, step) s = Gather(r, start) f = Cast<to=1>(s) y = Add(x, f)", **far)
    assert "Range" in kinds(fold_constants(model))


FORMS = {
    "value": helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]),
    "value_float": 1.5,
    "value_floats": [1.0, 2.0],
    "sparse_value": helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [1], [3.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [1]),
        [2],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_constants_of_every_form_become_initializers(form: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], **{form: FORMS[form]}),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 2]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "m", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, tmp_path / "m.onnx")
    cleaned = graph.clean(graph.load(tmp_path / "m.onnx"))
    assert kinds(cleaned) == ["Add"]
    (value,) = cleaned.graph.initializers.values()
    expected = {"value_float": 1.5, "sparse_value": [0.0, 3.0]}.get(form, [1.0, 2.0])
    np.testing.assert_array_equal(value.const_value.numpy(), np.array(expected, "float32"))


def test_an_initializer_that_is_an_input_too_is_a_constant() -> None:
    model = from_text("y = Mul(x, two)", inputs='float["batch",8,16,16] x, float two', two=np.float32(2))
    cleaned = graph.clean(model)
    assert [value.name for value in cleaned.graph.inputs] == ["x"]


def test_attention_of_tf2onnx_needs_no_shapes_at_run_time() -> None:
    """Batch and heads become one number and are parted again, by sizes read at run time."""
    heads = "s = Shape(x) h = Gather(s, first) p = ReduceProd(h) t = Concat<axis=0>(p, minus, size)"
    back = "n = Shape(x) i = Gather(n, first) m = Max(h, i) u = Concat<axis=0>(m, sides)"
    body = f"{heads} a = Reshape(x, t) {back} b = MatMul(a, a) c = Reshape(b, u) y = Softmax(c)"
    numbers = {"first": [0, 1], "minus": [-1], "size": [16], "sides": [16, 16]}
    model = from_text(body, **{name: np.array(array) for name, array in numbers.items()})
    cleaned = graph.clean(model)
    assert kinds(cleaned) == ["Reshape", "MatMul", "Reshape", "Softmax"]
    assert cleaned.graph[2].inputs[1].const_value.numpy().tolist() == [-1, 8, 16, 16]


def test_two_unknown_sizes_that_change_are_computed_at_run_time() -> None:
    body = "s = Shape(x) a = Gather(s, swap) y = Reshape(x, a)"
    model = from_text(body, inputs='float["a","b"] x', outputs="float[c,d] y", swap=np.array([1, 0]))
    assert "Gather" in kinds(graph.clean(model))


def test_names_that_stand_for_any_size_are_not_believed() -> None:
    """Exporters write ``?`` for sizes that differ."""
    model = from_text(
        "s = Shape(z) y = Reshape(x, s)", inputs='float["?","?"] x, float["?","?"] z', outputs="float[c,d] y"
    )
    assert kinds(graph.clean(model)) == ["Shape", "Reshape"]


def test_erfc_becomes_what_onnx_has() -> None:
    model = from_text("y = Relu(x)")
    model.graph[0].op_type = "Erfc"
    assert kinds(define_erfc(model)) == ["Erf", "Sub"]
    onnx.checker.check_model(ir.to_proto(model))


def test_raising_the_opset_keeps_weights_and_facts() -> None:
    model = from_text(
        "m = ReduceMean<axes=[1]>(x) c = Conv(x, w) y = Add(c, m)", opset=13, w=np.ones((8, 8, 3, 3), "float32")
    )
    model.metadata_props["edgekit"] = "kept"
    raised = raise_opset(model, 20)
    assert raised.graph.opset_imports[""] == 20
    assert [value.name for value in raised.graph.inputs] == ["x"]
    assert raised.metadata_props["edgekit"] == "kept"
    assert raised.graph.initializers["w"].const_value.shape == (8, 8, 3, 3)


def test_biases_of_different_layers_stay_apart() -> None:
    """Each is quantized by the scales of its own layer."""
    weights = {"v": np.ones((8, 8, 1, 1), "float32"), "w": np.full((8, 8, 1, 1), 2, "float32")}
    biases = {"b": np.ones(8, "float32"), "c": np.ones(8, "float32")}
    cleaned = graph.clean(from_text("p = Conv(x, v, b) q = Relu(p) y = Conv(q, w, c)", **weights, **biases))
    assert {"b", "c"} <= set(cleaned.graph.initializers)


def test_an_operation_that_would_mean_something_else_in_a_newer_opset_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["" : 11]> m (float[2,3,4] x) => (float[2,3,4] y) {
      y = Hardmax<axis=1>(x)
    }"""
    with pytest.raises(ConversionError, match="over several axes"):
        raise_opset(ir.from_onnx_text(text))


def test_sparse_initializers_are_made_dense(tmp_path: Path) -> None:
    values = helper.make_tensor("k", TensorProto.FLOAT, [2], [3.0, 4.0])
    places = helper.make_tensor("i", TensorProto.INT64, [2, 2], [0, 1, 2, 0])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 2]) for name in "xy"]
    nodes = [helper.make_node("Add", ["x", "k"], ["y"])]
    sparse = helper.make_graph(
        nodes, "m", ends[:1], ends[1:], sparse_initializer=[helper.make_sparse_tensor(values, places, [3, 2])]
    )
    onnx.save(helper.make_model(sparse, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    (value,) = graph.load(tmp_path / "m.onnx").graph.initializers.values()
    assert value.const_value.numpy().tolist() == [[0, 3], [0, 0], [4, 0]]


def test_shapes_go_on_behind_a_group_normalization() -> None:
    vectors = {"w": np.ones(8, "float32"), "b": np.zeros(8, "float32")}
    model = infer_shapes(from_text("n = GroupNormalization<num_groups=2>(x, w, b) y = Relu(n)", opset=21, **vectors))
    assert [str(dim) for dim in model.graph[0].outputs[0].shape or ()] == ["batch", "8", "16", "16"]
    assert kinds(model) == ["GroupNormalization", "Relu"]
