"""Pre- and post-processing as data, run by the same code in calibration, in evaluation and on the device.

A `Processing` is lists of steps, which are mappings (``{"op": "resize", "size": [64, 64]}``): it is saved in the bundle
and travels with the model. The steps there are stand in `edgekit.processing.steps`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.fitting import fit, free_inputs, is_exact, zero_state
from edgekit.processing.presets import PRESETS, preset_inputs
from edgekit.processing.steps import STEPS, Apply, Step, StepContext, compile_steps, plain_steps
from edgekit.spec import Signature, TensorSpec

__all__ = ["ANY_INPUT", "PRESETS", "STEPS", "Processing", "Step", "StepContext"]

SCHEMA = "edgekit.processing"
VERSION = 1

ANY_INPUT = "*"
"""In place of an input's name: every input that is not named, because twins of one net name it differently."""

_WINDOWING = ("frame", "window_context")
"""Steps that make several samples for the net of one value."""


@dataclass(frozen=True)
class Processing:
    """How real-world inputs become feeds and outputs become an answer, as data.

    Attributes:
        inputs: For each input by name, or ``"*"``, the steps from a value to an array.
        outputs: Steps from the outputs by name to the answer; none gives the outputs themselves.
        labels: Names of the classes, by index.
    """

    inputs: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    outputs: tuple[Step, ...] = ()
    labels: tuple[str, ...] = ()
    _before: Mapping[str, tuple[Apply, ...]] = field(init=False, repr=False, compare=False)
    _after: tuple[Apply, ...] = field(init=False, repr=False, compare=False)
    _has_windows: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks every step. Raises ArtifactError naming the op or argument that is wrong."""
        if not isinstance(self.inputs, Mapping):
            raise ArtifactError("the inputs of a processing must map names to steps")
        if not isinstance(self.labels, list | tuple) or not all(isinstance(label, str) for label in self.labels):
            raise ArtifactError("the labels of a processing must be a list of names")
        plain = {str(name): plain_steps(steps, f"input {name!r}") for name, steps in self.inputs.items()}
        outputs = plain_steps(self.outputs, "the outputs")
        before = {name: compile_steps(steps, f"input {name!r}") for name, steps in plain.items()}
        values = (plain, outputs, tuple(self.labels), before, compile_steps(outputs, "the outputs"))
        for name, value in zip(("inputs", "outputs", "labels", "_before", "_after"), values, strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_has_windows", any(map(_has_windows, plain.values())))

    @classmethod
    def identity(cls) -> Processing:
        """Arrays in, the dict of arrays out."""
        return cls()

    @classmethod
    def named(cls, name: str, signature: Signature) -> Processing:
        """The preset called `name` (see `PRESETS`) for this signature, or what a .json file holds."""
        if name.endswith(".json"):
            return cls.from_file(Path(name))
        return cls({input: tuple(steps) for input, steps in preset_inputs(name, signature).items()})

    def before(self, value: Any, signature: Signature) -> dict[str, np.ndarray]:
        """Feeds for one value, exactly as the signature wants them: dtype, layout, batch dimension.

        Args:
            value: What the steps take: a path, bytes, a picture, a text, an array; for several inputs a dict of those
                by name, or one value for all where each is named in `inputs`, as for ids and mask of one text.
                A dict of arrays that match the signature already passes untouched. State that is not given is zero.
            signature: What the feeds are for.

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
        context = StepContext(labels=self.labels, feeds=feeds)
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
        parts = [
            {name: array[start : start + size] if name in names else array for name, array in feeds.items()}
            for start in range(0, total, size)
        ]
        return [_checked(part, signature) for part in parts]

    def _steps(self, name: str) -> tuple[Step, ...]:
        return self.inputs.get(name, self.inputs.get(ANY_INPUT, ()))

    def _feeds(self, value: Any, signature: Signature) -> dict[str, np.ndarray]:
        """Feeds whose number of rows has not been checked."""
        if not isinstance(value, Mapping):
            names = [spec.name for spec in free_inputs(signature)]
            is_named = bool(names) and all(name in self.inputs for name in names)
            if len(names) != 1 and not is_named:
                raise InputError(f"the model has {len(names)} inputs", hint=f"pass a dict of {names}")
            value = dict.fromkeys(names, value)
        given = {**zero_state(signature), **value}
        names = [spec.name for spec in signature.inputs]
        if given.keys() != set(names):
            raise InputError(f"values are for {sorted(map(str, given))}, the inputs are {names}")
        return {spec.name: self._feed(given[spec.name], spec) for spec in signature.inputs}

    def _feed(self, value: Any, spec: TensorSpec) -> np.ndarray:
        context = StepContext(spec, self.labels)
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
        if unknown := set(data) - {"schema", "version", "inputs", "outputs", "labels"}:
            raise ArtifactError(f"a processing has no {sorted(unknown)}")
        return cls(data.get("inputs", {}), data.get("outputs", ()), data.get("labels", ()))

    @classmethod
    def from_file(cls, path: Path) -> Processing:
        """Reads a .json file of what `to_json` gave."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path} is not a processing: {error}") from error


def _has_windows(steps: Iterable[Step]) -> bool:
    return any(step["op"] in _WINDOWING for step in steps)


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """The arrays of all parts by name, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _checked(feeds: dict[str, np.ndarray], signature: Signature) -> dict[str, np.ndarray]:
    """`feeds`, or an InputError where their number of rows is not the batch the signature fixes."""
    for spec in signature.inputs:
        if not spec.accepts_shape(feeds[spec.name].shape):
            raise InputError(
                f"the value gives {len(feeds[spec.name])} rows for input {spec.name!r}, which takes {spec.shape[0]}",
                hint="windows of a sound go through a batch of 1 in turn by `Processing.answer`",
            )
    return feeds
