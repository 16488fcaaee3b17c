"""From TFLite to the hub: every operation by the op table read backwards, all that cannot be done listed at once."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.converters.tflite.integers import group_size
from edgekit.converters.tflite.model import DYNAMIC_KEY, Graph, LiteModel, Op, Tensor
from edgekit.converters.tflite.passes.storing import HYBRID
from edgekit.converters.tflite.table import RAISINGS, Unlowerable
from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.graph.walking import fresh_name
from edgekit.spec import QuantParams

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Raiser", "raise_model"]

_TOPICS = ("arithmetic", "spatial", "shapes", "placing", "products", "control")
"""Modules of `edgekit.converters.tflite.raised`, each with the operations of one topic."""

_INT64 = 7
_OPSET, _WIDE_OPSET, _IR_VERSION = 20, 21, 10
"""GELU came with opset 20, 16-bit quantization and that of blocks with 21."""


def raise_model(model: LiteModel) -> ir.Model:
    """A hub graph with the inputs and outputs of the TFLite `model`: names, order, dtypes and layout.

    A quantized tensor stays one: its integers are between QuantizeLinear and DequantizeLinear.

    Raises:
        ArtifactError: An operation lacks options or inputs that it must have, or has them of the wrong kind.
        UnsupportedError: Operations have no form in the hub; all are listed, each with its reason.
    """
    import onnx
    import onnx_ir as ir

    for topic in _TOPICS:
        import_module(f"edgekit.converters.tflite.raised.{topic}")
    raiser = Raiser({*model.input_names, *model.output_names})
    body = raiser.main(model)
    if raiser.refused:
        raise UnsupportedError(
            "operations of this file have no form in ONNX", offenders=raiser.refused, hint="--format tflite keeps it"
        )
    tensors = [tensor for graph in model.graph.graphs() for tensor in graph.tensors()]
    wide = any(t.scales is not None or (t.quant is not None and t.quant.dtype == "int16") for t in tensors)
    built = onnx.helper.make_model(
        body,
        opset_imports=[onnx.helper.make_opsetid("", _WIDE_OPSET if wide else _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="edgekit",
    )
    dynamic = {DYNAMIC_KEY: "\n".join(raiser.dynamic)} if raiser.dynamic else {}
    onnx.helper.set_model_props(built, {**model.metadata, **dynamic})
    return ir.from_proto(built)


class Raiser:
    """The hub graph under construction.

    Attributes:
        refused: ``CODE (tensor): reason`` for each operation without a form.
        names: The hub's name for each tensor seen so far: integers for a quantized one.
        dynamic: Names of constant integers that are multiplied by real numbers, which kernels round in each call.
    """

    def __init__(self, taken: set[str]) -> None:
        self.refused: list[str] = []
        self.names: dict[Tensor, str] = {}
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.source = ""
        self._taken = taken
        self._real: dict[Tensor, str] = {}
        self.dynamic: dict[str, None] = {}

    def main(self, model: LiteModel) -> Any:
        """The whole graph, as onnx's GraphProto."""
        graph = model.graph
        inputs = [_info(name, tensor) for name, tensor in zip(model.input_names, graph.inputs, strict=True)]
        self.names.update(zip(graph.inputs, model.input_names, strict=True))
        self.run(graph)
        for name, tensor in zip(model.output_names, graph.outputs, strict=True):
            self._emit("Identity", [self.raw(tensor)], [name])
        outputs = [_info(name, tensor) for name, tensor in zip(model.output_names, graph.outputs, strict=True)]
        return self.graph("main", inputs, outputs)

    def run(self, graph: Graph) -> None:
        """Raises every operation of a graph; one without a form is written down, and the others go on."""
        for op in graph.ops:
            self.source = op.source
            try:
                raising = RAISINGS.get(op.code)
                if raising is None:
                    raise Unlowerable("not in the op table")
                found = raising(self, op)
                self._note_dynamic(op)
            except Unlowerable as verdict:
                self.refused.append(f"{op.code} ({op.source}): {verdict}")
                found = [f"{op.source}/refused"] * len(op.outputs)
            except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
                raise ArtifactError(
                    f"{op.code} ({op.source}) is not as TFLite has it: {error!r}", hint="copy or convert the file again"
                ) from error
            for tensor, name in zip(op.outputs, [found] if isinstance(found, str) else found, strict=False):
                self.set_real(tensor, name)

    def _note_dynamic(self, op: Op) -> None:
        x, weight = (*op.inputs, None, None)[:2]
        if op.code not in HYBRID or x is None or weight is None or x.dtype != "float32":
            return
        if weight.data is not None and weight.dtype in ("int8", "int4") and weight in self.names:
            self.dynamic[self.names[weight]] = None

    def set_real(self, tensor: Tensor, name: str) -> None:
        """Takes `name` for the real numbers of `tensor`, which are rounded to its integers where it has such."""
        if is_quantized(tensor):
            assert tensor.quant is not None
            self.names[tensor] = self._quantized("QuantizeLinear", name, tensor.quant)
        else:
            self.names[tensor] = name

    def raw(self, tensor: Tensor) -> str:
        """The name of a tensor as it is stored; of a quantized one its integers."""
        if tensor not in self.names:
            if tensor.data is None:
                raise Unlowerable(f"{tensor.name} is a variable, which outlives a call")
            self.names[tensor] = self.const(tensor.data, tensor.name)
        return self.names[tensor]

    def real(self, tensor: Tensor | None) -> str:
        """The name of a tensor's real numbers; empty for one left out."""
        if tensor is None:
            return ""
        if tensor.scales is not None:
            return self._grouped(tensor)
        if not is_quantized(tensor):
            return self.raw(tensor)
        if tensor not in self._real:
            assert tensor.quant is not None
            self._real[tensor] = self._quantized("DequantizeLinear", self.raw(tensor), tensor.quant)
        return self._real[tensor]

    def _grouped(self, tensor: Tensor) -> str:
        if tensor not in self._real:
            assert tensor.scales is not None
            assert tensor.scales.data is not None
            scale = self.const(tensor.scales.data.astype("float32"))
            size = group_size(tensor)
            self._real[tensor] = self.node("DequantizeLinear", [self.raw(tensor), scale], axis=-1, block_size=size)
        return self._real[tensor]

    def inner(self) -> Raiser:
        """One for the body of a loop or branch, which reads what is known outside."""
        inside = Raiser(self._taken)
        inside.refused, inside.names, inside._real = self.refused, dict(self.names), dict(self._real)
        inside.dynamic = self.dynamic
        inside.source = self.source
        return inside

    def graph(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """What has been raised so far, as onnx's GraphProto."""
        import onnx
        from onnx import numpy_helper

        constants = [numpy_helper.from_array(array, own) for own, array in self.initializers.items()]
        return onnx.helper.make_graph(self.nodes, name, inputs, outputs, constants)

    def fresh(self, wanted: str) -> str:
        """A name that nothing has yet."""
        return fresh_name(self._taken, wanted or "value")

    def forget(self, tensor: Tensor) -> None:
        """Makes a tensor unseen."""
        self.names.pop(tensor, None)
        self._real.pop(tensor, None)

    def const(
        self, array: np.ndarray | np.generic | Sequence[Any] | float, name: str = "", dtype: str | None = None
    ) -> str:
        """The name of a new constant."""
        own = fresh_name(self._taken, name or f"{self.source}/const")
        self.initializers[own] = np.asarray(array, dtype=dtype)
        return own

    def ints(self, values: Sequence[int] | np.ndarray) -> str:
        """The name of a constant vector of int64, as ONNX takes axes and sizes."""
        return self.const(np.asarray(values, "int64"))

    def wide(self, tensor: Tensor | None) -> str:
        """The name of integers in int64, as ONNX wants sizes, axes and places."""
        assert tensor is not None
        if tensor.data is not None:
            return self.ints(tensor.data)
        return self.raw(tensor) if tensor.dtype == "int64" else self.node("Cast", [self.raw(tensor)], to=_INT64)

    def cast(self, name: str, dtype: str) -> str:
        """A value in the type numpy calls `dtype`."""
        import onnx

        return self.node("Cast", [name], to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def node(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Appends a node with one output and gives its name."""
        return self.outputs(op_type, inputs, 1, **attributes)[0]

    def outputs(self, op_type: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Appends a node with `count` outputs and gives their names."""
        names = [fresh_name(self._taken, self.source or op_type) for _ in range(count)]
        self._emit(op_type, inputs, names, **attributes)
        return names

    def _emit(self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        import onnx

        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(onnx.helper.make_node(op_type, list(inputs), list(outputs), **given))

    def _quantized(self, op_type: str, name: str, params: QuantParams) -> str:
        shape = () if params.axis is None else (-1,)
        scale = self.const(np.asarray(params.scale, "float32").reshape(shape))
        dtype = "int8" if params.dtype == "int4" else params.dtype
        zero = self.const(np.asarray(params.zero_point, dtype).reshape(shape))
        return self.node(op_type, [name, scale, zero], axis=params.axis)

    # --- what many operations share ----------------------------------------------------------------------------------

    def transpose(self, name: str, perm: Sequence[int]) -> str:
        if list(perm) == list(range(len(perm))):
            return name
        return self.node("Transpose", [name], perm=list(perm))

    def channels_first(self, name: str, rank: int = 4) -> str:
        """N, spatial..., C to N, C, spatial..."""
        return self.transpose(name, [0, rank - 1, *range(1, rank - 1)])

    def channels_last(self, name: str, rank: int = 4) -> str:
        """N, C, spatial... to N, spatial..., C."""
        return self.transpose(name, [0, *range(2, rank), 1])

    def activated(self, name: str, op: Op) -> str:
        """Behind `name` the activation that is fused into `op`."""
        kind = op.options.get("fusedActivationFunction", "NONE")
        if kind == "NONE":
            return name
        if kind in ("RELU", "TANH"):
            return self.node({"RELU": "Relu", "TANH": "Tanh"}[kind], [name])
        limits = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}.get(kind)
        if limits is None:
            raise Unlowerable(f"fused activation {kind}")
        return self.node("Clip", [name, *(self.const(np.float32(limit)) for limit in limits)])


def is_quantized(tensor: Tensor) -> bool:
    """Whether the integers of a tensor stand for real numbers."""
    return tensor.quant is not None


def known(op: Op, index: int, what: str) -> np.ndarray:
    """The numbers of an input that must be constant for there to be a form in the hub."""
    tensor = op.inputs[index] if index < len(op.inputs) else None
    if tensor is None or tensor.data is None:
        raise Unlowerable(f"{what} is only known when the model runs")
    return tensor.data


def _info(name: str, tensor: Tensor) -> Any:
    import onnx

    shape = [size if size >= 0 else (f"dim{axis}" if axis else "batch") for axis, size in enumerate(tensor.shape)]
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), shape)
