"""A model's card: what a published model is for, where it is from, and the processing it was trained with.

A source file that is known by its content gets its processing and labels without being asked for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.about import read_about
from edgekit.errors import ArtifactError
from edgekit.processing import Processing
from edgekit.registry import MODELS
from edgekit.spec import StatePair

__all__ = ["Card", "SourceFile", "content_sha256", "find_card"]

_SAVED_MODEL = "saved_model.pb"


@dataclass(frozen=True)
class SourceFile:
    """A file the model is published as.

    Attributes:
        path: Within its package; ``"archive.zip!member"`` for one inside an archive.
        sha256: Of its content; of ``saved_model.pb`` for a SavedModel.
        processing: Where this file needs another than its family.
        state: Where this file names its state otherwise than its family.
    """

    path: str
    sha256: str
    processing: Processing | None = None
    state: tuple[StatePair, ...] | None = None


@dataclass(frozen=True)
class Card:
    """What is known of a model.

    Attributes:
        name: As in the registry.
        title: A line for people.
        task: What it answers, such as ``"image classification"``.
        package: Where it is published, ``package==version``.
        files: What it is published as, known by content.
        license: SPDX identifier of the weights' license, as the package states it.
        processing: From real-world inputs to an answer, as it was trained; labels are in it.
        metrics: Figures to be reproduced, by what they are, with the data they were measured on.
        notes: What else a user should know.
        read_labels: Reads the labels out of the file, where they are in there.
        state: Which output is an input of the next call, for files that do not say so themselves.
    """

    name: str
    title: str
    task: str
    package: str
    files: tuple[SourceFile, ...]
    license: str
    processing: Processing
    metrics: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    read_labels: Callable[[Path], tuple[str, ...]] | None = None
    state: tuple[StatePair, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return self.processing.labels

    @property
    def sha256s(self) -> tuple[str, ...]:
        return tuple(file.sha256 for file in self.files)

    def for_content(self, sha256: str) -> Card | None:
        """The card with the processing and state of the file of that content; None if it is not of this model."""
        file = next((file for file in self.files if file.sha256 == sha256), None)
        if file is None:
            return None
        return replace(
            self,
            processing=self.processing if file.processing is None else file.processing,
            state=self.state if file.state is None else file.state,
        )


def find_card(path: Path) -> Card | None:
    """The card of the model at `path`, a file or a SavedModel folder, by its content; None if it is not known.

    A file that edgekit made says itself what it is, and so has a card whatever its weights are.
    """
    about = read_about(path)
    if about is not None:
        return _made_card(about, path)
    sha256 = content_sha256(path)
    if sha256 is None:
        return None
    card = next((card for _, known in MODELS if (card := known.for_content(sha256)) is not None), None)
    if card is None or card.read_labels is None:
        return card
    return replace(card, processing=replace(card.processing, labels=card.read_labels(path)))


def _made_card(about: Mapping[str, Any], path: Path) -> Card:
    try:
        return Card(
            name=str(about["model"]),
            title=str(about["title"]),
            task=str(about["task"]),
            package=f"edgekit-ml=={about['edgekit']}",
            files=(),
            license=str(about["license"]),
            processing=Processing.from_json(about["processing"]),
        )
    except KeyError as error:
        raise ArtifactError(f"what {path} says of itself lacks {error}", hint="make it again") from error


def content_sha256(path: Path) -> str | None:
    """The hash a card knows the model at `path` by; None where there is no file to hash."""
    file = path / _SAVED_MODEL if path.is_dir() else path
    if not file.is_file():
        return None
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
