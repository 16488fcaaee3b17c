"""Weights of an ONNX graph stored in half precision, computed with in single precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.walking import constant, copy_of, dtype_name, fresh_name, initializer, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["halve_weights"]

_MIN_ELEMENTS = 64
"""Below this a Cast node would be larger than what it saves; sizes and limits that operations read are smaller too."""


def halve_weights(graph: ir.Model) -> tuple[ir.Model, list[str]]:
    """A copy with float32 initializers stored as float16 and cast back; engines fold the casts when they load.

    Returns:
        The copy, and the names of weights that stay float32 because a number in them is too large for float16.
    """
    import onnx_ir as ir

    model = copy_of(graph)
    taken = value_names(model.graph)
    kept = []
    for name, value in list(model.graph.initializers.items()):
        array = constant(value)
        if array is None or dtype_name(value) != "float32" or array.size < _MIN_ELEMENTS or value.is_graph_output():
            continue
        with np.errstate(over="ignore", under="ignore"):
            half = array.astype("float16")
        if not np.array_equal(np.isfinite(half), np.isfinite(array)):
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
