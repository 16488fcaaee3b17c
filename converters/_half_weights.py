"""Weights of an ONNX graph stored in half precision, computed with in single precision."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.walking import constant, copy_of, dtype_name, fresh_name, initializer, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MIN_ELEMENTS", "half_notes", "halve_weights", "halved"]

MIN_ELEMENTS = 64
"""Below this the conversion back is larger than what it saves; sizes and limits that operations read are small too."""


def halved(array: np.ndarray) -> np.ndarray | None:
    """The numbers as float16; None where one of them is too large for it."""
    with np.errstate(over="ignore", under="ignore"):
        half = array.astype("float16")
    return half if np.array_equal(np.isfinite(half), np.isfinite(array)) else None


def half_notes(kept: list[str]) -> list[str]:
    """What a user should know of a file of halved weights, of which those named `kept` are not."""
    note = "weights are stored in half precision; inputs, outputs and arithmetic are fp32"
    return [note, *([f"too large for half precision, stored as fp32: {', '.join(kept)}"] if kept else [])]


def halve_weights(graph: ir.Model, names: Collection[str] | None = None) -> tuple[ir.Model, list[str]]:
    """A copy with float32 initializers stored as float16 and cast back; engines fold the casts when they load.

    Args:
        graph: A hub graph.
        names: Of the initializers; all by default.

    Returns:
        The copy, and the names of weights that stay float32 because a number in them is too large for float16.
    """
    import onnx_ir as ir

    model = copy_of(graph)
    taken = value_names(model.graph)
    kept = []
    for name, value in list(model.graph.initializers.items()):
        array = constant(value) if names is None or name in names else None
        if array is None or dtype_name(value) != "float32" or array.size < MIN_ELEMENTS or value.is_graph_output():
            continue
        half = halved(array)
        if half is None:
            kept.append(name)
            continue
        stored = initializer(model.graph, fresh_name(taken, f"{name}_half"), half)
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=fresh_name(taken, f"{name}_cast"))
        cast.outputs[0].name = fresh_name(taken, f"{name}_single")
        cast.outputs[0].shape, cast.outputs[0].type = value.shape, value.type
        value.replace_all_uses_with(cast.outputs[0])
        model.graph.initializers.pop(name)
        model.graph.insert_before(model.graph[0], cast)
    return model, kept
