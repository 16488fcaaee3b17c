"""What PyTorch's exporters write made into a hub file: named as the source is, sizes named once, cleaned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import ConversionError, UnsupportedError
from edgekit.graph.cleaning import clean
from edgekit.graph.files import save
from edgekit.graph.operations import require_known
from edgekit.graph.shapes import signature
from edgekit.spec import Signature

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["OPSET", "output_names", "write"]

OPSET = 20
"""The last that both of PyTorch's exporters write."""


def output_names(answer: Any, path: tuple[str, ...] = ()) -> list[str]:
    """A name for each leaf of what a module gives, in order: ``output`` for one tensor, a dict's keys for a dict's.

    Tuples and lists count: ``output_0``, ``output_1``, or behind a key, ``key_0``.
    """
    if isinstance(answer, dict):
        return [name for key, value in answer.items() for name in output_names(value, (*path, str(key)))]
    if isinstance(answer, tuple | list):
        own = path or ("output",)
        return [name for i, value in enumerate(answer) for name in output_names(value, (*own, str(i)))]
    return ["_".join(path or ("output",))]


def write(
    model: ir.Model,
    inputs: Sequence[str],
    outputs: Sequence[str],
    sizes: Sequence[Mapping[int, str]],
    path: Path,
    shapes: Sequence[Sequence[int | str | None]] | None = None,
) -> Signature:
    """Writes the hub file and gives its signature, which is the source's.

    Args:
        model: As an exporter wrote it.
        inputs: The source's name of each input, in the graph's order.
        outputs: The same of outputs.
        sizes: The names of open sizes by axis, for as many of the inputs as have them.
        path: The .onnx file.
        shapes: Of the outputs, where the source knows better than the graph; None for a size that is not known.

    Raises:
        ConversionError: The graph has other inputs and outputs than the source.
        UnsupportedError: Operations that ONNX does not have, or tensors of a type that edgekit does not run.
    """
    graph = model.graph
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != len(outputs):
        found = f"{[value.name for value in graph.inputs]} -> {[value.name for value in graph.outputs]}"
        raise ConversionError(f"{found} was written for {list(inputs)} -> {list(outputs)}", step="torch.onnx.export")
    _name_sizes(model, inputs, sizes, shapes)
    for value, name in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        value.name = name
    cleaned = clean(model)
    require_known(cleaned, "the model")
    promised = signature(cleaned)
    if odd := [str(spec) for spec in (*promised.inputs, *promised.outputs) if spec.dtype in ("bfloat16", "")]:
        raise UnsupportedError("inputs or outputs of a type that edgekit does not run", offenders=odd)
    save(cleaned, path)
    return promised


def _name_sizes(
    model: ir.Model,
    inputs: Sequence[str],
    sizes: Sequence[Mapping[int, str]],
    shapes: Sequence[Sequence[int | str | None]] | None,
) -> None:
    """Gives open sizes the names they were declared with, else ``batch`` or ``x_dim_1``, and the same to outputs.

    A size of an output that is not one of an input's loses its name, so that cleaning finds out what it is.
    """
    import onnx_ir as ir

    names: dict[str, str] = {}
    for index, (value, name) in enumerate(zip(model.graph.inputs, inputs, strict=True)):
        own = sizes[index] if index < len(sizes) else {}
        dims: list[int | str | None] = []
        for axis, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int):
                made_up = "batch" if axis == 0 else f"{name}_dim_{axis}"
                dims.append(names.setdefault(str(dim.value or f"{name}/{axis}"), own.get(axis, made_up)))
            else:
                dims.append(dim)
        value.shape = ir.Shape(dims)
    for index, value in enumerate(model.graph.outputs):
        known: Iterable[Any] = shapes[index] if shapes is not None else value.shape or ()
        theirs = [d if isinstance(d, int | str | None) else d.value for d in known]
        if shapes is not None or value.shape is not None:
            value.shape = ir.Shape(
                [d if isinstance(d, int) else d if d in names.values() else names.get(str(d)) for d in theirs]
            )
