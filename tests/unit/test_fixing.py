"""Sizes the user gives for what a source leaves open."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.conversion.fixing import fix_sizes
from edgekit.converter import SourceModel, parse_input_shape
from edgekit.errors import InputError
from edgekit.graph import load, save, signature
from edgekit.spec import Signature, TensorSpec
from tests.unit.networks import from_text

OPEN = {"inputs": 'float["batch","steps"] x, float["batch","steps"] m', "outputs": 'float["batch","steps"] y'}


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    graph = from_text("y = Mul(x, m)", **OPEN)
    save(graph, tmp_path / "hub.onnx")
    return SourceModel("onnx", tmp_path / "m.onnx", signature(graph), dict, {"hub": tmp_path / "hub.onnx"})


def given(*shapes: str) -> list[TensorSpec]:
    return [parse_input_shape(shape) for shape in shapes]


def shapes(signature: Signature) -> list[tuple[int | str, ...]]:
    return [spec.shape for spec in (*signature.inputs, *signature.outputs)]


def test_a_size_given_once_holds_wherever_its_name_stands(source: SourceModel, tmp_path: Path) -> None:
    fixed = fix_sizes(source, given("m=batch,128"), tmp_path)
    assert shapes(fixed.signature) == [("batch", 128)] * 3
    assert shapes(signature(load(fixed.exports["hub"]))) == [("batch", 128)] * 3


def test_without_a_name_a_shape_is_for_the_input_at_its_place(source: SourceModel, tmp_path: Path) -> None:
    assert shapes(fix_sizes(source, given("2,7"), tmp_path).signature) == [(2, 7)] * 3


def test_nothing_given_changes_nothing(source: SourceModel, tmp_path: Path) -> None:
    assert fix_sizes(source, [], tmp_path) is source


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (["z=1,2"], "no input z"),
        (["1,2", "1,2", "1,2"], "no input 3"),
        (["x=1,2,3"], "does not fit"),
        (["x=1,2", "m=1,3"], "'steps' cannot be both 2 and 3"),
    ],
)
def test_what_does_not_fit_is_refused(source: SourceModel, tmp_path: Path, shape: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fix_sizes(source, given(*shape), tmp_path)
