"""How near an artifact's answers are to the source's, and which of its tensors is which of the source's.

Outputs are matched by meaning, never by position: by name where the names survived, else by the numbers themselves.
Two outputs of a network may have the same shape, and converters reorder and rename them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.spec import TensorSpec

__all__ = ["OutputParity", "Parity", "compare", "largest_difference", "match_inputs", "match_outputs"]

Answers = Sequence[Mapping[str, np.ndarray]]

_NEAR = 1e-3
"""Mean difference, as a share of the output's range, up to which equal names are believed without a second look."""


@dataclass(frozen=True)
class OutputParity:
    """One output against the source's, over all samples.

    Attributes:
        max_abs: Largest absolute difference.
        range: Largest minus smallest value of the source's output, over all samples.
        sqnr_db: 10 log10(sum of squares of the source / sum of squares of the difference); infinity when equal.
        top1_agreement: Share of rows along the last axis whose largest value is at the same place; None where that
            axis has one element.
    """

    max_abs: float
    range: float
    sqnr_db: float
    top1_agreement: float | None

    @property
    def relative(self) -> float:
        """Largest difference as a share of the output's range."""
        return self.max_abs / self.range


@dataclass(frozen=True)
class Parity:
    """All outputs against the source's. `samples` says on how many inputs, `data` on what kind of them."""

    outputs: Mapping[str, OutputParity]
    samples: int
    data: str

    @property
    def relative(self) -> float:
        """The largest difference of any output as a share of that output's range."""
        return max(output.relative for output in self.outputs.values())

    @property
    def sqnr_db(self) -> float:
        """That of the worst output, in dB."""
        return min(output.sqnr_db for output in self.outputs.values())

    @property
    def top1_agreement(self) -> float | None:
        """That of the worst output which has one."""
        return min((o.top1_agreement for o in self.outputs.values() if o.top1_agreement is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "data": self.data,
            "relative": _rounded(self.relative),
            "sqnr_db": _rounded(self.sqnr_db),
            "top1_agreement": self.top1_agreement,
            "outputs": {
                name: {
                    "max_abs": _rounded(o.max_abs),
                    "range": _rounded(o.range),
                    "sqnr_db": _rounded(o.sqnr_db),
                    "top1_agreement": o.top1_agreement,
                }
                for name, o in self.outputs.items()
            },
        }


def _rounded(value: float) -> float | None:
    """Six significant digits; None for infinity, which JSON has no word for."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def compare(expected: Answers, got: Answers, *, data: str) -> Parity:
    """Measures `got` against `expected`, both lists of outputs by name over the same inputs.

    Raises:
        ConversionError: A shape differs, or a value is not finite where the source's is.
    """
    outputs = {}
    for name in expected[0]:
        want = [np.asarray(answer[name], dtype="float64") for answer in expected]
        have = [np.asarray(answer[name], dtype="float64") for answer in got]
        for w, h in zip(want, have, strict=True):
            if w.shape != h.shape:
                raise ConversionError(f"output {name!r} has shape {list(h.shape)}, the source's has {list(w.shape)}")
            if not np.isfinite(h[np.isfinite(w)]).all():
                raise ConversionError(f"output {name!r} is not finite where the source's is")
        outputs[name] = _compare_output(want, have)
    return Parity(outputs, len(expected), data)


def _compare_output(want: list[np.ndarray], have: list[np.ndarray]) -> OutputParity:
    flat = np.concatenate([w.ravel() for w in want])
    error = np.concatenate([(h - w).ravel() for w, h in zip(want, have, strict=True)])
    finite = np.isfinite(flat) & np.isfinite(error)
    flat, error = flat[finite], error[finite]
    if not flat.size:
        return OutputParity(0.0, 1.0, math.inf, None)
    signal, noise = float(np.square(flat).sum()), float(np.square(error).sum())
    sqnr_db = math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-30) / noise)
    rows = [(w, h) for w, h in zip(want, have, strict=True) if w.ndim and w.shape[-1] > 1]
    agreement = None
    if rows:
        same = np.concatenate([(w.argmax(-1) == h.argmax(-1)).ravel() for w, h in rows])
        agreement = float(same.mean())
    return OutputParity(float(np.abs(error).max()), value_range(flat), sqnr_db, agreement)


def largest_difference(expected: np.ndarray, got: np.ndarray) -> float:
    """Of two arrays of one shape. Infinities of one sign are equal, so is NaN; beside a number either is infinite."""
    want, have = np.asarray(expected, "float64"), np.asarray(got, "float64")
    is_equal = (want == have) | (np.isnan(want) & np.isnan(have))
    with np.errstate(invalid="ignore"):
        apart = np.where(is_equal, 0.0, np.abs(want - have))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))


def value_range(values: np.ndarray) -> float:
    """Largest minus smallest value; the largest magnitude for a constant, 1 for nothing but zeros."""
    return float(values.max() - values.min()) or float(np.abs(values).max()) or 1.0


def match_outputs(expected: Answers, got: Answers) -> dict[str, str]:
    """For each of the source's output names, the artifact's name of the same output.

    Raises:
        ConversionError: There are not as many outputs, or an output has no counterpart of its shape.
    """
    ours, theirs = list(expected[0]), list(got[0])
    if len(ours) != len(theirs):
        raise ConversionError(f"the source has outputs {ours}, the file has {theirs}")
    costs = {(o, t): _distance(expected, got, o, t) for o in ours for t in theirs}
    if set(ours) == set(theirs) and all(costs[o, o] <= max(_NEAR, 2 * min(costs[o, t] for t in theirs)) for o in ours):
        return {name: name for name in ours}
    pairs: dict[str, str] = {}
    for (o, t), cost in sorted(costs.items(), key=lambda item: (item[1], item[0][0] != item[0][1])):
        if o not in pairs and t not in pairs.values() and math.isfinite(cost):
            pairs[o] = t
    if len(pairs) < len(ours):
        raise ConversionError(f"no output of the file has the shape of {sorted(set(ours) - set(pairs))}")
    return pairs


def _distance(expected: Answers, got: Answers, ours: str, theirs: str) -> float:
    """Mean absolute difference as a share of the source's range; infinity where shapes differ."""
    total, values = 0.0, []
    for want, have in zip(expected, got, strict=True):
        w, h = np.asarray(want[ours], dtype="float64"), np.asarray(have[theirs], dtype="float64")
        if w.shape != h.shape:
            return math.inf
        total += float(np.nan_to_num(np.abs(w - h), nan=1e30, posinf=1e30).mean()) if w.size else 0.0
        values.append(w.ravel())
    flat = np.concatenate(values)
    return total / len(expected) / (value_range(flat) if flat.size else 1.0)


def match_inputs(ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> dict[str, str]:
    """For each of the source's inputs, the artifact's name of it: by name, else by the one dtype and shape that fits.

    Raises:
        ConversionError: Which is which cannot be told.
    """
    if len(ours) != len(theirs):
        raise ConversionError(f"the source has inputs {[s.name for s in ours]}, the file {[s.name for s in theirs]}")
    plain = {_plain_name(spec.name): spec.name for spec in theirs}
    if {_plain_name(spec.name) for spec in ours} == set(plain):
        return {spec.name: plain[_plain_name(spec.name)] for spec in ours}
    pairs = {}
    for spec in ours:
        fits = [t.name for t in theirs if len(t.shape) == len(spec.shape) and _same_dims(spec, t)]
        if len(fits) != 1:
            raise ConversionError(f"cannot tell which of {[str(t) for t in theirs]} is the source's input {spec}")
        pairs[spec.name] = fits[0]
    if len(set(pairs.values())) != len(pairs):
        raise ConversionError(f"two inputs of the source would be the same input of the file: {pairs}")
    return pairs


def _plain_name(name: str) -> str:
    return name.removeprefix("serving_default_").partition(":")[0]


def _same_dims(a: TensorSpec, b: TensorSpec) -> bool:
    return all(x == y or isinstance(x, str) or isinstance(y, str) for x, y in zip(a.shape, b.shape, strict=True))
