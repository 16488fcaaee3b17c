"""Names, dtypes, shapes, and the arithmetic of integers that stand for real numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgekit.errors import ArtifactError
from edgekit.spec import DTYPES, QuantParams, Signature, StatePair, TensorSpec

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32")


@st.composite
def params(draw: st.DrawFn, *, is_symmetric: bool = False) -> QuantParams:
    dtype = draw(st.sampled_from(INTEGERS))
    limits = np.iinfo(dtype)
    zero = 0 if is_symmetric else draw(st.integers(max(limits.min, -(1 << 15)), min(limits.max, 1 << 15)))
    return QuantParams(dtype, (float(np.float32(draw(st.floats(1e-6, 1e3)))),), (zero,))


reals = npst.arrays("float32", npst.array_shapes(max_dims=3, max_side=4), elements=st.floats(-1e5, 1e5, width=32))


@given(params(), reals)
def test_rounding_is_off_by_half_a_step_at_most(quant: QuantParams, real: np.ndarray) -> None:
    limits = np.iinfo(quant.dtype)
    integers = quant.quantize(real)
    assert integers.dtype == quant.dtype
    assert integers.shape == real.shape
    inside = (integers > limits.min) & (integers < limits.max)
    error = np.abs(quant.dequantize(integers).astype("float64") - real)[inside]
    # Half a step, and what float32 cannot tell apart in numbers as large as these.
    slack = 4 * np.finfo("float32").eps * (np.abs(real[inside]) + abs(quant.zero_point[0]) * quant.scale[0])
    assert (error <= 0.5 * quant.scale[0] * (1 + 1e-6) + slack).all()


@given(params())
def test_zero_is_exact(quant: QuantParams) -> None:
    zero = np.zeros(3, "float32")
    assert quant.quantize(zero).tolist() == [quant.zero_point[0]] * 3
    assert quant.dequantize(quant.quantize(zero)).tolist() == [0.0] * 3


@given(params(), st.data())
def test_integers_survive_the_round_trip(quant: QuantParams, data: st.DataObject) -> None:
    limits = np.iinfo(quant.dtype)
    bound = 1 << 20  # beyond 24 bits float32 has no room for every integer
    element = st.integers(max(limits.min, -bound), min(limits.max, bound))
    integers = np.array(data.draw(st.lists(element, min_size=1, max_size=5)), quant.dtype)
    assert quant.quantize(quant.dequantize(integers)).tolist() == integers.tolist()


@given(params(is_symmetric=True), reals)
def test_order_is_kept(quant: QuantParams, real: np.ndarray) -> None:
    flat = np.sort(real.ravel())
    assert (np.diff(quant.quantize(flat).astype("int64")) >= 0).all()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_what_is_out_of_range_stops_at_the_limits(dtype: str) -> None:
    quant = QuantParams(dtype, (0.001,), (0,))
    limits = np.iinfo(dtype)
    far = np.array([1e30, -1e30, np.inf, -np.inf], "float32")
    assert quant.quantize(far).tolist() == [limits.max, limits.min, limits.max, limits.min]


def test_ties_go_to_even() -> None:
    quant = QuantParams("int8", (1.0,), (0,))
    assert quant.quantize(np.array([0.5, 1.5, 2.5, -0.5, -1.5], "float32")).tolist() == [0, 2, 2, 0, -2]


@pytest.mark.parametrize("axis", [1, -2])
def test_per_axis_uses_each_channels_own(axis: int) -> None:
    quant = QuantParams("int8", (1.0, 0.5), (0, 10), axis=axis)
    real = np.array([[[1.0], [1.0]], [[-3.0], [2.0]]], "float32")
    assert quant.quantize(real).tolist() == [[[1], [12]], [[-3], [14]]]
    assert quant.dequantize(quant.quantize(real)).tolist() == real.tolist()


@pytest.mark.parametrize(
    ("scale", "zero_point"),
    [((), ()), ((1.0,), (0, 0)), ((0.0,), (0,)), ((-1.0,), (0,)), ((math.nan,), (0,)), ((math.inf,), (0,))],
)
def test_impossible_parameters_are_refused(scale: tuple[float, ...], zero_point: tuple[int, ...]) -> None:
    with pytest.raises(ArtifactError):
        QuantParams("int8", scale, zero_point)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ArtifactError, match="float31"):
        TensorSpec("x", "float31", (1,))


def test_a_symbolic_dimension_takes_any_size() -> None:
    spec = TensorSpec("x", "float32", ("N", 3))
    assert spec.accepts_shape((0, 3))
    assert spec.accepts_shape((7, 3))
    assert not spec.accepts_shape((7, 4))
    assert not spec.accepts_shape((7,))
    assert not spec.accepts_shape((7, 3, 1))
    assert not spec.is_static
    assert TensorSpec("x", "float32", ()).is_static
    assert TensorSpec("x", "float32", ()).accepts_shape(())


def test_a_spec_reads_well() -> None:
    assert str(TensorSpec("x", "float32", ("N", 3), layout="NC")) == "x: float32[Nx3] NC"
    assert str(TensorSpec("x", "int8", ())) == "x: int8[scalar]"


specs = st.builds(
    TensorSpec,
    name=st.text(max_size=9),
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 1 << 40) | st.text(min_size=1, max_size=4), max_size=5).map(tuple),
    layout=st.none() | st.just("NHWC"),
    quant=st.none() | params() | st.just(QuantParams("int8", (0.5, 0.25), (1, 2), axis=-1)),
)


@given(st.lists(specs, max_size=3), st.lists(specs, max_size=3))
def test_signatures_survive_json(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    state = (StatePair(inputs[0].name, outputs[0].name),) if inputs and outputs else ()
    signature = Signature(tuple(inputs), tuple(outputs), state)
    text = json.dumps(signature.to_json(), allow_nan=False)
    again = Signature.from_json(json.loads(text))
    assert again == signature
    assert hash(again) == hash(signature)
    for spec in inputs:
        assert again.input(spec.name).name == spec.name
