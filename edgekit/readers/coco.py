"""COCO's JSON: pictures, categories and annotations with boxes and areas.

    {"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}],
     "annotations": [{"image_id", "category_id", "bbox": [x, y, width, height], "iscrowd", "area", "segmentation"}]}

Boxes are in pixels, from the upper left corner. Crowds and areas are kept for COCO's own metrics.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import InputError
from edgekit.readers import Entry, choose_split, gathered, inside, read_text
from edgekit.readers.pictures import Segments, share_box
from edgekit.samples import Reading, Samples

__all__ = ["READER"]

_MOST_BYTES = 2 << 30
_PEEK = 1 << 20
_KEYS = ("images", "annotations", "categories")
_OWN_NAME = "_annotations.coco.json"


class _Coco:
    name = "coco"
    title = "COCO's JSON of boxes and areas, or a folder with one in annotations/"

    def accepts(self, path: Path) -> bool:
        if path.is_dir():
            return bool(_files(path))
        return path.is_file() and path.suffix.lower() == ".json" and _is_coco(path)

    def read(self, reading: Reading) -> Samples:
        file, split = reading.path, None
        if file.is_dir():
            found = {_split_of(path): path for path in _files(file)}
            split = choose_split(reading, list(found)) if len(found) > 1 or reading.split else next(iter(found))
            file = found[split]
        content = _parsed(file)
        names = {_field(one, "id", int, f"{file}, a category"): str(one["name"]) for one in content["categories"]}
        marks: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for one in content["annotations"]:
            marks[_field(one, "image_id", int, f"{file}, an annotation")].append(one)
        root = reading.images or _root(file, split, content["images"])
        entries = [_entry(one, marks.pop(one["id"], []), names, root, file) for one in content["images"]]
        if marks:
            raise InputError(f"{file}: annotations are of the picture {next(iter(marks))}, which is not listed")
        return gathered(reading, entries, [file], labels=[names[key] for key in sorted(names)], split=split)


def _files(folder: Path) -> list[Path]:
    """Files of annotations in a folder as COCO or its exporters lay it out."""
    found = [*sorted(folder.glob("annotations/*.json")), *sorted(folder.glob(f"*/{_OWN_NAME}"))]
    found += [path for path in sorted(folder.glob("*.json")) if path.name == _OWN_NAME or "instances" in path.name]
    return [path for path in found if _is_coco(path)]


def _split_of(path: Path) -> str:
    """The word of a name such as ``instances_val2017.json``, or the folder of an exporter's file."""
    if path.name == _OWN_NAME:
        return path.parent.name
    word = re.sub(r"^(instances|annotations)[_-]?|[_-]?(20\d\d|annotations|instances)$", "", path.stem)
    return word or path.stem


def _is_coco(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_PEEK).lstrip(b"\xef\xbb\xbf \r\n\t")
    return start.startswith(b"{") and any(f'"{key}"'.encode() in start for key in _KEYS)


def _parsed(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(read_text(file, _MOST_BYTES))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError:
        raise InputError(f"{file} is nested deeper than data are") from None
    for key in _KEYS:
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{file} has no list of {key}", hint="COCO's JSON has images, annotations and categories")
    for key, field in (("images", "id"), ("categories", "id"), ("categories", "name")):
        seen = [str(_field(row, field, object, f"{file}, {key}")) for row in content[key]]
        if twice := next((one for one in seen if seen.count(one) > 1), None) if len(set(seen)) < len(seen) else None:
            raise InputError(f"{file}: two of its {key} have the {field} {twice!r}")
    return content


def _field(row: Mapping[str, Any], key: str, kind: Any, where: str) -> Any:
    value = row.get(key)
    if value is None or not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: its {key} is {value!r}")
    return value


def _root(file: Path, split: str | None, images: list[dict[str, Any]]) -> Path:
    """The folder the pictures are in: beside the file, or where COCO or its exporters put them."""
    first = str(images[0].get("file_name", "")) if images else ""
    above = file.parent.parent
    word = re.sub(r"^(instances|annotations)[_-]?", "", file.stem)
    places = [file.parent, file.parent / "images", above / word, above / "images" / word, above / "images", above]
    places += [above / split, above / "images" / split] if split else []
    found = next((place for place in places if first and inside(place, first, str(file)).is_file()), None)
    if found is None:
        raise InputError(f"{file}: there is no {first} beside it", hint="--images DIR says where the pictures are")
    return found


def _entry(
    image: Mapping[str, Any], marks: list[Mapping[str, Any]], names: Mapping[int, str], root: Path, file: Path
) -> Entry:
    name = _field(image, "file_name", str, f"{file}, image {image['id']}")
    where = f"{file}, {name}"
    size = tuple(int(_field(image, key, int | float, where)) for key in ("width", "height"))
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"{where}: a picture of {width} x {height}")
    truth: dict[str, Any] = {
        "size": (width, height),
        "boxes": [_box(one, names, (width, height), where) for one in marks],
    }
    areas = [(names[one["category_id"]], one["segmentation"]) for one in marks if one.get("segmentation")]
    if areas:
        truth["segments"] = Segments((width, height), tuple(areas))
    return Entry(name, inside(root, name, where), truth)


def _box(one: Mapping[str, Any], names: Mapping[int, str], size: tuple[int, int], where: str) -> dict[str, Any]:
    where = f"{where}, annotation {one.get('id', '?')}"
    category = _field(one, "category_id", int, where)
    if category not in names:
        raise InputError(f"{where}: there is no category {category}")
    given = one.get("bbox")
    if not isinstance(given, list) or len(given) != 4 or not all(isinstance(v, int | float) for v in given):
        raise InputError(f"{where}: its bbox is {given!r}", hint="[x, y, width, height] in pixels")
    x, y, w, h = (float(value) for value in given)
    if 0 < max(given) <= 1 and min(size) > 2:
        raise InputError(f"{where}: the box {given} looks like shares", hint="COCO's boxes are in pixels")
    corners = share_box((x, y, x + w, y + h), size, where)
    found = {"label": names[category], "box": corners, "crowd": bool(one.get("iscrowd", 0))}
    area = one.get("area")
    return {**found, "area_px": float(area)} if isinstance(area, int | float) else found


READER = _Coco()
