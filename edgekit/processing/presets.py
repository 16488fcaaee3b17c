"""Processing by name, for models without a card: pictures scaled the three ways that are common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.errors import UnsupportedError
from edgekit.spec import Signature, TensorSpec

__all__ = ["PRESETS", "preset_inputs"]

PRESETS: Mapping[str, str] = {
    "none": "arrays go in as they are",
    "image-01": "the whole picture, resized, x / 255",
    "image-11": "the whole picture, resized, x / 127.5 - 1",
    "image-imagenet": "the middle 87.5 % of the picture, resized, less ImageNet's mean, by its deviation",
}

_SCALES: Mapping[str, Mapping[str, Any]] = {
    "image-01": {"scale": 1 / 255},
    "image-11": {"scale": 1 / 127.5, "mean": 1.0},
    "image-imagenet": {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def preset_inputs(name: str, signature: Signature) -> dict[str, list[dict[str, Any]]]:
    """The steps of preset `name` for every input of `signature` that takes pictures."""
    if name == "none":
        return {}
    if name not in PRESETS:
        raise UnsupportedError(
            f"there is no processing named {name!r}", hint=f"known: {', '.join(PRESETS)}; or a .json file"
        )
    pictures = {spec.name: order for spec in signature.inputs if (order := _order(spec)) is not None}
    if not pictures:
        raise UnsupportedError(
            f"{name!r} is for pictures, and no input is one", offenders=[str(spec) for spec in signature.inputs]
        )
    return {input: _steps(name, signature.input(input), order) for input, order in pictures.items()}


def _order(spec: TensorSpec) -> str | None:
    """``"HWC"`` or ``"CHW"`` for an input that takes pictures, else None."""
    if len(spec.shape) != 4:
        return None
    said = (spec.layout or "").removeprefix("N")
    channels = {"HWC": spec.shape[3], "CHW": spec.shape[1]}
    fitting = [order for order, count in channels.items() if count in (1, 3) and said in ("", order)]
    return fitting[0] if fitting else None


def _steps(name: str, spec: TensorSpec, order: str) -> list[dict[str, Any]]:
    dims = dict(zip(order, spec.shape[1:], strict=True))
    if name == "image-imagenet" and dims["C"] != 3:
        raise UnsupportedError(f"{name!r} is for colors, and the input is gray", offenders=[str(spec)])
    steps: list[dict[str, Any]] = [{"op": "decode_image", "mode": "RGB" if dims["C"] == 3 else "L"}]
    if name == "image-imagenet":
        steps.append({"op": "center_crop", "fraction": 0.875})
    if isinstance(dims["H"], int) and isinstance(dims["W"], int):
        steps.append({"op": "resize", "size": [dims["H"], dims["W"]], "filter": "bilinear"})
    return [*steps, {"op": "normalize", **_SCALES[name]}, {"op": "layout", "to": order}]
