"""Layers without weights, as methods that append them to the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.network.record import Record, Tensor
from edgekit.network.sizes import Padding, each, pads_of, strided
from edgekit.spec import Dim

__all__ = ["ACTIVATIONS", "WeightlessLayers"]

ACTIVATIONS = (*("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "hard_swish", "exp", "sin", "cos"),)


class WeightlessLayers(Record):
    """Activations, arithmetic, pooling, resizing and changes of shape."""

    def activation(self, x: Tensor, kind: str, *, slope: float = 0.2) -> Tensor:
        """A function of each number, of `ACTIVATIONS`; `slope` is that of ``leaky_relu`` below zero."""
        if kind not in ACTIVATIONS:
            raise UnsupportedError(f"there is no activation {kind!r}", hint=f"known: {', '.join(ACTIVATIONS)}")
        options: dict[str, Any] = {"slope": slope} if kind == "leaky_relu" else {}
        return self.add("activation", [x], x.shape, kind=kind, **options)

    def relu(self, x: Tensor) -> Tensor:
        return self.activation(x, "relu")

    def softmax(self, x: Tensor) -> Tensor:
        """Along the features."""
        return self.add("softmax", [x], x.shape)

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """While training, `rate` of the numbers are left out; otherwise nothing."""
        return self.add("dropout", [x], x.shape, rate=rate)

    def sum(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y; sizes of one are spread."""
        return self.add("sum", [x, y], _spread(x, y))

    def product(self, x: Tensor, y: Tensor) -> Tensor:
        """x * y; sizes of one are spread."""
        return self.add("product", [x, y], _spread(x, y))

    def affine(self, x: Tensor, scale: float | np.ndarray = 1.0, offset: float | np.ndarray = 0.0) -> Tensor:
        """``x * scale + offset`` with fixed numbers, which are spread over the last axes of a tensor not spatial.

        A last axis of one becomes as long as the numbers are many.
        """
        scale, offset = np.asarray(scale, np.float32), np.asarray(offset, np.float32)
        if x.is_spatial and (scale.ndim or offset.ndim):
            raise UnsupportedError("an affine of a spatial tensor takes one scale and one offset")
        last = [array.shape[-1] for array in (scale, offset) if array.ndim and x.shape[-1] == 1]
        return self.add("affine", [x], (*x.shape[:-1], *(last[:1] or x.shape[-1:])), scale=scale, offset=offset)

    def concat(self, tensors: Sequence[Tensor], axis: int | None = None) -> Tensor:
        """Side by side along the features, or along `axis` of tensors that are not spatial."""
        first = tensors[0]
        along = (1 if first.is_spatial else len(first.shape) - 1) if axis is None else axis % len(first.shape)
        shape = list(first.shape)
        shape[along] = sum(tensor.size(along) for tensor in tensors)
        return self.add("concat", list(tensors), shape, axis=along)

    def slice(self, x: Tensor, start: int, stop: int, axis: int | None = None) -> Tensor:
        """From `start` up to `stop` along the features, or along `axis`."""
        along = (1 if x.is_spatial else len(x.shape) - 1) if axis is None else axis % len(x.shape)
        shape = list(x.shape)
        stop = stop if stop >= 0 else x.size(along) + stop
        shape[along] = stop - start
        return self.add("slice", [x], shape, axis=along, start=start, stop=stop)

    def max_pool(self, x: Tensor, size: int, *, stride: int | None = None, padding: Padding = 0) -> Tensor:
        return self._pool("max_pool", x, size, stride or size, padding)

    def avg_pool(self, x: Tensor, size: int, *, stride: int | None = None) -> Tensor:
        """Means of windows that lie wholly inside."""
        return self._pool("avg_pool", x, size, stride or size, 0)

    def _pool(self, op: str, x: Tensor, size: int, stride: int, padding: Padding) -> Tensor:
        rank = len(x.shape) - 2
        pads = tuple(pads_of(x.shape[2 + axis], size, stride, 1, padding) for axis in range(rank))
        sizes = [strided(x.shape[2 + axis], sum(pads[axis]) - size, stride) for axis in range(rank)]
        options: dict[str, Any] = {"kernel": each(size, rank), "stride": each(stride, rank), "pads": pads}
        return self.add(op, [x], (*x.shape[:2], *sizes), **options)

    def global_avg_pool(self, x: Tensor) -> Tensor:
        """[batch, channels, *size] -> [batch, channels]."""
        return self.add("global_avg_pool", [x], x.shape[:2], is_spatial=False)

    def mean_steps(self, x: Tensor) -> Tensor:
        """[batch, steps, features] -> [batch, features]."""
        return self.add("mean_steps", [x], (x.shape[0], x.shape[2]))

    def masked_mean(self, x: Tensor, mask: Tensor) -> Tensor:
        """[batch, steps, features] -> [batch, features], over steps where `mask`, int64 [batch, steps], is not 0."""
        return self.add("masked_mean", [x, mask], (x.shape[0], x.shape[2]))

    def unit_length(self, x: Tensor) -> Tensor:
        """``x / |x|`` along the features; nothing is divided by less than 1e-12."""
        return self.add("unit_length", [x], x.shape)

    def upsample(self, x: Tensor, factor: int = 2, *, mode: Literal["nearest", "bilinear"] = "nearest") -> Tensor:
        """Every spatial size `factor` times as large; bilinear with half-pixel centers."""
        if mode == "bilinear" and len(x.shape) != 4:
            raise UnsupportedError(f"bilinear is for two spatial axes; {x.name!r} is {x.shape}")
        sizes = [x.size(axis) * factor for axis in range(2, len(x.shape))]
        return self.add("upsample", [x], (*x.shape[:2], *sizes), factor=factor, mode=mode)

    def space_to_depth(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] -> [batch, 4 * channels, height / 2, width / 2], four pixels side by side.

        Of each block of two by two: upper left, lower left, upper right, lower right, each with all its channels (as
        the Focus of YOLOv5 and YOLOX; ONNX's SpaceToDepth goes along the rows instead).
        """
        shape = (x.shape[0], 4 * x.channels, x.size(2) // 2, x.size(3) // 2)
        return self.add("space_to_depth", [x], shape)

    def pad(self, x: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
        """Zeros before and after along each spatial axis."""
        sizes = [x.size(2 + axis) + sum(pair) for axis, pair in enumerate(pads)]
        return self.add("pad", [x], (*x.shape[:2], *sizes), pads=tuple(map(tuple, pads)))

    def crop(self, x: Tensor, crops: Sequence[tuple[int, int]]) -> Tensor:
        """Cuts so much before and after along each spatial axis."""
        sizes = [x.size(2 + axis) - sum(pair) for axis, pair in enumerate(crops)]
        return self.add("crop", [x], (*x.shape[:2], *sizes), crops=tuple(map(tuple, crops)))

    def to_steps(self, x: Tensor) -> Tensor:
        """[batch, channels, *size] -> [batch, steps, channels], the last spatial axis running fastest.

        A single spatial axis may be of a size known only when the network runs.
        """
        sizes = x.shape[2:]
        steps = sizes[0] if len(sizes) == 1 else math.prod(x.size(axis) for axis in range(2, len(x.shape)))
        return self.add("to_steps", [x], (x.shape[0], steps, x.channels), is_spatial=False)

    def to_spatial(self, x: Tensor, size: Sequence[Dim]) -> Tensor:
        """[batch, steps, channels] -> [batch, channels, *size], the opposite of `to_steps`.

        A tensor [batch, channels] becomes one of `size` ones, to be spread by a sum or product.
        """
        return self.add("to_spatial", [x], (x.shape[0], x.channels, *size), is_spatial=True, size=tuple(size))

    def step(self, x: Tensor, index: int) -> Tensor:
        """[batch, steps, features] -> [batch, features], of one step; -1 is the last."""
        return self.add("step", [x], (x.shape[0], x.shape[2]), index=index)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Other sizes beside the batch, for a tensor that is not spatial."""
        if x.is_spatial:
            raise UnsupportedError("a spatial tensor has another order in every framework; use to_steps first")
        return self.add("reshape", [x], (x.shape[0], *shape))


def _spread(x: Tensor, y: Tensor) -> tuple[int | str, ...]:
    """The shape of x and y together, for tensors of as many axes."""
    if len(x.shape) != len(y.shape) or x.is_spatial != y.is_spatial:
        raise UnsupportedError(f"{x.name!r} {x.shape} and {y.name!r} {y.shape} do not go together")
    return tuple(b if a == 1 else a for a, b in zip(x.shape, y.shape, strict=True))
