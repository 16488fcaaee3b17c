"""A source model that lives in a child process with its framework: opening it there, and asking it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converter import Feeds, SourceModel
from edgekit.errors import InputError
from edgekit.spec import Signature
from edgekit.worker import Worker

__all__ = ["open_in_child"]


def open_in_child(
    kind: str,
    worker: Worker,
    opener: str,
    runner: str,
    path: Path,
    stage: Path,
    **arguments: Any,
) -> SourceModel:
    """Opens `path` in the child `worker`, which is ended where that fails.

    Args:
        kind: The converter's name.
        worker: A new child.
        opener: ``"package.module:function"`` of `path`, `stage` and the further `arguments`, which gives a dict of what
            `SourceModel` has under the same names.
        runner: The same of ``(feeds, results)``, which answers one .npz file by another.
        path: The source.
        stage: The folder its exports are left in.
        arguments: Of `opener`.
    """
    stage.mkdir(parents=True, exist_ok=True)
    try:
        found = worker.call(opener, path=str(path.resolve()), stage=str(stage.resolve()), **arguments)
    except BaseException:
        worker.kill()
        worker.close()
        raise
    signature = Signature.from_json(found["signature"])
    return SourceModel(
        kind=kind,
        path=path,
        signature=signature,
        run=functools.partial(_run, worker, runner, signature),
        exports={form: Path(place) for form, place in found["exports"].items()},
        hub_error=found["hub_error"],
        worker=worker,
        versions=found["versions"],
        notes=found["notes"],
    )


def _run(worker: Worker, function: str, signature: Signature, feeds: Feeds) -> dict[str, np.ndarray]:
    names = [spec.name for spec in signature.inputs]
    if set(feeds) != set(names):
        raise InputError(f"feeds are {sorted(feeds)}", hint=f"inputs: {names}")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        given, answered = Path(folder, "feeds.npz"), Path(folder, "results.npz")
        np.savez(given, **{name: np.asarray(feeds[name]) for name in names})  # type: ignore[arg-type]
        worker.call(function, feeds=str(given), results=str(answered))
        with np.load(answered) as arrays:
            return {spec.name: arrays[spec.name] for spec in signature.outputs}
