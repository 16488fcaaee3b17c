"""A folder of images, sounds, texts or files of arrays, each a sample, in folders named after classes; or one file.

The name of the folder that a file is in is its label. Folders named after splits (``train``, ``val``, ``test``) are
not classes: the split that is asked for is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import InputError
from edgekit.labels import require_label
from edgekit.readers import SPLITS
from edgekit.samples import HINT, KINDS, Reading, Sample, Samples, digest, loaded, shuffled, why_unreadable

__all__ = ["READER"]

_TRAINED_ON = ("train", "training")


class _Folder:
    name = "folder"
    title = "a folder with a folder for each class, or of files without classes"

    def accepts(self, path: Path) -> bool:
        """Anything: what nobody else reads is looked into for files that hold one sample each."""
        return True

    def read(self, reading: Reading) -> Samples:
        if reading.images is not None:
            raise InputError(f"{reading.path} names no files, so it takes no --images", hint="give the folder itself")
        if not reading.path.is_dir():
            return _one_file(reading.path)
        if reading.split is not None:
            place = reading.path / reading.split
            if not place.is_dir():
                raise InputError(f"{reading.path} has no split {reading.split!r}: there is no {place}")
            return replace(_read(replace(reading, path=place)), split=reading.split)
        return _read(reading)


def splits_of(folder: Path) -> tuple[str, ...]:
    """The splits that a folder consists of; none where it has other folders too, or none."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    is_split = names and set(names) <= {*SPLITS, *_TRAINED_ON, "calibration"} and {*names} & {*_TRAINED_ON}
    return tuple(names) if is_split else ()


@dataclass(frozen=True)
class _Files:
    """Files of which each is a sample."""

    root: Path
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Sample]:
        for file in self.files:
            inside = file.relative_to(self.root)
            label = inside.parent.name or None
            yield Sample(inside.as_posix(), loaded(file), label, {} if label is None else {"label": label})


def _one_file(path: Path) -> Samples:
    if reason := why_unreadable(path):
        raise InputError(f"{path}: {reason}", hint=HINT)
    return Samples(path, digest([(path.name, path)]), source=_Files(path.parent, (path,)))


def _read(reading: Reading) -> Samples:
    root, limit = reading.path, reading.limit
    inside = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    names = sorted(path for path in inside if not any(part.startswith(".") for part in path.parts))
    taken: list[Path] = []
    skipped: list[tuple[str, str]] = []
    is_of_texts = all(_kind(name) in ("", "texts") for name in names)
    for index in shuffled(len(names), limit, reading.seed):
        if len(taken) == (limit or len(names)):
            break
        if not is_of_texts and _kind(names[index]) == "texts":
            skipped.append((names[index].as_posix(), "a text among samples of another kind"))
        elif reason := why_unreadable(root / names[index]):
            skipped.append((names[index].as_posix(), reason))
        else:
            taken.append(names[index])
    if not taken:
        first = f"; the first, {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"none of the {len(names)} files in {root} can be read{first}", hint=HINT)
    taken.sort()
    _require_one_kind(root, taken)
    for name in taken if reading.labels else ():
        _require_folder_label(root, name, reading.labels)
    sha256 = digest([(name.as_posix(), root / name) for name in taken])
    classes = tuple(sorted({name.parent.name for name in taken if name.parent.name}))
    files = _Files(root, tuple(root / name for name in taken))
    return Samples(root, sha256, tuple(sorted(skipped)), source=files, found=classes)


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


READER = _Folder()
