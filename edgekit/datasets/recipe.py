"""How a named data set is written: where it comes from, its splits, and the function that writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.packages import PackageFile, PackageFiles

__all__ = ["DatasetRecipe"]

_FOLDERS = {"train": "train", "calibration": "calibration", "test": "test"}


@dataclass(frozen=True)
class DatasetRecipe:
    """One named data set, in the registry `DATASETS`.

    Attributes:
        name: As in the registry.
        title: A line for people.
        task: What a model that learns it answers, such as ``"image classification"``.
        license: SPDX identifier where there is one, of the data.
        source: Where the data is from, and what was done with it.
        write: Writes the splits into a folder, from a seed; the same seed gives the same bytes.
        labels: Class names in the order of their indices; none where there are no classes.
        splits: Folder or .npz of each split, relative to the folder.
        needs: What it takes out of packages; fetched before `write` is called.
        tool: Gives name and version of a program it needs; raises UnavailableError where that is missing.
        version: Raised when what is written changes.
    """

    name: str
    title: str
    task: str
    license: str
    source: str
    write: Callable[[Path, int], None]
    labels: tuple[str, ...] = ()
    splits: Mapping[str, str] = field(default_factory=lambda: dict(_FOLDERS))
    needs: tuple[PackageFile | PackageFiles, ...] = ()
    tool: Callable[[], str] | None = None
    version: int = 1
