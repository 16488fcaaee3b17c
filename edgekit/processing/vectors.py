"""Steps to and on embeddings: one vector for what went in, and which known one it is like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.results import as_scores, named_output
from edgekit.processing.steps import Apply, StepContext, integers, name_of, names_of, number

__all__ = ["mean_pool", "mean_rows", "nearest", "unit_length"]


def mean_pool(*, mask: Any, name: Any = None) -> Apply:
    """[rows, steps, width] -> [rows, width]: the mean over the steps that `mask`, an input, has as not zero.

    This is how sentence embeddings are made (N. Reimers, I. Gurevych, Sentence-BERT, arXiv 1908.10084).

    Args:
        mask: Name of the input, such as ``"attention_mask"``.
        name: Of the output; may be left out where there is one.
    """
    which = name_of("mask", mask, "an input")
    names = None if name is None else names_of("name", name, "an output")

    def apply(value: Any, context: StepContext) -> np.ndarray:
        states = _states(value, names)
        if context.feeds is None or which not in context.feeds:
            known = list(context.feeds or ())
            raise InputError(f"there is no input {which!r} to pool by", hint=f"inputs: {known}")
        weights = np.asarray(context.feeds[which] != 0, np.float32)
        if states.ndim != 3 or weights.shape != states.shape[:2]:
            raise InputError(f"states {list(states.shape)} and mask {list(weights.shape)} do not go together")
        total = np.einsum("rsw,rs->rw", states, weights)
        return np.asarray(total / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9))

    return apply


def _states(value: Any, names: tuple[str, ...] | None) -> np.ndarray:
    if names is not None and isinstance(value, Mapping):
        value = named_output(value, names, "mean_pool")
    return as_scores(value, "mean_pool")


def mean_rows() -> Apply:
    """[rows, ...] -> [...]: the mean over windows of a sound, or the only row there is."""
    return lambda value, context: as_scores(value, "mean_rows").mean(axis=0)


def unit_length() -> Apply:
    """Vectors along the last axis, divided by their length; zero stays zero."""

    def apply(value: Any, context: StepContext) -> np.ndarray:
        vectors = as_scores(value, "unit_length", -1)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))

    return apply


def nearest(*, vectors: Any, k: Any = 1, threshold: Any = -1.0) -> Apply:
    """A vector -> the `k` labels whose vectors it is most like, best first: ``[{"label", "score", "index"}, ...]``.

    The score is the cosine of the two; what is below `threshold` is left out.

    Args:
        vectors: One for each label, in lists.
        k: See above.
        threshold: See above.
    """
    (count,), least = integers("k", k, count=1, least=1), number("threshold", threshold)
    try:
        known = np.array(vectors, np.float32)
    except (TypeError, ValueError):
        raise ArtifactError("vectors must be a list of lists of numbers, all of one length") from None
    if known.ndim != 2 or not known.size:
        raise ArtifactError("vectors must be a list of lists of numbers, all of one length")
    lengths = np.linalg.norm(known, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ArtifactError("vectors must be finite, and not zero")
    known = known / lengths

    def apply(value: Any, context: StepContext) -> list[dict[str, Any]]:
        vector = as_scores(value, "nearest").ravel()
        if vector.shape != known.shape[1:]:
            raise InputError(f"a vector of {vector.size} numbers is not like those of {known.shape[1]}")
        labels = context.labels or tuple(f"class {index}" for index in range(len(known)))
        if len(labels) != len(known):
            raise ArtifactError(f"{len(labels)} labels for {len(known)} vectors")
        cosines = known @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        order = np.argsort(-cosines, kind="stable")[:count].tolist()
        return [
            {"label": labels[i], "score": float(cosines[i]), "index": i} for i in order if float(cosines[i]) >= least
        ]

    return apply
