"""Reading weights by what a file is, and writing them as safetensors."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, EdgekitError, UnavailableError, UnsupportedError
from edgekit.staging import write_atomically
from edgekit.weights import checkpoint

__all__ = ["read_metadata", "read_weights", "write_weights"]

_ZIP = b"PK\x03\x04"
_MAX_HEADER_BYTES = 100_000_000
"""As the safetensors library has it."""

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The weights in a file as float32 arrays by name; told apart by content.

    Args:
        path: A safetensors file; the ``.json`` index of one, or of a PyTorch checkpoint, that was cut into several; a
            PyTorch checkpoint, of which the entry ``state_dict`` or ``model`` is taken where there is one; or an .npz.

    Raises:
        ArtifactError: The file is missing, damaged, or of another format.
        UnsupportedError: It holds more than weights, or dtypes that have no float32, all of which are named.
        UnavailableError: It is a safetensors file, and safetensors is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    try:
        return _read(path)
    except EdgekitError:
        raise
    except Exception as error:  # what a damaged file makes of its parser has no common kind
        said = str(error).splitlines()[:1] or [type(error).__name__]
        raise ArtifactError(f"{path} is damaged: {said[0]}", hint="copy or download it again") from error


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".json":
        return _read_index(path)
    with path.open("rb") as file:
        start = file.read(32)
    if start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            return _read_npz(path)
        return checkpoint.read_archive(path)
    if checkpoint.is_legacy(start):
        return checkpoint.read_legacy(path)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    raise ArtifactError(
        f"{path} holds no weights that edgekit knows",
        hint="give a .safetensors, a PyTorch checkpoint (.pth, .pt, .bin) or an .npz",
    )


def _read_index(path: Path) -> dict[str, np.ndarray]:
    """All parts that an index names, each name from the part that the index says."""
    index = json.loads(path.read_text(encoding="utf-8"))
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(part, str) for part in places.values()):
        raise ArtifactError(f"{path} is no index of weights: it has no weight_map")
    parts = {}
    for part in sorted(set(places.values())):
        if Path(part).name != part:
            raise ArtifactError(f"{path} names weights outside its own folder: {part}")
        parts[part] = read_weights(path.with_name(part))
    missing = sorted(name for name, part in places.items() if name not in parts[part])
    if missing:
        raise ArtifactError(f"{path} promises weights its parts do not have: {', '.join(missing)}")
    return {name: parts[part][name] for name, part in places.items()}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    odd = [f"{name}: {array.dtype}" for name, array in arrays.items() if array.dtype.kind not in "fiub"]
    if odd:
        raise UnsupportedError(f"{path} holds arrays that are no weights", offenders=odd)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import deserialize
    except ImportError as error:
        raise UnavailableError("safetensors is not installed", hint="pip install 'edgekit-ml[models]'") from error
    entries = dict(sorted(deserialize(path.read_bytes())))  # type: ignore[no-untyped-call]
    odd = [f"{name}: {entry['dtype']}" for name, entry in entries.items() if entry["dtype"] not in _DTYPES]
    if odd:
        raise UnsupportedError(f"{path} holds dtypes that edgekit does not read", offenders=odd, hint="save as F16")
    return {name: _numbers(entry) for name, entry in entries.items()}


def _numbers(entry: Mapping[str, Any]) -> np.ndarray:
    array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
    array = checkpoint.widened(array) if entry["dtype"] == "BF16" else array.astype(np.float32)
    return array.reshape(entry["shape"])


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts a safetensors file carries beside its weights.

    Raises:
        ArtifactError: The file is missing, or no safetensors file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
        return {str(key): str(text) for key, text in header.get("__metadata__", {}).items()}
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no safetensors file: {error}", hint="copy or download it again") from error


def write_weights(
    path: str | Path,
    weights: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    force: bool = False,
) -> Path:
    """Writes a safetensors file of float32 arrays, whole or not at all; the same bytes for the same weights.

    Written by ourselves, because the library puts metadata in another order each time.

    Raises:
        InputError: There is a file already and `force` is not given.
        ArtifactError: The file cannot be written.
    """
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    blocks, end = [], 0
    for name in sorted(weights):
        array = np.asarray(weights[name], "<f4")
        blocks.append(array.tobytes())
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # data begins at a multiple of 8
    return write_atomically(Path(path), b"".join([len(text).to_bytes(8, "little"), text, *blocks]), force=force)
