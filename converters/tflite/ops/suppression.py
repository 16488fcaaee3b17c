"""NonMaxSuppression: TFLite's own, once for each class of each picture, and the rows of all put together."""

from __future__ import annotations

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.shapes import empty
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []


@lowers("NonMaxSuppression")
def non_max_suppression(b: Builder, node: Node) -> Tensor:
    boxes, scores = node.input(0), node.input(1)
    if -1 in (*boxes.shape, *scores.shape):
        raise Unlowerable("the number of boxes is only known when the model runs")
    batches, classes, count = scores.shape
    limit = node.input(2) if node.has(2) else b.const(0, "int64")
    if 0 in scores.shape or (limit.data is not None and limit.data.max() <= 0):
        return empty(b, [0, 3], "int64")
    most = count if limit.data is None else int(min(limit.data.max(), count))
    corners, threshold = _corners(b, node, boxes)
    least = b.reshape(node.input(4), ()) if node.has(4) else b.const(-np.inf, "float32")
    runs = batches * classes
    vectors = b.ops("UNPACK", [b.reshape(scores, [runs, count])], [([count], None)] * runs, num=runs, axis=0)
    picked, counts = [], []
    for batch in range(batches):
        own = b.reshape(b.slice(corners, [batch, 0, 0], [1, count, 4]), [count, 4])
        for vector in vectors[batch * classes : (batch + 1) * classes]:
            inputs = [own, vector, b.const(most, "int32"), b.const(threshold, "float32"), least]
            places, number = b.ops("NON_MAX_SUPPRESSION_V4", inputs, [([most], "int32"), ([], "int32")])
            picked.append(places)
            counts.append(number)
    return _rows(b, picked, counts, classes, None if limit.data is not None else limit)


def _corners(b: Builder, node: Node, boxes: Tensor) -> tuple[Tensor, float]:
    """Boxes as TFLite wants them, and from which overlap on it is to suppress.

    Its kernel suppresses at the threshold, ONNX only beyond. And it picks a box again and again that does not
    overlap itself enough: one without area. Such boxes, which suppress nothing and are not suppressed, become squares
    far from all others and from each other; so do all where the threshold is 1.
    """
    overlap = np.float32(0) if not node.has(3) else np.float32(node.known(3, "the overlap").reshape(-1)[0])
    if not 0 <= overlap <= 1:
        raise Unlowerable(f"an overlap of {overlap}")
    count = boxes.shape[1]
    steps = 2 * np.arange(count)
    apart = np.stack([steps + 2, 0 * steps, steps + 3, 0 * steps + 1], -1)[None].astype("float32")
    if overlap == 1:
        return b.const(np.repeat(apart, boxes.shape[0], 0)), 0.5
    parts = [b.slice(boxes, [0, 0, i], [*boxes.shape[:2], 1]) for i in range(4)]
    if node.integer("center_point_box"):
        x, y, half_width, half_height = *parts[:2], b.mul(parts[2], 0.5), b.mul(parts[3], 0.5)
        parts = [b.sub(y, half_height), b.sub(x, half_width), b.add(y, half_height), b.add(x, half_width)]
        boxes = b.concat(parts, -1)
    area = b.mul(b.sub(parts[2], parts[0]), b.sub(parts[3], parts[1]))
    farthest = b.reduce("REDUCE_MAX", b.unary("ABS", boxes), [0, 1, 2], keep=True)
    outside = b.mul(b.binary("MAXIMUM", farthest, 1), b.const(apart))
    return b.where(b.binary("EQUAL", area, 0), outside, boxes), float(np.nextafter(overlap, np.float32(2)))


def _rows(b: Builder, picked: list[Tensor], counts: list[Tensor], classes: int, limit: Tensor | None) -> Tensor:
    """Batch, class and box, int64, of all that were picked."""
    runs, most = len(picked), picked[0].shape[0]
    places = b.op("PACK", picked, [runs, most], valuesCount=runs, axis=0)
    numbers = b.op("PACK", counts, [runs], valuesCount=runs, axis=0)
    if limit is not None:  # picked in order of their scores, so the first of many are those of a few
        wide = b.binary("MINIMUM", b.cast(numbers, "int64"), b.reshape(limit, [1]))
        numbers = b.cast(wide, "int32")
    is_picked = b.binary("LESS", b.ints(np.arange(most)[None]), b.reshape(numbers, [runs, 1]))
    where = b.op("WHERE", [is_picked], [-1, 2], "int64")
    boxes = b.op("GATHER_ND", [places, where], [-1])
    run = b.reshape(b.slice(where, [0, 0], [-1, 1]), [-1])
    owners = np.stack(np.divmod(np.arange(runs), classes), -1).astype("int64")
    return b.concat([b.gather(b.const(owners), run, 0), b.cast(b.reshape(boxes, [-1, 1]), "int64")], 1)
