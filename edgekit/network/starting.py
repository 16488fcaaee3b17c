"""Weights before training, the same in every framework: drawn by NumPy from a seed and the weight's own name."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from edgekit.network.record import Param, Record

__all__ = ["starting_weights"]


def starting_weights(network: Record, seed: int = 0) -> dict[str, np.ndarray]:
    """float32 arrays for every weight of `network`, by name.

    Rules: ``zeros``, ``ones``; ``he`` (normal, variance 2 / fan-out: He et al. 2015, arXiv:1502.01852); ``glorot``
    (uniform: Glorot and Bengio 2010); ``recurrent`` (uniform within 1 / sqrt(units)); ``normal:STD``; ``value:X``;
    ``count`` (0, 1, 2, ... in order).
    """
    return {name: _draw(param, seed) for name, param in network.params.items()}


def _draw(param: Param, seed: int) -> np.ndarray:
    rule, _, argument = param.start.partition(":")
    if rule in ("zeros", "ones", "value"):
        value = {"zeros": 0.0, "ones": 1.0}.get(rule)
        return np.full(param.shape, float(argument) if value is None else value, np.float32)
    if rule == "count":
        return np.arange(param.size, dtype=np.float32).reshape(param.shape)
    digest = hashlib.sha256(f"{seed}/{param.name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    out, fan_in = param.shape[0], int(np.prod(param.shape[1:]))
    fan_out = out * int(np.prod(param.shape[2:]))
    if rule == "he":
        drawn = generator.standard_normal(param.shape) * math.sqrt(2 / fan_out)
    elif rule == "glorot":
        limit = math.sqrt(6 / (fan_in + fan_out))
        drawn = generator.uniform(-limit, limit, param.shape)
    elif rule == "recurrent":
        limit = 1 / math.sqrt(float(argument))
        drawn = generator.uniform(-limit, limit, param.shape)
    elif rule == "normal":
        drawn = generator.standard_normal(param.shape) * float(argument)
    else:
        raise ValueError(f"no rule {param.start!r} to start {param.name!r} by")
    return drawn.astype(np.float32)
