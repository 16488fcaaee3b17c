"""Pictures and sounds through the steps: equal to Pillow and SciPy, and strict about what is one."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
import tracemalloc
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.signal import resample_poly

from edgekit.errors import InputError
from edgekit.processing import Processing
from edgekit.processing.resampling import resample_signal, resize_image
from edgekit.spec import Signature, TensorSpec
from tests.assets import asset
from tests.unit.test_processing import image_steps, noise, one, signature

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


# --- pictures ---------------------------------------------------------------------------------------------------------


def pillow_resize(pixels: np.ndarray, height: int, width: int, filter: str) -> np.ndarray:
    """Width first, then height, in two calls: the order within one call depends on Pillow's version."""
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    wide = image.resize((width, image.height), FILTERS[filter])
    return np.asarray(wide.resize((width, height), FILTERS[filter])).reshape(height, width, -1)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 90)] * 4),
    channels=st.sampled_from([1, 3]),
    filter=st.sampled_from(sorted(FILTERS)),
    seed=st.integers(0, 2**16),
)
def test_resized_bytes_are_pillows(sizes: tuple[int, ...], channels: int, filter: str, seed: int) -> None:
    height, width, new_height, new_width = sizes
    pixels = noise(height, width, channels, seed=seed)
    ours = resize_image(pixels, new_height, new_width, filter)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, pillow_resize(pixels, new_height, new_width, filter))


@pytest.mark.parametrize("filter", sorted(FILTERS))
@pytest.mark.parametrize("size", [(17, 23), (224, 224), (301, 260), (60, 300)])
def test_resized_floats_are_those_of_pillows_mode_f(filter: str, size: tuple[int, int]) -> None:
    pixels = (np.random.default_rng(1).random((120, 150, 1)) * 255).astype(np.float32)
    ours = resize_image(pixels, *size, filter)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, pillow_resize(pixels, *size, filter), atol=1e-4)


@pytest.mark.parametrize("filter", sorted(FILTERS))
def test_a_photo_resized_in_one_call_is_within_one_level_of_pillow(filter: str) -> None:
    with Image.open(asset("scikit-image", "skimage/data/coffee.png")) as photo:
        theirs = np.asarray(photo.resize((224, 224), FILTERS[filter]))
        ours = resize_image(np.asarray(photo), 224, 224, filter)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_file_bytes_a_picture_and_an_array_give_the_same(tmp_path: Path, mode: str) -> None:
    pixels = noise(20, 30, 3)
    picture = Image.fromarray(pixels)
    picture.save(path := tmp_path / "x.png")
    processing = image_steps({"op": "layout"}, mode=mode)
    expected = np.asarray(picture.convert(mode), np.float32).reshape(1, 20, 30, -1)
    for value in (path, str(path), path.read_bytes(), picture, pixels, pixels.astype(np.float64)):
        array = one(processing, value, "N", 20, 30, expected.shape[-1])
        # Pillow rounds gray to a level, floats stay between levels
        tolerance = 0.51 if value is not path and getattr(value, "dtype", None) == np.float64 else 0
        np.testing.assert_allclose(array, expected, atol=tolerance)


def test_gray_becomes_color_and_back() -> None:
    gray = noise(5, 6)
    color = one(image_steps(mode="RGB"), gray, 1, 5, 6, 3, dtype="uint8")
    np.testing.assert_array_equal(color[0], np.repeat(gray[..., None], 3, axis=2))
    back = one(image_steps({"op": "color", "mode": "L"}), gray, 1, 5, 6, 1, dtype="uint8")
    np.testing.assert_array_equal(back[0, ..., 0], gray)


def test_pictures_are_turned_upright_and_palettes_and_alpha_resolved(tmp_path: Path) -> None:
    pixels = noise(8, 12, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    array = one(image_steps(), tmp_path / "turned.png", 1, 12, 8, 3, dtype="uint8")
    np.testing.assert_array_equal(array[0], np.rot90(pixels, -1))

    opaque = np.dstack([pixels, np.full((8, 12), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(one(image_steps(), tmp_path / "alpha.png", 1, 8, 12, 3, dtype="uint8")[0], pixels)

    palette = Image.fromarray(pixels).quantize(16)
    array = one(image_steps(), palette, 1, 8, 12, 3, dtype="uint8")
    np.testing.assert_array_equal(array[0], np.asarray(palette.convert("RGB")))


def test_normalize_per_channel_equals_the_formula() -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pixels = noise(4, 5, 3)
    array = one(image_steps({"op": "normalize", "scale": 1 / 255, "mean": mean, "std": std}), pixels, 1, 4, 5, 3)
    np.testing.assert_allclose(array[0], (pixels / 255 - mean) / std, atol=1e-6)
    assert array.dtype == np.float32


def test_crops() -> None:
    pixels = noise(100, 60, 3)
    array = one(image_steps({"op": "center_crop", "fraction": 0.875}), pixels, 1, 52, 52, 3, dtype="uint8")
    np.testing.assert_array_equal(array[0], pixels[24:76, 4:56])
    array = one(image_steps({"op": "crop", "box": [3, 10, 33, 30]}), pixels, 1, 20, 30, 3, dtype="uint8")
    np.testing.assert_array_equal(array[0], np.asarray(Image.fromarray(pixels).crop((3, 10, 33, 30))))
    with pytest.raises(InputError, match="does not lie within 60 x 100"):
        one(image_steps({"op": "crop", "box": [3, 10, 61, 30]}), pixels, 1, 20, 58, 3)


@pytest.mark.parametrize(
    ("shape", "layout", "moved"),
    [
        ((1, 8, 9, 3), None, False),
        ((1, 3, 8, 9), None, True),
        (("N", "H", "W", 3), None, False),
        (("N", 3, "H", "W"), None, True),
        (("N", "C", "H", "W"), "NCHW", True),
    ],
)
def test_layout_follows_the_signature(shape: tuple[int | str, ...], layout: str | None, moved: bool) -> None:
    pixels = noise(8, 9, 3)
    wanted = Signature((TensorSpec("x", "uint8", shape, layout),), ())
    array = image_steps({"op": "layout"}).before(pixels, wanted)["x"]
    np.testing.assert_array_equal(array[0], pixels.transpose(2, 0, 1) if moved else pixels)
    assert array.flags.c_contiguous


def test_a_layout_that_cannot_be_told_is_asked_for() -> None:
    with pytest.raises(InputError, match="in either order") as caught:
        one(image_steps({"op": "layout"}), noise(3, 3, 3), 1, 3, 3, 3)
    assert '"to"' in caught.value.hint
    assert one(image_steps({"op": "layout", "to": "CHW"}), noise(3, 3, 3), 1, 3, 3, 3).shape == (1, 3, 3, 3)
    with pytest.raises(InputError, match="in no order"):
        one(image_steps({"op": "layout"}), noise(9, 9, 3), 1, 8, 8, 3)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (noise(4, 4, 4), "alpha"),
        (noise(2, 4, 4, 3), "one image at a time"),
        (noise(4, 4, 2), r"\[height, width\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[height, width\]"),
        (noise(4, 4, 3).astype(np.int32), "int32"),
        (np.full((4, 4, 3), 300.0), "not within 0..255"),
        (np.full((4, 4, 3), -1.0), "not within 0..255"),
        (np.full((4, 4, 3), np.nan), "not within 0..255"),
        (np.full((4, 4, 3), 0.5), r"x \* 255"),
        (np.ma.masked_array(noise(4, 4, 3)), "masked"),
        ([[1, 2], [3, 4]], "list is not an image"),
        (None, "NoneType is not an image"),
        ("no/such/file.png", "there is no file"),
        (b"not an image", "cannot be read as an image"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_hint(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        one(image_steps(), value, 1, 4, 4, 3)
    assert caught.value.hint or "no file" in said


def test_broken_and_deep_picture_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64, 3)).save(whole := tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes(whole.read_bytes()[:1500])
    (tmp_path / "empty.png").touch()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    for name in ("half.jpg", "empty.png", "deep.png"):
        with pytest.raises(InputError, match=name):
            one(image_steps(), tmp_path / name, 1, 64, 64, 3)
    with pytest.raises(InputError):
        one(image_steps(), tmp_path, 1, 64, 64, 3)


def test_arrays_need_no_pillow() -> None:
    code = (
        "import sys, numpy as np\n"
        "from edgekit.processing import Processing\n"
        "from edgekit.spec import Signature, TensorSpec\n"
        "steps = [{'op': 'decode_image'}, {'op': 'resize', 'size': [4, 4]}, {'op': 'normalize'}, {'op': 'layout'}]\n"
        "wanted = Signature((TensorSpec('x', 'float32', (1, 4, 4, 3)),), ())\n"
        "Processing({'*': steps}).before(np.zeros((9, 9, 3), np.uint8), wanted)\n"
        "assert not {'PIL', 'scipy'} & set(sys.modules), 'loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- sound ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(44100, 22050), (48000, 22050), (8000, 16000), (22050, 16000), (44101, 22050), (5, 5)]
)
@pytest.mark.parametrize("length", [1, 9, 1000, 40000])
def test_resampled_sound_is_scipys(rate_in: int, rate_out: int, length: int) -> None:
    signal = np.random.default_rng(length).standard_normal(length)
    common = math.gcd(rate_in, rate_out)
    theirs = resample_poly(signal, rate_out // common, rate_in // common)
    ours = resample_signal(signal, rate_in, rate_out)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def wav(samples: np.ndarray, rate_hz: int, code: int = 1, *, extensible: bool = False) -> bytes:
    """A RIFF/WAVE file of `samples` [frames, channels], written by hand; 24 bits as uint8 [frames, channels, 3]."""
    bits = 24 if samples.ndim == 3 else samples.dtype.itemsize * 8
    channels, align = samples.shape[1], samples.shape[1] * bits // 8
    header = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else code, channels, rate_hz, rate_hz * align % 2**32, align, bits
    )
    if extensible:
        header += struct.pack("<HHIH14x", 22, bits, 0, code)
    data = samples.tobytes()
    chunks = b"".join(
        tag + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
        for tag, body in ((b"fmt ", header), (b"LIST", b"abc"), (b"data", data))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def listen(value: Any, rate_hz: int = 8000, **frame: int) -> np.ndarray:
    steps = (
        {"op": "decode_wav", "rate_hz": rate_hz},
        {"op": "mono"},
        {"op": "resample", "rate_hz": rate_hz},
        {"op": "frame", "length": 100, **frame},
    )
    return Processing({"*": steps}).before(value, signature("N", 100))["x"]


def test_a_rate_far_above_the_models_takes_no_memory_to_speak_of() -> None:
    sound = wav(np.ones((2_000_000, 1), "<i2"), 80_000_000)
    tracemalloc.start()
    try:
        assert listen(sound).shape == (2, 100)
        assert tracemalloc.get_traced_memory()[1] < 160e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "i3", "i4", "f4", "f8"])
def test_every_depth_of_wav_gives_the_same_sound(kind: str, extensible: bool) -> None:
    levels = np.random.default_rng(0).integers(-128, 128, (100, 2))
    files = {
        "u1": (levels + 128).astype("u1"),
        "i2": (levels << 8).astype("<i2"),
        "i3": (levels << 16).astype("<i4").view(np.uint8).reshape(100, 2, 4)[..., :3],
        "i4": (levels << 24).astype("<i4"),
        "f4": (levels / 128).astype("<f4"),
        "f8": (levels / 128).astype("<f8"),
    }
    content = wav(files[kind], 8000, 3 if kind.startswith("f") else 1, extensible=extensible)
    np.testing.assert_allclose(listen(content)[0], (levels / 128).mean(axis=1), atol=1e-7)


def test_the_standard_librarys_wav_file_and_arrays_agree(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-3000, 3000, (480, 1)).astype("<i2")
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    expected = listen(tmp_path / "x.wav")
    assert expected.shape == (3, 100)  # 480 samples at 16 kHz are 240 at 8 kHz
    for value in ((16000, samples), (16000, samples[:, 0] / 32768), (tmp_path / "x.wav").read_bytes()):
        np.testing.assert_allclose(listen(value), expected, atol=1e-6)


@settings(max_examples=80, deadline=None)
@given(count=st.integers(1, 700), hop=st.integers(1, 130))
def test_windows_cover_the_sound_and_no_more(count: int, hop: int) -> None:
    signal = np.arange(1, count + 1, dtype=np.float32)
    frames = listen(signal / 1000, hop=hop) * 1000
    padded = np.concatenate([signal, np.zeros(1000 + hop)])
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame, padded[index * hop : index * hop + 100], rtol=1e-5)
    assert (len(frames) - 1) * hop + 100 >= count
    assert len(frames) == 1 or (len(frames) - 2) * hop + 100 < count


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"RIFF", "cannot be read as a .wav"),
        (wav(np.zeros((50, 1), "<i2"), 8000)[:-20], "ends 20 bytes early"),
        (wav(np.zeros((50, 1), "<i2"), 8000, 7), "format 7"),
        (wav(np.zeros((50, 1), "<i2"), 0), "0 Hz"),
        ("no/such.wav", "cannot be read"),
        (np.zeros((2, 50), np.float32), "transpose"),
        (np.zeros(50, np.int64), "int64"),
        (np.zeros((5, 5, 5), np.float32), "is not a sound"),
        (np.full(50, np.nan), "NaN"),
        (wav(np.full((50, 1), np.nan, "<f4"), 8000, 3), "NaN"),
        (wav(np.zeros((50, 1), "<i2"), 4_000_000_007), "4000000007 Hz cannot be brought to 8000 Hz"),
        (wav(np.zeros((50, 1), "<i2"), 1), "1 Hz cannot be brought to 8000 Hz"),
        (np.zeros(0, np.float32), "empty"),
        ([0.0] * 50, "list is not a sound"),
    ],
)
def test_what_is_no_sound_is_refused(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        listen(value)
