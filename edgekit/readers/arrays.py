"""A single .npy or .npz file, a sample for each index of the first axis, or a .txt file, a sample for each line.

An .npz has an array for each input by name. Of the names ``labels`` and ``targets`` it says what is true: classes by
name or index, and numbers to be told. A text is one to a line that is not blank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.errors import InputError
from edgekit.labels import require_label
from edgekit.rows import ROW_SUFFIXES, RowFile, open_rows
from edgekit.samples import LABELS_KEY, TARGETS_KEY, Reading, Sample, Samples, digest, drawn

__all__ = ["READER"]


class _Arrays:
    name = "arrays"
    title = "an .npy or .npz file, or a .txt file of lines"

    def accepts(self, path: Path) -> bool:
        return path.is_file() and path.suffix.lower() in ROW_SUFFIXES

    def read(self, reading: Reading) -> Samples:
        path, rows = reading.path, open_rows(reading.path)
        chosen = drawn(len(rows), reading.limit, reading.seed)
        source = _Rows(path, rows, chosen, reading.labels)
        return Samples(path, digest([(path.name, path)], str(chosen)), source=source)


@dataclass(frozen=True)
class _Rows:
    """Rows of a file of arrays, or lines of one of text, of which each is a sample."""

    path: Path
    file: RowFile
    chosen: Sequence[int]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Sample]:
        for index, row in zip(self.chosen, self.file.rows(self.chosen), strict=True):
            found, target = (
                (row.pop(key, None) if isinstance(row, dict) else None) for key in (LABELS_KEY, TARGETS_KEY)
            )
            label = None if found is None else self._label(found, index)
            truth = {} if label is None else {"label": label}
            yield Sample(str(index), row, label, truth if target is None else {**truth, "target": target})

    def _label(self, found: np.ndarray, index: int) -> str:
        """The class by name, where there are names and the array has indices of them."""
        try:
            if found.size != 1:
                raise InputError(
                    f"a label is one name or index, not {list(found.shape)}", hint="argmax of one-hot rows"
                )
            if self.labels and found.dtype.kind in "iu":
                if not 0 <= int(found) < len(self.labels):
                    raise InputError(f"label {found} is not an index of {len(self.labels)} labels", hint="from 0")
                return self.labels[int(found)]
            return require_label(str(found.item()), self.labels)
        except InputError as error:
            raise InputError(f"{self.path}, sample {index}: {error.message}", hint=error.hint) from error


READER = _Arrays()
