"""The user's data as samples, one at a time in constant memory: folders of images, sounds or texts, files of arrays.

In a folder every file is a sample; the name of the folder within it is the label. Where the folder has a
``labels.jsonl`` (`edgekit.labels`) the samples are what that lists. A single .npy or .npz file holds a sample per
index of its first axis; an .npz has an array for each input by name, and may have one of ``labels``. A single .txt
file holds a sample per line that is not blank.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekit.decoding import open_picture, read_wav
from edgekit.errors import InputError
from edgekit.labels import LISTING, Record, read_listing, require_label
from edgekit.processing.text import text_of
from edgekit.rows import ROW_SUFFIXES, RowFile, load_arrays, open_rows
from edgekit.spec import Signature

if TYPE_CHECKING:
    from edgekit.processing import Processing

__all__ = ["Sample", "Samples", "Source", "check_feeds", "drawn", "feeds_of", "loaded", "read_samples"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
KINDS = {"images": IMAGE_SUFFIXES, "arrays": (".npy", ".npz"), "sounds": (".wav",), "texts": (".txt",)}
SUFFIXES = tuple(suffix for suffixes in KINDS.values() for suffix in suffixes)
LABELS_KEY = "labels"

_HINT = f"give a folder or file of {', '.join(SUFFIXES)}"


@dataclass(frozen=True)
class Sample:
    """One sample of the user's data.

    Attributes:
        name: Where it is from: the file relative to what was given, or the index in it.
        value: What a `Processing` takes: a path, a text, an array, or arrays by input name.
        label: The class it belongs to, where the data says so.
        truth: What is true of it: ``label`` (the same), ``boxes``, and as paths ``mask`` and ``target``.
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
    """

    path: Path | str
    sha256: str
    skipped: tuple[tuple[str, str], ...] = ()
    source: Source = field(repr=False, kw_only=True)
    is_synthetic: bool = field(default=False, kw_only=True)

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


def read_samples(path: Path, *, limit: int | None = None, seed: int = 0, labels: Sequence[str] = ()) -> Samples:
    """The samples at `path`, a folder or a file.

    Args:
        path: What holds them.
        limit: Take so many, drawn with `seed`, in their own order; None takes all.
        seed: Of the draw.
        labels: The classes there are, in the order of their indices; empty takes the names the data has.

    Raises:
        InputError: There is nothing at `path`, or nothing in it can be read, or a label is none of `labels`.
    """
    if limit is not None and limit < 1:
        raise InputError(f"cannot take {limit} samples", hint="a number above zero")
    if path.is_dir():
        if (path / LISTING).is_file():
            return _read_listing(path, limit, seed, labels)
        return _read_folder(path, limit, seed, labels)
    if not path.is_file():
        raise InputError(f"there is no {path}", hint=_HINT)
    if path.suffix.lower() in ROW_SUFFIXES:
        rows = open_rows(path)
        chosen = drawn(len(rows), limit, seed)
        return Samples(path, _digest([(path.name, path)], str(chosen)), source=_Rows(path, rows, chosen, tuple(labels)))
    if reason := _why_unreadable(path):
        raise InputError(f"{path}: {reason}", hint=_HINT)
    return Samples(path, _digest([(path.name, path)]), source=_Folder(path.parent, (path,)))


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
            yield Sample(inside.as_posix(), loaded(file), label, _truth(label))


@dataclass(frozen=True)
class _Listing:
    """Records of a listing of which each is a sample."""

    root: Path
    records: tuple[Record, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Sample]:
        for record in self.records:
            value = record.text if record.file is None else loaded(record.file)
            yield Sample(_name(record, self.root), value, record.truth.get("label"), record.truth)


def _name(record: Record, root: Path) -> str:
    return f"line {record.line}" if record.file is None else record.file.relative_to(root).as_posix()


def loaded(file: Path) -> Any:
    """The value of the sample in `file`: the arrays of one that holds arrays, else the path."""
    return load_arrays(file) if file.suffix.lower() in KINDS["arrays"] else file


def _truth(label: str | None) -> dict[str, Any]:
    return {} if label is None else {"label": label}


def _read_listing(root: Path, limit: int | None, seed: int, labels: Sequence[str]) -> Samples:
    records = read_listing(root, labels)
    chosen = drawn(len(records), limit, seed)
    taken = tuple(records[index] for index in chosen)
    for record in taken:
        for file in record.files:
            if reason := _why_unreadable(file):
                raise InputError(f"{root / LISTING}, line {record.line}: {file}: {reason}", hint=_HINT)
    files = [(path.relative_to(root).as_posix(), path) for record in taken for path in record.files]
    return Samples(root, _digest([(LISTING, root / LISTING), *files], str(chosen)), source=_Listing(root, taken))


def _read_folder(root: Path, limit: int | None, seed: int, labels: Sequence[str]) -> Samples:
    inside = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    names = sorted(path for path in inside if not any(part.startswith(".") for part in path.parts))
    taken: list[Path] = []
    skipped: list[tuple[str, str]] = []
    is_of_texts = all(_kind(name) in ("", "texts") for name in names)
    for index in _order(len(names), limit, seed):
        if len(taken) == (limit or len(names)):
            break
        if not is_of_texts and _kind(names[index]) == "texts":
            skipped.append((names[index].as_posix(), "a text among samples of another kind"))
        elif reason := _why_unreadable(root / names[index]):
            skipped.append((names[index].as_posix(), reason))
        else:
            taken.append(names[index])
    if not taken:
        first = f"; the first, {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"none of the {len(names)} files in {root} can be read{first}", hint=_HINT)
    taken.sort()
    _require_one_kind(root, taken)
    for name in taken if labels else ():
        _require_folder_label(root, name, labels)
    files = tuple(root / name for name in taken)
    digest = _digest([(name.as_posix(), root / name) for name in taken])
    return Samples(root, digest, tuple(sorted(skipped)), source=_Folder(root, files))


def _kind(path: Path) -> str:
    """Which of `KINDS` the suffix says; empty for none."""
    return next((kind for kind, suffixes in KINDS.items() if path.suffix.lower() in suffixes), "")


def _require_one_kind(root: Path, names: Sequence[Path]) -> None:
    first = {_kind(name): name.as_posix() for name in reversed(names)}
    if len(first) > 1:
        counts = Counter(map(_kind, names))
        said = " and ".join(f"{kind} ({counts[kind]}, the first {name})" for kind, name in sorted(first.items()))
        raise InputError(f"{root} holds {said}, and samples are of one kind", hint="put each kind in its own folder")


def _require_folder_label(root: Path, name: Path, labels: Sequence[str]) -> None:
    if name.parent.name:
        try:
            require_label(name.parent.name, labels)
        except InputError as error:
            raise InputError(f"{root / name.parent}: {error.message}", hint=error.hint) from error


def _why_unreadable(path: Path) -> str:
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
    return sorted(_order(count, limit, seed)[:limit])


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
    """Rows of a file of arrays, or lines of one of text, of which each is a sample."""

    path: Path
    file: RowFile
    chosen: Sequence[int]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Sample]:
        for index, row in zip(self.chosen, self.file.rows(self.chosen), strict=True):
            found = row.pop(LABELS_KEY, None) if isinstance(row, dict) else None
            label = None if found is None else self._label(found, index)
            yield Sample(str(index), row, label, _truth(label))

    def _label(self, found: np.ndarray, index: int) -> str:
        """The class by name, where there are names and the array has indices of them."""
        try:
            if self.labels and found.dtype.kind in "iu":
                if not 0 <= int(found) < len(self.labels):
                    raise InputError(f"label {found} is not an index of {len(self.labels)} labels", hint="from 0")
                return self.labels[int(found)]
            return require_label(str(found), self.labels)
        except InputError as error:
            raise InputError(f"{self.path}, sample {index}: {error.message}", hint=error.hint) from error
