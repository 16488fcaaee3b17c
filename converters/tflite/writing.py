"""From records to the bytes of a .tflite file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.tflite.integers import group_size
from edgekit.converters.tflite.model import Graph, LiteModel, Op, Tensor
from edgekit.converters.tflite.schema import ENUMERATIONS, TYPES, enumeration, options_table, schema
from edgekit.converters.tflite.versions import version_of
from edgekit.graph.walking import fresh_name

__all__ = ["SIGNATURE", "write_model"]

SIGNATURE = "serving_default"
_IDENTIFIER = b"TFL3"
_INLINE_BYTES = 64 << 20
"""Weights beyond this stand behind the FlatBuffer: building it would copy them twice, and it ends at 2 GiB."""
_ALIGNMENT = 64
_COMPARED_BYTES = 1 << 20
"""Larger constants are taken for different without looking."""


def write_model(model: LiteModel, path: Path, *, inline_bytes: int = _INLINE_BYTES) -> None:
    """Writes the file. The same model gives the same bytes.

    Args:
        model: The model; every constant's `data` has the dtype and shape its tensor says.
        path: The file, which is written over.
        inline_bytes: Constants of more bytes in all go behind the FlatBuffer, 64-byte aligned.
    """
    layout = _Layout(model)
    total = sum(data.nbytes for data in layout.buffers)
    if total <= inline_bytes:
        path.write_bytes(layout.pack(None))
        return
    # Offsets are stored in the FlatBuffer, whose length they do not change as long as none is 0, the default.
    start = _aligned(len(layout.pack([1 << 40] * len(layout.buffers))))
    offsets = []
    for data in layout.buffers:
        offsets.append(start)
        start = _aligned(start + data.nbytes)
    beside = path.with_name(f"{path.name}.part")  # constants may be views of the very file that is written over
    with beside.open("wb") as file:
        file.write(layout.pack(offsets))
        for offset, data in zip(offsets, layout.buffers, strict=True):
            file.write(bytes(offset - file.tell()))
            data.tofile(file)
    beside.replace(path)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


class _Layout:
    """Numbers for graphs, tensors, operator codes and buffers."""

    def __init__(self, model: LiteModel) -> None:
        self.model = model
        self.graphs = list(model.graph.graphs())
        self.codes: dict[tuple[str, int], int] = {}
        self.buffers: list[np.ndarray] = []
        self._known: dict[bytes | int, int] = {}
        self._texts = {name: np.frombuffer(text.encode(), "uint8") for name, text in model.metadata.items()}
        self._packed: dict[Tensor, np.ndarray] = {}
        constants = [tensor for graph in self.graphs for tensor in graph.tensors() if tensor.data is not None]
        for data in (*map(self._bytes_of, constants), *self._texts.values()):
            self._buffer_of(data)

    def pack(self, offsets: Sequence[int] | None) -> bytes:
        import flatbuffers

        s = schema()
        self.codes.clear()
        built = s.ModelT()
        built.version, built.description = 3, "edgekit"
        built.subgraphs = [self._graph(graph) for graph in self.graphs]
        built.operatorCodes = [_code(name, version) for name, version in self.codes]
        built.signatureDefs = [self._signature(built.subgraphs[0])]
        built.metadata = [self._metadata(name, data) for name, data in self._texts.items()]
        built.buffers = [s.BufferT(), *map(self._buffer, self.buffers, offsets or [0] * len(self.buffers))]
        builder = flatbuffers.Builder(1024 + (0 if offsets else sum(data.nbytes for data in self.buffers)))
        builder.Finish(built.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def _graph(self, graph: Graph) -> Any:
        tensors = graph.tensors()
        self._places = {tensor: index for index, tensor in enumerate(tensors)}
        taken: set[str] = set()
        names = [fresh_name(taken, tensor.name or f"tensor_{index}") for index, tensor in enumerate(tensors)]
        built = schema().SubGraphT()
        built.name = graph.name
        built.tensors = [self._tensor(tensor, name) for tensor, name in zip(tensors, names, strict=True)]
        built.inputs = [self._places[tensor] for tensor in graph.inputs]
        built.outputs = [self._places[tensor] for tensor in graph.outputs]
        built.operators = [self._op(op) for op in graph.ops]
        return built

    def _tensor(self, tensor: Tensor, name: str) -> Any:
        built = schema().TensorT()
        built.name, built.type = name, enumeration("TensorType")[TYPES[tensor.dtype]]
        built.shape = [1 if size < 0 else size for size in tensor.shape]
        built.hasRank = True
        if -1 in tensor.shape:
            built.shapeSignature = list(tensor.shape)
        built.buffer = 0 if tensor.data is None else self._buffer_of(self._bytes_of(tensor))
        if tensor.scales is not None:
            built.quantization = self._groups(tensor, tensor.scales)
        elif tensor.quant is not None:
            params = schema().QuantizationParametersT()
            params.scale = np.asarray(tensor.quant.scale, "float32")
            params.zeroPoint = np.asarray(tensor.quant.zero_point, "int64")
            params.quantizedDimension = tensor.quant.axis or 0
            built.quantization = params
        return built

    def _groups(self, tensor: Tensor, scales: Tensor) -> Any:
        params, details = schema().QuantizationParametersT(), schema().BlockwiseQuantizationT()
        details.scales, details.zeroPoints, details.blockSize = self._places[scales], -1, group_size(tensor)
        params.detailsType = schema().QuantizationDetails.BlockwiseQuantization
        params.details = details
        return params

    def _bytes_of(self, tensor: Tensor) -> np.ndarray:
        """A constant's numbers as they stand in the file: those of 4 bits two a byte, the first in the lower half."""
        assert tensor.data is not None
        if tensor.dtype != "int4":
            return tensor.data
        if tensor not in self._packed:
            halves = np.append(tensor.data.reshape(-1), np.zeros(tensor.data.size % 2, "int8")).view("uint8") & 15
            self._packed[tensor] = halves[::2] | (halves[1::2] << 4)
        return self._packed[tensor]

    def _buffer_of(self, data: np.ndarray) -> int:
        """The number of the buffer that holds these bytes; equal ones are stored once."""
        key = data.tobytes() if data.nbytes <= _COMPARED_BYTES else id(data)  # the model keeps it alive
        if key not in self._known:
            self.buffers.append(np.ascontiguousarray(data).reshape(-1).view("uint8"))
            self._known[key] = len(self.buffers)
        return self._known[key]

    def _buffer(self, data: np.ndarray, offset: int) -> Any:
        built = schema().BufferT()
        if offset:
            built.offset, built.size = offset, data.nbytes
        else:
            built.data = data
        return built

    def _op(self, op: Op) -> Any:
        built = schema().OperatorT()
        key = (op.code, version_of(op))
        built.opcodeIndex = self.codes.setdefault(key, len(self.codes))
        built.inputs = [-1 if tensor is None else self._places[tensor] for tensor in op.inputs]
        built.outputs = [self._places[tensor] for tensor in op.outputs]
        name, union = options_table(op.code)
        if name:
            table = getattr(schema(), f"{name}T")()
            for field, value in op.options.items():
                setattr(table, field, self._value(op.code, field, value))
            members = enumeration("BuiltinOptions" if union == 1 else "BuiltinOptions2")
            if union == 1:
                built.builtinOptionsType, built.builtinOptions = members[name], table
            else:
                built.builtinOptions2Type, built.builtinOptions2 = members[name], table
        return built

    def _value(self, code: str, field: str, value: Any) -> Any:
        if isinstance(value, Graph):
            return self.graphs.index(value)
        if isinstance(value, str) and field in ENUMERATIONS:
            kind = ENUMERATIONS[field]
            return enumeration(kind)[TYPES[value] if kind == "TensorType" else value]
        return value

    def _signature(self, main: Any) -> Any:
        built = schema().SignatureDefT()
        built.signatureKey, built.subgraphIndex = SIGNATURE, 0
        built.inputs = _maps(self.model.input_names, main.inputs)
        built.outputs = _maps(self.model.output_names, main.outputs)
        return built

    def _metadata(self, name: str, data: np.ndarray) -> Any:
        built = schema().MetadataT()
        built.name, built.buffer = name, self._buffer_of(data)
        return built


def _code(name: str, version: int) -> Any:
    built = schema().OperatorCodeT()
    built.builtinCode = enumeration("BuiltinOperator")[name]
    built.deprecatedBuiltinCode = min(built.builtinCode, 127)
    built.version = version
    return built


def _maps(names: Sequence[str], indices: Sequence[int]) -> list[Any]:
    built = []
    for name, index in zip(names, indices, strict=True):
        entry = schema().TensorMapT()
        entry.name, entry.tensorIndex = name, index
        built.append(entry)
    return built
