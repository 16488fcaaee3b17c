"""The user's data as samples, one at a time in constant memory, whatever form they are in.

Which forms there are stands in `READERS`, each a module of `edgekit.readers`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekit.decoding import open_picture, read_wav
from edgekit.errors import InputError
from edgekit.processing.text import text_of
from edgekit.registry import READERS
from edgekit.rows import load_arrays
from edgekit.spec import Signature

if TYPE_CHECKING:
    from edgekit.processing import Processing

__all__ = [
    *("Reading", "Sample", "Samples", "Source", "check_feeds", "digest", "drawn", "feeds_of", "loaded"),
    *("read_samples", "shuffled", "why_unreadable"),
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
KINDS = {"images": IMAGE_SUFFIXES, "arrays": (".npy", ".npz"), "sounds": (".wav",), "texts": (".txt",)}
SUFFIXES = tuple(suffix for suffixes in KINDS.values() for suffix in suffixes)
LABELS_KEY = "labels"
TARGETS_KEY = "targets"

HINT = f"give a folder or file of {', '.join(SUFFIXES)}"


@dataclass(frozen=True)
class Sample:
    """One sample of the user's data.

    Attributes:
        name: Where it is from: the file relative to what was given, or the index in it.
        value: What a `Processing` takes: a path, a text, an array, or arrays by input name.
        label: The class it belongs to, where the data says so.
        truth: What is true of it: ``label`` (the same), ``boxes`` with the picture's ``size`` where it is known,
            ``segments``, ``transcript``, ``target``, and as paths ``mask`` and ``target``.
    """

    name: str
    value: Any
    label: str | None = None
    truth: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """What samples come from, the same ones in the same order each time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...


@dataclass(frozen=True)
class Samples:
    """Samples that can be gone through again and again, always in the same order.

    Attributes:
        path: What the user gave; words where that was no file.
        sha256: Hash of the content of all samples and of which they are; empty where only their feeds tell.
        skipped: Files left out, each with the reason.
        source: What they come from.
        is_synthetic: They are noise: each value is the seed of one, see `edgekit.conversion.noise`.
        labels: The classes in the order the data give them; empty where they give none.
        found: Where they give no order, the classes that occur, by name.
        split: The one that was read, of data that have some.
    """

    path: Path | str
    sha256: str
    skipped: tuple[tuple[str, str], ...] = ()
    source: Source = field(repr=False, kw_only=True)
    is_synthetic: bool = field(default=False, kw_only=True)
    labels: tuple[str, ...] = field(default=(), kw_only=True)
    found: tuple[str, ...] = field(default=(), kw_only=True)
    split: str | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.source)

    def where(self, takes: Callable[[int], bool]) -> Samples:
        """Those whose place, from 0, `takes` accepts; the hash stays that of all."""
        return replace(self, source=_Part(self, tuple(filter(takes, range(len(self))))))

    def watched(self, by: Callable[[Sample], None]) -> Samples:
        """The same samples, of each of which `by` is told when its turn comes."""
        return replace(self, source=_Watched(self, by))


@dataclass(frozen=True)
class Reading:
    """What is asked of a reader.

    Attributes:
        path: A file or a folder.
        limit: Take so many, drawn with `seed`, in their own order; None takes all.
        seed: Of the draw.
        labels: The classes there are, in the order of their indices; empty takes the names the data has.
        images: The folder of the files that the data name, where that is apart.
        split: Of data that have splits; None leaves it to the reader.
    """

    path: Path
    limit: int | None = None
    seed: int = 0
    labels: tuple[str, ...] = ()
    images: Path | None = None
    split: str | None = None


def read_samples(
    path: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    labels: Sequence[str] = (),
    images: Path | None = None,
    split: str | None = None,
) -> Samples:
    """The samples at `path`, a folder or a file, by the first reader that accepts what is there.

    Args:
        path: What holds them, or lists them.
        limit, seed, labels, images, split: As of `Reading`.

    Raises:
        InputError: There is nothing at `path`, or nothing in it can be read, or a label is none of `labels`.
    """
    if limit is not None and limit < 1:
        raise InputError(f"cannot take {limit} samples", hint="a number above zero")
    if not path.exists():
        raise InputError(f"there is no {path}", hint=HINT)
    if images is not None and not images.is_dir():
        raise InputError(f"there is no folder {images}", hint="--images names the folder of the files")
    reader = next(reader for _, reader in READERS if reader.accepts(path))
    samples: Samples = reader.read(Reading(path, limit, seed, tuple(labels), images, split))
    return samples


def feeds_of(samples: Samples, processing: Processing, signature: Signature) -> Iterator[dict[str, np.ndarray]]:
    """Feeds for each sample, made as `predict` makes them; each window of a sound is one of its own.

    Raises InputError naming the sample that does not fit, or gives NaN or infinity.
    """
    for sample in samples:
        try:
            batches = processing.batches(sample.value, signature, rows=1)
            for feeds in batches:
                _require_finite(feeds)
        except InputError as error:
            raise InputError(f"{samples.path}, sample {sample.name}: {error.message}", hint=error.hint) from error
        yield from batches


def _require_finite(feeds: Mapping[str, np.ndarray]) -> None:
    for name, array in feeds.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"input {name!r} holds NaN or infinity", hint="mend this sample, or leave it out")


def check_feeds(all_feeds: Iterable[Mapping[str, np.ndarray]], signature: Signature) -> int:
    """How many feeds there are; refuses data that nobody calibrates on with intent.

    Raises:
        InputError: There are none, one holds NaN or infinity, or a float input that is not state has one and the same
            value throughout all of them.
    """
    state = {pair.input for pair in signature.state}
    ranges: dict[str, tuple[float, float]] = {}
    count = 0
    for count, feeds in enumerate(all_feeds, start=1):
        try:
            _require_finite(feeds)
        except InputError as error:
            raise InputError(f"sample {count}: {error.message}", hint=error.hint) from error
        for name, array in feeds.items():
            if array.dtype.kind != "f" or not array.size:
                continue
            low, high = float(array.min()), float(array.max())
            if array.size > 1 and name not in state:
                lowest, highest = ranges.get(name, (low, high))
                ranges[name] = min(low, lowest), max(high, highest)
    if not count:
        raise InputError("there are no samples")
    for name, (low, high) in ranges.items():
        if low == high:
            raise InputError(
                f"input {name!r} is {low:g} throughout all {count} samples",
                hint="is this the data, and the processing, the model was trained with?",
            )
    return count


@dataclass(frozen=True)
class _Part:
    """Some of others."""

    whole: Samples
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Sample]:
        wanted = set(self.places)
        return (sample for place, sample in enumerate(self.whole) if place in wanted)


@dataclass(frozen=True)
class _Watched:
    """Others, of which somebody wants to know when their turn comes."""

    whole: Samples
    by: Callable[[Sample], None]

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[Sample]:
        for sample in self.whole:
            self.by(sample)
            yield sample


def loaded(file: Path) -> Any:
    """The value of the sample in `file`: the arrays of one that holds arrays, else the path."""
    return load_arrays(file) if file.suffix.lower() in KINDS["arrays"] else file


def why_unreadable(path: Path) -> str:
    """Why `path` cannot be a sample; empty if it can, which takes reading it whole."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        return "not an image, .npy, .npz, .wav or .txt file"
    try:
        if suffix == ".txt":
            return "" if text_of(path).strip() else "an empty text"
        if suffix == ".wav":
            return "" if read_wav(path).samples.size else "an empty sound"
        if suffix in KINDS["arrays"]:
            found = load_arrays(path)
            arrays = found.values() if isinstance(found, dict) else [found]
            return "" if all(array.size for array in arrays) else "an empty array"
        open_picture(path)
    except InputError as error:
        return error.message
    return ""


def drawn(count: int, limit: int | None, seed: int = 0) -> list[int]:
    """Places of the samples that are taken of `count`, from 0, ascending; `limit` and `seed` as of `read_samples`."""
    return sorted(shuffled(count, limit, seed)[:limit])


def shuffled(count: int, limit: int | None, seed: int) -> Sequence[int]:
    """Indices in the order in which they are tried: shuffled where only some are taken."""
    if limit is None or limit >= count:
        return range(count)
    return [int(index) for index in np.random.default_rng(seed).permutation(count)]


def digest(files: Iterable[tuple[str, Path]], chosen: str = "") -> str:
    """Hash over names and contents, and over what is taken of them."""
    total = hashlib.sha256(chosen.encode())
    for name, path in files:
        with path.open("rb") as file:
            total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
