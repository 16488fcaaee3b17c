"""Recipes: rules in order, and files a user may have written wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import ArtifactError, EdgekitError, UnsupportedError
from edgekit.recipe import ALIASES, NAMED, PRECISIONS, Recipe, Rule, canonical_precision

texts = st.text(max_size=6)
rules = st.builds(Rule, precision=st.sampled_from(PRECISIONS), name=texts, op_type=texts, reason=texts)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
recipes = st.builds(
    Recipe,
    name=texts,
    precision=st.sampled_from(PRECISIONS),
    description=texts,
    rules=st.lists(rules, max_size=3).map(tuple),
    observer=texts,
    min_sqnr_db=numbers,
    max_relative=numbers,
)


@given(recipes)
def test_recipes_survive_json(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_later_rules_win() -> None:
    recipe = (
        Recipe("mine", "w8a8")
        .with_rule(Rule("fp32", op_type="Conv", reason="all"))
        .with_rule(Rule("w8a8", name="head/*"))
        .with_rule(Rule("fp32", name="head/last"))
    )
    assert recipe.decide("body/1", "Conv") == Rule("fp32", op_type="Conv", reason="all")
    assert recipe.decide("head/1", "Conv") == Rule("w8a8", name="head/*")
    assert recipe.decide("head/last", "Gemm") == Rule("fp32", name="head/last")
    assert recipe.decide("body/1", "Gemm") is None
    assert NAMED["w8a8"].rules == (), "the named recipe is not changed by adding to it"


def test_patterns_know_case() -> None:
    assert not Rule("fp32", op_type="conv").matches("x", "Conv")
    assert Rule("fp32", name="x?").matches("x1", "Conv")


@pytest.mark.parametrize("name", [*NAMED, *ALIASES])
def test_named_recipes_are_found_by_name_and_alias(name: str) -> None:
    recipe = Recipe.named(name)
    assert recipe.name == ALIASES.get(name, name)
    assert canonical_precision(recipe.precision) == recipe.precision in PRECISIONS
    assert recipe.description
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnsupportedError) as caught:
        Recipe.named("int3")
    assert all(name in caught.value.hint for name in NAMED)


def test_aliases_are_taken_in_files_and_their_rules(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    data = {
        "schema": "edgekit.recipe",
        "version": 1,
        "precision": "int8",
        "rules": [{"precision": "float32", "name": "a"}],
    }
    path.write_text(json.dumps(data))
    assert Recipe.from_file(path) == Recipe("w8a8", "w8a8", rules=(Rule("fp32", name="a"),))


WRONG: list[tuple[str, Any]] = [
    ("schema", "edgekit.bundle"),
    ("version", 2),
    ("precision", ["w8a8"]),
    ("precision", None),
    ("name", 5),
    ("rules", "w8a8"),
    ("rules", {"precision": "fp32"}),
    ("rules", [[]]),
    ("rules", [{}]),
    ("rules", [{"precision": "fp32", "nmae": "x"}]),
    ("rules", [{"precision": "fp32", "name": 5}]),
    ("min_sqnr_db", "8"),
    ("min_sqnr_db", True),
    ("more", 1),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ArtifactError):
        Recipe.from_json({**NAMED["w8a8"].to_json(), field: value})


@pytest.mark.parametrize("precision", ["w9", "", "W8A8"])
def test_an_unknown_precision_is_unsupported(precision: str) -> None:
    with pytest.raises(UnsupportedError):
        Recipe.from_json({**NAMED["w8a8"].to_json(), "precision": precision})
    with pytest.raises(UnsupportedError):
        Recipe.from_json({**NAMED["w8a8"].to_json(), "rules": [{"precision": precision}]})


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"{", b"[]", b"null", b"5", b'"x"', b"[" * 10_000, b"{}"])
def test_a_file_that_is_no_recipe(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "recipe.json"
    path.write_bytes(raw)
    with pytest.raises(ArtifactError):
        Recipe.from_file(path)


def test_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ArtifactError):
            Recipe.from_file(path)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(list(NAMED["w8a8"].to_json())), anything)
def test_no_content_raises_anything_but_ours(field: str, value: Any) -> None:
    try:
        Recipe.from_json({**NAMED["w8a8"].to_json(), field: value})
    except EdgekitError:
        return
