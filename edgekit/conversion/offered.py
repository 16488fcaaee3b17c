"""What a user offers to calibrate on: files, values of Python, or noise by the word ``random``."""

from __future__ import annotations

import pickle
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.samples import LABELS_KEY, Sample, Samples, drawn, loaded, read_samples
from edgekit.staging import disk_error

__all__ = ["NOISE", "read_offered"]

NOISE = "random"
DEFAULT_NOISE = 64
"""Samples of noise, where nobody says how many."""

_IN_MEMORY = "the calibration data"
_HINT = "a path, a list, an array, arrays by input name, or anything that gives one sample after the other"


def read_offered(data: Any, *, limit: int | None = None, seed: int = 0) -> Samples:
    """Samples of whatever was given as calibration data.

    Args:
        data: The path of a folder or file; ``"random"`` or ``"random:N"`` for noise; an array whose first axis runs
            over samples, or a mapping of such arrays by input name; a sequence of samples, each an array, arrays by
            input name, or what the processing takes; or any other iterable of samples, such as a generator. That is
            gone through once, and what it gives is kept in a file without a name until the end, since more than one
            pass is needed.
        limit: Take so many: of an iterable the first, of everything else drawn ones, in their order.
        seed: Of noise.

    Raises:
        InputError: There is nothing to read; or ``random`` is a file or folder as well.
    """
    if limit is not None and limit < 1:
        raise InputError(f"cannot take {limit} samples", hint="a number above zero")
    if isinstance(data, str) and (match := re.fullmatch(rf"{NOISE}(?::(.*))?", data)):
        return _noise(data, match[1], limit, seed)
    if isinstance(data, str | Path):
        return read_samples(Path(data), limit=limit)
    rows = _rows(data, limit)
    if not len(rows):
        raise InputError(f"{_IN_MEMORY} holds no samples", hint=_HINT)
    return Samples(_IN_MEMORY, "", source=rows)


def _noise(word: str, count: str | None, limit: int | None, seed: int) -> Samples:
    if Path(word).exists():
        raise InputError(
            f"{word!r} asks for noise, and there is a file or folder of that name",
            hint=f"./{word} is the file or folder; {NOISE}:{DEFAULT_NOISE + (count == str(DEFAULT_NOISE))} is noise",
        )
    if count is not None and not (count.isdecimal() and int(count)):
        raise InputError(f"{word!r} does not say how many samples of noise", hint=f"{NOISE}:{DEFAULT_NOISE}")
    total = min(int(count) if count else limit or DEFAULT_NOISE, limit or 2**31)
    return Samples(f"noise of seed {seed}", "", source=_Seeds(seed, total), is_synthetic=True)


def _rows(data: Any, limit: int | None) -> _Listed | _Kept:
    if isinstance(data, Mapping):
        arrays = {str(name): _array(array, f" for {name!r}") for name, array in data.items() if name != LABELS_KEY}
        counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise InputError(f"the arrays of {_IN_MEMORY} do not hold the same number of samples: {said}")
        chosen = drawn(next(iter(counts.values()), 0), limit)
        return _Listed([{name: array[index] for name, array in arrays.items()} for index in chosen], chosen)
    if hasattr(data, "__array__"):
        data = _array(data)
        if not data.ndim:
            raise InputError(f"{_IN_MEMORY} is one number", hint=_HINT)
    if isinstance(data, np.ndarray) or (isinstance(data, Sequence) and not isinstance(data, bytes)):
        chosen = drawn(len(data), limit)
        return _Listed([data[index] for index in chosen], chosen)
    if not isinstance(data, Iterable) or isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"a {type(data).__name__} is no calibration data", hint=_HINT)
    return _Kept(islice(data, limit))


def _array(value: Any, what: str = "") -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise InputError(f"{_IN_MEMORY}{what} make no array: {said}", hint="samples of one shape; or a list") from error


def _sample(index: int, value: Any) -> Sample:
    return Sample(str(index), loaded(value) if isinstance(value, Path) else value)


@dataclass(frozen=True)
class _Seeds:
    """Numbers from which noise is made once the model is known."""

    seed: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        for index in range(self.count):
            yield Sample(str(index), int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0]))


@dataclass(frozen=True)
class _Listed:
    """Values in memory, with their places in what was given."""

    values: Sequence[Any]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Sample]:
        return map(_sample, self.places, self.values)


class _Kept:
    """Values of what can be gone through only once, in a file without a name; it goes with the last who holds this."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="edgekit-samples-")  # noqa: SIM115 - it is kept
        weakref.finalize(self, self._file.close)
        self._count = 0
        for value in values:
            self._keep(value)
            self._count += 1

    def _keep(self, value: Any) -> None:
        try:
            pickle.dump(value, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            raise disk_error(Path(tempfile.gettempdir()), error) from error
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise InputError(
                f"sample {self._count} of {_IN_MEMORY}, a {type(value).__name__}, cannot be kept for another pass",
                hint="give paths, texts or arrays; or a list in place of an iterator",
            ) from error

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        place = 0
        for index in range(self._count):
            self._file.seek(place)
            value = pickle.load(self._file)  # written by `_keep`, and nobody else can
            place = self._file.tell()
            yield _sample(index, value)
