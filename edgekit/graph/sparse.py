"""Sparse constants, which onnx-ir does not read, made dense in the file's own form before it does."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["make_dense"]


def make_dense(graph: Any) -> int:
    """Replaces sparse initializers and sparse Constant nodes of an ``onnx.GraphProto``, those of inner graphs included.

    Returns:
        How many there were.
    """
    count = len(graph.sparse_initializer)
    graph.initializer.extend(_dense(sparse, sparse.values.name) for sparse in graph.sparse_initializer)
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                count += make_dense(inner)
            if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                tensor = _dense(attribute.sparse_tensor, "")
                attribute.Clear()
                attribute.name, attribute.type = "value", attribute.TENSOR
                attribute.t.CopyFrom(tensor)
                count += 1
    return count


def _dense(sparse: Any, name: str) -> Any:
    """Indices are places in the flattened tensor, or, in two dimensions, one place on each axis."""
    from onnx import numpy_helper

    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 2:
        array[tuple(indices.T)] = values
    else:
        array.reshape(-1)[indices] = values
    return numpy_helper.from_array(array, name)
