"""Numbers for the sizes a source leaves open, where the user gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.conversion.reference import with_sizes
from edgekit.converter import SourceModel
from edgekit.errors import InputError
from edgekit.spec import Signature, TensorSpec

__all__ = ["fix_sizes"]


def fix_sizes(source: SourceModel, shapes: Sequence[TensorSpec], stage: Path) -> SourceModel:
    """The source with the sizes that `shapes` give; a shape without a name is for the input at its place.

    Its hub form is written anew under `stage`; forms for direct roads keep what they leave open.

    Raises:
        InputError: A shape is for no input, or is not one the input takes, or two give one size different numbers.
    """
    sizes = _sizes(source.signature, shapes)
    if not sizes:
        return source
    exports = dict(source.exports)
    if "hub" in exports:
        from edgekit.graph import load, save
        from edgekit.graph.shapes import bind_dimensions

        exports["hub"] = stage / "fixed.onnx"
        save(bind_dimensions(load(source.exports["hub"]), sizes, default=None), exports["hub"])
    return replace(source, signature=with_sizes(source.signature, sizes), exports=exports)


def _sizes(signature: Signature, shapes: Sequence[TensorSpec]) -> dict[str, int]:
    found: dict[str, int] = {}
    names = [spec.name for spec in signature.inputs]
    for place, given in enumerate(shapes):
        name = given.name or (names[place] if place < len(names) else "")
        if name not in names:
            raise InputError(f"there is no input {given.name or place + 1}", hint=f"inputs: {', '.join(names)}")
        own = signature.input(name).shape
        fits = len(own) == len(given.shape) and all(
            isinstance(have, str) or isinstance(want, str) or have == want
            for have, want in zip(own, given.shape, strict=True)
        )
        if not fits:
            raise InputError(f"input {name!r} is {list(own)}, which {list(given.shape)} does not fit")
        for have, want in zip(own, given.shape, strict=True):
            if isinstance(have, str) and isinstance(want, int) and found.setdefault(have, want) != want:
                raise InputError(
                    f"{have!r} cannot be both {found[have]} and {want}", hint="it is one size in all inputs"
                )
    return found
