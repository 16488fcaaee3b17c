"""What slides, resizes, normalizes and samples pictures, where ONNX's node tests have no case."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from edgekit import graph as hub
from edgekit.converters.tflite.lowering import lower
from edgekit.errors import UnsupportedError
from tests.contract.tflite_ops.single import graph_of, one_op, run_model

CONSTANT = (1, 2, 3, 4)
"""The inputs that are weights in most operations."""


def _numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).normal(size=shape).astype("float32")


def _fed(feeds: tuple[Any, ...], constants: Collection[int]) -> dict[str, np.ndarray]:
    return {f"i{n}": array for n, array in enumerate(feeds) if array is not None and n not in constants}


def _model(op: str, feeds: tuple[Any, ...], constants: Collection[int], opset: int, attributes: Any) -> ir.Model:
    weights = [n for n in constants if n < len(feeds) and feeds[n] is not None]
    return one_op(op, list(feeds), feeds[0].dtype.name, None, opset, weights, attributes)


def _agrees(
    folder: Path, op: str, *feeds: Any, constants: Collection[int] = CONSTANT, opset: int = 20, by: str = "engine",
    **attributes: Any,
) -> None:  # fmt: skip
    """Holds the written file to ONNX Runtime, or ``by="reference"`` to ONNX itself where ONNX Runtime errs."""
    model = _model(op, feeds, constants, opset, attributes)
    fed, proto = _fed(feeds, constants), ir.to_proto(model)
    if by == "engine":
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        want = session.run(None, fed)[0]
    else:
        want = ReferenceEvaluator(proto).run(None, fed)[0]
    got = run_model(folder, model, *fed.values())[0]
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * max(1, np.abs(want.astype("float64")).max()))


def _codes(
    op: str, *feeds: Any, constants: Collection[int] = CONSTANT, opset: int = 20, **attributes: Any
) -> list[str]:
    """The operations a node becomes, without those that only move the layout."""
    lite = lower(hub.infer_shapes(_model(op, feeds, constants, opset, attributes)))
    return [op.code for op in lite.graph.ops if op.code not in ("TRANSPOSE", "RESHAPE")]


CONVOLUTIONS = {
    "stem of a ResNet": ((1, 3, 32, 32), (8, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    "same of an even size": ((1, 2, 8, 6), (4, 2, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same, more in front": ((1, 2, 8, 6), (4, 2, 3, 2), {"strides": [2, 1], "auto_pad": "SAME_LOWER"}),
    "pads of four sides": ((2, 3, 7, 5), (4, 3, 3, 2), {"pads": [0, 1, 2, 3]}),
    "dilated with stride": ((1, 2, 11, 12), (3, 2, 3, 2), {"dilations": [2, 3], "strides": [2, 1]}),
    "depthwise": ((2, 6, 7, 7), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    "depthwise of unlike strides": ((1, 4, 9, 9), (8, 1, 3, 3), {"group": 4, "strides": [1, 2]}),
    "depthwise dilated": ((1, 4, 9, 9), (4, 1, 3, 3), {"group": 4, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "grouped": ((1, 12, 6, 5), (9, 4, 3, 3), {"group": 3}),
    "row": ((2, 4, 17), (6, 4, 5), {"strides": [2], "pads": [2, 2]}),
    "causal row": ((1, 4, 17), (4, 1, 4), {"group": 4, "dilations": [2], "pads": [6, 0]}),
    "volume": ((1, 2, 6, 7, 5), (4, 2, 3, 2, 3), {"strides": [2, 1, 1], "pads": [1, 0, 1, 1, 1, 0]}),
    "grouped volume": ((1, 4, 5, 5, 5), (6, 2, 3, 3, 3), {"group": 2, "dilations": [1, 2, 1]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_gives_the_numbers_of_onnx_runtime(name: str, tmp_path: Path) -> None:
    shape, kernel, attributes = CONVOLUTIONS[name]
    _agrees(tmp_path, "Conv", _numbers(*shape), _numbers(*kernel), _numbers(kernel[0]), **attributes)


@pytest.mark.parametrize("name", ["grouped", "depthwise", "row", "volume"])
def test_the_weight_of_a_convolution_may_come_at_run_time(name: str, tmp_path: Path) -> None:
    shape, kernel, attributes = CONVOLUTIONS[name]
    _agrees(tmp_path, "Conv", _numbers(*shape), _numbers(*kernel), constants=(), **attributes)


def test_zeros_that_same_would_put_elsewhere_stay_a_pad() -> None:
    picture, kernel = _numbers(1, 2, 8, 8), _numbers(4, 2, 3, 3)
    assert _codes("Conv", picture, kernel, strides=[2, 2], pads=[1, 1, 1, 1]) == ["PAD", "CONV_2D"]
    assert _codes("Conv", picture, kernel, strides=[2, 2], pads=[0, 0, 1, 1]) == ["CONV_2D"]
    assert _codes("Conv", picture, kernel, pads=[1, 1, 1, 1]) == ["CONV_2D"]


TRANSPOSED = {
    "exact": ((1, 4, 5, 6), (4, 3, 2, 2), {"strides": [2, 2]}),
    "same": ((1, 4, 5, 6), (4, 3, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "cut": ((2, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]}),
    "cut on one side": ((1, 2, 4, 4), (2, 3, 3, 4), {"strides": [1, 3], "pads": [0, 2, 1, 0]}),
    "longer than its kernel reaches": ((1, 2, 3, 3), (2, 2, 1, 2), {"strides": [3, 3], "output_padding": [2, 2]}),
    "dilated": ((1, 2, 4, 4), (2, 3, 3, 2), {"dilations": [2, 3], "pads": [1, 0, 1, 0]}),
    "output shape": ((1, 2, 4, 4), (2, 3, 3, 3), {"strides": [2, 2], "output_shape": [8, 7]}),
    "two groups": ((1, 4, 4, 4), (4, 3, 3, 3), {"strides": [2, 2], "group": 2}),
    "depthwise": ((2, 5, 4, 3), (5, 2, 4, 4), {"strides": [2, 3], "pads": [1, 2, 1, 0], "group": 5}),
    "depthwise, more cut than the kernel": ((1, 3, 5, 5), (3, 1, 2, 2), {"pads": [2, 2, 1, 0], "group": 3}),
    "row": ((1, 4, 9), (4, 2, 16), {"strides": [8], "pads": [4, 4]}),
    "volume": ((1, 2, 3, 4, 3), (2, 3, 2, 3, 2), {"strides": [2, 1, 2], "pads": [0, 1, 0, 1, 1, 0]}),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_convolution_gives_the_numbers_of_onnx_runtime(name: str, tmp_path: Path) -> None:
    shape, kernel, attributes = TRANSPOSED[name]
    outs = kernel[1] * int(attributes.get("group", 1))  # type: ignore[call-overload]
    _agrees(tmp_path, "ConvTranspose", _numbers(*shape), _numbers(*kernel), _numbers(outs), **attributes)


def test_output_padding_beyond_a_stride_is_nothing_but_bias(tmp_path: Path) -> None:
    picture, kernel, bias = _numbers(1, 2, 4, 4), _numbers(2, 3, 3, 3), _numbers(3)
    proto = ir.to_proto(_model("ConvTranspose", (picture, kernel), (), 20, {"dilations": [3, 3]}))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = np.pad(session.run(None, {"i0": picture, "i1": kernel})[0], [(0, 0), (0, 0), (0, 2), (0, 1)])
    attributes = {"dilations": [3, 3], "output_padding": [2, 1]}
    model = _model("ConvTranspose", (picture, kernel, bias), CONSTANT, 20, attributes)
    got = run_model(tmp_path, model, picture)[0]
    np.testing.assert_allclose(got, want + bias.reshape(3, 1, 1), rtol=1e-5, atol=1e-5)


POOLS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "of a ResNet": ((1, 4, 12, 12), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "ceil": ((1, 2, 8, 9), {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 1]}),
    "dilated": ((2, 2, 9, 8), {"kernel_shape": [3, 2], "dilations": [2, 3], "strides": [1, 2], "pads": [1, 0, 1, 1]}),
    "row": ((2, 3, 13), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
    "volume": ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 3], "strides": [1, 2, 3], "pads": [1, 0, 1, 0, 1, 1]}),
    "same": ((1, 2, 7, 8), {"kernel_shape": [3, 4], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
}


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("name", POOLS)
def test_a_pool_gives_the_numbers_of_onnx_runtime(name: str, op: str, tmp_path: Path) -> None:
    shape, attributes = POOLS[name]
    _agrees(tmp_path, op, _numbers(*shape), opset=22, **attributes)


@pytest.mark.parametrize("name", POOLS)
def test_a_mean_may_count_the_pads(name: str, tmp_path: Path) -> None:
    shape, attributes = POOLS[name]
    _agrees(tmp_path, "AveragePool", _numbers(*shape), opset=22, count_include_pad=1, **attributes)


@pytest.mark.parametrize("power", [1, 3])
def test_other_powers_are_pooled(power: int, tmp_path: Path) -> None:
    _agrees(tmp_path, "LpPool", _numbers(1, 2, 6, 6), kernel_shape=[2, 3], p=power)
    _agrees(tmp_path, "GlobalLpPool", _numbers(1, 2, 6, 6), p=power)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_bytes_are_pooled(dtype: str, tmp_path: Path) -> None:
    picture = np.arange(72).reshape(1, 2, 6, 6).astype(dtype) if dtype == "uint8" else -np.ones((1, 2, 6, 6), "int8")
    _agrees(tmp_path, "MaxPool", picture, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@pytest.mark.parametrize("name", ["of a ResNet", "ceil", "dilated", "row", "volume"])
@pytest.mark.parametrize("order", [0, 1])
def test_where_the_largest_stood_is_told(name: str, order: int, tmp_path: Path) -> None:
    shape, attributes = POOLS[name]
    picture = _numbers(*shape).round()  # with ties
    node = helper.make_node("MaxPool", ["x"], ["y", "places"], "node", storage_order=order, **attributes)
    model = graph_of([node], {"x": picture}, {"y": ("float32", None), "places": ("int64", None)}, 22)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    for want, got in zip(session.run(None, {"x": picture}), run_model(tmp_path, model, picture), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_value_found_by_two_windows_goes_back_once(tmp_path: Path) -> None:
    values, places = np.float32([[[[5, 5], [7, 8]]]]), np.array([[[[1, 1], [3, 8]]]])
    _agrees(tmp_path, "MaxUnpool", values, places, constants=(), by="reference", kernel_shape=[2, 2])


NORMALIZATIONS: dict[str, tuple[str, tuple[int, ...], int, dict[str, Any]]] = {
    "batch of rows": ("BatchNormalization", (3, 4), 4, {}),
    "batch of volumes": ("BatchNormalization", (2, 4, 3, 2, 2), 4, {"epsilon": 1e-3}),
    "instance of rows": ("InstanceNormalization", (2, 4, 9), 2, {}),
    "instance of volumes": ("InstanceNormalization", (2, 4, 3, 2, 4), 2, {"epsilon": 1e-2}),
    "layer": ("LayerNormalization", (2, 5, 4), 2, {}),
    "layer without shift": ("LayerNormalization", (2, 5, 4), 1, {"epsilon": 1e-2}),
    "sum of ones": ("LpNormalization", (2, 4, 5), 0, {"p": 1, "axis": 1}),
    "squares": ("LpNormalization", (2, 4, 5), 0, {"axis": -2}),
    "responses": ("LRN", (1, 7, 4, 4), 0, {"size": 5, "alpha": 0.5, "bias": 2.0}),
    "responses of rows": ("LRN", (1, 7, 4, 1), 0, {"size": 3, "beta": 0.5}),
}


@pytest.mark.parametrize("at_run_time", [False, True])
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_normalization_gives_the_numbers_of_onnx_runtime(name: str, at_run_time: bool, tmp_path: Path) -> None:
    op, shape, count, attributes = NORMALIZATIONS[name]
    size = shape[-1] if op == "LayerNormalization" else shape[1]
    weights = [np.abs(_numbers(size, seed=seed)) + 0.5 for seed in range(count)]
    _agrees(tmp_path, op, _numbers(*shape) + 3, *weights, constants=() if at_run_time else CONSTANT, **attributes)


def test_nothing_but_zeros_stays_zeros(tmp_path: Path) -> None:
    _agrees(tmp_path, "LpNormalization", np.zeros((2, 3), "float32"))


def test_an_even_number_of_channels_answers_further_behind(tmp_path: Path) -> None:
    x = _numbers(2, 6, 3, 2)
    squares = np.pad(x**2, [(0, 0), (1, 2), (0, 0), (0, 0)])
    total = sum(squares[:, n : n + 6] for n in range(4))
    got = run_model(tmp_path, _model("LRN", (x,), (), 20, {"size": 4, "alpha": 0.4, "beta": 0.5}), x)[0]
    np.testing.assert_allclose(got, x / np.sqrt(1 + 0.1 * total), rtol=1e-5)


def _resize_feeds(shape: tuple[int, ...], scales: list[float], sizes: list[int]) -> list[Any]:
    factors = np.float32([1, 1, *scales]) if scales else None
    return [_numbers(*shape), None, factors, np.array([*shape[:2], *sizes]) if sizes else None][: 3 if scales else 4]


RESIZES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "bilinear": (_resize_feeds((1, 2, 4, 5), [2, 2], []), {"mode": "linear"}, "RESIZE_BILINEAR"),
    "bilinear by corners": (
        _resize_feeds((1, 2, 4, 5), [], [9, 7]),
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        "RESIZE_BILINEAR",
    ),
    "bilinear of a row": (_resize_feeds((1, 2, 5), [3], []), {"mode": "linear"}, "RESIZE_BILINEAR"),
    "trilinear": (_resize_feeds((1, 2, 3, 4, 5), [2, 2, 2], []), {"mode": "linear"}, "RESIZE_BILINEAR"),
    "linear by a broken factor": (_resize_feeds((1, 2, 5, 7), [0.7, 1.3], []), {"mode": "linear"}, "FULLY_CONNECTED"),
    "nearest as Upsample": (
        _resize_feeds((1, 2, 4, 5), [2, 3], []),
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "RESIZE_NEAREST_NEIGHBOR",
    ),
    "nearest by default": (_resize_feeds((2, 2, 4, 5), [2, 2], []), {}, "RESIZE_NEAREST_NEIGHBOR"),
    "nearest of a volume": (_resize_feeds((1, 2, 3, 2, 4), [2, 1, 2], []), {}, "RESIZE_NEAREST_NEIGHBOR"),
    "nearest by ceil": (_resize_feeds((1, 2, 4, 5), [], [7, 3]), {"nearest_mode": "ceil"}, "GATHER"),
    "cubic": (_resize_feeds((1, 2, 4, 5), [2, 2], []), {"mode": "cubic"}, "FULLY_CONNECTED"),
    "antialias": (_resize_feeds((1, 2, 9, 8), [], [4, 3]), {"mode": "linear", "antialias": 1}, "FULLY_CONNECTED"),
}


@pytest.mark.parametrize("name", RESIZES)
def test_a_picture_is_resized_as_by_onnx_runtime(name: str, tmp_path: Path) -> None:
    feeds, attributes, code = RESIZES[name]
    assert set(_codes("Resize", *feeds, **attributes)) == {code}
    _agrees(tmp_path, "Resize", *feeds, **attributes)


def test_what_lies_outside_of_the_region_is_extrapolated(tmp_path: Path) -> None:
    region = np.float32([0, 0, -0.3, 0.2, 1, 1, 0.8, 1.4])
    feeds = _numbers(1, 2, 5, 4), region, None, np.array([1, 2, 4, 7])
    attributes = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
    for mode in ("nearest", "linear", "cubic"):
        _agrees(tmp_path, "Resize", *feeds, by="reference", mode=mode, **attributes)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_pixels_far_outside_are_sampled_as_by_onnx_runtime(
    mode: str, padding: str, aligned: int, tmp_path: Path
) -> None:
    grid = _numbers(2, 4, 3, 2) * 2
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
    _agrees(tmp_path, "GridSample", _numbers(2, 3, 5, 1), grid, constants=(), **attributes)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_regions_beyond_the_picture_are_aligned(mode: str, tmp_path: Path) -> None:
    regions = np.float32([[0, 0, 5, 6], [-3, -3, 2, 2], [4, 4, 30, 30], [3, 3, 3, 3]])
    attributes = {"mode": mode, "sampling_ratio": 2, "output_height": 3, "output_width": 2, "spatial_scale": 0.5}
    _agrees(tmp_path, "RoiAlign", _numbers(2, 3, 6, 7), regions, np.array([0, 1, 1, 0]), constants=(), **attributes)


def test_a_deformed_convolution_knows_groups_of_both_kinds(tmp_path: Path) -> None:
    feeds = [_numbers(2, 8, 6, 5), _numbers(6, 4, 3, 2), _numbers(2, 24, 3, 5), _numbers(6), _numbers(2, 12, 3, 5)]
    attributes = {"group": 2, "offset_group": 2, "strides": [2, 1], "pads": [1, 0, 1, 1]}
    _agrees(tmp_path, "DeformConv", *feeds, constants=(1, 3), **attributes)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_columns_become_a_picture_of_any_rank(rank: int, tmp_path: Path) -> None:
    image, block = np.array([6, 5, 4][:rank]), np.array([2, 3, 2][:rank])
    windows = int(np.prod([6 + 1 - 2, 5 + 1 - 4, 4 + 1 - 1][:rank]))
    columns = _numbers(2, 3 * int(np.prod(block)), windows)
    attributes = {"dilations": [2, 2, 1][:rank], "pads": [0] * rank + [1] * rank}
    # ONNX Runtime errs with dilations in other than two dimensions.
    _agrees(tmp_path, "Col2Im", columns, image, block, by="reference", **attributes)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_channels_become_pixels(mode: str, dtype: str, tmp_path: Path) -> None:
    channels = np.arange(2 * 12 * 6).reshape(2, 12, 2, 3).astype(dtype)
    _agrees(tmp_path, "DepthToSpace", channels, by="reference", blocksize=2, mode=mode)


@pytest.mark.parametrize(
    ("reason", "op", "feeds", "attributes"),
    [
        ("size is only known", "Resize", [_numbers(1, 2, 4, 4), None, None, np.array([1, 2, 8, 8])], {}),
        ("the size of a region asks for", "RoiAlign", [_numbers(1, 2, 4, 4), _numbers(3, 4), np.zeros(3, int)], {}),
        ("dilated weight", "ConvTranspose", [_numbers(1, 2, 4, 4), _numbers(2, 2, 3, 3)], {"dilations": [2, 2]}),
        ("mode lanczos", "GridSample", [_numbers(1, 2, 4, 4), _numbers(1, 3, 3, 2)], {"mode": "lanczos"}),
        ("p = 3", "LpNormalization", [_numbers(2, 3)], {"p": 3}),
    ],
)
def test_what_has_no_form_is_refused_with_its_reason(
    reason: str, op: str, feeds: list[Any], attributes: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError) as refusal:
        lower(hub.infer_shapes(_model(op, tuple(feeds), (), 20, attributes)))
    assert reason in str(refusal.value)
