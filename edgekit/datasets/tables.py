"""Two small tables of measurements: tumors, malignant or benign, and the cultivars that wines are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgekit.datasets.files import stratified, write_table
from edgekit.datasets.recipe import DatasetRecipe
from edgekit.packages import PackageFile, package_file

__all__ = ["BREAST_CANCER", "WINE"]

_SPLITS = {"train": "train.npz", "test": "test.npz"}


def _file(name: str, sha256: str) -> PackageFile:
    return PackageFile("scikit-learn", "1.9.1", f"sklearn/datasets/data/{name}", sha256)


def _writer(file: PackageFile, labels: tuple[str, ...]) -> Callable[[Path, int], None]:
    def write(folder: Path, seed: int) -> None:
        # The first line has counts and names; each other one the features of a sample, then its class.
        table = np.loadtxt(package_file(file), delimiter=",", skiprows=1)
        features, classes = table[:, :-1], table[:, -1].astype(int)
        for split, chosen in stratified(classes, {"train": 0, "test": len(table) // 4}, seed).items():
            names = [labels[index] for index in classes[chosen]]
            write_table(folder / _SPLITS[split], names, features=features[chosen])

    return write


_CANCER_FILE = _file("breast_cancer.csv", "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed")
_CANCER_LABELS = ("malignant", "benign")
_WINE_FILE = _file("wine_data.csv", "10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede")
_WINE_LABELS = ("class_0", "class_1", "class_2")

BREAST_CANCER = DatasetRecipe(
    name="breast-cancer",
    title="569 tumors by 30 measures of their cells",
    task="tabular classification",
    license="BSD-3-Clause",
    source="scikit-learn 1.9.1 (its license; Wolberg, Street and Mangasarian 1995, UCI breast cancer, diagnostic)",
    write=_writer(_CANCER_FILE, _CANCER_LABELS),
    labels=_CANCER_LABELS,
    splits=_SPLITS,
    needs=(_CANCER_FILE,),
)

WINE = DatasetRecipe(
    name="wine",
    title="178 wines of three cultivars by 13 chemical measures",
    task="tabular classification",
    license="BSD-3-Clause",
    source="scikit-learn 1.9.1 (its license; Forina et al. 1988, UCI wine)",
    write=_writer(_WINE_FILE, _WINE_LABELS),
    labels=_WINE_LABELS,
    splits=_SPLITS,
    needs=(_WINE_FILE,),
)
