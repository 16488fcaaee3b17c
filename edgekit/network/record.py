"""The record an architecture is written down in: tensors, layers with their weights, and what they lead to.

Shapes are in PyTorch's order: a *spatial* tensor is [batch, channels, *size], any other has its features last. A form
that wants channels last, as Keras does, turns spatial tensors and leaves the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.spec import Dim, Signature, StatePair, TensorSpec

__all__ = ["Layer", "Param", "Record", "Tensor"]


@dataclass(frozen=True)
class Tensor:
    """What a layer takes or gives.

    Attributes:
        name: Unique in its network.
        shape: In PyTorch's order; a name stands for a size known only when it runs.
        dtype: A name of `edgekit.spec.DTYPES`.
        is_spatial: Whether it is [batch, channels, *size].
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"
    is_spatial: bool = False

    @property
    def channels(self) -> int:
        """Size of the axis that features lie along."""
        return self.size(1 if self.is_spatial else -1)

    def require(self, what: str, *, is_spatial: bool) -> None:
        """Raises UnsupportedError where a layer called `what` wants the other kind of tensor."""
        if self.is_spatial != is_spatial:
            kind = "a spatial tensor" if is_spatial else "a tensor with its features last"
            raise UnsupportedError(f"{what} wants {kind}, and {self.name!r} {self.shape} is none")

    def size(self, axis: int) -> int:
        """The size along `axis`. Raises UnsupportedError where it is only known when the network runs."""
        dim = self.shape[axis]
        if not isinstance(dim, int):
            raise UnsupportedError(f"tensor {self.name!r} has no fixed size along axis {axis}: {self.shape}")
        return dim


@dataclass(frozen=True)
class Param:
    """A weight.

    Attributes:
        name: As in a PyTorch state dict.
        shape: In PyTorch's layout.
        start: What it is before training, a rule of `edgekit.network.starting`.
        is_trained: False for running statistics, which training only observes.
    """

    name: str
    shape: tuple[int, ...]
    start: str
    is_trained: bool = True

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Layer:
    """One layer: what it takes, gives, owns, and how it is set.

    Attributes:
        op: What it does, a name every form knows or refuses.
        name: Unique; the prefix of its weights where it has any.
        params: Its weights by the part they play, such as ``"weight"``.
        options: Its settings.
    """

    op: str
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    params: Mapping[str, Param] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Tensor:
        return self.outputs[0]


class Record:
    """Layers in the order they were written, from inputs to outputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Tensor] = []
        self.layers: list[Layer] = []
        self.outputs: dict[str, Tensor] = {}
        self.state: list[StatePair] = []
        self.typical: dict[str, int] = {}
        """What symbolic sizes are in the data the network is for; a form that cannot leave them open fixes these."""
        self._names: set[str] = set()

    def input(self, name: str, shape: Sequence[Dim], dtype: str = "float32", *, is_spatial: bool = False) -> Tensor:
        """An input of `shape`, batch first; symbolic sizes are names, such as ``"batch"``."""
        tensor = Tensor(self._unique(name), tuple(shape), dtype, is_spatial)
        self.inputs.append(tensor)
        return tensor

    def output(self, tensor: Tensor, name: str, *, state_of: str | None = None) -> None:
        """Makes `tensor` an output; with `state_of`, one that is fed back as that input in the next call."""
        if name in self.outputs:
            raise ValueError(f"there is an output {name!r} already")
        self.outputs[name] = tensor
        if state_of is not None:
            self.state.append(StatePair(state_of, name))

    @property
    def params(self) -> dict[str, Param]:
        """Every weight by name, in order; one that layers share appears once."""
        return {param.name: param for layer in self.layers for param in layer.params.values()}

    @property
    def num_params(self) -> int:
        """How many numbers training sets: running statistics are not counted."""
        return sum(param.size for param in self.params.values() if param.is_trained)

    @property
    def ops(self) -> list[str]:
        """The ops there are, sorted."""
        return sorted({layer.op for layer in self.layers})

    def signature(self, *, channels_last: bool = False) -> Signature:
        """What the network takes and gives, in PyTorch's or in Keras's layout."""

        def spec(name: str, tensor: Tensor) -> TensorSpec:
            shape = tensor.shape
            if tensor.is_spatial and channels_last:
                shape = (shape[0], *shape[2:], shape[1])
            return TensorSpec(name, tensor.dtype, shape)

        inputs = tuple(spec(tensor.name, tensor) for tensor in self.inputs)
        outputs = tuple(spec(name, tensor) for name, tensor in self.outputs.items())
        return Signature(inputs, outputs, tuple(self.state))

    def add(
        self,
        op: str,
        inputs: Sequence[Tensor],
        shape: Sequence[Dim],
        *,
        name: str | None = None,
        params: Mapping[str, Param] | None = None,
        dtype: str | None = None,
        is_spatial: bool | None = None,
        **options: Any,
    ) -> Tensor:
        """Appends a layer of one output and gives that; like its first input unless said otherwise."""
        first = inputs[0]
        layer = self._unique(name or f"{op}_{len(self.layers)}")
        output = Tensor(
            f"{layer}:0",
            tuple(shape),
            dtype or first.dtype,
            first.is_spatial if is_spatial is None else is_spatial,
        )
        self.layers.append(Layer(op, layer, tuple(inputs), (output,), dict(params or {}), options))
        return output

    def add_several(
        self,
        op: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[tuple[Sequence[Dim], bool]],
        *,
        name: str | None = None,
        params: Mapping[str, Param] | None = None,
        **options: Any,
    ) -> tuple[Tensor, ...]:
        """Appends a layer of several outputs, each given as its shape and whether it is spatial."""
        layer = self._unique(name or f"{op}_{len(self.layers)}")
        given = tuple(
            Tensor(f"{layer}:{index}", tuple(shape), inputs[0].dtype, is_spatial)
            for index, (shape, is_spatial) in enumerate(outputs)
        )
        self.layers.append(Layer(op, layer, tuple(inputs), given, dict(params or {}), options))
        return given

    def _unique(self, name: str) -> str:
        if name in self._names:
            raise ValueError(f"there is a {name!r} already")
        self._names.add(name)
        return name
