"""Pictures framed for a net, and what it found brought back to the picture; held against Pillow and OpenCV."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from edgekit.errors import ArtifactError, InputError
from edgekit.processing import STEPS, Feeds, Processing, StepContext
from edgekit.processing.geometry import Geometry, Track, place
from edgekit.processing.resampling import resize_image
from edgekit.processing.steps import compile_steps
from edgekit.spec import Signature, TensorSpec


def steps(*given: dict[str, Any]) -> Any:
    """What the steps do to a value, with a track of their own or the one given."""
    compiled = compile_steps(given, "the test")

    def apply(value: Any, *, spec: TensorSpec | None = None, track: Track | None = None) -> Any:
        context = StepContext(spec, track=track or Track())
        for step in compiled:
            value = step(value, context)
        return value

    return apply


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_page_on_processing_names_every_step_there_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "processing.md").read_text(encoding="utf-8")
    assert [op for op in STEPS.names() if f"`{op}`" not in page] == []


# --- framing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(60, 100), (100, 60), (64, 64), (10, 64)])
def test_a_letterbox_is_what_pillow_pads(height: int, width: int) -> None:
    pixels = photo(height, width)
    ours = steps({"op": "decode_image"}, {"op": "letterbox", "size": [64, 64], "fill": 114})(pixels)
    theirs = ImageOps.pad(Image.fromarray(pixels), (64, 64), Image.Resampling.BILINEAR, color=(114, 114, 114))
    np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_a_letterbox_takes_the_inputs_size_a_corner_and_a_fraction() -> None:
    framed = steps({"op": "decode_image"}, {"op": "letterbox", "place": "corner", "fill": 127.5, "enlarge": False})
    spec = TensorSpec("x", "float32", (1, 3, 8, 12))
    pixels = photo(4, 6)
    found = framed(pixels, spec=spec)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:4, :6], pixels)
    assert (found[4:] == 127.5).all()
    assert (found[:, 6:] == 127.5).all()
    with pytest.raises(InputError, match="any size"):
        framed(pixels, spec=TensorSpec("x", "float32", (1, 3, "h", "w")))


def test_linear_resizing_is_that_of_opencv() -> None:
    pixels = (np.arange(7 * 9 * 3).reshape(7, 9, 3) * 37 % 256).astype(np.uint8)
    smaller, larger = resize_image(pixels, 3, 4, "linear"), resize_image(pixels, 10, 12, "linear")
    # cv2.resize of opencv-python-headless 5.0.0: its sums are of 11-bit fractions, so the last unit may differ.
    theirs = [[117, 78, 40, 140], [90, 20, 206, 136], [192, 186, 147, 173]]
    assert np.abs(smaller[..., 0].astype(int) - theirs).max() <= 1
    theirs_larger = [231, 149, 141, 192, 83, 134, 122, 45, 128, 204, 191, 108]
    assert np.abs(larger[3, :, 1].astype(int) - theirs_larger).max() <= 1


def test_a_line_of_text_is_as_wide_as_it_needs_and_at_most_as_wide_as_the_input() -> None:
    line = steps({"op": "decode_image"}, {"op": "fit_height", "height": 48, "least_width": 100, "fill": 0})
    assert line(photo(18, 384)).shape == (48, 1024, 3)
    assert line(photo(18, 19)).shape == (48, 100, 3)
    assert line(photo(18, 384), spec=TensorSpec("x", "float32", (1, 3, 48, 640))).shape == (48, 640, 3)
    short = line(photo(18, 19))
    assert short[:, :51].any()  # 48 * 19 / 18 = 50.7, rounded up
    assert not short[:, 51:].any()


@pytest.mark.parametrize(
    ("shape", "size"), [((191, 384), (736, 1472)), ((1000, 900), (992, 896)), ((800, 736), (800, 736))]
)
def test_the_shorter_side_is_enlarged_to_multiples(shape: tuple[int, int], size: tuple[int, int]) -> None:
    resized = steps({"op": "decode_image"}, {"op": "resize_shorter", "least": 736, "multiple": 32})
    assert resized(np.zeros((*shape, 3), np.uint8)).shape[:2] == size
    bounded = steps({"op": "decode_image"}, {"op": "resize_shorter", "least": 736, "multiple": 32, "most": 960})
    longer = max(bounded(np.zeros((*shape, 3), np.uint8)).shape[:2])
    assert longer == min(960, max(size))
    fixed = TensorSpec("x", "float32", (1, 3, 64, 96))
    assert resized(np.zeros((*shape, 3), np.uint8), spec=fixed).shape[:2] == (64, 96)


def test_resize_without_a_size_takes_the_inputs_and_leaves_what_is_open() -> None:
    resized = steps({"op": "decode_image"}, {"op": "resize"})
    assert resized(photo(8, 6), spec=TensorSpec("x", "float32", (1, 4, 5, 3))).shape == (4, 5, 3)
    np.testing.assert_array_equal(resized(photo(8, 6), spec=TensorSpec("x", "float32", (1, 3, "h", "w"))), photo(8, 6))


def test_channels_are_swapped() -> None:
    np.testing.assert_array_equal(
        steps({"op": "decode_image"}, {"op": "swap_channels"})(photo(4, 4)), photo(4, 4)[..., ::-1]
    )


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"op": "letterbox", "size": [8]}, "2 integers"),
        ({"op": "letterbox", "place": "left"}, "place cannot be 'left'"),
        ({"op": "letterbox", "rounding": "even"}, "rounding cannot be 'even'"),
        ({"op": "letterbox", "enlarge": 1}, "enlarge must be true or false"),
        ({"op": "resize_shorter", "least": 8, "multiple": 32}, "at least the multiple 32"),
        ({"op": "resize_shorter", "least": 736, "most": 640}, "most must be at least 736"),
        ({"op": "letterbox", "fill": float("inf")}, "fill must be a number"),
        ({"op": "fit_height", "least_width": 0}, "at least 1"),
    ],
)
def test_what_is_wrong_in_a_frame_is_named(step: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        steps(step)


# --- and back --------------------------------------------------------------------------------------------------------


def marked(left: int, top: int) -> np.ndarray:
    """A black picture of 120 x 80 with one white pixel."""
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[top, left] = 255
    return pixels


@pytest.mark.parametrize(
    "framing",
    [
        [{"op": "letterbox", "size": [240, 240], "filter": "nearest"}],
        [{"op": "letterbox", "size": [240, 300], "filter": "nearest", "place": "corner"}],
        [{"op": "center_crop", "fraction": 0.8}, {"op": "resize", "size": [128, 192], "filter": "nearest"}],
        [{"op": "crop", "box": [20, 10, 110, 70]}, {"op": "letterbox", "size": [180, 180], "filter": "nearest"}],
        [{"op": "resize", "size": [160, 360], "filter": "nearest"}],
    ],
)
def test_a_pixel_is_found_again_whatever_was_cut_resized_and_padded(framing: list[dict[str, Any]]) -> None:
    track = Track()
    seen = steps({"op": "decode_image"}, *framing)(marked(50, 40), track=track)
    rows, columns = np.nonzero(seen[..., 0])
    middle = np.array([[columns.mean() + 0.5, rows.mean() + 0.5]]) / [seen.shape[1], seen.shape[0]]
    assert track.geometry is not None
    back = track.geometry.to_picture(middle)[0] * [120, 80]
    np.testing.assert_allclose(back, [50.5, 40.5], atol=0.5)


def test_a_whole_picture_moves_nothing_at_all() -> None:
    view = Geometry.whole(123, 77).resized(64, 32)
    points = np.random.default_rng(0).random((5, 2)).astype(np.float32)
    assert view.is_whole
    assert view.to_picture(points) is points


def test_boxes_of_a_letterboxed_picture_are_shares_or_pixels_of_the_picture() -> None:
    signature = Signature(
        (TensorSpec("x", "float32", (1, 100, 100, 3)),),
        (TensorSpec("boxes", "float32", (1, 1, 4)), TensorSpec("scores", "float32", (1, 1, 1))),
    )
    inputs = {"x": [{"op": "decode_image"}, {"op": "letterbox"}, {"op": "normalize"}]}
    outputs = {"boxes": np.array([[[0.25, 0.25, 0.75, 0.5]]], np.float32), "scores": np.array([[[0.9]]], np.float32)}
    picture = np.zeros((50, 200, 3), np.uint8)  # seen as 25 rows in the middle of 100
    answers = {}
    for unit in ("share", "pixels"):
        processing = Processing(inputs, ({"op": "detections", "unit": unit},), ("cat",))
        feeds = processing.before(picture, signature)
        (answers[unit],) = processing.after(outputs, feeds)
    np.testing.assert_allclose(answers["share"]["box"], [0.25, 0.0, 0.75, 0.52], atol=1e-6)
    np.testing.assert_allclose(answers["pixels"]["box_px"], [50, 0, 150, 26], atol=1e-4)
    with pytest.raises(InputError, match="pixels of which picture"):
        processing.after(outputs, dict(feeds))


def test_feeds_know_of_their_picture_and_are_an_ordinary_dict_otherwise() -> None:
    processing = Processing({"*": [{"op": "decode_image"}, {"op": "resize"}, {"op": "normalize"}]})
    feeds = processing.before(photo(8, 6), Signature((TensorSpec("x", "float32", (1, 4, 4, 3)),), ()))
    assert isinstance(feeds, Feeds)
    assert list(feeds) == ["x"]
    assert feeds.geometry is not None
    assert (feeds.geometry.width, feeds.geometry.height) == (6, 8)


@pytest.mark.parametrize("filter", ["nearest", "bilinear"])
def test_a_map_lies_over_the_picture_again(filter: str) -> None:
    view = Geometry.whole(40, 20).resized(20, 10).cut(0, -5, 20, 20)  # 20 x 10 in the middle of 20 x 20
    values = np.zeros((20, 20, 1), np.float32)
    values[5:15, 10:] = 1  # the right half of the picture
    values[:5] = values[15:] = 7  # padding
    back = place(values, view, filter)[..., 0]
    assert back.shape == (20, 40)
    np.testing.assert_allclose(back[:, :19], 0)
    np.testing.assert_allclose(back[:, 21:], 1)


def test_what_was_cut_off_is_the_first_class() -> None:
    view = Geometry.whole(40, 20).cut(10, 0, 20, 20)
    back = place(np.ones((20, 20, 1), np.float32), view, "nearest")[..., 0]
    assert back[:, 10:30].all()
    assert not back[:, :10].any()
    assert not back[:, 30:].any()


def test_masks_and_class_maps_come_at_the_pictures_size() -> None:
    inputs = {"x": [{"op": "decode_image"}, {"op": "letterbox"}, {"op": "normalize"}]}
    signature = Signature((TensorSpec("x", "float32", (1, 8, 8, 3)),), ())
    scores = np.zeros((1, 8, 8, 1), np.float32)
    scores[:, :, 4:] = 0.9
    mask = Processing(inputs, ({"op": "mask", "size": "picture"},))
    found = np.array(mask.after({"y": scores}, mask.before(photo(16, 32), signature)))
    assert found.shape == (16, 32)
    assert not found[:, :14].any()
    assert found[:, 18:].all()
    two = np.concatenate([1 - scores, scores], axis=3)
    classes = Processing(inputs, ({"op": "class_map", "size": "picture"},), ("off", "on"))
    np.testing.assert_array_equal(
        np.array(classes.after({"y": two}, classes.before(photo(16, 32), signature)))[:, [0, 31]], [[0, 1]] * 16
    )
    with pytest.raises(InputError, match="knows of no picture"):
        mask.after({"y": scores})
    assert np.shape(Processing(inputs, ({"op": "mask"},)).after({"y": scores})) == (8, 8)


# --- steps of others -------------------------------------------------------------------------------------------------


def halve(*, times: Any = 1) -> Any:
    """A step as an installed package has it."""
    if not isinstance(times, int):
        raise ArtifactError(f"times must be a whole number, not {times!r}")
    return lambda value, context: value / 2**times


def test_a_package_adds_a_step_by_an_entry_point_and_without_it_the_bundle_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("halve", f"{__name__}:halve", "edgekit.steps")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == "edgekit.steps" else [])
    monkeypatch.setattr(STEPS, "_loaded", {})
    written = Processing({"x": ({"op": "halve", "times": 2},)}).to_json()
    signature = Signature((TensorSpec("x", "float32", (1, 1)),), ())
    assert Processing.from_json(written).before(np.ones(1, np.float32), signature)["x"].tolist() == [[0.25]]
    with pytest.raises(ArtifactError, match="times must be a whole number"):
        Processing({"x": ({"op": "halve", "times": "many"},)})
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    monkeypatch.setattr(STEPS, "_loaded", {})
    with pytest.raises(ArtifactError, match="there is no op 'halve'"):
        Processing.from_json(written)
