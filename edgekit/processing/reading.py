"""The step from a text recognizer's scores to the text."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.results import as_scores, without_batch
from edgekit.processing.steps import Apply, StepContext, integers, one_of

__all__ = ["ctc_text"]


def ctc_text(*, blank: Any = 0, activation: str = "none") -> Apply:
    """Scores [1, steps, characters] -> ``{"text", "score"}``; the characters are the labels.

    The best character of each step is taken; those that repeat the one before and blanks are left out (best path
    decoding; A. Graves et al., Connectionist Temporal Classification, 2006, section 3.2). The score is the mean of
    those that are left, 0 where there are none.

    Args:
        blank: Index of the character that is none; -1 is the last.
        activation: ``"softmax"`` where the scores are logits.
    """
    (empty,) = integers("blank", blank, count=1, least=-1)
    is_logits = one_of("activation", activation, ("none", "softmax")) == "softmax"

    def apply(value: Any, context: StepContext) -> dict[str, Any]:
        scores = as_scores(value, "ctc_text", -1)
        scores = without_batch(scores) if scores.ndim == 3 else scores
        if scores.ndim != 2:
            raise InputError(f"ctc_text wants the scores of one line, not {list(scores.shape)}")
        if len(context.labels) != scores.shape[1]:
            raise ArtifactError(
                f"{len(context.labels)} labels for {scores.shape[1]} characters",
                hint='the labels are the characters by index, with "" for the blank',
            )
        if empty >= scores.shape[1]:
            raise ArtifactError(f"blank must be below the {scores.shape[1]} characters, not {empty}")
        best = scores.argmax(axis=1)
        is_kept = best != empty % scores.shape[1]
        is_kept[1:] &= best[1:] != best[:-1]
        chosen = scores[is_kept, best[is_kept]]
        if is_logits:
            rest = scores[is_kept]
            chosen = 1.0 / np.exp(rest - rest.max(axis=1, keepdims=True)).sum(axis=1)
        text = "".join(context.labels[index] for index in best[is_kept].tolist())
        return {"text": text, "score": float(chosen.mean()) if chosen.size else 0.0}

    return apply
