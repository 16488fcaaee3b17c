"""What runs in the child that quantizes and audits .tflite files; called by name through `edgekit.worker.Worker`.

It is a clean process without TensorFlow. ai-edge-quantizer is imported inside functions only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, UnsupportedError

__all__ = ["audit", "begin", "finish", "observe"]

WEIGHT_OPS = {"CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"}
"""Operations whose second input, where it is constant, is what int8 is about."""

LOOPS = {"WHILE", "IF", "CALL_ONCE", "STABLEHLO_WHILE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"}


@dataclass
class _Work:
    """A quantization under way: the float file, the recipe, and the ranges seen so far."""

    model: Path
    key: str
    quantizer: Any
    calibrator: Any
    recipes: Any
    samples: int = 0


_WORK: list[_Work] = []


def begin(model: str, float_io: bool) -> None:
    """Starts quantizing the float file `model` to int8 weights per channel and int8 activations.

    Raises:
        UnsupportedError: It holds loops or recurrent layers; found before the quantizer sees the file.
    """
    facts = audit(model)
    if loops := sorted(LOOPS & set(facts["ops"])):
        raise UnsupportedError(
            "no int8 for recurrent or branching graphs in TFLite: ai-edge-quantizer 0.10 fails on them (Tensor data is"
            " null) and TensorFlow 2.21's own quantizer crashes",
            offenders=[f"{name} ({facts['ops'][name]} times)" for name in loops],
            hint="use fp16 for TFLite, or int8 in another format",
        )
    from ai_edge_quantizer import algorithm_manager, calibrator, qtyping, quantizer, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    recipes = recipe_manager.RecipeManager()
    recipes.add_static_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    if float_io:
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            recipes.add_quantization_config(".*", end, None, algorithm_manager.AlgorithmName.NO_QUANTIZE)
    # The true extremes: the quantizer's own running average clips real activations (4 to 13 dB worse, measured).
    observer = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    work = quantizer.Quantizer(model, recipes.get_quantization_recipe())
    _WORK[:] = [_Work(Path(model), next(iter(observer.get_signature_list())), work, observer, recipes)]


def observe(feeds: str) -> None:
    """Runs one sample, an .npz file with an array for each input, and widens the ranges by what was seen."""
    work = _WORK[0]
    with np.load(feeds) as arrays:
        work.calibrator.calibrate({work.key: [dict(arrays)]}, work.recipes)
    work.samples += 1


def finish(path: str) -> None:
    """Writes the int8 file.

    Raises:
        UnsupportedError: The file came out without a single int8 operation.
        ConversionError: No sample was observed.
    """
    work = _WORK[0]
    if not work.samples:
        raise ConversionError("no calibration sample was observed")
    ranges = work.calibrator.get_model_qsvs()
    result = work.quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    Path(path).write_bytes(bytes(result.quantized_model))


def audit(path: str) -> dict[str, Any]:
    """What is really in a .tflite file.

    Returns:
        ``ops``: how often each built-in operation is used; ``custom``: operations no stock interpreter has;
        ``weighted``: for each operation with constant weights its output's name and the type of its weights;
        ``constants``: bytes of constants by type; ``inputs`` and ``outputs``: their types by signature name;
        ``signatures``: how many there are.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(Path(path).read_bytes(), 0)
    ops: Counter[str] = Counter()
    custom: Counter[str] = Counter()
    for graph in model.subgraphs:
        for op in graph.operators or ():
            name, own = _op_name(model.operatorCodes[op.opcodeIndex])
            (custom if own else ops)[name] += 1
    signature = model.signatureDefs[0] if model.signatureDefs else None
    return {
        "ops": dict(sorted(ops.items())),
        "custom": dict(sorted(custom.items())),
        "weighted": list(_weighted(model)),
        "constants": _constants(model),
        "inputs": _ends(model, signature.inputs if signature else ()),
        "outputs": _ends(model, signature.outputs if signature else ()),
        "signatures": len(model.signatureDefs or ()),
    }


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _op_name(code: Any) -> tuple[str, bool]:
    """An operation's name, and whether it is a custom or Flex one."""
    from ai_edge_litert import schema_py_generated as schema

    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    if builtin == schema.BuiltinOperator.CUSTOM:
        return (code.customCode or b"unnamed").decode(errors="replace"), True
    return _names(schema.BuiltinOperator)[builtin], False


def _type(tensor: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    return _names(schema.TensorType)[tensor.type].lower()


def _weighted(model: Any) -> Iterator[dict[str, str]]:
    for graph in model.subgraphs:
        for op in graph.operators or ():
            name, _ = _op_name(model.operatorCodes[op.opcodeIndex])
            if name not in WEIGHT_OPS or len(op.inputs) < 2:
                continue
            weights = graph.tensors[op.inputs[1]]
            buffer = model.buffers[weights.buffer]
            if (buffer.data is not None and len(buffer.data)) or buffer.size:
                output = graph.tensors[op.outputs[0]].name
                yield {"op": name, "name": output.decode(errors="replace"), "type": _type(weights)}


def _constants(model: Any) -> dict[str, int]:
    """Bytes of constants by type; buffers that several tensors share are counted once."""
    sizes: Counter[str] = Counter()
    seen = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            buffer = model.buffers[tensor.buffer]
            size = len(buffer.data) if buffer.data is not None else buffer.size
            if size and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                sizes[_type(tensor)] += int(size)
    return dict(sorted(sizes.items()))


def _ends(model: Any, ends: Any) -> dict[str, str]:
    main = model.subgraphs[model.signatureDefs[0].subgraphIndex] if model.signatureDefs else None
    return {end.name.decode(): _type(main.tensors[end.tensorIndex]) for end in ends or () if main}
