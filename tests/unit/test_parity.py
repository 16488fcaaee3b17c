"""Parity figures, and outputs matched by meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.errors import ConversionError
from edgekit.parity import compare, largest_difference, match_inputs, match_outputs
from edgekit.spec import TensorSpec

RNG = np.random.default_rng(7)


def answers(**shapes: tuple[int, ...]) -> list[dict[str, np.ndarray]]:
    return [{name: RNG.standard_normal(shape).astype("float32") for name, shape in shapes.items()} for _ in range(3)]


def test_equal_answers_have_no_error_and_full_agreement() -> None:
    want = answers(scores=(1, 7))
    parity = compare(want, want, data="test")
    assert parity.relative == 0
    assert parity.sqnr_db == math.inf
    assert parity.top1_agreement == 1.0
    assert parity.to_json()["sqnr_db"] is None, "JSON has no infinity"


def test_sqnr_and_relative_error_follow_their_definitions() -> None:
    want = [{"y": np.array([[0.0, 4.0]], "float32")}]
    got = [{"y": np.array([[0.4, 4.0]], "float32")}]
    parity = compare(want, got, data="test")
    assert parity.relative == pytest.approx(0.1)
    assert parity.sqnr_db == pytest.approx(10 * math.log10(16 / 0.16), rel=1e-6)


def test_agreement_counts_rows_whose_largest_value_moved() -> None:
    want = [{"y": np.array([[0.0, 1.0], [1.0, 0.0]])}]
    got = [{"y": np.array([[0.0, 1.0], [0.0, 1.0]])}]
    assert compare(want, got, data="test").top1_agreement == 0.5


def test_the_worst_output_speaks_for_all() -> None:
    want = answers(a=(1, 5), b=(1, 5))
    got = [{"a": w["a"], "b": w["b"] + 1} for w in want]
    parity = compare(want, got, data="test")
    assert parity.sqnr_db == parity.outputs["b"].sqnr_db < 10


def test_nan_where_the_source_is_finite_is_refused() -> None:
    want = answers(y=(1, 3))
    got = [{"y": w["y"] * np.nan} for w in want]
    with pytest.raises(ConversionError, match="not finite"):
        compare(want, got, data="test")


def test_another_shape_is_refused() -> None:
    with pytest.raises(ConversionError, match="shape"):
        compare(answers(y=(1, 3)), answers(y=(1, 4)), data="test")


def test_renamed_and_reordered_outputs_of_one_shape_are_matched_by_their_numbers() -> None:
    want = answers(contour=(1, 9), note=(1, 5), onset=(1, 5))
    got = [{"out:2": w["contour"], "out:1": w["onset"] + 1e-6, "out:0": w["note"] - 1e-6} for w in want]
    assert match_outputs(want, got) == {"contour": "out:2", "note": "out:0", "onset": "out:1"}


def test_names_are_believed_when_the_numbers_agree() -> None:
    want = answers(a=(1, 5), b=(1, 5))
    assert match_outputs(want, want) == {"a": "a", "b": "b"}


def test_names_are_not_believed_when_the_numbers_say_they_were_swapped() -> None:
    want = answers(a=(1, 5), b=(1, 5))
    got = [{"a": w["b"], "b": w["a"]} for w in want]
    assert match_outputs(want, got) == {"a": "b", "b": "a"}


def test_an_output_without_counterpart_is_an_error() -> None:
    with pytest.raises(ConversionError, match="no output of the file has the shape"):
        match_outputs(answers(a=(1, 5)), answers(b=(1, 6)))
    with pytest.raises(ConversionError, match="has outputs"):
        match_outputs(answers(a=(1, 5)), answers(a=(1, 5), b=(1, 5)))


def test_inputs_are_matched_by_plain_name_then_by_the_only_shape_that_fits() -> None:
    x = TensorSpec("x", "float32", ("batch", 4))
    n = TensorSpec("n", "int64", ())
    assert match_inputs(
        [x, n], [TensorSpec("n", "int64", ()), TensorSpec("serving_default_x:0", "float32", (1, 4))]
    ) == {
        "x": "serving_default_x:0",
        "n": "n",
    }
    assert match_inputs([x, n], [TensorSpec("p", "int32", ()), TensorSpec("q", "float32", (1, 4))]) == {
        "x": "q",
        "n": "p",
    }
    with pytest.raises(ConversionError, match="cannot tell"):
        match_inputs([x, x], [TensorSpec("p", "float32", (1, 4)), TensorSpec("q", "float32", (1, 4))])


def test_equal_infinities_are_no_difference_and_unequal_ones_are_endless() -> None:
    endless = np.array([1.0, np.inf, -np.inf, np.nan])
    assert largest_difference(endless, endless + 0.0) == 0.0
    assert largest_difference(endless, np.array([3.0, np.inf, -np.inf, np.nan])) == 2.0
    for wrong in ([1.0, np.inf, np.inf, np.nan], [1.0, 5.0, -np.inf, np.nan], [np.nan, np.inf, -np.inf, np.nan]):
        assert largest_difference(endless, np.array(wrong)) == np.inf
    assert largest_difference(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0
