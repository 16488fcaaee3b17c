"""``dataset.yaml``: what a data set is and where its splits are, read with checks and written.

    schema: edgekit.dataset
    version: 1
    name: "pets"
    task: "image classification"
    labels: ["cat", "dog"]
    train: "train"
    calibration: "calibration"
    test: "test.npz"

Of these only ``train``, ``test`` and ``labels`` must be there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.errors import InputError, UnavailableError
from edgekit.labels import nearest
from edgekit.samples import Samples, read_samples

__all__ = ["DESCRIPTION", "SPLITS", "Dataset", "read_description", "write_description"]

DESCRIPTION = "dataset.yaml"
SCHEMA = "edgekit.dataset"
VERSION = 1
SPLITS = ("train", "calibration", "test")
TEXTS = ("name", "task", "license", "source")
KEYS = ("schema", "version", *TEXTS, "labels", *SPLITS, "seed")


@dataclass(frozen=True)
class Dataset:
    """Samples with what is true of them, in splits.

    Attributes:
        name: What it is called.
        folder: Where it is.
        task: What a model that learns it answers; empty where the description does not say.
        labels: Class names in the order of their indices; none where there are no classes.
        splits: Folder or file of each split there is.
        license: Of the data; empty where the description does not say.
        source: Where the data is from; empty where the description does not say.
        seed: It was written with; None where it was not drawn.
    """

    name: str
    folder: Path
    task: str
    labels: tuple[str, ...]
    splits: Mapping[str, Path] = field(hash=False)
    license: str = ""
    source: str = ""
    seed: int | None = None

    def samples(self, split: str, *, limit: int | None = None, seed: int = 0) -> Samples:
        """The samples of a split; ``"calibration"`` are those of ``"train"`` where it has none of its own.

        Raises:
            InputError: There is no such split, or it cannot be read, or a label in it is none of `labels`.
        """
        if split not in SPLITS:
            raise InputError(f"there is no split {split!r}", hint=nearest(split, SPLITS))
        path = self.splits.get(split, self.splits["train"])
        return read_samples(path, limit=limit, seed=seed, labels=self.labels)


def read_description(path: Path) -> Dataset:
    """The data set that the file `path` describes.

    Raises:
        InputError: It cannot be read, or says what is not so.
        UnavailableError: PyYAML is not installed.
    """
    found = _parsed(path)
    for key in found:
        if key not in KEYS:
            raise InputError(f"{path} has an unknown key {key!r}", hint=nearest(str(key), KEYS))
    if found.get("schema", SCHEMA) != SCHEMA or found.get("version", VERSION) != VERSION:
        raise InputError(
            f"{path} is {found.get('schema')!r} version {found.get('version')!r}",
            hint=f"this edgekit reads {SCHEMA} version {VERSION}",
        )
    if missing := [key for key in ("train", "test", "labels") if key not in found]:
        raise InputError(
            f"{path} has no {', '.join(missing)}", hint="it needs train, test and labels (which may be [])"
        )
    texts = {key: _text(path, key, found[key]) for key in TEXTS if key in found}
    seed = found.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise InputError(f"{path}: seed is {seed!r}, not a whole number")
    return Dataset(
        name=texts.get("name", path.parent.absolute().name),
        folder=path.parent,
        task=texts.get("task", ""),
        labels=_labels(path, found["labels"]),
        splits={split: _place(path, split, found[split]) for split in SPLITS if split in found},
        license=texts.get("license", ""),
        source=texts.get("source", ""),
        seed=seed,
    )


def write_description(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the description with `content`; JSON values are YAML, so this needs no PyYAML."""
    whole = {"schema": SCHEMA, "version": VERSION, **content}
    lines = [f"{key}: {json.dumps(whole[key], ensure_ascii=False)}\n" for key in KEYS if key in whole]
    path.write_text("".join(lines), encoding="utf-8")


def _parsed(path: Path) -> dict[Any, Any]:
    try:
        import yaml
    except ImportError:
        raise UnavailableError(f"reading {path} needs PyYAML", hint="pip install 'edgekit-ml[models]'") from None
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}", hint="is it YAML?") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} has no keys", hint="it needs train, test and labels")
    return found


def _text(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{path}: {key} is {value!r}, not a text", hint="put it in quotes")
    return value


def _labels(path: Path, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(f"{path}: labels is {value!r}, not a list", hint='labels: ["cat", "dog"]')
    for label in value:
        # YAML reads yes, no, on and off as truth values; which word it was is then lost.
        if isinstance(label, bool) or not isinstance(label, str | int) or label == "":
            raise InputError(f"{path}: the label {label!r} is not a text", hint='put labels in quotes: "yes", "no"')
    labels = tuple(str(label) for label in value)
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise InputError(f"{path}: labels has {', '.join(twice)} more than once", hint="each class has one name")
    return labels


def _place(path: Path, split: str, value: Any) -> Path:
    place = path.parent / _text(path, split, value)
    if not place.exists():
        raise InputError(f"{path}: there is no {place}", hint=f"{split} is a folder or file beside {path.name}")
    return place
