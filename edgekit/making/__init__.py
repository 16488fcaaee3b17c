"""Making a model file of a family: its network, the weights asked for, and the form the file's name says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import __version__
from edgekit.about import SCHEMA, VERSION
from edgekit.errors import UnsupportedError
from edgekit.family import Family, find_size
from edgekit.making.forms import FORMS, Form, check_output, form_of, write_form
from edgekit.making.origins import Weights, find_weights, labels_of
from edgekit.network import Network
from edgekit.processing import Processing

__all__ = [
    "FORMS",
    "Form",
    "MadeModel",
    "Model",
    "about_model",
    "check_output",
    "find_model",
    "form_of",
    "make_file",
    "make_model",
    "named_size",
    "require_form",
    "write_model",
]


@dataclass(frozen=True)
class Model:
    """A family in one size, with weights: all it takes to write it in any form.

    Attributes:
        network: With a class for each label the weights were trained for.
        processing: The size's own, with those labels.
    """

    family: Family
    size: str
    network: Network
    processing: Processing
    weights: Weights

    @property
    def name(self) -> str:
        return f"{self.family.name}:{self.size}"

    @property
    def knows_its_data(self) -> bool:
        """Whether the family's data set is what this model is for, and anybody trained it."""
        own = self.family.processing.labels
        has_own_data = self.family.size(self.size).processing is None and self.processing.labels == own
        return has_own_data and self.weights.is_trained

    def about(self) -> dict[str, Any]:
        """For the file it is written into."""
        return about_model(self.family, self.size, self.processing, self.weights.about)


def find_model(name: str | Family, size: str = "tiny", *, weights: str | Path | None = None, seed: int = 0) -> Model:
    """The model `name` says, ``"resnet"`` or ``"resnet:50"``, with the weights asked for; see `make_model`.

    Weights of ours that were trained on other classes bring these with them.
    """
    family, size = named_size(name, size)
    processing = family.processing_of(size)
    changes: dict[str, int] = {}
    labels = labels_of(weights)
    if labels and family.takes_classes and labels != processing.labels:
        changes = {"classes": len(labels)} if len(labels) != len(processing.labels) else {}
        processing = replace(processing, labels=labels)
    network = family.network(size, **changes)
    return Model(family, size, network, processing, find_weights(family, size, network, weights, seed))


def named_size(family: str | Family, size: str) -> tuple[Family, str]:
    """A family and its size, where the family may be named together with it. Raises UnsupportedError."""
    if isinstance(family, str):
        return find_size(family if ":" in family else f"{family}:{size}")
    family.size(size)
    return family, size


@dataclass(frozen=True)
class MadeModel:
    """A file that was made.

    Attributes:
        model: ``family:size``.
        path: Where it is.
        form: What it is, in words.
        size_bytes: Of the file, or of all files in a folder.
        parameters: Trained numbers in it.
        weights: What is known of its weights: where they are from, their hash, the data and score of our own.
        notes: What the user should know.
    """

    model: str
    path: Path
    form: str
    size_bytes: int
    parameters: int
    weights: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path)}


def make_model(
    family: str | Family,
    size: str = "tiny",
    *,
    output: str | Path,
    weights: str | Path | None = None,
    seed: int = 0,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> MadeModel:
    """Writes a model of `family` as the file its name says: .keras, .h5, .pt2, .pt, .onnx, .safetensors, or a folder.

    Heavy frameworks run in a process of their own. What the model is, and how its inputs are prepared, is written into
    the file; `convert` finds it there.

    Args:
        family: A family or its name, also with a size: ``"resnet:tiny"``.
        size: Of the family, where the name says none.
        output: The file; a folder without suffix, or of suffix .savedmodel, is a SavedModel.
        weights: A file, or a hub: ``"torchvision"``, ``"huggingface"``, ``"keras"``, ``"huggingface:owner/name"``. By
            default those that ship with edgekit for the tiny size, and for others untrained ones.
        seed: Of untrained weights.
        force: Replace what is there.
        say: Called with a line at each step.

    Raises:
        UnsupportedError: There is no such family, size or form, or the family has no such form.
        UnavailableError: The framework is not installed, or the hub cannot be reached.
        ArtifactError: The weights are not the network's; says which.
        InputError: The output exists.
    """
    chosen, size = named_size(family, size)
    form = check_output(Path(output), force=force)
    require_form(chosen, form)
    model = find_model(chosen, size, weights=weights, seed=seed)
    if say is not None:
        say(f"writing {model.name} as {form.name}")
    return write_model(model, Path(output), force=force)


def write_model(model: Model, output: Path, *, force: bool = False) -> MadeModel:
    """Writes it in the form `output` has by its suffix, whole or not at all."""
    arrays, notes = model.weights.arrays, model.weights.notes
    return make_file(model.network, arrays, output, form_of(output), model.about(), force=force, notes=notes)


def require_form(family: Family, form: Form) -> None:
    """Raises UnsupportedError unless the family can be written in it."""
    if form.framework and form.framework not in family.frameworks:
        known = [suffix or "a folder" for suffix, other in FORMS.items() if other.framework in ("", *family.frameworks)]
        raise UnsupportedError(f"{family.name} has no {form.framework} form", hint=f"it can be {', '.join(known)}")


def about_model(family: Family, size: str, processing: Processing, weights: Mapping[str, Any]) -> dict[str, Any]:
    """What is written into a file for whoever finds it: see `edgekit.card.read_about`."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "edgekit": __version__,
        "model": f"{family.name}:{size}",
        "title": family.title,
        "task": family.task,
        "license": family.license,
        "processing": processing.to_json(),
        "weights": dict(weights),
    }


def make_file(
    network: Network,
    weights: Mapping[str, np.ndarray],
    output: Path,
    form: Form,
    about: Mapping[str, Any],
    *,
    force: bool = False,
    notes: tuple[str, ...] = (),
) -> MadeModel:
    """Writes a network with its weights, whole or not at all."""
    path = write_form(form, network, weights, about, output, force=force)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return MadeModel(
        about["model"], path, form.name, size, network.num_params, about["weights"], (*notes, *form.notes(network))
    )
