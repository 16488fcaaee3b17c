"""One training: the family in one size, fitted to one data set, and all that decides what weights come out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.datasets import Dataset
from edgekit.errors import InputError
from edgekit.family import Family, Run
from edgekit.making.origins import Weights, start_from, weights_sha256
from edgekit.network import Network
from edgekit.network.torch_form import to_torch
from edgekit.processing import Processing
from edgekit.registry import installed
from edgekit.samples import Samples
from edgekit.scoring import make_scorer
from edgekit.spec import Signature
from edgekit.training.checkpoint import Checkpoint
from edgekit.training.loop import Epoch, Loop
from edgekit.training.material import Material, held_out, stack, trained_on
from edgekit.training.step import mean_loss, run_of

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """What is to be learnt by what.

    Attributes:
        threads: Of PyTorch.
    """

    family: Family
    size: str
    dataset: Dataset
    seed: int
    epochs: int
    threads: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The data's classes where there are any and the network can be built for them; else the family's."""
        if self.family.takes_classes and self.dataset.labels:
            return tuple(self.dataset.labels)
        return self.family.processing_of(self.size).labels

    @cached_property
    def processing(self) -> Processing:
        return replace(self.family.processing_of(self.size), labels=self.labels)

    @cached_property
    def network(self) -> Network:
        """With a class for each label."""
        own = self.family.processing_of(self.size).labels
        if len(self.labels) == len(own):
            return self.family.network(self.size)
        return self.family.network(self.size, classes=len(self.labels))

    @cached_property
    def signature(self) -> Signature:
        return self.network.signature()

    @cached_property
    def data_sha256(self) -> str:
        return hashlib.sha256(f"{self.train.sha256} {self.test.sha256}".encode()).hexdigest()

    @cached_property
    def train(self) -> Samples:
        return self.dataset.samples("train")

    @cached_property
    def test(self) -> Samples:
        return self.dataset.samples("test")

    def start(self, asked: str | Path | None) -> Weights:
        return start_from(self.family, self.size, self.network, asked, self.seed)

    def settings(self, start: Weights) -> dict[str, Any]:
        """All that decides the weights, for a run that is to go on as another began."""
        recipe = self.family.training
        return {
            "model": f"{self.family.name}:{self.size}",
            "data": self.dataset.name,
            "data_sha256": self.data_sha256,
            "start_sha256": weights_sha256(start.arrays),
            "labels": list(self.labels),
            "seed": self.seed,
            "epochs": self.epochs,
            "threads": self.threads,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "versions": installed("torch", "numpy"),
        }

    def loop(
        self,
        start: Weights,
        checkpoint: Checkpoint,
        say: Callable[[str], None],
        progress: Callable[[int, int, str], None],
    ) -> Loop:
        """Everything gathered, ready to run."""
        say(f"preparing {len(self.train)} samples of {self.dataset.name}")
        module = to_torch(self.network, start.arrays)
        return Loop(
            family=self.family,
            module=module,
            material=self._stacked(trained_on(self.train)),
            scorer=self._scorer(module, say),
            checkpoint=checkpoint,
            num_epochs=self.epochs,
            seed=self.seed,
            describe=self.describe,
            say=say,
            progress=progress,
        )

    def _stacked(self, samples: Samples) -> Material:
        return stack(self.family, samples, self.signature, self.processing, self.labels)

    def _scorer(self, module: Any, say: Callable[[str], None]) -> Callable[[Run], dict[str, float]]:
        """What an epoch is judged by: the metric of the samples held out, or their loss where they have no metric."""
        samples, name = held_out(self.train), self.family.metric
        score = make_scorer(self.family, samples, self.signature, self.processing)
        if self.family.judge is None:
            try:
                score(run_of(module))
            except InputError as error:  # an anomaly detector learns from what is normal alone
                say(f"no {name} of the training samples held out, their loss instead: {error.message}")
                material, loss = self._stacked(samples), self.family.training.loss
                return lambda run: {"loss held out": mean_loss(loss, run, material)}
        return lambda run: {name: score(run)}

    def describe(self, epoch: Epoch) -> str:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in {**epoch.losses, **epoch.held_out}.items())
        return f"epoch {epoch.number}/{self.epochs}  {figures}  {epoch.seconds_s:.1f} s"

    def facts(self, start: Weights, score: float) -> Mapping[str, Any]:
        """What is to be known of the weights that came out."""
        return {
            "edgekit": __version__,
            "family": self.family.name,
            "size": self.size,
            "seed": self.seed,
            "data": self.dataset.name,
            "data_sha256": self.data_sha256,
            "metric": self.family.metric,
            "score": score,
            "epochs": self.epochs,
            "threads": self.threads,
            "start": start.origin,
            "labels": list(self.labels),
        }
