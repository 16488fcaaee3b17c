"""A model that remembers: its state is carried from call to call for whoever drives it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError, UnsupportedError
from edgekit.processing.fitting import free_inputs
from edgekit.processing.geometry import Feeds
from edgekit.spec import Signature, StatePair, TensorSpec
from edgekit.validation import numpy_dtype

if TYPE_CHECKING:
    from edgekit.processing import Processing

__all__ = ["Stateful"]

Arrays = Mapping[str, np.ndarray]


class Stateful:
    """One sequence through a model, such as one microphone's sound; any number of them share a session.

    Every call moves the state on, when it succeeds: one that fails leaves it as it was. Calls from several threads take
    turns. A context manager; the model stays open after it.

    Args:
        run: Raw tensors through the model.
        signature: The model's.
        processing: The model's; None for a model of arrays only.
        pairs: Which output is the next call's input, ``{input: output}``, where the signature does not say so.

    Raises:
        UnsupportedError: The signature has no state, and none is given.
        InputError: `pairs` names an input or output the model has not.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Mapping[str, np.ndarray]],
        signature: Signature,
        processing: Processing | None = None,
        pairs: Mapping[str, str] | None = None,
    ) -> None:
        self.signature = signature if pairs is None else _paired(signature, pairs)
        if not self.signature.state:
            raise UnsupportedError(
                "the model does not say that it has a state",
                hint="name the output that each state input is fed from: stateful({'state': 'new_state'})",
            )
        self._run = run
        self._processing = processing
        self._pairs = {pair.input: pair.output for pair in self.signature.state}
        self._lock = threading.Lock()
        self._state: dict[str, np.ndarray] = {}

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The state as it is now, by input; nothing before the first call, which begins with zeros."""
        return {name: array.copy() for name, array in self._state.items()}

    def reset(self, state: Arrays | None = None) -> None:
        """Begins anew: with zeros, or with `state`, arrays by input name, as `state` gives them."""
        state = state or {}
        if unknown := set(state) - set(self._pairs):
            raise InputError(f"the model has no state {sorted(map(str, unknown))}", hint=f"state: {list(self._pairs)}")
        with self._lock:
            self._state = {name: np.array(array) for name, array in state.items()}

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """One call on raw tensors: feeds without the state, results without the new one.

        Raises:
            InputError: The feeds do not match the signature, or the state is among them.
        """
        with self._lock:
            state = dict(self._state)
            answer = self._moved(feeds, state)
            self._state = state
        return answer

    def predict(self, value: Any) -> Any:
        """From a real-world input to an answer, as the session's `predict` gives it; windows of a sound in turn.

        Raises:
            InputError: The input cannot be made into feeds that match the signature.
        """
        self._refuse_state(value)
        with self._lock:
            state = dict(self._state)
            answer = self._answer(value, state)
            self._state = state
        return answer

    def _answer(self, value: Any, state: dict[str, np.ndarray]) -> Any:
        if self._processing is None:
            names = [spec.name for spec in free_inputs(self.signature)]
            if not isinstance(value, Mapping):
                if len(names) != 1:
                    raise InputError(f"the model has {len(names)} inputs", hint=f"a dict of {names}")
                value = {names[0]: value}
            return self._moved(value, state)
        parts = self._processing.batches(value, self.signature, rows=1)
        fed = [{name: array for name, array in part.items() if name not in self._pairs} for part in parts]
        found = [self._moved(feeds, state) for feeds in fed]
        geometry = getattr(parts[0], "geometry", None)  # for steps that bring an answer back to the picture
        return self._processing.after(_joined(found), Feeds(_joined(fed), geometry))

    def _moved(self, feeds: Arrays, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answer to `feeds`, and `state` moved on."""
        self._refuse_state(feeds)
        answer = dict(self._run({**self._zeros(feeds), **state, **feeds}))
        state.update({name: answer[output] for name, output in self._pairs.items()})
        return {name: array for name, array in answer.items() if name not in self._pairs.values()}

    def _zeros(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """The state of the beginning; a size left open is that of the feeds' dimension of the same name, or 1."""
        sizes: dict[int | str, int] = {}
        for spec in free_inputs(self.signature):
            sizes.update(zip(spec.shape, np.shape(feeds.get(spec.name, ())), strict=False))
        return {name: _zero(self.signature.input(name), sizes) for name in self._pairs}

    def _refuse_state(self, value: Any) -> None:
        if isinstance(value, Mapping) and (given := sorted(set(self._pairs) & set(value))):
            raise InputError(f"the state {given} is carried for you", hint="reset({...}) sets it")

    def __enter__(self) -> Stateful:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset()


def _paired(signature: Signature, pairs: Mapping[str, str]) -> Signature:
    inputs, outputs = ({spec.name for spec in side} for side in (signature.inputs, signature.outputs))
    if wrong := [f"{a!r}: {b!r}" for a, b in pairs.items() if a not in inputs or b not in outputs]:
        raise InputError(
            f"no such input and output: {', '.join(wrong)}", hint=f"inputs {sorted(inputs)}, outputs {sorted(outputs)}"
        )
    return replace(signature, state=tuple(StatePair(a, b) for a, b in pairs.items()))


def _zero(spec: TensorSpec, sizes: Mapping[int | str, int]) -> np.ndarray:
    return np.zeros([d if isinstance(d, int) else sizes.get(d, 1) for d in spec.shape], numpy_dtype(spec))


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}
