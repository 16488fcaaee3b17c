"""Trying a file in a child process: it opens it, answers given feeds, and says what the engine really prepared.

An engine may abort on a file that is wrong, and a converter's output is not to be trusted before it has run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.feeds import load_feeds, save_feeds
from edgekit.parity import match_inputs
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, OpPlacement, Session
from edgekit.spec import Signature, TensorSpec
from edgekit.worker import Worker

__all__ = ["Trial", "try_file"]


@dataclass(frozen=True)
class Trial:
    """What a file did in a child process.

    Attributes:
        signature: The file's own, real numbers in place of quantized integers.
        input_names: For each of the source's input names, the file's.
        outputs: Its answers to the feeds, by its own names.
        precision: Arithmetic of its float operations, as the engine reports it.
        version: The engine's package and version.
        placements: What the engine prepared; None where it cannot say.
    """

    signature: Signature
    input_names: dict[str, str]
    outputs: list[dict[str, np.ndarray]]
    precision: str
    version: str
    placements: tuple[OpPlacement, ...] | None

    @property
    def int8_macs_share(self) -> float | None:
        """Share of all multiply-accumulates that run in 8-bit integers; None where the engine cannot say.

        Where sizes are open and nothing can be counted, it is still 0 if no operation runs in integers.
        """
        if self.placements is not None and not any(op.precision == "int8" for op in self.placements):
            return 0.0
        counted = [op for op in self.placements or () if op.macs]
        total = sum(op.macs or 0 for op in counted)
        return sum(op.macs or 0 for op in counted if op.precision == "int8") / total if total else None


def try_file(
    path: Path,
    runtime: str,
    feeds: Sequence[Mapping[str, np.ndarray]],
    *,
    inputs: Sequence[TensorSpec],
    input_names: Mapping[str, str] | None = None,
    precision: str = "fp32",
    timeout_s: float = 300,
) -> Trial:
    """Opens `path` with `runtime` in a child process and runs `feeds` through it.

    Args:
        path: The model file.
        runtime: A name of the registry.
        feeds: Arrays by the source's input names.
        inputs: The source's inputs.
        input_names: For each of their names, the file's; worked out from names and shapes where it is not given.
        precision: Arithmetic asked for, for float operations.
        timeout_s: How long opening and running may take together.

    Raises:
        EdgekitError: The file does not open or does not run, typed.
        ConversionError: The child died or ran over its time.
    """
    with TemporaryDirectory(prefix="edgekit-") as folder, Worker(f"trying {path.name} with {runtime}") as worker:
        asked, answered = Path(folder, "feeds.npz"), Path(folder, "outputs.npz")
        save_feeds(asked, feeds)
        said = worker.call(
            "edgekit.trial:answer",
            timeout_s=timeout_s,
            path=str(path),
            runtime=runtime,
            feeds=str(asked),
            outputs=str(answered),
            inputs=[spec.to_json() for spec in inputs],
            input_names=dict(input_names or {}),
            precision=precision,
        )
        placements = said["placements"]
        return Trial(
            signature=Signature.from_json(said["signature"]),
            input_names=said["input_names"],
            outputs=load_feeds(answered),
            precision=said["precision"],
            version=said["version"],
            placements=None if placements is None else tuple(OpPlacement(**op) for op in placements),
        )


def answer(
    path: str,
    runtime: str,
    feeds: str,
    outputs: str,
    inputs: list[dict[str, Any]],
    input_names: dict[str, str],
    precision: str,
) -> dict[str, Any]:
    """Runs in the child: see `try_file`."""
    engine = RUNTIMES.get(runtime)
    options = EngineOptions(threads=1, precision=precision)
    with Session(engine.open(Path(path), options), runtime=runtime) as session:
        names = input_names or match_inputs([TensorSpec.from_json(i) for i in inputs], session.signature.inputs)
        asked = load_feeds(Path(feeds))
        save_feeds(Path(outputs), (session.run({names[k]: v for k, v in feed.items()}) for feed in asked))
        placements = engine.placements(Path(path), options) if hasattr(engine, "placements") else None
        return {
            "signature": session.signature.to_json(),
            "input_names": names,
            "precision": session.precision,
            "version": engine.probe().version,
            "placements": None if placements is None else [vars(op) for op in placements],
        }
