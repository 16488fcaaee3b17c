"""Tensors as the Open Inference Protocol writes them, there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.errors import InputError
from edgekit.serving.tensors import DATATYPES, from_bytes, from_list, to_bytes, to_list
from edgekit.spec import DTYPES, TensorSpec

HELD_IN = {"bfloat16": "uint16"}
NUMBERS = sorted(set(DTYPES) - {"string"})


def spec_of(dtype: str) -> TensorSpec:
    return TensorSpec("x", dtype, ("n",))


def test_every_dtype_has_a_datatype() -> None:
    assert set(DATATYPES) == set(DTYPES)
    assert len(set(DATATYPES.values())) == len(DTYPES)


@pytest.mark.parametrize("dtype", NUMBERS)
@settings(max_examples=25)
@given(data=st.data())
def test_numbers_come_back_from_bytes_as_they_were_wherever_they_begin(dtype: str, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=0, min_side=0))
    array = data.draw(arrays.arrays(HELD_IN.get(dtype, dtype), shape))
    raw = to_bytes(spec_of(dtype), array)
    back = from_bytes(spec_of(dtype), shape, memoryview(b"{}?" + raw)[3:])
    assert (back.dtype, back.shape, back.flags.aligned) == (array.dtype, array.shape, True)
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", NUMBERS)
@settings(max_examples=25)
@given(data=st.data())
def test_finite_numbers_come_back_from_json_as_they_were(dtype: str, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=0))
    finite = {"allow_nan": False, "allow_infinity": False} if "float" in dtype and dtype != "bfloat16" else {}
    elements = arrays.from_dtype(np.dtype(HELD_IN.get(dtype, dtype)), **finite)
    array = data.draw(arrays.arrays(HELD_IN.get(dtype, dtype), shape, elements=elements))
    if dtype == "bfloat16":
        array = array & 0xBFFF  # no exponent of all ones
    text = json.dumps(to_list(spec_of(dtype), array), allow_nan=False)
    assert from_list(spec_of(dtype), shape, json.loads(text)).tobytes() == array.tobytes()


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_come_back_from_bytes_and_json(texts: list[str]) -> None:
    array = np.array(texts, "object")
    spec = spec_of("string")
    assert from_bytes(spec, (len(texts),), to_bytes(spec, array)).tolist() == texts
    assert from_list(spec, (len(texts),), json.loads(json.dumps(to_list(spec, array)))).tolist() == texts


def test_nested_and_flat_lists_are_the_same_tensor() -> None:
    flat, nested = [1, 2, 3, 4, 5, 6], [[[1], [2], [3]], [[4], [5], [6]]]
    spec = spec_of("int32")
    np.testing.assert_array_equal(from_list(spec, (2, 3, 1), nested), from_list(spec, (2, 3, 1), flat))


@pytest.mark.parametrize(("value", "bits"), [(1.0, 0x3F80), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (-0.0, 0x8000)])
def test_bfloat16_is_rounded_to_nearest_and_ties_to_even(value: float, bits: int) -> None:
    assert from_list(spec_of("bfloat16"), (1,), [value]).tolist() == [bits]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_gets_no_nan_and_no_infinity(value: float) -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        to_list(spec_of("float32"), np.array([value], "float32"))
