"""The layers of a bundle by their names, and which of them an operation of one of its files is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.bundle import Artifact, Bundle
from edgekit.graph.listing import list_nodes
from edgekit.opening import detect_format

__all__ = ["LayerNames"]

_ADDED = re.compile(
    r"(_\d+|/int8|/WithoutBiases|_MatMulInteger|_ConvInteger|_DynamicQuantizeLinear|_QuantizeLinear|_Gather|_Cast|_Mul)$"
)
"""What our writers and the engines' readers put behind the name of a layer that takes several operations."""

_PRODUCTS = re.compile(r"Conv|MatMul|Gemm|LSTM|GRU|RNN|Attention|Einsum")


class LayerNames:
    """Names of layers, with what each gives where that is known.

    Args:
        types: What each layer does, as ONNX calls it; empty where that is not known.
        givers: The layer that gives each value.
    """

    def __init__(self, types: Mapping[str, str], givers: Mapping[str, str]) -> None:
        self._types = types
        self._givers = givers

    @classmethod
    def of(cls, path: Path, bundle: Bundle | None) -> LayerNames:
        """Those of a bundle: of its .onnx file, best of fp32, which has the graph's own names, and of what it says."""
        files = [path] if bundle is None else [a.path for a in _by_likeness(bundle) if a.format == "onnx"]
        if bundle is None and detect_format(path) != "onnx":
            files = []
        nodes = list_nodes(files[0]) if files else []
        said = () if bundle is None else bundle.provenance.get("layers", ())
        types = {str(layer["name"]): str(layer["op_type"]) for layer in said}
        types.update({node.name: node.op_type for node in nodes if node.name})
        return cls(types, {value: node.name for node in nodes for value in node.outputs if value})

    def layers(self, sources: Sequence[str]) -> tuple[str, ...]:
        """The layers these operations of a file are, first the one that multiplies; their own names where none is."""
        found = dict.fromkeys(self._layer(source) or source for source in sources)
        return tuple(sorted(found, key=lambda name: not _PRODUCTS.search(self._types.get(name, ""))))

    def _layer(self, name: str) -> str | None:
        while name:
            if name in self._types:
                return name
            if name in self._givers:
                return self._givers[name]
            shorter = _ADDED.sub("", name)
            if shorter == name:
                return None
            name = shorter
        return None


def _by_likeness(bundle: Bundle) -> list[Artifact]:
    return sorted(bundle.variants, key=lambda artifact: artifact.precision != "fp32")
