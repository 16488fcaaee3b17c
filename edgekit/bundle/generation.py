"""The files of one generation of a bundle in its folder: how they are called, and how the next one replaces them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgekit.bundle.manifest import MANIFEST, Artifact
from edgekit.staging import LOCK, STAGE_PREFIX, sync_folder

__all__ = ["add_friendly_names", "content_name", "is_ours", "replace_generation"]

_CONTENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*-[0-9a-f]{12}\.[A-Za-z0-9]+")
_FRIENDLY_NAME = re.compile(r"model-[a-z0-9-]+\.[a-z0-9]+")


def content_name(file: Path, sha256: str) -> str:
    """What a file is called in a bundle: its own stem and suffix, and what tells it from any other generation."""
    stem = re.sub(r"[^A-Za-z0-9._+-]", "_", file.stem).lstrip("._+-")[:80] or "model"
    return f"{stem}-{sha256[:12]}{file.suffix}"


def is_ours(name: str) -> bool:
    """Whether a bundle's folder may hold `name` by our own doing, so that we may remove it."""
    patterns = (_CONTENT_NAME, _FRIENDLY_NAME)
    return name.startswith((STAGE_PREFIX, LOCK)) or any(pattern.fullmatch(name) for pattern in patterns)


def add_friendly_names(folder: Path, variants: Sequence[Artifact]) -> None:
    """Links ``model-w8a8.tflite`` to the variant it is, for people and programs that know nothing of bundles."""
    taken: set[str] = set()
    for variant in variants:
        for file in variant.files:
            kind = variant.name.removeprefix(f"{variant.format}-")
            friendly = f"model-{kind}{Path(file.path).suffix}"
            if friendly in taken or not _FRIENDLY_NAME.fullmatch(friendly):
                continue
            taken.add(friendly)
            try:
                os.link(folder / file.path, folder / friendly)
            except OSError:  # a file system without links
                import shutil

                shutil.copyfile(folder / file.path, folder / friendly)


def replace_generation(fresh: Path, folder: Path) -> None:
    """Moves the files of `fresh` into `folder`, the manifest last but for plain names; then removes the old ones."""
    before = {entry.name for entry in folder.iterdir()}
    names = [entry.name for entry in sorted(fresh.iterdir())]
    friendly = [name for name in names if not _CONTENT_NAME.fullmatch(name) and name != MANIFEST]
    placed: list[str] = []
    try:
        for name in names:
            if name != MANIFEST and name not in friendly:
                (fresh / name).replace(folder / name)
                placed.append(name)
        sync_folder(folder)
        (fresh / MANIFEST).replace(folder / MANIFEST)
    except BaseException:
        if (fresh / MANIFEST).exists():  # an interrupt may come just after the manifest went
            for name in set(placed) - before:
                (folder / name).unlink(missing_ok=True)
        raise
    sync_folder(folder)
    for name in friendly:
        (fresh / name).replace(folder / name)
    for name in sorted(before - set(names)):
        if _CONTENT_NAME.fullmatch(name) or _FRIENDLY_NAME.fullmatch(name):
            (folder / name).unlink()
    sync_folder(folder)
