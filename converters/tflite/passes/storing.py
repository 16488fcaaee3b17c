"""Integer constants where kernels compute with them as they are; elsewhere they become real numbers when a file opens.

A dynamic kernel rounds what it multiplies to 8 bits, in each call, by the range of each row or picture. Times against
fp32, medians, x86-64 with VNNI, one thread, LiteRT 2.3.0 with XNNPACK, 1.0 being what a DEQUANTIZE of constants costs:

    ==========================================  ======  ===============================================  ======
    FULLY_CONNECTED                             time    convolution                                      time
    ==========================================  ======  ===============================================  ======
    128 rows, 512 to 512                        .10     3x3, 64 to 64 channels, 14 x 14                  .07
    the same in 4 bits, a scale each channel    .20     3x3, 32 to 32, 28 x 28                           .32
    the same in 4 bits, groups of 32 or 128     .83 .62 1x1, 40 to 240 or 240 to 40                      .70 .55
    64 rows, 64 to 64; 40 to 160; 40 to 40      .93 .87 1x1, 64 to 96 or 96 to 64                        .79 1.27
    ..                                          1.56    1x1, 16 to 96 or 24 to 144                       2.8 2.7
    1 row, 344 to 1376; 384 to 384; 256 to 64   .14 .36 3x3 depthwise, 144                               8.9
    ..                                          1.0     3x3 transposed, 64 to 32                         1.12
    1 row, 64 to 64                             1.8
    ==========================================  ======  ===============================================  ======

Hence `HYBRID` and the least there must be to multiply.
"""

from __future__ import annotations

import numpy as np

from edgekit.converters.tflite import integers
from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.passes.rewriting import Rewriter

__all__ = ["HYBRID", "use_stored"]

HYBRID = {"FULLY_CONNECTED": ("int8", "int4"), "CONV_2D": ("int8",)}
"""Operations with fast kernels for float activations and integer weights, and the types of these."""

_LEAST_FOR_A_PIXEL = 1 << 13
_LEAST_FOR_A_ROW = 1 << 12
_LEAST_FOR_ROWS = 1 << 14
"""Multiplications, for each pixel of a convolution, and each row and all rows of a product of matrices, from which on
8 bits are faster."""


def use_stored(graph: Graph) -> None:
    """Gives constants that are `is_dynamic` to those operations as integers, in place."""
    rewriter = Rewriter(graph)
    for op in rewriter.ops():
        stored = op.inputs[0] if op.code == "DEQUANTIZE" else None
        if stored is None or stored.data is None:
            continue
        for reader in rewriter.consumers(op.output):
            if _computes(reader, op.output, stored):
                rewriter.set_inputs(reader, [reader.inputs[0], stored, *reader.inputs[2:]])
                if reader.code == "FULLY_CONNECTED":
                    reader.options["asymmetricQuantizeInputs"] = True
        _simplify(rewriter, op, stored)
    rewriter.drop_unread([op for op in rewriter.ops() if op.code == "DEQUANTIZE"])
    rewriter.finish()


def _computes(op: Op, weight: Tensor, stored: Tensor) -> bool:
    """Whether an operation has a kernel for real numbers times these integers."""
    if not stored.is_dynamic or stored.dtype not in HYBRID.get(op.code, ()):
        return False
    x = op.inputs[0]
    if x is None or x is weight or op.inputs[1] is not weight or weight in op.inputs[2:]:
        return False
    if stored.dtype == "int8" and not _pays(op, x, stored):
        return False
    if stored.scales is not None:
        return stored.offsets is None and stored.scales.shape[0] == stored.shape[0]
    return stored.quant is not None and stored.quant.axis in (None, 0) and not any(stored.quant.zero_point)


def _pays(op: Op, x: Tensor, stored: Tensor) -> bool:
    if op.code == "CONV_2D":
        return x.shape[-1] == stored.shape[-1] and stored.size >= _LEAST_FOR_A_PIXEL
    rows = max(1, x.size // x.shape[-1])
    return stored.size >= _LEAST_FOR_A_ROW and rows * stored.size >= _LEAST_FOR_ROWS


def _simplify(rewriter: Rewriter, op: Op, stored: Tensor) -> None:
    """For those that want real numbers: there is no conversion from groups, and a fast one only from 8 bits."""
    if not rewriter.consumers(op.output):
        return
    if stored.scales is not None:
        data = integers.numbers(stored)
        rewriter.bypass(op, Tensor(stored.name, data.shape, "float32", np.ascontiguousarray(data)))
    elif stored.dtype == "int4":
        wide = Tensor(stored.name, stored.shape, "int8", stored.data, stored.quant)
        rewriter.set_inputs(op, [wide])
