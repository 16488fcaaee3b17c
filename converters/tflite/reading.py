"""From the bytes of a .tflite file to records; half precision and sparse weights as stored are unfolded on the way."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.tflite.model import Graph, LiteModel, Op, Tensor
from edgekit.converters.tflite.schema import ENUMERATIONS, TYPES, member_names, schema
from edgekit.converters.tflite.sparse import densified
from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.graph.walking import fresh_name
from edgekit.spec import QuantParams

__all__ = ["looks_like_tflite", "read_model"]

_READ_BYTES = 64 << 20
"""Larger files are not read but looked at: what is used of them must stay as it is as long as the model is."""


def looks_like_tflite(path: Path) -> bool:
    """Whether the file has the mark of a TFLite FlatBuffer."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


def read_model(path: Path) -> LiteModel:
    """Reads a file. Public names are those of its only signature, or where there is none the tensors' own.

    Raises:
        ArtifactError: The file is damaged, or there is none.
        UnsupportedError: It has several signatures, or tensors of types that cannot be held.
    """
    if not looks_like_tflite(path):
        raise ArtifactError(f"{path} is no .tflite file", hint="check the path")
    is_large = path.stat().st_size > _READ_BYTES
    content = np.memmap(path, "uint8", "r") if is_large else np.fromfile(path, "uint8")
    try:
        return _File(content, path.name).read()
    except (UnsupportedError, MemoryError):
        raise
    except Exception as error:  # the generated reader trusts every offset: a damaged file raises whatever it likes
        raise ArtifactError(
            f"{path} is a damaged .tflite file: {type(error).__name__}", hint="copy or convert it again"
        ) from error


class _File:
    def __init__(self, content: np.ndarray, name: str) -> None:
        self.content = content
        self.name = name
        self.model: Any = schema().ModelT.InitFromPackedBuf(content.data, 0)
        self.codes = [_code_name(code) for code in self.model.operatorCodes]
        self.graphs = [Graph(_text(graph.name) or f"graph_{i}") for i, graph in enumerate(self.model.subgraphs)]

    def read(self) -> LiteModel:
        tensors = [
            [self._tensor(tensor) for tensor in graph.tensors if tensor is not None] for graph in self.model.subgraphs
        ]
        for graph, packed, own in zip(self.graphs, self.model.subgraphs, tensors, strict=True):
            for tensor, of_file in zip(own, packed.tensors, strict=True):
                tensor.scales = _scales(of_file, tensor, own)
            graph.inputs = [own[index] for index in packed.inputs]
            graph.outputs = [own[index] for index in packed.outputs]
            graph.ops = [self._op(op, own) for op in packed.operators or ()]
        main = 0
        names: tuple[dict[int, str], dict[int, str]] = ({}, {})
        signatures = self.model.signatureDefs or []
        if len(signatures) > 1:
            raise UnsupportedError(
                f"{self.name} has several signatures",
                offenders=[_text(signature.signatureKey) for signature in signatures],
                hint="convert a file with one",
            )
        if signatures:
            main = signatures[0].subgraphIndex
            names = (_places(signatures[0].inputs), _places(signatures[0].outputs))
        graph, packed = self.graphs[main], self.model.subgraphs[main]
        return LiteModel(
            graph,
            _names(names[0], packed.inputs, graph.inputs, "input"),
            _names(names[1], packed.outputs, graph.outputs, "output"),
            {name: self._text_of(entry.buffer) for name, entry in self._own_metadata()},
        )

    def _own_metadata(self) -> Iterator[tuple[str, Any]]:
        """What edgekit left in the file; others leave FlatBuffers of their own there."""
        entries = ((_text(entry.name), entry) for entry in self.model.metadata or ())
        return ((name, entry) for name, entry in entries if name.startswith("edgekit."))

    def _tensor(self, packed: Any) -> Tensor:
        dtype = _type_name(packed.type)
        shape = tuple(int(size) for size in packed.shape) if packed.shape is not None else ()
        asked = packed.shapeSignature
        data = self._data(packed, dtype, shape)
        if data is None and asked is not None and len(asked) == len(shape):
            shape = tuple(int(size) for size in asked)
        if dtype == "float16" and data is not None:
            dtype, data = "float32", data.astype("float32")
        return Tensor(_text(packed.name), shape, dtype, data, _quant(packed.quantization, dtype))

    def _data(self, packed: Any, dtype: str, shape: tuple[int, ...]) -> np.ndarray | None:
        raw = self._bytes(packed.buffer)
        if raw is None or dtype == "string" or packed.isVariable:
            return None
        if dtype == "int4":
            return _int4(raw, shape)
        values = raw.view(dtype)
        if packed.sparsity is not None:
            return densified(values, shape, packed.sparsity)
        return values.reshape(shape)

    def _bytes(self, index: int) -> np.ndarray | None:
        """The contents of a buffer, which stand in it or further behind in the file; None for an empty one."""
        buffer = self.model.buffers[index]
        if buffer.data is not None and len(buffer.data):
            return np.asarray(buffer.data, "uint8")
        if buffer.offset and buffer.size:
            found = self.content[buffer.offset : buffer.offset + buffer.size]
            if len(found) != buffer.size:
                raise ValueError("a buffer reaches beyond the end of the file")
            return found
        return None

    def _text_of(self, index: int) -> str:
        raw = self._bytes(index)
        return "" if raw is None else raw.tobytes().decode(errors="replace")

    def _op(self, packed: Any, tensors: Sequence[Tensor]) -> Op:
        code = self.codes[packed.opcodeIndex]
        inputs = [tensors[index] if index >= 0 else None for index in packed.inputs]
        outputs = [tensors[index] for index in packed.outputs]
        table = packed.builtinOptions or packed.builtinOptions2
        options = {} if table is None else {field: self._value(field, value) for field, value in vars(table).items()}
        if code.startswith("custom:") and packed.customOptions is not None:
            options["custom"] = bytes(packed.customOptions)
        return Op(code, inputs, outputs, options, outputs[0].name if outputs else "")

    def _value(self, field: str, value: Any) -> Any:
        if field.endswith("SubgraphIndex") or field == "subgraph":
            return self.graphs[value]
        if field in ENUMERATIONS and ENUMERATIONS[field] == "TensorType":
            return _type_name(value)
        if field in ENUMERATIONS:
            return member_names(ENUMERATIONS[field])[value]
        return [int(item) for item in value] if isinstance(value, np.ndarray) else value


def _code_name(code: Any) -> str:
    # Old files know one byte for the code; new ones repeat it there.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = member_names("BuiltinOperator").get(number, f"UNKNOWN_{number}")
    return f"custom:{_text(code.customCode)}" if name == "CUSTOM" else name


@functools.cache
def _type_names() -> dict[int, str]:
    ours = {name: dtype for dtype, name in TYPES.items()}
    return {number: ours[name] for number, name in member_names("TensorType").items() if name in ours}


def _type_name(number: int) -> str:
    if number not in _type_names():
        raise UnsupportedError("tensors of a type that edgekit does not hold", offenders=[f"TFLite's type {number}"])
    return _type_names()[number]


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _quant(packed: Any, dtype: str) -> QuantParams | None:
    has_scale = packed is not None and packed.scale is not None and len(packed.scale) and np.any(packed.scale)
    if not has_scale or not dtype.startswith(("int", "uint")):
        return None
    scale = tuple(float(value) for value in packed.scale)
    given = packed.zeroPoint if packed.zeroPoint is not None and len(packed.zeroPoint) else [0]
    zero = tuple(int(value) for value in given)
    zero = zero if len(zero) == len(scale) else zero[:1] * len(scale)
    return QuantParams(dtype, scale, zero, int(packed.quantizedDimension) if len(scale) > 1 else None)


def _scales(packed: Any, tensor: Tensor, tensors: Sequence[Tensor]) -> Tensor | None:
    """The scales of a constant whose neighbors along the last axis share some in groups."""
    params = packed.quantization
    if params is None or params.detailsType == 0:
        return None
    if params.detailsType != schema().QuantizationDetails.BlockwiseQuantization or params.details.zeroPoints > 0:
        raise UnsupportedError("scales of a kind that edgekit does not hold", offenders=[tensor.name])
    found = tensors[params.details.scales]
    assert found.data is not None
    shape = (*tensor.shape[:-1], tensor.shape[-1] // params.details.blockSize)
    return Tensor(found.name, shape, "float16", found.data.astype("float16").reshape(shape))


def _int4(raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Two numbers a byte, the lower half first."""
    halves = np.stack([raw & 15, raw >> 4], 1).reshape(-1)[: int(np.prod(shape))].astype("int8")
    return np.where(halves > 7, halves - 16, halves).astype("int8").reshape(shape)


def _places(entries: Sequence[Any]) -> dict[int, str]:
    return {entry.tensorIndex: _text(entry.name) for entry in entries or ()}


def _names(public: dict[int, str], indices: Sequence[int], tensors: Sequence[Tensor], what: str) -> list[str]:
    """A public name for each tensor, as the runtime gives them: of the signature when it names all, else the own."""
    if sorted(public) == sorted(int(index) for index in indices):
        return [public[int(index)] for index in indices]
    taken: set[str] = set()
    return [fresh_name(taken, tensor.name or f"{what}{index}") for index, tensor in enumerate(tensors)]
