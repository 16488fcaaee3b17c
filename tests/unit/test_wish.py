"""What is to be kept, from what the user said; no data are read for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgekit.conversion.accuracy import Accuracy
from edgekit.conversion.goal import AGREEMENT, parse_decibels
from edgekit.conversion.trials import Bar
from edgekit.conversion.wish import Wanted, Wish, make_wish, searched
from edgekit.errors import InputError
from edgekit.plan import Plan, PlannedVariant
from edgekit.processing import Processing
from edgekit.recipe import AUTO, Recipe
from edgekit.target import Target

PLAN = Plan("net", "onnx", Target.named("generic-x86"), (PlannedVariant("onnx", Recipe.named(AUTO)),))
CLASSES = Processing(outputs=({"op": "top_k", "k": 1},))


class Data:
    def __init__(self, processing: Processing) -> None:
        self.processing = processing


def wish(processing: Processing = Processing(), **said: Any) -> Wish:  # noqa: B008 - a value
    source: Any = None
    data: Any = Data(processing)
    return make_wish(Wanted(**said), source, data, PLAN, {})


def test_without_a_word_it_is_99_percent_agreement_or_20_decibels() -> None:
    assert wish(CLASSES).bar == Bar(min_agreement=0.99)
    assert wish().bar == Bar(min_sqnr_db=20.0)


def test_decibels_alone_are_all_that_is_asked_for() -> None:
    for processing in (CLASSES, Processing()):
        found = wish(processing, min_sqnr_db=35)
        assert found.bar == Bar(min_sqnr_db=35.0)
        assert found.goal is None


def test_decibels_come_beside_a_drop_and_beside_agreement() -> None:
    assert wish(CLASSES, min_sqnr_db="35", max_drop=2).bar == Bar(min_agreement=0.98, min_sqnr_db=35.0)
    assert wish(CLASSES, min_sqnr_db=35, metric=AGREEMENT).bar == Bar(min_agreement=0.99, min_sqnr_db=35.0)
    found = wish(min_sqnr_db="25 dB", metric=AGREEMENT, data="faces", max_drop="1%")
    assert found.bar == Bar(min_agreement=0.99, min_sqnr_db=25.0)
    assert found.goal is not None
    assert found.max_drop == pytest.approx(0.01)


def test_other_decibels_are_another_search() -> None:
    one, same, other = (wish(min_sqnr_db=db).context for db in (25, 25, 26))
    assert one == same != other


def test_decibels_make_int8_searched_for() -> None:
    assert [r.name for r in searched([Recipe.named("w8a8")], Wanted(min_sqnr_db=20))] == [AUTO]
    with pytest.raises(InputError, match="--min-sqnr is for int8 that is searched for"):
        searched([Recipe.named("fp32")], Wanted(min_sqnr_db=20))


def test_what_can_be_kept_of_a_model_without_classes_is_decibels() -> None:
    for said in ({"max_drop": 1}, {"metric": AGREEMENT}):
        with pytest.raises(InputError, match="names no classes") as caught:
            wish(**said)
        assert "--min-sqnr" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["loud", "0", "-3", "nan", "inf"])
def test_what_is_no_ratio_in_decibels_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="no signal to noise"):
        parse_decibels(text)


def test_a_file_is_held_to_what_is_allowed() -> None:
    found = Accuracy("top1", 0.94, 0.98, 100, "digits", True)
    assert "0.02 less is allowed" in found.complaint
    assert replace(found, allowed=0.05).complaint == ""
