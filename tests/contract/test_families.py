"""Every family there is: its record is whole, its weights ship and reach the score it states, and its forms agree.

A family is added by a file and a line in the registry; nothing here has to be told of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.family import Family
from edgekit.feeds import save_feeds
from edgekit.making import find_model, write_model
from edgekit.network import count_macs
from edgekit.registry import DATASETS, FAMILIES, METRICS, RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.scoring import questions_of, score
from edgekit.weights import read_metadata
from edgekit.worker import Worker
from tests import assets

NAMES = FAMILIES.names()
KERAS = [name for name in NAMES if "keras" in FAMILIES.get(name).frameworks]
MAX_WEIGHTS_BYTES, MAX_ALL_WEIGHTS_BYTES = 300_000, 3_000_000
SAME = 1e-5
"""Largest difference between forms of one network, relative to its largest answer (and to 1 below that)."""

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def torch_child() -> Iterator[Worker]:
    with Worker("PyTorch forms") as worker:
        yield worker


@pytest.fixture(scope="module")
def keras_child() -> Iterator[Worker]:
    with Worker("Keras forms", env={"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}) as worker:
        yield worker


@pytest.fixture(params=NAMES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES.get(request.param)


def opened(family: Family, folder: Path) -> Session:
    """The tiny model in its ONNX form, in ONNX Runtime."""
    path = write_model(find_model(family), folder / "tiny.onnx").path
    return Session(RUNTIMES.get("onnx").open(path, EngineOptions(threads=1)), runtime="onnx")


def test_the_record_is_whole(family: Family) -> None:
    assert {"tiny", family.published} <= family.sizes.keys()
    assert set(family.frameworks) >= {"torch", "onnx"}
    assert family.data in DATASETS.names()
    assert family.metric in METRICS.names()
    assert family.license
    assert all(hub.size in family.sizes for hub in family.hubs)
    assert not family.title.endswith(".")


def test_published_sizes_are_those_of_the_papers(family: Family) -> None:
    papers = {name: size.paper for name, size in family.sizes.items() if size.paper is not None}
    assert family.published in papers, "what is called published must say where"
    for name, paper in papers.items():
        network = family.network(name)
        assert len(paper.source) > 10
        if paper.parameters is not None:
            assert network.num_params == pytest.approx(paper.parameters, rel=paper.tolerance), name
        if paper.macs is not None:
            assert count_macs(network, paper.sizes) == pytest.approx(paper.macs, rel=paper.tolerance), name


def test_tiny_weights_ship_and_say_how_they_came_to_be(family: Family) -> None:
    assert family.tiny_weights.stat().st_size <= MAX_WEIGHTS_BYTES
    facts = read_metadata(family.tiny_weights)
    assert facts["model"] == f"{family.name}:tiny"
    assert facts["seed"] == "0"
    assert facts["data"] == family.data
    assert facts["metric"] == family.metric
    assert float(facts["score"]) == pytest.approx(family.score, abs=family.tolerance)


def test_all_tiny_weights_together_are_small() -> None:
    shipped = {FAMILIES.get(name).tiny_weights for name in NAMES}
    assert shipped == set(next(iter(shipped)).parent.glob("*.safetensors")), "a file nobody's, or a family without"
    assert sum(path.stat().st_size for path in shipped) <= MAX_ALL_WEIGHTS_BYTES


def test_the_score_is_that_of_the_weights_that_ship(family: Family, tmp_path: Path) -> None:
    """By the ONNX form on all test data, with neither framework."""
    model, session = find_model(family), opened(family, tmp_path)
    samples = assets.dataset(family.data).samples("test")
    reached = score(family, session.run, samples, model.network.signature(), processing=model.processing)
    assert reached == pytest.approx(family.score, abs=2e-3 * max(1.0, abs(family.score)))


def asked(family: Family, folder: Path) -> tuple[Path, Path]:
    """Feeds made of three test samples, and what the ONNX form answers to them."""
    model, session = find_model(family), opened(family, folder)
    samples = assets.dataset(family.data).samples("test", limit=3)
    questions = questions_of(family, samples, model.network.signature(), model.processing)
    feeds = [dict(question.parts[0]) for question in questions]
    save_feeds(folder / "feeds.npz", feeds)
    save_feeds(folder / "answers.npz", [session.run(feed) for feed in feeds])
    return folder / "feeds.npz", folder / "answers.npz"


def test_pytorch_forms_agree_with_onnx(family: Family, torch_child: Worker, tmp_path: Path) -> None:
    feeds, answers = asked(family, tmp_path)
    worst = torch_child.call(
        "tests.contract.family_forms:torch_forms",
        name=family.name,
        feeds=str(feeds),
        answers=str(answers),
        folder=str(tmp_path),
    )
    assert set(worst) == {"module", "pt2", "pt"}
    assert max(worst.values()) <= SAME, worst


@pytest.mark.parametrize("name", KERAS)
def test_keras_forms_agree_with_onnx(name: str, keras_child: Worker, tmp_path: Path) -> None:
    feeds, answers = asked(FAMILIES.get(name), tmp_path)
    worst = keras_child.call(
        "tests.contract.family_forms:keras_forms",
        name=name,
        feeds=str(feeds),
        answers=str(answers),
        folder=str(tmp_path),
    )
    assert set(worst) == {"keras", "saved_model"}
    assert max(worst.values()) <= SAME, worst


LARGE = {"bert", "pix2pix", "resnet", "unet", "yolo"}
"""Families whose published size takes a minute to be made; Keras takes as long for others, and three are tried."""
KERAS_TRIED = {"ds-cnn", "mobilenet-v2", "wavenet"}


def published(name: str, form: str) -> Any:
    is_slow = name in LARGE or (form == "keras" and name not in KERAS_TRIED)
    return pytest.param(name, form, marks=[pytest.mark.slow] * is_slow)


PUBLISHED = [published(name, form) for name in NAMES for form in FAMILIES.get(name).frameworks if form != "onnx"]


@pytest.mark.parametrize(("name", "framework"), PUBLISHED)
def test_the_published_size_predicts(name: str, framework: str, tmp_path: Path) -> None:
    family = FAMILIES.get(name)
    with Worker(f"{name} in {framework}", env={"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}) as worker:
        shapes = worker.call(
            "tests.contract.family_forms:published_forms", name=f"{name}:{family.published}", framework=framework
        )
    promised = family.network(family.published).signature(channels_last=framework == "keras")
    assert list(shapes) == [spec.name for spec in promised.outputs]
    for spec in promised.outputs:
        assert spec.accepts_shape(shapes[spec.name]), spec


def test_numbers_in_the_record_are_plain(family: Family) -> None:
    assert np.isfinite([family.score, family.tolerance]).all()
    assert 0 < family.tolerance < max(1.0, abs(family.score))
