"""Steps on outputs: from the dict of arrays to an answer that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.steps import Apply, StepContext, integers, names_of, number

__all__ = [
    *("argmax", "as_scores", "events", "join_frames", "logistic", "named_output", "reconstruction_error"),
    *("select", "sigmoid", "softmax", "threshold", "top_k", "without_batch"),
]


def select(*, name: Any) -> Apply:
    """The output called `name`; of several names, for twins of one net, the first that is there."""
    names = names_of("name", name, "an output")
    return lambda value, context: named_output(value, names, "select")


def softmax(*, axis: Any = -1) -> Apply:
    """Scores -> probabilities along `axis`."""
    (along,) = integers("axis", axis, count=1)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        scores = as_scores(value, "softmax", along)
        powers = np.exp(scores - scores.max(axis=along, keepdims=True))
        return powers / powers.sum(axis=along, keepdims=True)

    return apply


def sigmoid() -> Apply:
    """Logits -> probabilities, each for itself."""
    return lambda value, context: logistic(as_scores(value, "sigmoid"))


def logistic(logits: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, of the dtype of `logits`, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def threshold(*, at: Any) -> Apply:
    """True where a score is above `at`."""
    level = number("at", at)
    return lambda value, context: as_scores(value, "threshold") > level


def argmax() -> Apply:
    """The best class along the last axis: ``{"label", "score", "index"}``, in lists where there are further axes."""
    best = top_k(k=1)

    def only(ranked: list[Any]) -> Any:
        is_innermost = bool(ranked) and isinstance(ranked[0], dict)
        return ranked[0] if is_innermost else [only(item) for item in ranked]

    return lambda value, context: only(best(value, context))


def top_k(*, k: Any = 5) -> Apply:
    """The `k` best classes along the last axis, best first, as ``[{"label", "score", "index"}, ...]``.

    A leading axis of size one, the batch, is left out; further axes give nested lists. Equal scores keep their order.
    """
    (count,) = integers("k", k, count=1, least=1)

    def apply(value: Any, context: StepContext) -> Any:
        scores = without_batch(as_scores(value, "top_k", -1))
        labels = context.labels or tuple(f"class {index}" for index in range(scores.shape[-1]))
        if len(labels) != scores.shape[-1]:
            raise ArtifactError(f"{len(labels)} labels for {scores.shape[-1]} scores")
        order = np.argsort(-scores, axis=-1, kind="stable")[..., :count]
        return _ranked(order.tolist(), np.take_along_axis(scores, order, axis=-1).tolist(), labels)

    return apply


def _ranked(indices: list[Any], scores: list[Any], labels: tuple[str, ...]) -> list[Any]:
    pairs = zip(indices, scores, strict=True)
    if indices and isinstance(indices[0], list):
        return [_ranked(index, score, labels) for index, score in pairs]
    return [{"label": labels[index], "score": score, "index": index} for index, score in pairs]


def join_frames(*, hop: Any, trim: Any = 0) -> Apply:
    """[windows, rows, ...] of overlapping windows -> [rows, ...] in a row, without the overlap.

    A window begins `hop` rows after the one before. Of each window the first `trim` rows, which lack context, are
    taken from the window before; the first window keeps them.
    """
    (stride,) = integers("hop", hop, count=1, least=1)
    (head,) = integers("trim", trim, count=1, least=0)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        rows = as_scores(value, "join_frames")
        if rows.ndim < 2 or rows.shape[1] < stride + head:
            raise InputError(f"windows {list(rows.shape)} do not overlap: hop {stride} and trim {head}")
        if len(rows) == 1:
            return rows[0]
        inner = rows[1:-1, head : head + stride].reshape(-1, *rows.shape[2:])
        return np.concatenate([rows[0, : head + stride], inner, rows[-1, head:]])

    return apply


def events(*, threshold: Any = 0.5, row_ms: Any, min_rows: Any = 1) -> Apply:
    """[rows, classes] of scores over time -> when each class was on, sorted by start.

    An event is a run of at least `min_rows` rows above `threshold`: ``{"label", "start_ms", "end_ms", "score"}`` with
    the mean score.
    """
    level, step_ms = number("threshold", threshold), number("row_ms", row_ms, above=0.0)
    (shortest,) = integers("min_rows", min_rows, count=1, least=1)

    def apply(value: Any, context: StepContext) -> list[dict[str, Any]]:
        scores = as_scores(value, "events")
        if scores.ndim != 2:
            raise InputError(
                f"events wants [rows, classes], not {list(scores.shape)}", hint='put "join_frames" before it'
            )
        labels = context.labels or tuple(f"class {index}" for index in range(scores.shape[1]))
        if len(labels) != scores.shape[1]:
            raise ArtifactError(f"{len(labels)} labels for {scores.shape[1]} scores")
        on = np.pad((scores > level).T.astype(np.int8), ((0, 0), (1, 1)))
        classes, starts = np.nonzero(np.diff(on, axis=1) == 1)
        ends = np.nonzero(np.diff(on, axis=1) == -1)[1]
        found = [
            {"label": labels[index], "start_ms": start * step_ms, "end_ms": end * step_ms,
             "score": float(scores[start:end, index].mean())}
            for index, start, end in zip(classes.tolist(), starts.tolist(), ends.tolist(), strict=True)
            if end - start >= shortest
        ]  # fmt: skip
        return sorted(found, key=lambda event: event["start_ms"])

    return apply


def reconstruction_error(*, input: Any = None, threshold: Any = None) -> Apply:
    """How badly a net that ought to repeat its input does so: ``{"score"}``, the mean of squared differences.

    Over several windows it is the mean of them all, as sounds are judged in MLPerf Tiny's anomaly detection.

    Args:
        input: Name of the input that is compared; may be left out where there is one.
        threshold: With it the answer has a ``"label"`` too: the second of the two labels above it, else the first.
    """
    if input is not None and not isinstance(input, str):
        raise ArtifactError(f"input must be the name of an input, not {input!r}")
    level = None if threshold is None else number("threshold", threshold)

    def apply(value: Any, context: StepContext) -> dict[str, Any]:
        output, feeds = as_scores(value, "reconstruction_error"), context.feeds
        if feeds is None:
            raise InputError(
                'the step "reconstruction_error" needs the input beside the output', hint="Processing.answer has both"
            )
        name = input if input is not None or len(feeds) != 1 else next(iter(feeds))
        if name is None or name not in feeds:
            raise InputError(f"which of {list(feeds)} is reconstructed?", hint='the argument "input" names it')
        if feeds[name].shape != output.shape:
            raise InputError(f"the output {list(output.shape)} is not like input {name!r} {list(feeds[name].shape)}")
        error = float(np.mean(np.square(output.astype(np.float64) - feeds[name])))
        if level is None:
            return {"score": error}
        if len(context.labels) != 2:
            raise ArtifactError(f"a threshold tells two labels apart, not {len(context.labels)}")
        return {"label": context.labels[int(error > level)], "score": error}

    return apply


def named_output(value: Any, names: Sequence[str], op: str) -> np.ndarray:
    """The first of `names` among the outputs; an InputError naming the step `op` if none of them is there."""
    if not isinstance(value, Mapping):
        raise InputError(f"the step {op!r} comes first, while there still are outputs by name")
    found = next((name for name in names if name in value), None)
    if found is None:
        raise InputError(f"there is no output {' or '.join(map(repr, names))}", hint=f"outputs: {list(value)}")
    return value[found]


def without_batch(array: np.ndarray) -> np.ndarray:
    """`array` without its first axis if that has size one and is not the only one."""
    return array[0] if array.ndim > 1 and len(array) == 1 else array


def as_scores(value: Any, op: str, axis: int = 0) -> np.ndarray:
    """`value`, or the only output there is, as floats; an InputError naming the step `op` if it is none."""
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise InputError(
                f"the step {op!r} wants one output of {list(value)}", hint='put the step "select" before it'
            )
        (value,) = value.values()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise InputError(f"the step {op!r} wants an array of numbers, not a {type(value).__name__}")
    if not (-value.ndim <= axis < value.ndim) or not value.shape[axis]:
        raise InputError(f"the step {op!r} wants scores along axis {axis}, not {list(value.shape)}")
    return value if value.dtype.kind == "f" else value.astype(np.float32)
