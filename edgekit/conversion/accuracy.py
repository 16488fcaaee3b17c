"""How good a written file is at its task, beside its source: the family's metric on samples nobody trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.conversion.acceptance import Accepted
from edgekit.converter import SourceModel
from edgekit.datasets import Dataset
from edgekit.family import Run
from edgekit.making import Model
from edgekit.processing import Processing
from edgekit.registry import METRICS, RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.samples import Samples
from edgekit.scoring import score
from edgekit.spec import Signature, TensorSpec
from edgekit.worker import Worker

__all__ = ["MAX_LOSS", "MAX_SAMPLES", "Accuracy", "Judge", "as_written", "running"]

MAX_SAMPLES = 300
"""Test samples a conversion is judged by: `evaluate` takes all."""

MAX_LOSS = 0.02
"""What an int8 file may lose of a metric that is a share of 1, unless the user allows more."""


@dataclass(frozen=True)
class Accuracy:
    """A metric of a file and of its source on the same samples.

    Attributes:
        metric: Its name.
        value: Of the file.
        source_value: Of the source.
        count: Samples.
        data: Name of the data set they are the test part of.
        is_higher_better: Whether more is better.
        allowed: What may be lost of it, as a share.
    """

    metric: str
    value: float
    source_value: float
    count: int
    data: str
    is_higher_better: bool
    allowed: float = MAX_LOSS

    @property
    def is_share(self) -> bool:
        """Whether it is a share of 1, where more is better, so that a loss means the same for all."""
        return self.is_higher_better and 0.0 <= self.source_value <= 1.0

    @property
    def complaint(self) -> str:
        """Why an int8 file of this accuracy is not shipped; empty where it is."""
        if not self.is_share or self.source_value - self.value <= self.allowed + 1e-9:
            return ""
        return (
            f"{self.metric} falls from {self.source_value:.4f} to {self.value:.4f} on {self.count} test samples of "
            f"{self.data}; {self.allowed:g} less is allowed"
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "split": "test"}


@dataclass
class Judge:
    """Test data, and what the source itself reaches on them.

    Attributes:
        allowed: What an int8 file may lose, as a share. It is `MAX_LOSS`, or more where the user allows more; to less
            a search has held the file already, by all of the data and not by `MAX_SAMPLES` of them.
    """

    model: Model
    dataset: Dataset
    processing: Processing
    source: SourceModel
    allowed: float = MAX_LOSS

    @cached_property
    def samples(self) -> Samples:
        return self.dataset.samples("test", limit=MAX_SAMPLES)

    @cached_property
    def source_value(self) -> float:
        return self._score(self.source.run, self.source.signature)

    def judge(self, file: Path, accepted: Accepted) -> Accuracy:
        """What the file reaches in the runtime it was accepted in, run in a child.

        Raises:
            ConversionError: The child died.
            InputError: The file's answers cannot be judged.
        """
        with running(file, accepted) as run:
            value = self._score(run, as_written(self.source.signature, accepted))
        metric = METRICS.get(self.model.family.metric)
        found = value, self.source_value, len(self.samples), self.dataset.name
        return Accuracy(metric.name, *found, metric.is_higher_better, allowed=self.allowed)

    def _score(self, run: Run, signature: Signature) -> float:
        return score(self.model.family, run, self.samples, signature, processing=self.processing)


def as_written(signature: Signature, accepted: Accepted) -> Signature:
    """The source's signature with the sizes the file fixes, such as a batch of 1."""
    own = {spec.name: spec.shape for spec in accepted.trial.signature.inputs}
    outputs = {spec.name: spec.shape for spec in accepted.trial.signature.outputs}

    def narrow(spec: TensorSpec, shapes: Mapping[str, Any], names: Mapping[str, str]) -> TensorSpec:
        shape = shapes.get(names[spec.name], spec.shape)
        return replace(spec, shape=shape) if len(shape) == len(spec.shape) else spec

    return Signature(
        tuple(narrow(spec, own, accepted.trial.input_names) for spec in signature.inputs),
        tuple(narrow(spec, outputs, accepted.output_names) for spec in signature.outputs),
        signature.state,
    )


@contextmanager
def running(file: Path, accepted: Accepted) -> Iterator[Run]:
    """A function from the source's feeds to the source's outputs that asks the file, opened in a child."""
    inputs, outputs = accepted.trial.input_names, accepted.output_names
    with TemporaryDirectory(prefix="edgekit-") as folder, Worker(f"judging {file.name}") as worker:
        asked, answered = Path(folder, "feeds.npz"), Path(folder, "outputs.npz")
        worker.call("edgekit.conversion.accuracy:open_file", path=str(file), runtime=accepted.runtime)

        def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            np.savez(asked, **{inputs[name]: array for name, array in feeds.items()})  # type: ignore[arg-type]
            worker.call("edgekit.conversion.accuracy:answer", feeds=str(asked), outputs=str(answered))
            with np.load(answered) as arrays:
                return {ours: arrays[theirs] for ours, theirs in outputs.items()}

        yield run


_OPEN: list[Session] = []


def open_file(path: str, runtime: str) -> None:
    """Runs in the child: opens the file it is to answer for."""
    _OPEN.append(Session(RUNTIMES.get(runtime).open(Path(path), EngineOptions(threads=1)), runtime=runtime))


def answer(feeds: str, outputs: str) -> None:
    """Runs in the child: answers arrays by the file's input names with arrays by its output names."""
    with np.load(feeds) as given:
        found = _OPEN[0].run({name: given[name] for name in given.files})
    np.savez(outputs, **found)  # type: ignore[arg-type]
