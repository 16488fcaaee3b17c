"""Functions, activations and choices: what the node tests leave out, against numpy in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import graph as hub
from edgekit.converters.tflite.lowering import lower
from edgekit.errors import UnsupportedError
from tests.contract.tflite_ops.single import WHOLE, one_op, run_op

INF, NAN = np.inf, np.nan

_EVERYWHERE = np.concatenate(
    [np.linspace(-12, 12, 4001), np.logspace(-30, 1.9, 200), -np.logspace(-30, 1.9, 200), [0.0, -0.0]]
).astype("float32")
_WITHIN_ONE = np.clip(np.concatenate([np.linspace(-1, 1, 2001), np.logspace(-30, 0, 100)]), -1, 1).astype("float32")
_FROM_ONE = np.concatenate([np.linspace(1, 20, 2001), np.logspace(0, 37, 100)]).astype("float32")


def _erf(x: np.ndarray) -> np.ndarray:
    from math import erf

    return np.vectorize(erf)(x)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def _expm1(x: np.ndarray) -> np.ndarray:
    return np.expm1(np.minimum(x, 0))


@pytest.mark.parametrize(
    ("op", "reference", "points"),
    [
        ("Erf", _erf, _EVERYWHERE),
        ("Tan", np.tan, _WITHIN_ONE),
        ("Atan", np.arctan, _EVERYWHERE * 1e20),
        ("Asin", np.arcsin, _WITHIN_ONE),
        ("Acos", np.arccos, _WITHIN_ONE),
        ("Sinh", np.sinh, _EVERYWHERE),
        ("Cosh", np.cosh, _EVERYWHERE),
        ("Asinh", np.arcsinh, _EVERYWHERE),
        ("Asinh", np.arcsinh, np.asarray([1e25, -1e25, 1e37, 1e-37], "float32")),
        ("Acosh", np.arccosh, _FROM_ONE),
        ("Atanh", np.arctanh, _WITHIN_ONE[1:-1] * np.float32(0.999)),
        ("Softplus", _softplus, _EVERYWHERE),
        ("Mish", lambda x: x * np.tanh(_softplus(x)), _EVERYWHERE),
        ("Softsign", lambda x: x / (1 + abs(x)), _EVERYWHERE),
        ("Gelu", lambda x: x / 2 * (1 + _erf(x / 2**0.5)), _EVERYWHERE),
        ("Elu", lambda x: np.where(x > 0, x, _expm1(x)), _EVERYWHERE),
        ("Selu", lambda x: 1.0507009873 * np.where(x > 0, x, 1.6732632423 * _expm1(x)), _EVERYWHERE),
        ("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), _EVERYWHERE),
        ("HardSigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1), _EVERYWHERE),
        ("Sigmoid", lambda x: 1 / (1 + np.exp(-x)), _EVERYWHERE),
        ("Reciprocal", np.reciprocal, _FROM_ONE),
        ("Round", np.round, np.asarray([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 8388609.0], "float32")),
    ],
)
def test_a_function_is_right_near_zero_and_far_from_it(
    op: str, reference: Callable[[np.ndarray], np.ndarray], points: np.ndarray, tmp_path: Path
) -> None:
    np.testing.assert_allclose(run_op(tmp_path, op, points), reference(points.astype("float64")), 1e-4, 2e-6)


_LINE = np.linspace(-3, 3, 48, dtype="float32").reshape(2, 3, 8)


@pytest.mark.parametrize(
    ("op", "attributes", "reference"),
    [
        ("Elu", {"alpha": -0.5}, lambda x: np.where(x > 0, x, -0.5 * np.expm1(x))),
        ("Celu", {"alpha": 0.3}, lambda x: np.maximum(x, 0) + np.minimum(0, 0.3 * np.expm1(x / 0.3))),
        ("Selu", {"alpha": 2.0, "gamma": 3.0}, lambda x: 3 * np.where(x > 0, x, 2 * np.expm1(x))),
        ("LeakyRelu", {"alpha": 2.0}, lambda x: np.where(x < 0, 2 * x, x)),
        ("LeakyRelu", {"alpha": -0.5}, lambda x: np.where(x < 0, -0.5 * x, x)),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.4}, lambda x: np.clip(x / 6 + 0.4, 0, 1)),
        ("ThresholdedRelu", {"alpha": -1.0}, lambda x: np.where(x > -1, x, 0)),
        ("Shrink", {"lambd": 1.0, "bias": 0.25}, lambda x: np.where(x < -1, x + 0.25, np.where(x > 1, x - 0.25, 0))),
        ("Gelu", {"approximate": "tanh"},
         lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    ],
)  # fmt: skip
def test_attributes_of_activations_count(
    op: str, attributes: dict[str, Any], reference: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    np.testing.assert_allclose(
        run_op(tmp_path, op, _LINE, **attributes), reference(_LINE.astype("float64")), 1e-5, 1e-6
    )


@pytest.mark.parametrize("slope", [(1,), (3, 1, 1), (1, 3, 1, 1), (3, 4, 5), (5,), (4, 1)])
@pytest.mark.parametrize("is_constant", [True, False])
def test_prelu_takes_slopes_of_every_shape(slope: tuple[int, ...], is_constant: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(2, 3, 4, 5)).astype("float32"), rng.uniform(0, 1, slope).astype("float32")
    found = run_op(tmp_path, "PRelu", x, a, constants=(1,) if is_constant else ())
    np.testing.assert_allclose(found, np.where(x < 0, x * a, x), 1e-6)


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "code"),
    [(0, None, "RELU"), (0, INF, "RELU"), (0, 6, "RELU6"), (-1, 1, "RELU_N1_TO_1"), (0, 1, "RELU_0_TO_1"),
     (0, 5, "MINIMUM"), (None, 2, "MINIMUM"), (-1, None, "MAXIMUM"), (-INF, 2, "MINIMUM")],
)  # fmt: skip
def test_a_clip_becomes_the_activation_of_its_limits(
    low: float | None, high: float | None, code: str, tmp_path: Path
) -> None:
    limits = [None if one is None else np.float32(one) for one in (low, high)]
    constants = [i + 1 for i, one in enumerate(limits) if one is not None]
    model = one_op("Clip", [_LINE, *(None if one is None else np.asarray(one) for one in limits)], "float32",
                   _LINE.shape, 13, constants, {})  # fmt: skip
    assert lower(hub.infer_shapes(model)).graph.ops[-1].code == code
    found = run_op(tmp_path, "Clip", _LINE, *limits, constants=constants, shape=_LINE.shape)
    np.testing.assert_array_equal(found, np.clip(_LINE, -INF if low is None else low, INF if high is None else high))


def test_a_clip_holds_limits_of_run_time_integers_crossed_limits_and_nan(tmp_path: Path) -> None:
    low, high = np.asarray([0.5], "float32"), np.asarray([-0.5], "float32")
    x = np.asarray([-9, 9, 0], "float32")
    one: dict[str, Any] = {"constants": (1, 2), "shape": (3,)}
    assert run_op(tmp_path, "Clip", x, low[0], high[0], **one).tolist() == [-0.5] * 3
    x = np.asarray([NAN, 9, -9], "float32")
    np.testing.assert_array_equal(run_op(tmp_path, "Clip", x, high[0], low[0], **one), [NAN, 0.5, -0.5])
    for dtype in ("int8", "uint8", "int64"):
        x = np.asarray([0, 9, 100], dtype)
        found = run_op(tmp_path, "Clip", x, np.asarray(2, dtype), np.asarray(50, dtype), **one)
        assert found.tolist() == [2, 9, 50]


def test_limits_before_opset_11_are_attributes(tmp_path: Path) -> None:
    assert run_op(tmp_path, "Clip", np.asarray([-9, 1, 9], "float32"), opset=6, min=-2.0, max=3.0).tolist() == [
        -2,
        1,
        3,
    ]


# --- along an axis ---------------------------------------------------------------------------------------------------


def _softmax(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    raised = np.exp(x.astype("float64") - x.max(axes, keepdims=True))
    return np.asarray(raised / raised.sum(axes, keepdims=True))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_a_softmax_along_every_axis_and_before_opset_13_along_all_behind(op: str, axis: int, tmp_path: Path) -> None:
    x = np.random.default_rng(axis % 4).normal(0, 4, (2, 3, 4, 5)).astype("float32")
    for opset, axes in ((13, (axis,)), (11, tuple(range(axis % 4, 4)))):
        if op == "Hardmax" and opset == 11 and axis != 3:
            continue  # refused when the opset is raised
        expected = _softmax(x, axes)
        if op == "Hardmax":
            expected = (x == x.max(axes, keepdims=True)).astype("float64")
        found = run_op(tmp_path, op, x, opset=opset, axis=axis)
        np.testing.assert_allclose(found, np.log(expected) if op == "LogSoftmax" else expected, 1e-5, 1e-6)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_products(exclusive: int, reverse: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-2, 2, (2, 7, 3)).astype("float32")
    turned = np.flip(x, 1) if reverse else x
    expected = np.cumprod(np.concatenate([np.ones((2, 1, 3)), turned[:, :-1]], 1) if exclusive else turned, 1)
    found = run_op(tmp_path, "CumProd", x, np.asarray(1), constants=(1,), shape=x.shape, opset=26,
                 exclusive=exclusive, reverse=reverse)  # fmt: skip
    np.testing.assert_allclose(found, np.flip(expected, 1) if reverse else expected, 1e-5)


# --- the rest --------------------------------------------------------------------------------------------------------


def test_infinities_are_told_apart(tmp_path: Path) -> None:
    x = np.asarray([INF, -INF, NAN, 0], "float32")
    for positive in (0, 1):
        for negative in (0, 1):
            found = run_op(tmp_path, "IsInf", x, gives="bool", detect_positive=positive, detect_negative=negative)
            assert found.tolist() == [bool(positive), bool(negative), False, False]
    assert run_op(tmp_path, "IsNaN", x, gives="bool").tolist() == [False, False, True, False]


@pytest.mark.parametrize("dtype", [*WHOLE, "bool", "float32", "float16"])
def test_a_choice_of_any_type_broadcasts_six_dimensions(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 2, (2, 1, 3, 1, 2, 1)).astype(bool)
    x, y = (rng.integers(0, 2, shape).astype(dtype) for shape in ((1, 2, 3, 1, 1, 2), (2,)))
    found = run_op(tmp_path, "Where", chosen, x, y, gives=dtype)
    np.testing.assert_array_equal(found, np.where(chosen, x, y))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_terms(count: int, tmp_path: Path) -> None:
    terms = [np.random.default_rng(i).normal(size=(3, 4)[i % 2 :]).astype("float32") for i in range(count)]
    for op, reference in (
        ("Sum", sum),
        ("Mean", lambda given: sum(given) / count),
        ("Max", _largest),
    ):
        np.testing.assert_allclose(run_op(tmp_path, op, *terms), reference(terms) + 0 * terms[0], 1e-5, 1e-6)


def _largest(arrays: list[np.ndarray]) -> np.ndarray:
    found = arrays[0]
    for array in arrays[1:]:
        found = np.maximum(found, array)
    return found


@pytest.mark.parametrize(
    ("op", "feeds", "attributes", "reason"),
    [
        ("Gelu", [_LINE], {"approximate": "sigmoid"}, "approximate=sigmoid"),
        ("Celu", [_LINE], {"alpha": -1.0}, "alpha of -1.0"),
        ("BitShift", [np.zeros(2, "uint64")] * 2, {"direction": "LEFT"}, "uint64"),
        ("Exp", [np.zeros(2, "float64")], {"to": 1}, ""),
    ],
)
def test_what_has_no_form_is_refused(
    op: str, feeds: list[np.ndarray], attributes: Any, reason: str, tmp_path: Path
) -> None:
    if not reason:
        assert run_op(tmp_path, op, *feeds).tolist() == [1, 1]
        return
    with pytest.raises(UnsupportedError) as refusal:
        run_op(tmp_path, op, *feeds, **attributes)
    assert any(reason in offender for offender in refusal.value.offenders)
