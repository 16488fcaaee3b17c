"""Files a processing is made of: its own .json, with what stands in files beside it, and tokenizers as published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.processing.steps import SCHEMA, VERSION
from edgekit.spec import Signature

__all__ = ["read_processing"]

_MAX_BYTES = 4 << 20
"""What is larger does not fit into a bundle's manifest."""

_PARTS = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types", "ids": "ids", "mask": "mask"}
"""What a text model's inputs are called, and which of a tokenizer's results each takes."""


def read_processing(path: Path, signature: Signature | None = None) -> dict[str, Any]:
    """What `Processing.to_json` gives, from a file.

    Args:
        path: The .json of a processing, in which a value of ``"data"`` and the ``"labels"`` may be ``{"text": FILE}``
            or ``{"lines": FILE}``, relative to it. With a signature also a ``tokenizer.json`` of the tokenizers
            package, or a ``vocab.txt`` of BERT's word pieces.
        signature: Whose inputs texts are for.

    Raises:
        ArtifactError: The file cannot be read, or is neither.
        UnsupportedError: It is a tokenizer, and the signature has other inputs than texts make.
    """
    text = _read(path)
    if path.suffix == ".txt":
        return _for_texts(path, signature, "tokenize_wordpiece", "vocabulary", _lines(text))
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a processing: {error}", hint="it is JSON") from error
    if isinstance(found, dict) and "schema" not in found and isinstance(found.get("model"), dict):
        return _for_texts(path, signature, "tokenize", "tokenizer", text)
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} is not a processing but a {type(found).__name__}", hint="it is a JSON object")
    return _with_files(found, path.parent)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ArtifactError(f"{path} is larger than {_MAX_BYTES >> 20} MB", hint="a bundle holds no more")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read as a processing: {error}", hint="is the path right?") from error


def _with_files(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    resolved = dict(found)
    if isinstance(found.get("data"), Mapping):
        resolved["data"] = {name: _content(value, folder) for name, value in found["data"].items()}
    if "labels" in found:
        resolved["labels"] = _content(found["labels"], folder)
    return resolved


def _content(value: Any, folder: Path) -> Any:
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1 or next(iter(value)) not in ("text", "lines"):
        raise ArtifactError(f"{dict(value)} names no file", hint='{"text": FILE} or {"lines": FILE}')
    ((form, name),) = value.items()
    text = _read(folder / str(name))
    return text if form == "text" else _lines(text)


def _lines(text: str) -> list[str]:
    # Not splitlines: among the characters that a net reads are some that it takes for ends of lines.
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _for_texts(path: Path, signature: Signature | None, op: str, argument: str, content: Any) -> dict[str, Any]:
    """Steps from a text to every input, each by what its name says it takes."""
    if signature is None:
        raise ArtifactError(f"{path} is a tokenizer, not a processing", hint="convert MODEL --processing takes it")
    if other := [str(spec) for spec in signature.inputs if spec.name not in _PARTS]:
        raise UnsupportedError(
            f"{path} makes texts into {', '.join(_PARTS)}, and the model has other inputs",
            offenders=other,
            hint='say in the .json of a processing which input takes "ids", "mask" and "types"',
        )
    step = {"op": op, argument: {"data": argument}}
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "inputs": {spec.name: [{**step, "what": _PARTS[spec.name]}] for spec in signature.inputs},
        "outputs": [{"op": "mean_rows"}] if _is_vector(signature) else [],
        "labels": [],
        "data": {argument: content},
    }


def _is_vector(signature: Signature) -> bool:
    """Whether the answer is one vector for a text, so that its batch of one is left out."""
    return len(signature.outputs) == 1 and len(signature.outputs[0].shape) == 2
