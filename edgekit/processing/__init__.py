"""Pre- and post-processing as data, run by the same code in calibration, in evaluation and on the device.

A `Processing` is lists of steps, which are mappings (``{"op": "resize", "size": [64, 64]}``): it is saved in the bundle
and travels with the model. The steps there are stand in `edgekit.processing.steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.fitting import fit, free_inputs, is_exact, zero_state
from edgekit.processing.geometry import Feeds, Geometry, Track
from edgekit.processing.steps import (
    SCHEMA,
    STEPS,
    VERSION,
    Apply,
    Step,
    StepContext,
    compile_steps,
    plain,
    plain_steps,
)
from edgekit.record import Record, field
from edgekit.spec import Signature, TensorSpec

if TYPE_CHECKING:
    from edgekit.processing.presets import PRESETS as PRESETS

__all__ = ["ANY_INPUT", "PRESETS", "STEPS", "Feeds", "Geometry", "Processing", "Step", "StepContext"]


ANY_INPUT = "*"
"""In place of an input's name: every input that is not named, because twins of one net name it differently."""

_WINDOWING = ("frame", "frame_rows", "window_context")
"""Steps that make several samples for the net of one value."""

_KINDS = {"decode_image": "picture", "decode_wav": "sound", "tokenize": "text"}
"""By which steps one sees what a processing reads."""


def __getattr__(name: str) -> Any:
    if name == "PRESETS":
        return import_module("edgekit.processing.presets").PRESETS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Processing(Record):
    """How real-world inputs become feeds and outputs become an answer, as data.

    Attributes:
        inputs: For each input by name, or ``"*"``, the steps from a value to an array.
        outputs: Steps from the outputs by name to the answer; none gives the outputs themselves.
        labels: Names of the classes, by index.
        data: Arguments that stand as ``{"data": NAME}`` in the steps, such as the vocabulary that three of them share.
    """

    inputs: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    outputs: tuple[Step, ...] = ()
    labels: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    _before: Mapping[str, tuple[Apply, ...]] = field(init=False, repr=False, compare=False)
    _after: tuple[Apply, ...] = field(init=False, repr=False, compare=False)
    _has_windows: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks every step. Raises ArtifactError naming the op or argument that is wrong."""
        if not isinstance(self.inputs, Mapping):
            raise ArtifactError("the inputs of a processing must map names to steps")
        if not isinstance(self.labels, list | tuple) or not all(isinstance(label, str) for label in self.labels):
            raise ArtifactError("the labels of a processing must be a list of names")
        steps_of = {str(name): plain_steps(steps, f"input {name!r}") for name, steps in self.inputs.items()}
        outputs = plain_steps(self.outputs, "the outputs")
        data = _plain_data(self.data)
        before = {name: compile_steps(steps, f"input {name!r}", data) for name, steps in steps_of.items()}
        after = compile_steps(outputs, "the outputs", data)
        values = (steps_of, outputs, tuple(self.labels), data, before, after)
        for name, value in zip(("inputs", "outputs", "labels", "data", "_before", "_after"), values, strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_has_windows", any(map(_has_windows, steps_of.values())))

    @property
    def kind(self) -> str:
        """What it reads: ``"picture"``, ``"sound"``, ``"text"``, or nothing where it takes arrays."""
        ops = [str(step["op"]) for steps in self.inputs.values() for step in steps]
        found = [kind for op in ops for prefix, kind in _KINDS.items() if op.startswith(prefix)]
        return found[0] if found else ""

    @classmethod
    def identity(cls) -> Processing:
        """Arrays in, the dict of arrays out."""
        return cls()

    @classmethod
    def named(cls, name: str, signature: Signature) -> Processing:
        """The preset called `name` (see `PRESETS`) for this signature, or what a file holds.

        A file is the .json of a processing, a ``tokenizer.json`` or a ``vocab.txt``; the last two make texts into the
        ids, mask and types that the signature wants.
        """
        if name.endswith((".json", ".txt")):
            from edgekit.processing.sources import read_processing

            return cls.from_json(read_processing(Path(name), signature))
        from edgekit.processing.presets import preset_inputs

        return cls({input: tuple(steps) for input, steps in preset_inputs(name, signature).items()})

    def before(self, value: Any, signature: Signature) -> dict[str, np.ndarray]:
        """Feeds for one value, exactly as the signature wants them: dtype, layout, batch dimension.

        Args:
            value: What the steps take: a path, bytes, a picture, a text, an array; for several inputs a dict of those
                by name, or one value for all where each is named in `inputs`, as for ids and mask of one text. Inputs
                that have a `constant` may be left out.
                A dict of arrays that match the signature already passes untouched. State that is not given is zero.
            signature: What the feeds are for.

        Returns:
            The feeds by name; they also know where in a picture they are, for the steps after the model: hand `after`
            what this gave.

        Raises:
            InputError: The value is not what the steps or the signature want.
        """
        if isinstance(value, Mapping) and is_exact(value, signature):
            return value if isinstance(value, dict) else dict(value)
        return _checked(self._feeds(value, signature), signature)

    def after(self, outputs: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray] | None = None) -> Any:
        """What the outputs mean, as JSON can hold it; without steps the outputs themselves.

        Args:
            outputs: By name.
            feeds: What the model made them of, for steps that compare the two.
        """
        if not self._after:
            return outputs
        value: Any = outputs
        context = StepContext(labels=self.labels, feeds=feeds, track=Track(getattr(feeds, "geometry", None)))
        for step in self._after:
            value = step(value, context)
        return value.tolist() if isinstance(value, np.ndarray) else value

    def answer(
        self, value: Any, run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]], signature: Signature
    ) -> Any:
        """`before`, `run`, `after`; a sound of several windows goes through a model of fixed batch in turn."""
        if not self._has_windows:
            feeds = self.before(value, signature)
            return self.after(run(feeds), feeds)
        parts = self.batches(value, signature)
        return self.after(_joined([run(part) for part in parts]), _joined(parts))

    def batches(self, value: Any, signature: Signature, *, rows: int | None = None) -> list[dict[str, np.ndarray]]:
        """Feeds for one value; several where its windows are more than the batch the signature fixes.

        Args:
            value: As for `before`.
            signature: What the feeds are for.
            rows: Windows per batch where the signature leaves that open; by default all at once.
        """
        framed = [spec for spec in signature.inputs if _has_windows(self._steps(spec.name))]
        if not framed or (isinstance(value, Mapping) and is_exact(value, signature)):
            return [self.before(value, signature)]
        feeds = self._feeds(value, signature)
        fixed = [dim for spec in framed if isinstance(dim := spec.shape[0], int)]
        total = len(feeds[framed[0].name])
        size = fixed[0] if fixed else (rows or total)
        names = {spec.name for spec in framed}
        parts = (
            {name: array[start : start + size] if name in names else array for name, array in feeds.items()}
            for start in range(0, total, size)
        )
        return [_checked(Feeds(part, feeds.geometry), signature) for part in parts]

    def _steps(self, name: str) -> tuple[Step, ...]:
        return self.inputs.get(name, self.inputs.get(ANY_INPUT, ()))

    def _feeds(self, value: Any, signature: Signature) -> Feeds:
        """Feeds whose number of rows has not been checked."""
        constant = {spec.name: None for spec in signature.inputs if _is_constant(self._steps(spec.name))}
        if not isinstance(value, Mapping):
            names = [spec.name for spec in free_inputs(signature) if spec.name not in constant]
            is_named = bool(names) and all(name in self.inputs for name in names)
            if len(names) != 1 and not is_named:
                raise InputError(f"the model has {len(names)} inputs", hint=f"pass a dict of {names}")
            value = dict.fromkeys(names, value)
        given = {**constant, **zero_state(signature), **value}
        names = [spec.name for spec in signature.inputs]
        if given.keys() != set(names):
            raise InputError(f"values are for {sorted(map(str, given))}, the inputs are {names}")
        tracks = {name: Track() for name in names}
        arrays = {spec.name: self._feed(given[spec.name], spec, tracks[spec.name]) for spec in signature.inputs}
        views = {track.geometry for track in tracks.values() if track.geometry is not None}
        return Feeds(arrays, views.pop() if len(views) == 1 else None)

    def _feed(self, value: Any, spec: TensorSpec, track: Track) -> np.ndarray:
        context = StepContext(spec, self.labels, track=track)
        for step in self._before.get(spec.name, self._before.get(ANY_INPUT, ())):
            value = step(value, context)
        return fit(value, spec)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "inputs": {name: [dict(step) for step in steps] for name, steps in self.inputs.items()},
            "outputs": [dict(step) for step in self.outputs],
            "labels": list(self.labels),
            **({"data": dict(self.data)} if self.data else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Processing:
        """Reads what `to_json` gave; nothing at all is the identity. Raises ArtifactError naming what is wrong."""
        if not isinstance(data, Mapping):
            raise ArtifactError(f"a processing is a JSON object, not a {type(data).__name__}")
        if not data:
            return cls.identity()
        if data.get("schema") != SCHEMA or data.get("version") != VERSION:
            raise ArtifactError(f"not a processing of version {VERSION}: schema {data.get('schema')!r}")
        if unknown := set(data) - {"schema", "version", "inputs", "outputs", "labels", "data"}:
            raise ArtifactError(f"a processing has no {sorted(unknown)}")
        return cls(data.get("inputs", {}), data.get("outputs", ()), data.get("labels", ()), data.get("data", {}))

    @classmethod
    def from_file(cls, path: Path) -> Processing:
        """Reads a .json file of what `to_json` gave, in which data and labels may be files beside it."""
        from edgekit.processing.sources import read_processing

        return cls.from_json(read_processing(path))


def _plain_data(data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ArtifactError("the data of a processing must map names to values")
    return {str(name): plain(value, f"data {name!r}") for name, value in data.items()}


def _is_constant(steps: Sequence[Step]) -> bool:
    return bool(steps) and steps[0]["op"] == "constant"


def _has_windows(steps: Iterable[Step]) -> bool:
    return any(step["op"] in _WINDOWING for step in steps)


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """The arrays of all parts by name, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _checked(feeds: Feeds, signature: Signature) -> dict[str, np.ndarray]:
    """`feeds`, or an InputError where their number of rows is not the batch the signature fixes."""
    for spec in signature.inputs:
        if not spec.accepts_shape(feeds[spec.name].shape):
            raise InputError(
                f"the value gives {len(feeds[spec.name])} rows for input {spec.name!r}, which takes {spec.shape[0]}",
                hint="windows of a sound go through a batch of 1 in turn by `Processing.answer`",
            )
    return feeds
