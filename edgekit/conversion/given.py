"""What `convert` was given: a file, or what is made into one first: a model by name, in memory, or of a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekit.conversion.modules import GivenModule, find_built, find_module, framework_of, split_built
from edgekit.converter import Reader, SourceOptions
from edgekit.datasets import Dataset, open_dataset
from edgekit.errors import InputError, UnavailableError, UnsupportedError
from edgekit.family import Family, find_size, is_model_name
from edgekit.making import Model, find_model, write_model
from edgekit.plan import Plan
from edgekit.registry import CONVERTERS
from edgekit.samples import Samples
from edgekit.sources import find_reader

__all__ = ["Beside", "Given", "GivenFile", "GivenModule", "GivenName", "OwnData", "Planner", "find_given"]

Planner = Callable[[str, Reader], Plan]
"""From what the source is called and the converter that reads it to a plan. Raises UnsupportedError."""

_FORMS = (("onnx", ".onnx", "onnx"), ("keras", ".keras", "keras"))
"""Framework of a family, suffix, and the converter that reads it; of two that lead equally far the first is taken."""

MAX_CALIBRATION = 200
"""Samples of a family's own data that are calibrated on unless told otherwise."""


@dataclass(frozen=True)
class Beside:
    """What the user says beside the source. What a source has no use for is an InputError, never ignored.

    Attributes:
        weights: For a model by name, or a function that builds one.
        options: For a source that leaves open how large its inputs are.
        example_inputs: For a module in memory.
        dynamic_shapes: The same.
        seed: Of weights that are drawn.
    """

    weights: str | Path | None = None
    options: SourceOptions = field(default_factory=SourceOptions)
    example_inputs: Any = None
    dynamic_shapes: Any = None
    seed: int = 0

    def require_no(self, what: str, *names: str) -> None:
        """Raises InputError where one of the attributes `names` was said of a source that is `what`."""
        said = {
            "weights": ("--weights", self.weights is not None, "a model by name, or FILE.py:FUNCTION"),
            "options": ("--input-shape", bool(self.options.input_shapes), "a file, or FILE.py:FUNCTION"),
            "example_inputs": ("example_inputs", self.example_inputs is not None, "a module in memory"),
            "dynamic_shapes": ("dynamic_shapes", self.dynamic_shapes is not None, "a module in memory"),
        }
        for flag, is_said, use in (said[name] for name in names):
            if is_said:
                raise InputError(f"{what}, so it takes no {flag}", hint=f"{flag} is for {use}")


@dataclass(frozen=True)
class GivenFile:
    """A file or folder as the user named it."""

    path: Path
    reader: Reader
    plan: Plan
    notes: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def model(self) -> Model | None:
        return None

    def place(self, stage: Path) -> Path:
        return self.path


@dataclass
class GivenName:
    """A model by name, made in the form from which most of what is asked for can be reached.

    Attributes:
        notes: Why it is made in that form.
    """

    family: Family
    size: str
    weights: str | Path | None
    seed: int
    suffix: str
    reader: Reader
    plan: Plan
    notes: tuple[str, ...] = field(default=())

    @property
    def stem(self) -> str:
        return f"{self.family.name}-{self.size}".replace(".", "_")

    @cached_property
    def model(self) -> Model:
        """With its weights, which are read or fetched when this is first asked for."""
        return find_model(self.family, self.size, weights=self.weights, seed=self.seed)

    def place(self, stage: Path) -> Path:
        """Makes the file below `stage`."""
        path = stage / f"{self.stem}{self.suffix}"
        self.notes = (*self.notes, *write_model(self.model, path).notes)
        return path


Given = GivenFile | GivenName | GivenModule


def find_given(source: object, beside: Beside, planner: Planner) -> Given:
    """What `source` is: a model in memory, a name of a model where there is no such file, a function, else a file.

    Raises:
        ArtifactError: It is none, or a file that no converter reads.
        InputError: Something is said beside it that it has no use for, or not said that it needs.
        UnsupportedError: Nothing of what is wanted has a road from it, or there is no such size.
    """
    if not isinstance(source, str | Path):
        if (framework := framework_of(source)) is None:
            raise InputError(
                f"a {type(source).__name__} is no source", hint="a path, a name, or a model of PyTorch or Keras"
            )
        beside.require_no("it is in memory", "weights", "options")
        return find_module(source, framework, planner, beside.example_inputs, beside.dynamic_shapes)
    beside.require_no(f"{source} is not in memory", "example_inputs", "dynamic_shapes")
    if isinstance(source, str) and is_model_name(source):
        family, size = find_size(source)
        return _named(family, size, beside.weights, beside.seed, planner)
    if not Path(source).exists() and (built := split_built(str(source))):
        weights = Path(beside.weights) if beside.weights is not None else None
        return find_built(*built, planner, weights, beside.options)
    return _file(Path(source), beside, planner)


def _file(path: Path, beside: Beside, planner: Planner) -> GivenFile:
    beside.require_no(f"{path} is a file", "weights")
    reader = find_reader(path)
    if beside.options.input_shapes and hasattr(reader, "with_options"):
        reader = reader.with_options(beside.options)
    return GivenFile(path, reader, planner(path.name, reader))


def _named(family: Family, size: str, weights: str | Path | None, seed: int, planner: Planner) -> GivenName:
    """Of the forms the family has and this machine can read, the one from which the most variants have a road."""
    name, found, failures = f"{family.name}:{size}", [], []
    for framework, suffix, converter in _FORMS:
        if framework not in family.frameworks:
            continue
        reader: Reader = CONVERTERS.get(converter)
        try:
            reader.probe().require(f"the {reader.name} converter")
            plan = planner(name, reader)
        except (UnavailableError, UnsupportedError) as error:
            failures.append(error)
            continue
        found.append((sum(bool(variant.roads) for variant in plan.variants), suffix, reader, plan))
    if not found:
        raise failures[0]
    roads, suffix, reader, plan = max(found, key=lambda one: one[0])
    reached = f"{roads} of {len(plan.variants)} files asked for can be reached from it"
    notes = (f"{name} is made as {suffix}: {reached}",)
    return GivenName(family, size, weights, seed, suffix, reader, plan, notes)


@dataclass(frozen=True)
class OwnData:
    """The data set of the model's family.

    Attributes:
        note: Why there is none, where there could be.
    """

    dataset: Dataset | None = None
    note: str = ""

    @classmethod
    def of(cls, given: Given, *, is_needed: bool) -> OwnData:
        """The data set, where the model is for it. Raises UnavailableError where it is needed and cannot be had."""
        model = given.model
        if model is None:
            return cls()
        if not model.knows_its_data:
            return cls(note=f"{model.name} is not for its family's data set, {model.family.data}: it was not judged")
        try:
            return cls(open_dataset(model.family.data))
        except UnavailableError as error:
            if is_needed:
                raise
            return cls(note=f"not judged by {model.family.data}: {error.message}")

    def calibration(self, limit: int | None) -> Samples | None:
        if self.dataset is None:
            return None
        return self.dataset.samples("calibration", limit=limit or MAX_CALIBRATION)
