"""PASCAL VOC's XML: a file for each picture, with a size and objects of a class and a box each.

Of a folder the files are in ``Annotations/`` and the pictures in ``JPEGImages/``, or both in the folder itself;
``ImageSets/Main/NAME.txt`` lists those of a split, and ``SegmentationClass/`` may hold masks. Boxes are in pixels that
count from 1 and are part of the box at both ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgekit.errors import InputError
from edgekit.readers import Entry, choose_split, gathered, inside, read_text
from edgekit.readers.pictures import picture_size, share_box
from edgekit.samples import IMAGE_SUFFIXES, Reading, Samples

__all__ = ["READER"]

_MOST_BYTES = 4 << 20
_PEEK = 512


class _Voc:
    name = "voc"
    title = "PASCAL VOC's XML, in Annotations/ beside JPEGImages/ or beside the pictures"

    def accepts(self, path: Path) -> bool:
        if not path.is_dir():
            return False
        first = next(iter(sorted(_folder(path).glob("*.xml"))), None)
        return first is not None and b"<annotation" in first.read_bytes()[:_PEEK]

    def read(self, reading: Reading) -> Samples:
        folder, root = _folder(reading.path), reading.path
        files = {path.stem: path for path in sorted(folder.glob("*.xml"))}
        splits = {
            path.stem: path for path in sorted((root / "ImageSets" / "Main").glob("*.txt")) if "_" not in path.stem
        }
        split = choose_split(reading, list(splits)) if splits or reading.split else None
        if split is not None:
            names = [line.split()[0] for line in read_text(splits[split], _MOST_BYTES).splitlines() if line.strip()]
            if missing := [name for name in names if name not in files]:
                raise InputError(f"{splits[split]} lists {missing[0]}, which has no file in {folder}")
            files = {name: files[name] for name in names}
        images = reading.images or next((p for p in (root / "JPEGImages", root / "images") if p.is_dir()), folder)
        entries = [_entry(file, images, root / "SegmentationClass") for file in files.values()]
        said_in = [*files.values(), *([splits[split]] if split else [])]
        return gathered(reading, entries, said_in, split=split)


def _folder(path: Path) -> Path:
    return next((place for name in ("Annotations", "annotations") if (place := path / name).is_dir()), path)


class _Plain(ElementTree.TreeBuilder):
    """Of a document that declares nothing: what entities could make of a few bytes is then out of the question."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError("it has a DOCTYPE, which annotations do not need", hint="take it out")


def _parsed(file: Path) -> ElementTree.Element:
    try:
        found = ElementTree.fromstring(read_text(file, _MOST_BYTES), ElementTree.XMLParser(target=_Plain()))
    except ElementTree.ParseError as error:
        raise InputError(f"{file} cannot be read: {error}", hint="is it whole, and XML?") from error
    except InputError as error:
        raise InputError(f"{file}: {error.message}", hint=error.hint) from error
    if found.tag != "annotation":
        raise InputError(f"{file} is <{found.tag}>, not <annotation>")
    return found


def _entry(file: Path, images: Path, masks: Path) -> Entry:
    root = _parsed(file)
    picture = _picture(root, file, images)
    size = _size(root, picture)
    boxes = [_object(one, size, f"{file}, object {number}") for number, one in enumerate(root.iter("object"), start=1)]
    truth: dict[str, Any] = {"boxes": boxes, "size": size}
    mask = masks / f"{file.stem}.png"
    others = (mask,) if mask.is_file() else ()
    return Entry(picture.name, picture, {**truth, "mask": mask} if others else truth, others=others)


def _picture(root: ElementTree.Element, file: Path, images: Path) -> Path:
    """The file it names, or, of exporters that name another, the picture that is called as it is."""
    said = inside(images, root.findtext("filename", "").strip() or file.stem, str(file))
    if said.is_file():
        return said
    own = (images / f"{file.stem}{suffix}" for suffix in IMAGE_SUFFIXES)
    return next((path for path in own if path.is_file()), said)


def _size(root: ElementTree.Element, picture: Path) -> tuple[int, int]:
    words = [root.findtext(f"size/{key}", "0").strip() for key in ("width", "height")]
    if all(word.isdecimal() and int(word) > 0 for word in words):
        return int(words[0]), int(words[1])
    return picture_size(picture)


def _object(one: ElementTree.Element, size: tuple[int, int], where: str) -> dict[str, Any]:
    name = one.findtext("name", "").strip()
    if not name:
        raise InputError(f"{where} has no name")
    left, upper, right, lower = _numbers(one, ("xmin", "ymin", "xmax", "ymax"), where)
    if 0 < max(right, lower) <= 1 and min(size) > 2:
        raise InputError(f"{where}: its box looks like shares", hint="VOC's boxes are in pixels")
    box = share_box((left - 1, upper - 1, right, lower), size, where)
    is_difficult = one.findtext("difficult", "0").strip() == "1"
    return {"label": name, "box": box, **({"difficult": True} if is_difficult else {})}


def _numbers(one: ElementTree.Element, keys: Iterable[str], where: str) -> list[float]:
    try:
        return [float(one.findtext(f"bndbox/{key}", "")) for key in keys]
    except ValueError:
        raise InputError(f"{where} has no box", hint="<bndbox> with xmin, ymin, xmax and ymax") from None


READER = _Voc()
