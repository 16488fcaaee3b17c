"""Data in the forms people keep them in: each form one reader, told apart by content, in the registry `READERS`.

A reader finds out which samples there are and what is true of them; a package adds its own through the entry-point
group ``edgekit.readers``. `edgekit.samples.read_samples` asks them in order and takes the first that accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from edgekit.errors import InputError
from edgekit.labels import require_label
from edgekit.registry import READERS
from edgekit.samples import KINDS, Reading, Sample, Samples, digest, drawn, loaded, why_unreadable

__all__ = ["READERS", "Entry", "Reader", "Reading", "choose_split", "gathered", "inside", "read_text"]

SPLITS = ("test", "val", "valid", "validation")
"""Of data that have splits, which one is taken unless the user says: never the one a model was trained on."""


class Reader(Protocol):
    """One form of data.

    Attributes:
        name: As in the registry.
        title: What it reads, a line for people.
    """

    name: str
    title: str

    def accepts(self, path: Path) -> bool:
        """Whether the file or folder is of this form, by its content; cheap."""

    def read(self, reading: Reading) -> Samples:
        """Its samples. Raises InputError naming the file, line or entry that is wrong."""


@dataclass(frozen=True)
class Entry:
    """One sample that data in some form speak of.

    Attributes:
        name: Where it is from.
        file: Of the sample; None where it is a value.
        truth: What is true of it, files as paths.
        value: The sample itself, where it is no file.
        others: Further files that it is made of, such as a mask.
    """

    name: str
    file: Path | None
    truth: Mapping[str, Any] = field(default_factory=dict)
    value: Any = None
    others: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        return [*([self.file] if self.file is not None else []), *self.others]


@dataclass(frozen=True)
class _Entries:
    """Entries as a source of samples."""

    taken: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.taken)

    def __iter__(self) -> Iterator[Sample]:
        for entry in self.taken:
            value = entry.value if entry.file is None else loaded(entry.file)
            yield Sample(entry.name, value, entry.truth.get("label"), entry.truth)


def gathered(
    reading: Reading,
    entries: Sequence[Entry],
    said_in: Sequence[Path],
    *,
    labels: Sequence[str] = (),
    split: str | None = None,
    skipped: Sequence[tuple[str, str]] = (),
    is_strict: bool = False,
) -> Samples:
    """Those of `entries` that `reading` takes.

    Args:
        reading: What was asked for.
        entries: All there are.
        said_in: The files that say so; they are part of what the data are known by.
        labels: The classes in the order the data give them; empty where they give none.
        split: The one that was taken; None where there are none.
        skipped: What was left out, each with the reason.
        is_strict: Keep files of arrays that cannot be read, for the caller to refuse, rather than leave them out.

    Raises:
        InputError: There are no entries, a class is none of those asked for, a file is not there, or none is left.
    """
    if not entries:
        raise InputError(f"{reading.path} lists no samples", hint="is it whole?")
    chosen = drawn(len(entries), reading.limit, reading.seed)
    taken = tuple(entries[place] for place in chosen)
    for entry in taken if reading.labels else ():
        _require_labels(entry, reading)
    if missing := [path for entry in taken for path in entry.files if not path.is_file()]:
        total = sum(len(entry.files) for entry in taken)
        raise InputError(
            f"{reading.path}: {len(missing)} of {total} files are not there, the first {missing[0]}",
            hint="--images DIR says where the files are",
        )
    broken = {} if is_strict else _broken_arrays(taken)
    if broken and len(broken) == len(taken):
        name, reason = next(iter(broken.items()))
        raise InputError(f"{reading.path}: none of {len(taken)} files can be read, the first {name}: {reason}")
    skipped = [*skipped, *broken.items()]
    taken = tuple(entry for entry in taken if entry.name not in broken)
    files = [(path.name, path) for path in said_in]
    files += [(f"{entry.name}/{path.name}", path) for entry in taken for path in entry.files]
    sha256 = digest(files, str(chosen))
    found = () if labels else tuple(sorted({entry.truth["label"] for entry in entries if "label" in entry.truth}))
    facts: dict[str, Any] = {"labels": tuple(labels), "found": found, "split": split}
    return Samples(reading.path, sha256, tuple(skipped), source=_Entries(taken), **facts)


def _broken_arrays(taken: Sequence[Entry]) -> dict[str, str]:
    """Entries whose file of arrays cannot be read, with the reason: they are loaded before a model sees them.

    A picture that cannot be read is found out by the model that is asked about it, and left out then.
    """
    files = {entry.name: entry.file for entry in taken if entry.file is not None}
    arrays = {name: file for name, file in files.items() if file.suffix.lower() in KINDS["arrays"]}
    return {name: reason for name, file in arrays.items() if (reason := why_unreadable(file))}


def _require_labels(entry: Entry, reading: Reading) -> None:
    named = [*([entry.truth["label"]] if "label" in entry.truth else [])]
    named += [item["label"] for item in entry.truth.get("boxes", ())]
    for name in named:
        try:
            require_label(name, reading.labels)
        except InputError as error:
            raise InputError(f"{reading.path}, {entry.name}: {error.message}", hint=error.hint) from error


def inside(root: Path, name: str, where: str) -> Path:
    """The file that data in `root` call `name`; it need not exist.

    Raises:
        InputError: It would be outside of `root`; `where` says which line names it.
    """
    plain = PurePosixPath(name.strip().replace("\\", "/"))
    if plain.is_absolute() and plain.is_relative_to(root.absolute().as_posix()):
        plain = plain.relative_to(root.absolute().as_posix())
    if not plain.parts or plain.is_absolute() or ".." in plain.parts:
        raise InputError(f"{where}: {name!r} is not inside {root}", hint="--images DIR says where the files are")
    return root / plain


def choose_split(reading: Reading, known: Sequence[str]) -> str:
    """The split that was asked for, else the first of `SPLITS` that is among `known`.

    Raises:
        InputError: There is no such split, or only such as a model may have been trained on.
    """
    there = ", ".join(known)
    if reading.split is not None:
        if reading.split not in known:
            raise InputError(f"{reading.path} has no split {reading.split!r}", hint=f"it has {there}")
        return reading.split
    found = next((name for name in SPLITS if name in known), None)
    if found is None:
        raise InputError(f"which split of {reading.path} is meant?", hint=f"--split: it has {there}")
    return found


def read_text(path: Path, most_bytes: int) -> str:
    """The UTF-8 text of a file. Raises InputError where it is longer than `most_bytes`, or no text."""
    try:
        if path.stat().st_size > most_bytes:
            raise InputError(f"{path} has more than {most_bytes >> 20} MB", hint="is it what it should be?")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason}", hint="save it as UTF-8") from error
