"""The state of a source that does not say itself what it remembers, from the card of a known model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.converter import SourceModel
from edgekit.errors import ArtifactError
from edgekit.spec import STATE_KEY, StatePair

__all__ = ["declare_state"]


def declare_state(source: SourceModel, pairs: Sequence[StatePair], stage: Path) -> SourceModel:
    """The source with `pairs` in its signature, and in its hub form, written anew under `stage`, for the files made.

    A source that has a state already keeps its own.

    Raises:
        ArtifactError: A pair names an input or output the source has not.
    """
    if not pairs or source.signature.state:
        return source
    inputs, outputs = ({spec.name for spec in side} for side in (source.signature.inputs, source.signature.outputs))
    if wrong := [f"{p.input} <- {p.output}" for p in pairs if p.input not in inputs or p.output not in outputs]:
        raise ArtifactError(f"the model's card names a state it has not: {', '.join(wrong)}")
    exports = dict(source.exports)
    if "hub" in exports:
        from edgekit.graph import load, save

        graph = load(exports["hub"])
        graph.metadata_props[STATE_KEY] = json.dumps([[pair.input, pair.output] for pair in pairs])
        exports["hub"] = stage / "stateful.onnx"
        save(graph, exports["hub"])
    return replace(source, signature=replace(source.signature, state=tuple(pairs)), exports=exports)
