"""A model by name where a file is wanted: its ONNX form, made once and kept in the cache."""

from __future__ import annotations

from pathlib import Path

from edgekit import __version__
from edgekit.cache import cache_folder
from edgekit.errors import UnavailableError
from edgekit.family import is_model_name

__all__ = ["file_of"]


def file_of(path: str | Path) -> Path:
    """`path` itself, or of a name such as ``"resnet:tiny"`` the .onnx file of that model; a `Path` is never a name.

    Raises:
        UnavailableError: Nobody trained weights of that size that ship with edgekit.
    """
    if not isinstance(path, str) or not is_model_name(path):
        return Path(path)
    # Not at the top: on a device, where files are opened and never made, nothing of it is needed.
    from edgekit.making import find_model, write_model

    model = find_model(path)
    if not model.weights.is_trained:
        raise UnavailableError(
            f"no weights of {model.name} ship with edgekit",
            hint=f"edgekit models make {model.name} --weights FILE or HUB -o model.onnx",
        )
    # Named by content: other weights, or another way to write them, are another file.
    sha256 = str(model.weights.about["sha256"])
    name = f"{model.family.name}-{model.size}-{__version__}-{sha256[:16]}.onnx"
    kept = cache_folder() / "models" / name
    if not kept.is_file():
        write_model(model, kept, force=True)
    return kept
