"""Convolutions, pools and resizing, raised: channels go first for the operation and last again behind it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.model import Op, Tensor
from edgekit.converters.tflite.raising import Raiser, known
from edgekit.converters.tflite.table import Unlowerable, raises

__all__: list[str] = []


def _filter(r: Raiser, tensor: Tensor | None, perm: Sequence[int]) -> str:
    assert tensor is not None
    return r.transpose(r.real(tensor), perm)


def _pads(
    op: Op, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], steps: Sequence[int]
) -> list[int]:
    """ONNX's amounts for TFLite's SAME or VALID; of SAME the larger half goes behind."""
    if op.options["padding"] == "VALID":
        return [0] * 2 * len(kernel)
    if min(sizes) < 0:
        raise Unlowerable("SAME around a picture whose size is only known when the model runs")
    before, after = [], []
    for size, taps, stride, step in zip(sizes, kernel, strides, steps, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (taps - 1) * step + 1 - size)
        before.append(total // 2)
        after.append(total - total // 2)
    return [*before, *after]


def _geometry(op: Op) -> tuple[list[int], list[int]]:
    """Strides and dilations, height first."""
    options = op.options
    return (
        [options["strideH"], options["strideW"]],
        [options.get("dilationHFactor", 1), options.get("dilationWFactor", 1)],
    )


def _shape(tensor: Tensor | None) -> tuple[int, ...]:
    assert tensor is not None
    return tensor.shape


@raises("CONV_2D", "DEPTHWISE_CONV_2D")
def conv_2d(r: Raiser, op: Op) -> str:
    x, weight = op.inputs[:2]
    strides, steps = _geometry(op)
    kernel, channels = _shape(weight)[1:3], _shape(x)[3]
    is_depthwise = op.code == "DEPTHWISE_CONV_2D"
    turned = _filter(r, weight, [3, 0, 1, 2] if is_depthwise else [0, 3, 1, 2])
    found = r.node(
        "Conv", [r.channels_first(r.real(x)), turned, *_bias(r, op)],
        group=channels if is_depthwise else channels // _shape(weight)[3], kernel_shape=list(kernel), strides=strides,
        dilations=steps, pads=_pads(op, _shape(x)[1:3], kernel, strides, steps),
    )  # fmt: skip
    return r.activated(r.channels_last(found), op)


@raises("CONV_3D")
def conv_3d(r: Raiser, op: Op) -> str:
    x, weight = op.inputs[:2]
    options = op.options
    strides = [options["strideD"], options["strideH"], options["strideW"]]
    steps = [options["dilationDFactor"], options["dilationHFactor"], options["dilationWFactor"]]
    kernel = _shape(weight)[:3]
    inputs = [r.channels_first(r.real(x), 5), _filter(r, weight, [4, 3, 0, 1, 2]), *_bias(r, op)]
    found = r.node(
        "Conv", inputs, group=_shape(x)[4] // _shape(weight)[3], kernel_shape=list(kernel), strides=strides,
        dilations=steps, pads=_pads(op, _shape(x)[1:4], kernel, strides, steps),
    )  # fmt: skip
    return r.activated(r.channels_last(found, 5), op)


def _bias(r: Raiser, op: Op, index: int = 2) -> list[str]:
    bias = op.inputs[index] if len(op.inputs) > index else None
    return [] if bias is None else [r.real(bias)]


@raises("TRANSPOSE_CONV")
def transpose_conv(r: Raiser, op: Op) -> str:
    _, weight, x = op.inputs[:3]
    strides, _ = _geometry(op)
    same = op.options["padding"] == "SAME"
    return r.activated(_spread(r, op, x, weight, _bias(r, op, 3), strides, same=same), op)


@raises("CONV_3D_TRANSPOSE")
def transpose_conv_3d(r: Raiser, op: Op) -> str:
    _, weight, x = op.inputs[:3]
    options = op.options
    if any(options.get(f"dilation{axis}Factor", 1) != 1 for axis in "DHW"):
        raise Unlowerable("a dilated transposed convolution")
    strides = [options["strideD"], options["strideH"], options["strideW"]]
    return r.activated(_spread(r, op, x, weight, _bias(r, op, 3), strides, same=options["padding"] == "SAME"), op)


@raises("custom:Convolution2DTransposeBias")
def transpose_conv_bias(r: Raiser, op: Op) -> str:
    """MediaPipe's own operation; its options are a C struct: padding (1 is SAME), stride over width, over height."""
    x, weight = op.inputs[:2]
    padding, width, height = struct.unpack_from("<iii", op.options["custom"])
    return _spread(r, op, x, weight, _bias(r, op, 2), [height, width], same=padding == 1)


def _spread(
    r: Raiser, op: Op, x: Tensor | None, weight: Tensor | None, bias: list[str], strides: list[int], *, same: bool
) -> str:
    """A transposed convolution; what SAME cuts off, and what the asked size leaves open, are ONNX's pads."""
    rank = len(strides) + 2
    kernel = _shape(weight)[1:3] if rank == 4 else _shape(weight)[:3]
    given, wanted = _shape(x)[1:-1], op.output.shape[1:-1]
    if min(*given, *wanted) < 0:
        raise Unlowerable("a transposed convolution of a picture whose size is only known when the model runs")
    before, after, extra = [], [], []
    for size, want, taps, stride in zip(given, wanted, kernel, strides, strict=True):
        surplus = (size - 1) * stride + taps - want
        before.append(max(0, surplus) // 2 if same else 0)
        after.append(max(0, surplus) - before[-1])
        extra.append(max(0, -surplus))
    order = [3, 0, 1, 2] if rank == 4 else [4, 3, 0, 1, 2]
    inputs = [r.channels_first(r.real(x), rank), _filter(r, weight, order), *bias]
    pads = [*before, *after]
    found = r.node("ConvTranspose", inputs, kernel_shape=list(kernel), strides=strides, pads=pads, output_padding=extra)
    return r.channels_last(found, rank)


@raises("MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D")
def pool(r: Raiser, op: Op) -> str:
    (x,) = op.inputs
    strides, _ = _geometry(op)
    kernel = [op.options["filterHeight"], op.options["filterWidth"]]
    pads = _pads(op, _shape(x)[1:3], kernel, strides, [1, 1])
    if op.code == "L2_POOL_2D" and any(pads):
        raise Unlowerable("L2 pool with SAME, which divides by fewer at the border")
    kind = {"MAX_POOL_2D": "MaxPool", "AVERAGE_POOL_2D": "AveragePool", "L2_POOL_2D": "AveragePool"}[op.code]
    first = r.channels_first(r.real(x))
    if op.code == "L2_POOL_2D":
        first = r.node("Mul", [first, first])
    found = r.node(kind, [first], kernel_shape=kernel, strides=strides, pads=pads)
    if op.code == "L2_POOL_2D":
        found = r.node("Sqrt", [found])
    return r.activated(r.channels_last(found), op)


@raises("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(r: Raiser, op: Op) -> str:
    (x, _) = op.inputs
    height, width = (int(size) for size in known(op, 1, "the size"))
    is_nearest = op.code == "RESIZE_NEAREST_NEIGHBOR"
    aligned, centered = op.options["alignCorners"], op.options["halfPixelCenters"]
    mode = "align_corners" if aligned else "half_pixel" if centered else "asymmetric"
    # TFLite rounds halves up where pixels are aligned, and cuts off (x + 0.5) * scale where they are centered.
    nearest = {"align_corners": "round_prefer_ceil", "half_pixel": "round_prefer_ceil", "asymmetric": "floor"}[mode]
    first = r.channels_first(r.real(x))
    batch, channels = _shape(x)[0], _shape(x)[3]
    sizes, axes = ([batch, channels, height, width], None) if batch >= 0 else ([height, width], [2, 3])
    found = r.node(
        "Resize", [first, "", "", r.ints(sizes)], mode="nearest" if is_nearest else "linear", axes=axes,
        coordinate_transformation_mode=mode, nearest_mode=nearest if is_nearest else None,
    )  # fmt: skip
    return r.channels_last(found)


@raises("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def rearrange(r: Raiser, op: Op) -> str:
    kind = {"DEPTH_TO_SPACE": "DepthToSpace", "SPACE_TO_DEPTH": "SpaceToDepth"}[op.code]
    first = r.channels_first(r.real(op.inputs[0]))
    return r.channels_last(r.node(kind, [first], blocksize=op.options["blockSize"]))


@raises("LOCAL_RESPONSE_NORMALIZATION")
def local_response(r: Raiser, op: Op) -> str:
    """TFLite gives the radius and does not divide alpha by the number of neighbors."""
    size = 2 * op.options["radius"] + 1
    first = r.channels_first(r.real(op.inputs[0]))
    alpha, beta, bias = op.options["alpha"] * size, op.options["beta"], op.options["bias"]
    return r.channels_last(r.node("LRN", [first], size=size, alpha=alpha, beta=beta, bias=bias))


@raises("L2_NORMALIZATION")
def l2_normalization(r: Raiser, op: Op) -> str:
    return r.activated(r.node("LpNormalization", [r.real(op.inputs[0])], axis=-1, p=2), op)


@raises("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")
def batch_blocks(r: Raiser, op: Op) -> str:
    """Of pictures: blocks move between the batch and the space, by reshaping and transposing."""
    x = op.inputs[0]
    shape = _shape(x)
    blocks = [int(n) for n in known(op, 1, "the block")]
    amounts = known(op, 2, "the borders").astype(int)
    if min(shape) < 0:
        raise Unlowerable("blocks of a tensor whose size is only known when the model runs")
    count, rank = len(blocks), len(shape)
    if op.code == "SPACE_TO_BATCH_ND":
        before = [0, *amounts[:, 0], *[0] * (rank - count - 1)]
        after = [0, *amounts[:, 1], *[0] * (rank - count - 1)]
        padded = r.node("Pad", [r.real(x), r.ints([*before, *after]), r.const(np.float32(0))])
        sizes = [n + b + a for n, b, a in zip(shape, before, after, strict=True)]
        split = [sizes[0], *(n for i, k in enumerate(blocks) for n in (sizes[i + 1] // k, k)), *sizes[count + 1 :]]
        places = [*(2 + 2 * i for i in range(count)), 0, *(1 + 2 * i for i in range(count))]
        places += range(2 * count + 1, len(split))
        turned = r.transpose(r.node("Reshape", [padded, r.ints(split)]), places)
        return r.node("Reshape", [turned, r.ints(op.output.shape)])
    batch = shape[0] // int(np.prod(blocks))
    split = [*blocks, batch, *shape[1:]]
    places = [count, *(axis for i in range(count) for axis in (count + 1 + i, i)), *range(2 * count + 1, len(split))]
    whole = [batch, *(n * k for n, k in zip(shape[1:], blocks, strict=False)), *shape[count + 1 :]]
    joined = r.node("Reshape", [r.transpose(r.node("Reshape", [r.real(x), r.ints(split)]), places), r.ints(whole)])
    ends = [size - int(cut) for size, cut in zip(whole[1:], amounts[:, 1], strict=False)]
    axes = list(range(1, count + 1))
    return r.node("Slice", [joined, r.ints(amounts[:, 0]), r.ints(ends), r.ints(axes)])
