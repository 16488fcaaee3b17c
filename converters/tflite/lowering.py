"""From the hub to TFLite: every node by the op table, all that cannot be done listed at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgekit.converters.tflite import passes
from edgekit.converters.tflite.bodies import settle_shapes
from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import DYNAMIC_KEY, LiteModel, Tensor
from edgekit.converters.tflite.passes.quantizing import lift_integers
from edgekit.converters.tflite.passes.storing import use_stored
from edgekit.converters.tflite.table import LOWERINGS, Node, Unlowerable
from edgekit.errors import UnsupportedError
from edgekit.graph.cleaning import clean
from edgekit.graph.expanding import expand_functions
from edgekit.graph.fusing import fuse
from edgekit.graph.shapes import bind_dimensions
from edgekit.graph.walking import constant, dtype_name
from edgekit.spec import STATE_KEY

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Scope", "lower"]

_TOPICS = (
    "activations",
    "arithmetic",
    "attention",
    "casting",
    "control",
    "convolutions",
    "cutting",
    "functions",
    "logic",
    "normalization",
    "picking",
    "pools",
    "products",
    "quantized",
    "recurrent",
    "reducing",
    "refused",
    "resizing",
    "sampling",
    "scattering",
    "selecting",
    "shapes",
    "signals",
    "suppression",
)
"""Modules of `edgekit.converters.tflite.ops`, each with the operations of one topic."""

_HELD = {"float16": "float32", "bfloat16": "float32", "float64": "float32", "int16": "int32", "uint16": "int32",
         "uint32": "int64"}  # fmt: skip
"""Types TFLite hardly computes in, and the type in which tensors of them are held inside; the border keeps its own."""

_BORDER = {"float32", "float16", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"}


def lower(model: ir.Model, *, stored: Mapping[str, Tensor] | None = None, optimize: bool = True) -> LiteModel:
    """A TFLite model with the inputs and outputs of the hub graph `model`: their names, order, dtypes and layout.

    Dimensions still open are taken for 1.

    Args:
        model: The hub graph.
        stored: For initializers of float32 the integer constants they are to be stored as.
        optimize: Whether the passes run, without which every node stays as its lowering wrote it.

    Raises:
        UnsupportedError: Operations have no form in TFLite; all are listed, each with its reason.
    """
    for topic in _TOPICS:
        import_module(f"edgekit.converters.tflite.ops.{topic}")
    bound = _prepared(model)
    dynamic = frozenset(bound.metadata_props.get(DYNAMIC_KEY, "").split("\n"))
    scope = Scope(Builder(), bound.graph.opset_imports.get("", 1), stored=stored or {}, dynamic=dynamic)
    scope.take_inputs(bound.graph.inputs)
    scope.lower_nodes(bound.graph)
    if not scope.refused:
        scope.give_outputs(bound.graph.outputs)
    if scope.refused:
        raise UnsupportedError(
            "TFLite cannot hold operations of this model", offenders=scope.refused, hint="choose onnx or openvino"
        )
    if optimize:
        passes.optimize(scope.builder.graph)
    for graph in scope.builder.graph.graphs():
        lift_integers(graph)
        use_stored(graph)
    state = bound.metadata_props.get(STATE_KEY, "")
    return LiteModel(
        scope.builder.graph,
        [value.name or "" for value in bound.graph.inputs],
        [value.name or "" for value in bound.graph.outputs],
        {STATE_KEY: state} if state else {},
    )


def _prepared(model: ir.Model) -> ir.Model:
    """A copy with a number for every size, known patterns as one operation, and ONNX's functions written out."""
    return settle_shapes(clean(expand_functions(fuse(clean(bind_dimensions(model))), LOWERINGS)))


class Scope:
    """One graph of the hub on its way: the tensors of its values, and what of it has no form.

    Attributes:
        builder: The TFLite graph it becomes.
        opset: The version of ONNX's operations in it.
        values: The tensor for each of the hub's values seen so far.
        refused: ``Type (node): reason`` for each node without a form; shared with the scopes inside.
        stored: For float32 initializers the integer constants they are stored as.
        dynamic: Names of constant integers for which kernels are to round what is multiplied by them.
    """

    def __init__(
        self,
        builder: Builder,
        opset: int,
        refused: list[str] | None = None,
        *,
        stored: Mapping[str, Tensor] | None = None,
        dynamic: Collection[str] = (),
    ) -> None:
        self.builder = builder
        self.opset = opset
        self.stored = stored or {}
        self.dynamic = dynamic
        self.values: dict[ir.Value, Tensor] = {}
        self.refused: list[str] = [] if refused is None else refused

    def take_inputs(self, inputs: Sequence[ir.Value]) -> None:
        """Makes an input of the TFLite graph for each of the hub's, held as the inside wants it."""
        for value in inputs:
            if value.shape is None:
                self.refused.append(f"input {value.name}: its shape is not known")
                continue
            shape, dtype = _promise(value)
            if dtype not in _BORDER:
                self.refused.append(f"input {value.name}: TFLite has no {dtype or 'such type'}")
                dtype = "float32"
            tensor = Tensor(value.name or "", shape, dtype)
            self.builder.graph.inputs.append(tensor)
            self.values[value] = self.builder.cast(tensor, _HELD.get(dtype, dtype))

    def give_outputs(self, outputs: Sequence[ir.Value]) -> None:
        """Makes the tensors of `outputs` outputs of the TFLite graph, in the dtypes the hub has."""
        for value in outputs:
            tensor, dtype = self.tensor(value), dtype_name(value)
            if dtype not in _BORDER:
                self.refused.append(f"output {value.name}: TFLite has no {dtype or 'such type'}")
                continue
            given = self.builder.cast(tensor, dtype)
            if given.data is None and given not in self.builder.graph.inputs:
                given.name = value.name or given.name
            self.builder.graph.outputs.append(given)

    def tensor(self, value: ir.Value) -> Tensor:
        """The tensor of a value of the hub; constants become tensors when they are first asked for."""
        if value not in self.values and value.name in self.stored:
            self.builder.source = value.name or ""
            self.values[value] = self.builder.dequantize(self.stored[value.name or ""])
        if value not in self.values:
            array = constant(value)
            if array is None:
                raise Unlowerable(f"{value.name} is not known here")
            held = _HELD.get(array.dtype.name, array.dtype.name)
            self.builder.source = value.name or ""
            self.values[value] = self.builder.const(array.astype(held), name=value.name or "")
        return self.values[value]

    def lower_nodes(self, graph: ir.Graph) -> None:
        """Lowers every node; one without a form is written down, and stands as an empty promise for those behind it."""
        for node in graph:
            found: Sequence[Tensor | None]
            held: list[tuple[tuple[int, ...], str] | None] = [None] * len(node.outputs)
            try:
                promised = [_promise(value) if _is_read(value) else None for value in node.outputs]
                held = [None if one is None else (one[0], _HELD.get(one[1], one[1])) for one in promised]
                found = self._lower(node, held)
            except Unlowerable as verdict:
                self.refused.append(f"{node.op_type} ({node.name}): {verdict}")
                found = [None if one is None else Tensor(node.name or "", *one) for one in held]
            for value, tensor in zip(node.outputs, found, strict=False):
                if tensor is not None:
                    self.values[value] = tensor

    def _lower(self, node: ir.Node, outputs: list[tuple[tuple[int, ...], str] | None]) -> Sequence[Tensor | None]:
        inputs = [None if value is None or not value.name else self.tensor(value) for value in node.inputs]
        seen = Node(node, self.opset, inputs, outputs, self)
        lowering = LOWERINGS.get(seen.op)
        if lowering is None:
            raise Unlowerable("not in the op table")
        self.builder.source = node.name or node.op_type
        given = lowering(self.builder, seen)
        found = [given] if isinstance(given, Tensor) else list(given)
        for promise, tensor in zip(outputs, found, strict=False):
            if promise is not None:
                _check(promise, tensor)
        return found


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _promise(value: ir.Value) -> tuple[tuple[int, ...], str]:
    """Shape and dtype as far as the hub knows them."""
    if value.shape is None:
        raise Unlowerable(f"the shape of {value.name} is not known")
    shape: list[Any] = list(value.shape)
    return tuple(n if isinstance(n, int) else -1 for n in shape), dtype_name(value)


def _check(promise: tuple[tuple[int, ...], str], tensor: Tensor | None) -> None:
    """Holds a lowering to what shape inference says."""
    if tensor is None:
        raise Unlowerable("an output that is read was not given")
    shape, dtype = promise
    fits = len(shape) == tensor.rank and all(n in (-1, m) or m == -1 for n, m in zip(shape, tensor.shape, strict=True))
    if not fits or tensor.dtype != dtype:
        raise Unlowerable(f"lowered to {tensor.dtype}{list(tensor.shape)}, not {dtype}{list(shape)}")
