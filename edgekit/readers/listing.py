"""A folder with a ``labels.jsonl``: the samples are what that lists, see `edgekit.labels`."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import InputError
from edgekit.labels import LISTING, read_listing
from edgekit.readers import Entry, gathered
from edgekit.samples import HINT, Reading, Samples, why_unreadable

__all__ = ["READER"]


class _Listing:
    name = "listing"
    title = f"a folder with a {LISTING}, or that file"

    def accepts(self, path: Path) -> bool:
        return (path / LISTING).is_file() or (path.is_file() and path.suffix.lower() == ".jsonl")

    def read(self, reading: Reading) -> Samples:
        listing = reading.path / LISTING if reading.path.is_dir() else reading.path
        root = reading.images or listing.parent
        entries, lines = [], {}
        for record in read_listing(listing, root, reading.labels):
            name = f"line {record.line}" if record.file is None else record.file.relative_to(root).as_posix()
            others = tuple(path for path in record.files if path != record.file)
            entries.append(Entry(name, record.file, record.truth, record.text, others))
            lines.update(dict.fromkeys(record.files, record.line))
        samples = gathered(reading, entries, [listing], is_strict=True)
        for sample in samples.source.taken:  # type: ignore[attr-defined]
            for file in sample.files:
                if reason := why_unreadable(file):
                    raise InputError(f"{listing}, line {lines[file]}: {file}: {reason}", hint=HINT)
        return samples


READER = _Listing()
