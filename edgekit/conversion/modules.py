"""Models that are no file yet: in this process's memory, or built by a function of a Python file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgekit.converter import Reader, SourceOptions
from edgekit.errors import ArtifactError, InputError
from edgekit.plan import Plan
from edgekit.registry import CONVERTERS

__all__ = ["GivenModule", "find_built", "find_module", "framework_of", "split_built"]

_BASES = {
    ("torch", "Module"): "torch",
    ("torch", "ExportedProgram"): "torch",
    ("keras", "Model"): "keras",
}
"""Package and name of a class that models are made of, and the framework."""

_BUILT = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


@dataclass
class GivenModule:
    """A model that is written as a file first, in a form a converter reads.

    Attributes:
        stem: Of the file.
        reader: The converter that reads it.
        write: Writes it to a path and gives what the user should know of it.
    """

    stem: str
    reader: Reader
    plan: Plan
    write: Callable[[Path], Sequence[str]]
    suffix: str
    notes: tuple[str, ...] = field(default=())

    @property
    def model(self) -> None:
        return None

    def place(self, stage: Path) -> Path:
        """Makes the file below `stage`."""
        path = stage / f"{self.stem}{self.suffix}"
        self.notes = (*self.notes, *self.write(path))
        return path


def framework_of(source: object) -> Literal["torch", "keras"] | None:
    """Whose model an object is, by the classes it inherits from; no framework is imported to ask."""
    found = (_BASES.get((kind.__module__.partition(".")[0], kind.__name__)) for kind in type(source).__mro__)
    return next(filter(None, found), None)  # type: ignore[arg-type]


def find_module(
    source: Any, framework: str, plan: Callable[[str, Reader], Plan], example_inputs: Any, dynamic_shapes: Any
) -> GivenModule:
    """A model in memory. Raises UnavailableError where its framework is not all there, and what `plan` raises."""
    name = getattr(source, "name", None) if framework == "keras" else None
    stem = re.sub(r"\W", "_", str(name or type(source).__name__))
    reader: Reader = CONVERTERS.get(framework)
    reader.probe().require(f"the {framework} converter")

    def write_keras(path: Path) -> Sequence[str]:
        source.save(path)
        return ()

    def write_torch(path: Path) -> Sequence[str]:
        return CONVERTERS.get("torch").save_module(
            source, path, example_inputs=example_inputs, dynamic_shapes=dynamic_shapes
        )

    if framework == "keras":
        if example_inputs is not None or dynamic_shapes is not None:
            raise InputError("a Keras model says itself what it takes", hint="leave out example_inputs")
        return GivenModule(stem, reader, plan(stem, reader), write_keras, ".keras")
    return GivenModule(stem, reader, plan(stem, reader), write_torch, ".pt2")


def split_built(source: str) -> tuple[Path, str] | None:
    """The file and the function of ``"FILE.py:FUNCTION"``; None for anything else."""
    match = _BUILT.fullmatch(source)
    return (Path(match[1]), match[2]) if match else None


def find_built(
    source: Path, function: str, plan: Callable[[str, Reader], Plan], weights: Path | None, options: SourceOptions
) -> GivenModule:
    """A module that `function` of the Python file `source` builds.

    Raises:
        ArtifactError: There is no such file.
        InputError: Nobody says how large its inputs are.
        UnavailableError: PyTorch is not installed.
    """
    for path in filter(None, (source, weights)):
        if not path.is_file():
            raise ArtifactError(f"there is no file {path}", hint="check the path")
    if not options.input_shapes:
        raise InputError(
            f"nobody says how large the inputs of {source}:{function} are",
            hint="--input-shape batch,3,224,224, or for each of several NAME=batch,3,224,224",
        )
    reader = CONVERTERS.get("torch")
    reader.probe().require("the torch converter")

    def write(path: Path) -> Sequence[str]:
        reader.save_built(source, function, path, weights=weights, shapes=options.input_shapes)
        return ()

    return GivenModule(source.stem, reader, plan(f"{source.name}:{function}", reader), write, ".pt2")
