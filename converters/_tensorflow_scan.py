"""What a Keras file or SavedModel folder is and what it asks for, read from its bytes before any framework loads it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import ArtifactError, UnsupportedError

__all__ = [
    "Tensors",
    "is_keras_hdf5",
    "is_keras_zip",
    "is_saved_model",
    "refuse_code",
    "serving_signature",
    "signature_tensors",
]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_KERAS_MEMBERS = {"config.json", "model.weights.h5"}
_MAX_CONFIG_BYTES = 64 << 20
_MAX_RATIO = 100
"""A member that unpacks to more than this many times its size, and to megabytes, is a bomb and not weights."""

_TOUCHES_OUTSIDE = {"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc"}


def is_keras_zip(path: Path) -> bool:
    """Whether the file is a zip with a Keras 3 model in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _KERAS_MEMBERS.issubset(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def is_keras_hdf5(path: Path) -> bool:
    """Whether the file is HDF5 and speaks of a Keras model's configuration or weights somewhere."""
    try:
        with path.open("rb") as file:
            if file.read(len(_HDF5_MAGIC)) != _HDF5_MAGIC:
                return False
            return any(b"model_config" in block or b"layer_names" in block for block in _overlapping_blocks(file))
    except OSError:
        return False


def _overlapping_blocks(file: Any, size: int = 1 << 20, overlap: int = 16) -> Iterator[bytes]:
    tail = b""
    while block := file.read(size):
        yield tail + block
        tail = block[-overlap:]


def is_saved_model(path: Path) -> bool:
    """Whether the folder holds a SavedModel."""
    return path.is_dir() and (path / "saved_model.pb").is_file()


# --- Keras: code that travels in the file ----------------------------------------------------------------------------


def refuse_code(path: Path) -> None:
    """Raises UnsupportedError naming every layer that carries Python code, ArtifactError if the file is no model."""
    codes = sorted(set(_code_in(_keras_config(path), "")))
    if codes:
        raise UnsupportedError(
            "the file carries Python code, which would run at loading",
            offenders=codes,
            hint="build these layers from Keras's own, or export a SavedModel where the code is at hand",
        )


def _keras_config(path: Path) -> Any:
    try:
        text = _config_of_zip(path) if is_keras_zip(path) else _config_of_hdf5(path)
        return json.loads(text)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, RecursionError, EOFError) as error:
        raise ArtifactError(
            f"{path.name} holds no readable Keras model: {error}", hint="is it damaged, or weights only?"
        ) from error


def _config_of_zip(path: Path) -> str | bytes:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > _MAX_RATIO * max(member.compress_size, 1) and member.file_size > 1 << 20:
                raise ArtifactError(
                    f"{member.filename} in it unpacks to {member.file_size >> 20} MB out of almost nothing"
                )
        if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
            raise ArtifactError("its config.json is larger than any model's")
        return archive.read("config.json")


def _config_of_hdf5(path: Path) -> str | bytes:
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    if text is None:
        raise ArtifactError(
            f"{path.name} holds weights without the model they belong to", hint="save the whole model: model.save(path)"
        )
    return text


def _code_in(config: Any, layer: str) -> Iterator[str]:
    """Names of the layers whose configuration holds marshalled functions, in Keras 2's or Keras 3's form."""
    if isinstance(config, list):
        for item in config:
            yield from _code_in(item, layer)
    if not isinstance(config, dict):
        return
    kind, inner = config.get("class_name"), config.get("config")
    if isinstance(inner, dict) and isinstance(inner.get("name"), str):
        layer = f"{kind} {inner['name']!r}"
    if kind == "__lambda__":
        yield f"{layer or 'the model'} (a marshalled Python function)"
    if kind == "Lambda" and isinstance(inner, dict) and isinstance(inner.get("function"), list):
        yield f"{layer} (a marshalled Python function)"
    for value in config.values():
        yield from _code_in(value, layer)


# --- SavedModel ------------------------------------------------------------------------------------------------------


_STRING_TO_NUMBER = {
    "StringToHashBucket", "StringToHashBucketFast", "StringToHashBucketStrong", "StringToNumber", "StringLength",
    "DecodeRaw", "DecodePaddedRaw", "UnicodeDecode", "UnicodeDecodeWithOffsets",
}  # fmt: skip


@dataclass(frozen=True)
class Tensors:
    """Name, dtype and shape of a signature's inputs and outputs, sorted by name; None is an open size."""

    inputs: tuple[tuple[str, str, tuple[int | None, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int | None, ...]], ...]


def serving_signature(folder: Path) -> str:
    """Key of the signature to convert. Raises UnsupportedError for one that nothing but TensorFlow could run."""
    graph = _meta_graph(folder)
    keys = [key for key, value in graph.signature_def.items() if value.inputs and value.outputs]
    if "serving_default" in keys:
        key = "serving_default"
    elif len(keys) == 1:
        key = keys[0]
    else:
        raise UnsupportedError(
            "it has no single signature to serve", offenders=sorted(keys), hint="save a serving_default"
        )
    _refuse_outside(graph)
    _refuse_strings(graph, key)
    return key


def signature_tensors(folder: Path, key: str) -> Tensors:
    """What the signature takes and gives."""
    definition = _meta_graph(folder).signature_def[key]
    unranked = [
        name for name, t in [*definition.inputs.items(), *definition.outputs.items()] if t.tensor_shape.unknown_rank
    ]
    if unranked:
        raise UnsupportedError("tensors of unknown rank", offenders=sorted(unranked), hint="declare their shapes")
    return Tensors(_described(definition.inputs), _described(definition.outputs))


def _described(tensors: Any) -> tuple[tuple[str, str, tuple[int | None, ...]], ...]:
    import tensorflow as tf

    return tuple(
        (
            name,
            tf.dtypes.as_dtype(tensors[name].dtype).name,
            tuple(None if dim.size < 0 else int(dim.size) for dim in tensors[name].tensor_shape.dim),
        )
        for name in sorted(tensors)
    )


def _meta_graph(folder: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"{folder.name}/saved_model.pb cannot be read: {error}", hint="is it damaged?") from error
    for graph in model.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise ArtifactError(f"{folder.name} holds no graph tagged to serve", hint="is it damaged?")


def _serving_nodes(graph: Any) -> Iterator[Any]:
    """All nodes but those that save and restore variables, which handle file names by nature."""
    for node in graph.graph_def.node:
        if not node.name.startswith("save"):
            yield node
    for function in graph.graph_def.library.function:
        if not any(word in function.signature.name for word in ("traced_save", "traced_restore")):
            yield from function.node_def


def _refuse_outside(graph: Any) -> None:
    used = sorted({node.op for node in _serving_nodes(graph)} & _TOUCHES_OUTSIDE)
    if used:
        raise UnsupportedError(
            "it reads or writes files, or calls Python, when it runs",
            offenders=used,
            hint="leave them out of the model",
        )


def _refuse_strings(graph: Any, key: str) -> None:
    from tensorflow.core.framework import types_pb2

    signature = graph.signature_def[key]
    named = [f"input {name!r}" for name, t in sorted(signature.inputs.items()) if t.dtype == types_pb2.DT_STRING]
    named += [f"output {name!r}" for name, t in sorted(signature.outputs.items()) if t.dtype == types_pb2.DT_STRING]
    if not named:
        return
    ops = {
        node.op
        for node in _serving_nodes(graph)
        if any(types_pb2.DT_STRING in (a.type, *a.list.type) for a in node.attr.values()) or "String" in node.op
    } - {"Const", "Placeholder", "Identity", "NoOp", "StatefulPartitionedCall", "PartitionedCall"}
    splits = [f"split behind {node.op} {node.name!r}" for node in _serving_nodes(graph) if _leaves_strings(node)]
    raise UnsupportedError(
        "it computes with strings, which no edge format can hold",
        offenders=[*named, *(f"operation {op}" for op in sorted(ops)), *dict.fromkeys(splits)],
        hint="export the part behind these splits, which takes numbers, and keep the text handling outside"
        if splits
        else "export the part behind the text handling, which takes numbers",
    )


def _leaves_strings(node: Any) -> bool:
    """Whether strings become numbers here: what is behind can be converted."""
    from tensorflow.core.framework import types_pb2

    if node.op == "LookupTableFindV2":
        return bool(node.attr["Tin"].type == types_pb2.DT_STRING != node.attr["Tout"].type)
    return node.op in _STRING_TO_NUMBER
