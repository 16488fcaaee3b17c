"""The real models, pictures and data tests use, pinned and cached; ``python -m tests.assets`` fetches them beforehand.

Without a network tests are skipped by name when EDGEKIT_OFFLINE=1; otherwise a failed fetch is a failed test.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

from edgekit.datasets import open_dataset
from edgekit.errors import UnavailableError
from examples import assets as shared

__all__ = ["asset", "dataset", "face_image", "faces", "needs_index", "put_examples"]

P = ParamSpec("P")
T = TypeVar("T")


def _or_skip(function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (shared.FetchError, UnavailableError) as error:
            if os.environ.get("EDGEKIT_OFFLINE") == "1":
                pytest.skip(f"EDGEKIT_OFFLINE=1 and the asset is not in the cache: {error}")
            hint = getattr(error, "hint", "")
            if hint.startswith("apt-get") and os.geteuid() != 0:
                pytest.skip(f"{error.args[0] if error.args else error}; as root: {hint}")
            raise

    return wrapped


def needs_index(why: str) -> None:
    """Skips the test that asks, by this reason, where there is no package index to install from."""
    if os.environ.get("EDGEKIT_OFFLINE") == "1":
        pytest.skip(f"EDGEKIT_OFFLINE=1: {why}")


asset = _or_skip(shared.asset)
dataset = _or_skip(open_dataset)
faces = _or_skip(shared.faces)
face_image = _or_skip(shared.face_image)
put_examples = _or_skip(shared.put_examples)


if __name__ == "__main__":
    for name in shared.WHEELS:
        print(shared.fetch(name).name)
