"""Rules that say an operation in other words: the words mean the same, by ONNX Runtime and ONNX's own evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit import graph as hub
from edgekit.errors import UnsupportedError
from edgekit.graph import legalizing, resizing, walk
from edgekit.graph.legalizing import Rule, legalize, refuse_gaps
from edgekit.graph.opsets import lower_opset

RNG = np.random.default_rng(5)


def network(
    op_type: str,
    inputs: Mapping[str, np.ndarray | None],
    constants: Sequence[str] = (),
    *,
    opset: int = 22,
    outputs: int = 1,
    **attributes: Any,
) -> ir.Model:
    """One node on `inputs` by name, of which None is one left out and `constants` are initializers."""
    given = {name: array for name, array in inputs.items() if array is not None}
    node = helper.make_node(
        op_type, [name if name in given else "" for name in inputs], [f"y{i}" for i in range(outputs)], **attributes
    )
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
        if name not in constants
    ]
    ends = [helper.make_tensor_value_info(f"y{i}", TensorProto.UNDEFINED, None) for i in range(outputs)]
    stored = [numpy_helper.from_array(given[name], name) for name in constants if name in given]
    graph = helper.make_graph([node], "one", values, ends, stored)
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    )
    return ir.from_proto(model)


def answers(model: ir.Model, feeds: Mapping[str, np.ndarray | None]) -> list[np.ndarray]:
    """What ONNX Runtime computes."""
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return [np.asarray(result) for result in session.run(None, {name: feeds[name] for name in names})]


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node, _ in walk(model.graph)]


def same_in_other_words(
    rule: Rule, model: ir.Model, feeds: Mapping[str, np.ndarray | None], *, by_reference: bool = False
) -> list[str]:
    """Applies the rule, holds the answers against the original's, and gives the types of the nodes there are now."""
    op_type = next(iter(model.graph)).op_type
    changed = legalize(model, {op_type: rule})
    onnx.checker.check_model(ir.to_proto(changed), full_check=True)
    named = {value.name: feeds[value.name] for value in model.graph.inputs}
    want = ReferenceEvaluator(ir.to_proto(model)).run(None, named) if by_reference else answers(model, feeds)
    for expected, got in zip(want, answers(changed, feeds), strict=True):
        assert expected.dtype == got.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    return kinds(changed)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]
)
@pytest.mark.parametrize("size", [(11, 3), (4, 9), (7, 5), (1, 1)])
def test_resize_by_tables_is_what_onnx_runtime_computes(mode: str, coordinates: str, size: tuple[int, int]) -> None:
    x = RNG.normal(size=(1, 2, 7, 5)).astype("float32")
    feeds = {"x": x, "roi": None, "scales": None, "sizes": np.array([1, 2, *size])}
    model = network("Resize", feeds, ["sizes"], mode=mode, coordinate_transformation_mode=coordinates)
    assert "Resize" not in same_in_other_words(resizing.resize_by_tables, model, feeds)


@pytest.mark.parametrize("attributes", [
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic", "antialias": 1, "exclude_outside": 1},
    {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
    {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"},
    {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
    {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    {"mode": "linear", "keep_aspect_ratio_policy": "not_larger"},
    {"mode": "nearest", "keep_aspect_ratio_policy": "not_smaller"},
])  # fmt: skip
@pytest.mark.parametrize("size", [(3, 4), (14, 12)])
def test_resize_by_tables_honors_its_attributes(attributes: dict[str, Any], size: tuple[int, int]) -> None:
    x = RNG.normal(size=(1, 2, 7, 5)).astype("float32")
    feeds = {"x": x, "roi": None, "scales": None, "sizes": np.array(size)}
    model = network("Resize", feeds, ["sizes"], axes=[2, 3], **attributes)
    assert "Resize" not in same_in_other_words(resizing.resize_by_tables, model, feeds)


def test_a_crop_beyond_the_picture_is_filled() -> None:
    x = RNG.normal(size=(1, 1, 6, 6)).astype("float32")
    roi, sizes = np.array([0, 0, -0.2, 0.3, 1, 1, 0.8, 1.4], "float32"), np.array([1, 1, 5, 7])
    feeds = {"x": x, "roi": roi, "scales": None, "sizes": sizes}
    attributes = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0, "mode": "linear"}
    model = network("Resize", feeds, ["roi", "sizes"], **attributes)
    assert "Where" in same_in_other_words(resizing.resize_by_tables, model, feeds)


def test_a_resize_of_sizes_nobody_knows_stays() -> None:
    feeds = {"x": np.zeros((1, 1, 4, 4), "float32"), "roi": None, "scales": None, "sizes": np.array([1, 1, 8, 8])}
    model = network("Resize", feeds, mode="linear", antialias=1)
    assert kinds(legalize(model, {"Resize": resizing.resize_by_tables})) == ["Resize"]


def test_wrapping_and_cutting_at_once_stays() -> None:
    feeds = {"x": np.ones((4, 3), "float32"), "pads": np.array([1, -1, 0, 0])}
    model = network("Pad", feeds, ["pads"], mode="wrap")
    assert kinds(legalize(model, {"Pad": legalizing.wrap_by_gather})) == ["Pad"]


def test_only_axes_that_change_cost_anything() -> None:
    feeds = {"x": np.ones((1, 3, 4, 4), "float32"), "roi": None, "scales": None, "sizes": np.array([1, 3, 4, 8])}
    model = network("Resize", feeds, ["sizes"], mode="linear")
    assert kinds(legalize(model, {"Resize": resizing.resize_by_tables})) == ["MatMul"]


@pytest.mark.parametrize(("op_type", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_batch_first_recurrences_become_time_first(op_type: str, gates: int) -> None:
    def numbers(*shape: int) -> np.ndarray:
        return RNG.normal(size=shape).astype("float32")

    feeds = {"x": numbers(3, 5, 2), "w": numbers(2, gates * 4, 2), "r": numbers(2, gates * 4, 4), "b": None,
             "lengths": None, "h": numbers(3, 2, 4)}  # fmt: skip
    states = 3 if op_type == "LSTM" else 2
    model = network(op_type, feeds, ["w", "r"], outputs=states, layout=1, hidden_size=4, direction="bidirectional")
    changed = legalize(model, {op_type: legalizing.move_batch_behind_time})
    assert kinds(changed) == ["Transpose", "Transpose", op_type, *["Transpose"] * states]
    turned = {**feeds, "x": feeds["x"].swapaxes(0, 1), "h": feeds["h"].swapaxes(0, 1)}
    plain = network(op_type, turned, ["w", "r"], outputs=states, hidden_size=4, direction="bidirectional")
    y, *finals = answers(plain, turned)
    want = [y.transpose(2, 0, 1, 3), *(final.swapaxes(0, 1) for final in finals)]
    for expected, got in zip(want, answers(changed, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_zero_point_a_channel_is_taken_out_of_the_product() -> None:
    x, w = (RNG.integers(0, 255, shape).astype("uint8") for shape in ((2, 3, 6, 6), (4, 3, 3, 3)))
    feeds = {"x": x, "w": w, "x0": np.array(7, "uint8"), "w0": np.array([3, 90, 0, 255], "uint8")}
    model = network("ConvInteger", feeds, ["w", "x0", "w0"], pads=[1, 0, 1, 2], strides=[2, 1])
    changed = legalize(model, {"ConvInteger": legalizing.split_weight_zero_points})
    x, w = x.astype("float32") - 7, w.astype("float32") - feeds["w0"].reshape(4, 1, 1, 1)
    product = network("Conv", {"x": x, "w": w}, ["w"], pads=[1, 0, 1, 2], strides=[2, 1])
    (want,), (got,) = answers(product, {"x": x}), answers(changed, feeds)
    np.testing.assert_array_equal(got, want.astype("int32"))


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_a_dft_is_taken_along_its_own_axis(axis: int) -> None:
    feeds = {"x": RNG.normal(size=(2, 4, 6, 1)).astype("float32"), "length": None, "axis": np.array(axis)}
    model = network("DFT", feeds, ["axis"], opset=20)
    found = same_in_other_words(legalizing.move_dft_axis, model, feeds)
    assert found == (["DFT"] if axis == 1 else ["Transpose", "DFT", "Transpose"])


@pytest.mark.parametrize(("pads", "axes"), [([0, 2, 3, 1, 0, 0], None), ([5, 3, 0, 1], [2, 0]), ([1, 1], [-1])])
def test_wrapping_around_is_a_gather(pads: list[int], axes: list[int] | None) -> None:
    x = RNG.normal(size=(4, 3, 6)).astype("float32")
    feeds = {"x": x, "pads": np.array(pads), "value": None, "axes": None if axes is None else np.array(axes)}
    model = network("Pad", feeds, ["pads", "axes"], mode="wrap")
    assert set(same_in_other_words(legalizing.wrap_by_gather, model, feeds)) == {"Gather"}


@pytest.mark.parametrize(("mode", "axis"), [("linear", -2), ("circular", 1)])
def test_new_steps_are_scattered_into_a_cache(mode: str, axis: int) -> None:
    feeds = {"cache": RNG.normal(size=(2, 5, 4, 3)).astype("float32"), "update": np.ones((2, 5, 2, 3), "float32"),
             "first": np.array([2, 1])}  # fmt: skip
    if axis == 1:
        feeds = {**feeds, "update": np.ones((2, 3, 4, 3), "float32"), "first": np.array([4, 1])}
    model = network("TensorScatter", feeds, opset=24, mode=mode, axis=axis)
    assert "ScatterElements" in same_in_other_words(legalizing.scatter_cache, model, feeds, by_reference=True)


def test_unpooling_scatters_into_zeros() -> None:
    x = RNG.normal(size=(2, 3, 6, 4)).astype("float32")
    pooling = network("MaxPool", {"x": x}, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    values, places = answers(pooling, {"x": x})
    feeds = {"x": values, "places": places}
    model = network("MaxUnpool", feeds, kernel_shape=[2, 2], strides=[2, 2])
    assert "MaxUnpool" not in same_in_other_words(legalizing.scatter_unpooled, model, feeds)


def test_a_short_mask_hides_the_keys_behind_it() -> None:
    def numbers(*shape: int) -> np.ndarray:
        return RNG.normal(size=shape).astype("float32")

    feeds = {"q": numbers(1, 2, 4, 8), "k": numbers(1, 2, 6, 8), "v": numbers(1, 2, 6, 8), "mask": numbers(4, 3)}
    changed = legalize(network("Attention", feeds, opset=24), {"Attention": legalizing.extend_mask})
    assert kinds(changed) == ["Concat", "Attention"]
    short = {**feeds, "k": feeds["k"][:, :, :3], "v": feeds["v"][:, :, :3]}
    (want,), (got,) = answers(network("Attention", short, opset=24), short), answers(changed, feeds)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_default_is_written_down_once() -> None:
    feeds = {"x": np.ones((1, 64, 1), "float32"), "step": np.array(8), "window": None, "length": np.array(16)}
    model = network("STFT", feeds, ["step", "length"], opset=17)
    rule = legalizing.state_attribute("onesided", 1)
    once = legalize(model, {"STFT": rule})
    assert next(iter(once.graph)).attributes.get_int("onesided", 0) == 1
    assert "onesided" not in next(iter(model.graph)).attributes
    kept = network("STFT", feeds, ["step", "length"], opset=17, onesided=0)
    assert next(iter(legalize(kept, {"STFT": rule}).graph)).attributes.get_int("onesided", 1) == 0


def test_an_opset_is_lowered_where_only_dtypes_differ() -> None:
    feeds = {"x": np.ones((1, 1, 8, 8), "float32"), "rois": np.array([[0, 0, 4, 4]], "float32"), "batch": np.array([0])}
    model = network("RoiAlign", feeds, output_height=2, output_width=2)
    lowered = lower_opset(model, {"RoiAlign": 21})
    assert (lowered.graph.opset_imports[""], model.graph.opset_imports[""]) == (21, 22)
    assert answers(lowered, feeds)[0].shape == (1, 1, 2, 2)
    assert lower_opset(lowered, {"RoiAlign": 21}) is lowered
    assert lower_opset(model, {"RoiAlign": 15}) is model  # RoiAlign-10 has no coordinates to choose


def test_tensors_keep_their_names() -> None:
    """A plan of quantization knows them by name."""
    sizes = numpy_helper.from_array(np.array([1, 1, 3, 3]), "sizes")
    nodes = [
        helper.make_node("Relu", ["x"], ["before"]),
        helper.make_node("Resize", ["before", "", "", "sizes"], ["middle"], mode="linear", antialias=1),
        helper.make_node("Relu", ["middle"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, n, n]) for name, n in (("x", 6), ("y", 3))]
    model = ir.from_proto(helper.make_model(helper.make_graph(nodes, "three", ends[:1], ends[1:], [sizes])))
    changed = legalize(hub.clean(model), {"Resize": resizing.resize_by_tables})
    assert kinds(changed) == ["Relu", "MatMul", "MatMul", "Relu"]
    assert {"before", "middle", "y"} < {node.outputs[0].name for node in changed.graph}
    assert "sizes" not in changed.graph.initializers


def test_all_gaps_are_named_at_once() -> None:
    relu = helper.make_node("Relu", ["x"], ["a"], name="first")
    nodes = [relu, helper.make_node("Relu", ["a"], ["b"], name="second"), helper.make_node("Abs", ["b"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    model = ir.from_proto(helper.make_model(helper.make_graph(nodes, "three", ends[:1], ends[1:])))
    with pytest.raises(UnsupportedError) as caught:
        refuse_gaps(model, {"Relu": lambda node: "is not liked", "Abs": lambda node: ""}, "Nobody")
    assert caught.value.offenders == ("Relu (first): is not liked", "Relu (second): is not liked")
    refuse_gaps(model, {"Abs": lambda node: ""}, "Nobody")
