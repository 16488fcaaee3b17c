"""Reading a .tflite file: which operations it holds, what they compute in, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from math import prod
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

from edgekit.errors import UnavailableError
from edgekit.runtime import OpPlacement
from edgekit.runtimes import _macs

__all__ = ["CALLING", "FileOp", "MULTIPLYING", "known_operations", "operations", "placements", "unresolved_custom_ops"]

# Custom operations the interpreter brings kernels for (ai-edge-litert 2.3); every other one is unresolved.
_RESOLVED = {
    "Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "NumericVerify",
    "TFLite_Detection_PostProcess", "AudioSpectrogram", "Mfcc",
}  # fmt: skip
_INTEGER_BITS = {"INT2": 2, "INT4": 4, "UINT4": 4, "INT8": 8, "UINT8": 8, "INT16": 16}
_FILTERED = {"CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "FULLY_CONNECTED"}
_SPREAD = {"TRANSPOSE_CONV": 2, "CONV_3D_TRANSPOSE": 2, "Convolution2DTransposeBias": 0}
_PRODUCT = {"BATCH_MATMUL"}
_RECURRENT = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "RNN", "SVDF",
    "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN",
}  # fmt: skip

MULTIPLYING = frozenset(_FILTERED | _SPREAD.keys() | _PRODUCT | _RECURRENT)
"""Operations that cost multiply-accumulates."""

CALLING = frozenset({"WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE"})
"""Operations that run graphs of their own, what these cost with them."""


class FileOp(NamedTuple):
    """An operation of the file.

    Attributes:
        placed: What it computes in, and costs.
        tensors: Types and shapes of what it reads and gives.
        inputs: Numbers of the tensors it reads.
        outputs: Numbers of those it gives.
    """

    placed: OpPlacement
    tensors: tuple[tuple[str, Sequence[int]], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def placements(path: Path) -> list[OpPlacement]:
    """Every operation of the file in order; those of loop bodies without a cost, as their count is not known.

    Raises:
        UnavailableError: No installed package has the schema of the format.
    """
    content = path.read_bytes()
    count = len(_schema().ModelT.InitFromPackedBuf(content, 0).subgraphs)
    return [op.placed for depth in range(count) for op in operations(content, depth)]


def known_operations(path: Path) -> list[FileOp]:
    """Those of a file's first graph; none where no installed package has the schema of the format."""
    try:
        return operations(path.read_bytes())
    except UnavailableError:
        return []


def operations(content: bytes, depth: int = 0, shapes: Mapping[int, Sequence[int]] | None = None) -> list[FileOp]:
    """The operations of one graph of a file in order; where its tensors have other shapes, `shapes` says them."""
    schema = _schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    names, graph = _op_names(schema, model), model.subgraphs[depth]
    known = {id(graph.tensors[number]): list(shape) for number, shape in (shapes or {}).items()}

    def shape_of(tensor: Any) -> list[int]:
        return known.get(id(tensor)) or _shape(tensor)

    found = []
    for op in graph.operators or ():
        kind = names[op.opcodeIndex]
        inputs = [graph.tensors[i] if i >= 0 else None for i in op.inputs]
        outputs = [graph.tensors[i] for i in op.outputs]
        label = outputs[0].name.decode(errors="replace") if outputs else kind
        macs = _cost(kind, inputs, outputs[0] if outputs else None, model, shape_of) if depth == 0 else None
        tensors = [(types[t.type].lower(), shape_of(t)) for t in (*inputs, *outputs) if t is not None]
        placed = OpPlacement(label, kind, _precision(kind, inputs, types), macs)
        found.append(FileOp(placed, tuple(tensors), tuple(op.inputs), tuple(op.outputs)))
    return found


def unresolved_custom_ops(content: bytes | mmap) -> list[str]:
    """Names of the custom operations in a file that no interpreter has; none where no schema is installed."""
    try:
        schema = _schema()
    except UnavailableError:
        return []
    codes = schema.ModelT.InitFromPackedBuf(content, 0).operatorCodes
    names = {code.customCode.decode(errors="replace") for code in codes if code.customCode}
    return sorted(name for name in names if name not in _RESOLVED and not name.startswith("Flex"))


def _schema() -> Any:
    for package, module in (
        ("ai_edge_litert", "ai_edge_litert.schema_py_generated"),
        ("tensorflow", "tensorflow.lite.python.schema_py_generated"),
    ):
        if find_spec(package) is not None:
            return import_module(module)
    raise UnavailableError("reading .tflite files needs their schema", hint="pip install 'edgekit-ml[litert]'")


def _op_names(schema: Any, model: Any) -> list[str]:
    builtin = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    return [
        # Old files know one byte for the code; new ones repeat it there.
        code.customCode.decode(errors="replace") if code.customCode
        else builtin.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")
        for code in model.operatorCodes
    ]  # fmt: skip


def _data_and_weights(kind: str, inputs: list[Any]) -> tuple[Any, Any]:
    """The activation and the weights among an operation's inputs, where it has both."""
    data = _SPREAD.get(kind, 0)
    weights = 2 if kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" else 1
    return (
        inputs[data] if data < len(inputs) else None,
        inputs[weights] if weights < len(inputs) else None,
    )


def _precision(kind: str, inputs: list[Any], types: dict[int, str]) -> str:
    data, weights = _data_and_weights(kind, inputs)
    if data is None:
        return "fp32"
    activation = types[data.type]
    if kind not in _FILTERED and kind not in _SPREAD and kind not in _PRODUCT and kind not in _RECURRENT:
        return "int8" if _INTEGER_BITS.get(activation) == 8 and data.quantization else _float_name(activation)
    stored = types[weights.type] if weights is not None else activation
    if stored not in _INTEGER_BITS:
        return _float_name(activation)
    bits = _INTEGER_BITS[stored]
    # Float activations beside integer weights are quantized on the fly, to 8 bits, by the hybrid kernels.
    return "int8" if (held := _INTEGER_BITS.get(activation, 8)) == bits == 8 else f"w{bits}a{held}"


def _float_name(type_name: str) -> str:
    return {"FLOAT32": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16"}.get(type_name, type_name.lower())


def _shape(tensor: Any) -> list[int]:
    """The shape written in the file, which holds 1 for an open batch; other open sizes are -1."""
    shape = [int(d) for d in tensor.shape] if tensor.shape is not None else []
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else []
    if len(signature) == len(shape):
        shape = [
            size if asked >= 0 or i == 0 else -1 for i, (size, asked) in enumerate(zip(shape, signature, strict=True))
        ]
    return shape


def _cost(kind: str, inputs: list[Any], output: Any, model: Any, shape_of: Callable[[Any], list[int]]) -> int | None:
    data, weights = _data_and_weights(kind, inputs)
    if data is None or weights is None or output is None:
        return None
    held = shape_of(weights)
    if kind in _FILTERED:
        # Filters run along the first axis of the weights, but along the last in depthwise and 3-D convolutions.
        last = kind in ("DEPTHWISE_CONV_2D", "CONV_3D")
        return _macs.filtered(shape_of(output), held, held[-1 if last else 0])
    if kind in _SPREAD:
        return _macs.filtered(shape_of(data), held, held[-1])
    if kind in _PRODUCT:
        return _macs.matmul(shape_of(data), shape_of(output))
    if kind in _RECURRENT:
        matrices = [shape_of(t) for t in inputs[1:] if t is not None and _is_matrix(t, model)]
        sizes = shape_of(data)
        return _macs.recurrent(prod(sizes[:-1]) if min(sizes) >= 0 else -1, 1, *matrices)
    return None


def _is_matrix(tensor: Any, model: Any) -> bool:
    return len(_shape(tensor)) == 2 and model.buffers[tensor.buffer].data is not None
