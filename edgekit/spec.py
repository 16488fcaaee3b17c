"""What tensors and models promise: names, dtypes, shapes, and how integers stand for real numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import ArtifactError
from edgekit.record import Record

__all__ = [
    "DTYPES",
    "STATE_KEY",
    "Dim",
    "PerAxis",
    "PerGroup",
    "PerTensor",
    "QuantParams",
    "Signature",
    "StatePair",
    "TensorSpec",
    "state_pairs",
]

Dim: TypeAlias = int | str
"""A dimension: a size, or the name of a size that is only known when the model runs."""

DTYPES = (
    "float32", "float16", "bfloat16", "float64", "bool", "string",
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
)  # fmt: skip


class PerTensor(Record):
    """One scale for the whole tensor."""


class PerAxis(Record):
    """One scale for each index along `axis`, as for the output channels of a convolution."""

    axis: int


class PerGroup(Record):
    """One scale for each `size` neighbours along `axis`, as for 4-bit weights."""

    axis: int
    size: int


class QuantParams(Record):
    """How integers stand for real numbers: ``real = scale * (integer - zero_point)``.

    Attributes:
        dtype: Integer dtype name, such as ``"int8"``.
        scale: One value per tensor, or one per index along `axis`.
        zero_point: As many values as `scale`.
        axis: The axis the values run along, or None for one value per tensor.
    """

    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.zero_point) or not self.scale:
            raise ArtifactError(f"{len(self.scale)} scales but {len(self.zero_point)} zero points")
        if not all(s > 0 and math.isfinite(s) for s in self.scale):
            raise ArtifactError("a quantization scale must be a positive finite number")

    def _along_axis(self, values: Sequence[float] | Sequence[int], rank: int, dtype: str) -> np.ndarray:
        array = np.asarray(values, dtype=dtype)
        if self.axis is None:
            return array.reshape(())
        return array.reshape([-1 if i == self.axis % rank else 1 for i in range(rank)])

    def quantize(self, real: np.ndarray) -> np.ndarray:
        """The integers nearest to `real` (ties to even), saturated to the range of `dtype`."""
        limits = np.iinfo(self.dtype)
        exact = "float32" if limits.bits <= 16 else "float64"  # float32 cannot hold the limits of int32
        scale = self._along_axis(self.scale, real.ndim, exact)
        steps = np.rint(real / scale) + self._along_axis(self.zero_point, real.ndim, exact)
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def dequantize(self, integers: np.ndarray) -> np.ndarray:
        """The float32 numbers that `integers` stand for."""
        zero = self._along_axis(self.zero_point, integers.ndim, "int32")
        real = (integers.astype("int32") - zero) * self._along_axis(self.scale, integers.ndim, "float32")
        return real.astype("float32", copy=False)

    def to_json(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "scale": list(self.scale), "zero_point": list(self.zero_point), "axis": self.axis}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QuantParams:
        return cls(data["dtype"], tuple(data["scale"]), tuple(data["zero_point"]), data.get("axis"))


class TensorSpec(Record):
    """One input or output: its name, dtype, shape, and where it matters its layout and quantization.

    Attributes:
        name: The name feeds and results use.
        dtype: A name of `DTYPES` (numpy's names).
        shape: A size or a symbolic name for each dimension.
        layout: Meaning of the dimensions, such as ``"NHWC"``, where known.
        quant: Set when the tensor holds integers that stand for real numbers.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    layout: str | None = None
    quant: QuantParams | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ArtifactError(f"tensor {self.name!r} has unknown dtype {self.dtype!r}")

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    def accepts_shape(self, shape: Sequence[int]) -> bool:
        """Whether an array of `shape` fits; a symbolic dimension takes any size."""
        return len(shape) == len(self.shape) and all(
            isinstance(want, str) or want == got for want, got in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        dims = "x".join(str(d) for d in self.shape) or "scalar"
        return f"{self.name}: {self.dtype}[{dims}]" + (f" {self.layout}" if self.layout else "")

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        if self.layout:
            data["layout"] = self.layout
        if self.quant:
            data["quant"] = self.quant.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        quant = data.get("quant")
        return cls(
            name=data["name"],
            dtype=data["dtype"],
            shape=tuple(data["shape"]),
            layout=data.get("layout"),
            quant=QuantParams.from_json(quant) if quant else None,
        )


class StatePair(Record):
    """An output that is to be fed back as an input in the next call, as the hidden state of an LSTM."""

    input: str
    output: str


STATE_KEY = "edgekit.state"
"""Under which an ONNX file's metadata has its state: a JSON list of [input, output]."""


def state_pairs(text: str) -> tuple[StatePair, ...]:
    """What stands under `STATE_KEY`; none for no text. Raises ArtifactError."""
    try:
        return tuple(StatePair(str(source), str(result)) for source, result in json.loads(text or "[]"))
    except (TypeError, ValueError) as error:
        said = f"{STATE_KEY} is no list of [input, output]: {text[:80]}"
        raise ArtifactError(said, hint="export the model again") from error


class Signature(Record):
    """The names, dtypes and shapes a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[StatePair, ...] = ()

    def input(self, name: str) -> TensorSpec:
        return next(spec for spec in self.inputs if spec.name == name)

    def output(self, name: str) -> TensorSpec:
        return next(spec for spec in self.outputs if spec.name == name)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }
        if self.state:
            data["state"] = [{"input": pair.input, "output": pair.output} for pair in self.state]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        return cls(
            inputs=tuple(TensorSpec.from_json(spec) for spec in data["inputs"]),
            outputs=tuple(TensorSpec.from_json(spec) for spec in data["outputs"]),
            state=tuple(StatePair(pair["input"], pair["output"]) for pair in data.get("state", ())),
        )
