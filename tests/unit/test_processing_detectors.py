"""Raw outputs to boxes, points and vectors; held against ONNX Runtime and the formulas written out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ArtifactError, InputError
from edgekit.processing import STEPS, Processing, StepContext
from edgekit.processing.geometry import Geometry, Track

RNG = np.random.default_rng(5)
NOTHING = StepContext()


def of_100_by_50() -> StepContext:
    return StepContext(track=Track(Geometry.whole(100, 50)))


def made(op: str, **arguments: Any) -> Any:
    return STEPS.get(op)(**arguments)


def test_offsets_from_anchors_are_decoded_as_ssd_says() -> None:
    anchors = RNG.uniform(0.2, 0.6, (30, 4)).astype("float32")
    offsets = RNG.normal(0, 1, (30, 4)).astype("float32")
    arguments = {"anchors": anchors.tolist(), "scales": [10, 10, 5, 5], "sizes": "exponential", "activation": "none"}
    scores = np.zeros((1, 30, 2), "float32")
    ours = made("decode_anchors", **arguments)({"boxes": offsets[None], "scores": scores}, NOTHING)
    for row in range(30):
        (x, y, w, h), (dx, dy, dw, dh) = anchors[row].tolist(), offsets[row].tolist()
        center, half = (x + dx / 10 * w, y + dy / 10 * h), (w * math.exp(dw / 5) / 2, h * math.exp(dh / 5) / 2)
        want = [center[0] - half[0], center[1] - half[1], center[0] + half[0], center[1] + half[1]]
        np.testing.assert_allclose(ours["boxes"][0, row], want, rtol=1e-5, atol=1e-6)
    turned = made("decode_anchors", **arguments, order="yxhw")(
        {"boxes": offsets[None][:, :, [1, 0, 3, 2]], "scores": scores}, NOTHING
    )
    np.testing.assert_allclose(turned["boxes"], ours["boxes"], atol=1e-7)


def test_anchors_of_grids_are_the_middles_of_cells_row_by_row() -> None:
    decode = made("decode_anchors", grids=[[2, 3, 2], [1, 1, 1]], scales=10, points=1)
    raw = np.zeros((1, 13, 6), "float32")
    raw[0, :, 2:4] = 2.0  # a fifth of the input
    raw[0, 1, 4:] = 5.0, -5.0
    logits = np.zeros((1, 13, 1), "float32")
    found = decode({"boxes": raw, "scores": logits}, NOTHING)
    middles = found["boxes"][0, :, :2] + 0.1
    np.testing.assert_allclose(middles[:4], [[1 / 6, 0.25], [1 / 6, 0.25], [0.5, 0.25], [0.5, 0.25]], atol=1e-6)
    np.testing.assert_allclose(middles[6], [1 / 6, 0.75], atol=1e-6)
    np.testing.assert_allclose(middles[12], [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(found["points"][0, 1, 0], [1 / 6 + 0.5, 0.25 - 0.5], atol=1e-6)
    assert (found["scores"] == 0.5).all()


def test_a_grid_is_decoded_cell_by_cell() -> None:
    raw = RNG.normal(0, 1, (1, 4 * 6 + 2 * 3, 7)).astype("float32")
    found = made("decode_grid", size=[32, 48], strides=[8, 16], activation="sigmoid")({"y": raw}, NOTHING)
    row = 0
    for stride in (8, 16):
        for down in range(32 // stride):
            for across in range(48 // stride):
                x, y, w, h, sure, *classes = raw[0, row].tolist()
                center = (x + across) * stride / 48, (y + down) * stride / 32
                half = math.exp(w) * stride / 96, math.exp(h) * stride / 64
                want = [center[0] - half[0], center[1] - half[1], center[0] + half[0], center[1] + half[1]]
                np.testing.assert_allclose(found["boxes"][0, row], want, rtol=1e-5, atol=1e-6)
                likely = [1 / (1 + math.exp(-sure)) / (1 + math.exp(-value)) for value in classes]
                np.testing.assert_allclose(found["scores"][0, row], likely, rtol=1e-5)
                row += 1


def test_boxes_and_scores_in_one_output_are_split() -> None:
    boxes, scores, points = RNG.uniform(0, 640, (9, 4)), RNG.random((9, 3)), RNG.uniform(0, 640, (9, 4))
    rows = np.concatenate([boxes, scores, points], 1).astype("float32")
    last = made("split_boxes", size=[640, 640], points=2)({"y": rows.T[None]}, NOTHING)
    first = made("split_boxes", size=[640, 640], points=2, anchors="first")({"y": rows[None]}, NOTHING)
    for found in (last, first):
        want = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1) / 640
        np.testing.assert_allclose(found["boxes"][0], want, atol=1e-6)
        np.testing.assert_allclose(found["scores"][0], scores, atol=1e-6)
        np.testing.assert_allclose(found["points"][0].reshape(9, 4), points / 640, atol=1e-6)
    sure = made("split_boxes", anchors="first", form="xyxy", has_objectness=True)({"y": rows[None, :, :7]}, NOTHING)
    np.testing.assert_allclose(sure["scores"][0], scores[:, :1] * scores[:, 1:], rtol=1e-5)
    np.testing.assert_allclose(sure["boxes"][0], boxes, rtol=1e-6)


def suppress_by_onnxruntime(boxes: np.ndarray, scores: np.ndarray, iou: float, threshold: float) -> np.ndarray:
    """[kept, 3]: 0, class, box, as the operation NonMaxSuppression gives them for one picture."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    values = {"most": np.int64(1000), "iou": np.float32(iou), "threshold": np.float32(threshold)}
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", *values], ["kept"])],
        "suppress",
        [helper.make_tensor_value_info(name, kinds.FLOAT, [1, None, None]) for name in ("boxes", "scores")],
        [helper.make_tensor_value_info("kept", kinds.INT64, [None, 3])],
        [onnx.numpy_helper.from_array(np.array([value]), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"boxes": boxes[None], "scores": scores.T[None]})[0]


def test_what_is_kept_is_what_onnxruntime_keeps() -> None:
    corner, side = RNG.uniform(0, 0.7, (200, 2)), RNG.uniform(0.05, 0.3, (200, 2))
    boxes = np.concatenate([corner, corner + side], 1).astype("float32")
    scores = RNG.random((200, 3)).astype("float32")
    kept = suppress_by_onnxruntime(boxes, scores, 0.4, 0.3)
    ours = made("detections", threshold=0.3, iou=0.4, count=600)(
        {"boxes": boxes[None], "scores": scores[None]}, NOTHING
    )
    theirs = sorted(((float(scores[row, kind]), f"class {kind}", boxes[row]) for _, kind, row in kept), reverse=True)
    assert [entry["label"] for entry in ours] == [label for _, label, _ in theirs]
    np.testing.assert_allclose([entry["score"] for entry in ours], [score for score, _, _ in theirs])
    np.testing.assert_allclose([entry["box"] for entry in ours], [box for _, _, box in theirs], atol=1e-7)


def test_points_stand_beside_their_box() -> None:
    outputs = {
        "boxes": np.array([[[0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.9, 0.9]]], "float32"),
        "scores": np.array([[[0.6], [0.8]]], "float32"),
        "points": np.array([[[[0.1, 0.2]], [[0.6, 0.7]]]], "float32"),
    }
    found = made("detections", unit="pixels")(outputs, of_100_by_50())
    np.testing.assert_allclose([entry["points_px"][0] for entry in found], [[60, 35], [10, 10]], atol=1e-4)


def test_landmarks_are_read_in_order_and_judged() -> None:
    rows = np.array([[8.0, 16.0, 3.0, 0.0], [16.0, 0.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0]], "float32")
    outputs: Mapping[str, np.ndarray] = {"y": rows.reshape(1, -1), "there": np.array([[0.5]], "float32")}
    read = made(
        "landmarks", name=["x", "y"], size=[32, 16], values=4, count=2, visible=3, visible_activation="sigmoid",
        presence="there",
    )  # fmt: skip
    found = read(outputs, StepContext(labels=("nose", "chin"), track=of_100_by_50().track))
    assert [entry["label"] for entry in found] == ["nose", "chin"]
    np.testing.assert_allclose([entry["point"] for entry in found], [[0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose([entry["score"] for entry in found], [0.25, 0.5 / (1 + math.exp(-2))], rtol=1e-6)
    bare = made("landmarks", name="y", size=[32, 16], values=4, unit="pixels")(outputs, of_100_by_50())
    assert list(bare[0]) == ["label", "point_px"]
    assert bare[0]["point_px"] == [50.0, 25.0]


def test_the_highest_cell_of_each_map_is_a_point() -> None:
    maps = np.zeros((1, 2, 4, 8), "float32")
    maps[0, 0, 1, 2], maps[0, 0, 1, 3], maps[0, 0, 2, 2] = 1.0, 0.5, 0.25
    maps[0, 1, 3, 7] = 0.7  # at the edge there is no quarter to go
    found = made("heatmap_points")(maps, NOTHING)
    np.testing.assert_allclose(found[0]["point"], [(2 + 0.5 + 0.25) / 8, (1 + 0.5 + 0.25) / 4])
    np.testing.assert_allclose(found[1]["point"], [7.5 / 8, 3.5 / 4])
    np.testing.assert_allclose([entry["score"] for entry in found], [1.0, 0.7])
    last = made("heatmap_points", layout="HWC", refine=False)(maps.transpose(0, 2, 3, 1), NOTHING)
    np.testing.assert_allclose(last[0]["point"], [2.5 / 8, 1.5 / 4])


# --- vectors ---------------------------------------------------------------------------------------------------------


def test_states_are_pooled_over_the_tokens_that_are_there_and_padding_changes_nothing() -> None:
    states, mask = RNG.normal(size=(2, 5, 3)).astype(np.float32), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    pool = Processing(outputs=({"op": "mean_pool", "mask": "mask"}, {"op": "unit_length"}))
    found = np.array(pool.after({"y": states}, {"mask": mask}))
    for row, used in enumerate((3, 5)):
        mean = states[row, :used].mean(axis=0)
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), rtol=1e-5)
    with pytest.raises(InputError, match="no input 'mask'"):
        pool.after({"y": states}, {"ids": mask})


def test_the_nearest_known_vector_is_found_by_its_cosine() -> None:
    nearest = made("nearest", vectors=[[2, 0], [0, 3], [-1, 0]], k=2, threshold=0.1)
    found = nearest(np.array([[3.0, 1.0]]), StepContext(labels=("east", "north", "west")))
    assert [entry["label"] for entry in found] == ["east", "north"]
    assert found[0]["score"] == pytest.approx(3 / math.sqrt(10))
    with pytest.raises(InputError, match="not like those of 2"):
        nearest(np.zeros(3), NOTHING)
    for wrong in ([[1], [1, 2]], [], [[0, 0]], "x"):
        with pytest.raises(ArtifactError, match="vectors must be"):
            made("nearest", vectors=wrong)


# --- what does not suit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"op": "decode_anchors"}, 'one of "grids" and "anchors"'),
        ({"op": "decode_anchors", "grids": [[1, 1]]}, "3 integers"),
        ({"op": "decode_anchors", "grids": []}, "grids must be"),
        ({"op": "decode_anchors", "anchors": [[1, 2, 3]]}, "anchors must be"),
        ({"op": "decode_anchors", "grids": [[1, 1, 1]], "scales": [1, 2]}, "one number, or four"),
        ({"op": "decode_anchors", "grids": [[1, 1, 1]], "order": "hwyx"}, "order cannot be"),
        ({"op": "decode_grid", "size": [8, 8], "strides": [0]}, "at least 1"),
        ({"op": "split_boxes", "has_objectness": "yes"}, "true or false"),
        ({"op": "landmarks", "name": "y", "size": [8, 8], "visible": 3}, "below the 3 values"),
        ({"op": "landmarks", "name": 3, "size": [8, 8]}, "name of an output"),
        ({"op": "detections", "unit": "inches"}, "unit cannot be"),
        ({"op": "heatmap_points", "layout": "NHWC"}, "layout cannot be"),
    ],
)
def test_what_is_wrong_is_named_with_its_op(step: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=said) as caught:
        Processing({}, (step,))
    assert repr(step["op"]) in caught.value.message


@pytest.mark.parametrize(
    ("step", "outputs", "said"),
    [
        ({"op": "decode_anchors", "grids": [[1, 1, 1]]}, {"boxes": np.zeros((1, 2, 4))}, "there is no output 'scores'"),
        (
            {"op": "decode_anchors", "grids": [[1, 1, 1]]},
            {"boxes": np.zeros((1, 2, 4)), "scores": np.zeros((1, 2, 1))},
            "not for 1 anchors",
        ),
        ({"op": "decode_grid", "size": [8, 8], "strides": [8]}, {"y": np.zeros((1, 2, 7))}, "not of the 1 cells"),
        ({"op": "split_boxes"}, {"y": np.zeros((1, 4, 9))}, "has no scores"),
        ({"op": "landmarks", "name": "y", "size": [8, 8]}, {"y": np.zeros((1, 4))}, "not points of 3"),
        ({"op": "landmarks", "name": "z", "size": [8, 8]}, {"y": np.zeros((1, 3))}, "there is no output 'z'"),
        ({"op": "heatmap_points"}, {"y": np.zeros((4, 4))}, "maps of one picture"),
        (
            {"op": "detections"},
            {"boxes": np.zeros((1, 2, 4)), "scores": np.ones((1, 2, 1)), "points": np.zeros((1, 2, 6))},
            "not x and y beside 2 boxes",
        ),
    ],
)
def test_outputs_that_do_not_fit_are_refused(step: dict[str, Any], outputs: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Processing({}, (step,)).after(outputs)
