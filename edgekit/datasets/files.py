"""Writing samples: pictures, sounds, tables and listings, the same bytes from the same values."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import UnavailableError
from edgekit.labels import LISTING

__all__ = ["stratified", "write_labeled", "write_listing", "write_picture", "write_table", "write_wav"]


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Writes uint8 `pixels`, [height, width] or [height, width, 3], as PNG. Raises UnavailableError without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        raise UnavailableError("writing pictures needs Pillow", hint="pip install 'edgekit-ml[image]'") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")


def write_wav(path: Path, samples: np.ndarray, rate_hz: int, *, bits: int = 16) -> None:
    """Writes `samples` [samples], full scale -1..1, as mono sound of 16 or 8 `bits`; what is beyond is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.round(np.clip(samples, -1, 1) * (2 ** (bits - 1) - 1))
    data = (values + 128).astype("u1") if bits == 8 else values.astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, bits // 8, rate_hz, len(data), "NONE", "not compressed"))
        file.writeframes(data.tobytes())


def write_table(path: Path, labels: Sequence[str], **inputs: np.ndarray) -> None:
    """Writes `inputs`, samples along the first axis, as float32 with their `labels` into an .npz file."""
    arrays = {name: np.ascontiguousarray(values, np.float32) for name, values in inputs.items()}
    np.savez_compressed(path, labels=np.array(labels), **arrays)  # type: ignore[arg-type]


def write_listing(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes ``labels.jsonl``, a record a line."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    (folder / LISTING).write_text("".join(lines), encoding="utf-8")


def write_labeled(folder: Path, pictures: Iterable[np.ndarray], labels: Iterable[str]) -> None:
    """Writes each picture as PNG into the sub-folder of its class, numbered in order."""
    for index, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        write_picture(folder / label / f"{index:04}.png", pixels)


def stratified(classes: np.ndarray, parts: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """Disjoint draws of indices, every class with its share in each; what is left over goes to the first part.

    Args:
        classes: Of each sample, [samples].
        parts: Size of each part by name; the first takes what the others leave.
        seed: Of the draw.
    """
    generator = np.random.default_rng(seed)
    # Shuffled, then spread evenly: a sample's place within its class, as a share, decides where it goes.
    order = generator.permutation(len(classes))
    place = np.empty(len(classes))
    for value in np.unique(classes):
        members = order[classes[order] == value]
        place[members] = (np.arange(len(members)) + generator.random()) / len(members)
    ranked = np.argsort(place, kind="stable")
    found, start = {}, 0
    for name, size in [*list(parts.items())[1:], (next(iter(parts)), len(classes))]:
        found[name] = np.sort(ranked[start : start + size])
        start += size
    return found
