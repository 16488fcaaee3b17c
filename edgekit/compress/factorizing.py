"""One large product as two small ones: truncated singular value decompositions of dense layers and convolutions.

A matrix of rank r splits into two; a convolution, by what its kernel is laid out as, into a column and a row kernel
("Speeding up Convolutional Neural Networks with Low Rank Expansions", Jaderberg et al., 2014, and in closed form
"Convolutional neural networks with low-rank regularization", Tai et al., 2016) or into fewer filters and a 1 x 1
convolution that mixes them ("Accelerating Very Deep Convolutional Networks", Zhang et al., 2015). By the theorem of
Eckart and Young the error of the best such pair is the root of the squares of the singular values left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.compress.weights import Changed, Weight, relative_error, require, weights_of
from edgekit.graph.naming import name_everything
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import copy_of, fresh_name, initializer, int_attribute, value_names, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Split", "factorize", "split_matrix"]

_SUFFIX = "/low_rank"


@dataclass(frozen=True)
class Split:
    """Two factors in the place of one weight.

    Attributes:
        first: The weight applied first.
        second: The weight applied to what the first one gives.
        macs: Multiply-accumulates of both as a share of the weight's own.
        error: Relative error of their product.
        is_spatial: Whether they are a column and a row kernel.
    """

    first: np.ndarray
    second: np.ndarray
    macs: float
    error: float
    is_spatial: bool = False


def factorize(graph: ir.Model, *, max_error: float = 0.1, max_macs: float = 0.9, skip: Sequence[str] = ()) -> Changed:
    """A copy in which layers whose weights are nearly of low rank are two smaller layers.

    The second keeps the layer's name, bias and output; the first is called ``NAME/low_rank``. Looked at are MatMul and
    Gemm with a constant matrix and convolutions of one group; every layer takes the form with the fewest
    multiply-accumulates, and the least rank, whose error is allowed.

    Args:
        graph: A hub graph; it is not changed.
        max_error: Relative error of a layer's weight, by its root mean square, above 0 and below 1.
        max_macs: What a layer may cost afterwards as a share of what it did, at most 1; others stay as they are.
        skip: Patterns for names of operations that stay.

    Raises:
        UnsupportedError: A parameter is out of range, or a pattern matches nothing.
    """
    require(0 < max_error < 1, "max_error", "a number above 0 and below 1", max_error)
    require(0 < max_macs <= 1, "max_macs", "a number above 0 and at most 1", max_macs)
    model = name_everything(copy_of(graph))
    by_value = {id(weight.value): weight for weight in weights_of(model, skip)}
    taken = value_names(model.graph) | {node.name or "" for node, _ in walk(model.graph)}
    errors: dict[str, float] = {}
    done = {name for node in model.graph for name in (node.name or "",) if name.endswith(_SUFFIX)}
    for node in list(model.graph):
        if node.name in done or f"{node.name}{_SUFFIX}" in done:
            continue
        weight = by_value.get(id(node.inputs[1])) if len(node.inputs) > 1 else None
        if weight is None or node.domain != "" or len(weight.value.uses()) != 1:
            continue
        split = _split(node, weight, max_error)
        if split is not None and split.macs <= max_macs and split.macs < 1:
            _put(model, node, weight, split, taken)
            errors[node.name or ""] = split.error
    return (infer_shapes(model) if errors else model), errors


def split_matrix(matrix: np.ndarray, max_error: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Two factors of the least rank whose product is near enough to `matrix`, and the relative error.

    Args:
        matrix: Of two axes.
        max_error: Largest relative error in the Frobenius norm.

    Returns:
        Arrays of shapes [rows, rank] and [rank, columns], float32, with the root of a singular value in each, so that
        neither has much larger numbers than the other.
    """
    left, values, right = np.linalg.svd(matrix.astype("float64"), full_matrices=False)
    tails = np.sqrt(np.append(np.cumsum((values**2)[::-1])[::-1], 0.0))
    rank = max(1, int(np.argmax(tails <= max_error * tails[0])))
    roots = np.sqrt(values[:rank])
    first, second = (left[:, :rank] * roots).astype("float32"), (roots[:, None] * right[:rank]).astype("float32")
    return first, second, relative_error(matrix, first.astype("float64") @ second)


def _split(node: ir.Node, weight: Weight, max_error: float) -> Split | None:
    if node.op_type in ("MatMul", "Gemm"):
        return _split_dense(node, weight, max_error)
    if node.op_type == "Conv" and int_attribute(node, "group", 1) == 1 and _pads_are_plain(node):
        found = [_split_channels(node, weight.array, max_error), _split_kernel(node, weight.array, max_error)]
        return min((split for split in found if split is not None), key=lambda split: split.macs)
    return None


def _split_dense(node: ir.Node, weight: Weight, max_error: float) -> Split | None:
    if weight.array.ndim != 2 or weight.op_type != node.op_type:
        return None
    is_turned = node.op_type == "Gemm" and bool(int_attribute(node, "transB", 0))
    matrix = weight.array.T if is_turned else weight.array
    first, second, error = split_matrix(matrix, max_error)
    if is_turned:
        second = np.ascontiguousarray(second.T)
    return Split(first, second, (first.size + second.size) / matrix.size, error)


def _split_channels(node: ir.Node, kernel: np.ndarray, max_error: float) -> Split:
    """Fewer filters of the same kernel, at the same places, and a 1 x 1 convolution."""
    mixing, filters, error = split_matrix(kernel.reshape(len(kernel), -1), max_error)
    first = filters.reshape(-1, *kernel.shape[1:])
    second = mixing.reshape(*mixing.shape, *[1] * (kernel.ndim - 2))
    return Split(first, second, (first.size + second.size) / kernel.size, error)


def _split_kernel(node: ir.Node, kernel: np.ndarray, max_error: float) -> Split | None:
    """A column of kernels [rank, in, height, 1] and a row [out, rank, 1, width]."""
    if kernel.ndim != 4 or min(kernel.shape[2:]) == 1:
        return None
    outs, ins, height, width = kernel.shape
    matrix = kernel.transpose(1, 2, 0, 3).reshape(ins * height, outs * width)
    columns, rows, error = split_matrix(matrix, max_error)
    first = np.ascontiguousarray(columns.T.reshape(-1, ins, height, 1))
    second = np.ascontiguousarray(rows.reshape(-1, outs, 1, width).transpose(1, 0, 2, 3))
    # The column kernel runs before the stride along the width, so it has that many more places.
    macs = (first.size * _ints(node, "strides", [1, 1])[1] + second.size) / kernel.size
    return Split(first, second, macs, error, is_spatial=True)


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())


def _pads_are_plain(node: ir.Node) -> bool:
    attribute = node.attributes.get("auto_pad")
    return attribute is None or attribute.as_string() in ("NOTSET", "VALID")


def _put(model: ir.Model, node: ir.Node, weight: Weight, split: Split, taken: set[str]) -> None:
    import onnx_ir as ir

    base = weight.value.name or ""
    names = [fresh_name(taken, f"{base}_{part}") for part in ("first", "second")]
    factors = [initializer(model.graph, *pair) for pair in zip(names, (split.first, split.second), strict=True)]
    source = node.inputs[0]
    name = fresh_name(taken, f"{node.name}{_SUFFIX}")
    if node.op_type == "Conv":
        attributes, own = _conv_attributes(node, weight.array.ndim - 2, split.is_spatial)
        first = ir.node("Conv", [source, factors[0]], attributes=attributes, name=name)
        for key in ("strides", "pads", "dilations", "kernel_shape", "auto_pad"):
            node.attributes.pop(key, None)
        node.attributes.update({key: ir.AttrInt64s(key, numbers) for key, numbers in own.items()})
    elif node.op_type == "Gemm":
        turned = {"transA": int_attribute(node, "transA", 0)}
        first = ir.node("Gemm", [source, factors[0]], attributes=turned, name=name)
        node.attributes.pop("transA", None)
    else:
        first = ir.node("MatMul", [source, factors[0]], name=name)
    first.outputs[0].name = name
    first.outputs[0].type = node.outputs[0].type
    assert node.graph is not None
    node.graph.insert_before(node, first)
    node.replace_input_with(0, first.outputs[0])
    node.replace_input_with(1, factors[1])
    del model.graph.initializers[base]


def _conv_attributes(node: ir.Node, dims: int, is_spatial: bool) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Attributes of the first convolution and of the second."""
    given = {
        "strides": _ints(node, "strides", [1] * dims),
        "dilations": _ints(node, "dilations", [1] * dims),
        "pads": _ints(node, "pads", [0] * 2 * dims),
    }
    if not is_spatial:
        return given, {}
    (top, left, bottom, right) = given["pads"]
    (down, across), (dilated_down, dilated_across) = given["strides"], given["dilations"]
    return (
        {"strides": [down, 1], "dilations": [dilated_down, 1], "pads": [top, 0, bottom, 0]},
        {"strides": [1, across], "dilations": [1, dilated_across], "pads": [0, left, 0, right]},
    )
