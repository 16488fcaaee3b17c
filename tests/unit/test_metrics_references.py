"""Metrics against the libraries that everybody takes for them, to 1e-6 on random cases: the whole and each class."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import jiwer
import numpy as np
import pytest
import sklearn.metrics as reference
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgekit.metrics import METRICS, Score

EXACT = 1e-6
SEEDS = range(6)


def found(name: str, answers: Sequence[Any], truths: Sequence[Mapping[str, Any]], labels: Sequence[str] = ()) -> Score:
    return METRICS.get(name).score(answers, truths, labels)


# --- classes ----------------------------------------------------------------------------------------------------------


class Votes:
    """Random probabilities over some classes that lean to the truth, of classes of very different sizes."""

    def __init__(self, seed: int, *, classes: int = 5, samples: int = 200, digits: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.labels = tuple(f"c{index}" for index in range(classes))
        sizes = rng.dirichlet(np.full(classes, 0.6))
        self.true = rng.choice(classes, samples, p=sizes)
        self.true[:classes] = range(classes)
        logits = rng.normal(0, 1, (samples, classes)).round(digits) + 1.2 * np.eye(classes)[self.true]
        logits[:, 0] -= 30 * (seed % 2)  # a class that is never answered
        powers = np.exp(logits)
        self.scores = powers / powers.sum(axis=1, keepdims=True)

    @property
    def best(self) -> np.ndarray:
        return self.scores.argmax(axis=1)

    @property
    def answers(self) -> list[Any]:
        return [
            [{"label": self.labels[i], "score": float(row[i])} for i in np.argsort(-row, kind="stable")]
            for row in self.scores
        ]

    @property
    def truths(self) -> list[dict[str, str]]:
        return [{"label": self.labels[index]} for index in self.true]

    def score(self, name: str) -> Score:
        return found(name, self.answers, self.truths, self.labels)


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_in_all_its_forms(seed: int) -> None:
    votes = Votes(seed, classes=8, digits=9)  # of equal scores each library takes another for the fifth
    accuracy = reference.accuracy_score(votes.true, votes.best)
    top5 = reference.top_k_accuracy_score(votes.true, votes.scores, k=5, labels=range(8))
    for name, expected in (
        ("top1", accuracy),
        ("accuracy", accuracy),
        ("top5", top5),
        ("balanced-accuracy", reference.balanced_accuracy_score(votes.true, votes.best)),
    ):
        assert votes.score(name).value == pytest.approx(expected, abs=EXACT), name
    recalls = reference.recall_score(votes.true, votes.best, average=None, zero_division=0)
    assert list(votes.score("top1").per_class.values()) == pytest.approx(list(recalls), abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_precision_recall_and_f1(name: str, average: str, seed: int) -> None:
    votes = Votes(seed)
    judge = getattr(reference, f"{name}_score")
    score = votes.score(name if average == "macro" else f"{name}-{average}")
    expected = judge(votes.true, votes.best, average=average, zero_division=0)
    assert score.value == pytest.approx(expected, abs=EXACT)
    each = judge(votes.true, votes.best, average=None, zero_division=0, labels=range(5))
    assert list(score.per_class.values()) == pytest.approx(list(each), abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_taken_for_what(seed: int) -> None:
    votes = Votes(seed)
    confusion = votes.score("top1").confusion
    assert confusion is not None
    counts = np.zeros((5, 5), int)
    for true, answered, count in confusion.cells:
        counts[true, answered] = count
    np.testing.assert_array_equal(counts, reference.confusion_matrix(votes.true, votes.best))
    assert confusion.labels == votes.labels


@pytest.mark.parametrize("seed", SEEDS)
def test_areas_of_two_classes_and_of_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.append(rng.integers(0, 2, 150), [0, 1])
    scores = rng.normal(true, 1.5).round(1)  # many ties
    truths = [{"label": str(label)} for label in true]
    roc, area = reference.roc_auc_score, reference.average_precision_score
    assert found("auc", scores.tolist(), truths).value == pytest.approx(roc(true, scores), abs=EXACT)
    assert found("auc-pr", scores.tolist(), truths).value == pytest.approx(area(true, scores), abs=EXACT)
    votes = Votes(seed)
    expected = roc(votes.true, votes.scores, multi_class="ovr", average="macro")
    assert votes.score("auc").value == pytest.approx(expected, abs=EXACT)
    assert votes.score("auc-pr").value == pytest.approx(area(votes.true, votes.scores), abs=EXACT)
    each = area(np.eye(5)[votes.true], votes.scores, average=None)
    assert list(votes.score("auc-pr").per_class.values()) == pytest.approx(list(each), abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_log_loss(seed: int) -> None:
    votes = Votes(seed)
    expected = reference.log_loss(votes.true, votes.scores, labels=range(5))
    assert votes.score("log-loss").value == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_error_by_its_definition(seed: int) -> None:
    """Bin by bin, as the paper has it; scikit-learn has none."""
    votes = Votes(seed)
    sure, right = votes.scores.max(axis=1), votes.best == votes.true
    expected = 0.0
    for low in range(15):
        inside = (sure > low / 15) & (sure <= (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert votes.score("ece").value == pytest.approx(expected, abs=EXACT)


# --- boxes ------------------------------------------------------------------------------------------------------------


class Scene:
    """Random pictures of boxes of very different sizes, with crowds, and what a mediocre detector finds in them."""

    def __init__(self, seed: int, *, pictures: int = 25, names: tuple[str, ...] = ("cat", "dog", "cow")) -> None:
        rng = np.random.default_rng(seed)
        self.names = names
        self.images, self.annotations, self.detections = [], [], []
        for image in range(1, pictures + 1):
            width, height = (int(value) for value in rng.integers(200, 600, 2))
            self.images.append({"id": image, "width": width, "height": height})
            for _ in range(int(rng.integers(0, 8))):
                w, h = np.exp(rng.uniform(np.log(8), np.log(180), 2)).round(1)
                x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
                self._true(rng, image, [float(x), float(y), float(w), float(h)])
            self._made_up(rng, image, width, height)

    def _true(self, rng: np.random.Generator, image: int, bbox: list[float]) -> None:
        category = int(rng.integers(1, len(self.names) + 1))
        area = bbox[2] * bbox[3] * rng.uniform(0.5, 1.0)  # of a mask: less than the box's
        is_crowd = int(rng.random() < 0.12)
        own = {"id": len(self.annotations) + 1, "image_id": image, "category_id": category}
        self.annotations.append({**own, "bbox": bbox, "area": area, "iscrowd": is_crowd})
        for _ in range(int(rng.integers(0, 4 if is_crowd else 3))):
            moved = np.array(bbox) + rng.normal(0, 0.08, 4) * max(bbox[2:])
            moved[2:] = np.maximum(moved[2:], 2)
            named = category if rng.random() < 0.9 else 1
            self._found(image, named, moved.tolist(), rng)

    def _made_up(self, rng: np.random.Generator, image: int, width: int, height: int) -> None:
        for _ in range(int(rng.integers(0, 130 if image == 1 else 5))):  # in one more than count
            box = [
                float(rng.uniform(0, width / 2)),
                float(rng.uniform(0, height / 2)),
                *rng.uniform(4, 150, 2).tolist(),
            ]
            self._found(image, int(rng.integers(1, len(self.names) + 1)), box, rng)

    def _found(self, image: int, category: int, bbox: list[float], rng: np.random.Generator) -> None:
        score = float(rng.random().__round__(2))  # many ties
        self.detections.append({"image_id": image, "category_id": category, "bbox": bbox, "score": score})

    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        """pycocotools' twelve figures, and the precisions behind them."""
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            categories = [{"id": index + 1, "name": name} for index, name in enumerate(self.names)]
            truth.dataset = {"images": self.images, "annotations": self.annotations, "categories": categories}
            truth.createIndex()
            judge = COCOeval(truth, truth.loadRes(self.detections), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return judge.stats, judge.eval["precision"]

    @property
    def samples(self) -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
        """The answer and the truth of each picture, as edgekit has them."""
        pairs = []
        for image in self.images:
            size = (image["width"], image["height"])
            found, true = (
                [one for one in rows if one["image_id"] == image["id"]] for rows in (self.detections, self.annotations)
            )
            boxes = [{**self._item(one, size), "crowd": bool(one["iscrowd"]), "area_px": one["area"]} for one in true]
            pairs.append(
                ([{**self._item(one, size), "score": one["score"]} for one in found], {"boxes": boxes, "size": size})
            )
        return pairs

    def ours(self, name: str) -> Score:
        answers, truths = zip(*self.samples, strict=True)
        return found(name, answers, truths, self.names)

    def _item(self, one: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        x, y, w, h = one["bbox"]
        corners = [x / size[0], y / size[1], (x + w) / size[0], (y + h) / size[1]]
        return {"label": self.names[one["category_id"] - 1], "box": corners}


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_average_precision_is_that_of_coco(seed: int) -> None:
    scene = Scene(seed)
    stats, precision = scene.reference()
    assert any(one["iscrowd"] for one in scene.annotations)
    for name, place in (("map", 0), ("map50", 1), ("map75", 2), ("map-small", 3), ("map-medium", 4), ("map-large", 5)):
        assert scene.ours(name).value == pytest.approx(stats[place], abs=EXACT), name
        assert 0 < stats[place] < 1
    each = precision[:, :, :, 0, 2].mean(axis=(0, 1))
    assert list(scene.ours("map").per_class.values()) == pytest.approx(list(each), abs=EXACT)


# --- pixels, texts, numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_overlap_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = ("ground", "cat", "dog", "never")
    masks = [rng.integers(0, 3, (9, 7)) for _ in range(8)]
    answers = [np.where(rng.random((9, 7)) < 0.7, mask, rng.integers(0, 3, (9, 7))) for mask in masks]
    truths = [{"mask": mask} for mask in masks]
    true, best = np.concatenate(masks).reshape(-1), np.concatenate(answers).reshape(-1)
    for name, judge in (("miou", reference.jaccard_score), ("dice", reference.f1_score)):
        score = found(name, answers, truths, labels)
        assert score.value == pytest.approx(judge(true, best, average="macro"), abs=EXACT)
        assert list(score.per_class.values()) == pytest.approx(list(judge(true, best, average=None)), abs=EXACT)
        assert "never" not in score.per_class
    expected = reference.accuracy_score(true, best)
    assert found("pixel-accuracy", answers, truths, labels).value == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_error_rates_of_reading(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def text(least: int) -> str:
        words = ["".join(rng.choice(list("abcé"), rng.integers(1, 6))) for _ in range(int(rng.integers(least, 9)))]
        return " ".join(words)

    true = [text(1) for _ in range(30)]
    read = [one if rng.random() < 0.3 else text(0) for one in true]
    truths = [{"transcript": one} for one in true]
    answers = [{"text": one, "score": 1.0} for one in read]
    assert found("cer", answers, truths).value == pytest.approx(jiwer.cer(true, read), abs=EXACT)
    assert found("wer", read, [{"label": one} for one in true]).value == pytest.approx(jiwer.wer(true, read), abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_errors_of_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = 1e4 + rng.normal(0, 3, (60, 2))  # far from zero, where sums of squares lose digits
    answers = true + rng.normal(0, 1, true.shape)
    truths = [{"target": row} for row in true]
    for name, expected in (
        ("r2", reference.r2_score(true, answers)),
        ("mae", reference.mean_absolute_error(true, answers)),
        ("rmse", reference.root_mean_squared_error(true.reshape(-1), answers.reshape(-1))),
    ):
        assert found(name, list(answers), truths).value == pytest.approx(expected, abs=EXACT), name


# --- drawing samples again --------------------------------------------------------------------------------------------


def cases(name: str) -> tuple[list[Any], list[Any], tuple[str, ...]]:
    rng = np.random.default_rng(3)
    if name.startswith("map"):
        scene = Scene(3, pictures=10)
        for one in scene.detections:
            one["score"] += float(rng.random()) / 1000  # without ties, which fall otherwise among copies
        return *map(list, zip(*scene.samples, strict=True)), scene.names  # type: ignore[return-value]
    if name in ("miou", "dice", "pixel-accuracy"):
        masks = [rng.integers(0, 4, (5, 5)) for _ in range(10)]
        return [rng.integers(0, 4, (5, 5)) for _ in masks], [{"mask": mask} for mask in masks], tuple("abcd")
    if name in ("cer", "wer"):
        texts = ["".join(rng.choice(list("ab "), 12)) + "c" for _ in range(10)]
        return texts, [{"label": text[::-1]} for text in texts], ()
    if name in ("rmse", "mae", "r2"):
        return rng.normal(0, 1, 10).tolist(), [{"target": value} for value in rng.normal(0, 1, 10)], ()
    votes = Votes(2, samples=10, classes=3)
    return votes.answers, votes.truths, votes.labels


@pytest.mark.parametrize(
    "name",
    [n for n in METRICS.names() if n not in ("top5", "psnr", "ssim", "perplexity", "bits-per-token", "frechet")],
)
def test_a_sample_that_counts_twice_is_a_sample_that_is_there_twice(name: str) -> None:
    """What every interval relies on."""
    answers, truths, labels = cases(name)
    metric = METRICS.get(name)
    tally = metric.start(labels)
    for answer, truth in zip(answers, truths, strict=True):
        metric.add(tally, answer, truth)
    times = [2, 0, 1, 3, 1, 1, 0, 2, 1, 1]
    again = [place for place, count in enumerate(times) for _ in range(count)]
    drawn = metric.score([answers[place] for place in again], [truths[place] for place in again], labels)
    assert tally.values(np.array(times, float))[0] == pytest.approx(drawn.value, abs=1e-9)
