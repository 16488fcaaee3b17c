"""A record is to everybody what a frozen dataclass of the same fields is."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from edgekit.record import Record, field


class Ours(Record):
    """A record."""

    name: str
    size: int = 3
    tags: dict[str, Any] = field(default_factory=dict)
    length: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.name))


@dataclasses.dataclass(frozen=True)
class Theirs:
    """The same."""

    name: str
    size: int = 3
    tags: dict[str, Any] = dataclasses.field(default_factory=dict)
    length: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.name))


class Point(Record):
    """One that can be hashed."""

    x: int
    y: int = 0


class Identical(Record, eq=False):
    """One that equals only itself."""

    x: int


class Further(Point):
    """One of a record."""

    z: int = 5


@pytest.mark.parametrize("arguments", [{}, {"size": 4}, {"tags": {"a": [1]}}, {"size": 1, "tags": {}}])
def test_it_is_made_shown_and_taken_apart_alike(arguments: dict[str, Any]) -> None:
    ours, theirs = Ours("net", **arguments), Theirs("net", **arguments)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert vars(ours) == vars(theirs)
    assert list(vars(ours)) == list(vars(theirs))
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    changed = dataclasses.replace(ours, name="other")
    assert vars(changed) == vars(dataclasses.replace(theirs, name="other"))
    assert ours == Ours("net", **arguments) != changed


def test_to_others_it_is_a_dataclass() -> None:
    said = [(one.name, one.type, one.init, one.repr, one.compare) for one in dataclasses.fields(Ours)]
    theirs = dataclasses.fields(Theirs)
    assert said == [(one.name, one.type, one.init, one.repr, one.compare) for one in theirs]
    assert dataclasses.is_dataclass(Point)
    assert not dataclasses.is_dataclass(Record)
    assert str(inspect.signature(Ours)) == str(inspect.signature(Theirs))
    assert Ours.__match_args__ == Theirs.__match_args__


def test_defaults_are_made_anew_for_each_also_after_it_was_looked_at() -> None:
    assert Ours("a").tags is not Ours("b").tags
    dataclasses.fields(Ours)
    assert Ours("a").tags == {}
    assert Ours("a").size == Ours.size == 3


def test_equal_ones_have_one_hash_and_others_of_equal_fields_are_not_equal() -> None:
    assert len({Point(1), Point(1, 0), Point(0, 1)}) == 2
    assert Point(1).__eq__((1, 0)) is NotImplemented
    assert Point(1, 2) != Further(1, 2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Ours("a"))


def test_where_it_is_said_each_equals_only_itself() -> None:
    one = Identical(1)
    assert one == one
    assert one != Identical(1)
    assert len({one, Identical(1)}) == 2


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})])
def test_arguments_that_do_not_fit_are_type_errors(arguments: tuple[tuple[int, ...], dict[str, int]]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*arguments[0], **arguments[1])


def test_it_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="'y'"):
        del point.y
    assert point == Point(1, 0)


def test_one_of_a_record_has_the_fields_of_both() -> None:
    assert repr(Further(1, z=2)) == "Further(x=1, y=0, z=2)"
    assert [one.name for one in dataclasses.fields(Further)] == ["x", "y", "z"]
    assert dataclasses.replace(Further(1), y=7) == Further(1, 7)


def test_it_is_copied_pickled_and_matched() -> None:
    further = Further(1, 2)
    assert copy.deepcopy(further) == pickle.loads(pickle.dumps(further)) == copy.copy(further) == further
    match further:
        case Further(x, y, z):
            assert (x, y, z) == (1, 2, 5)
        case _:
            pytest.fail("it does not match itself")
