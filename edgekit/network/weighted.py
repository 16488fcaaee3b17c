"""Layers that own weights, as methods that append them to the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.errors import UnsupportedError
from edgekit.network.record import Param, Record, Tensor
from edgekit.network.sizes import Padding, each, pads_of, strided
from edgekit.spec import Dim

__all__ = ["WeightedLayers"]


class WeightedLayers(Record):
    """Convolutions, dense layers, norms, embeddings and recurrent layers."""

    def conv(
        self,
        x: Tensor,
        name: str,
        filters: int,
        kernel: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        dilation: int = 1,
        groups: int = 1,
        padding: Padding = "same",
        bias: bool = True,
        start: str = "he",
        bias_start: str = "zeros",
    ) -> Tensor:
        """A convolution over the one or two spatial axes of `x`."""
        x.require("conv", is_spatial=True)
        rank = len(x.shape) - 2
        kernels, strides = each(kernel, rank), each(stride, rank)
        pads = tuple(
            pads_of(x.shape[2 + axis], kernels[axis], strides[axis], dilation, padding) for axis in range(rank)
        )
        size = [
            strided(x.shape[2 + axis], sum(pads[axis]) - (kernels[axis] - 1) * dilation - 1, strides[axis])
            for axis in range(rank)
        ]
        params = {"weight": Param(f"{name}.weight", (filters, x.channels // groups, *kernels), start)}
        if bias:
            params["bias"] = Param(f"{name}.bias", (filters,), bias_start)
        options: dict[str, Any] = {
            "kernel": kernels,
            "stride": strides,
            "dilation": dilation,
            "groups": groups,
            "pads": pads,
        }
        return self.add("conv", [x], (x.shape[0], filters, *size), name=name, params=params, **options)

    def depthwise(
        self, x: Tensor, name: str, kernel: int, *, stride: int = 1, padding: Padding = "same", bias: bool = False
    ) -> Tensor:
        """A convolution of each channel by itself."""
        return self.conv(x, name, x.channels, kernel, stride=stride, groups=x.channels, padding=padding, bias=bias)

    def conv_transpose(
        self, x: Tensor, name: str, filters: int, kernel: int, *, stride: int, bias: bool = True
    ) -> Tensor:
        """A transposed convolution that makes every spatial size `stride` times as large.

        Raises UnsupportedError unless the same number of rows and columns is cut at both ends, the only case in which
        PyTorch and TensorFlow agree.
        """
        x.require("conv_transpose", is_spatial=True)
        excess = kernel - stride
        if excess < 0 or excess % 2:
            raise UnsupportedError(f"conv_transpose {name!r}: kernel {kernel} less stride {stride} must be even")
        rank = len(x.shape) - 2
        size = [x.size(2 + axis) * stride for axis in range(rank)]
        params = {"weight": Param(f"{name}.weight", (x.channels, filters, *each(kernel, rank)), "he")}
        if bias:
            params["bias"] = Param(f"{name}.bias", (filters,), "zeros")
        options: dict[str, Any] = {"kernel": each(kernel, rank), "stride": each(stride, rank), "pad": excess // 2}
        return self.add("conv_transpose", [x], (x.shape[0], filters, *size), name=name, params=params, **options)

    def dense(self, x: Tensor, name: str, units: int, *, bias: bool = True, start: str = "glorot") -> Tensor:
        """``x @ weight.T + bias`` along the last axis."""
        x.require("dense", is_spatial=False)
        params = {"weight": Param(f"{name}.weight", (units, x.channels), start)}
        if bias:
            params["bias"] = Param(f"{name}.bias", (units,), "zeros")
        return self.add("dense", [x], (*x.shape[:-1], units), name=name, params=params)

    def tied_dense(self, x: Tensor, name: str, weight: str) -> Tensor:
        """``x @ weight.T`` with the weight of that name, which an earlier layer owns, such as an embedding's table."""
        param = self.params[weight]
        return self.add("dense", [x], (*x.shape[:-1], param.shape[0]), name=name, params={"weight": param})

    def batch_norm(self, x: Tensor, name: str, *, epsilon: float = 1e-5, momentum: float = 0.1) -> Tensor:
        """Batch normalization over the channels; `momentum` is the share of the new batch, as PyTorch counts."""
        shape = (x.channels,)
        params = {
            "weight": Param(f"{name}.weight", shape, "ones"),
            "bias": Param(f"{name}.bias", shape, "zeros"),
            "running_mean": Param(f"{name}.running_mean", shape, "zeros", is_trained=False),
            "running_var": Param(f"{name}.running_var", shape, "ones", is_trained=False),
        }
        return self.add("batch_norm", [x], x.shape, name=name, params=params, epsilon=epsilon, momentum=momentum)

    def layer_norm(self, x: Tensor, name: str, *, epsilon: float = 1e-5) -> Tensor:
        """Layer normalization over the last axis."""
        x.require("layer_norm", is_spatial=False)
        return self.add("layer_norm", [x], x.shape, name=name, params=_gain(x, name), epsilon=epsilon)

    def rms_norm(self, x: Tensor, name: str, *, epsilon: float = 1e-6) -> Tensor:
        """``x / rms(x) * weight`` over the last axis (Zhang and Sennrich 2019, arXiv:1910.07467)."""
        x.require("rms_norm", is_spatial=False)
        params = {"weight": Param(f"{name}.weight", (x.channels,), "ones")}
        return self.add("rms_norm", [x], x.shape, name=name, params=params, epsilon=epsilon)

    def group_norm(self, x: Tensor, name: str, groups: int, *, epsilon: float = 1e-5) -> Tensor:
        """Group normalization of a spatial tensor (Wu and He 2018, arXiv:1803.08494)."""
        x.require("group_norm", is_spatial=True)
        return self.add("group_norm", [x], x.shape, name=name, params=_gain(x, name), groups=groups, epsilon=epsilon)

    def embedding(self, ids: Tensor, name: str, count: int, width: int, *, start: str = "normal:0.02") -> Tensor:
        """Integers [...] below `count` -> rows [..., width] of a table."""
        params = {"weight": Param(f"{name}.weight", (count, width), start)}
        shape = (*ids.shape, width)
        return self.add("embedding", [ids], shape, name=name, params=params, dtype="float32")

    def add_positions(self, x: Tensor, name: str, count: int, *, start: str = "normal:0.02") -> Tensor:
        """`x` [batch, steps, width] plus a learnt row for each of its steps, at most `count`."""
        params = {"weight": Param(f"{name}.weight", (count, x.channels), start)}
        return self.add("add_positions", [x], x.shape, name=name, params=params)

    def lstm(self, x: Tensor, name: str, units: int, *, sequences: bool = True, bidirectional: bool = False) -> Tensor:
        """A long short-term memory over [batch, steps, features]: all steps, or the last of each direction."""
        return self._recurrent("lstm", 4, x, name, units, sequences, bidirectional)

    def gru(self, x: Tensor, name: str, units: int, *, sequences: bool = True, bidirectional: bool = False) -> Tensor:
        """A gated recurrent unit whose reset gate comes after the product, as in PyTorch and cuDNN."""
        return self._recurrent("gru", 3, x, name, units, sequences, bidirectional)

    def _recurrent(
        self, op: str, gates: int, x: Tensor, name: str, units: int, sequences: bool, bidirectional: bool
    ) -> Tensor:
        params: dict[str, Param] = {}
        for end in ("", "_reverse") if bidirectional else ("",):
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (gates * units, x.channels),
                "weight_hh": (gates * units, units),
            }
            shapes |= {"bias_ih": (gates * units,), "bias_hh": (gates * units,)}
            for part, shape in shapes.items():
                params[f"{part}{end}"] = Param(f"{name}.{part}_l0{end}", shape, f"recurrent:{units}")
        width = units * (2 if bidirectional else 1)
        size: tuple[Dim, ...] = (x.shape[0], x.shape[1], width) if sequences else (x.shape[0], width)
        options: dict[str, Any] = {"units": units, "sequences": sequences, "bidirectional": bidirectional}
        return self.add(op, [x], size, name=name, params=params, **options)


def _gain(x: Tensor, name: str) -> dict[str, Param]:
    shape = (x.channels,)
    return {"weight": Param(f"{name}.weight", shape, "ones"), "bias": Param(f"{name}.bias", shape, "zeros")}
