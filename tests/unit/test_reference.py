"""What every file is held against: the source's answers to random feeds it can take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.conversion.reference import make_reference
from edgekit.converter import Feeds, SourceModel
from edgekit.errors import ConversionError
from edgekit.spec import Signature, TensorSpec


def source_with_table(rows: int, dtype: str = "int64") -> SourceModel:
    """A source whose input picks rows of a table."""

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        if feeds["ids"].max() >= rows:
            raise ConversionError(f"index {feeds['ids'].max()} of {rows} rows")
        return {"y": np.eye(rows, dtype="float32")[feeds["ids"].astype("int64")]}

    signature = Signature((TensorSpec("ids", dtype, (1, 9)),), (TensorSpec("y", "float32", (1, 9, rows)),))
    return SourceModel("test", Path("m"), signature, run, {})


def test_integers_stay_small_where_the_source_refuses_others() -> None:
    small, large = source_with_table(2), source_with_table(64)
    assert max(feed["ids"].max() for feed in make_reference(small, [], "", 0).random) == 1
    assert "0 and 1" in small.notes[0]
    assert "of 2 rows" in small.notes[0]
    assert max(feed["ids"].max() for feed in make_reference(large, [], "", 0).random) > 1
    assert not large.notes


def test_a_source_that_answers_nothing_is_an_error() -> None:
    with pytest.raises(ConversionError, match="of 1 rows"):
        make_reference(source_with_table(1), [], "", 0)
    with pytest.raises(ConversionError, match="of 1 rows"):
        make_reference(source_with_table(1, "float32"), [], "", 0)
