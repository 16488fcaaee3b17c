"""Matrix products, integer products and conversions: what the node tests leave out, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from tests.contract.tflite_ops.against import agree, codes, normal, text_model
from tests.contract.tflite_ops.single import one_op, run_op

# --- MatMul ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "constants"),
    [
        ((1, 6, 8), (8, 5), (1,)),
        ((2, 3, 6, 8), (8, 1), (1,)),
        ((8,), (8, 5), (1,)),
        ((2, 6, 8), (8,), (1,)),
        ((4, 8), (2, 8, 5), (0,)),
        ((4, 8), (8, 5), (0,)),
        ((8,), (2, 8, 5), (0,)),
        ((2, 1, 6, 8), (3, 8, 5), (1,)),
        ((2, 3, 6, 8), (3, 8, 5), ()),
        ((1, 3, 6, 8), (4, 1, 8, 5), ()),
        ((2, 6, 8), (8,), ()),
        ((8,), (2, 8, 5), ()),
    ],
)
def test_matmul_takes_all_ranks_on_either_side(left: Any, right: Any, constants: Any, tmp_path: Path) -> None:
    x, y = normal(*left), normal(*right, seed=1)
    got = run_op(tmp_path, "MatMul", x, y, shape=np.matmul(x, y).shape, constants=constants)
    np.testing.assert_allclose(got, np.matmul(x, y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
def test_integer_matmul_is_exact(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 40000, shape).astype(dtype) for shape in ((2, 3, 7), (7, 4)))
    np.testing.assert_array_equal(run_op(tmp_path, "MatMul", x, y, shape=(2, 3, 4)), x @ y)


def test_a_constant_on_the_right_is_a_fully_connected_layer_of_any_rank() -> None:
    model = one_op("MatMul", [normal(1, 6, 8), normal(8, 5)], "float32", (1, 6, 5), 20, (1,), {})
    assert codes(model) == ["FULLY_CONNECTED"]


def test_swapped_axes_are_read_by_the_product_itself(tmp_path: Path) -> None:
    model = text_model(
        "(float[2,3,6,8] q, float[2,3,5,8] k) => (float[2,3,6,5] y)"
        " { t = Transpose<perm=[0,1,3,2]>(k) y = MatMul(q, t) }"
    )
    assert codes(model) == ["BATCH_MATMUL"]
    agree(tmp_path, model, {"q": normal(2, 3, 6, 8), "k": normal(2, 3, 5, 8, seed=1)})


# --- Gemm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [(5,), (1, 5), (1,), (), (4, 1), (4, 5), None])
@pytest.mark.parametrize("constants", [(1, 2), (1,), ()])
def test_gemm_adds_what_broadcasts(offset: Any, constants: Any, tmp_path: Path) -> None:
    feeds = [normal(8, 4), normal(5, 8, seed=1), *([] if offset is None else [normal(*offset, seed=2)])]
    constants = {i for i in constants if i < len(feeds)} | ({2} if offset == () else set())
    got = run_op(tmp_path, "Gemm", *feeds, shape=(4, 5), constants=constants, transA=1, transB=1, alpha=0.5, beta=2.0)
    expected = 0.5 * feeds[0].T @ feeds[1].T + (2 * feeds[2] if len(feeds) > 2 else 0)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


# --- Einsum ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("bqhd,bkhd->bhqk", [(2, 4, 3, 5), (2, 6, 3, 5)]),
        ("...ij,...jk->...ik", [(2, 6, 3, 4), (2, 6, 4, 5)]),
        ("i...->...", [(3, 4, 5)]),
        ("ii->i", [(4, 4)]),
        ("ii", [(4, 4)]),
        ("aibi->ba", [(2, 4, 3, 4)]),
        ("i,j->ij", [(3,), (4,)]),
        ("ij,ij->", [(3, 4), (3, 4)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("ab,cb,d->da", [(2, 3), (4, 3), (5,)]),
        ("bij, bj -> bi", [(2, 3, 4), (2, 4)]),
        ("ba,cb", [(2, 3), (4, 2)]),
        ("...a,...b->b...a", [(2, 3), (2, 4)]),
    ],
)
def test_einsum_is_numpys(equation: str, shapes: Any, tmp_path: Path) -> None:
    feeds = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    expected = np.einsum(equation.replace(" ", ""), *feeds)
    if expected.ndim == 0:  # outputs without an axis are copied by the runtime
        expected, equation = expected.reshape(1), equation
        model = text_model(
            f"({', '.join(f'float{list(s)} x{i}' for i, s in enumerate(shapes))}) => (float[1] y)"
            f' {{ e = Einsum<equation="{equation}">({", ".join(f"x{i}" for i in range(len(shapes)))})'
            " y = Reshape(e, one) }",
            one=np.array([1]),
        )
        agree(tmp_path, model, {f"x{i}": x for i, x in enumerate(feeds)})
        return
    got = run_op(tmp_path, "Einsum", *feeds, shape=expected.shape, equation=equation)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_einsum_by_a_constant_is_a_fully_connected_layer() -> None:
    model = one_op(
        "Einsum", [normal(1, 6, 8), normal(8, 5)], "float32", (1, 6, 5), 20, (1,), {"equation": "btd,de->bte"}
    )
    assert "FULLY_CONNECTED" in codes(model)


# --- integers --------------------------------------------------------------------------------------------------------


def _bytes(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("kinds", [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")])
@pytest.mark.parametrize("constants", [(1, 2, 3), (2, 3), ()])
def test_sums_longer_than_float32_holds_are_exact(kinds: Any, constants: Any, tmp_path: Path) -> None:
    x, y = _bytes(kinds[0], 3, 700), _bytes(kinds[1], 700, 4, seed=1)
    zeros = [np.array([7], kinds[0]), np.array([3, 0, 5, 90], kinds[1])]
    got = run_op(tmp_path, "MatMulInteger", x, y, *zeros, gives="int32", shape=(3, 4), constants=constants)
    centered = [array.astype("int64") - zero for array, zero in zip((x, y), zeros, strict=True)]
    np.testing.assert_array_equal(got, centered[0] @ centered[1])


def test_integer_convolutions_longer_than_float32_holds_are_exact(tmp_path: Path) -> None:
    x, weight = np.full((1, 64, 5, 5), 255, "uint8"), _bytes("uint8", 4, 64, 3, 3)
    got = run_op(tmp_path, "ConvInteger", x, weight, gives="int32", shape=(1, 4, 3, 3), constants=(1,))
    patches = np.lib.stride_tricks.sliding_window_view(x.astype("int64"), (3, 3), (2, 3))
    np.testing.assert_array_equal(got, np.einsum("nchwij,ocij->nohw", patches, weight.astype("int64")))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_ties_are_quantized_to_even(dtype: str, tmp_path: Path) -> None:
    x = np.concatenate([np.arange(-300, 300) / 2, [1e9, -1e9]]).astype("float32")
    zero = np.array(3, dtype)
    got = run_op(tmp_path, "QuantizeLinear", x, np.float32(0.5), zero, gives=dtype, shape=x.shape, constants=(1, 2))
    limits = np.iinfo(dtype)
    np.testing.assert_array_equal(got, np.clip(np.rint(x / 0.5) + 3, limits.min, limits.max))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("constants", [(1, 2), ()])
def test_quantizing_along_an_axis_and_back(dtype: str, constants: Any, tmp_path: Path) -> None:
    x, scale = normal(2, 3, 4), np.array([0.01, 0.02, 0.5], "float32")
    zero = np.array([1, 0, 5], dtype)
    limits, across = np.iinfo(dtype), (slice(None), None)
    integers = np.clip(np.rint(x / scale[across]) + zero[across], limits.min, limits.max).astype(dtype)
    settings = {"opset": 21, "constants": constants, "shape": x.shape, "axis": -2}
    got = run_op(tmp_path, "QuantizeLinear", x, scale, zero, gives=dtype, **settings)
    np.testing.assert_array_equal(got, integers)
    back = run_op(tmp_path, "DequantizeLinear", integers, scale, zero, gives="float32", **settings)
    real = (integers.astype("float64") - zero[across]) * scale[across]
    np.testing.assert_allclose(back, real, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("constants", [(0, 1, 2), (1, 2), ()])
def test_blocks_have_scales_of_their_own(constants: Any, tmp_path: Path) -> None:
    x, scale = _bytes("uint8", 6, 4), np.abs(normal(3, 4)) + 0.1
    zero = _bytes("uint8", 3, 4, seed=1)
    settings = {"opset": 21, "gives": "float32", "shape": x.shape, "axis": 0, "block_size": 2}
    expected = (x.astype("float64") - zero.repeat(2, 0)) * scale.repeat(2, 0)
    if 0 in constants:
        model = text_model(
            "(float[6,4] a) => (float[6,4] y) { d = DequantizeLinear<axis=0, block_size=2>(x, s, z) y = Add(a, d) }",
            21, x=x, s=scale, z=zero,
        )  # fmt: skip
        agree(tmp_path, model, {"a": normal(6, 4)})
        return
    got = run_op(tmp_path, "DequantizeLinear", x, scale, zero, constants=constants, **settings)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_quantized_weight_stays_in_integers(tmp_path: Path) -> None:
    model = text_model(
        "(float[1,6,8] x) => (uint8[1,6,5] y) {"
        " q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz) w = DequantizeLinear<axis=1>(wq, ws, wz)"
        " p = MatMul(d, w) y = QuantizeLinear(p, ys, xz) }",
        xs=np.float32(0.03), xz=np.uint8(128), wq=_bytes("int8", 8, 5), ws=np.float32([0.01, 0.02, 0.03, 0.04, 0.05]),
        wz=np.zeros(5, "int8"), ys=np.float32(0.2),
    )  # fmt: skip
    import onnx_ir as ir
    import onnxruntime

    from tests.contract.tflite_ops.single import run_model

    feeds = {"x": normal(1, 6, 8)}
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,), (got,) = session.run(None, feeds), run_model(tmp_path, model, feeds["x"])
    assert np.abs(expected.astype(int) - got).max() <= 1
    assert "FULLY_CONNECTED" in codes(model)


@pytest.mark.parametrize("per_channel", [False, True])
def test_qlinear_convolution_is_near_that_of_onnxruntime(per_channel: bool, tmp_path: Path) -> None:
    import onnx_ir as ir
    import onnxruntime

    from tests.contract.tflite_ops.single import run_model

    scale = np.float32([0.02, 0.01, 0.03, 0.02]) if per_channel else np.float32(0.02)
    model = text_model(
        "(uint8[1,3,8,8] x) => (uint8[1,4,4,4] y)"
        " { y = QLinearConv<pads=[1,1,1,1], strides=[2,2]>(x, xs, xz, w, ws, wz, ys, yz, bias) }",
        xs=np.float32(0.05), xz=np.uint8(100), w=_bytes("int8", 4, 3, 3, 3), ws=scale,
        wz=np.zeros_like(scale, "int8"), ys=np.float32(0.5), yz=np.uint8(120), bias=np.int32([500, -700, 0, 90]),
    )  # fmt: skip
    x = _bytes("uint8", 1, 3, 8, 8, seed=2)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,), (got,) = session.run(None, {"x": x}), run_model(tmp_path, model, x)
    assert expected.std() > 20
    assert np.abs(expected.astype(int) - got).max() <= 1


def test_quantizing_to_other_types_is_refused() -> None:
    model = text_model("(float[4] x) => (int4[4] y) { y = QuantizeLinear<output_dtype=22>(x, s) }", 21, s=np.float32(1))
    with pytest.raises(UnsupportedError, match="cannot hold") as caught:
        codes(model)
    assert "int4" in str(caught.value.offenders)
