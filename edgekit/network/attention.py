"""Attention, as a method that appends it to the record."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.network.record import Param, Record, Tensor

__all__ = ["AttentionLayers", "AttentionNames", "Cache"]


@dataclass(frozen=True)
class AttentionNames:
    """Prefixes of the four projections' weights, as the checkpoint family has them."""

    query: str
    key: str
    value: str
    output: str


@dataclass(frozen=True)
class Cache:
    """Keys and values of earlier steps, [batch, heads, capacity, width], and where this call's steps go.

    Attributes:
        positions: int64 [steps], the place of each step of this call.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor


class AttentionLayers(Record):
    """Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762) of a sequence to itself."""

    def attention(
        self,
        x: Tensor,
        name: str,
        names: AttentionNames,
        *,
        heads: int,
        mask: Tensor | None = None,
        bias: bool = True,
        start: str = "glorot",
    ) -> Tensor:
        """[batch, steps, width] -> the same; `mask` int64 [batch, steps] is 0 where nobody may look."""
        params = self._projections(x, names, heads, heads, bias, start)
        inputs = [x] if mask is None else [x, mask]
        return self.add("attention", inputs, x.shape, name=name, params=params, heads=heads)

    def cached_attention(
        self,
        x: Tensor,
        name: str,
        names: AttentionNames,
        cache: Cache,
        *,
        heads: int,
        key_heads: int,
        rotary_base: float,
        start: str = "normal:0.02",
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Causal attention that remembers: [batch, steps, width], and the cache with this call's steps in it.

        Each of the `key_heads` serves ``heads / key_heads`` queries (Ainslie et al. 2023, arXiv:2305.13245). Queries
        and keys are rotated by position (Su et al. 2021, arXiv:2104.09864), the two halves of a head as pairs.
        A step sees every place of the cache up to its own.
        """
        params = self._projections(x, names, heads, key_heads, False, start)
        shapes = [(x.shape, False), (cache.keys.shape, False), (cache.values.shape, False)]
        inputs = [x, cache.keys, cache.values, cache.positions]
        options = {"heads": heads, "key_heads": key_heads, "rotary_base": rotary_base}
        given = self.add_several("cached_attention", inputs, shapes, name=name, params=params, **options)
        return given[0], given[1], given[2]

    def _projections(
        self, x: Tensor, names: AttentionNames, heads: int, key_heads: int, bias: bool, start: str
    ) -> dict[str, Param]:
        width = x.channels
        inner = width // heads * key_heads
        shapes = {"query": (width, width), "key": (inner, width), "value": (inner, width), "output": (width, width)}
        params = {}
        for part, shape in shapes.items():
            prefix = getattr(names, part)
            params[f"{part}_weight"] = Param(f"{prefix}.weight", shape, start)
            if bias:
                params[f"{part}_bias"] = Param(f"{prefix}.bias", (shape[0],), "zeros")
        return params
