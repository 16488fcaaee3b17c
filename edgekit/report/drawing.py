"""Answers as files: what a model found drawn into the picture, the picture it made, arrays, and JSON for all else."""

from __future__ import annotations

import colorsys
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.staging import already_there, write_atomically

if TYPE_CHECKING:
    from edgekit.runtime import Session

__all__ = ["draw_map", "draw_places", "require_free", "write_answer"]

_SUFFIXES = (".png", ".npz", ".json")
_GOLDEN = 0.618034
"""Turns of hue from one class to the next: neighbors differ, and no two are alike for long."""

_OVERLAY = 0.5
_PLACES = frozenset(("box", "box_px", "points", "points_px", "point", "point_px"))


def require_free(folder: Path, stems: Sequence[str], *, force: bool) -> None:
    """Raises InputError if answers of these names are in `folder` already, before any work is done."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", hint="give the name of a folder")
    taken = [folder / f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES]
    if not force and (there := next((path for path in taken if path.exists()), None)) is not None:
        raise already_there(there)


def write_answer(
    place: Path, content: Path | str | bytes | None, answer: Any, session: Session, *, force: bool
) -> Path:
    """Writes an answer whole or not at all.

    Args:
        place: Where to, without a suffix; folders above are made.
        content: The input: a path, a text, or bytes; None for tensors, which nothing can be drawn into.
        answer: What the session made of it.
        session: Whose processing says what the answer is.
        force: Replace a file that is there.

    Returns:
        The path written.

    Raises:
        InputError: Something is there already and `force` is not given.
        ArtifactError: The operating system refused.
    """
    suffix, data = _rendered(content, answer, session)
    return write_atomically(place.with_name(place.name + suffix), data, force=force)


def _rendered(content: Path | str | bytes | None, answer: Any, session: Session) -> tuple[str, bytes]:
    processing = session.processing
    last = processing.outputs[-1]["op"] if processing is not None and processing.outputs else ""
    is_picture = processing is not None and processing.kind == "picture" and content is not None
    if last == "picture":
        return ".png", _png(np.asarray(answer, np.uint8))
    if last in ("class_map", "mask") and is_picture and processing is not None:
        from edgekit.decoding import open_picture

        geometry = getattr(processing.before(content, session.signature), "geometry", None)
        picture = np.asarray(open_picture(content).convert("RGB"))
        return ".png", _png(draw_map(picture, np.asarray(answer), geometry))
    if is_picture and isinstance(answer, list) and all(_is_place(entry) for entry in answer):
        from edgekit.decoding import open_picture

        return ".png", _png(draw_places(open_picture(content).convert("RGB"), answer))
    arrays = _arrays(answer)
    if arrays is not None:
        return ".npz", _npz(arrays)
    from edgekit.report.json import render

    return ".json", (render({"answer": answer}, schema="edgekit.answer") + "\n").encode()


def _is_place(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(_PLACES & entry.keys())


def _arrays(answer: Any) -> dict[str, np.ndarray] | None:
    """The arrays of an answer by name, if it is made of numbers alone; an answer without a name is ``"answer"``."""
    named = answer if isinstance(answer, Mapping) else {"answer": answer}
    if not named or not all(
        isinstance(value, np.ndarray) or (value and isinstance(value, list)) for value in named.values()
    ):
        return None
    try:
        arrays = {str(name): np.asarray(value) for name, value in named.items()}
    except ValueError:  # lists of different lengths
        return None
    return arrays if all(array.dtype.kind in "biuf" for array in arrays.values()) else None


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    # Not np.savez: it takes names as keywords, of which it has some of its own.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _png(pixels: Any) -> bytes:
    from PIL import Image

    if isinstance(pixels, np.ndarray):
        pixels = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    return buffer.getvalue()


def draw_map(picture: np.ndarray, classes: np.ndarray, geometry: Any = None) -> np.ndarray:
    """`picture`, uint8 [height, width, 3], with every class but 0 in a color of its own.

    Args:
        picture: What went in.
        classes: Indices [rows, columns].
        geometry: What part of the picture they cover, if it is not all of it.
    """
    from edgekit.processing.geometry import Geometry, place

    height, width = picture.shape[:2]
    if classes.shape != (height, width):
        view = geometry or Geometry.whole(width, height)
        classes = place(classes[..., None].astype(np.float32), view, "nearest")[..., 0].astype(int)
    palette = np.array([_color(index) for index in range(int(classes.max(initial=0)) + 1)], np.float32)
    mixed = picture * (1 - _OVERLAY) + palette[classes] * _OVERLAY
    return np.where(classes[..., None] > 0, np.rint(mixed), picture).astype(np.uint8)


def draw_places(picture: Any, entries: Sequence[Mapping[str, Any]]) -> Any:
    """`picture`, of Pillow, with the boxes, regions and points of `entries` drawn into it, each label in its color."""
    from PIL import ImageDraw, ImageFont

    drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    stroke = max(1, round(min(drawn.size) / 200))
    font = ImageFont.load_default(max(10, round(min(drawn.size) / 30)))
    is_many = sum("point" in entry or "point_px" in entry for entry in entries) > 50
    labels = list(dict.fromkeys(str(entry.get("label", "")) for entry in entries))
    for entry in entries:
        color = _color(labels.index(str(entry.get("label", ""))) + 1)
        places = {key.removesuffix("_px"): _pixels(entry[key], key, drawn.size) for key in _PLACES & entry.keys()}
        is_region = "points" in places and "label" not in entry
        if is_region:
            pen.polygon([tuple(point) for point in places["points"]], outline=color, width=stroke)
        elif "box" in places:
            places["box"] = np.sort(places["box"], axis=0).tolist()  # a net may give corners the other way round
            pen.rectangle([tuple(point) for point in places["box"]], outline=color, width=stroke)
        for x, y in () if is_region else [*places.get("points", ()), *places.get("point", ())]:
            reach = 1.5 * stroke
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)
        if not is_many and "label" in entry:
            anchor = next(places[kind][0] for kind in ("box", "point", "points") if kind in places)
            _write(pen, font, _caption(entry), anchor, color)
    return drawn


def _pixels(values: Sequence[Any], key: str, size: tuple[int, int]) -> list[list[float]]:
    points = np.asarray(values, np.float64).reshape(-1, 2)
    scaled: list[list[float]] = (points if key.endswith("_px") else points * np.array(size)).tolist()
    return scaled


def _caption(entry: Mapping[str, Any]) -> str:
    is_box = "box" in entry or "box_px" in entry
    return f"{entry['label']} {entry['score']:.2f}" if is_box and "score" in entry else str(entry["label"])


def _write(pen: Any, font: Any, text: str, corner: Sequence[float], color: tuple[int, int, int]) -> None:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    x, y = corner[0], max(0.0, corner[1] - (bottom - top) - 4)
    pen.rectangle((x, y, x + right - left + 4, y + bottom - top + 4), fill=color)
    pen.text((x + 2 - left, y + 2 - top), text, font=font, fill=(0, 0, 0))


def _color(index: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN % 1.0, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
