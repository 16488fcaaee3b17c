"""The weights of a graph that are worth compressing, and what was done to them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.graph.walking import constant, dtype_name, int_attribute, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Changed", "Weight", "relative_error", "require", "set_weight", "skipped_nodes", "weights_of"]

Changed: TypeAlias = "tuple[ir.Model, dict[str, float]]"
"""A method's answer: the new graph, and for every operation it touched by name the relative error of its weights."""

_PLACES = {"Conv": (1,), "ConvTranspose": (1,), "MatMul": (1,), "Gemm": (1,), "Gather": (0,), "LSTM": (1, 2),
           "GRU": (1, 2), "RNN": (1, 2)}  # fmt: skip
_MIN_ELEMENTS = 64
"""Smaller weights are no place to save anything."""


@dataclass(frozen=True)
class Weight:
    """A constant that an operation multiplies by, or looks rows up in.

    Attributes:
        node: Name of the first operation that reads it.
        op_type: Of that operation.
        value: The initializer.
        array: Its numbers, float32, of two or more axes.
        sum_axis: The axis products are summed over; None where nothing is.
    """

    node: str
    op_type: str
    value: ir.Value
    array: np.ndarray
    sum_axis: int | None


def weights_of(model: ir.Model, skip: Collection[str] = ()) -> list[Weight]:
    """Every float32 weight of 64 numbers or more, once, in the order of the graph.

    Args:
        model: A hub graph; bodies of its If, Loop and Scan nodes are looked into.
        skip: Patterns for names of nodes to leave alone; a weight that one of those reads is left alone too.

    Raises:
        UnsupportedError: A pattern matches no node.
    """
    spared = skipped_nodes(model, skip)
    nodes = [node for node, _ in walk(model.graph) if node.domain == ""]
    kept = {id(value) for node in nodes if node.name in spared for value in node.inputs}
    found: dict[int, Weight] = {}
    for node in nodes:
        for place in _PLACES.get(node.op_type, ()):
            value = node.inputs[place] if place < len(node.inputs) else None
            if value is None or id(value) in kept or id(value) in found or dtype_name(value) != "float32":
                continue
            array = constant(value)
            if array is not None and array.ndim >= 2 and array.size >= _MIN_ELEMENTS and np.isfinite(array).all():
                found[id(value)] = Weight(node.name or "", node.op_type, value, array, _sum_axis(node, array))
    return list(found.values())


def _sum_axis(node: ir.Node, weight: np.ndarray) -> int | None:
    if node.op_type == "Gemm":
        return 1 if int_attribute(node, "transB", 0) else 0
    axes = {"Conv": 1, "ConvTranspose": 0, "MatMul": weight.ndim - 2, "Gather": None}
    return axes.get(node.op_type, weight.ndim - 1)


def skipped_nodes(model: ir.Model, skip: Collection[str]) -> set[str]:
    """Names of the nodes that match one of the patterns. Raises UnsupportedError for a pattern that matches none."""
    require(not isinstance(skip, str), "skip", "a list of patterns", skip)
    names = [node.name or "" for node, _ in walk(model.graph)]
    if idle := [pattern for pattern in skip if not any(fnmatchcase(name, pattern) for name in names)]:
        raise UnsupportedError(
            "patterns of 'skip' match no operation", offenders=idle, hint="`edgekit inspect` lists names"
        )
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in skip)}


def set_weight(value: ir.Value, array: np.ndarray) -> None:
    """Gives an initializer other numbers, of any shape."""
    import onnx_ir as ir

    tensor = ir.tensor(np.ascontiguousarray(array), name=value.name)
    value.const_value, value.shape = tensor, ir.Shape(array.shape)


def relative_error(before: np.ndarray, after: np.ndarray) -> float:
    """Root of the squared difference over the root of the squares; 0 for two arrays of zeros."""
    power = float(np.square(before, dtype="float64").sum())
    return float(np.sqrt(np.square(after.astype("float64") - before).sum() / power)) if power else 0.0


def require(holds: bool, name: str, wanted: str, given: object) -> None:
    """Raises UnsupportedError saying what `name` has to be unless it is."""
    if not holds:
        raise UnsupportedError(f"{name!r} is {wanted}, not {given!r}")


def worst(errors: Sequence[float]) -> float:
    return max(errors, default=0.0)
