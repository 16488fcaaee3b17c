"""Writes small .tflite files, an operation at a time, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["TfliteWriter"]

_TYPES = {"float32": "FLOAT32", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "int32": "INT32", "int64": "INT64"}


class TfliteWriter:
    """One graph under construction. Needs the packages ai-edge-litert and flatbuffers."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._buffers = [schema.BufferT()]
        self._codes: list[Any] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        *,
        dtype: str = "float32",
        data: np.ndarray | None = None,
        quant: tuple[Sequence[float], Sequence[int]] | None = None,
        axis: int = 0,
    ) -> int:
        """Adds a tensor and gives its number.

        Args:
            name: Its name in the file.
            shape: -1 for an open size, for which the file holds 1.
            dtype: Its type, that of `data` where there is any.
            data: Makes it a constant.
            quant: Scales and zero points.
            axis: The axis those run along.
        """
        tensor = self.schema.TensorT()
        tensor.name, tensor.buffer = name, 0
        tensor.shape = [1 if size < 0 else size for size in shape]
        if min(shape, default=0) < 0:
            tensor.shapeSignature = list(shape)
        tensor.type = getattr(self.schema.TensorType, _TYPES[data.dtype.name if data is not None else dtype])
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), "uint8")
            self._buffers.append(buffer)
            tensor.buffer = len(self._buffers) - 1
        if quant is not None:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = list(quant[0]), list(quant[1])
            tensor.quantization.quantizedDimension = axis
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def op(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], *, options: str = "", **values: Any) -> None:
        """Adds an operation: `kind` as in BuiltinOperator, or ``"custom:Name"``; `options` names its table."""
        code = self.schema.OperatorCodeT()
        if kind.startswith("custom:"):
            code.builtinCode = self.schema.BuiltinOperator.CUSTOM
            code.customCode = kind.removeprefix("custom:")
        else:
            code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        # The first versions of these operations that take int8; floats run in them as well.
        code.version = {"FULLY_CONNECTED": 4, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3}.get(kind, 1)
        self._codes.append(code)
        op = self.schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = len(self._codes) - 1, list(inputs), list(outputs)
        if options:
            op.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            op.builtinOptions = getattr(self.schema, f"{options}T")()
            for field, value in values.items():
                setattr(op.builtinOptions, field, value)
        self._graph.operators.append(op)

    def finish(
        self, inputs: Sequence[int], outputs: Sequence[int], *, signature: dict[str, dict[str, int]] | None = None
    ) -> bytes:
        """The file. `signature` holds names for ``"inputs"`` and ``"outputs"``, each with a tensor's number."""
        import flatbuffers

        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)
        model = self.schema.ModelT()
        model.version, model.operatorCodes = 3, self._codes
        model.subgraphs, model.buffers = [self._graph], self._buffers
        if signature is not None:
            definition = self.schema.SignatureDefT()
            definition.signatureKey, definition.subgraphIndex = "serving_default", 0
            definition.inputs = self._maps(signature["inputs"])
            definition.outputs = self._maps(signature["outputs"])
            model.signatureDefs = [definition]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _maps(self, names: dict[str, int]) -> list[Any]:
        maps = []
        for name, index in names.items():
            entry = self.schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            maps.append(entry)
        return maps
