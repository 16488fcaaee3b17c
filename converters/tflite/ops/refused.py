"""What TFLite has no form for, so that the reason is said and not only that it is missing."""

from __future__ import annotations

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []


@lowers("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
def random(b: Builder, node: Node) -> Tensor:
    raise Unlowerable("random numbers are others in every run, so nothing could be compared")
