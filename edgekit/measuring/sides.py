"""What is compared with what: a variant of a bundle, a bare model file, or a source model, opened to answer."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.bundle import Bundle
from edgekit.bundle.manifest import MANIFEST
from edgekit.card import find_card
from edgekit.errors import ArtifactError, ConversionError, UnsupportedError
from edgekit.loading import load
from edgekit.measuring.candidates import find_candidates, read_subject
from edgekit.measuring.records import Candidate
from edgekit.named_files import file_of
from edgekit.opening import detect_format
from edgekit.parity import match_inputs
from edgekit.processing import Processing
from edgekit.registry import CONVERTERS
from edgekit.runtime import EngineOptions, Session
from edgekit.spec import Signature

__all__ = ["Named", "Side", "feeds_for", "input_names", "open_side", "parse_side", "runs_as"]

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Named:
    """What a user names: a path or a model's name, and of it a variant and a runtime where one is insisted on."""

    text: str
    place: str
    variant: str | None = None
    runtime: str | None = None


def parse_side(text: str | Path, variant: str | None = None, runtime: str | None = None) -> Named:
    """``"PATH[#VARIANT][@RUNTIME]"``; a path that is there as it is written is only that.

    Args:
        text: What was written.
        variant: Where `text` names none.
        runtime: The same.
    """
    place = str(text)
    if not Path(place).exists():
        head, at, name = place.rpartition("@")
        place, runtime = (head, name) if at and head else (place, runtime)
        head, mark, name = place.rpartition("#")
        place, variant = (head, name) if mark and head else (place, variant)
    return Named(str(text), place, variant, runtime)


@dataclass(frozen=True)
class Side:
    """A model that answers.

    Attributes:
        name: As the user named it.
        path: Where it is.
        signature: What it takes and gives.
        run: Its answer.
        candidate: What is timed of it; None for a source model, which runs in its framework.
        processing: How samples become its feeds; None where nobody says.
        bundle: What it is of, if it is of one.
        file: The file that an engine opens; None for a source model.
        file_names: For inputs of the signature, what they are called in that file where that differs.
        options: How it is opened.
    """

    name: str
    path: Path
    signature: Signature
    run: Callable[[Feeds], Mapping[str, np.ndarray]]
    candidate: Candidate | None
    processing: Processing | None
    bundle: Bundle | None = None
    file: Path | None = None
    file_names: Mapping[str, str] = field(default_factory=dict)
    options: EngineOptions = field(default_factory=EngineOptions)

    @property
    def title(self) -> str:
        return f"{self.path.name}: {self.candidate.title}" if self.candidate else f"{self.path.name}, the source"


@contextmanager
def open_side(named: Named, threads: int | None = None) -> Iterator[Side]:
    """Opens what was named for as long as it is needed.

    Raises:
        ArtifactError: It is missing, damaged, or nothing that edgekit reads.
        UnsupportedError: There is no such variant or runtime.
        UnavailableError: What it takes to open it is not here.
    """
    path = file_of(named.place)
    if _is_artifact(path):
        with load(path, runtime=named.runtime, variant=named.variant, threads=threads) as session:
            yield _of_session(named, path, session)
        return
    if named.variant or named.runtime:
        raise UnsupportedError(f"{path} is a source model: it has neither variants nor a choice of runtimes")
    with _source(named, path) as side:
        yield side


def _is_artifact(path: Path) -> bool:
    """Whether it is a bundle, or a model file an engine opens; a source model may be a folder or an archive, too."""
    if not path.exists():
        raise ArtifactError(f"there is no {path}", hint="check the path; PATH#VARIANT names one variant of a bundle")
    if path.is_dir():
        return (path / MANIFEST).is_file()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == MANIFEST for name in archive.namelist())
    try:
        detect_format(path)
    except ArtifactError:
        return False
    return True


def _of_session(named: Named, path: Path, session: Session) -> Side:
    assert session.choice is not None
    taken = session.choice.taken
    subject = read_subject(path)
    found, _ = find_candidates(subject, taken.runtime, taken.threads)
    candidate = next(one for one in found if one.variant == taken.variant)
    artifact = session.artifact
    card = find_card(path) if session.processing is None else None
    return Side(
        name=named.text,
        path=path,
        signature=session.signature,
        run=session.run,
        candidate=candidate,
        processing=session.processing or (card.processing if card else None),
        bundle=subject.bundle,
        file=artifact.path if artifact else path,
        file_names=dict(artifact.input_names) if artifact else {},
        options=EngineOptions(threads=candidate.threads),
    )


@contextmanager
def _source(named: Named, path: Path) -> Iterator[Side]:
    for _, converter in CONVERTERS:
        if converter.reads and converter.accepts(path):
            converter.probe().require(f"the {converter.name} converter")
            break
    else:
        raise ArtifactError(
            f"{path} is no bundle, model file or source model that edgekit reads",
            hint="a .edge bundle, .tflite, .onnx or .xml, or what `edgekit convert` takes",
        )
    with TemporaryDirectory(prefix="edgekit-") as folder:
        source = converter.read(path, Path(folder))
        try:
            card = find_card(path)
            yield Side(named.text, path, source.signature, source.run, None, card.processing if card else None)
        finally:
            source.close()


def input_names(first: Side, second: Side) -> dict[str, str]:
    """For each input of the first what the second calls it.

    Raises:
        UnsupportedError: They do not take the same inputs.
    """
    ours, theirs = first.signature, second.signature
    try:
        names = match_inputs(ours.inputs, theirs.inputs)
    except ConversionError as error:
        raise _other_inputs(first, second) from error
    for mine, other in names.items():
        a, b = ours.input(mine), theirs.input(other)
        if len(a.shape) != len(b.shape) or any(
            isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a.shape, b.shape, strict=True)
        ):
            raise _other_inputs(first, second)
    return names


def _other_inputs(first: Side, second: Side) -> UnsupportedError:
    sides = ["; ".join(map(str, side.signature.inputs)) for side in (first, second)]
    return UnsupportedError(
        f"the two do not take the same inputs: {sides[0]} against {sides[1]}",
        hint="compare models of one task and one input shape",
    )


def feeds_for(side: Side, names: Mapping[str, str], feeds: Feeds) -> dict[str, np.ndarray]:
    """Feeds by the first's names as the other takes them: under its names, and integers of its width."""
    given: dict[str, np.ndarray] = {}
    for name, array in feeds.items():
        spec = side.signature.input(names[name])
        is_alike = array.dtype.kind in "iu" and spec.dtype.startswith(("int", "uint"))
        given[names[name]] = array.astype(spec.dtype, copy=False) if is_alike else array
    return given


def runs_as(side: Side, names: Mapping[str, str]) -> Callable[[Feeds], Mapping[str, np.ndarray]]:
    """The side's `run` for feeds by the first's names."""
    return partial(_run_renamed, side, dict(names))


def _run_renamed(side: Side, names: Mapping[str, str], feeds: Feeds) -> Any:
    return side.run(feeds_for(side, names, feeds))
