"""Classes of answers, the tolerance, and the figures a road is judged by."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tests.ops.cases import DISPUTED

__all__ = ["CLASSES", "Score", "classify", "fell", "passes", "summarize"]

CLASSES = ("crash", "wrong", "unrunnable", "refused", "lenient", "strict")
"""From worst to best.

crash       the process died, ran over its time, or the writer raised what is no error of edgekit's
wrong       the file runs and gives something else: the writer should have refused
unrunnable  the file was written, and no engine loads or runs it
refused     the writer said what it cannot write
lenient     right but for a narrower integer, another width of float, a scalar as [1], permuted axes, or one 8-bit step
strict      values, shape and dtype
"""

_NARROWED = {("int64", "int32"), ("float16", "float32"), ("float64", "float32")}
_MAX_PERMUTED_RANK = 5


def classify(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """``"strict"``, ``"lenient"`` or ``"wrong"``, and what is not as expected. The worst output decides."""
    if set(expected) != set(got):
        return "wrong", f"outputs {sorted(got)} instead of {sorted(expected)}"
    found = [_classify_one(want, np.asarray(got[name])) for name, want in expected.items()]
    kind, why = min(found, key=lambda pair: CLASSES.index(pair[0]))
    return kind, why


def _classify_one(want: np.ndarray, have: np.ndarray) -> tuple[str, str]:
    same_type = want.dtype == have.dtype
    if not same_type and (want.dtype.name, have.dtype.name) not in _NARROWED:
        return "wrong", f"{have.dtype} instead of {want.dtype}"
    if want.shape == have.shape and _near(want, have):
        return ("strict", "") if same_type else ("lenient", f"{have.dtype} instead of {want.dtype}")
    if {want.shape, have.shape} == {(), (1,)} and _near(want.reshape(1), have.reshape(1)):
        return "lenient", f"shape {list(have.shape)} instead of {list(want.shape)}"
    if want.shape == have.shape and want.dtype.name in ("uint8", "int8") and _one_step(want, have):
        return "lenient", "off by one"
    if permutation := _permutation(want, have):
        return "lenient", f"axes permuted by {permutation}"
    return "wrong", _difference(want, have)


def _near(want: np.ndarray, have: np.ndarray) -> bool:
    if want.dtype.kind != "f":
        return bool(np.array_equal(want, have))
    wide, finite = want.astype("float64"), np.abs(want[np.isfinite(want)].astype("float64"))
    rtol = 5e-3 if want.dtype == np.float16 else 1e-3
    return bool(np.allclose(have.astype("float64"), wide, rtol, 1e-5 * max(1.0, finite.max(initial=0)), equal_nan=True))


def _one_step(want: np.ndarray, have: np.ndarray) -> bool:
    return bool(np.abs(want.astype("int32") - have.astype("int32")).max(initial=0) <= 1)


def _permutation(want: np.ndarray, have: np.ndarray) -> tuple[int, ...] | None:
    if want.ndim != have.ndim or want.ndim > _MAX_PERMUTED_RANK or sorted(want.shape) != sorted(have.shape):
        return None
    orders = itertools.permutations(range(want.ndim))
    next(orders, None)  # as it is
    fits = (order for order in orders if have.transpose(order).shape == want.shape)
    return next((order for order in fits if _near(want, have.transpose(order))), None)


def _difference(want: np.ndarray, have: np.ndarray) -> str:
    if want.shape != have.shape:
        return f"shape {list(have.shape)} instead of {list(want.shape)}"
    with np.errstate(all="ignore"):
        apart = np.abs(have.astype("float64") - want.astype("float64"))
    return f"off by up to {np.nanmax(apart, initial=0):.3g}, of {apart.size} values {np.count_nonzero(apart)} differ"


def passes(kind: str) -> bool:
    return kind in ("strict", "lenient")


@dataclass(frozen=True)
class Score:
    """What a road can do.

    Attributes:
        tests: All that were run, the disputed ones too.
        strict, lenient: Of those not disputed, how many are right strictly, and at least leniently.
        undisputed: How many are not disputed.
        lenient_of_all: At least leniently right, disputed ones counted too.
        ops: By op, how many undisputed tests there are and how many are at least leniently right.
        counts: Of every class how many; a wrong answer to a disputed test is not counted.
    """

    tests: int
    undisputed: int
    strict: int
    lenient: int
    lenient_of_all: int
    ops: Mapping[str, tuple[int, int]]
    counts: Mapping[str, int]

    @property
    def whole(self) -> int:
        """Ops all of whose undisputed tests pass."""
        return sum(total == right for total, right in self.ops.values())


def summarize(kinds: Mapping[str, str], ops: Mapping[str, str]) -> Score:
    """The figures of one road from the class of each test and the op each test is of."""
    fair = {name: kind for name, kind in kinds.items() if name not in DISPUTED}
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, kind in fair.items():
        totals[ops[name]][0] += 1
        totals[ops[name]][1] += passes(kind)
    counts = {kind: sum(k == kind for k in kinds.values()) for kind in CLASSES}
    counts["wrong"] = sum(kind == "wrong" for kind in fair.values())
    return Score(
        tests=len(kinds),
        undisputed=len(fair),
        strict=sum(kind == "strict" for kind in fair.values()),
        lenient=sum(map(passes, fair.values())),
        lenient_of_all=sum(map(passes, kinds.values())),
        ops={op: (total, right) for op, (total, right) in sorted(totals.items())},
        counts=counts,
    )


def fell(before: Mapping[str, str], now: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Tests among `names` of a worse class than before, and how they changed."""
    return {
        name: f"{before[name]} -> {now[name]}"
        for name in names
        if name in before and _rank(name, now[name]) < _rank(name, before[name])
    }


def _rank(name: str, kind: str) -> int:
    """The place among CLASSES; to give another answer than a disputed one is no worse than to refuse."""
    return CLASSES.index("refused" if kind == "wrong" and name in DISPUTED else kind)
