"""Integers, powers and types: as numpy has them, however the kernels hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.contract.tflite_ops.single import WHOLE, element, graph_of, run_model, run_op, whole

# --- integers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize(("op", "reference"), [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply)])
def test_integers_wrap_around(op: str, reference: Any, dtype: str, tmp_path: Path) -> None:
    x, y = whole(dtype, 0), whole(dtype, 1)
    np.testing.assert_array_equal(run_op(tmp_path, op, x, y), reference(x, y))


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize(
    ("op", "reference"),
    [
        ("Max", np.maximum),
        ("Min", np.minimum),
        ("Less", np.less),
        ("Equal", np.equal),
        ("GreaterOrEqual", np.greater_equal),
    ],
)
def test_integers_are_compared_as_integers(op: str, reference: Any, dtype: str, tmp_path: Path) -> None:
    x = whole(dtype, 0)
    y = x + np.asarray([-1, 0, 1, 0] * 16).astype(dtype)
    expected = reference(x, y)
    np.testing.assert_array_equal(run_op(tmp_path, op, x, y, gives=expected.dtype.name), expected)


@pytest.mark.parametrize("dtype", WHOLE)
def test_integers_are_divided_towards_zero_and_their_remainders_have_the_sign_asked_for(
    dtype: str, tmp_path: Path
) -> None:
    x, y = whole(dtype, 0, 200), whole(dtype, 1, 200) // np.asarray([1, 7, 40, 100] * 50).astype(dtype)
    y[(y == 0) | (y == np.asarray(-1).astype(dtype))] = 3
    remainder = np.fmod(x, y)
    np.testing.assert_array_equal(run_op(tmp_path, "Div", x, y), (x - remainder) // y)
    np.testing.assert_array_equal(run_op(tmp_path, "Mod", x, y, fmod=1), remainder)
    np.testing.assert_array_equal(run_op(tmp_path, "Mod", x, y), np.mod(x, y))


def test_the_remainder_of_floats_is_that_of_c(tmp_path: Path) -> None:
    x, y = np.asarray([-7.5, 7.5, -7.5, 7.5, 0.3], "float32"), np.asarray([2, -2, -2, 2, 0.1], "float32")
    np.testing.assert_array_equal(run_op(tmp_path, "Mod", x, y, fmod=1), np.fmod(x, y))


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize(
    ("op", "reference"), [("BitwiseAnd", np.bitwise_and), ("BitwiseOr", np.bitwise_or), ("BitwiseXor", np.bitwise_xor)]
)
def test_bits_are_joined_and_broadcast(op: str, reference: Any, dtype: str, tmp_path: Path) -> None:
    x, y = whole(dtype, 0).reshape(4, 16), whole(dtype, 1, 16)
    np.testing.assert_array_equal(run_op(tmp_path, op, x, y), reference(x, y))


@pytest.mark.parametrize("dtype", WHOLE)
def test_bits_are_turned_over(dtype: str, tmp_path: Path) -> None:
    x = whole(dtype, 0)
    np.testing.assert_array_equal(run_op(tmp_path, "BitwiseNot", x), ~x)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_bits_are_shifted(dtype: str, tmp_path: Path) -> None:
    x, by = whole(dtype, 0), (np.arange(64) % np.iinfo(dtype).bits).astype(dtype)
    np.testing.assert_array_equal(run_op(tmp_path, "BitShift", x, by, direction="LEFT"), x << by)
    np.testing.assert_array_equal(run_op(tmp_path, "BitShift", x, by, direction="RIGHT"), x >> by)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_signs_of_integers(dtype: str, tmp_path: Path) -> None:
    x = np.append(whole(dtype, 0), np.asarray([0, np.iinfo(dtype).min], dtype))[:65]
    for op, reference in (("Abs", np.abs), ("Neg", np.negative), ("Sign", np.sign)):
        np.testing.assert_array_equal(run_op(tmp_path, op, x), reference(x), op)


# --- powers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-1, -0.5, 0, 0.5, 1, 2, 3, 2.5])
def test_powers_of_reals(exponent: float, tmp_path: Path) -> None:
    x, y = np.linspace(0.1, 5, 12, dtype="float32"), np.float32(exponent)
    for constants in ((1,), ()) if exponent == 2.5 else ((1,),):
        found = run_op(tmp_path, "Pow", x, np.asarray([y]), constants=constants)
        np.testing.assert_allclose(found, x.astype("float64") ** exponent, 1e-5)


@pytest.mark.parametrize("base", ["int32", "int64"])
@pytest.mark.parametrize("kind", ["int32", "int64", "float32"])
@pytest.mark.parametrize("is_constant", [True, False])
def test_powers_of_integers(base: str, kind: str, is_constant: bool, tmp_path: Path) -> None:
    x = np.asarray([-3, -2, 1, 2, 5], base)
    for exponent in (0, 3, 13):
        y = np.asarray([exponent], kind)
        found = run_op(tmp_path, "Pow", x, y, constants=(1,) if is_constant else ())
        if is_constant or kind != "float32" or exponent < 13:
            np.testing.assert_array_equal(found, x**exponent)


def test_powers_of_integers_by_negative_exponents_are_cut_off(tmp_path: Path) -> None:
    x, y = np.asarray([-1, -1, 1, 2, 9], "int64"), np.asarray([-1, -2, -5, -1, 2], "int64")
    assert run_op(tmp_path, "Pow", x, y).tolist() == [-1, 1, 1, 0, 81]
    x = np.asarray([2, 3, -7, 10, 1], "int64")
    assert run_op(tmp_path, "Pow", x, np.asarray([62, 39, 21, 18, 63])).tolist() == [
        2**62,
        3**39,
        (-7) ** 21,
        10**18,
        1,
    ]


# --- types -----------------------------------------------------------------------------------------------------------


def _casts(folder: Path, x: np.ndarray, targets: Sequence[str], *, back: bool = False) -> list[np.ndarray]:
    """`x` cast to each of the types, and where `back` is asked for from there to float32."""
    nodes = [helper.make_node("Cast", ["x"], [f"to_{kind}"], to=element(kind)) for kind in targets]
    gives = {f"to_{kind}": (kind, x.shape) for kind in targets}
    if back:
        nodes += [helper.make_node("Cast", [name], [f"{name}_back"], to=1) for name in gives]
        gives = {f"{name}_back": ("float32", x.shape) for name in gives}
    return run_model(folder, graph_of(nodes, {"x": x}, gives, 19), x)


@pytest.mark.parametrize("source", [*WHOLE, "bool"])
def test_casts_of_integers_wrap_around(source: str, tmp_path: Path) -> None:
    x = np.asarray([True, False]) if source == "bool" else whole(source, 0)
    targets = [kind for kind in (*WHOLE, "bool", "float32", "float16") if kind != source]
    for target, found in zip(targets, _casts(tmp_path, x, targets), strict=True):
        with np.errstate(over="ignore"):
            expected = x.astype(target)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, target)


def test_casts_of_reals_cut_off(tmp_path: Path) -> None:
    x, targets = np.asarray([-2.7, -0.4, 0, 0.3, 2.9, 1e2], "float32"), ("int8", "int16", "int32", "int64", "bool")
    for target, found in zip(targets, _casts(tmp_path, x, targets), strict=True):
        np.testing.assert_array_equal(found, x.astype(target), target)


def test_types_held_wider_inside_still_round_and_wrap(tmp_path: Path) -> None:
    import ml_dtypes

    x = np.asarray([1 / 3, 65519, 1e5, -1e-8, 1.00390625], "float32")
    half, brain = _casts(tmp_path, x, ("float16", "bfloat16"), back=True)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(half, x.astype("float16").astype("float32"))
    np.testing.assert_array_equal(brain, x.astype(ml_dtypes.bfloat16).astype("float32"))
    numbers, targets = np.asarray([-1, 70000, 2**31 - 1], "int32"), ("uint16", "int16", "uint32", "uint8")
    for target, found in zip(targets, _casts(tmp_path, numbers, targets, back=True), strict=True):
        np.testing.assert_array_equal(found, numbers.astype(target).astype("float32"), target)


@pytest.mark.parametrize(
    ("source", "target"), [("float32", "int32"), ("uint16", "float16"), ("float16", "int16"), ("uint8", "int8")]
)
def test_bits_are_read_as_another_type(source: str, target: str, tmp_path: Path) -> None:
    x = np.asarray([0, 1, 2, 3], source)
    found = run_op(tmp_path, "BitCast", x, gives=target, opset=26, to=element(target))
    np.testing.assert_array_equal(found, x.view(target))
