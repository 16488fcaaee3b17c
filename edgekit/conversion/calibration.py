"""The user's data as feeds: a part to calibrate on, and a part held out to judge by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

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
            check_feeds(data._holding_out(), signature)
            data._describe(len(samples))
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
