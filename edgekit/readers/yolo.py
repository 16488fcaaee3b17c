"""Ultralytics' YOLO form: a ``data.yaml``, pictures in ``images/`` and a text for each of them in ``labels/``.

A line of such a text is ``class x y width height``, center and size as shares of the picture, or ``class x y x y x y
...``, the corners of an area. A picture without a text has nothing in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import InputError, UnavailableError
from edgekit.readers import Entry, choose_split, gathered, read_text
from edgekit.readers.pictures import Segments, picture_size, pictures_in
from edgekit.samples import Reading, Samples

__all__ = ["READER"]

_MOST_BYTES = 16 << 20
_NAMES = re.compile(r"^names\s*:", re.MULTILINE)
_SPLITS = ("train", "val", "test")
_SLACK = 1e-3


class _Yolo:
    name = "yolo"
    title = "YOLO's data.yaml with images/ and labels/, or a folder of those"

    def accepts(self, path: Path) -> bool:
        return _description(path) is not None or (path.is_dir() and _is_bare(path))

    def read(self, reading: Reading) -> Samples:
        file = _description(reading.path)
        if file is None:
            return _samples(reading, reading.images or reading.path / "images", reading.path, (), [], None)
        content = _parsed(file)
        names = _names(content.get("names"), file)
        known = [split for split in _SPLITS if content.get(split)]
        split = choose_split(reading, known) if known else None
        root = _inside(file.parent, str(content.get("path") or "."), file, is_root=True)
        if reading.images is not None:
            return _samples(reading, reading.images, root, names, [file], split)
        if split is None:
            return _samples(reading, root / "images", root, names, [file], None)
        place = content[split]
        if not isinstance(place, str) or place.endswith(".txt"):
            raise InputError(f"{file}: {split} is {place!r}, not a folder", hint="--images DIR says where pictures are")
        return _samples(reading, _inside(root, place, file), root, names, [file], split)


def _description(path: Path) -> Path | None:
    """The file that names the classes; None where there is none."""
    if path.is_dir():
        files = [path / "data.yaml", path / "data.yml"]
    else:
        files = [path] if path.suffix.lower() in (".yaml", ".yml") else []
    return next((file for file in files if file.is_file() and _NAMES.search(read_text(file, _MOST_BYTES))), None)


def _is_bare(folder: Path) -> bool:
    """Whether a folder has images/ and labels/, and in the latter nothing but texts."""
    if not (folder / "images").is_dir() or not (folder / "labels").is_dir():
        return False
    files = [path for path in (folder / "labels").rglob("*") if path.is_file()]
    return bool(files) and all(path.suffix == ".txt" or path.suffix == ".cache" for path in files)


def _parsed(file: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError:
        raise UnavailableError(f"reading {file} needs PyYAML", hint="pip install 'edgekit-ml[evaluate]'") from None
    try:
        content = yaml.safe_load(read_text(file, _MOST_BYTES))
    except yaml.YAMLError as error:
        raise InputError(f"{file} cannot be read: {' '.join(str(error).split())}", hint="is it YAML?") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} has no keys")
    return content


def _names(given: Any, file: Path) -> tuple[str, ...]:
    if isinstance(given, dict) and sorted(given) == list(range(len(given))):
        given = [given[index] for index in range(len(given))]
    if not isinstance(given, list) or not given or len({str(name) for name in given}) < len(given):
        raise InputError(f"{file}: names is {given!r}", hint="the classes, each once: names: [cat, dog]")
    return tuple(str(name) for name in given)


def _inside(root: Path, name: str, file: Path, *, is_root: bool = False) -> Path:
    """A folder within that of the description: data from elsewhere may name any folder there is."""
    found = root / name
    # Such files are exported with "../train/images" for what lies beside them.
    beside = root / name.removeprefix("../")
    if not found.is_dir() and beside.is_dir():
        found = beside
    if not found.resolve().is_relative_to(file.parent.resolve()):
        raise InputError(
            f"{file}: {name!r} is outside of {file.parent}",
            hint="leave `path` out" if is_root else "--images DIR says where the pictures are",
        )
    if not found.is_dir():
        raise InputError(f"{file}: there is no folder {found}", hint="--images DIR says where the pictures are")
    return found


def _samples(
    reading: Reading, images: Path, root: Path, names: tuple[str, ...], said_in: list[Path], split: str | None
) -> Samples:
    pictures = pictures_in(images)
    if not pictures:
        raise InputError(f"there are no pictures in {images}")
    texts = {picture: _text_of(picture, images, root) for picture in pictures}
    found = sorted({text for text in texts.values() if text is not None})
    if not found:
        raise InputError(f"not one picture in {images} has a text in labels/", hint="named as it, ending in .txt")
    entries = [_entry(picture, texts[picture], images, names) for picture in pictures]
    return gathered(reading, entries, [*said_in, *found], labels=names, split=split)


def _text_of(picture: Path, images: Path, root: Path) -> Path | None:
    """The text of a picture: below ``labels`` where it is below ``images``, in labels/ of the root, or beside it."""
    inner = picture.relative_to(images).with_suffix(".txt")
    parts = [place for place, part in enumerate(picture.parts) if part == "images"]
    places = [Path(*picture.parts[:p], "labels", *picture.parts[p + 1 :]).with_suffix(".txt") for p in reversed(parts)]
    places += [root / "labels" / inner, picture.with_suffix(".txt")]
    return next((place for place in places if place.is_file()), None)


def _entry(picture: Path, text: Path | None, images: Path, names: tuple[str, ...]) -> Entry:
    size = picture_size(picture)
    boxes, areas = [], []
    for number, line in enumerate(read_text(text, _MOST_BYTES).splitlines() if text else (), start=1):
        if line.strip():
            label, box, area = _marked(line.split(), f"{text}, line {number}", names)
            boxes.append({"label": label, "box": box})
            if area:
                scaled = [value * size[place % 2] for place, value in enumerate(area)]
                areas.append((label, [scaled]))
    truth: dict[str, Any] = {"boxes": boxes, "size": size}
    if areas:
        truth["segments"] = Segments(size, tuple(areas))
    return Entry(picture.relative_to(images).as_posix(), picture, truth)


def _marked(words: list[str], where: str, names: tuple[str, ...]) -> tuple[str, list[float], list[float]]:
    """The class, the corners of the box, and those of the area, if it is one."""
    try:
        index, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise InputError(f"{where}: {' '.join(words)!r} is not class x y width height") from None
    if index < 0 or (names and index >= len(names)):
        raise InputError(f"{where}: there is no class {index}", hint=f"there are {len(names)}, from 0")
    if len(numbers) not in (4, 5) and (len(numbers) < 6 or len(numbers) % 2):
        raise InputError(f"{where}: {len(numbers)} numbers after the class", hint="x y width height, or corners x y")
    if len(numbers) == 5:
        raise InputError(f"{where}: five numbers after the class", hint="is this what a model found, with scores?")
    if not all(-_SLACK <= value <= 1 + _SLACK for value in numbers):
        raise InputError(f"{where}: {words[1:]} are no shares", hint="divide pixels by the picture's width and height")
    label = names[index] if names else str(index)
    if len(numbers) > 4:
        xs, ys = numbers[0::2], numbers[1::2]
        return label, [min(xs), min(ys), max(xs), max(ys)], numbers
    x, y, w, h = numbers
    corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    if w <= 0 or h <= 0 or min(corners) < -0.05 or max(corners) > 1.05:
        raise InputError(f"{where}: the box reaches to {corners}", hint="x and y are its center, then width and height")
    return label, [min(max(value, 0.0), 1.0) for value in corners], []


READER = _Yolo()
