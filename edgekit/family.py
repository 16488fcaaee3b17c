"""A family of models: one architecture in its sizes, with data, metric and training of its own tiny weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.registry import FAMILIES

if TYPE_CHECKING:
    from edgekit.network import Network
    from edgekit.processing import Processing
    from edgekit.samples import Samples
    from edgekit.spec import Signature

__all__ = [
    *("Batch", "Feeds", "Run", "TrainingStep"),
    *("Family", "Hub", "Paper", "Size", "Training"),
    *("find_size", "split_name"),
]

Batch: TypeAlias = dict[str, Any]
"""Arrays, or in a loss PyTorch tensors, by name; samples along the first axis."""

TrainingStep: TypeAlias = Callable[[Batch, Batch], dict[str, float]]
"""One update from feeds and targets; gives what is to be shown, by name."""

Feeds: TypeAlias = Mapping[str, np.ndarray]
Run: TypeAlias = Callable[[Feeds], Mapping[str, np.ndarray]]
"""Any engine: from feeds by input name to outputs by name."""


@dataclass(frozen=True)
class Paper:
    """What the paper, or the code published with it, says of a size.

    Attributes:
        source: Who says it, with where to look.
        parameters: Trained numbers; None where nothing is said.
        macs: Multiply-accumulates for one sample; None where nothing is said.
        tolerance: Relative: how exactly the figures are given, such as 0.005 for "25.6 M".
        sizes: Values of symbolic sizes the figure of `macs` is for.
    """

    source: str
    parameters: int | None = None
    macs: int | None = None
    tolerance: float = 0.01
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """One size of an architecture.

    Attributes:
        settings: What the family's `build` is called with.
        processing: Where this size needs another than the family's.
        paper: What is published of it; None for what is only ours.
    """

    settings: Mapping[str, Any]
    processing: Processing | None = None
    paper: Paper | None = None


@dataclass(frozen=True)
class Hub:
    """Where published weights of a size come from, and how they are named there.

    Attributes:
        kind: ``"torchvision"``, ``"huggingface"`` or ``"keras"``.
        name: The model's name there, such as ``"resnet50"`` or ``"owner/model"``.
        size: The size they are for.
        adapt: From the hub's weights by name (arrays; of Keras, each layer's weights in its own order) to ours.
        license: SPDX identifier, as the hub states it.
    """

    kind: str
    name: str
    size: str
    license: str
    adapt: Callable[[Mapping[str, Any]], dict[str, np.ndarray]] | None = None


@dataclass(frozen=True)
class Training:
    """How the tiny weights came to be, and how one's own are made.

    Attributes:
        loss: From the module's outputs and the targets, both PyTorch tensors by name, to what is to become small.
        targets: From `Sample.truth` and the labels to arrays by name; None for nets that answer their own input.
        epochs: Passes over the training data.
        batch_size: Samples in an update.
        learning_rate: At its highest; it rises over the first twentieth and falls as a cosine to zero.
        weight_decay: Of AdamW; weights of one axis (biases, gains) are spared.
        augment: From feeds, targets and a generator to the same, changed; arrays with samples along the first axis.
        feeds: As the family's, where training starts from others than calibration: what `augment` is to put noise on.
        make_step: From the module, the family and the seed to one's own update where one loss is not enough (a GAN).
    """

    loss: Callable[[Batch, Batch], Any]
    targets: Callable[[Mapping[str, Any], tuple[str, ...]], dict[str, np.ndarray]] | None
    epochs: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    augment: Callable[[Batch, Batch, np.random.Generator], tuple[Batch, Batch]] | None = None
    feeds: Callable[[Samples, Signature], Iterator[Feeds]] | None = None
    make_step: Callable[[Any, Family, int], TrainingStep] | None = None


@dataclass(frozen=True)
class Family:
    """One architecture of the field.

    Attributes:
        name: As in the registry; ``name:size`` names a model.
        title: A line for people.
        task: What it answers, such as ``"image classification"``.
        paper: Where the architecture is from.
        frameworks: Forms it has, of ``"keras"``, ``"torch"``, ``"onnx"``.
        build: From the settings of a size to its network.
        sizes: By name; ``"tiny"`` has weights of ours, `published` is the paper's.
        published: Name of the size the paper is known for.
        processing: From real-world inputs to an answer, for the tiny size; labels are in it.
        data: Name of the data set it is trained and judged on.
        metric: Name of the metric, of `edgekit.metrics`.
        score: What the tiny weights reach on the test data; checked from the weights that ship.
        tolerance: How far a score trained again, with the same seed, may be from `score`.
        training: How.
        hubs: Published weights that can be fetched.
        feeds: From samples, and the signature they are for, to feeds for each of them where processing alone does not
            make them (a sampler's noise, a decoder's cache), for calibration and training; None where it does.
        judge: From what runs the model, the test samples and the signature to the metric, where it is more than answers
            held against truths (a perplexity, a sampler's pictures); None where `metric` is enough.
        notes: What else a user should know.
    """

    name: str
    title: str
    task: str
    paper: str
    frameworks: tuple[str, ...]
    build: Callable[..., Network]
    sizes: Mapping[str, Size]
    published: str
    processing: Processing
    data: str
    metric: str
    score: float
    tolerance: float
    training: Training
    feeds: Callable[[Samples, Signature], Iterator[Feeds]] | None = None
    judge: Callable[[Run, Samples, Signature], float] | None = None
    hubs: tuple[Hub, ...] = ()
    notes: tuple[str, ...] = ()
    license: str = "Apache-2.0"

    def size(self, name: str) -> Size:
        """Raises UnsupportedError for a size there is not."""
        if name not in self.sizes:
            raise UnsupportedError(f"{self.name} has no size {name!r}", hint=f"known: {', '.join(self.sizes)}")
        return self.sizes[name]

    def network(self, size: str = "tiny", **changes: Any) -> Network:
        """The architecture in one size; `changes` to its settings, such as another number of classes."""
        settings = {**self.size(size).settings, **changes}
        return self.build(f"{self.name.replace('-', '_')}_{size}".replace(".", "_"), **settings)

    @property
    def takes_classes(self) -> bool:
        """Whether its networks can be built for other classes than their own."""
        return "classes" in inspect.signature(self.build).parameters

    def processing_of(self, size: str) -> Processing:
        return self.size(size).processing or self.processing

    @property
    def tiny_weights(self) -> Path:
        """Where the weights that ship with edgekit are."""
        return Path(__file__).parent / "models" / "weights" / f"{self.name}-tiny.safetensors"


def split_name(text: str) -> tuple[str, str] | None:
    """``"resnet:tiny"`` as family and size, ``"resnet"`` as its tiny size; None for what names no family."""
    name, _, size = text.partition(":")
    return (name, size or "tiny") if name in FAMILIES.names() else None


def is_model_name(text: str) -> bool:
    """Whether `text` names a model of ours, and not a file or folder that is there."""
    return split_name(text) is not None and not Path(text).exists()


def find_size(text: str) -> tuple[Family, str]:
    """The family and size that `text` names. Raises UnsupportedError."""
    name, _, size = text.partition(":")
    family: Family = FAMILIES.get(name)
    family.size(size or "tiny")
    return family, size or "tiny"
