"""The user's data as feeds: a part to calibrate on, and a part held out to judge by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from edgekit.card import Card
from edgekit.conversion.noise import DRAWN, noise_feeds, ranges_of
from edgekit.converter import Feeds
from edgekit.processing import ANY_INPUT, Processing
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
BEYOND = 0.1
"""Inputs that reach so far beyond what the processing gives, as a share of that, were not made by it."""
WITHIN = 0.02
"""And those that take up no more than this share of it."""
PIXELS = range(100, 256)
"""The largest of whole numbers, none below zero, that are likely pixels nobody has scaled."""


@dataclass
class _Spread:
    """How far the numbers of one input reach, and how they scatter around the first of them."""

    origin: float
    low: float = np.inf
    high: float = -np.inf
    are_whole: bool = True
    blank: int = 0
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, array: np.ndarray) -> None:
        away = array.astype("float64") - self.origin
        low, high = float(array.min()), float(array.max())
        self.low, self.high = min(low, self.low), max(high, self.high)
        self.blank += low == high
        self.are_whole = self.are_whole and bool((np.rint(array) == array).all())
        self.count += array.size
        self.total += float(away.sum())
        self.squares += float(np.square(away).sum())

    @property
    def reach(self) -> float:
        return max(-self.low, self.high)

    @property
    def are_pixels(self) -> bool:
        return self.are_whole and self.low >= 0 and int(min(self.high, 2**31)) in PIXELS

    @property
    def deviation(self) -> float:
        mean = self.total / self.count
        return max(self.squares / self.count - mean * mean, 0.0) ** 0.5


class _Suspicion:
    """By what feeds in passing give themselves away as none that the model meets in use."""

    def __init__(self, signature: Signature, processing: Processing) -> None:
        self._processing, self._ranges = processing, ranges_of(processing, signature)
        self._state = {pair.input for pair in signature.state}
        self._spreads: dict[str, _Spread] = {}
        self._distinct: set[bytes] = set()
        self._all = hashlib.sha256()
        self._count = 0

    def watching(self, all_feeds: Iterable[Feeds]) -> Iterator[Feeds]:
        for feeds in all_feeds:
            yield feeds  # first, so that who checks them refuses what is no number
            self._count += 1
            digest = _digest(feeds)
            self._distinct.add(digest)
            self._all.update(digest)
            for name, array in feeds.items():
                if array.dtype.kind == "f" and array.size > 1 and name not in self._state:
                    self._spreads.setdefault(name, _Spread(float(array.flat[0]))).add(array)

    @property
    def identity(self) -> str:
        """Hash of all feeds in their order."""
        return self._all.hexdigest()

    def notes(self) -> list[str]:
        """A line for each doubt."""
        doubts = []
        repeated = self._count - len(self._distinct)
        if repeated and len(self._distinct) == 1:
            doubts.append(f"all {self._count} calibration samples are one and the same: ranges follow from that one")
        elif repeated * 2 >= self._count:
            doubts.append(f"{repeated} of {self._count} calibration samples repeat others")
        for name, spread in self._spreads.items():
            doubts += [f"input {name!r} {doubt}: is it scaled as in training?" for doubt in self._doubts(name, spread)]
            if spread.blank * 2 >= self._count:
                doubts.append(f"input {name!r} is one number throughout {spread.blank} of {self._count} samples")
        return doubts

    def _doubts(self, name: str, spread: _Spread) -> Iterator[str]:
        if spread.deviation < FLAT_INPUT:
            yield f"hardly varies, by {spread.deviation:.1g}"
        if name in self._ranges:
            low, high = self._ranges[name]
            width, taken = high - low, spread.high - spread.low
            is_beyond = max(low - spread.low, spread.high - high) > BEYOND * width
            if is_beyond or FLAT_INPUT < taken < WITHIN * width:
                yield (
                    f"runs from {spread.low:.4g} to {spread.high:.4g}, and its processing gives {low:.4g} to {high:.4g}"
                )
        elif spread.reach > LARGE_INPUT:
            yield f"reaches {spread.reach:.4g}"
        elif spread.are_pixels and not {name, ANY_INPUT} & self._processing.inputs.keys():
            yield f"holds whole numbers up to {spread.high:g}, as pixels are, and no processing scales them"


def _digest(feeds: Feeds) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
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
        identity: Hash of all feeds in their order; empty without samples.
        count: How many feeds there are, those that are held out among them.
        counting: Called with how many samples, or feeds, of how many are done.
    """

    signature: Signature
    processing: Processing
    card: Card | None = None
    samples: Samples | None = None
    held_out: list[Feeds] = field(default_factory=list)
    description: str = ""
    notes: list[str] = field(default_factory=list)
    make_feeds: Callable[[Samples, Signature], Iterator[Feeds]] | None = None
    identity: str = ""
    count: int = 0
    counting: Callable[[int, int], None] = lambda done, total: None

    @classmethod
    def gather(
        cls,
        signature: Signature,
        card: Card | None,
        processing: Processing | str | None,
        samples: Samples | None,
        make_feeds: Callable[[Samples, Signature], Iterator[Feeds]] | None = None,
        counting: Callable[[int, int], None] | None = None,
    ) -> CalibrationData:
        """Finds the processing: what was asked for, else the card's, else none. `make_feeds` does without one.

        Raises:
            InputError: A sample does not fit, and is named; or nothing can be learned from all of them.
        """
        if isinstance(processing, str):
            processing = Processing.named(processing, signature)
        chosen = processing or (card.processing if card else Processing.identity())
        data = cls(signature, chosen, card, samples, make_feeds=make_feeds)
        data.counting = counting or data.counting
        if samples is not None and samples.is_synthetic:
            data.make_feeds = partial(noise_feeds, chosen)
            data.notes.append(f"calibrated on RANDOM numbers, which say nothing of real inputs: {DRAWN}")
        if card and processing is None:
            data.notes.append(f"known model, {card.title}: its card says how inputs are prepared and what outputs mean")
        if samples is not None:
            data._look(samples)
        return data

    def _look(self, samples: Samples) -> None:
        """Goes through all feeds once: refuses bad ones, holds some out, and says what is odd."""
        suspicion, places = _Suspicion(self.signature, self.processing), iter(range(len(samples)))
        watched = samples.watched(lambda sample: self.counting(next(places), len(samples)))
        self.count = check_feeds(suspicion.watching(self._holding_out(watched)), self.signature)
        self.identity = suspicion.identity
        if not samples.sha256:
            self.samples = replace(samples, sha256=self.identity)
        self._describe(len(samples))
        self.notes += suspicion.notes()

    @property
    def _holds_out(self) -> bool:
        return self.samples is not None and len(self.samples) >= MIN_SAMPLES_TO_HOLD_OUT

    def _is_held_out(self, index: int) -> bool:
        return self._holds_out and index % HOLD_OUT_EVERY == 0

    def _holding_out(self, samples: Samples) -> Iterator[Feeds]:
        """All feeds, of which those to be held out are kept in passing: making a feed is most of the work."""
        for index, feed in enumerate(self._feeds(samples)):
            if not self._holds_out or (self._is_held_out(index) and len(self.held_out) < MAX_HELD_OUT):
                self.held_out.append(feed)
            yield feed

    def _describe(self, count: int) -> None:
        noise = " of noise" if self.samples is not None and self.samples.is_synthetic else ""
        if self._holds_out:
            self.description = f"{len(self.held_out)} samples{noise} held out from calibration"
        else:
            self.description = f"the {count} calibration samples{noise} themselves"
            self.notes.append(f"only {count} samples: int8 was judged on the data it was calibrated on")
        if count < FEW_SAMPLES:
            self.notes.append(f"only {count} calibration samples: ranges may be too narrow; 100 or more are better")

    def _feeds(self, samples: Samples) -> Iterator[Feeds]:
        if self.make_feeds is not None:
            return self.make_feeds(samples, self.signature)
        return feeds_of(samples, self.processing, self.signature)

    def calibration(self) -> Iterator[Feeds]:
        """Feeds that are not held out, one at a time, from the start at each call."""
        total, done = sum(not self._is_held_out(index) for index in range(self.count)), 0
        for index, feed in enumerate(self._feeds(self.samples) if self.samples is not None else ()):
            if not self._is_held_out(index):
                yield feed
                done += 1
                self.counting(done, total)

    def provenance(self) -> dict[str, Any] | None:
        """What a bundle says of it; None without samples."""
        if self.samples is None:
            return None
        said = {"sha256": self.samples.sha256, "samples": len(self.samples)}
        return {**said, "synthetic": True, "drawn": DRAWN} if self.samples.is_synthetic else said
