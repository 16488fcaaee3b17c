"""Tables: .csv and .tsv, a sample a row, told by their headings, which may be left out where two columns say it.

| columns | a sample is |
|---|---|
| ``path`` and ``label``, ``transcript``, ``mask`` or ``target`` | a file |
| ``path``, ``label`` and a box | a file with a box a row; empty numbers say that there is none |
| ``text`` and ``label`` | the text |
| numbers, and ``label`` or ``target`` or the last column | the numbers, float32 in the order of the columns |

A ``split`` column chooses rows. A .txt file whose every line is a class, a tab and a text is a table too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.readers import Entry, choose_split, gathered, inside
from edgekit.readers.pictures import picture_size, share_box
from edgekit.samples import SUFFIXES, Reading, Samples

__all__ = ["READER"]

_FILE = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img", "audio", "wav", "sound")
_TEXT = ("text", "sentence", "utterance", "review")
_LABEL = ("label", "class", "category", "target", "class_name", "labels")
_TARGET = (*_LABEL, "y")
"""What the truth of numbers is called; of a box "y" is a corner."""

_TRANSCRIPT = ("transcript", "transcription")
_SPLIT = ("split", "subset", "partition", "set")
_CORNERS = (
    *(("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"), ("x1", "y1", "x2", "y2")),
    ("left", "top", "right", "bottom"),
)
_CORNER_AND_SIZE = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
_INDEX = ("", "unnamed: 0")
"""What the column of row numbers is called that pandas writes."""

_FILES = ("labels.csv", "annotations.csv", "_annotations.csv", "metadata.csv", "labels.tsv")
_DELIMITERS = ",;\t|"
_PEEK_LINES = 50
_MOST_BYTES = 1 << 30


class _Table:
    name = "table"
    title = "a .csv or .tsv file, or a folder with a labels.csv; a .txt of class, tab, text"

    def accepts(self, path: Path) -> bool:
        file = _file(path)
        return file is not None and (file.suffix.lower() in (".csv", ".tsv") or _is_tabbed(file))

    def read(self, reading: Reading) -> Samples:
        file = _file(reading.path)
        assert file is not None
        rows = list(_rows(file))
        columns, rows = _headed(rows, file, reading)
        split_column, split = columns.find(_SPLIT), None
        if split_column is not None:
            split = choose_split(reading, list(dict.fromkeys(row[split_column] for _, row in rows)))
            rows = [(line, row) for line, row in rows if row[split_column] == split]
        elif reading.split is not None:
            raise InputError(f"{file} has no column split", hint="leave --split out")
        if columns.find(_FILE) is not None:
            entries = _of_files(columns, rows, file, reading.images or file.parent)
        elif columns.find(_TEXT) is not None:
            entries = _of_texts(columns, rows, file)
        else:
            entries = _of_numbers(columns, rows, file)
        return gathered(reading, entries, [file], split=split)


_Row = tuple[int, list[str]]
"""The line it ends on, and its cells."""


@dataclass(frozen=True)
class _Columns:
    """Headings in lower case."""

    names: tuple[str, ...]

    def find(self, wanted: Sequence[str]) -> int | None:
        """The place of the first of `wanted` that is a heading."""
        return next((self.names.index(name) for name in wanted if name in self.names), None)

    def find_all(self, wanted: Sequence[str]) -> list[int] | None:
        return [self.names.index(name) for name in wanted] if set(wanted) <= set(self.names) else None


def _file(path: Path) -> Path | None:
    if path.is_dir():
        return next((path / name for name in _FILES if (path / name).is_file()), None)
    return path if path.suffix.lower() in (".csv", ".tsv", ".txt") else None


def _is_tabbed(file: Path) -> bool:
    """Whether every line has one tab, after a class: a word or a few, and not a sentence."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        peeked = [line for _, line in zip(range(_PEEK_LINES), lines, strict=False) if line.strip()]
    return bool(peeked) and all(line.count("\t") == 1 and 0 < len(line.split("\t")[0]) <= 64 for line in peeked)


def _rows(file: Path) -> Iterator[_Row]:
    if file.stat().st_size > _MOST_BYTES:
        raise InputError(f"{file} has more than {_MOST_BYTES >> 20} MB")
    number = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            lines.seek(0)
            delimiter = "\t" if file.suffix.lower() != ".csv" else max(_DELIMITERS, key=first.count)
            if file.suffix.lower() == ".csv":
                reader = csv.reader(lines, delimiter=delimiter, strict=True)
            else:
                reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
            for cells in reader:
                number = reader.line_num
                if any(cell.strip() for cell in cells):
                    yield number, [cell.strip() for cell in cells]
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8: {error.reason}", hint="save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{file}, after line {number}: {error}", hint="is it a table?") from error
    if not number:
        raise InputError(f"{file} has no rows")


def _headed(rows: list[_Row], file: Path, reading: Reading) -> tuple[_Columns, list[_Row]]:
    """Headings and the rows below them, as many cells in each."""
    cells = rows[0][1]
    names, is_heading = tuple(cell.lower() for cell in cells), True
    if any(map(_is_number, cells)) or not {*_FILE, *_TEXT, *_TARGET, *_TRANSCRIPT} & set(names):
        names, is_heading = _guessed(cells, file, reading.images or file.parent)
    rows = rows[1:] if is_heading else rows
    if len(set(names)) < len(names):
        raise InputError(f"{file}: a heading is there twice: {', '.join(names)}")
    for line, row in rows:
        if len(row) != len(names):
            raise InputError(f"{file}, line {line}: {len(row)} cells under {len(names)} headings")
    if not rows:
        raise InputError(f"{file} has headings and no rows")
    return _Columns(names), rows


def _guessed(cells: list[str], file: Path, root: Path) -> tuple[tuple[str, ...], bool]:
    """What the columns must be where the first row has no heading that is known, and whether it is one."""
    if len(cells) == 2 and (Path(cells[0]).suffix.lower() in SUFFIXES or (root / cells[0]).is_file()):
        return ("path", "label"), False
    if len(cells) == 2 and file.suffix.lower() != ".csv":
        return ("label", "text"), False
    if all(map(_is_number, cells[:-1])) and len(cells) > 1:
        return (*(f"feature {place}" for place in range(1, len(cells))), "label"), False
    if len(cells) > 1 and not any(map(_is_number, cells)):
        return (*(cell.lower() for cell in cells[:-1]), "label"), True  # of numbers, the last of which is the truth
    raise InputError(
        f"{file}, line 1: which column is what? {', '.join(cells)[:200]}",
        hint='headings such as path,label; path,label,xmin,ymin,xmax,ymax; text,label; or numbers and "target"',
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _of_files(columns: _Columns, rows: list[_Row], file: Path, root: Path) -> list[Entry]:
    place, label = columns.find(_FILE), columns.find(_LABEL)
    assert place is not None
    boxes = _box_columns(columns)
    if boxes is not None:
        if label is None:
            raise InputError(f"{file} has boxes and no label for them")
        return _of_boxes(columns, rows, file, root, boxes)
    entries: dict[str, Entry] = {}
    for line, row in rows:
        where = f"{file}, line {line}"
        path, truth, others = inside(root, row[place], where), dict[str, Any](), list[Path]()
        if row[place] in entries:
            raise InputError(f"{where}: {row[place]} is there twice")
        for key, at in (("label", label), ("transcript", columns.find(_TRANSCRIPT))):
            if at is not None and row[at]:
                truth[key] = row[at]
        for key in ("mask", "target"):
            at = columns.find((key,))
            if at is not None and row[at] and Path(row[at]).suffix.lower() in SUFFIXES:
                truth[key] = inside(root, row[at], where)
                others.append(truth[key])
                if at == label:
                    truth.pop("label", None)
        entries[row[place]] = Entry(row[place], path, truth, others=tuple(others))
    return list(entries.values())


def _box_columns(columns: _Columns) -> tuple[list[int], bool] | None:
    """The places of four numbers, and whether the last two are a size; None without them."""
    for wanted in _CORNERS:
        if (found := columns.find_all(wanted)) is not None:
            return found, False
    for wanted in _CORNER_AND_SIZE:
        if (found := columns.find_all(wanted)) is not None:
            return found, True
    return None


def _of_boxes(
    columns: _Columns, rows: list[_Row], file: Path, root: Path, boxes: tuple[list[int], bool]
) -> list[Entry]:
    place, label = columns.find(_FILE), columns.find(_LABEL)
    assert place is not None
    assert label is not None
    sized = None if boxes[1] else columns.find_all(("width", "height"))
    found: dict[str, list[tuple[str, str, list[float]]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for line, row in rows:
        where = f"{file}, line {line}"
        own = found.setdefault(row[place], [])
        if row[place] not in sizes:
            path = inside(root, row[place], where)
            if not path.is_file():
                raise InputError(f"{where}: there is no {path}", hint="--images DIR says where the files are")
            sizes[row[place]] = picture_size(path)
        if sized is not None:
            _require_size([row[at] for at in sized], sizes[row[place]], where)
        if any(row[at] for at in boxes[0]):
            own.append((where, row[label], _numbers([row[at] for at in boxes[0]], where)))
    marked = [numbers for own in found.values() for _, _, numbers in own]
    is_shares = _are_shares(marked, file)
    entries = []
    for name, own in found.items():
        size = sizes[name]
        items = [{"label": said, "box": _corners(four, boxes[1], is_shares, size, at)} for at, said, four in own]
        entries.append(Entry(name, inside(root, name, str(file)), {"boxes": items, "size": size}))
    return entries


def _require_size(said: list[str], size: tuple[int, int], where: str) -> None:
    if tuple(said) != (str(size[0]), str(size[1])) and all(said):
        raise InputError(
            f"{where}: the picture is {size[0]} x {size[1]}, not {' x '.join(said)}",
            hint="are these the pictures that the boxes are of?",
        )


def _are_shares(boxes: list[list[float]], file: Path) -> bool:
    """Whether boxes are shares of their pictures: all of them or none. Raises InputError for some of each."""
    inside_one = [max(numbers) <= 1 for numbers in boxes]
    if any(inside_one) and not all(inside_one):
        raise InputError(
            f"{file}: {sum(inside_one)} of {len(boxes)} boxes are within 0 to 1, as shares are, and the others are not",
            hint="shares, or pixels",
        )
    return bool(boxes) and all(inside_one)


def _corners(numbers: list[float], has_size: bool, is_shares: bool, size: tuple[int, int], where: str) -> list[float]:
    x0, y0, x1, y1 = numbers
    if has_size:
        x1, y1 = x0 + x1, y0 + y1
    if is_shares:
        x0, y0, x1, y1 = x0 * size[0], y0 * size[1], x1 * size[0], y1 * size[1]
    return share_box((x0, y0, x1, y1), size, where)


def _of_texts(columns: _Columns, rows: list[_Row], file: Path) -> list[Entry]:
    place, label = columns.find(_TEXT), columns.find(_LABEL)
    assert place is not None
    entries = []
    for line, row in rows:
        if not row[place]:
            raise InputError(f"{file}, line {line}: the text is empty")
        truth = {"label": row[label]} if label is not None and row[label] else {}
        entries.append(Entry(f"line {line}", None, truth, row[place]))
    return entries


def _of_numbers(columns: _Columns, rows: list[_Row], file: Path) -> list[Entry]:
    target = columns.find(_TARGET)
    assert target is not None
    left_out = {target, *(at for at, name in enumerate(columns.names) if name in _INDEX)}
    features = [at for at in range(len(columns.names)) if at not in left_out]
    if not features:
        raise InputError(f"{file} has no column but {columns.names[target]!r}")
    words = [row[target] for _, row in rows]
    is_regression = all(map(_is_number, words)) and not all(_is_whole(word) for word in words)
    entries = []
    for line, row in rows:
        value = np.array(_numbers([row[at] for at in features], f"{file}, line {line}"), np.float32)
        truth: Mapping[str, Any] = {"target": float(row[target])} if is_regression else {"label": _class(row[target])}
        entries.append(Entry(f"line {line}", None, truth, value))
    return entries


def _is_whole(word: str) -> bool:
    return word.removeprefix("-").removesuffix(".0").isdecimal()


def _class(word: str) -> str:
    """A class as a table has it: 1.0, as pandas writes integers beside empty cells, is 1."""
    return word.removesuffix(".0") if _is_whole(word) else word


def _numbers(cells: list[str], where: str) -> list[float]:
    found = []
    for cell in cells:
        try:
            found.append(float(cell))
        except ValueError:
            raise InputError(f"{where}: {cell!r} is not a number") from None
    if not np.isfinite(found).all():
        raise InputError(f"{where}: NaN or infinity", hint="mend this row, or leave it out")
    return found


READER = _Table()
