"""A graph without some of its channels: constants cut, and what depends on their number told the new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgekit.compress.coupling_rules import sliced_axes
from edgekit.compress.weights import set_weight
from edgekit.graph.walking import constant, fresh_name, initializer, int_attribute, rank, static_shape, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.compress.coupling import Coupling

__all__ = ["shrink"]


def shrink(model: ir.Model, coupling: Coupling, removed: np.ndarray) -> None:
    """Removes the channels of all labels that are marked, in place; shapes have to be inferred anew afterwards."""
    cut = _Cut(model, coupling, removed)
    for node in model.graph:
        if (rewrite := _REWRITES.get(node.op_type)) is not None and node.domain == "":
            rewrite(node, cut)
    for value, axis, labels in list(coupling.weights()):
        if removed[labels].any():
            array = constant(value)
            assert array is not None
            set_weight(value, np.take(array, np.flatnonzero(~removed[labels]), axis=axis))


class _Cut:
    """How large axes are afterwards, and constants of sizes rewritten."""

    def __init__(self, model: ir.Model, coupling: Coupling, removed: np.ndarray) -> None:
        self._model, self._coupling, self._removed = model, coupling, removed
        self._taken = value_names(model.graph)

    def stays(self, value: ir.Value | None, axis: int) -> np.ndarray | None:
        """For every place along an axis whether it stays; None for an axis that stays whole."""
        labels = self._coupling.of(value, axis)
        if labels is None or not self._removed[labels].any():
            return None
        return np.asarray(~self._removed[labels])

    def size(self, value: ir.Value | None, axis: int) -> int | None:
        """The new size of an axis; None for one that stays whole."""
        stays = self.stays(value, axis)
        return None if stays is None else int(np.count_nonzero(stays))

    def put(self, node: ir.Node, index: int, array: np.ndarray) -> None:
        """Gives a node an integer constant of its own."""
        old = node.inputs[index] if index < len(node.inputs) else None
        name = fresh_name(self._taken, f"{old.name if old is not None else node.name}_cut")
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, initializer(self._model.graph, name, array.astype("int64")))
        if old is not None and old.is_initializer() and not old.uses() and old.graph is self._model.graph:
            del self._model.graph.initializers[old.name or ""]


def _conv(node: ir.Node, cut: _Cut) -> None:
    """A depthwise convolution has as many groups as channels."""
    import onnx_ir as ir

    shape = static_shape(node.inputs[1])
    groups = int_attribute(node, "group", 1)
    if groups > 1 and shape is not None and shape[1] == 1 and (size := cut.size(node.inputs[0], 1)) is not None:
        node.attributes["group"] = ir.AttrInt64("group", size)


def _reshape(node: ir.Node, cut: _Cut) -> None:
    out, target = node.outputs[0], constant(node.inputs[1])
    sizes = {axis: size for axis in range(rank(out) or 0) if (size := cut.size(out, axis)) is not None}
    if target is not None and any(target[axis] > 0 for axis in sizes):
        put = [sizes.get(axis, int(size)) if size > 0 else int(size) for axis, size in enumerate(target)]
        cut.put(node, 1, np.asarray(put))


def _split(node: ir.Node, cut: _Cut) -> None:
    axis = int_attribute(node, "axis", 0) % (rank(node.inputs[0]) or 1)
    if cut.size(node.inputs[0], axis) is None:
        return
    sizes = [cut.size(out, axis) for out in node.outputs]
    old = [static_shape(out) or () for out in node.outputs]
    put = [shape[axis] if size is None else size for size, shape in zip(sizes, old, strict=True)]
    node.attributes.pop("num_outputs", None)
    cut.put(node, 1, np.asarray(put))


def _slice(node: ir.Node, cut: _Cut) -> None:
    source, spans = node.inputs[0], sliced_axes(node)
    changed = {axis: stays for axis in spans or () if (stays := cut.stays(source, axis)) is not None}
    if not changed or spans is None:
        return
    starts, stops = (constant(value) for value in node.inputs[1:3])
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    assert starts is not None
    assert stops is not None
    starts, stops = starts.copy(), stops.copy()
    for place in range(len(starts)):
        axis = int(place if axes is None else axes[place]) % (rank(source) or 1)
        if axis in changed:
            start, stop, _ = spans[axis]
            starts[place], stops[place] = (int(np.count_nonzero(changed[axis][:end])) for end in (start, stop))
    cut.put(node, 1, starts)
    cut.put(node, 2, stops)


def _resize(node: ir.Node, cut: _Cut) -> None:
    sizes = constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    size = cut.size(node.outputs[0], 1)
    if sizes is not None and size is not None:
        put = sizes.copy()
        put[1] = size
        cut.put(node, 3, put)


_REWRITES: dict[str, Callable[[ir.Node, _Cut], None]] = {
    "Conv": _conv,
    "Reshape": _reshape,
    "Split": _split,
    "Slice": _slice,
    "Resize": _resize,
}
