"""One file by way of the hub: the graph under a recipe, in the form a writer and the target want it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgekit.conversion.preparing import Preparation
from edgekit.conversion.reference import Reference, open_sizes
from edgekit.converter import SourceModel, Writer, Written
from edgekit.errors import ConversionError, UnsupportedError
from edgekit.recipe import Recipe
from edgekit.target import Target

__all__ = ["write_through_hub"]


def write_through_hub(
    source: SourceModel,
    preparation: Preparation,
    reference: Reference,
    target: Target,
    recipe: Recipe,
    converter: Writer,
    path: Path,
) -> Written:
    """Writes the graph as `path`.

    Args:
        source: What the hub graph is of.
        preparation: Of that graph.
        reference: Says how large what the source leaves open is, for formats that fix it.
        target: Where integers are placed, and how new operations may be.
        recipe: What becomes of the numbers.
        converter: Of the format.
        path: The file.

    Raises:
        ConversionError: The source could not be brought to the hub, or a tool failed.
        UnsupportedError: The format, or an engine of the target, has no form for this.
    """
    if source.hub_error:
        raise ConversionError(source.hub_error, step=f"{source.kind} -> hub")
    sizes = _fixed_sizes(source, reference, converter.format) if converter.fixes_sizes else {}
    graph, plan = preparation.finished(recipe, target.placements.get(converter.format))
    if sizes:
        from edgekit.graph import bind_dimensions

        graph = bind_dimensions(graph, sizes)
    if converter.format == "onnx" and target.onnx_opset:
        from edgekit.graph.opsets import at_most_opset

        graph = at_most_opset(graph, target.onnx_opset)
    written = converter.write(graph, path, precision=recipe.precision, plan=plan)
    if not sizes:
        return written
    note = f"fixed as in the data it was judged by: {', '.join(f'{k} = {v}' for k, v in sizes.items())}"
    return replace(written, sizes=sizes, notes=(*written.notes, note))


def _fixed_sizes(source: SourceModel, reference: Reference, format: str) -> Mapping[str, int]:
    """A number for each open size but the batch. Raises UnsupportedError where nothing says which."""
    known = reference.sizes
    if unknown := [name for name in open_sizes(source.signature) if name not in known]:
        raise UnsupportedError(
            f"{format} files have fixed sizes, and nothing says how large these are",
            offenders=unknown,
            hint="--input-shape, or --calibration-data of one size",
        )
    return known
