"""Comparisons, truth values, and choosing by them."""

from __future__ import annotations

import math

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, lowers

__all__: list[str] = []

_BINARY = {
    "Equal": "EQUAL", "Greater": "GREATER", "GreaterOrEqual": "GREATER_EQUAL", "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL", "And": "LOGICAL_AND", "Or": "LOGICAL_OR", "Xor": "NOT_EQUAL",
}  # fmt: skip


@lowers(*_BINARY)
def binary(b: Builder, node: Node) -> Tensor:
    return b.binary(_BINARY[node.op], node.input(0), node.input(1))


@lowers("Not")
def negation(b: Builder, node: Node) -> Tensor:
    return b.unary("LOGICAL_NOT", node.input(0))


@lowers("IsNaN")
def is_nan(b: Builder, node: Node) -> Tensor:
    return b.binary("NOT_EQUAL", node.input(0), node.input(0))


@lowers("IsInf")
def is_inf(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    positive, negative = node.integer("detect_positive", 1), node.integer("detect_negative", 1)
    if positive and negative:
        return b.binary("EQUAL", b.unary("ABS", x), math.inf)
    # Nothing is greater than infinity.
    return b.binary("EQUAL", x, -math.inf) if negative else b.binary("EQUAL" if positive else "GREATER", x, math.inf)


@lowers("Where")
def where(b: Builder, node: Node) -> Tensor:
    return b.where(node.input(0), node.input(1), node.input(2))
