"""What the image classifiers train with, and the constants that the feed-forward net is fed by."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.datasets import open_dataset
from edgekit.errors import InputError
from edgekit.models._classification import DIGITS, class_targets, image_classes, moved_pictures
from edgekit.models.resnet import from_keras
from edgekit.registry import FAMILIES
from edgekit.spec import Signature, TensorSpec


def test_targets_are_indices_of_classes() -> None:
    found = class_targets({"label": "7"}, DIGITS)["label"]
    assert (found.dtype, int(found)) == (np.int64, 7)
    assert int(class_targets({"label": "cat"}, ("dog", "cat"))["label"]) == 1


@pytest.mark.parametrize("truth", [{}, {"label": "cow"}])
def test_a_sample_without_a_known_class_is_refused(truth: dict[str, str]) -> None:
    with pytest.raises(InputError):
        class_targets(truth, ("dog", "cat"))


def test_moved_pictures_are_moved_each_its_own_way_and_again_alike() -> None:
    pictures = np.zeros((16, 1, 28, 28), np.float32)
    pictures[:, :, 10:18, 12:16] = 1
    targets = {"label": np.arange(16)}
    moved, same = moved_pictures({"image": pictures}, targets, np.random.default_rng(0))
    again, _ = moved_pictures({"image": pictures}, targets, np.random.default_rng(0))
    assert same is targets
    np.testing.assert_array_equal(moved["image"], again["image"])
    assert (moved["image"].dtype, moved["image"].shape) == (np.float32, pictures.shape)
    assert len({picture.tobytes() for picture in moved["image"]}) == 16
    assert pictures[:, :, 10:18, 12:16].min() == 1, "the pictures given were changed"
    # A bar of 32 pixels stays about as large, and about where it was.
    masses = moved["image"].sum(axis=(1, 2, 3))
    assert 16 < masses.min() < masses.max() < 64
    rows = np.einsum("nchw,h->n", moved["image"], np.arange(28)) / masses
    assert np.abs(rows - 13.5).max() < 7


def test_a_picture_of_one_color_stays_as_it_is() -> None:
    """Beyond the edge there is more of the edge: nothing dark comes in."""
    pictures = np.full((4, 3, 20, 30), 0.7, np.float32)
    moved, _ = moved_pictures({"image": pictures}, {}, np.random.default_rng(1))
    np.testing.assert_allclose(moved["image"], pictures, rtol=1e-6)


def test_pictures_come_in_as_torchvision_wants_them() -> None:
    """Against torchvision's own figures: 0..1, less (0.485, 0.456, 0.406), by (0.229, 0.224, 0.225)."""
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    wanted = Signature((TensorSpec("image", "float32", ("batch", 3, 224, 224)),), ())
    processing = image_classes(224, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    feed = processing.before(pixels, wanted)["image"][0]
    np.testing.assert_allclose(feed, expected.transpose(2, 0, 1), atol=1e-5)


def test_the_tables_constants_are_those_of_its_training_data() -> None:
    (step,) = FAMILIES.get("feed-forward").processing.inputs["features"]
    table = np.load(open_dataset("breast-cancer").splits["train"])["features"].astype(np.float64)
    np.testing.assert_allclose(step["mean"], table.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(step["std"], table.std(axis=0), rtol=1e-3)


def test_keras_biases_and_epsilon_are_folded_without_a_trace() -> None:
    """Where variances are as small as epsilon itself, a difference of a thousandth of it would show."""
    generator = np.random.default_rng(0)
    gamma, beta, mean, bias, x = generator.normal(0, 1, (5, 64))
    variance = generator.uniform(1e-7, 1e-5, 64).astype(np.float32)
    layers = {
        "conv1_conv": [np.zeros((7, 7, 3, 64)), bias],
        "conv1_bn": [gamma, beta, mean, variance],
        "predictions": [np.zeros((64, 2)), np.zeros(2)],
    }
    own = from_keras(layers)
    theirs = gamma * (x + bias - mean) / np.sqrt(variance.astype(np.float64) + 1.001e-5) + beta
    ours = gamma * (x - own["bn1.running_mean"]) / np.sqrt(own["bn1.running_var"].astype(np.float64) + 1e-5) + beta
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_stem_sees_red_where_keras_saw_blue() -> None:
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 8))
    norm = [np.ones(8), np.zeros(8), np.zeros(8), np.ones(8)]
    layers = {"conv1_conv": [kernel, np.zeros(8)], "conv1_bn": norm, "predictions": [np.zeros((8, 2)), np.zeros(2)]}
    np.testing.assert_array_equal(from_keras(layers)["conv1.weight"], kernel.transpose(3, 2, 0, 1)[:, ::-1])
