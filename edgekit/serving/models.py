"""The models that are served: found by name, loaded one after the other, and what they answer to a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import InputError
from edgekit.loading import load
from edgekit.runtime import Session
from edgekit.serving.refusing import RefusedError
from edgekit.serving.tensors import DATATYPES, Raw, checked_shape, from_bytes, from_list, from_values
from edgekit.spec import TensorSpec

__all__ = ["VERSION", "Answer", "Model", "Tensor", "find", "named"]

VERSION = "1"
"""A server has one version of each model: another bundle is another name, or another process."""

_TEXT_STEPS = {"tokenize", "tokenize_bytes", "tokenize_wordpiece"}
_MEANINGFUL = ("classification", "sequence_id", "shared_memory_region")
"""Parameters of the protocol's extensions that would change the answer if they were honored."""

Answer: TypeAlias = list[tuple[TensorSpec, np.ndarray]]


@dataclass(frozen=True)
class Tensor:
    """An input as a caller gave it.

    Attributes:
        data: Bytes, a list out of JSON, or a tuple of values that have the right Python type already.
    """

    name: Any
    datatype: Any
    shape: Any
    data: Raw | tuple[Any, ...] | Any
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Model:
    """A model under its name; `session` is None until it is loaded and has passed its golden test."""

    name: str
    path: str
    session: Session | None = None

    def load(self, *, runtime: str | None = None, threads: int | None = None) -> None:
        """Raises what `edgekit.load` does."""
        self.session = load(self.path, runtime=runtime, threads=threads)

    def loaded(self) -> Session:
        if self.session is None:
            raise RefusedError("not_ready", f"model {self.name!r} is being loaded", hint="try again")
        return self.session

    def metadata(self) -> dict[str, Any]:
        """What the protocol tells of a model; a size that is open is -1."""
        session = self.loaded()
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": f"edgekit_{session.runtime}",
            "inputs": [_described(spec) for spec in session.signature.inputs],
            "outputs": [_described(spec) for spec in session.signature.outputs],
        }

    def infer(self, inputs: Sequence[Tensor], wanted: Sequence[tuple[Any, Mapping[str, Any]]]) -> Answer:
        """Raw tensors through the engine.

        Args:
            inputs: One for each input of the model.
            wanted: Names of outputs with the parameters asked for them, in the order of the answer; none for all.

        Raises:
            InputError: A tensor is missing, unknown, or not what the signature says.
        """
        session = self.loaded()
        specs = {spec.name: spec for spec in session.signature.outputs}
        for name, parameters in wanted:
            _check_name(name, specs, "output")
            check_parameters(parameters)
        feeds = self._feeds(inputs)
        results = session.run(feeds)
        return [(specs[name], results[name]) for name in ([name for name, _ in wanted] or specs)]

    def _feeds(self, inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
        specs = {spec.name: spec for spec in self.loaded().signature.inputs}
        feeds: dict[str, np.ndarray] = {}
        for tensor in inputs:
            _check_name(tensor.name, specs, "input")
            if tensor.name in feeds:
                raise InputError(f"input {tensor.name!r} is given twice")
            check_parameters(tensor.parameters)
            feeds[tensor.name] = _array(tensor, specs[tensor.name])
        return feeds

    def predict(self, body: Raw) -> Any:
        """The content of a picture, a sound or a text through the model's processing, to its answer.

        Raises InputError when it is none, or when the model takes tensors only.
        """
        session = self.loaded()
        processing = session.processing
        if processing is None or not processing.inputs:
            raise InputError(f"model {self.name!r} says nothing of raw inputs", hint="send tensors to /infer")
        first = {steps[0]["op"] for steps in processing.inputs.values() if steps and steps[0]["op"] != "constant"}
        # A str goes to steps of text only: to those of pictures and sounds it is the path of a file of this machine.
        if not first or not first <= _TEXT_STEPS:
            return session.predict(bytes(body))
        try:
            return session.predict(bytes(body).decode())
        except UnicodeDecodeError:
            raise InputError("the text is not UTF-8") from None


def named(paths: Iterable[str]) -> dict[str, Model]:
    """The models at `paths`, each as ``PATH`` or ``NAME=PATH``, by name. Raises InputError for a name given twice."""
    models: dict[str, Model] = {}
    for given in paths:
        name, sign, path = given.partition("=")
        if not sign or "/" in name:
            name, path = Path(given).name.split(".")[0], given
        if not name or name in models:
            said = f"two models are named {name!r}" if name else f"{given!r} gives no name to serve it under"
            raise InputError(said, hint="name them: NAME=PATH")
        models[name] = Model(name, path)
    return models


def find(models: Mapping[str, Model], name: str, version: str = "") -> Model:
    if name not in models:
        raise RefusedError("not_found", f"there is no model {name!r}", hint=f"models: {', '.join(models)}")
    if version not in ("", VERSION):
        raise RefusedError("not_found", f"model {name!r} has no version {version!r}", hint=f"its version is {VERSION}")
    return models[name]


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Raises InputError for what cannot be ignored: an answer without it would mean something else."""
    if not isinstance(parameters, Mapping):
        raise InputError("parameters are an object of names and values")
    if asked := [name for name in _MEANINGFUL if parameters.get(name)]:
        raise InputError(f"the parameter {asked[0]!r} is not supported")


def _array(tensor: Tensor, spec: TensorSpec) -> np.ndarray:
    if tensor.datatype != DATATYPES[spec.dtype]:
        raise InputError(f"input {spec.name!r} is {DATATYPES[spec.dtype]}, not {tensor.datatype!r}")
    shape = checked_shape(spec.name, tensor.shape)
    try:
        if isinstance(tensor.data, Raw):
            return from_bytes(spec, shape, tensor.data)
        if isinstance(tensor.data, tuple):
            return from_values(spec, shape, tensor.data)
        return from_list(spec, shape, tensor.data)
    except InputError:
        raise
    except ValueError as error:  # sizes that multiply to nothing and are beyond what numpy counts
        raise InputError(f"the shape of input {spec.name!r} is none: {error}") from error


def _described(spec: TensorSpec) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def _check_name(name: Any, specs: Mapping[str, TensorSpec], what: str) -> None:
    if not isinstance(name, str) or name not in specs:
        raise InputError(f"the model has no {what} {name!r}", hint=f"{what}s: {', '.join(specs)}")
