"""Fixed random feeds for a signature: the same numbers for the same seed, on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.spec import Signature, TensorSpec

__all__ = ["load_feeds", "random_feeds", "save_feeds"]

_DYNAMIC_SIZES = (24, 40)
"""Sizes given to open dimensions other than the batch, in turn, so that a size baked in by mistake is noticed."""


def random_feeds(
    signature: Signature, *, count: int, seed: int = 0, batch: int = 1, limit: int = 64
) -> list[dict[str, np.ndarray]]:
    """Gives `count` feeds: normal floats of unit variance, integers from 0 and below `limit`, coin-toss booleans.

    Raises:
        UnsupportedError: An input holds strings, for which there is no meaningful random value.
    """
    strings = [spec.name for spec in signature.inputs if spec.dtype == "string"]
    if strings:
        raise UnsupportedError("string inputs have no random values", offenders=strings)
    rng = np.random.default_rng(seed)
    # A size named elsewhere too is no batch where it comes first: the steps of a list of positions.
    names = {dim for spec in signature.inputs for dim in spec.shape[1:] if isinstance(dim, str)}
    found = []
    for turn in range(count):
        sizes = dict.fromkeys(names, _DYNAMIC_SIZES[turn % 2])
        found.append({spec.name: _random_array(spec, rng, batch, sizes, limit) for spec in signature.inputs})
    return found


def _random_array(
    spec: TensorSpec, rng: np.random.Generator, batch: int, sizes: Mapping[str, int], limit: int
) -> np.ndarray:
    shape = tuple(dim if isinstance(dim, int) else sizes.get(dim, batch) for dim in spec.shape)
    if spec.dtype in ("float32", "float16", "float64"):
        return rng.standard_normal(shape).astype(spec.dtype)
    if spec.dtype == "bfloat16":
        return (rng.standard_normal(shape).astype("float32").view("uint32") >> 16).astype("uint16")
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype("bool")
    return rng.integers(0, limit, shape).astype(spec.dtype)


def save_feeds(path: Path, feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Writes feeds, or results, as one .npz file with arrays named ``"<index>/<tensor>"``."""
    arrays = {f"{index}/{name}": array for index, feed in enumerate(feeds) for name, array in feed.items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_feeds(path: Path) -> list[dict[str, np.ndarray]]:
    """Reads what `save_feeds` wrote, in its order."""
    feeds: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            index, _, name = key.partition("/")
            feeds.setdefault(int(index), {})[name] = arrays[key]
    return [feeds[index] for index in sorted(feeds)]
