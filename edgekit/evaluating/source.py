"""The model a bundle was made of, asked itself: by its own framework, in a child, through the bundle's processing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.bundle import Bundle
from edgekit.converter import SourceModel
from edgekit.errors import UnavailableError
from edgekit.loading import is_bundle
from edgekit.named_files import file_of
from edgekit.processing import Processing
from edgekit.sources import find_reader, source_sha256
from edgekit.spec import Signature

__all__ = ["AUTO", "NONE", "Source", "find_source", "opened"]

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Source:
    """Which file is the source.

    Attributes:
        path: Of the file or folder; None where there is none to ask.
        note: Why there is none.
        is_insisted_on: Whether the user named it.
    """

    path: Path | None
    note: str = ""
    is_insisted_on: bool = False


class _Answering:
    """What is asked like a session: an object with `predict`, and the processing that gives it labels."""

    def __init__(self, source: SourceModel, processing: Processing, signature: Signature) -> None:
        self.processing = processing
        self._source, self._signature = source, signature

    def predict(self, value: Any) -> Any:
        return self.processing.answer(value, self._source.run, self._signature)


def find_source(given: str | Path, model: Path) -> Source:
    """The source that is meant.

    Args:
        given: A file, a model by name, ``"none"``, or ``"auto"``: the file a bundle says it was made of, if it is
            still beside the bundle, or where the user is, and still the same.
        model: The bundle, or file, that is evaluated.

    Raises:
        ArtifactError: A file that was named is no model.
        UnavailableError: What reads it is not installed.
    """
    if given == NONE:
        return Source(None)
    if given != AUTO:
        path = file_of(given)
        find_reader(path)
        return Source(path, is_insisted_on=True)
    if not is_bundle(model):
        return Source(None)
    said = Bundle.open(model).provenance.get("source") or {}
    name, sha256 = str(said.get("name", "")), said.get("sha256")
    if not name or name != Path(name).name:
        return Source(None, "the bundle does not say which file it was made of: --source names one")
    there = [place / name for place in (model.absolute().parent, Path.cwd()) if (place / name).exists()]
    if not there:
        return Source(None, f"{name}, which the bundle was made of, is not beside it: --source names it")
    same = next((path for path in there if source_sha256(path) == sha256), None)
    if same is None:
        return Source(None, f"{there[0]} is no longer what the bundle was made of: --source {there[0]} takes it")
    try:
        find_reader(same)
    except UnavailableError as error:
        return Source(None, f"{same} cannot be asked here: {error.message}")
    return Source(same)


@contextmanager
def opened(path: Path, processing: Processing, signature: Signature) -> Iterator[_Answering]:
    """The source, ready to be asked.

    Args:
        path: Of the file.
        processing: From samples to feeds, and from outputs to answers.
        signature: What feeds are made for, where the source has inputs of those names; else its own is taken.

    Raises:
        ConversionError: Its framework failed.
    """
    with TemporaryDirectory(prefix="edgekit-source-") as stage:
        source = find_reader(path).read(path, Path(stage))
        try:
            same = {spec.name for spec in source.signature.inputs} == {spec.name for spec in signature.inputs}
            yield _Answering(source, processing, signature if same else source.signature)
        finally:
            source.close()
