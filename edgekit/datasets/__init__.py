"""Data sets: named ones, which are written once into the cache, and the user's own, described by a ``dataset.yaml``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.cache import cache_folder
from edgekit.datasets.description import DESCRIPTION, Dataset, read_description, write_description
from edgekit.datasets.recipe import DatasetRecipe
from edgekit.errors import InputError
from edgekit.labels import nearest
from edgekit.packages import PackageFile, Say, package_file, package_files
from edgekit.registry import DATASETS
from edgekit.staging import Stage, already_there, put_folder, real_path, writing

__all__ = ["Dataset", "DatasetRecipe", "open_dataset", "write_dataset"]


def open_dataset(source: str | Path, *, say: Say | None = None) -> Dataset:
    """The data set `source`.

    Args:
        source: A registered name, a folder that holds a ``dataset.yaml``, or a file of that form. A `Path` is never
            taken for a name. A named one is written into the cache on first use.
        say: Told before something is fetched or written.

    Raises:
        InputError: There is no such data set, or what describes it is wrong.
        UnavailableError: It needs a package, a program or a network that is not there.
        ArtifactError: It cannot be written, or a package is not the one that was pinned.
    """
    if isinstance(source, str) and source in DATASETS.names():
        return _named(DATASETS.get(source), say)
    path = Path(source)
    if path.is_dir():
        if not (path / DESCRIPTION).is_file():
            raise InputError(f"{path} has no {DESCRIPTION}", hint="it names train, test and labels")
        return read_description(path / DESCRIPTION)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_description(path)
    raise InputError(f"there is no data set {str(source)!r}", hint=nearest(str(source), DATASETS.names()))


def write_dataset(name: str, folder: Path, *, seed: int = 0, force: bool = False, say: Say | None = None) -> Dataset:
    """Writes the registered data set `name` to `folder`, whole or not at all.

    Args:
        name: As in the registry.
        folder: Where to; what is above it is made.
        seed: Of what is drawn. The same gives the same bytes.
        force: Replace a data set that is there.
        say: Told before something is fetched or written.

    Raises:
        InputError: Something is at `folder` and `force` is not given, or it is no data set.
        UnsupportedError: Nobody registered `name`.
        UnavailableError, ArtifactError: As `open_dataset`.
    """
    recipe: DatasetRecipe = DATASETS.get(name)
    destination = real_path(folder)
    if destination.exists():
        if not force:
            raise already_there(destination)
        if not (destination / DESCRIPTION).is_file():
            raise InputError(f"{destination} is not a data set, so it is not replaced", hint="give another folder")
    with Stage(destination) as stage, writing(destination):
        _write(recipe, stage.work / "new", seed, say)
        if force and destination.exists():
            destination.rename(stage.work / "old")
        if not put_folder(stage.work / "new", destination):
            raise already_there(destination)
    return read_description(destination / DESCRIPTION)


def _named(recipe: DatasetRecipe, say: Say | None) -> Dataset:
    folder = cache_folder() / "datasets" / f"{recipe.name}-{recipe.version}"
    if not folder.is_dir():
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with Stage(folder) as stage, writing(folder):
            _write(recipe, stage.work / "new", 0, say)
            put_folder(stage.work / "new", folder)
    return replace(read_description(folder / DESCRIPTION), name=recipe.name)


def _write(recipe: DatasetRecipe, folder: Path, seed: int, say: Say | None) -> None:
    tool = "" if recipe.tool is None else f"; {recipe.tool()}"
    for need in recipe.needs:
        if isinstance(need, PackageFile):
            package_file(need, say=say)
        else:
            package_files(need, say=say)
    if say is not None:
        say(f"writing the data set {recipe.name}")
    folder.mkdir()
    recipe.write(folder, seed)
    content = {
        **{"name": recipe.name, "task": recipe.task, "labels": list(recipe.labels)},
        **{"license": recipe.license, "source": f"{recipe.source}{tool}", "seed": seed},
    }
    write_description(folder / DESCRIPTION, {**content, **recipe.splits})
