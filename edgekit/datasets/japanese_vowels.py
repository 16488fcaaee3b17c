"""Nine men saying two Japanese vowels: 12 cepstral coefficients over 25 steps; who is speaking?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.datasets.files import write_table
from edgekit.datasets.recipe import DatasetRecipe
from edgekit.packages import PackageFiles, package_files

__all__ = ["RECIPE"]

_FOLDER = "aeon/datasets/data/JapaneseVowels"
_FILES = PackageFiles(
    "aeon",
    "1.6.0",
    (f"{_FOLDER}/JapaneseVowels_eq_*.ts",),
    "6c793d01bb307be7a228ce9d619ad244534325c0d10efaa482b5d07557f04eb8",
)
_NAMES = {"train": "JapaneseVowels_eq_TRAIN.ts", "test": "JapaneseVowels_eq_TEST.ts"}


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    """Sequences [samples, steps, coefficients] and speakers. After @data a line is a sample, series:...:class."""
    _, data = path.read_text(encoding="utf-8").split("@data\n")
    lines = [line.split(":") for line in data.splitlines() if line]
    series = np.array([[row.split(",") for row in line[:-1]] for line in lines], np.float64)
    return series.transpose(0, 2, 1), [line[-1].strip() for line in lines]


def _write(folder: Path, seed: int) -> None:
    """The split is the published one, so nothing depends on `seed`."""
    files = package_files(_FILES)
    for split, name in _NAMES.items():
        sequences, speakers = _read(files[f"{_FOLDER}/{name}"])
        write_table(folder / f"{split}.npz", speakers, sequence=sequences)


RECIPE = DatasetRecipe(
    name="japanese-vowels",
    title="640 utterances of nine speakers, 12 coefficients by 25 steps",
    task="sequence classification",
    license="BSD-3-Clause",
    source="aeon 1.6.0 (its license; Kudo, Toyama and Shimbo 1999), brought to equal length there",
    write=_write,
    labels=tuple("123456789"),
    splits={split: f"{split}.npz" for split in _NAMES},
    needs=(_FILES,),
)
