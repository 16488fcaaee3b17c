"""Which models are asked with a text, and which with bytes, by the first steps of their processing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

import edgekit
from edgekit.errors import InputError
from edgekit.processing import Processing
from edgekit.serving.models import Model
from tests.contract import sample_models as samples

WORDS = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "b": 2}, "unk_token": "[UNK]"}}
WORDS |= {"pre_tokenizer": {"type": "Whitespace"}, "added_tokens": []}
TOKENIZE = {"op": "tokenize", "tokenizer": json.dumps(WORDS)}
CONSTANT = {"op": "constant", "value": [7, 7, 7, 7]}


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    """Answers its input `ids`, and takes another beside it."""
    kind = (TensorProto.INT64, [1, 4])
    nodes = [
        helper.make_node("Identity", ["ids"], ["same"]),
        helper.make_node("Identity", ["other"], ["unused"]),
    ]
    both = {"ids": kind, "other": kind}
    onnx.save(samples._model(nodes, both, {"same": kind, "unused": kind}), tmp_path / "m.onnx")
    with edgekit.load(tmp_path / "m.onnx") as session:
        yield Model("m", str(tmp_path / "m.onnx"), session)


def asked(model: Model, ids: Any, other: Any, body: bytes) -> Any:
    model.loaded().processing = Processing({"ids": (ids,), "other": (other,)})
    return model.predict(body)


@pytest.mark.parametrize("other", [TOKENIZE, CONSTANT])
def test_a_tokenizer_is_given_the_text(model: Model, other: dict[str, Any]) -> None:
    answer = asked(model, TOKENIZE, other, b"b a c")
    assert answer["same"].ravel().tolist() == [2, 1, 0, 0]
    with pytest.raises(InputError, match="not UTF-8"):
        asked(model, TOKENIZE, other, b"\xff")


def test_a_model_of_constants_alone_is_given_no_text(model: Model) -> None:
    with pytest.raises(InputError, match="0 inputs"):
        asked(model, CONSTANT, CONSTANT, b"\xff")
