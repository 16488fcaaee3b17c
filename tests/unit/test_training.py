"""Training: reproducible, resumable bit for bit, honest about what it learnt from and what it started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.family import Family
from edgekit.registry import FAMILIES
from edgekit.training import TrainingReport
from edgekit.training import train as train_with_threads
from edgekit.training.material import held_out, trained_on
from edgekit.training.step import learning_rate_at
from edgekit.training.task import Task
from edgekit.weights import read_metadata, read_weights
from tests import assets
from tests.unit import toy_family

pytest.importorskip("torch")


def train(*args: Any, **settings: Any) -> TrainingReport:
    """In one thread: two that wait for each other take minutes where the tests share the cores with others."""
    return train_with_threads(*args, **{"threads": 1, **settings})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family.write_table(tmp_path_factory.mktemp("data") / "table")


@pytest.fixture
def toy() -> Family:
    return toy_family.family(augment=toy_family.jitter)


def stop_after(epochs: int) -> Any:
    """A `say` that interrupts the run when that epoch's line comes."""

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith(f"epoch {epochs}/"):
            raise KeyboardInterrupt

    lines: list[str] = []
    say.lines = lines  # type: ignore[attr-defined]
    return say


def same(first: Path, second: Path) -> bool:
    one, other = read_weights(first), read_weights(second)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_it_learns_and_says_what_it_did(toy: Family, table: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    report = train(toy, data=table, output=tmp_path / "t.safetensors", say=lines.append)
    assert report.score > 0.9
    assert report.model == "toy:tiny"
    assert [epoch.number for epoch in report.epochs] == [1, 2, 3, 4]
    assert report.epochs[-1].losses["loss"] < report.epochs[0].losses["loss"]
    assert sum(line.startswith("epoch ") for line in lines) == 4
    assert not (tmp_path / "t.safetensors.training").exists()
    said = read_metadata(tmp_path / "t.safetensors")
    assert (said["family"], said["metric"], said["seed"], said["data"]) == ("toy", "top1", "0", "table")
    assert float(said["score"]) == report.score
    assert said["data_sha256"] == report.data_sha256


def test_a_metric_that_training_data_cannot_have_gives_way_to_the_loss(tmp_path: Path) -> None:
    from dataclasses import replace

    normal = replace(toy_family.family(), metric="auc")
    table = toy_family.write_table(tmp_path / "one", ("normal", "odd"), seen=1)
    lines: list[str] = []
    with pytest.raises(InputError):  # of the test data at the end: there it has nothing to give way to
        train(normal, data=table, output=tmp_path / "t.safetensors", epochs=1, say=lines.append)
    assert any("their loss instead" in line for line in lines)
    assert any("loss held out" in line for line in lines)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(toy: Family, table: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(toy, data=table, output=tmp_path / f"{name}.safetensors", seed=seed, epochs=2)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert not same(tmp_path / "a.safetensors", tmp_path / "c.safetensors")


def test_two_epochs_and_two_more_are_four(toy: Family, table: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    train(toy, data=table, output=whole)
    say = stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        train(toy, data=table, output=parts, say=say)
    assert "--resume" in say.lines[-1]
    assert not parts.exists()
    report = train(toy, data=table, output=parts, resume=True)
    assert [epoch.number for epoch in report.epochs] == [1, 2, 3, 4]
    assert same(whole, parts)


def test_what_was_begun_otherwise_is_not_resumed(toy: Family, table: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(toy, data=table, output=output, say=stop_after(1))
    with pytest.raises(InputError, match="threads was 1, is 2"):
        train(toy, data=table, output=output, threads=2, resume=True)
    with pytest.raises(InputError, match="seed was 0, is 7"):
        train(toy, data=table, output=output, seed=7, resume=True)
    other = toy_family.write_table(tmp_path / "other", rows=150)
    with pytest.raises(InputError, match="data_sha256 was"):
        train(toy, data=other, output=output, resume=True)
    with pytest.raises(InputError, match="unfinished run"):
        train(toy, data=table, output=output)
    train(toy, data=table, output=output, force=True, epochs=1)
    assert output.exists()


def test_a_damaged_checkpoint_is_named(toy: Family, table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t.safetensors.training"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ArtifactError, match="damaged"):
        train(toy, data=table, output=tmp_path / "t.safetensors", resume=True)


def test_layers_for_other_classes_start_anew(toy: Family, table: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    train(toy, data=table, output=first, epochs=1)
    five = toy_family.write_table(tmp_path / "five", ("a", "b", "c", "d", "e"))
    report = train(toy, data=five, init=first, output=tmp_path / "five.safetensors", epochs=1)
    assert report.anew == ("fc2.weight", "fc2.bias")
    assert report.labels == ("a", "b", "c", "d", "e")
    assert read_weights(tmp_path / "five.safetensors")["fc2.bias"].shape == (5,)


def test_weights_of_another_net_are_refused(toy: Family, table: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.safetensors"
    train(toy, "wide", data=table, output=wide, epochs=1)
    with pytest.raises(ArtifactError, match="nothing of") as refused:
        train(_renamed(toy), data=table, init=wide, output=tmp_path / "t.safetensors")
    assert refused.value.hint


def _renamed(family: Family) -> Family:
    from dataclasses import replace

    from edgekit.network import Network

    def build(name: str, *, classes: int, hidden: int) -> Network:
        net = Network(name)
        net.output(net.dense(net.input("x", ("batch", 4)), "only", classes), "probabilities")
        return net

    return replace(family, build=build)


def test_a_loss_that_is_no_number_ends_it(table: Path, tmp_path: Path) -> None:
    def loss(outputs: Any, targets: Any) -> Any:
        return toy_family.loss(outputs, targets) * float("nan")

    with pytest.raises(InputError, match="loss became nan in epoch 1"):
        train(toy_family.family(loss=loss), data=table, output=tmp_path / "t.safetensors")
    assert not (tmp_path / "t.safetensors").exists()


def test_data_without_the_truth_that_is_learnt_are_refused(table: Path, tmp_path: Path) -> None:
    def boxes(truth: Any, labels: Any) -> Any:
        return {"boxes": np.asarray(truth["boxes"])}

    with pytest.raises(InputError, match=r"cannot be learnt from: it has \['label'\]"):
        train(toy_family.family(targets=boxes), data=table, output=tmp_path / "t.safetensors")


def test_data_of_another_shape_are_refused_by_name(toy: Family, tmp_path: Path) -> None:
    wide = toy_family.write_table(tmp_path / "wide", width=5)
    with pytest.raises(InputError, match=r"train\.npz, sample 0"):
        train(toy, data=wide, output=tmp_path / "t.safetensors")


def test_too_much_for_the_memory_is_refused(
    toy: Family, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.training.material.MAX_BYTES", 1000)
    with pytest.raises(InputError, match="larger than"):
        train(toy, data=table, output=tmp_path / "t.safetensors")


def test_the_output_is_checked_before_anything_else(toy: Family, table: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="cannot write a model as"):
        train(toy, data=table, output=tmp_path / "t.tflite")
    (tmp_path / "there.onnx").touch()
    with pytest.raises(InputError, match="exists already"):
        train(toy, data=table, output=tmp_path / "there.onnx")


def test_every_tenth_training_sample_is_held_out(table: Path) -> None:
    from edgekit.datasets import open_dataset

    samples = open_dataset(table).samples("train")
    judged, learnt = held_out(samples), trained_on(samples)
    assert [sample.name for sample in judged][:2] == ["9", "19"]
    assert (len(judged), len(learnt)) == (20, 180)
    assert not {sample.name for sample in judged} & {sample.name for sample in learnt}


def test_a_step_of_ones_own_is_resumed_by_its_own_state(table: Path, tmp_path: Path) -> None:
    shares: list[float] = []

    class Step:
        def __init__(self, module: Any) -> None:
            import torch

            self.module = module
            self.optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)

        def at(self, share: float) -> None:
            shares.append(share)

        def __call__(self, feeds: Any, targets: Any) -> dict[str, float]:
            self.optimizer.zero_grad()
            found = toy_family.loss({"probabilities": self.module(feeds["x"])}, targets)
            found.backward()
            self.optimizer.step()
            return {"mine": float(found.detach())}

        def state_dict(self) -> Any:
            return self.optimizer.state_dict()

        def load_state_dict(self, state: Any) -> None:
            self.optimizer.load_state_dict(state)

    own = toy_family.family(make_step=lambda module, family, seed: Step(module))
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    report = train(own, data=table, output=whole)
    assert "mine" in report.epochs[0].losses
    assert shares[0] == 0
    assert shares == sorted(shares)
    with pytest.raises(KeyboardInterrupt):
        train(own, data=table, output=parts, say=stop_after(2))
    train(own, data=table, output=parts, resume=True)
    assert same(whole, parts)


@pytest.mark.parametrize(("share", "rate"), [(0.0, 0.01), (0.05, 1.0), (0.525, 0.5), (1.0, 0.0)])
def test_the_learning_rate_rises_and_falls(share: float, rate: float) -> None:
    assert learning_rate_at(share, 1.0) == pytest.approx(rate, abs=1e-9)


def test_a_size_whose_classes_have_no_names_learns_those_of_the_data() -> None:
    task = Task(FAMILIES.get("resnet"), "18", assets.dataset("mnist"), seed=0, epochs=1, threads=1)
    assert task.labels == tuple("0123456789")
    assert task.network.outputs["logits"].shape == ("batch", 10)
    assert task.processing.labels == task.labels
