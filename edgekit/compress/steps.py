"""The `compress` steps of a recipe, and what each of them did.

    {"method": "prune-channels", "macs": 0.5, "skip": ["head*"]}

A method is a function in a file of its own, from a graph and parameters that have names and types to the new graph and
the operations it touched; a line in `METHODS` makes it known.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compress.clustering import pack_halves, palette_of
from edgekit.compress.weights import Changed, worst
from edgekit.errors import EdgekitError, UnsupportedError
from edgekit.graph.cost import costs
from edgekit.graph.files import weight_bytes
from edgekit.graph.naming import name_everything
from edgekit.graph.walking import constant, copy_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["METHODS", "Effect", "Step", "compress", "read_steps"]

METHODS: Mapping[str, str] = {
    "prune-magnitude": "edgekit.compress.pruning:prune_magnitude",
    "prune-n-m": "edgekit.compress.pruning:prune_n_m",
    "prune-channels": "edgekit.compress.channels:prune_channels",
    "cluster": "edgekit.compress.clustering:cluster",
    "factorize": "edgekit.compress.factorizing:factorize",
}

_WORDS = {"float": "a number", "int": "a whole number", "str": "a text", "Sequence[str]": "a list of texts"}


@dataclass(frozen=True)
class Step:
    """One thing to do: a method and its parameters, checked against what the method takes."""

    method: str
    parameters: Mapping[str, Any]
    run: Callable[..., Changed]
    takes_feeds: bool


@dataclass(frozen=True)
class Effect:
    """What a step did to a graph.

    Attributes:
        method: Name of the method.
        parameters: As they were given.
        operations: Names of the operations it touched, in the order of the graph; none is an answer too.
        weight_bytes_before: Of all constants, as they are.
        weight_bytes_after: The same afterwards.
        gzip_bytes_before: Of all constants behind zlib of level 6.
        gzip_bytes_after: The same afterwards.
        palette_gzip_bytes_after: The same with weights of few values stored as palettes; see `store_palettes`.
        macs_before: Multiply-accumulates, open sizes taken as 1; zeros count, since engines multiply by them.
        macs_after: The same afterwards.
        max_weight_error: Largest relative error of the weights of an operation, by root mean squares.
    """

    method: str
    parameters: Mapping[str, Any]
    operations: tuple[str, ...]
    weight_bytes_before: int
    weight_bytes_after: int
    gzip_bytes_before: int
    gzip_bytes_after: int
    palette_gzip_bytes_after: int
    macs_before: int
    macs_after: int
    max_weight_error: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compress(
    graph: ir.Model, steps: Iterable[Mapping[str, Any]], *, feeds: Sequence[Mapping[str, np.ndarray]] = ()
) -> tuple[ir.Model, list[Effect]]:
    """Does the steps in their order and says what each did; the graph given is not changed.

    Names of nodes, inputs and outputs stay; nodes without one get one.

    Args:
        graph: A cleaned hub graph.
        steps: Each ``{"method": NAME, ...}`` with the parameters of the method by name.
        feeds: Typical inputs by name, for methods that look at activations.

    Raises:
        UnsupportedError: A step is wrong, or cannot be done to this graph; it says which step and why.
        InputError: A method needs feeds and there are none.
    """
    read = read_steps(steps)
    model, effects = name_everything(copy_of(graph)), []
    for number, step in enumerate(read, start=1):
        given = {"feeds": feeds} if step.takes_feeds else {}
        try:
            changed, errors = step.run(model, **step.parameters, **given)
        except EdgekitError as error:
            error.args = (f"step {number}, {step.method}: {error.args[0] if error.args else error.message}",)
            error.message = f"step {number}, {step.method}: {error.message}"
            raise
        effects.append(_effect(step, model, changed, errors))
        model = changed
    return model, effects


def read_steps(steps: Iterable[Mapping[str, Any]]) -> list[Step]:
    """The steps with their functions. Raises UnsupportedError listing all that is wrong with any of them."""
    found, wrong = [], []
    for number, step in enumerate(steps, start=1):
        method = step.get("method") if isinstance(step, Mapping) else None
        if not isinstance(method, str) or method not in METHODS:
            wrong.append(f"step {number}: there is no method {method!r}, only {', '.join(METHODS)}")
            continue
        module, _, name = METHODS[method].partition(":")
        run = getattr(import_module(module), name)
        given = {key: value for key, value in step.items() if key != "method"}
        known = {key: p for key, p in inspect.signature(run).parameters.items() if p.kind is p.KEYWORD_ONLY}
        takes_feeds = known.pop("feeds", None) is not None
        wrong += [f"step {number}, {method}: {complaint}" for complaint in _complaints(given, known)]
        found.append(Step(method, given, run, takes_feeds))
    if wrong:
        raise UnsupportedError("the steps of compression cannot be followed", offenders=wrong)
    return found


def _complaints(given: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> list[str]:
    said = [f"there is no {name!r}, only {', '.join(known)}" for name in given if name not in known]
    for name, parameter in known.items():
        if name not in given:
            said += [f"{name!r} is missing"] if parameter.default is parameter.empty else []
            continue
        kind = str(parameter.annotation).removesuffix(" | None")
        if not _is_of(given[name], kind) and not (given[name] is None and parameter.default is None):
            said.append(f"{name!r} is {_WORDS[kind]}, not {given[name]!r}")
    return said


def _is_of(value: Any, kind: str) -> bool:
    if kind == "Sequence[str]":
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    types = {"float": (int, float), "int": (int,), "str": (str,)}
    return isinstance(value, types[kind]) and not isinstance(value, bool)


def _effect(step: Step, before: ir.Model, after: ir.Model, errors: Mapping[str, float]) -> Effect:
    order = {node.name or "": None for node in after.graph}
    touched = [name for name in order if name in errors]
    gzipped = [_gzip_bytes(model) for model in (before, after)]
    macs = [sum(cost.macs or 0 for cost in costs(model)) for model in (before, after)]
    return Effect(
        method=step.method,
        parameters=dict(step.parameters),
        operations=(*touched, *(name for name in errors if name not in order)),
        weight_bytes_before=weight_bytes(before),
        weight_bytes_after=weight_bytes(after),
        gzip_bytes_before=gzipped[0],
        gzip_bytes_after=gzipped[1],
        palette_gzip_bytes_after=_gzip_bytes(after, as_palettes=True),
        macs_before=macs[0],
        macs_after=macs[1],
        max_weight_error=worst(list(errors.values())),
    )


def _gzip_bytes(model: ir.Model, *, as_palettes: bool = False) -> int:
    """Bytes of all constants of the outer graph behind zlib of level 6, one after the other."""
    packer, size = zlib.compressobj(6), 0
    for value in model.graph.initializers.values():
        array = constant(value)
        if array is None:
            continue
        found = palette_of(array) if as_palettes and array.dtype == np.float32 and array.ndim >= 2 else None
        if found is not None and len(found[0]) <= 16:
            found = found[0], pack_halves(found[1])
        for part in found or (array,):
            size += len(packer.compress(np.ascontiguousarray(part).tobytes()))
    return size + len(packer.flush())
