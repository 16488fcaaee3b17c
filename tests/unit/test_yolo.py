"""YOLOX's boxes and what it learns by, on examples worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import InputError, UnsupportedError
from edgekit.models import _yolo_loss as learning
from edgekit.models import yolo
from edgekit.network import starting_weights
from edgekit.network.torch_form import to_torch
from edgekit.processing.boxes import overlaps

torch = pytest.importorskip("torch")

SIDE = 64
"""A picture of 64 x 64 has 8 x 8, 4 x 4 and 2 x 2 places."""
PLACES = 64 + 16 + 4


def decoded(raw: dict[int, list[float]], size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Boxes of a net whose three layers before the boxes answer `raw` (by level) everywhere, in pixels."""
    network = yolo.FAMILY.network("tiny", image_size=size)
    weights = starting_weights(network)
    for level in range(3):
        weights[f"head.reg_preds.{level}.weight"][:] = 0
        weights[f"head.reg_preds.{level}.bias"][:] = raw.get(level, [0, 0, 0, 0])
    with torch.inference_mode():
        boxes = to_torch(network, weights)(torch.zeros(1, 3, *size))[0][0].numpy()
    return np.asarray(boxes * [size[1], size[0], size[1], size[0]])


def test_a_raw_box_of_zeros_is_a_stride_wide_around_the_corner_of_its_place() -> None:
    boxes = decoded({})
    np.testing.assert_allclose(boxes[0], [-4, -4, 4, 4], atol=1e-4)
    np.testing.assert_allclose(boxes[8 * 2 + 3], [24 - 4, 16 - 4, 24 + 4, 16 + 4], atol=1e-4)  # row 2, column 3
    np.testing.assert_allclose(boxes[64 + 4 * 3 + 1], [16 - 8, 48 - 8, 16 + 8, 48 + 8], atol=1e-4)
    np.testing.assert_allclose(boxes[64 + 16 + 3], [32 - 16, 32 - 16, 32 + 16, 32 + 16], atol=1e-4)


def test_offsets_count_in_strides_and_sizes_in_logarithms() -> None:
    boxes = decoded({1: [0.5, -0.25, np.log(2.0), np.log(0.5)]})
    # Row 1, column 2 of stride 16: center (2.5, 0.75) strides, 2 strides wide and half a stride high.
    np.testing.assert_allclose(boxes[64 + 4 + 2], [40 - 16, 12 - 4, 40 + 16, 12 + 4], atol=1e-4)


def test_rows_and_columns_are_not_mixed_up_in_pictures_that_are_not_square() -> None:
    boxes = decoded({}, size=(32, 96))
    assert len(boxes) == 4 * 12 + 2 * 6 + 3
    np.testing.assert_allclose(boxes[12 * 3 + 10], [80 - 4, 24 - 4, 80 + 4, 24 + 4], atol=1e-4)


def test_a_fresh_net_thinks_that_next_to_nothing_is_there() -> None:
    network = yolo.FAMILY.network("tiny")
    with torch.inference_mode():
        scores = to_torch(network, starting_weights(network))(torch.rand(1, 3, 96, 96))[1]
    assert scores.shape == (1, 189, 3)
    assert 0 < float(scores.mean()) < 2e-3


def test_the_loss_knows_the_places_the_graph_has() -> None:
    centers, steps = learning.places(PLACES)
    corners, distances = yolo.grid((SIDE, SIDE))
    np.testing.assert_allclose(centers, corners + distances / 2, atol=1e-6)
    np.testing.assert_allclose(np.repeat(steps, 2, axis=1), distances, atol=1e-6)
    with pytest.raises(UnsupportedError, match="63 places"):
        learning.places(63)


def test_overlaps_are_those_of_the_evaluation() -> None:
    corners = np.sort(np.random.default_rng(3).random((12, 2, 2)), axis=1).reshape(12, 4).astype(np.float32)
    mine = learning.pair_overlaps(torch.from_numpy(corners[None, :5]), torch.from_numpy(corners[None, 5:]))
    np.testing.assert_allclose(mine[0].numpy(), overlaps(corners[:5], corners[5:]), atol=1e-5)


def exact(true: list[list[float]], classes: list[int], say: dict[int, tuple[list[float], int]]) -> Any:
    """Owners where the places in `say` answer a box and, with a score of 0.9, a class; others nothing."""
    boxes, scores = torch.zeros(1, PLACES, 4), torch.full((1, PLACES, 3), 1e-4)
    for place, (box, kind) in say.items():
        boxes[0, place], scores[0, place, kind] = torch.tensor(box), 0.9
    things = torch.tensor(true)[None] if true else torch.zeros(1, 1, 4)
    return learning.assign(boxes, scores, things, torch.tensor([classes or [-1]]))[0]


RIGHT, LEFT = [36 / 64, 20 / 64, 60 / 64, 44 / 64], [4 / 64, 20 / 64, 28 / 64, 44 / 64]
"""Two squares of 24 pixels, side by side."""
IN_LEFT, IN_RIGHT, OUTSIDE = 8 * 4 + 1, 8 * 4 + 6, 7
"""Places of stride 8 with centers (12, 36), (52, 36) and (60, 4)."""


def test_each_thing_gets_the_place_that_says_it_best() -> None:
    owners = exact([LEFT, RIGHT], [0, 2], {IN_LEFT: (LEFT, 0), IN_RIGHT: (RIGHT, 2)})
    assert owners[IN_LEFT] == 0
    assert owners[IN_RIGHT] == 1
    assert int((owners >= 0).sum()) == 2  # overlaps add up to 1, so that one place each is enough


def test_as_many_places_answer_as_their_overlaps_add_up_to() -> None:
    say = dict.fromkeys((IN_LEFT, IN_LEFT + 1, IN_LEFT - 8), (LEFT, 0))
    owners = exact([LEFT], [0], say)
    assert sorted(torch.nonzero(owners >= 0)[:, 0].tolist()) == sorted(say)


def test_a_place_far_away_does_not_answer_however_right_it_is() -> None:
    owners = exact([LEFT], [0], {OUTSIDE: (LEFT, 0)})
    assert owners[OUTSIDE] == -1
    assert int((owners >= 0).sum()) == 1  # a thing is never left without


def test_the_right_class_is_preferred() -> None:
    owners = exact([LEFT], [1], {IN_LEFT: (LEFT, 0), IN_LEFT - 8: ([*LEFT[:3], 42 / 64], 1)})
    assert owners[IN_LEFT - 8] == 0
    assert owners[IN_LEFT] == -1  # overlaps of 1 and 22 / 24 add up to less than 2


def test_a_place_that_two_things_want_goes_to_the_nearer_one() -> None:
    lower = [4 / 64, 24 / 64, 28 / 64, 48 / 64]
    owners = exact([lower, LEFT], [0, 0], {IN_LEFT: (LEFT, 0)})
    assert owners[IN_LEFT] == 1


def test_an_empty_picture_has_no_owners_and_a_loss() -> None:
    assert (exact([], [], {}) == -1).all()
    outputs = {"boxes": torch.rand(1, PLACES, 4), "scores": torch.full((1, PLACES, 3), 0.01)}
    targets = {"boxes": torch.zeros(1, 100, 4), "classes": torch.full((1, 100), -1)}
    loss = learning.detection_loss(outputs, targets)
    assert float(loss) == pytest.approx(-PLACES * 3 * np.log(0.99), rel=1e-3)


def test_the_loss_is_that_of_the_formula() -> None:
    boxes, scores = torch.zeros(1, PLACES, 4), torch.full((1, PLACES, 3), 0.01)
    boxes[0, IN_LEFT], scores[0, IN_LEFT, 0] = torch.tensor([4 / 64, 20 / 64, 28 / 64, 38 / 64]), 0.6
    targets = {"boxes": torch.zeros(1, 100, 4), "classes": torch.full((1, 100), -1)}
    targets["boxes"][0, 0], targets["classes"][0, 0] = torch.tensor(LEFT), 0
    share = 18 / 24
    hit = -share * np.log(0.6) - (1 - share) * np.log(0.4)
    expected = 5 * (1 - share**2) + hit - (PLACES * 3 - 1) * np.log(0.99)
    assert float(learning.detection_loss({"boxes": boxes, "scores": scores}, targets)) == pytest.approx(
        expected, rel=1e-4
    )


def test_targets_are_padded_and_named_by_index() -> None:
    truth: dict[str, Any] = {
        "boxes": [{"label": "square", "box": [0.1, 0.2, 0.3, 0.4]}, {"label": "circle", "box": [0, 0, 1, 1]}]
    }
    targets = learning.detection_targets(truth, ("circle", "square"))
    np.testing.assert_allclose(targets["boxes"][:2], np.array([[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]]))
    assert targets["classes"].tolist() == [1, 0] + [-1] * 98
    with pytest.raises(InputError, match="'square' is no class"):
        learning.detection_targets(truth, ("circle",))
    with pytest.raises(InputError, match="101 boxes"):
        learning.detection_targets({"boxes": truth["boxes"][:1] * 101}, ("square",))


def test_boxes_are_mirrored_with_their_picture() -> None:
    """A bright patch stays within its box, whether the picture was turned or not."""
    image = np.zeros((16, 3, 32, 32), np.float32)
    image[:, :, 4:8, 2:10] = 1
    boxes = np.tile(np.array([2, 4, 10, 8], np.float32) / 32, (16, 1, 1))
    feeds, targets = learning.mirrored({"image": image}, {"boxes": boxes}, np.random.default_rng(0))
    starts = set()
    for picture, box in zip(feeds["image"], targets["boxes"][:, 0] * 32, strict=True):
        x0, y0, x1, y1 = box.astype(int)
        assert picture[:, y0:y1, x0:x1].min() == 1
        assert picture.sum() == 3 * 4 * 8
        starts.add(int(x0))
    assert starts == {2, 22}
    assert image[0, 0, 4, 2] == 1, "what was given is not changed"
