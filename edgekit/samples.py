"""The user's data as samples, one at a time in constant memory: folders of images or sounds, .npy and .npz files.

In a folder every file is a sample; the name of the folder within it is the label. A single .npy or .npz file holds a
sample per index of its first axis; an .npz has an array for each input by name, and may have one of ``labels``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.decoding import open_picture, read_wav
from edgekit.errors import InputError
from edgekit.rows import RowFile, load_arrays, open_rows
from edgekit.spec import Signature

if TYPE_CHECKING:
    from edgekit.processing import Processing

__all__ = ["Sample", "Samples", "check_feeds", "feeds_of", "read_samples"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SUFFIXES = (*IMAGE_SUFFIXES, ".npy", ".npz", ".wav")
LABELS_KEY = "labels"

_HINT = f"give a folder or file of {', '.join(SUFFIXES)}"


@dataclass(frozen=True)
class Sample:
    """One sample of the user's data.

    Attributes:
        name: Where it is from: the file relative to what was given, or the index in it.
        value: What a `Processing` takes: a path, an array, or arrays by input name.
        label: The class it belongs to, where the data says so.
    """

    name: str
    value: Any
    label: str | None = None


@dataclass(frozen=True)
class Samples:
    """Samples that can be gone through again and again, always in the same order.

    Attributes:
        path: What the user gave.
        skipped: Files left out, each with the reason.
        sha256: Hash of the content of all samples and of which they are.
    """

    path: Path
    sha256: str
    skipped: tuple[tuple[str, str], ...] = ()
    _source: _Folder | _Rows = field(repr=False, kw_only=True)

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._source)


def read_samples(path: Path, *, limit: int | None = None, seed: int = 0) -> Samples:
    """The samples at `path`, a folder or a file.

    Args:
        path: What holds them.
        limit: Take so many, drawn with `seed`, in their own order; None takes all.
        seed: Of the draw.

    Raises:
        InputError: There is nothing at `path`, or nothing in it can be read.
    """
    if limit is not None and limit < 1:
        raise InputError(f"cannot take {limit} samples", hint="a number above zero")
    if path.is_dir():
        return _read_folder(path, limit, seed)
    if not path.is_file():
        raise InputError(f"there is no {path}", hint=_HINT)
    if path.suffix.lower() in (".npy", ".npz"):
        rows = open_rows(path)
        chosen = sorted(_order(len(rows), limit, seed)[:limit])
        return Samples(path, _digest([(path.name, path)], str(chosen)), _source=_Rows(rows, chosen))
    if reason := _why_unreadable(path):
        raise InputError(f"{path}: {reason}", hint=_HINT)
    return Samples(path, _digest([(path.name, path)]), _source=_Folder(path.parent, (path,)))


def feeds_of(samples: Samples, processing: Processing, signature: Signature) -> Iterator[dict[str, np.ndarray]]:
    """Feeds for each sample, made as `predict` makes them; each window of a sound is one of its own.

    Raises InputError naming the sample that does not fit.
    """
    for sample in samples:
        try:
            batches = processing.batches(sample.value, signature, rows=1)
        except InputError as error:
            raise InputError(f"{samples.path}, sample {sample.name}: {error.message}", hint=error.hint) from error
        yield from batches


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
        for name, array in feeds.items():
            if array.dtype.kind != "f" or not array.size:
                continue
            low, high = float(array.min()), float(array.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise InputError(f"sample {count} gives NaN or infinity for input {name!r}")
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
class _Folder:
    """Files of which each is a sample."""

    root: Path
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Sample]:
        for file in self.files:
            inside = file.relative_to(self.root)
            label = inside.parent.name or None
            yield Sample(
                inside.as_posix(), load_arrays(file) if file.suffix.lower() in (".npy", ".npz") else file, label
            )


def _read_folder(root: Path, limit: int | None, seed: int) -> Samples:
    inside = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    names = sorted(path for path in inside if not any(part.startswith(".") for part in path.parts))
    taken: list[Path] = []
    skipped: list[tuple[str, str]] = []
    for index in _order(len(names), limit, seed):
        if len(taken) == (limit or len(names)):
            break
        if reason := _why_unreadable(root / names[index]):
            skipped.append((names[index].as_posix(), reason))
        else:
            taken.append(names[index])
    if not taken:
        first = f"; the first, {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"none of the {len(names)} files in {root} can be read{first}", hint=_HINT)
    taken.sort()
    files = tuple(root / name for name in taken)
    digest = _digest([(name.as_posix(), root / name) for name in taken])
    return Samples(root, digest, tuple(sorted(skipped)), _source=_Folder(root, files))


def _why_unreadable(path: Path) -> str:
    """Why `path` cannot be a sample; empty if it can, which takes reading it whole."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        return "not an image, .npy, .npz or .wav file"
    try:
        if suffix == ".wav":
            return "" if read_wav(path).samples.size else "an empty sound"
        if suffix in (".npy", ".npz"):
            loaded = load_arrays(path)
            arrays = loaded.values() if isinstance(loaded, dict) else [loaded]
            return "" if all(array.size for array in arrays) else "an empty array"
        open_picture(path)
    except InputError as error:
        return error.message
    return ""


def _order(count: int, limit: int | None, seed: int) -> Sequence[int]:
    """Indices in the order in which they are tried: shuffled where only some are taken."""
    if limit is None or limit >= count:
        return range(count)
    return [int(index) for index in np.random.default_rng(seed).permutation(count)]


def _digest(files: Iterable[tuple[str, Path]], chosen: str = "") -> str:
    """Hash over names and contents, and over what is taken of them."""
    total = hashlib.sha256(chosen.encode())
    for name, path in files:
        with path.open("rb") as file:
            total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


@dataclass(frozen=True)
class _Rows:
    """Rows of a file of arrays, of which each is a sample."""

    file: RowFile
    chosen: Sequence[int]

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Sample]:
        for index, row in zip(self.chosen, self.file.rows(self.chosen), strict=True):
            label = row.pop(LABELS_KEY, None) if isinstance(row, dict) else None
            yield Sample(str(index), row, None if label is None else str(label))
