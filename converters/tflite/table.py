"""The op table itself: who lowers which operation of the hub, who raises which operation of TFLite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.converters.tflite.model import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.converters.tflite.builder import Builder
    from edgekit.converters.tflite.model import Op
    from edgekit.converters.tflite.raising import Raiser

__all__ = ["LOWERINGS", "RAISINGS", "Lowering", "Node", "Raising", "Unlowerable", "lowers", "raises"]


class Unlowerable(Exception):  # noqa: N818 - a verdict on one node; the driver gathers them all into one error
    """A node has no form in TFLite; the message says what of it."""


Lowering = Callable[["Builder", "Node"], Tensor | Sequence[Tensor | None]]
"""Gives a node's outputs, in the shapes and dtypes `Node.outputs` says; None for one that nobody reads.

Raises Unlowerable where TFLite has no form for it. What it has appended by then is thrown away with the file.
"""

LOWERINGS: dict[str, Lowering] = {}
"""By the name of the ONNX operation; operations of another domain as ``"com.microsoft.FusedMatMul"``."""


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Enters a function in the table for the operations `names`."""

    def enter(lowering: Lowering) -> Lowering:
        for name in names:
            if name in LOWERINGS:
                raise ValueError(f"{name} is lowered twice")
            LOWERINGS[name] = lowering
        return lowering

    return enter


Raising = Callable[["Raiser", "Op"], str | Sequence[str]]
"""Gives the names of an operation's outputs in the hub, real numbers where TFLite has integers that stand for them.

Raises Unlowerable where the hub has no form for it.
"""

RAISINGS: dict[str, Raising] = {}
"""By the code of the TFLite operation; a custom one as ``"custom:Name"``."""


def raises(*codes: str) -> Callable[[Raising], Raising]:
    """Enters a function in the table for the TFLite operations `codes`."""

    def enter(raising: Raising) -> Raising:
        for code in codes:
            if code in RAISINGS:
                raise ValueError(f"{code} is raised twice")
            RAISINGS[code] = raising
        return raising

    return enter


class Node:
    """A node of the hub as a lowering sees it.

    Attributes:
        op: Its operation, as it stands in `LOWERINGS`.
        name: Its name.
        opset: The version of its operation set.
        inputs: A tensor for each input, None for one left out at the end or in between.
        outputs: What is promised of each output: shape (-1 for unknown) and dtype; None for one that nobody reads.
        scope: Where it stands, for the bodies of control flow.
    """

    def __init__(
        self,
        node: ir.Node,
        opset: int,
        inputs: list[Tensor | None],
        outputs: list[tuple[tuple[int, ...], str] | None],
        scope: Any,
    ) -> None:
        self.node = node
        self.op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        self.name = node.name or ""
        self.opset = opset
        self.inputs = inputs
        self.outputs = outputs
        self.scope = scope

    def has(self, index: int) -> bool:
        """Whether input `index` is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> Tensor:
        """An input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise Unlowerable(f"input {index} is missing")
        return found

    def constant(self, index: int) -> np.ndarray | None:
        """The numbers of an input, or None where it is left out or only known when the model runs."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is not None and found.size == 0:  # nothing is left to be known of it
            return np.zeros(found.shape, found.dtype)
        return None if found is None else found.data

    def known(self, index: int, what: str) -> np.ndarray:
        """The numbers of an input that must be constant for there to be a form in TFLite."""
        self.input(index)
        found = self.constant(index)
        if found is None:
            raise Unlowerable(f"{what} is only known when the model runs")
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first output."""
        return self.outputs[0][0] if self.outputs[0] else ()

    @property
    def dtype(self) -> str:
        """Of the first output."""
        return self.outputs[0][1] if self.outputs[0] else ""

    def hub_dtype(self, index: int = 0) -> str:
        """The dtype an output has in the hub, where float16, for one, is computed in float32 here."""
        from edgekit.graph.walking import dtype_name

        return dtype_name(self.node.outputs[index])

    def hub_input(self, index: int = 0) -> str:
        """The dtype an input has in the hub."""
        from edgekit.graph.walking import dtype_name

        value = self.node.inputs[index]
        return "" if value is None else dtype_name(value)

    def has_attribute(self, name: str) -> bool:
        return name in self.node.attributes

    def integer(self, name: str, default: int = 0) -> int:
        return int(self.node.attributes.get_int(name, default))

    def real(self, name: str, default: float = 0.0) -> float:
        return float(self.node.attributes.get_float(name, default))

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        return [int(value) for value in self.node.attributes.get_ints(name, list(default)) or []]

    def reals(self, name: str, default: Sequence[float] = ()) -> list[float]:
        return [float(value) for value in self.node.attributes.get_floats(name, list(default)) or []]

    def text(self, name: str, default: str = "") -> str:
        return str(self.node.attributes.get_string(name, default))

    def body(self, name: str) -> ir.Graph:
        """The graph in an attribute of an If, Loop or Scan."""
        return self.node.attributes[name].as_graph()
