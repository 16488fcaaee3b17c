"""Architectures, written down once: a record of layers that becomes a PyTorch module, a Keras model or an ONNX graph.

Twins of one record share their weights by construction, and the ONNX form needs neither framework. Weights are a dict
of float32 arrays under the names, and in the layouts, of PyTorch state dicts.
"""

from __future__ import annotations

from edgekit.network.attention import AttentionLayers, AttentionNames, Cache
from edgekit.network.cost import count_macs
from edgekit.network.record import Layer, Param, Tensor
from edgekit.network.starting import starting_weights
from edgekit.network.weighted import WeightedLayers
from edgekit.network.weightless import WeightlessLayers

__all__ = ["AttentionNames", "Cache", "Layer", "Network", "Param", "Tensor", "count_macs", "starting_weights"]


class Network(WeightedLayers, WeightlessLayers, AttentionLayers):
    """An architecture. Inputs first, layers by their methods, then `output`."""
