"""Properties of the arithmetic: error bounds, exact zeros, the middle, order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.quantize import Range
from edgekit.quantize.solver import (
    activation_params,
    min_weight_scale,
    quantize_bias,
    quantize_constant,
    quantize_weight,
)
from edgekit.spec import QuantParams

FINITE = st.floats(-1e6, 1e6, width=32)
RANGES = st.tuples(FINITE, FINITE).map(lambda ends: Range(min(ends), max(ends)))
DTYPES = st.sampled_from(["uint8", "int8"])
WEIGHTS = hnp.arrays(
    "float32", hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.floats(-8, 8, width=32)
)


@given(RANGES, DTYPES, st.booleans(), st.floats(0, 1))
def test_what_is_within_the_range_comes_back_within_half_a_scale(
    span: Range, dtype: str, symmetric: bool, share: float
) -> None:
    params = activation_params(span, dtype, symmetric=symmetric)
    value = np.array([span.low + share * (span.high - span.low)], "float32")
    error = abs(float(params.dequantize(params.quantize(value))[0]) - float(value[0]))
    assert error <= 0.5 * params.scale[0] * (1 + 1e-5) + 1e-6 * abs(float(value[0]))


@given(RANGES, DTYPES, st.booleans())
def test_zero_is_exact(span: Range, dtype: str, symmetric: bool) -> None:
    params = activation_params(span, dtype, symmetric=symmetric)
    zero = np.zeros(1, "float32")
    assert params.dequantize(params.quantize(zero))[0] == 0


@given(RANGES, DTYPES)
def test_symmetric_means_zero_in_the_middle(span: Range, dtype: str) -> None:
    params = activation_params(span, dtype, symmetric=True)
    assert params.zero_point == ({"uint8": 128, "int8": 0}[dtype],)


@given(RANGES, st.floats(1, 100), DTYPES, st.booleans())
def test_a_wider_range_never_has_a_smaller_scale(span: Range, factor: float, dtype: str, symmetric: bool) -> None:
    wider = Range(min(span.low * factor, span.low), max(span.high * factor, span.high))
    narrow, wide = (activation_params(s, dtype, symmetric=symmetric).scale[0] for s in (span, wider))
    assert wide >= narrow


@given(RANGES, DTYPES, hnp.arrays("float32", 8, elements=FINITE))
def test_order_is_kept(span: Range, dtype: str, values: np.ndarray) -> None:
    params = activation_params(span, dtype)
    assert (np.diff(params.quantize(np.sort(values)).astype("int32")) >= 0).all()


@pytest.mark.parametrize("span", [Range(0, 0), Range(1e-30, 1e-30), Range(-1e-12, 1e-12)])
def test_a_range_of_almost_nothing_has_a_usable_scale(span: Range) -> None:
    assert activation_params(span, "uint8").scale[0] > np.finfo("float32").tiny


def test_after_a_relu_all_integers_are_of_use() -> None:
    assert activation_params(Range(0.0, 6.0), "uint8").zero_point == (0,)
    assert activation_params(Range(0.0, 6.0), "int8").zero_point == (-128,)
    assert activation_params(Range(2.0, 6.0), "uint8").zero_point == (0,)
    assert activation_params(Range(-6.0, -2.0), "uint8").zero_point == (255,)


@given(WEIGHTS, st.booleans())
def test_weights_are_symmetric_and_within_half_a_scale(weight: np.ndarray, per_channel: bool) -> None:
    rounded = quantize_weight(weight, 0 if per_channel else None)
    assert set(rounded.params.zero_point) == {0}
    assert rounded.values.min(initial=0) >= -127
    scale = np.asarray(rounded.params.scale).reshape([-1] + [1] * (weight.ndim - 1))
    assert (np.abs(rounded.params.dequantize(rounded.values) - weight) <= 0.5 * scale * (1 + 1e-5)).all()


@given(WEIGHTS)
def test_rounding_a_negated_weight_negates_the_integers(weight: np.ndarray) -> None:
    assert np.array_equal(quantize_weight(-weight, 0).values, -quantize_weight(weight, 0).values)


@given(hnp.arrays("float32", 5, elements=FINITE), st.floats(1e-6, 10))
def test_a_bias_always_fits_its_32_bits(bias: np.ndarray, activation_scale: float) -> None:
    weight = quantize_weight(np.full((5, 3), 1e-6, "float32"), 0, min_scale=min_weight_scale(bias, activation_scale))
    activation = QuantParams("uint8", (activation_scale,), (0,))
    stored = quantize_bias(bias, activation, weight.params)
    assert stored.values.dtype == np.int32
    assert stored.params.dequantize(stored.values) == pytest.approx(bias, rel=1e-5, abs=max(stored.params.scale))


def test_a_constant_operand_has_one_scale() -> None:
    stored = quantize_constant(np.array([0.0, 0.5, 2.0], "float32"), "uint8")
    assert stored.params.axis is None
    assert stored.params.dequantize(stored.values) == pytest.approx([0, 0.5, 2], abs=stored.params.scale[0] / 2)
