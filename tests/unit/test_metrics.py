"""Metrics against examples worked out by hand, and against plain definitions by loops or by another library."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.stats import mannwhitneyu

from edgekit.errors import InputError, UnsupportedError
from edgekit.metrics import METRICS, Metric
from edgekit.metrics.images import structural_similarity
from edgekit.metrics.masks import VOID

RNG = np.random.default_rng(0)


def compute(name: str, answers: list[Any], truths: list[Any], labels: tuple[str, ...] = ()) -> float:
    return METRICS.get(name).compute(answers, truths, labels)


def ranked(*names: str) -> list[dict[str, Any]]:
    return [{"label": name, "score": 1 / (place + 1), "index": place} for place, name in enumerate(names)]


# --- classes ----------------------------------------------------------------------------------------------------------


def test_accuracy_of_the_best_and_of_the_best_five() -> None:
    answers = [ranked("a", "b", "c", "d", "e", "f"), ranked("b", "a", "c", "d", "e", "f"), ranked(*"fedcba")]
    truths = [{"label": name} for name in "aaa"]
    assert compute("top1", answers, truths) == pytest.approx(1 / 3)
    assert compute("top5", answers, truths) == pytest.approx(2 / 3)
    assert compute("top1", [answers[0][0], answers[1][0]], truths[:2]) == 0.5  # what "argmax" gives
    score = METRICS.get("top1").score(answers, [{"label": name} for name in "abd"], tuple("abcdef"))
    assert score.value == pytest.approx(2 / 3)
    assert score.per_class == {"a": 1, "b": 1, "d": 0}


def test_classes_may_be_called_by_index() -> None:
    answers = [ranked("class 3"), ranked("class 4")]
    assert compute("top1", answers, [{"label": "3"}, {"label": 3}]) == 0.5
    assert compute("top1", answers, [{"label": "d"}, {"label": "d"}], tuple("abcdef")) == 0.5
    assert compute("top1", [ranked("b")], [{"label": "1"}], ("a", "b")) == 1
    assert compute("top1", [ranked("1")], [{"label": "1"}], ("1", "0")) == 1  # names come before indices
    with pytest.raises(InputError, match="knows no class 'cow'") as caught:
        compute("top1", [ranked("a", "b")], [{"label": "cow"}], ("a", "b"))
    assert "a, b" in caught.value.hint
    with pytest.raises(InputError, match="the best 5 are asked for"):
        compute("top5", [ranked("a", "b")], [{"label": "a"}], tuple("abcdef"))


def test_auc_by_hand_and_against_scikit_learn() -> None:
    normal, anomaly = {"label": "normal"}, {"label": "anomaly"}
    # Of four pairs the anomaly wins two and one is a tie: 2.5 / 4.
    answers = [{"score": 1.0}, {"score": 3.0}, {"score": 3.0}, {"score": 2.0}]
    assert compute("auc", answers, [normal, normal, anomaly, anomaly]) == 0.625
    assert compute("auc", answers, [normal, normal, anomaly, anomaly], ("normal", "anomaly")) == 0.625
    assert compute("auc", answers, [normal, normal, anomaly, anomaly], ("anomaly", "normal")) == 0.375
    named = [[{"label": "dog", "score": s}, {"label": "cat", "score": 1 - s}] for s in (0.2, 0.9)]
    assert compute("auc", named, [{"label": "cat"}, {"label": "dog"}], ("cat", "dog")) == 1
    is_one = RNG.integers(0, 2, 300)
    scores = np.round(RNG.normal(is_one, 1.0), 1)  # rounded: many ties
    found = compute("auc", [float(s) for s in scores], [{"label": str(label)} for label in is_one])
    won = mannwhitneyu(scores[is_one == 1], scores[is_one == 0]).statistic / (is_one.sum() * (is_one == 0).sum())
    assert found == pytest.approx(won, abs=1e-12)


def test_auc_says_what_it_lacks() -> None:
    with pytest.raises(InputError, match="two classes"):
        compute("auc", [1.0, 2.0], [{"label": "normal"}] * 2, ("normal", "anomaly"))
    with pytest.raises(InputError, match="is the one to be found"):
        compute("auc", [1.0, 2.0], [{"label": "a"}, {"label": "b"}])
    with pytest.raises(InputError, match="NaN"):
        compute("auc", [1.0, math.nan], [{"label": "0"}, {"label": "1"}])


# --- boxes ------------------------------------------------------------------------------------------------------------


def box(label: str, *corners: float, score: float | None = None) -> dict[str, Any]:
    return {"label": label, "box": list(corners)} | ({} if score is None else {"score": score})


def test_average_precision_by_hand() -> None:
    """Two true cats; found are one of them, a wrong one, the other: precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1."""
    truth = {"boxes": [box("cat", 0, 0, 0.2, 0.2), box("cat", 0.5, 0.5, 0.7, 0.7)]}
    found = [
        box("cat", 0, 0, 0.2, 0.2, score=0.9),
        box("cat", 0.8, 0.8, 0.9, 0.9, score=0.8),
        box("cat", 0.5, 0.5, 0.7, 0.7, score=0.7),
    ]
    assert compute("map50-voc", [found], [truth]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # Of 101 recalls 51, 0 to 0.50, are at precision 1, the other 50 at 2/3, whatever the overlap: the boxes are equal.
    coco = (51 + 50 * 2 / 3) / 101
    for name in ("map", "map50"):
        assert compute(name, [found], [truth]) == pytest.approx(coco)
    with_dog = {"boxes": [*truth["boxes"], box("dog", 0, 0, 1, 1)]}
    assert compute("map50-voc", [found], [with_dog]) == pytest.approx(5 / 12)
    assert compute("map50", [found], [with_dog]) == pytest.approx(coco / 2)
    assert METRICS.get("map50").score([[]], [truth]).per_class == {"cat": 0.0}
    perfect = [found[0], found[2]]
    for name in ("map50", "map50-voc", "map"):
        assert compute(name, [perfect], [truth]) == pytest.approx(1)


def test_a_true_box_counts_once_and_overlap_must_suffice() -> None:
    truth = {"boxes": [box("cat", 0, 0, 0.4, 0.4)]}
    twice = [box("cat", 0, 0, 0.4, 0.4, score=0.9), box("cat", 0, 0, 0.4, 0.39, score=0.95)]
    assert compute("map50", [twice], [truth]) == pytest.approx(1)  # the better one; the other comes after recall 1
    assert compute("map50", [[box("cat", 0, 0, 0.4, 0.19, score=1)]], [truth]) == 0
    assert compute("map50", [[box("dog", 0, 0, 0.4, 0.4, score=1)]], [truth]) == 0
    # An overlap of exactly 0.75 is enough for 0.50, 0.55, ... 0.75: six thresholds of ten.
    most = [[box("cat", 0, 0, 0.5, 0.375, score=1)]]
    assert compute("map", most, [{"boxes": [box("cat", 0, 0, 0.5, 0.5)]}]) == pytest.approx(0.6)
    # Empty pictures count: a box found in one is wrong.
    wrong = [box("cat", 0, 0, 0.4, 0.4, score=0.99)]
    assert compute("map50", [wrong, twice[:1]], [{"boxes": []}, truth]) == pytest.approx(0.5)


def scene(rng: np.random.Generator) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """True boxes of two classes, and found ones about them with noise, some missed, some made up."""
    true, found = [], []
    for _ in range(int(rng.integers(0, 6))):
        x, y = rng.uniform(0, 0.7, 2)
        w, h = rng.uniform(0.1, 0.3, 2)
        true.append(box(str(rng.choice(["cat", "dog"])), x, y, x + w, y + h))
    for item in [*true, *true]:
        if rng.random() < 0.6:
            corners = np.array(item["box"]) + rng.normal(0, 0.02, 4)
            found.append(box(item["label"], *corners.tolist(), score=float(rng.random())))
    if rng.random() < 0.5:
        found.append(box("dog", 0.1, 0.1, 0.3, 0.3, score=float(rng.random())))
    return found, {"boxes": true}


def overlap(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def plain_average(answers: list[Any], truths: list[Any], name: str, least: float, *, is_coco: bool) -> float:
    """The definition, box by box over the whole set in the order of scores."""
    total = sum(item["label"] == name for truth in truths for item in truth["boxes"])
    entries = [
        (item["score"], p, item["box"]) for p, some in enumerate(answers) for item in some if item["label"] == name
    ]
    taken: set[tuple[int, int]] = set()
    points, right = [], 0
    for count, (_, place, found) in enumerate(sorted(entries, key=lambda e: -e[0]), start=1):
        shares = [
            (overlap(found, item["box"]), index)
            for index, item in enumerate(truths[place]["boxes"])
            if item["label"] == name and not (is_coco and (place, index) in taken)
        ]
        best, index = max(shares, default=(0.0, -1))
        if best >= least and (place, index) not in taken:
            taken.add((place, index))
            right += 1
        points.append((right / total, right / count))

    def at(recall: float) -> float:
        return max((p for r, p in points if r >= recall), default=0.0)

    if is_coco:
        return sum(at(recall) for recall in np.linspace(0, 1, 101)) / 101
    return sum(at(k / total) for k in range(1, total + 1)) / total


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_agrees_with_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers, truths = (list(column) for column in zip(*(scene(rng) for _ in range(25)), strict=True))
    voc = np.mean([plain_average(answers, truths, name, 0.5, is_coco=False) for name in ("cat", "dog")])
    coco = np.mean(
        [
            plain_average(answers, truths, name, round(0.5 + 0.05 * step, 2), is_coco=True)
            for name in ("cat", "dog")
            for step in range(10)
        ]
    )
    assert 0.1 < coco < voc < 0.9
    assert compute("map50-voc", answers, truths, ("cat", "dog")) == pytest.approx(voc, abs=1e-9)
    assert compute("map", answers, truths, ("cat", "dog")) == pytest.approx(coco, abs=1e-9)


def test_boxes_that_are_none_are_refused() -> None:
    for wrong in ([0, 0, 1], [0, 0, 1, math.nan], ["a", 0, 1, 1]):
        with pytest.raises(InputError):
            compute("map50", [[]], [{"boxes": [{"label": "cat", "box": wrong}]}])
    with pytest.raises(InputError, match="not one true box"):
        compute("map50", [[]], [{"boxes": []}])


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_intersection_over_union_by_hand(tmp_path: Path) -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, VOID]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "gray.png")
    paletted = Image.fromarray(mask, "P")
    paletted.putpalette([value for index in range(256) for value in (index, 255 - index, 0)])
    paletted.save(tmp_path / "palette.png")
    answer = [[0, 1, 1, 1], [0, 0, 1, 2]]
    labels = ("ground", "cat", "dog", "cow")
    for truth in (tmp_path / "gray.png", tmp_path / "palette.png", mask, str(tmp_path / "gray.png")):
        score = METRICS.get("miou").score([answer], [{"mask": truth}], labels)
        assert score.per_class == {"ground": 3 / 4, "cat": 3 / 4}  # the dog is found on a pixel that does not count
        assert score.value == 3 / 4
    # Over the whole set: of the second picture all is wrong; cow occurs in neither.
    score = METRICS.get("miou").score([answer, [[2]]], [{"mask": mask}, {"mask": np.array([[0]])}], labels)
    assert score.per_class == {"ground": 3 / 5, "cat": 3 / 4, "dog": 0}
    assert score.value == pytest.approx((3 / 5 + 3 / 4) / 3)
    assert compute("miou", [np.array(answer)], [{"mask": mask}]) == 3 / 4


def test_masks_of_another_size_are_read_at_the_nearest_pixels() -> None:
    mask = np.kron(np.array([[0, 1], [2, 3]], np.uint8), np.ones((3, 5), np.uint8))
    assert compute("miou", [[[0, 1], [2, 3]]], [{"mask": mask}]) == 1


@pytest.mark.parametrize(
    ("answer", "mask", "said"),
    [
        ([[0, 1]], np.array([[0, 5]]), "class 5 is beyond the 2 labels"),
        ([[0, 2]], np.array([[0, 1]]), "class 2 is beyond"),
        ([0, 1], np.array([[0, 1]]), "map of classes is"),
        ([[0.5, 1.0]], np.array([[0, 1]]), "map of classes is"),
        ([[0, 1]], np.array([[[0, 1]]]), "a mask is"),
        ([[0, 1]], np.array([[VOID, VOID]]), "no pixel that counts"),
    ],
)
def test_maps_that_do_not_suit_are_refused(answer: Any, mask: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        compute("miou", [answer], [{"mask": mask}], ("a", "b"))


def test_a_photo_is_no_mask(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="mode RGB, not a mask"):
        compute("miou", [[[0, 1], [0, 1]]], [{"mask": tmp_path / "m.png"}])


def similarity_reference(first: np.ndarray, second: np.ndarray) -> float:
    """Wang's formula with SciPy's Gaussian filter of the same radius, a channel at a time, without the border."""
    values = []
    for a, b in zip(np.moveaxis(first, 2, 0), np.moveaxis(second, 2, 0), strict=True):

        def blur(picture: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(picture, 1.5, radius=5)[5:-5, 5:-5]

        mean_a, mean_b = blur(a), blur(b)
        spread = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
        together = blur(a * b) - mean_a * mean_b
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values.append((2 * mean_a * mean_b + c1) * (2 * together + c2) / (mean_a**2 + mean_b**2 + c1) / (spread + c2))
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(32, 47, 3), (11, 30, 1)])
def test_structural_similarity_agrees_with_the_formula(shape: tuple[int, ...]) -> None:
    smooth = ndimage.gaussian_filter(RNG.uniform(0, 255, shape), (2, 2, 0))
    noisy = np.clip(smooth + RNG.normal(0, 10, shape), 0, 255)
    found = structural_similarity(smooth, noisy)
    assert 0.2 < found < 0.98
    assert found == pytest.approx(similarity_reference(smooth, noisy), abs=1e-9)
    assert structural_similarity(smooth, smooth) == pytest.approx(1)
    assert structural_similarity(noisy, smooth) == pytest.approx(found)


def test_pictures_are_held_against_their_targets(tmp_path: Path) -> None:
    target = RNG.integers(30, 200, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(target).save(tmp_path / "t.png")
    answer = (target + 10).tolist()
    truth = {"target": tmp_path / "t.png"}
    assert compute("psnr", [answer], [truth]) == pytest.approx(10 * math.log10(255**2 / 100))
    assert compute("psnr", [target], [truth]) == math.inf
    assert compute("ssim", [target, answer], [truth] * 2) == pytest.approx(
        (1 + similarity_reference(np.array(answer, float), target.astype(float))) / 2
    )
    gray = np.asarray(Image.fromarray(target).convert("L"))[..., None]
    assert compute("ssim", [gray], [truth]) == pytest.approx(1)
    half = Image.fromarray(target).resize((10, 16), Image.Resampling.BILINEAR)
    assert compute("psnr", [np.asarray(half)], [truth]) == math.inf  # of another size: resized as steps do
    with pytest.raises(InputError, match="smaller than SSIM's window"):
        compute("ssim", [target[:8]], [{"target": target[:8]}])
    with pytest.raises(InputError, match="a picture is"):
        compute("ssim", [target[..., 0]], [truth])


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_errors_of_regression(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([1.0, 2.0]))
    answers = [{"y": np.array([[4.0, 2.0]])}, 5.0]
    truths = [{"target": tmp_path / "t.npy"}, {"label": "5.5"}]
    assert compute("rmse", answers, truths) == pytest.approx(math.sqrt((9 + 0 + 0.25) / 3))
    assert compute("mae", answers, truths) == pytest.approx((3 + 0 + 0.5) / 3)
    with pytest.raises(InputError, match="not like its target"):
        compute("mae", [[1.0]], [{"target": [1.0, 2.0]}])
    with pytest.raises(InputError, match="'cat' is no number"):
        compute("mae", [1.0], [{"label": "cat"}])


def test_perplexity_is_over_all_tokens_together() -> None:
    answers = [{"nats": 3 * math.log(2), "tokens": 3}, {"nats": math.log(32), "tokens": 1}]
    assert compute("bits-per-token", answers, [{}, {}]) == pytest.approx((3 + 5) / 4)
    assert compute("perplexity", answers, [{}, {}]) == pytest.approx(4)
    with pytest.raises(InputError, match="say nothing"):
        compute("perplexity", [{"nats": 0.0, "tokens": 0}], [{}])


# --- all --------------------------------------------------------------------------------------------------------------


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS:
        assert isinstance(metric, Metric)
        assert metric.name == name
        assert metric.title
        assert metric.answer
        assert set(metric.truths) <= {"label", "boxes", "mask", "segments", "target", "transcript"}
    with pytest.raises(UnsupportedError, match="no metric named 'top7'"):
        METRICS.get("top7")


@pytest.mark.parametrize("name", METRICS.names())
def test_what_is_missing_or_strange_is_an_input_error(name: str) -> None:
    metric = METRICS.get(name)
    right = {
        "label": "0",
        "boxes": [box("0", 0, 0, 1, 1)],
        "mask": np.zeros((2, 2), int),
        "target": np.zeros((2, 2, 3)),
    }
    for answers, truths in (([], []), ([1.0], [])):
        with pytest.raises(InputError, match="a truth for each answer"):
            metric.compute(answers, truths)
    if metric.truths:
        with pytest.raises(InputError, match="needs") as caught:
            metric.check({"other": 1}, "0007.png")
        assert "0007.png" in caught.value.message
        assert "labels.jsonl" in caught.value.hint
    for strange in (None, *(["words"] if name not in ("cer", "wer") else []), {"what": 1}, [[None]], object()):
        with pytest.raises(InputError):
            metric.compute([strange], [right])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_shares_are_within_their_bounds_and_the_truth_itself_is_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = scene(rng)
    truth["boxes"].append(box("cat", 0.9, 0.9, 1, 1))
    perfect = [{**item, "score": 0.5} for item in truth["boxes"]]
    truth |= {"mask": rng.integers(0, 3, (12, 12)), "target": rng.integers(0, 256, (12, 12, 3))}
    for name, answer, best in (
        ("map50", found, perfect),
        ("map", found, perfect),
        ("miou", rng.integers(0, 3, (12, 12)), truth["mask"]),
        ("ssim", rng.integers(0, 256, (12, 12, 3)), truth["target"]),
    ):
        assert -1 <= compute(name, [answer], [truth]) <= 1
        assert compute(name, [best], [truth]) == pytest.approx(1)


@pytest.mark.parametrize("name", ["top1", "f1", "top5", "auc"])
def test_a_score_that_is_nan_is_refused_though_it_is_not_the_best(name: str) -> None:
    scores = np.array([0.1, np.nan, 0.6, 0.1, 0.1, 0.1])
    with pytest.raises(InputError, match="NaN"):
        METRICS.get(name).compute([scores, scores], [{"label": "2"}, {"label": "0"}], tuple("012345"))


def test_targets_that_differ_by_rounding_alone_have_no_variance_to_explain() -> None:
    with pytest.raises(InputError, match="all targets are the same"):
        METRICS.get("r2").compute(
            [0.1, 0.2, 0.3], [{"target": value} for value in (0.1, 0.1 + 2e-17, 0.30000000000000004 - 0.2)]
        )
