"""``edgekit models`` and ``edgekit list models``: answers, forms, refusals, and an interrupted training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.about import read_about
from edgekit.registry import FAMILIES
from edgekit.weights import read_metadata
from tests.cli.conftest import Typed
from tests.unit import toy_family

Type = Callable[..., Typed]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy family, under its name, for this process."""
    monkeypatch.setitem(FAMILIES._loaded, "toy", toy_family.family())
    monkeypatch.setattr(FAMILIES, "places", lambda: {**FAMILIES._builtin, "toy": "tests.unit.toy_family:family"})


def test_families_are_listed_first_with_what_people_choose_by(typed: Type) -> None:
    code, out, _ = typed("list", "models", "--json")
    models = json.loads(out)["models"]
    assert code == 0
    kinds = [model["kind"] for model in models]
    assert kinds == sorted(kinds)
    assert {model["name"] for model in models if model["kind"] == "family"} == set(FAMILIES.names())
    for model in models:
        if model["kind"] == "family":
            assert "tiny" in model["sizes"]
            assert model["published"] in model["sizes"]
            assert all(model[key] for key in ("metric", "license", "frameworks"))
    shown = typed("list", "models")[1]
    assert "keras, torch, onnx" in shown or "torch, keras, onnx" in shown
    assert "efficientnet-lite0" in shown


def test_make_writes_what_the_suffix_says(typed: Type, tmp_path: Path) -> None:
    place = tmp_path / "f.onnx"
    code, out, err = typed("models", "make", "feed-forward", "-o", place)
    assert code == 0
    assert "ONNX file" in out
    assert "untrained" not in err
    about = read_about(place)
    assert about is not None
    assert about["model"] == "feed-forward:tiny"
    assert typed("models", "make", "feed-forward", "-o", place)[0] == 3
    assert typed("models", "make", "feed-forward", "-o", place, "--force")[0] == 0


def test_untrained_weights_are_announced(typed: Type, tmp_path: Path) -> None:
    code, out, err = typed("models", "make", "feed-forward:s", "-o", tmp_path / "f.safetensors", "--json")
    assert code == 0
    assert "note: untrained: starting weights of seed 0" in err
    assert json.loads(out)["weights"]["is_trained"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("make", "resnets", "-o", "m.onnx"), 4, "no model family named 'resnets'"),
        (("make", "feed-forward:huge", "-o", "m.onnx"), 4, "feed-forward has no size 'huge'"),
        (("make", "feed-forward", "-o", "m.tflite"), 4, "cannot write a model as m.tflite"),
        (("make", "feed-forward", "-o", "m.onnx", "--weights", "none.pth"), 3, "none.pth does not exist"),
        (("make", "feed-forward", "-o", "m.onnx", "--weights", "keras"), 4, "knows no weights of size tiny at keras"),
        (("train", "feed-forward", "-o", "m.onnx", "--data", "nowhere"), 3, "no data set 'nowhere'"),
        (("data", "nothing", "-o", "folder"), 4, "no data set named 'nothing'"),
        (("make", "feed-forward"), 2, "--output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_with_a_hint(
    typed: Type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    got, out, err = typed("models", *arguments)
    assert (got, out) == (code, "")
    assert said in err
    assert code == 2 or "hint: " in err
    assert not list(tmp_path.iterdir())


def test_train_on_ones_own_data(typed: Type, tmp_path: Path, toy: None) -> None:
    pytest.importorskip("torch")
    table = toy_family.write_table(tmp_path / "table", ("cold", "hot"))
    place = tmp_path / "mine.safetensors"
    words: tuple[Any, ...] = ("models", "train", "toy", "--data", table / "dataset.yaml", "--epochs", 2, "-o", place)
    code, out, err = typed(*words, "--threads", 1, "--json")
    found = json.loads(out)
    assert code == 0
    assert [epoch["number"] for epoch in found["epochs"]] == [1, 2]
    assert err.count("epoch ") == 2
    assert found["labels"] == ["cold", "hot"]
    assert json.loads(read_metadata(place)["labels"]) == ["cold", "hot"]


def test_an_interrupted_training_says_how_to_go_on(
    typed: Type, tmp_path: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from edgekit.training.loop import Loop

    table = toy_family.write_table(tmp_path / "table")
    place = tmp_path / "mine.onnx"
    words: tuple[Any, ...] = ("models", "train", "toy", "--data", table, "--threads", 1, "-o", place)
    whole = Loop._train_once

    def interrupted(loop: Loop) -> dict[str, float]:
        if len(loop.epochs) == 2:
            raise KeyboardInterrupt
        return whole(loop)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_train_once", interrupted)
        code, out, err = typed(*words)
    assert (code, out) == (130, "")
    assert "stopped after epoch 2 of 4; the same command with --resume goes on" in err
    assert not place.exists()
    code, out, err = typed(*words, "--resume")
    assert code == 0
    assert "going on after epoch 2 of 4" in err
    assert "top1 held out" in out
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["mine.onnx", "table"]


def test_data_writes_a_folder_that_trains(typed: Type, tmp_path: Path) -> None:
    code, out, _ = typed("models", "data", "feed-forward", "-o", tmp_path / "bc")
    assert code == 0
    assert "train" in out
    assert (tmp_path / "bc" / "dataset.yaml").is_file()
    assert typed("models", "data", "breast-cancer", "-o", tmp_path / "bc")[0] == 3
