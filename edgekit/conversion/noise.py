"""Noise in place of data, where a user asks for it, and the range that a model's processing gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgekit.conversion.reference import open_sizes
from edgekit.errors import InputError
from edgekit.feeds import random_feeds
from edgekit.processing import ANY_INPUT, Processing, Step
from edgekit.processing.fitting import free_inputs
from edgekit.samples import Samples
from edgekit.spec import Signature, TensorSpec

__all__ = ["DRAWN", "noise_feeds", "ranges_of"]

DRAWN = (
    "pixels evenly from 0 to 255, sound evenly from -1 to 1 and pieces of text evenly, each through the processing; "
    "other floats from the normal distribution, integers evenly from 0 to 63, booleans evenly"
)
"""How noise is drawn, in words."""

SECONDS = 1
"""How long the noise is that sounds are made of."""

_CONSTANT = "constant"
_LONG = 512
"""Characters of a text where nothing says how many tokens there are."""
_PRINTABLE = (32, 127)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def noise_feeds(processing: Processing, samples: Samples, signature: Signature) -> Iterator[dict[str, np.ndarray]]:
    """A feed for each of `samples`, whose values are seeds.

    An input whose processing begins with ``decode_image`` gets a picture whose pixels are drawn evenly from 0..255,
    one with ``decode_wav`` a second of sound drawn evenly from -1..1, one of ``tokenize_...`` a text of pieces of its
    vocabulary, or of printable characters, that fills it and that all of them share; these go through all steps.
    The steps of any other input are passed by: its floats are of the normal distribution, its integers even from 0 to
    63, its booleans tosses of a coin. State is zero, and what the processing holds constant is that.

    Raises:
        InputError: Nothing says how large an input is.
        UnsupportedError: An input takes strings, and no processing says which.
    """
    steps = {spec.name: _steps(processing, spec.name) for spec in free_inputs(signature)}
    through = {name: own for name, own in steps.items() if own and own[0]["op"] in (*_DRAWERS, _CONSTANT)}
    drawn = [name for name, own in through.items() if own[0]["op"] != _CONSTANT]
    reduced = Processing(through, data=processing.data)
    rest = Signature(tuple(spec for spec in free_inputs(signature) if spec.name not in through), ())
    if unknown := open_sizes(rest):
        raise InputError(f"nothing says how large noise is to be: {', '.join(unknown)} is open", hint="--input-shape")
    for sample in samples:
        rng = np.random.default_rng(sample.value)
        values: dict[str, Any] = {**random_feeds(rest, count=1, seed=sample.value)[0]} if rest.inputs else {}
        text = ""
        for name in drawn:
            first, spec = _first(processing, name), signature.input(name)
            if not first["op"].startswith("tokenize"):
                values[name] = _DRAWERS[first["op"]](rng, first, _picture_shape(through[name], spec))
            else:
                values[name] = text = text or _DRAWERS[first["op"]](rng, first, ())
        try:
            yield reduced.batches(values, signature, rows=1)[0]
        except InputError as error:
            raise InputError(
                f"noise cannot be made ready for the model: {error.message}", hint="give typical inputs"
            ) from error


def ranges_of(processing: Processing, signature: Signature) -> dict[str, tuple[float, float]]:
    """The smallest and largest number the processing gives, for inputs that are pictures of a size it says."""
    found = {}
    for spec in signature.inputs:
        steps = _steps(processing, spec.name)
        if not steps or steps[0]["op"] != "decode_image":
            continue
        one, alone, shape = Processing({spec.name: steps}), Signature((spec,), ()), _picture_shape(steps, spec)
        if not shape:
            continue
        try:
            ends = [one.before(np.full(shape, value, np.uint8), alone)[spec.name] for value in (0, 255)]
        except InputError:  # it takes pictures of another size, which nothing says: then its range is not known
            continue
        found[spec.name] = float(min(end.min() for end in ends)), float(max(end.max() for end in ends))
    return found


def _steps(processing: Processing, name: str) -> tuple[Step, ...]:
    return processing.inputs.get(name, processing.inputs.get(ANY_INPUT, ()))


def _first(processing: Processing, name: str) -> Step:
    """The first step of input `name`, with its arguments themselves where they stand under the processing's data."""
    step = _steps(processing, name)[0]
    return {k: processing.data[v["data"]] if isinstance(v, Mapping) else v for k, v in step.items()}


def _picture_shape(steps: tuple[Step, ...], spec: TensorSpec) -> tuple[int, ...]:
    """Height, width and three colors: what the steps resize to or, without that, the model takes; empty if open."""
    sizes = [step["size"] for step in steps if step["op"] in ("resize", "letterbox")]
    if sizes:
        return (*np.broadcast_to(sizes[0], 2).tolist(), 3)
    is_planar = any(step["op"] == "layout" and step["to"] == "CHW" for step in steps)
    sides = (spec.shape[2:4] if is_planar else spec.shape[1:3]) if len(spec.shape) == 4 else ()
    return (*sides, 3) if sides and all(isinstance(side, int) for side in sides) else ()  # type: ignore[return-value]


_Draw = Callable[[np.random.Generator, Step, tuple[int, ...]], Any]
"""A value of the kind that a step takes, for a picture of that shape."""


def _picture(rng: np.random.Generator, step: Step, shape: tuple[int, ...]) -> np.ndarray:
    if not shape:
        raise InputError("nothing says how large pictures of noise are to be", hint="--input-shape")
    return rng.integers(0, 256, shape, dtype=np.uint8)


def _sound(rng: np.random.Generator, step: Step, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-1, 1, step["rate_hz"] * SECONDS).astype(np.float32)


def _characters(rng: np.random.Generator, step: Step, shape: tuple[int, ...]) -> str:
    return bytes(rng.integers(*_PRINTABLE, step.get("length") or _LONG, dtype=np.uint8)).decode("ascii")


def _pieces(rng: np.random.Generator, step: Step, shape: tuple[int, ...]) -> str:
    words = [piece for piece in step["vocabulary"] if piece not in _SPECIAL and not piece.startswith("##")]
    return " ".join(rng.choice(words, step["length"])) if words else ""


_DRAWERS: Mapping[str, _Draw] = {
    "decode_image": _picture,
    "decode_wav": _sound,
    "tokenize": _characters,
    "tokenize_bytes": _characters,
    "tokenize_wordpiece": _pieces,
}
