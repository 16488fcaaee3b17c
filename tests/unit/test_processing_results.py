"""Steps for tokens, sound features, boxes, maps and pictures, against values worked out by hand or another way."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft as scipy_fft
from scipy import signal as scipy_signal

from edgekit.errors import ArtifactError, InputError
from edgekit.processing import Processing
from edgekit.processing.boxes import overlaps
from edgekit.processing.steps import STEPS, StepContext
from edgekit.report import text
from edgekit.report.prediction_view import view
from edgekit.spec import Signature, TensorSpec

RATE_HZ = 16000


def step(op: str, value: Any, **arguments: Any) -> Any:
    return STEPS.get(op)(**arguments)(value, StepContext())


def answer(outputs: dict[str, np.ndarray], *steps: dict[str, Any], labels: tuple[str, ...] = ()) -> Any:
    result = Processing(outputs=steps, labels=labels).after(outputs)
    json.dumps(result, allow_nan=False)
    return result


def sound(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    count = int(seconds * RATE_HZ)
    tone = np.sin(2 * np.pi * 1000 * np.arange(count) / RATE_HZ)
    return (0.5 * tone + 0.01 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


# --- text -------------------------------------------------------------------------------------------------------------


def test_bytes_are_tokens_between_begin_and_end(tmp_path: Path) -> None:
    assert step("tokenize_bytes", "aé", length=8).tolist() == [1, 3 + 0x61, 3 + 0xC3, 3 + 0xA9, 2, 0, 0, 0]
    assert step("tokenize_bytes", "aé", length=8, what="mask").tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert step("tokenize_bytes", "aé", length=8, what="types").tolist() == [0] * 8
    assert step("tokenize_bytes", "abcdef", length=4).tolist() == [1, 3 + 0x61, 3 + 0x62, 2]
    assert step("tokenize_bytes", "", length=3).tolist() == [1, 2, 0]
    (tmp_path / "t.txt").write_text("aé", encoding="utf-8")
    assert step("tokenize_bytes", tmp_path / "t.txt", length=3).tolist() == [1, 3 + 0x61, 2]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe")
    for value in (b"bytes", 3, np.zeros(3), tmp_path / "t.txt", tmp_path / "none.txt"):
        with pytest.raises(InputError):
            step("tokenize_bytes", value, length=8)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_tokens_give_back_the_text(text: str) -> None:
    ids = step("tokenize_bytes", text, length=170)
    mask = step("tokenize_bytes", text, length=170, what="mask")
    assert mask.sum() == (ids != 0).sum()
    inner = ids[1 : mask.sum() - 1] - 3
    assert bytes(inner.astype(np.uint8)).decode("utf-8", "surrogatepass") == text


PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "the", "cafe", "!", ",", "run", "##ning", "\u4e2d"),
    *(f"{prefix}{chr(code)}" for prefix in ("", "##") for code in (*range(97, 123), *range(48, 58), 0xDF, 0x3B1)),
]


def test_pieces_of_words_by_hand() -> None:
    found = step("tokenize_wordpiece", "UnAffable, caf\u00e9!", vocabulary=PIECES, length=10)
    assert [PIECES[index] for index in found] == [
        *("[CLS]", "un", "##aff", "##able", ",", "cafe", "!", "[SEP]", "[PAD]", "[PAD]")
    ]
    mask = step("tokenize_wordpiece", "running", vocabulary=PIECES, length=6, what="mask")
    assert mask.tolist() == [1, 1, 1, 1, 0, 0]
    cased = step("tokenize_wordpiece", "The the", vocabulary=PIECES, length=4, lower=False)
    assert [PIECES[index] for index in cased] == ["[CLS]", "[UNK]", "the", "[SEP]"]
    with pytest.raises(ArtifactError, match=r"no \[CLS\]"):
        STEPS.get("tokenize_wordpiece")(vocabulary=["[PAD]", "[SEP]", "[UNK]"], length=8)
    with pytest.raises(ArtifactError, match="list of pieces"):
        STEPS.get("tokenize_wordpiece")(vocabulary="vocab.txt", length=8)


OLD_LETTERS = [
    letter
    for letter in map(chr, range(0x2B820))
    if unicodedata.ucd_3_2_0.category(letter) == unicodedata.category(letter) not in ("Cn", "Co", "Cs")
]
"""What Unicode 3.2 knew as it is known today: later letters are another thing to every tokenizer."""


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(OLD_LETTERS, max_size=8),
            st.sampled_from(["Unaffable", "running!", "caf\u00e9", "\u4e2d\u6587", "a\tb\u00a0c", "x" * 101]),
        ),
        max_size=6,
    ).map(" ".join)
)
@pytest.mark.parametrize("lower", [True, False])
def test_pieces_of_words_are_those_of_the_reference(reference: Any, lower: bool, text: str) -> None:
    """Both take a text apart alike."""
    expected = reference[lower](text)["input_ids"]
    found = step("tokenize_wordpiece", text, vocabulary=PIECES, length=900, lower=lower)
    assert found[: len(expected)].tolist() == expected
    assert not found[len(expected) :].any()


@pytest.fixture(scope="module")
def reference() -> dict[bool, Any]:
    """BERT's tokenizer of the transformers package, with and without capitals."""
    transformers = pytest.importorskip("transformers")
    vocabulary = {piece: index for index, piece in enumerate(PIECES)}
    return {lower: transformers.BertTokenizer(vocab=vocabulary, do_lower_case=lower) for lower in (True, False)}


def test_one_text_feeds_every_input_that_has_steps_of_its_own() -> None:
    specs = tuple(TensorSpec(name, "int32", (1, 6)) for name in ("ids", "mask"))
    steps = {name: ({"op": "tokenize_bytes", "length": 6, "what": name},) for name in ("ids", "mask")}
    feeds = Processing(steps).before("a", Signature(specs, ()))
    assert feeds["ids"].tolist() == [[1, 100, 2, 0, 0, 0]]
    assert feeds["mask"].tolist() == [[1, 1, 1, 0, 0, 0]]
    assert feeds["mask"].dtype == np.int32
    with pytest.raises(InputError, match="2 inputs"):
        Processing({"ids": steps["ids"]}).before("a", Signature(specs, ()))
    with pytest.raises(InputError, match="2 inputs"):
        Processing({"*": steps["ids"]}).before("a", Signature(specs, ()))


# --- sound ------------------------------------------------------------------------------------------------------------


def mel_reference(samples: np.ndarray, window: int, hop: int, fft: int, bins: int, low: float, high: float) -> Any:
    """The same by loops, a frame and a band at a time, with SciPy's window and transform."""
    edges = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([low, high]) / 700)), bins + 2) / 2595) - 1)
    mel = [2595 * np.log10(1 + f / 700) for f in edges]
    taper = scipy_signal.get_window("hann", window)
    rows = []
    for start in range(0, len(samples) - window + 1, hop):
        power = np.abs(scipy_fft.rfft(samples[start : start + window].astype(np.float64) * taper, fft)) ** 2
        row = []
        for band in range(1, bins + 1):
            total = 0.0
            for index, energy in enumerate(power):
                at = 2595 * np.log10(1 + index * RATE_HZ / fft / 700)
                if mel[band - 1] < at <= mel[band]:
                    total += energy * (at - mel[band - 1]) / (mel[band] - mel[band - 1])
                elif mel[band] < at < mel[band + 1]:
                    total += energy * (mel[band + 1] - at) / (mel[band + 1] - mel[band])
            row.append(np.log(max(total, 1e-10)))
        rows.append(row)
    return np.array(rows)


def test_mel_and_cepstrum_agree_with_loops_and_scipys_transforms() -> None:
    samples = sound(0.1)
    expected = mel_reference(samples, 480, 160, 512, 24, 60.0, 7000.0)
    arguments = {"rate_hz": RATE_HZ, "window_ms": 30, "hop_ms": 10, "bins": 24, "low_hz": 60.0, "high_hz": 7000}
    found = step("log_mel", samples, **arguments)
    assert (found.shape, found.dtype) == ((8, 24), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    cepstrum = step("mfcc", samples, coefficients=13, **arguments)
    np.testing.assert_allclose(cepstrum, scipy_fft.dct(expected, type=2, norm="ortho")[:, :13], atol=1e-5)


def test_the_defaults_are_a_keyword_spotters() -> None:
    assert step("mfcc", sound(), rate_hz=RATE_HZ).shape == (49, 10)
    assert step("mfcc", np.zeros(RATE_HZ, np.float32), rate_hz=RATE_HZ)[:, 1:] == pytest.approx(0, abs=1e-5)
    mels = step("log_mel", sound(), rate_hz=RATE_HZ)
    centers = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([20, 8000]) / 700)), 42)[1:-1] / 2595) - 1)
    assert (mels.argmax(axis=1) == np.abs(centers - 1000).argmin()).all()  # the tone is in the band nearest to it
    frames = np.stack([sound(0.2, seed) for seed in range(3)])
    assert step("log_mel", frames, rate_hz=RATE_HZ)[1].tolist() == step("log_mel", frames[1], rate_hz=RATE_HZ).tolist()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"high_hz": 9000}, "high_hz must be at most 8000"),
        ({"low_hz": 5000}, "high_hz must be above 5000"),
        ({"low_hz": -1.0}, "low_hz must be at least 0"),
        ({"fft": 100}, "fft must be at least 640"),
        ({"bins": 400}, "so narrow"),
        ({"coefficients": 41}, "at most the 40 bins"),
        ({"window_ms": 0.001}, "less than a sample"),
        ({"rate_hz": 0}, "rate_hz must be at least 1"),
    ],
)
def test_a_spectrum_that_cannot_be_is_refused_at_once(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        STEPS.get("mfcc")(**{"rate_hz": RATE_HZ, **arguments})


def test_mu_law_at_values_worked_out_by_hand() -> None:
    ends = np.array([-2.0, -1.0, 0.0, 1.0, 1 / 255, -1 / 255], np.float32)
    # ln(1 + 255 / 255) / ln(256) is 1 / 8.
    assert step("mu_law", ends, to="float").tolist() == pytest.approx([-1, -1, 0, 1, 0.125, -0.125])
    assert step("mu_law", ends).tolist() == [0, 0, 128, 255, 143, 112]
    assert step("mu_law", ends).dtype == np.int64
    rising = step("mu_law", np.linspace(-1, 1, 100001, dtype=np.float32))
    assert np.unique(rising).tolist() == list(range(256))
    assert (np.diff(rising) >= 0).all()
    with pytest.raises(InputError, match="finite"):
        step("mu_law", np.array([np.nan], np.float32))


def test_context_windows_are_samples_and_go_through_a_batch_of_one_in_turn() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = step("window_context", rows, frames=5)
    assert found.tolist() == [list(range(10)), list(range(2, 12))]
    with pytest.raises(InputError, match="4 frames are less than the 5"):
        step("window_context", rows[:4], frames=5)
    signature = Signature((TensorSpec("x", "float32", (1, 10)),), (TensorSpec("y", "float32", (1, 10)),))
    processing = Processing({"*": ({"op": "window_context", "frames": 5},)}, ({"op": "reconstruction_error"},))
    assert [feeds["x"].shape for feeds in processing.batches(rows, signature)] == [(1, 10)] * 2
    # The second window is off by 1 throughout, the first by nothing: a mean of 1 / 2 over both.
    calls: list[int] = []

    def run(feeds: Any) -> dict[str, np.ndarray]:
        calls.append(len(feeds["x"]))
        return {"y": feeds["x"] + (len(calls) - 1)}

    assert processing.answer(rows, run, signature) == {"score": 0.5}
    assert calls == [1, 1]


def test_pad_or_cut_makes_sounds_equally_long() -> None:
    assert step("pad_or_cut", np.ones(2), length=4).tolist() == [1, 1, 0, 0]
    assert step("pad_or_cut", np.arange(6), length=4).tolist() == [0, 1, 2, 3]
    assert step("pad_or_cut", np.ones((2, 3)), length=2, axis=-1).shape == (2, 2)
    with pytest.raises(InputError, match="no axis 2"):
        step("pad_or_cut", np.ones((2, 3)), length=2, axis=2)


# --- boxes ------------------------------------------------------------------------------------------------------------

LABELS = ("cat", "dog")
BOXES = np.array([[[0, 0, 40, 40], [4, 0, 44, 40], [50, 50, 90, 90], [60, 60, 120, 120]]], np.float32)
SCORES = np.array([[[0.9, 0.1], [0.8, 0.6], [0.2, 0.7], [0.1, 0.3]]], np.float32)


def boxes_of(found: Any) -> list[tuple[Any, ...]]:
    return [(item["label"], round(item["score"], 3), [round(x, 3) for x in item["box"]]) for item in found]


def test_what_overlaps_a_better_box_of_its_class_is_dropped() -> None:
    found = answer({"boxes": BOXES, "scores": SCORES}, {"op": "detections", "scale": 0.01}, labels=LABELS)
    # The two cats overlap by 36 / 44; the dog at the second anchor is of another class and stays.
    assert boxes_of(found) == [
        ("cat", 0.9, [0, 0, 0.4, 0.4]),
        ("dog", 0.7, [0.5, 0.5, 0.9, 0.9]),
        ("dog", 0.6, [0.04, 0, 0.44, 0.4]),
        ("dog", 0.3, [0.6, 0.6, 1, 1]),
    ]
    loose = answer({"boxes": BOXES, "scores": SCORES}, {"op": "detections", "scale": 0.01, "iou": 0.9}, labels=LABELS)
    assert [item["label"] for item in loose] == ["cat", "cat", "dog", "dog", "dog"]
    assert len(answer({"boxes": BOXES, "scores": SCORES}, {"op": "detections", "count": 2}, labels=LABELS)) == 2
    assert answer({"boxes": BOXES, "scores": SCORES}, {"op": "detections", "threshold": 0.95}, labels=LABELS) == []


def test_centers_logits_and_other_names_give_the_same() -> None:
    corners = answer({"boxes": BOXES, "scores": SCORES}, {"op": "detections", "scale": 0.01}, labels=LABELS)
    centers = np.concatenate([(BOXES[..., :2] + BOXES[..., 2:]) / 2, BOXES[..., 2:] - BOXES[..., :2]], axis=-1)
    logits = np.log(SCORES / (1 - SCORES))
    arguments = {"op": "detections", "scale": [0.01, 0.01], "form": "cxcywh", "activation": "sigmoid"}
    renamed = answer({"output_0": logits, "output_1": centers}, arguments, labels=LABELS)
    assert boxes_of(renamed) == boxes_of(corners)
    named = answer(
        {"p": SCORES, "b": BOXES, "extra": BOXES},
        {"op": "detections", "scale": 0.01, "boxes": ["a", "b"], "scores": "p"},
        labels=LABELS,
    )
    assert named == corners


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"a": BOXES, "b": BOXES}, "no outputs of boxes"),
        ({"boxes": BOXES}, "no outputs of boxes"),
        ({"boxes": BOXES, "scores": SCORES[:, :3]}, "are not"),
        ({"boxes": np.repeat(BOXES, 2, 0), "scores": np.repeat(SCORES, 2, 0)}, "of one picture"),
    ],
)
def test_outputs_that_are_not_a_detectors_are_refused(outputs: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(InputError, match=said):
        answer(outputs, {"op": "detections"}, labels=LABELS)


def test_suppression_is_the_greedy_one() -> None:
    """Against the definition by loops; 8400 anchors with 80 classes, as a published detector has."""
    rng = np.random.default_rng(0)
    corner, size = rng.random((1, 8400, 2)) * 0.8, rng.random((1, 8400, 2)) * 0.3 + 0.02
    boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    scores = (rng.random((1, 8400, 80)) ** 30).astype(np.float32)
    labels = tuple(f"c{index}" for index in range(80))
    found = answer({"boxes": boxes, "scores": scores}, {"op": "detections", "count": 1000}, labels=labels)
    anchors, classes = np.nonzero(scores[0] > 0.25)
    order = np.argsort(-scores[0][anchors, classes], kind="stable")[:1000]
    kept: list[tuple[int, int]] = []
    clipped = np.clip(boxes[0], 0, 1)
    for anchor, index in zip(anchors[order], classes[order], strict=True):
        rivals = [a for a, c in kept if c == index]
        if all(overlaps(clipped[[anchor]], clipped[[rival]])[0, 0] <= 0.5 for rival in rivals):
            kept.append((anchor, index))
    assert [item["label"] for item in found] == [labels[index] for _, index in kept]
    assert 100 < len(found) < 1000


def test_overlap_of_boxes() -> None:
    one = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    assert overlaps(one, np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]], np.float32)).tolist() == [
        pytest.approx([1 / 7, 1, 0]),
        [0, 0, 0],
    ]


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_maps_and_pictures_are_the_same_from_either_layout() -> None:
    rng = np.random.default_rng(0)
    last = rng.standard_normal((1, 5, 6, 3)).astype(np.float32)
    first = np.ascontiguousarray(last.transpose(0, 3, 1, 2))
    labels = ("a", "b", "c")
    steps = {"op": "class_map"}
    assert answer({"y": last}, steps, labels=labels) == last[0].argmax(-1).tolist()
    assert answer({"y": first}, steps, labels=labels) == answer({"y": last}, steps, labels=labels)
    assert answer({"y": first}, {"op": "picture"}) == answer({"y": last}, {"op": "picture"})
    assert answer({"y": last[0]}, {"op": "picture", "layout": "HWC"}) == answer({"y": last}, {"op": "picture"})
    square = rng.standard_normal((1, 3, 6, 3)).astype(np.float32)
    for op in ("class_map", "picture"):
        with pytest.raises(ArtifactError, match="either axis may have") as caught:
            answer({"y": square}, {"op": op}, labels=labels)
        assert "layout" in caught.value.hint
        assert len(answer({"y": square}, {"op": op, "layout": "CHW"}, labels=labels)) == 6
        with pytest.raises(ArtifactError, match="no axis has"):
            answer({"y": np.zeros((1, 4, 6, 5), np.float32)}, {"op": op}, labels=labels)


@pytest.mark.parametrize(
    "arguments", [{"scale": 1 / 255}, {"scale": 1 / 127.5, "mean": 1.0}, {"scale": 1 / 255, "mean": 0.5, "std": 0.25}]
)
def test_picture_undoes_normalize(arguments: dict[str, float]) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 32, 1)
    there = step("normalize", pixels, **arguments)
    assert step("picture", there, **arguments).tolist() == pixels.tolist()
    assert step("picture", there * 100, **arguments).max() == 255
    with pytest.raises(InputError, match="NaN"):
        step("picture", there * np.float32("nan"), **arguments)


def test_reconstruction_error_compares_with_the_input_that_was_given() -> None:
    feeds = {"x": np.zeros((1, 4), np.float32), "h": np.zeros((1, 2), np.float32)}
    outputs = {"y": np.full((1, 4), 2.0, np.float32)}
    labels = ("normal", "anomaly")
    apply = {"op": "reconstruction_error", "input": "x"}
    assert Processing(outputs=(apply,)).after(outputs, feeds) == {"score": 4.0}
    judged = Processing(outputs=({**apply, "threshold": 3.5},), labels=labels).after(outputs, feeds)
    assert judged == {"label": "anomaly", "score": 4.0}
    assert Processing(outputs=({**apply, "threshold": 4.5},), labels=labels).after(outputs, feeds)["label"] == "normal"
    for steps, given_feeds, said in (
        ({"op": "reconstruction_error"}, feeds, "which of"),
        ({**apply, "input": "z"}, feeds, "which of"),
        ({**apply, "input": "h"}, feeds, "is not like input"),
        (apply, None, "needs the input"),
    ):
        with pytest.raises(InputError, match=said):
            Processing(outputs=(steps,)).after(outputs, given_feeds)
    with pytest.raises(ArtifactError, match="two labels"):
        Processing(outputs=({**apply, "threshold": 1},)).after(outputs, feeds)


def test_predictions_show_boxes_of_every_input_and_shorten_pictures() -> None:
    boxes = [
        {"label": "cat", "score": 0.9, "box": [0, 0.1, 0.5, 1]},
        {"label": "dog", "score": 0.8, "box": [0, 0, 1, 1]},
    ]
    answers = [{"input": name, "answer": boxes} for name in ("a.png", "b.png")]
    answers.append({"input": "c.png", "answer": np.zeros((64, 64, 3), np.uint8).tolist()})
    page = text.render(view({"model": "m", "variant": "v", "runtime": "r", "answers": answers}))
    assert "a.png  dog    0.8000  0.000 0.000 1.000 1.000" in page
    assert "b.png  cat    0.9000  0.000 0.100 0.500 1.000" in page
    assert "[64x64x3]" in page
    assert len(page) < 600
