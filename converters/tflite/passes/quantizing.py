"""Integers where the hub says them: an operation between DEQUANTIZE and QUANTIZE becomes one that computes in integers.

What TFLite's integer kernels ask of scales is from the quantization specification of LiteRT: weights symmetric and per
output channel, biases in int32 of scale input x weight, one scale around operations that only move numbers, and fixed
scales behind those whose range is known.
"""

from __future__ import annotations

import numpy as np

from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.passes.rewriting import Rewriter
from edgekit.spec import QuantParams

__all__ = ["lift_integers"]

_WEIGHTED = {"CONV_2D": (0, 1, 2, 0), "DEPTHWISE_CONV_2D": (0, 1, 2, 3), "FULLY_CONNECTED": (0, 1, 2, 0),
             "TRANSPOSE_CONV": (2, 1, 3, 0)}  # fmt: skip
"""Places of data, weights and bias among the inputs, and the axis of the weights along which their scales run."""

_FREE = {"ADD", "SUB", "MUL", "MEAN", "SUM", "HARD_SWISH", "LEAKY_RELU", "PRELU", "BATCH_MATMUL", "RELU", "RELU6",
         "RELU_N1_TO_1", "ELU"}  # fmt: skip
"""Operations whose integer kernels take any scales."""

_SAME = {"AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE", "TRANSPOSE", "CONCATENATION", "SLICE", "STRIDED_SLICE", "GATHER",
         "SPLIT", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "PAD", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "SQUEEZE",
         "EXPAND_DIMS", "REVERSE_V2", "TILE", "MAXIMUM", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN"}  # fmt: skip
"""Operations whose integer kernels want one scale for what they take and give."""

_FIXED = {
    "LOGISTIC": {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
    "SOFTMAX": {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
    "TANH": {"int8": (1 / 128, 0), "int16": (1 / 32768, 0)},
    "L2_NORMALIZATION": {"int8": (1 / 128, 0)},
}
"""Scale and zero point the integer kernel gives."""

_OF_16_BITS = {*_WEIGHTED, "ADD", "SUB", "MUL", "MAXIMUM", "CONCATENATION", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D",
               "LOGISTIC", "TANH", "SOFTMAX", "LEAKY_RELU", "RELU", "RESHAPE", "TRANSPOSE", "SLICE", "PAD",
               "BATCH_MATMUL", "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"}  # fmt: skip
"""Operations whose integer kernels were seen to take int16 too and to answer within a step (LiteRT 2.3.0); HARD_SWISH,
ELU, DEPTH_TO_SPACE and SPACE_TO_DEPTH refuse it."""

_BIASES = {"int8": "int32", "int16": "int64"}
"""The type of a bias by that of what it is added to products of."""


_MOVING = {"RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "GATHER", "SPLIT", "PAD", "DEPTH_TO_SPACE",
           "SPACE_TO_DEPTH", "SQUEEZE", "EXPAND_DIMS", "REVERSE_V2", "TILE", "MAX_POOL_2D",
           "RESIZE_NEAREST_NEIGHBOR"}  # fmt: skip
"""Of these the ones that do the same to integers as to the numbers they stand for."""


def lift_integers(graph: Graph) -> None:
    """Changes `graph` in place; what cannot compute in integers stays float between the conversions that are there.

    Args:
        graph: The graph, not those it calls.
    """
    rewriter = Rewriter(graph)
    _use_int8(rewriter)
    moving = [op for op in graph.ops if op.code in _MOVING]
    for op in moving:
        _dequantize_behind(rewriter, op)
    for op in reversed(moving):
        _quantize_before(rewriter, op)
    for op in graph.ops:
        if op.code in (*_WEIGHTED, *_FREE, *_SAME, *_FIXED):
            _lift(rewriter, op)
    _join(rewriter)
    _fold_constants(rewriter)
    rewriter.drop_unread([op for op in rewriter.ops() if op.code in ("QUANTIZE", "DEQUANTIZE")])
    rewriter.finish()


def _use_int8(rewriter: Rewriter) -> None:
    """Takes uint8 for int8: the same real numbers with the zero point 128 lower. Inputs and outputs keep theirs."""
    graph = rewriter.graph
    for op in rewriter.ops():
        if op.code == "DEQUANTIZE":
            (source,) = op.arguments()
            if source.dtype == "uint8" and source in graph.inputs:
                inner = Tensor(f"{source.name}/int8", source.shape, "int8", quant=_shifted(source.quant))
                rewriter.add(Op("QUANTIZE", [source], [inner], {}, op.source), near=op)
                rewriter.set_inputs(op, [inner])
    for tensor in graph.tensors():
        if tensor.dtype != "uint8" or tensor.quant is None or tensor in graph.inputs or rewriter.is_public(tensor):
            continue
        maker, readers = rewriter.producer(tensor), rewriter.consumers(tensor)
        if (maker is None or maker.code == "QUANTIZE") and all(op.code == "DEQUANTIZE" for op in readers):
            tensor.quant, tensor.dtype = _shifted(tensor.quant), "int8"
            if tensor.data is not None:
                tensor.data = (tensor.data ^ np.uint8(0x80)).view("int8")


def _shifted(params: QuantParams | None) -> QuantParams:
    assert params is not None
    return QuantParams("int8", params.scale, tuple(zero - 128 for zero in params.zero_point), params.axis)


def _moved(op: Op) -> Tensor | None:
    """The float tensor an operation moves, if it does nothing else."""
    tensor = op.inputs[1 if op.code == "SPLIT" else 0]
    is_plain = tensor is not None and tensor.dtype == "float32" and tensor.data is None
    return tensor if is_plain and op.options.get("fusedActivationFunction", "NONE") == "NONE" else None


def _quantize_before(rewriter: Rewriter, op: Op) -> None:
    """Lets an operation move integers if all make the same ones of what it gives."""
    tensor, params = _moved(op), _wanted(rewriter, op.outputs[0])
    if tensor is None or params is None or any(_wanted(rewriter, other) != params for other in op.outputs):
        return
    if params.dtype == "int16" and op.code not in _OF_16_BITS:
        return
    given = Tensor(f"{tensor.name}/{params.dtype}", tensor.shape, params.dtype, quant=params)
    rewriter.add(Op("QUANTIZE", [tensor], [given], {}, op.source), near=op)
    rewriter.set_inputs(op, [given if other is tensor else other for other in op.inputs])
    old = op.outputs
    new = [Tensor(one.name, one.shape, params.dtype, quant=params) for one in old]
    rewriter.set_outputs(op, new)
    for before, after in zip(old, new, strict=True):
        for quantize in rewriter.consumers(before):
            rewriter.bypass(quantize, after)


def _dequantize_behind(rewriter: Rewriter, op: Op) -> None:
    """Lets an operation move the integers that what it takes was made from."""
    tensor = _moved(op)
    integers = None if tensor is None else _integers(rewriter, tensor)
    if integers is None or integers.quant is None or integers.quant.axis is not None:
        return
    dtype = integers.dtype
    if dtype == "int16" and op.code not in _OF_16_BITS:
        return
    rewriter.set_inputs(op, [integers if other is tensor else other for other in op.inputs])
    old = op.outputs
    rewriter.set_outputs(op, [Tensor(f"{one.name}/{dtype}", one.shape, dtype, quant=integers.quant) for one in old])
    for before, after in zip(old, op.outputs, strict=True):
        rewriter.add(Op("DEQUANTIZE", [after], [before], {}, op.source), near=op)


def _lift(rewriter: Rewriter, op: Op) -> None:
    """Makes one operation compute in integers, if all it takes comes from integers and all it gives goes into some."""
    wanted = [_wanted(rewriter, tensor) for tensor in op.outputs]
    places = range(len(op.inputs)) if op.code not in _WEIGHTED else _WEIGHTED[op.code][:2]
    inputs = list(op.inputs)
    for place in places:
        tensor = op.inputs[place]
        if tensor is None or tensor.dtype != "float32":
            continue
        integers = _integers(rewriter, tensor)
        if integers is None:
            return
        inputs[place] = _first_steps(rewriter, integers) if op.code in _FREE else integers
    dtypes = {params.dtype if params is not None else "" for params in wanted}
    dtypes |= {tensor.dtype for tensor in _activations(op, inputs)}
    if len(dtypes) != 1 or not dtypes <= {"int8", "int16"} or ("int16" in dtypes and op.code not in _OF_16_BITS):
        return
    if op.code in _WEIGHTED and not _lift_bias(rewriter, op, inputs):
        return
    if op.code not in _WEIGHTED and any(t.quant is not None and t.quant.axis is not None for t in inputs if t):
        return
    given = _scales(rewriter, op, inputs, [params for params in wanted if params is not None])
    rewriter.set_inputs(op, inputs)
    old = op.outputs
    new = [Tensor(t.name, t.shape, params.dtype, quant=params) for t, params in zip(old, given, strict=True)]
    rewriter.set_outputs(op, new)
    if "int16" in dtypes and op.code in ("ADD", "SUB"):
        op.options["potScaleInt16"] = False
    for before, after in zip(old, new, strict=True):
        for quantize in rewriter.consumers(before):
            if quantize.output.quant == after.quant:
                rewriter.bypass(quantize, after)
            else:
                rewriter.set_inputs(quantize, [after])


def _activations(op: Op, inputs: list[Tensor | None]) -> list[Tensor]:
    """The integers among the inputs that stand for real numbers, weights and biases left out."""
    if op.code in _WEIGHTED:
        data = inputs[_WEIGHTED[op.code][0]]
        return [] if data is None else [data]
    return [tensor for tensor in inputs if tensor is not None and tensor.quant is not None]


def _wanted(rewriter: Rewriter, tensor: Tensor) -> QuantParams | None:
    """The one way in which all who read a float tensor make integers of it; None where somebody wants it float."""
    readers = rewriter.consumers(tensor)
    kinds = {op.output.quant if op.code == "QUANTIZE" else None for op in readers}
    params = kinds.pop() if len(kinds) == 1 else None
    is_known = params is not None and params.dtype in ("int8", "int16") and params.axis is None
    return params if is_known and not rewriter.is_public(tensor) else None


def _integers(rewriter: Rewriter, tensor: Tensor) -> Tensor | None:
    """The int8 or int16 tensor a float one is made from; None where there is none."""
    maker = rewriter.producer(tensor)
    if maker is None or maker.code != "DEQUANTIZE":
        return None
    source = maker.inputs[0]
    return source if source is not None and source.dtype in ("int8", "int16") and source.quant is not None else None


def _first_steps(rewriter: Rewriter, tensor: Tensor) -> Tensor:
    """Behind an operation of fixed scales what it gives itself, which need not be rounded twice."""
    maker = rewriter.producer(tensor)
    source = maker.inputs[0] if maker is not None and maker.code == "QUANTIZE" else None
    before = None if source is None else rewriter.producer(source)
    return source if source is not None and before is not None and before.code in _FIXED else tensor


def _lift_bias(rewriter: Rewriter, op: Op, inputs: list[Tensor | None]) -> bool:
    """Puts the bias of a product into int32 or int64; says whether the weights are such as the integer kernel takes."""
    data, weight, place, axis = _WEIGHTED[op.code]
    x, w = inputs[data], inputs[weight]
    bias = op.inputs[place] if len(op.inputs) > place else None
    if x is None or x.quant is None or x.quant.axis is not None or w is None or w.quant is None or w.data is None:
        return False
    if any(w.quant.zero_point) or w.quant.axis not in (None, axis):
        return False
    if bias is None:
        return True
    if bias.data is None:
        return False
    scale = np.float64(x.quant.scale[0]) * np.asarray(w.quant.scale, "float64")
    dtype = _BIASES[x.dtype]
    limits = np.iinfo(dtype)
    steps = np.rint(bias.data.astype("float64") / scale)
    if np.abs(steps).max(initial=0) > (1 + 1e-6) * limits.max:  # float32 may have rounded the largest there is
        return False
    scales = tuple(float(value) for value in scale)
    params = QuantParams(dtype, scales, (0,) * len(scales), None if len(scales) == 1 else 0)
    integers = np.clip(steps, limits.min, limits.max).astype(dtype)
    inputs[place] = Tensor(bias.name, bias.shape, dtype, integers, params)
    return True


def _scales(rewriter: Rewriter, op: Op, inputs: list[Tensor | None], wanted: list[QuantParams]) -> list[QuantParams]:
    """What the integer kernel gives, and `inputs` brought to one scale where it wants that."""
    if op.code in _FIXED:
        scale, zero = _FIXED[op.code][wanted[0].dtype]
        return [QuantParams(wanted[0].dtype, (scale,), (zero,))]
    if op.code not in _SAME:
        return wanted
    integers = _activations(op, inputs)
    first = wanted[0] if len(integers) > 1 else integers[0].quant
    assert first is not None
    for place, tensor in enumerate(inputs):
        if tensor in integers and tensor is not None and tensor.quant != first:
            inputs[place] = _rescaled(rewriter, op, tensor, first)
    return [first] * len(wanted)


def _rescaled(rewriter: Rewriter, op: Op, tensor: Tensor, params: QuantParams) -> Tensor:
    """The same numbers by other steps."""
    for reader in rewriter.consumers(tensor):
        if reader.code == "QUANTIZE" and reader.output.quant == params:
            return reader.output
    other = Tensor(f"{tensor.name}/rescaled", tensor.shape, params.dtype, quant=params)
    rewriter.add(Op("QUANTIZE", [tensor], [other], {}, op.source), near=op)
    return other


def _join(rewriter: Rewriter) -> None:
    """Takes integers from integers where real numbers are between them only for a moment."""
    for op in rewriter.ops():
        if op.code == "QUANTIZE" and op.output.dtype in ("int8", "int16"):
            (source,) = op.arguments()
            integers = _integers(rewriter, source)
            if integers is None or integers.data is not None or integers.quant is None:
                continue
            if integers.quant == op.output.quant and not rewriter.is_public(op.output):
                rewriter.bypass(op, integers)
            elif integers.quant.axis is None:
                rewriter.set_inputs(op, [integers])


def _fold_constants(rewriter: Rewriter) -> None:
    """Biases that stay float are stored as such: TFLite has no conversion from int32."""
    for op in rewriter.ops():
        source = op.inputs[0] if op.code == "DEQUANTIZE" else None
        if source is not None and source.data is not None and source.quant is not None and source.dtype == "int32":
            rewriter.bypass(op, Tensor(source.name, source.shape, "float32", source.quant.dequantize(source.data)))
