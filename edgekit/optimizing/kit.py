"""All that making and verifying a file takes, without the source's own framework: the same on every worker.

A kit is the hub graph, the calibration feeds, the source's own answers, and the target; a folder of files by content.
"""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.conversion.preparing import Preparation
from edgekit.conversion.reference import Reference
from edgekit.converter import Feeds, SourceModel
from edgekit.errors import ConversionError
from edgekit.optimizing.store import Store
from edgekit.spec import Signature
from edgekit.target import Target

__all__ = ["Kit", "open_kit", "pack_kit"]

_KIT, _HUB, _CALIBRATION = "kit.json", "hub.onnx", "calibration.npz"
_PARTS = ("real", "random", "real_answers", "random_answers")


@dataclass
class Kit:
    """An opened kit.

    Attributes:
        source: The source without its framework: it cannot answer.
        reference: Its answers.
        preparation: Of its graph.
        target: What files are for.
    """

    source: SourceModel
    reference: Reference
    preparation: Preparation
    target: Target


def pack_kit(
    store: Store,
    folder: Path,
    source: SourceModel,
    reference: Reference,
    calibration: Callable[[], Iterable[Feeds]],
    identity: str,
    target: Target,
) -> list[tuple[str, str]]:
    """Puts a kit together in `folder` and takes it into the store; names and hashes of its files."""
    said = {
        "kind": source.kind,
        "signature": source.signature.to_json(),
        "precision": source.precision,
        "hub_error": source.hub_error,
        "identity": identity,
        "target": target.to_json(),
        "data": reference.data,
        "sizes": dict(reference.sizes),
        "real_moves": dict(reference.real_moves),
        "random_moves": dict(reference.random_moves),
    }
    (folder / _KIT).write_text(json.dumps(said, sort_keys=True), encoding="utf-8")
    _write_feeds(folder / _CALIBRATION, calibration())
    for part in _PARTS:
        _write_feeds(folder / f"{part}.npz", getattr(reference, part))
    files = [folder / name for name in (_KIT, _CALIBRATION, *(f"{part}.npz" for part in _PARTS))]
    names = store.put_files(files)
    for file in files:
        file.unlink()
    if (hub := source.exports.get("hub")) is not None and not source.hub_error:
        names += [(_HUB, store.put(hub)), *store.put_files(_weights_beside(hub))]
    return names


def _weights_beside(hub: Path) -> list[Path]:
    """Files that hold weights of an .onnx file apart from it."""
    import onnx

    model = onnx.load(hub, load_external_data=False)
    places = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    return [hub.parent / place for place in sorted(places)]


def _write_feeds(path: Path, all_feeds: Iterable[Mapping[str, np.ndarray]]) -> None:
    """As `edgekit.feeds.save_feeds`, one feed at a time: there may be more than memory holds."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index, feed in enumerate(all_feeds):
            for name, array in feed.items():
                with archive.open(f"{index}/{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _read_feeds(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """One at a time, in their order."""
    with np.load(path, allow_pickle=False) as arrays:
        names: dict[int, list[str]] = {}
        for key in arrays.files:
            names.setdefault(int(key.partition("/")[0]), []).append(key)
        for index in count():
            if index not in names:
                return
            yield {key.partition("/")[2]: arrays[key] for key in names[index]}


_OPEN: dict[str, Kit] = {}
_TURN = threading.Lock()
"""A worker may have several threads; what is prepared once serves all of its trials."""


def open_kit(store: Store, names: Sequence[tuple[str, str]]) -> Kit:
    """The kit of these files; opened once in a process. Raises MissingBlobsError."""
    folder = store.open_files(names).parent
    with _TURN:
        if str(folder) not in _OPEN:
            _OPEN.clear()  # one model at a time
            _OPEN[str(folder)] = _opened(folder)
        return _OPEN[str(folder)]


def _opened(folder: Path) -> Kit:
    said = json.loads((folder / _KIT).read_text(encoding="utf-8"))
    known: dict[str, Any] = {part: list(_read_feeds(folder / f"{part}.npz")) for part in _PARTS}
    known.update({name: said[name] for name in ("data", "sizes", "real_moves", "random_moves")})
    hub = folder / _HUB
    source = SourceModel(
        kind=said["kind"],
        path=hub,
        signature=Signature.from_json(said["signature"]),
        run=_cannot_answer,
        exports={"hub": hub},
        hub_error=said["hub_error"],
        precision=said["precision"],
    )
    preparation = Preparation(hub, lambda: _read_feeds(folder / _CALIBRATION), lambda line: None, said["identity"])
    return Kit(source, Reference(**known), preparation, Target.from_json(said["target"]))


def _cannot_answer(feeds: Feeds) -> dict[str, np.ndarray]:
    raise ConversionError("the source's own framework is not at work in a trial")
