"""MNIST digits in color: each blended with a patch of a photo, as in MNIST-M (Ganin et al., JMLR 17, 2016)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.datasets.digits import MNIST_FILE, NAMES, read_digits
from edgekit.datasets.files import stratified, write_labeled
from edgekit.datasets.recipe import DatasetRecipe
from edgekit.decoding import open_picture
from edgekit.packages import PackageFiles, package_files

__all__ = ["RECIPE"]

SIDE = 32


_FOLDER = "skimage/data"
_NAMES = {
    "train": ("astronaut.png", "coffee.png", "hubble_deep_field.jpg"),
    "test": ("chelsea.png", "rocket.jpg"),
}
"""In the public domain (astronaut, hubble_deep_field: NASA; rocket: SpaceX) or CC0 (coffee: Rachel Michetti; chelsea:
Stefan van der Walt), as scikit-image says beside each."""
_PHOTOS = PackageFiles(
    "scikit-image",
    "0.26.0",
    tuple(f"{_FOLDER}/{name}" for names in _NAMES.values() for name in names),
    "7430feb0725fa7a7bd4576805fd12f2fb25cc36bd38c0e57d62725a6c8959ba9",
)


def _write(folder: Path, seed: int) -> None:
    pictures, classes = read_digits(MNIST_FILE)
    files = package_files(_PHOTOS)
    photos = {split: [_pixels(files[f"{_FOLDER}/{name}"]) for name in names] for split, names in _NAMES.items()}
    parts = stratified(classes, {"train": 3800, "calibration": 200, "test": 1000}, seed)
    for number, (split, chosen) in enumerate(sorted(parts.items())):
        generator = np.random.default_rng((seed, number))
        behind = photos["test" if split == "test" else "train"]
        blended = [_blend(digit, behind[int(generator.integers(len(behind)))], generator) for digit in pictures[chosen]]
        write_labeled(folder / split, blended, [NAMES[digit] for digit in classes[chosen]])


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(open_picture(path).convert("RGB"), np.int64)


def _blend(digit: np.ndarray, photo: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The difference of the digit, anywhere in the frame, and a patch of the photo: uint8 [SIDE, SIDE, 3]."""
    top, left = (int(generator.integers(size - SIDE + 1)) for size in photo.shape[:2])
    patch = photo[top : top + SIDE, left : left + SIDE].copy()
    down, right = (int(generator.integers(SIDE - size + 1)) for size in digit.shape)
    place = patch[down : down + digit.shape[0], right : right + digit.shape[1]]
    place[:] = np.abs(place - digit[..., None])
    return patch.astype(np.uint8)


RECIPE = DatasetRecipe(
    name="mnist-photo",
    title="handwritten digits before patches of photos, 32 x 32 in color",
    task="image classification",
    license="BSD-3-Clause",
    source="digits as of the data set mnist; photos of scikit-image 0.26.0, in the public domain or CC0",
    write=_write,
    labels=NAMES,
    needs=(MNIST_FILE, _PHOTOS),
)
