"""PyTorch checkpoints without PyTorch, by an unpickler that knows tensors and plain containers and nothing else.

A pickle is a program. This one runs with its hands tied: it may name only what stands in `_Unpickler.find_class`, none
of which reaches beyond the values it is given, so a file cannot execute anything. It is the one written in Python: the
one in C sets aside whatever memory a damaged file mentions. Layouts after PyTorch's
``torch/serialization.py``: a zip archive since 1.6, before that five pickles with the raw numbers behind them.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np

from edgekit.errors import ArtifactError, UnsupportedError

__all__ = ["is_legacy", "read_archive", "read_legacy", "widened"]

Order: TypeAlias = Literal["little", "big"]

_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_STARTS = (b"\x80\x02\x8a\x0a", b"\x80\x03\x8a\x0a", b"\x80\x04\x95", b"\x80\x05\x95")
_MAGIC_BYTES = _MAGIC.to_bytes(10, "little")
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
_RESAVE = "in PyTorch: torch.save(model.state_dict(), path), or write a .safetensors"

_STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "u2", "BoolStorage": "?",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
}  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """What a storage is of."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file, as the pickle points at them."""

    kind: _Kind
    key: str
    start: int = 0


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; sizes and strides in numbers, as PyTorch counts."""

    storage: _Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins so is a checkpoint of before PyTorch 1.6."""
    return start.startswith(_LEGACY_STARTS) and _MAGIC_BYTES in start


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """The weights of a checkpoint that is a zip archive. Raises ArtifactError, UnsupportedError."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        index = next((name for name in sorted(names) if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if index is None:
            raise ArtifactError(f"{path} is a zip archive but no PyTorch checkpoint", hint="give the checkpoint itself")
        root = index.removesuffix("data.pkl")
        is_big = f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big"
        tensors = _tensors(_Unpickler(BytesIO(archive.read(index)), path).load(), path)
        kept: dict[str, bytes] = {}

        def numbers(storage: _Storage) -> np.ndarray:
            if storage.key not in kept:
                kept[storage.key] = archive.read(f"{root}data/{storage.key}")
            return np.frombuffer(kept[storage.key], _dtype(storage, "big" if is_big else "little"))

        return _arrays(tensors, numbers)


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """The weights of a checkpoint of before PyTorch 1.6. Raises ArtifactError, UnsupportedError."""
    content = path.read_bytes()
    file = BytesIO(content)
    magic, _, system = (_Unpickler(file, path).load() for _ in range(3))
    if magic != _MAGIC:
        raise ArtifactError(f"{path} is no PyTorch checkpoint")
    unpickler = _Unpickler(file, path)
    tensors = _tensors(unpickler.load(), path)
    keys = _Unpickler(file, path).load()
    order: Order = "little" if system.get("little_endian", True) else "big"
    stored: dict[str, np.ndarray] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), order)
        # Refuses, by a ValueError, what is beyond the end.
        stored[key] = np.frombuffer(content, _dtype(unpickler.roots[key], order), count, file.tell())
        file.seek(stored[key].nbytes, SEEK_CUR)
    return _arrays(tensors, lambda storage: stored[storage.key][storage.start :])


class _Unpickler(pickle._Unpickler):
    """Gives tensors as `_Tensor` and refuses every global but those that make up a state dict."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, encoding="utf-8")
        self.path = path
        self.roots: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return _Kind(name)
        allowed: Mapping[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "set"): set,
            ("__builtin__", "set"): set,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _rebuilt(*arguments),
            ("torch._utils", "_rebuild_parameter"): lambda *arguments: arguments[0],
        }
        if (module, name) not in allowed:
            raise UnsupportedError(
                f"{self.path} holds more than weights, and what it holds may execute anything",
                offenders=[f"{module}.{name}"],
                hint=_RESAVE,
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, _, *rest = pid
        if not isinstance(kind, _Kind):
            raise UnsupportedError(f"{self.path} holds storages without a dtype", hint=_RESAVE)
        view = rest[0] if rest else None
        root = self.roots.setdefault(str(key), _Storage(kind, str(key)))
        return root if view is None else _Storage(kind, str(key), int(view[1]))


def _rebuilt(storage: _Storage, offset: int, sizes: Sequence[int], strides: Sequence[int], *rest: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, sizes)), tuple(map(int, strides)))


def _tensors(content: Any, path: Path) -> dict[str, _Tensor]:
    """The tensors by name, out of the wrapping that training scripts put around them."""
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    entries = content.items() if isinstance(content, dict) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, _Tensor)}
    if not tensors:
        had = f"entries {', '.join(map(str, content))}"[:200] if isinstance(content, dict) else type(content).__name__
        raise UnsupportedError(f"{path} holds no tensors by name, but {had}", hint=_RESAVE)
    odd = sorted(
        f"{name}: {tensor.storage.kind.name}"
        for name, tensor in tensors.items()
        if tensor.storage.kind.name not in _STORAGES
    )
    if odd:
        raise UnsupportedError(f"{path} holds dtypes that edgekit does not read", offenders=odd, hint=_RESAVE)
    return tensors


def _dtype(storage: _Storage, order: Order) -> np.dtype[Any]:
    if storage.kind.name not in _STORAGES:
        raise UnsupportedError(f"a {storage.kind.name} is in the file", hint=_RESAVE)
    return np.dtype(_STORAGES[storage.kind.name]).newbyteorder("<" if order == "little" else ">")


def _arrays(tensors: Mapping[str, _Tensor], numbers: Callable[[_Storage], np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in tensors.items():
        view = _view(name, tensor, numbers(tensor.storage))
        arrays[name] = widened(view) if tensor.storage.kind.name == "BFloat16Storage" else view.astype(np.float32)
    return {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}


def _view(name: str, tensor: _Tensor, stored: np.ndarray) -> np.ndarray:
    """The tensor's numbers, after a look that it stays inside what is stored."""
    if len(tensor.sizes) != len(tensor.strides) or min((*tensor.sizes, *tensor.strides, tensor.offset), default=0) < 0:
        raise ArtifactError(f"the tensor {name!r} has an impossible shape", hint="copy or download the file again")
    if 0 in tensor.sizes:
        return np.zeros(tensor.sizes, stored.dtype)
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.sizes, tensor.strides, strict=True))
    if last >= stored.size:
        raise ArtifactError(f"the tensor {name!r} reaches beyond its storage", hint="copy or download the file again")
    strides = [stride * stored.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(stored[tensor.offset :], tensor.sizes, strides, writeable=False)


def widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16, as the upper half of float32, widened to it."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
