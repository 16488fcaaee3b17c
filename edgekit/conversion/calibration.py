"""The user's data as feeds: a part to calibrate on, and a part held out to judge by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from edgekit.card import Card
from edgekit.converter import Feeds
from edgekit.processing import Processing
from edgekit.samples import Samples, check_feeds, feeds_of
from edgekit.spec import Signature

__all__ = ["CalibrationData"]

HOLD_OUT_EVERY = 5
MIN_SAMPLES_TO_HOLD_OUT = 10
MAX_HELD_OUT = 64
FEW_SAMPLES = 32
"""Below this many samples a note says that ranges may be too narrow."""
LARGE_INPUT = 1000.0
"""Float inputs that reach farther than this are rarely what a model was trained on."""
FLAT_INPUT = 1e-6
"""Float inputs whose standard deviation over all samples is below this hardly say anything."""


@dataclass
class _Spread:
    """How far the numbers of one input reach, and how they scatter around the first of them."""

    origin: float
    reach: float = 0.0
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, array: np.ndarray) -> None:
        away = array.astype("float64") - self.origin
        self.reach = max(self.reach, float(np.abs(array).max()))
        self.count += array.size
        self.total += float(away.sum())
        self.squares += float(np.square(away).sum())

    @property
    def deviation(self) -> float:
        mean = self.total / self.count
        return max(self.squares / self.count - mean * mean, 0.0) ** 0.5


class _Suspicion:
    """By what feeds in passing give themselves away as none that the model meets in use."""

    def __init__(self, signature: Signature) -> None:
        self._state = {pair.input for pair in signature.state}
        self._spreads: dict[str, _Spread] = {}
        self._distinct: set[bytes] = set()
        self._count = 0

    def watching(self, all_feeds: Iterable[Feeds]) -> Iterator[Feeds]:
        for feeds in all_feeds:
            yield feeds  # first, so that who checks them refuses what is no number
            self._count += 1
            self._distinct.add(_digest(feeds))
            for name, array in feeds.items():
                if array.dtype.kind == "f" and array.size > 1 and name not in self._state:
                    self._spreads.setdefault(name, _Spread(float(array.flat[0]))).add(array)

    def notes(self) -> list[str]:
        """A line for each doubt."""
        doubts = []
        repeated = self._count - len(self._distinct)
        if repeated and len(self._distinct) == 1:
            doubts.append(f"all {self._count} calibration samples are one and the same: ranges follow from that one")
        elif repeated * 2 >= self._count:
            doubts.append(f"{repeated} of {self._count} calibration samples repeat others")
        for name, spread in self._spreads.items():
            if spread.reach > LARGE_INPUT:
                doubts.append(f"input {name!r} reaches {spread.reach:.4g}: is it scaled as in training?")
            if spread.deviation < FLAT_INPUT:
                doubts.append(f"input {name!r} hardly varies, by {spread.deviation:.1g}: is it scaled as in training?")
        return doubts


def _digest(feeds: Feeds) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(feeds):
        array = feeds[name]
        content = repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).data
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(content)
    return digest.digest()


@dataclass
class CalibrationData:
    """Samples through the model's processing.

    Attributes:
        processing: How a sample becomes feeds.
        card: The model's card, if the model is known.
        samples: What the user gave; None for nothing.
        held_out: Every fifth sample as feeds, up to 64, kept away from calibration; all samples when they are few.
        description: What `held_out` is, in words.
        notes: What the user should know.
        make_feeds: A family's own way from samples to feeds, where processing alone does not do it.
    """

    signature: Signature
    processing: Processing
    card: Card | None = None
    samples: Samples | None = None
    held_out: list[Feeds] = field(default_factory=list)
    description: str = ""
    notes: list[str] = field(default_factory=list)
    make_feeds: Callable[[Samples, Signature], Iterator[Feeds]] | None = None

    @classmethod
    def gather(
        cls,
        signature: Signature,
        card: Card | None,
        processing: Processing | str | None,
        samples: Samples | None,
        make_feeds: Callable[[Samples, Signature], Iterator[Feeds]] | None = None,
    ) -> CalibrationData:
        """Finds the processing: what was asked for, else the card's, else none. `make_feeds` does without one."""
        if isinstance(processing, str):
            processing = Processing.named(processing, signature)
        chosen = processing or (card.processing if card else Processing.identity())
        data = cls(signature, chosen, card, samples, make_feeds=make_feeds)
        if card and processing is None:
            data.notes.append(f"known model, {card.title}: its card says how inputs are prepared and what outputs mean")
        if samples is not None:
            suspicion = _Suspicion(signature)
            check_feeds(suspicion.watching(data._holding_out()), signature)
            data._describe(len(samples))
            data.notes += suspicion.notes()
        return data

    @property
    def _holds_out(self) -> bool:
        return self.samples is not None and len(self.samples) >= MIN_SAMPLES_TO_HOLD_OUT

    def _holding_out(self) -> Iterator[Feeds]:
        """All feeds, of which those to be held out are kept in passing: making a feed is most of the work."""
        for index, feed in enumerate(self._feeds()):
            if not self._holds_out or (index % HOLD_OUT_EVERY == 0 and len(self.held_out) < MAX_HELD_OUT):
                self.held_out.append(feed)
            yield feed

    def _describe(self, count: int) -> None:
        if self._holds_out:
            self.description = f"{len(self.held_out)} samples held out from calibration"
        else:
            self.description = f"the {count} calibration samples themselves"
            self.notes.append(f"only {count} samples: int8 was judged on the data it was calibrated on")
        if count < FEW_SAMPLES:
            self.notes.append(f"only {count} calibration samples: ranges may be too narrow; 100 or more are better")

    def _feeds(self) -> Iterator[Feeds]:
        if self.samples is not None and self.make_feeds is not None:
            yield from self.make_feeds(self.samples, self.signature)
        elif self.samples is not None:
            yield from feeds_of(self.samples, self.processing, self.signature)

    def calibration(self) -> Iterator[Feeds]:
        """Feeds that are not held out, one at a time, from the start at each call."""
        for index, feed in enumerate(self._feeds()):
            if not (self._holds_out and index % HOLD_OUT_EVERY == 0):
                yield feed
