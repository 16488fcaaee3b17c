"""Metrics of numbers: errors of regression, and how well a language model expects a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Score, Truth, single_array
from edgekit.rows import load_arrays

__all__ = ["BITS_PER_TOKEN", "MAE", "PERPLEXITY", "RMSE"]


def _differences(answers: Sequence[Any], truths: Sequence[Truth]) -> np.ndarray:
    """Answer less truth, of all numbers of all samples in a row."""
    found = []
    for answer, truth in zip(answers, truths, strict=True):
        given = np.asarray(single_array(answer), np.float64)
        target = np.asarray(_target(truth), np.float64)
        if given.size != target.size:
            raise InputError(f"an answer of {list(given.shape)} is not like its target of {list(target.shape)}")
        found.append(given.reshape(-1) - target.reshape(-1))
    return np.concatenate(found)


def _target(truth: Truth) -> Any:
    target = truth.get("target", truth.get("label"))
    if isinstance(target, Path):
        return load_arrays(target)
    if isinstance(target, str):
        try:
            return float(target)
        except ValueError:
            raise InputError(f"{target!r} is no number to compare an answer with") from None
    return target


def _rmse(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return Score(float(np.sqrt(np.mean(np.square(_differences(answers, truths))))))


def _mae(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return Score(float(np.mean(np.abs(_differences(answers, truths)))))


def _nats_per_token(answers: Sequence[Any]) -> float:
    tokens = sum(int(answer["tokens"]) for answer in answers)
    nats = math.fsum(float(answer["nats"]) for answer in answers)
    if tokens < 1 or not math.isfinite(nats):
        raise InputError(f"{nats:g} nats over {tokens} tokens say nothing", hint="take longer texts")
    return nats / tokens


def _perplexity(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return Score(math.exp(min(_nats_per_token(answers), 700.0)))


def _bits_per_token(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return Score(_nats_per_token(answers) / math.log(2))


_NUMBERS = "a number, numbers, or one output by name"
_TEXT = '{"nats": sum of -ln p over the predicted tokens of the text, "tokens": how many they are}'

RMSE = Metric("rmse", "root of the mean squared error", False, ("target", "label"), _NUMBERS, _rmse)
MAE = Metric("mae", "mean absolute error", False, ("target", "label"), _NUMBERS, _mae)
PERPLEXITY = Metric("perplexity", "perplexity of a token, over all texts together", False, (), _TEXT, _perplexity)
BITS_PER_TOKEN = Metric(
    "bits-per-token", "bits needed for a token, over all texts together", False, (), _TEXT, _bits_per_token
)
