"""Units that ask a file: its answers to samples, in blocks, so that a share of the data can be judged by first."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.optimizing.store import Store
from edgekit.processing import Processing
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.spec import Signature
from edgekit.worker import Worker

__all__ = ["answer_here", "answer_samples", "raw_answer"]

RAW = "raw"
"""In place of what a processing makes of outputs: what sets them apart from the source's own."""


def answer_samples(
    store: Store,
    file: Mapping[str, Any],
    runtime: str,
    precision: str,
    processing: Mapping[str, Any],
    kind: str,
    block: str,
) -> dict[str, Any]:
    """Asks a file, opened in a child, for a block of samples.

    Args:
        store: Has both.
        file: ``files``, ``input_names``, ``output_names``, and ``reads``, the source's signature as the file has it.
        runtime: What opens it.
        precision: In which arithmetic.
        processing: From samples to feeds, and from outputs to answers.
        kind: `RAW`, or nothing for the processing's answers.
        block: Hash of the samples.

    Returns:
        ``answers``, the hash of their list.
    """
    path = store.open_files(file["files"])
    with Worker(f"asking {path.name}") as worker:
        digest = worker.call(
            "edgekit.optimizing.answering:answer_here",
            folder=str(store.folder),
            path=str(path),
            file=dict(file),
            runtime=runtime,
            precision=precision,
            processing=dict(processing),
            kind=kind,
            block=block,
        )
    return {"answers": digest, "blobs": [digest]}


def answer_here(
    folder: str,
    path: str,
    file: Mapping[str, Any],
    runtime: str,
    precision: str,
    processing: Mapping[str, Any],
    kind: str,
    block: str,
) -> str:
    """Runs in the child: see `answer_samples`."""
    from pathlib import Path

    store = Store(Path(folder))
    signature, steps = Signature.from_json(file["reads"]), Processing.from_json(processing)
    options = EngineOptions(threads=1, precision=precision)
    with Session(RUNTIMES.get(runtime).open(Path(path), options), runtime=runtime) as session:

        def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            found = session.run({file["input_names"][name]: array for name, array in feeds.items()})
            return {ours: found[theirs] for ours, theirs in file["output_names"].items()}

        samples = pickle.loads(store.read(block))  # written by `Exam.pack`, under the hash of its content
        if kind == RAW:
            answers = [raw_answer(value, run, expected, signature, steps) for _, value, expected in samples]
        else:
            answers = [steps.answer(value, run, signature) for _, value, _ in samples]
    return store.put(pickle.dumps(answers, protocol=5))


def raw_answer(
    value: Any, run: Any, expected: Sequence[Mapping[str, np.ndarray]], signature: Signature, steps: Processing
) -> dict[str, Any]:
    """How far the outputs for one sample are from the source's: sums of squares by output, and places that agree."""
    got = [run(part) for part in steps.batches(value, signature)]
    said: dict[str, Any] = {"signal": {}, "noise": {}, "agree": [0, 0]}
    for want, have in zip(expected, got, strict=True):
        for name, theirs in want.items():
            a, b = np.asarray(theirs, "float64"), np.asarray(have[name], "float64")
            said["signal"][name] = said["signal"].get(name, 0.0) + float(np.square(a).sum())
            said["noise"][name] = said["noise"].get(name, 0.0) + float(np.square(a - b).sum())
            if a.ndim and a.shape[-1] > 1:
                same = a.argmax(-1) == b.argmax(-1)
                said["agree"] = [said["agree"][0] + int(same.sum()), said["agree"][1] + same.size]
    return said
