"""What OpenVINO's reader and CPU kernels lack or get wrong (2026.4): rewritten where there is a way, else refused.

Every entry has a node test of ONNX that shows it: ``python -m tests.ops --road openvino``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.graph.folding import evaluate
from edgekit.graph.legalizing import (
    Gap,
    Nodes,
    Rule,
    dft_axis,
    legalize,
    move_batch_behind_time,
    move_dft_axis,
    refuse_gaps,
    scatter_cache,
    scatter_unpooled,
    wrap_by_gather,
)
from edgekit.graph.resizing import resize_by_tables
from edgekit.graph.walking import constant, int_attribute, set_ints, static_shape

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["for_openvino"]


def for_openvino(graph: ir.Model) -> ir.Model:
    """A copy of a hub graph with nothing in it that OpenVINO is known to misread.

    Raises:
        UnsupportedError: There are such things without another way to say them; lists them all.
    """
    graph = legalize(graph, _RULES)
    refuse_gaps(graph, _GAPS, "OpenVINO")
    return graph


def _resize(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    return resize_by_tables(node, new) if _foreign_resize(node) else None


def _foreign_resize(node: ir.Node) -> str:
    """Which property of a Resize the reader ignores or refuses; empty when none."""
    attributes = node.attributes
    if attributes.get_string("coordinate_transformation_mode") in ("tf_crop_and_resize", "half_pixel_symmetric"):
        return "its coordinates"
    if attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "keep_aspect_ratio_policy"
    return next((name for name in ("antialias", "exclude_outside") if int_attribute(node, name, 0)), "")


def _floor_last_window(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """MaxPool with ``ceil_mode``: a last window that would start in the padding does not count, but does here."""
    sizes = _pooled(node)
    if sizes is None or all(ceiled == kept for ceiled, kept, _ in sizes):
        return None
    half = [int(pad) for pad in node.attributes.get_ints("pads", []) or [0] * 2 * len(sizes)][: len(sizes)]
    values = list(new.again(node.inputs, "ceil_mode", "pads"))
    made = values[0].producer()
    assert made is not None
    set_ints(made, "pads", [*half, *(end for _, _, end in sizes)])
    return values


def _pooled(node: ir.Node) -> list[tuple[int, int, int]] | None:
    """By axis: the size OpenVINO gives, that of ONNX, and the padding behind that gives it without ``ceil_mode``."""
    shape = static_shape(node.inputs[0])
    padding = node.attributes.get_string("auto_pad", "NOTSET")
    if shape is None or not int_attribute(node, "ceil_mode", 0) or padding not in ("NOTSET", "VALID"):
        return None
    kernel = list(node.attributes.get_ints("kernel_shape", []) or [])
    ones, zeros = [1] * len(kernel), [0] * 2 * len(kernel)
    strides = node.attributes.get_ints("strides", ones) or ones
    dilations = node.attributes.get_ints("dilations", ones) or ones
    pads = node.attributes.get_ints("pads", zeros) or zeros
    found = []
    for i, length in enumerate(shape[2:]):
        span, begin, end, stride = dilations[i] * (kernel[i] - 1) + 1, pads[i], pads[i + len(kernel)], strides[i]
        ceiled = -(-(length + begin + end - span) // stride) + 1
        kept = ceiled - 1 if (ceiled - 1) * stride >= length + begin else ceiled
        found.append((ceiled, kept, max(end, (kept - 1) * stride + span - length - begin)))
    return found


def _compute(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """An operation on constants alone becomes its result."""
    known = [array for value in node.inputs if (array := constant(value)) is not None]
    if len(known) != len(node.inputs) or node.graph is None:
        return None
    return [new.constant(result, result.dtype.name) for result in evaluate(node, known)]


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("RNN", "GRU", "LSTM"), move_batch_behind_time),
    "DFT": move_dft_axis,
    "MaxPool": _floor_last_window,
    "MaxUnpool": scatter_unpooled,
    "MelWeightMatrix": _compute,
    "Pad": wrap_by_gather,
    "Resize": _resize,
    "TensorScatter": scatter_cache,
}


def _lstm(node: ir.Node) -> str:
    has_peepholes = len(node.inputs) > 7 and node.inputs[7] is not None
    return "its peephole weights would be left out" if has_peepholes else ""


def _dft(node: ir.Node) -> str:
    return "" if dft_axis(node) is not None else "its axis must be a constant: OpenVINO takes 1 whatever it is"


def _reduction(node: ir.Node) -> str:
    shape, axes = static_shape(node.inputs[0]), constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if shape is None or 0 not in shape:
        return ""
    reduced = range(len(shape)) if axes is None else [int(axis) for axis in axes]
    return "over no elements it must give infinity" if any(shape[axis] == 0 for axis in reduced) else ""


def _roi_align(node: ir.Node) -> str:
    mode = node.attributes.get_string("mode", "avg")
    return "mode max takes the largest interpolated point, ONNX the largest weighted one" if mode == "max" else ""


def _resize_gap(node: ir.Node) -> str:
    found = _foreign_resize(node)
    return f"OpenVINO does not honor {found}, and sizes are only known in a run" if found else ""


def _tile(node: ir.Node) -> str:
    return "" if constant(node.inputs[1]) is not None else "repeats only known in a run give garbage"


def _run_time_axes(node: ir.Node) -> str:
    given = node.inputs[1] if len(node.inputs) > 1 else None
    return "" if given is None or constant(given) is not None else "its axes must be constants"


_GAPS: Mapping[str, Gap] = {
    "DFT": _dft,
    "LSTM": _lstm,
    "ReduceLogSum": _run_time_axes,
    "ReduceMax": _reduction,
    "ReduceMin": _reduction,
    "Resize": _resize_gap,
    "RoiAlign": _roi_align,
    "Tile": _tile,
    "Unsqueeze": _run_time_axes,
}
