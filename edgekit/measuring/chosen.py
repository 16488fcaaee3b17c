"""The feeds a profile runs."""

from __future__ import annotations

import numpy as np

from edgekit.errors import InputError
from edgekit.feeds import random_feeds
from edgekit.measuring.candidates import Subject
from edgekit.spec import Signature

__all__ = ["ChosenFeeds"]

_FEEDS = 4


class ChosenFeeds:
    """The feeds of a profile: those given, or the bundle's golden ones with random ones, several so that none repeats.

    All have the shapes of the first, because a latency over mixed sizes is of no size.

    Attributes:
        subject: What they are for.
    """

    def __init__(self, subject: Subject, given: list[dict[str, np.ndarray]] | None, seed: int) -> None:
        self.subject = subject
        self._given = given
        self._seed = seed
        self.description = ""
        self.shapes: dict[str, list[int]] = {}
        self.open_dims: tuple[str, ...] = ()

    def choose(self, signature: Signature) -> list[dict[str, np.ndarray]]:
        chosen = self._given if self._given is not None else self._own(signature)
        if not chosen:
            raise InputError("there are no inputs to measure with", hint="give inputs=, at least one feed")
        shapes = {name: list(np.shape(array)) for name, array in chosen[0].items()}
        alike = [feed for feed in chosen if {name: list(np.shape(a)) for name, a in feed.items()} == shapes]
        self.shapes = shapes
        if self._given is not None:
            self.description = f"{len(alike)} given"
        return alike

    def _own(self, signature: Signature) -> list[dict[str, np.ndarray]]:
        golden = self._golden(signature)
        if len(golden) >= 2:
            self.description = f"{len(golden)} golden feeds of the bundle"
            return golden
        # One at a time: `random_feeds` gives open dimensions another size at every turn.
        drawn = [random_feeds(signature, count=1, seed=self._seed + turn)[0] for turn in range(_FEEDS)]
        self.description = f"{_FEEDS} random feeds, seed {self._seed}"
        self.open_dims = tuple(
            f"{spec.name}[{dim}] = {drawn[0][spec.name].shape[axis]}"
            for spec in signature.inputs
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str)
        )
        return drawn

    def _golden(self, signature: Signature) -> list[dict[str, np.ndarray]]:
        """The bundle's golden feeds that fit this file, which may fix sizes its source left open."""
        if self.subject.bundle is None:
            return []
        feeds = [dict(feed) for feed in self.subject.bundle.golden().feeds]
        return [f for f in feeds if all(s.accepts_shape(f[s.name].shape) for s in signature.inputs if s.name in f)]
