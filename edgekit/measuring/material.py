"""What two models are fed with to compare them: the user's data, else golden feeds of a bundle and random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.datasets import open_dataset
from edgekit.datasets.description import DESCRIPTION
from edgekit.errors import EdgekitError, InputError, UnsupportedError
from edgekit.feeds import random_feeds
from edgekit.measuring.agreement import Agreement, measure_agreement
from edgekit.measuring.sides import Side, runs_as
from edgekit.processing import Processing
from edgekit.registry import DATASETS
from edgekit.samples import Samples, feeds_of, read_samples

__all__ = ["Material"]

_RANDOM_FEEDS = 4
_KEPT_FEEDS = 4

Progress = Callable[[int, int, str], None]
Feeds = Mapping[str, np.ndarray]


@dataclass
class Material:
    """The feeds, by the names of the first.

    Attributes:
        a: The first.
        b: The second.
        names: For each input of the first what the second calls it.
        data: The user's; None for feeds of our own.
        split: Of a data set.
        limit: Take so many samples.
        given: How samples become feeds; None for what either model says.
        seed: Of random feeds and of which samples are taken.
    """

    a: Side
    b: Side
    names: Mapping[str, str]
    data: str | Path | None
    split: str
    limit: int | None
    given: Processing | None
    seed: int

    def __post_init__(self) -> None:
        self.notes: list[str] = []
        self._kept: list[Feeds] = []

    def agreements(self, tell: Progress) -> Iterator[Agreement]:
        for words, count, feeds in self._kinds():
            try:
                yield measure_agreement(
                    self._keeping(feeds),
                    self.a.run,
                    runs_as(self.b, self.names),
                    data=words,
                    tick=lambda done, w=words, c=count: tell(done, c, f"answering {w}"),  # type: ignore[misc]
                )
            except EdgekitError as error:
                # Random numbers may be sizes, rows or states that a model refuses; what it was made for it must take.
                if isinstance(error, UnsupportedError) or not words.startswith("random") or not self._kept:
                    raise
                self.notes.append(f"no random feeds: {error.message}")

    def some(self, count: int) -> list[Feeds]:
        """The first feeds that both answered, all of one size."""
        sizes = [{name: np.shape(array) for name, array in feed.items()} for feed in self._kept]
        return [feed for feed, own in zip(self._kept, sizes, strict=True) if own == sizes[0]][:count]

    def _keeping(self, feeds: Iterator[Feeds]) -> Iterator[Feeds]:
        for feed in feeds:
            yield feed
            if len(self._kept) < _KEPT_FEEDS:
                self._kept.append(feed)

    def _kinds(self) -> Iterator[tuple[str, int, Iterator[Feeds]]]:
        if self.data is not None:
            yield self._samples(self.data)
            return
        golden = next((found for side in (self.a, self.b) if (found := self._golden(side))), [])
        if golden:
            yield f"golden feeds of the bundle ({len(golden)})", len(golden), iter(golden)
        drawn = (random_feeds(self.a.signature, count=1, seed=self.seed + n)[0] for n in range(_RANDOM_FEEDS))
        yield f"random feeds, seed {self.seed}", _RANDOM_FEEDS, drawn

    def _golden(self, side: Side) -> list[Feeds]:
        if side.bundle is None:
            return []
        back = {theirs: ours for ours, theirs in self.names.items()} if side is self.b else {}
        feeds = [{back.get(name, name): array for name, array in feed.items()} for feed in side.bundle.golden().feeds]
        return [feed for feed in feeds if self._fits(feed)]

    def _fits(self, feed: Feeds) -> bool:
        specs = {mine: (self.a.signature.input(mine), self.b.signature.input(b)) for mine, b in self.names.items()}
        return specs.keys() == feed.keys() and all(
            spec.accepts_shape(feed[name].shape) for name, both in specs.items() for spec in both
        )

    def _samples(self, data: str | Path) -> tuple[str, int, Iterator[Feeds]]:
        samples = _read(data, self.split, self.limit, self.seed)
        self.notes += [f"skipped {path}: {why}" for path, why in samples.skipped]
        processing = self.given or self.a.processing or self.b.processing or Processing()
        feeds = feeds_of(samples, processing, self.a.signature)
        first = next(feeds, None)
        if first is None:
            raise InputError(f"{data} holds no samples")
        return f"{len(samples)} samples of {data}", len(samples), _with_first(first, feeds)


def _read(data: str | Path, split: str, limit: int | None, seed: int) -> Samples:
    path, is_named = Path(data), isinstance(data, str) and data in DATASETS.names()
    if is_named or path.suffix.lower() in (".yaml", ".yml") or (path / DESCRIPTION).exists():
        return open_dataset(data).samples(split, limit=limit, seed=seed)
    return read_samples(path, limit=limit, seed=seed)


def _with_first(first: Feeds, rest: Iterator[Feeds]) -> Iterator[Feeds]:
    yield first
    yield from rest
