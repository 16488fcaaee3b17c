"""A TFLite model as plain records: what the writer lays out in a file and the reader finds in one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.spec import QuantParams

__all__ = ["DYNAMIC_KEY", "Graph", "LiteModel", "Op", "Tensor"]

DYNAMIC_KEY = "edgekit.dynamic"
"""In the metadata of a hub graph: names of constant integers, a line each, for which kernels are to round what is
multiplied by them."""


@dataclass(eq=False)
class Tensor:
    """One tensor of a graph; two are the same only when they are the same object.

    Attributes:
        name: In the file; made unique when it is written.
        shape: -1 for a dimension only known when the model runs.
        dtype: numpy's name.
        data: The numbers of a constant; None for what is computed.
        quant: How its integers stand for real numbers.
        scales: Of a constant of 4 bits whose neighbors share scales in groups: float16, of its shape but for one axis,
            where there is one for each group; in place of `quant`.
        offsets: Beside `scales`, of their shape: what is added to the real numbers of each group. No kernel knows them.
        is_dynamic: Whether kernels are to round what is multiplied by this constant, in each call, to compute in
            integers; else they compute with the real numbers it stands for.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None = None
    quant: QuantParams | None = None
    scales: Tensor | None = None
    offsets: Tensor | None = None
    is_dynamic: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements; negative when it is not known."""
        return -1 if -1 in self.shape else int(np.prod(self.shape, dtype="int64"))


@dataclass(eq=False)
class Op:
    """One operation.

    Attributes:
        code: Its name in the schema's ``BuiltinOperator``, such as ``"CONV_2D"``.
        inputs: None where an optional one is left out.
        options: Fields of its options table under the schema's names. Enumerations are given by name, such as
            ``padding="SAME"``, types by numpy's name, and the bodies of control flow as `Graph`.
        source: Name of the hub's node it comes from.
    """

    code: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    def arguments(self) -> Iterator[Tensor]:
        """The inputs that are there."""
        return (tensor for tensor in self.inputs if tensor is not None)

    def bodies(self) -> Iterator[Graph]:
        """The graphs it calls."""
        return (value for value in self.options.values() if isinstance(value, Graph))


@dataclass(eq=False)
class Graph:
    """Operations in an order in which they can run."""

    name: str = "main"
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)

    def graphs(self) -> Iterator[Graph]:
        """This one and all that its operations call, however deep, each once."""
        seen: list[Graph] = []
        waiting = [self]
        while waiting:
            graph = waiting.pop(0)
            if graph not in seen:
                seen.append(graph)
                waiting.extend(body for op in graph.ops for body in op.bodies())
        return iter(seen)

    def tensors(self) -> list[Tensor]:
        """Every tensor once: inputs, then in the order of the operations, then outputs, then scales of groups."""
        found: dict[Tensor, None] = dict.fromkeys(self.inputs)
        for op in self.ops:
            found.update(dict.fromkeys(op.arguments()))
            found.update(dict.fromkeys(op.outputs))
        found.update(dict.fromkeys(self.outputs))
        found.update(dict.fromkeys(tensor.scales for tensor in list(found) if tensor.scales is not None))
        return list(found)

    def producers(self) -> dict[Tensor, Op]:
        """For each computed tensor the operation that gives it."""
        return {tensor: op for op in self.ops for tensor in op.outputs}

    def consumers(self) -> dict[Tensor, list[Op]]:
        """For each tensor the operations that read it; one that reads it twice stands there twice."""
        found: dict[Tensor, list[Op]] = {}
        for op in self.ops:
            for tensor in op.arguments():
                found.setdefault(tensor, []).append(op)
        return found


@dataclass
class LiteModel:
    """A graph and its public face.

    Attributes:
        graph: The one that is called.
        input_names: A public name for each of `graph.inputs`.
        output_names: A public name for each of `graph.outputs`.
        metadata: Named texts that travel in the file.
    """

    graph: Graph
    input_names: list[str]
    output_names: list[str]
    metadata: dict[str, str] = field(default_factory=dict)
