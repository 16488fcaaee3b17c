"""The hub graph: reading, shapes and names, walking, cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit import graph
from edgekit.errors import ArtifactError
from edgekit.graph.operations import unknown_operations
from edgekit.graph.walking import constant, fresh_name, initializer
from edgekit.testing.pass_contract import PassContract
from tests.unit.networks import custom_operations, from_text, old_opset, recurrent_network, residual_network

KERNEL = np.ones((8, 8, 3, 3), "float32")


def test_an_old_opset_is_raised(tmp_path: Path) -> None:
    model = graph.load(old_opset(tmp_path / "old.onnx"))
    assert model.graph.opset_imports[""] == 13
    assert model.ir_version >= 8


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x3a\xff\xff\xff\xff\x7f"])
def test_a_damaged_file_is_an_artifact_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        graph.load(tmp_path / "m.onnx")
    assert caught.value.hint


def test_saving_stores_no_shapes_of_intermediate_tensors(tmp_path: Path) -> None:
    model = graph.clean(residual_network())
    graph.save(model, tmp_path / "m.onnx")
    assert not onnx.load(tmp_path / "m.onnx").graph.value_info
    again = graph.load(tmp_path / "m.onnx")
    shapes = [[str(o.shape) for node in m.graph for o in node.outputs] for m in (model, again)]
    assert shapes[0] == shapes[1]


def test_cleaning_leaves_the_original_alone(tmp_path: Path) -> None:
    model = residual_network()
    graph.save(graph.copy_of(model), tmp_path / "before.onnx")
    graph.clean(model)
    graph.save(model, tmp_path / "after.onnx")
    assert (tmp_path / "before.onnx").read_bytes() == (tmp_path / "after.onnx").read_bytes()


def test_cleaning_leaves_only_what_computes() -> None:
    kinds = [node.op_type for node in graph.clean(residual_network()).graph]
    assert "BatchNormalization" not in kinds
    assert kinds[-2:] == ["Gemm", "Softmax"]


def test_the_batch_keeps_its_name_and_outputs_take_over_names() -> None:
    model = from_text(
        "s = Transpose<perm=[1,0,2]>(x) y = Relu(s)",
        inputs='float["unk__1","T",3] x',
        outputs='float["unk__2","unk__3",3] y',
    )
    promised = graph.signature(graph.clean(model))
    assert promised.inputs[0].shape == ("batch", "T", 3)
    assert promised.outputs[0].shape == ("T", "batch", 3)


def test_a_wrong_shape_in_the_file_is_not_believed() -> None:
    model = from_text("c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c)", w=KERNEL)
    model.graph[0].outputs[0].shape = ir.Shape((1, 2, 3))
    assert [str(d) for d in graph.infer_shapes(model).graph[0].outputs[0].shape or ()] == ["batch", "8", "16", "16"]


def test_a_weight_too_large_to_fold_stays_computed() -> None:
    model = from_text("k = ConstantOfShape(n) y = Add(x, k)", n=np.array([1, 8, 16, 16]))
    assert [node.op_type for node in graph.clean(model).graph] == ["ConstantOfShape", "Add"]


def test_a_batch_norm_two_branches_read_around_is_not_folded() -> None:
    ones = np.ones(8, "float32")
    body = "c = Conv(x, w) n = BatchNormalization(c, o, o, o, o) y = Add(c, n)"
    assert "BatchNormalization" in [node.op_type for node in graph.clean(from_text(body, w=KERNEL, o=ones)).graph]


def test_integers_in_a_source_stay_integers() -> None:
    model = from_text("d = DequantizeLinear(q, s) y = Add(x, d)", q=np.ones(16, "uint8"), s=np.float32(0.5))
    assert [node.op_type for node in graph.clean(model).graph] == ["DequantizeLinear", "Add"]


def test_scalars_stay_scalars() -> None:
    model = from_text("y = Relu(x)")
    assert constant(initializer(model.graph, "s", np.float32(3))) == 3
    assert model.graph.initializers["s"].const_value.shape == ()


def test_fresh_names_do_not_repeat() -> None:
    taken = {"a"}
    assert [fresh_name(taken, "a"), fresh_name(taken, "a"), fresh_name(taken, "b")] == ["a_1", "a_2", "b"]


COSTS = {
    "Conv": (
        "y = Conv<pads=[1,1,1,1],group=4>(x, w)",
        {"w": (8, 2, 3, 3)},
        'float["batch",8,16,16] x',
        8 * 16 * 16 * 18,
    ),
    "ConvTranspose": (
        "y = ConvTranspose<strides=[2,2]>(x, w)",
        {"w": (8, 4, 2, 2)},
        'float["batch",8,5,5] x',
        8 * 25 * 16,
    ),
    "MatMul": ("y = MatMul(x, w)", {"w": (8, 3)}, 'float["batch",7,8] x', 7 * 3 * 8),
    "Gemm": ("y = Gemm<transB=1>(x, w)", {"w": (3, 8)}, 'float["batch",8] x', 24),
    "Relu": ("y = Relu(x)", {}, 'float["batch",8] x', 0),
    "Einsum": ('y = Einsum<equation="ab,bc->ac">(x, w)', {"w": (8, 3)}, 'float["batch",8] x', None),
}


@pytest.mark.parametrize("case", COSTS)
def test_multiplications_are_counted(case: str) -> None:
    body, shapes, inputs, macs = COSTS[case]
    weights = {name: np.zeros(shape, "float32") for name, shape in shapes.items()}
    model = from_text(body, inputs=inputs, outputs="float[a] y", **weights)
    (cost,) = graph.costs(model)
    assert cost.macs == macs
    assert cost.weight_bytes == sum(array.nbytes for array in weights.values())


def test_recurrent_layers_are_counted_by_the_steps_given() -> None:
    found = {cost.op_type: cost for cost in graph.costs(recurrent_network(), {"steps": 10, "batch": 2})}
    assert found["LSTM"].macs == 10 * 2 * (16 * 3 + 16 * 4)


def test_the_bodies_of_loops_are_visited() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> m (float[1,4] x, bool yes) => (float[1,4] y) {
        y = If(yes) <then_branch = a () => (float[1,4] t) { t = MatMul(x, w) },
                     else_branch = b () => (float[1,4] e) { e = Identity(x) }>
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 4), "float32"), "w"))
    found = {cost.op_type: cost for cost in graph.costs(graph.clean(ir.from_proto(model)))}
    assert found["MatMul"].inside
    assert found["MatMul"].macs == 16
    assert found["If"].inside == ()


def test_unknown_operations_are_all_listed(tmp_path: Path) -> None:
    found = unknown_operations(ir.load(custom_operations(tmp_path / "m.onnx")))
    assert [entry.split(" ")[0] for entry in found] == ["com.example.Frobnicate", "com.example.Quux"]


def test_a_gap_that_no_test_of_the_battery_has_stops_collection() -> None:
    with pytest.raises(TypeError, match="test_no_such"):
        type("TestWrong", (PassContract,), {"gaps": {"test_no_such": "a typo"}})
