"""What ONNX Runtime really ran, from its own profile of one call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.runtime import OpPlacement
from edgekit.runtimes import _macs
from edgekit.runtimes._onnx_file import nodes_with

__all__ = ["UNCOUNTED", "float_name", "placements"]

# For each operation that multiplies and accumulates: its arithmetic and where its weights stand among its inputs.
_CONV = {"Conv": ("fp32", 1), "FusedConv": ("fp32", 1), "ConvInteger": ("int8", 1), "QLinearConv": ("int8", 3)}
_DECONV = {"ConvTranspose": ("fp32", 1)}
_PRODUCT = {
    "MatMul": "fp32", "FusedMatMul": "fp32", "Gemm": "fp32", "FusedGemm": "fp32", "MatMulInteger": "int8",
    "MatMulIntegerToFloat": "int8", "QLinearMatMul": "int8", "QGemm": "int8", "DynamicQuantizeMatMul": "int8",
    "MatMulNBits": "fp32",
}  # fmt: skip
_RECURRENT = {"LSTM": "fp32", "GRU": "fp32", "RNN": "fp32", "DynamicQuantizeLSTM": "int8"}
_OTHER = {"Einsum": "fp32", "Attention": "fp32", "MultiHeadAttention": "fp32"}
UNCOUNTED = frozenset(_OTHER)
"""Operations that multiply but for which no formula is here."""

_FEW_BITS = "MatMulNBits"

_SIZES = (32, 64, 1, 224)
"""Tried in turn for open dimensions other than the batch: models ask for multiples of 32, or for one step."""


def placements(
    fresh_settings: Callable[[], Any], open_session: Callable[[Any], Any], run: Callable[[Any], bool] | None = None
) -> list[OpPlacement]:
    """Runs one call, on zeros unless `run` makes it, and lists every operation it ran, in order, with its cost.

    Integer fusions are done one level below layout changes, so the session stops there: kernels are of the same types
    and arithmetic as in service, but shapes are not padded to the width of the registers, and the cost is exact.
    With open dimensions beside the batch costs are left out, as they depend on sizes the file does not say; so they are
    where `run` says that it made sizes up.

    Raises:
        InputError: The model runs on zeros of none of the sizes tried.
    """
    settings = _one_level_down(fresh_settings())
    settings.add_session_config_entry("session.disable_prepacking", "1")
    settings.enable_profiling = True
    with TemporaryDirectory(prefix="edgekit-") as folder:
        settings.profile_file_prefix = str(Path(folder, "profile"))
        session = open_session(settings)
        has_open_sizes = (run or _run_on_zeros)(session)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        rounding = set()
        if any(event.get("args", {}).get("op_name") == _FEW_BITS for event in events):
            rounding = _rounding_products(_one_level_down(fresh_settings()), open_session, folder)
    found: dict[tuple[str, str], OpPlacement] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            op = _placement(event, has_open_sizes)
            op = replace(op, precision="int8") if op.name in rounding else op
            before = found.get((op.name, op.type))
            # In a loop the same operation runs many times.
            total = (before.macs or 0) + (op.macs or 0) if before else 0
            found[op.name, op.type] = OpPlacement(op.name, op.type, op.precision, total) if total else op
    return list(found.values())


def _one_level_down(settings: Any) -> Any:
    import onnxruntime

    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return settings


def _rounding_products(settings: Any, open_session: Callable[[Any], Any], folder: str) -> set[str]:
    """Names of the products with weights of few bits that round their activations to 8: the profile does not say."""
    path = Path(folder, "optimized.onnx")
    settings.optimized_model_filepath = str(path)
    open_session(settings)
    return nodes_with(path, _FEW_BITS, "accuracy_level", 4)


def _run_on_zeros(session: Any) -> bool:
    """Runs one call; True when sizes had to be made up."""
    inputs = session.get_inputs()
    has_open_sizes = any(not isinstance(d, int) for node in inputs for d in node.shape[1:])
    refusal: Exception | None = None
    for size in _SIZES if has_open_sizes else (1,):
        feeds = {node.name: _zeros(node, size) for node in inputs}
        try:
            session.run(None, feeds)
        except Exception as error:  # noqa: BLE001 - a size that does not fit is an answer, and the next is tried
            refusal = error
            continue
        return has_open_sizes
    raise InputError(f"the model runs on zeros of none of the sizes {_SIZES}: {refusal}") from refusal


def _zeros(node: Any, size: int) -> np.ndarray:
    shape = [d if isinstance(d, int) else (size if axis else 1) for axis, d in enumerate(node.shape)]
    names = {"float": "float32", "double": "float64", "string": "object"}
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    array = np.zeros(shape, names.get(kind, kind))
    return np.full(shape, "", "object") if kind == "string" else array


def _placement(event: dict[str, Any], has_open_sizes: bool) -> OpPlacement:
    arguments = event["args"]
    kind = arguments["op_name"]
    inputs = [next(iter(shape.values())) for shape in arguments.get("input_type_shape", ())]
    outputs = [next(iter(shape.values())) for shape in arguments.get("output_type_shape", ())]
    types = [next(iter(shape)) for shape in arguments.get("input_type_shape", ())]
    precision = _precision(kind, types)
    macs = None if has_open_sizes or not outputs else _cost(kind, inputs, outputs)
    return OpPlacement(event["name"].removesuffix("_kernel_time"), kind, precision, macs)


def _precision(kind: str, types: Sequence[str]) -> str:
    known = {**{k: v[0] for k, v in {**_CONV, **_DECONV}.items()}, **_PRODUCT, **_RECURRENT, **_OTHER}
    first = types[0] if types else "float"
    return float_name(first) if known.get(kind, "fp32") == "fp32" else known[kind]


def float_name(type_name: str) -> str:
    """The arithmetic on numbers of a type by ONNX Runtime's name, where no kernel computes in another one."""
    floats = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}
    return floats.get(type_name, "int8" if type_name in ("int8", "uint8") else type_name)


def _cost(kind: str, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> int | None:
    if kind in _CONV:
        weights = inputs[_CONV[kind][1]]
        return _macs.filtered(outputs[0], weights, weights[0])
    if kind in _DECONV:
        weights = inputs[_DECONV[kind][1]]
        return _macs.filtered(inputs[0], weights, weights[0])
    if kind in ("Gemm", "FusedGemm", "QGemm"):
        # `a` may be transposed: it has the rows of the output and the inner size, in either order.
        return prod(inputs[0]) * outputs[0][1]
    if kind in _PRODUCT:
        return _macs.matmul(inputs[0], outputs[0])
    if kind in _RECURRENT:
        steps, batch = inputs[0][0], inputs[0][1]
        return _macs.recurrent(steps, batch, inputs[1], inputs[2])
    return None
