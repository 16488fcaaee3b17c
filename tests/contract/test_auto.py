"""`auto` on real trained nets: files made, run and judged until one keeps what it must."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.card import find_card
from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.goal import AGREEMENT, Goal, parse_drop
from edgekit.conversion.preparing import Preparation
from edgekit.conversion.reference import Reference, make_reference
from edgekit.conversion.searching import Budget, Found
from edgekit.conversion.trials import Journal, Outcome
from edgekit.conversion.tuning import Bench, Tuner, default_bar
from edgekit.converter import SourceModel, Written
from edgekit.datasets import Dataset
from edgekit.errors import InputError
from edgekit.evaluation import evaluate
from edgekit.family import find_size
from edgekit.making import find_model, write_model
from edgekit.processing import Processing
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS
from edgekit.samples import Samples, read_samples
from edgekit.target import Target
from tests.assets import dataset

TARGET = Target.named("generic-x86")


@dataclass
class Net:
    """A source with its data, as a conversion has them."""

    source: SourceModel
    data: CalibrationData
    reference: Reference
    preparation: Preparation

    @classmethod
    def read(cls, path: Path, kind: str, stage: Path, samples: Samples, processing: Processing | None = None) -> Net:
        source = CONVERTERS.get(kind).read(path, stage)
        data = CalibrationData.gather(source.signature, find_card(path), processing, samples)
        reference = make_reference(source, data.held_out, data.description, 0)
        return cls(source, data, reference, Preparation(source.exports["hub"], data.calibration, lambda line: None))

    def make(self, format: str) -> Callable[[Recipe, Path], Written]:
        writer = next(converter for _, converter in CONVERTERS if converter.format == format)

        def write(recipe: Recipe, folder: Path) -> Written:
            graph, plan = self.preparation.finished(recipe, TARGET.placements[format])
            written: Written = writer.write(
                graph, folder / f"model{writer.suffix}", precision=recipe.precision, plan=plan
            )
            return written

        return write

    def search(self, format: str, goal: Goal, folder: Path, **options: object) -> tuple[Found, list[Recipe]]:
        """What was found, and the recipes for which a file was made."""
        bench = Bench(format, self.make(format), self.source, self.reference, goal.bar, folder, goal)
        made: list[Recipe] = []
        measure = bench.measure

        def counted(recipe: Recipe) -> Outcome:
            made.append(recipe)
            return measure(recipe)

        bench.measure = counted  # type: ignore[method-assign]
        placements = {format: TARGET.placements[format] for format in TARGET.formats}
        tuner = Tuner(self.preparation, placements, self.data.held_out, Budget(max_trials=40))
        return tuner.find(bench, journal=Journal(folder / "trials.jsonl", format), **options), made  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def emotion(emotion_model: Path, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    net = Net.read(emotion_model, "keras", tmp_path_factory.mktemp("emotion"), read_samples(faces))
    yield net
    net.source.close()


def test_integers_agree_with_the_source_on_99_percent_of_the_faces(emotion: Net, faces: Path, tmp_path: Path) -> None:
    """Every activation in integers flips 3 to 7 of 101; the search leaves out what costs most."""
    goal = Goal(faces, emotion.source, emotion.data.processing, parse_drop("1"), AGREEMENT)
    found, made = emotion.search("onnx", goal, tmp_path)
    assert found.recipe is not None, found.in_the_way
    assert found.recipe.precision == "w8a8"
    outcome = next(trial.outcome for trial in found.trials if trial.recipe == found.recipe)
    assert outcome.agreement is not None
    assert outcome.agreement >= 0.99
    assert outcome.int8_macs_share is not None
    assert outcome.int8_macs_share >= 0.5, "as the engine counts it"
    assert len(made) <= 40
    assert goal.source_accuracy.value == 1.0
    assert found.estimate is not None
    assert found.estimate.known == 0
    again, remade = emotion.search("onnx", goal, tmp_path)
    assert not remade, "every trial is in the journal"
    assert again == found


def test_a_goal_nobody_reaches_says_what_is_in_the_way(emotion: Net, faces: Path, tmp_path: Path) -> None:
    goal = Goal(faces, emotion.source, emotion.data.processing, 0.0, AGREEMENT, limit=5)
    bench = Bench("onnx", emotion.make("onnx"), emotion.source, emotion.reference, default_bar([]), tmp_path, goal)
    bench.bar = type(bench.bar)(min_sqnr_db=90.0)
    tuner = Tuner(emotion.preparation, TARGET.placements, emotion.data.held_out, Budget(max_trials=2))
    found = tuner.find(bench)
    assert found.recipe is None
    assert "dB against the source, and 90 dB are wanted" in found.in_the_way[0]
    assert "most sensitive: " in found.in_the_way[1]
    assert "of the noise is of weights" in found.in_the_way[2]
    assert "ended after 2 trials" in found.in_the_way[3]


@pytest.fixture(scope="module")
def photos() -> Dataset:
    return dataset("mnist-photo")


@pytest.fixture(scope="module")
def efficientnet(photos: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    folder = tmp_path_factory.mktemp("efficientnet")
    model = find_model(*find_size("efficientnet-lite:tiny"))
    write_model(model, folder / "net.onnx")
    samples = photos.samples("calibration", limit=40)
    net = Net.read(folder / "net.onnx", "onnx", folder / "stage", samples, model.processing)
    yield net
    net.source.close()


def test_a_net_that_bears_integers_is_found_at_once(efficientnet: Net, tmp_path: Path) -> None:
    goal = Goal("mnist-photo", efficientnet.source, efficientnet.data.processing, parse_drop("1%"), "top1", limit=100)
    found, made = efficientnet.search("onnx", goal, tmp_path)
    assert found.recipe is not None
    assert len(made) == 1
    (trial,) = found.trials
    assert trial.outcome.value is not None
    assert trial.outcome.value >= goal.source_accuracy.value - 0.01
    assert trial.outcome.int8_macs_share is not None
    assert trial.outcome.int8_macs_share > 0.9
    assert goal.count == 100


def test_a_goal_is_measured_as_evaluate_measures(efficientnet: Net) -> None:
    net = efficientnet
    goal = Goal("mnist-photo", net.source, net.data.processing, 0.01, "top1", limit=60)

    class Source:
        def predict(self, value: object) -> object:
            return net.data.processing.answer(value, net.source.run, net.source.signature)

    assert goal.source_accuracy.value == evaluate(Source(), "mnist-photo", metric="top1", num_samples=60).value
    assert 0.8 < goal.source_accuracy.value <= 1.0
    assert goal.seconds > 0.0


@pytest.mark.parametrize(("text", "share"), [("0.5", 0.005), ("0.5%", 0.005), (" 2 % ", 0.02), (0.5, 0.005), (0, 0.0)])
def test_a_drop_is_a_percentage(text: str | float, share: float) -> None:
    assert parse_drop(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["half", "-1", "101", "nan"])
def test_what_is_no_percentage_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="percentage"):
        parse_drop(text)
