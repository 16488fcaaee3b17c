"""What a .tflite file computes on the way, by an interpreter that keeps every tensor."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import UnavailableError
from edgekit.spec import QuantParams

__all__ = ["tensors"]

_NOTE = "TFLite's tensors are those of its own kernels: XNNPACK, which runs the file in service, does not show its own"


def tensors(
    interpreter_class: Any,
    file: Mapping[str, Any],
    threads: int,
    feeds: Sequence[Mapping[str, np.ndarray]],
    names_of: Callable[[Any], list[str]],
) -> tuple[dict[str, list[np.ndarray]], str]:
    """What each operation gives, in their order, as real numbers, for each feed; and how that was done.

    Left out is what has its name with another, and what is no tensor of numbers.

    Args:
        interpreter_class: The interpreter's class.
        file: Its arguments that name the model.
        threads: Of one call.
        feeds: By the names of the file's inputs.
        names_of: The names of an interpreter's inputs, in its order.

    Raises:
        UnavailableError: The installed interpreter cannot keep tensors.
    """
    resolvers = getattr(sys.modules[interpreter_class.__module__], "OpResolverType", None)
    if resolvers is None or not hasattr(interpreter_class, "_get_ops_details"):
        raise UnavailableError(
            "the installed TFLite interpreter does not show what it computes on the way",
            hint="pip install 'edgekit-ml[litert]'",
        )
    interpreter = interpreter_class(
        **file,
        num_threads=threads,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    inputs = dict(zip(names_of(interpreter), interpreter.get_input_details(), strict=True))
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    given = [index for op in interpreter._get_ops_details() for index in op["outputs"] if index in details]
    # A name that two tensors have tells neither; what is text or a handle of a variable is no tensor of numbers.
    shared = Counter(details[index]["name"] for index in given)
    is_number = {index: np.dtype(details[index]["dtype"]).kind in "fiub" for index in given}
    order = [index for index in given if is_number[index] and shared[details[index]["name"]] == 1]
    found: dict[str, list[np.ndarray]] = {details[index]["name"]: [] for index in order}
    for feed in feeds:
        for name, detail in inputs.items():
            _set(interpreter, detail, feed[name])
        interpreter.invoke()
        for index in order:
            found[details[index]["name"]].append(_real(interpreter.get_tensor(index), details[index]))
    return found, _NOTE


def _set(interpreter: Any, detail: Mapping[str, Any], array: np.ndarray) -> None:
    if tuple(detail["shape"]) != array.shape:
        interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()
    quant = _quant(detail)
    real = array.dtype.kind == "f" and quant is not None
    interpreter.set_tensor(detail["index"], quant.quantize(array) if real and quant else array)


def _real(array: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    quant = _quant(detail)
    return quant.dequantize(array) if quant is not None else np.array(array)


def _quant(detail: Mapping[str, Any]) -> QuantParams | None:
    """How a tensor's integers stand for real numbers, with one scale for all of it; None where they stand for none."""
    parameters, dtype = detail["quantization_parameters"], np.dtype(detail["dtype"]).name
    if dtype not in ("int8", "uint8", "int16") or len(parameters["scales"]) != 1:
        return None
    return QuantParams(dtype, (float(parameters["scales"][0]),), (int(parameters["zero_points"][0]),))
