"""Inputs to call a PyTorch module with, made of the shapes somebody declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgekit.converters._torch_export import first_line
from edgekit.errors import ConversionError
from edgekit.spec import TensorSpec

__all__ = ["axes_of", "examples", "fit_to_parameters", "working_sizes"]

_STARTS = (64, 16, 4)
"""What open sizes begin at: large enough for a stack of strided layers, else small enough for few positions."""


def fit_to_parameters(specs: Sequence[TensorSpec], names: Sequence[str]) -> list[TensorSpec] | None:
    """The specs in the order of a function's parameters, those without a name by place; None where they do not fit."""
    if len(specs) > len(names) or len({bool(spec.name) for spec in specs}) > 1:
        return None
    if not specs or not specs[0].name:
        return [TensorSpec(name, spec.dtype, spec.shape) for name, spec in zip(names, specs, strict=False)]
    found = {spec.name: spec for spec in specs}
    fits = len(found) == len(specs) and found.keys() <= set(names)
    return [found[name] for name in names if name in found] if fits else None


def axes_of(spec: TensorSpec) -> dict[int, str]:
    """The names of its open sizes by axis."""
    return {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}


def _sizes(specs: Sequence[TensorSpec]) -> Iterator[dict[str, int]]:
    """Sizes for all open dimensions, to be tried in turn: 2 for the batch and no two others alike."""
    symbols = dict.fromkeys(name for spec in specs for name in axes_of(spec).values())
    firsts = {str(spec.shape[0]) for spec in specs if len(spec.shape) > 1}
    batches = {name for name in symbols if name == "batch" or name in firsts}
    others = [name for name in symbols if name not in batches]
    for start in _STARTS if others else _STARTS[:1]:
        # PyTorch takes sizes that are equal in its examples for one and the same.
        yield {**dict.fromkeys(batches, 2), **{name: start + index * start // 2 for index, name in enumerate(others)}}


def examples(specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> list[Any]:
    """A tensor for each spec: normal floats, integers that are 0 or 1 and so are rows of any table."""
    import torch

    generator = torch.Generator().manual_seed(0)
    made = []
    for spec in specs:
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape]
        dtype = getattr(torch, spec.dtype)
        is_float = dtype.is_floating_point
        drawn = torch.randn(shape, generator=generator) if is_float else torch.randint(2, shape, generator=generator)
        made.append(drawn.to(dtype))
    return made


def working_sizes(specs: Sequence[TensorSpec], call: Callable[[list[Any]], Any]) -> dict[str, int]:
    """Sizes for all open dimensions that `call` takes. Raises ConversionError where none of those tried will do."""
    failed: Exception | None = None
    for sizes in _sizes(specs):
        try:
            call(examples(specs, sizes))
        except Exception as error:  # noqa: BLE001 - the module's own, of any kind; the first is raised below
            failed = failed or error
        else:
            return sizes
    assert failed is not None
    raise ConversionError(
        f"{type(failed).__name__}: {first_line(failed)}",
        step=f"calling it with {', '.join(map(str, specs))}",
        vendor_message=str(failed),
        hint="do sizes and dtypes fit? a dtype follows a colon: --input-shape ids=batch,128:int64",
    ) from failed
