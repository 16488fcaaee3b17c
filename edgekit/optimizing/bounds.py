"""What a file could take at best, before it is made: a bound that flatters it, so that what it rules out cannot win.

Amdahl's law over multiplications: what a recipe leaves in float takes as long as in the fp32 file of the same engine,
and what it makes integer is given the largest speed-up of any kernel we know. What only stores small weights saves
reading them, from memory far slower than any here, and computes as fp32 does; but products of matrices, whose
activations some engines round in each call all the same (OpenVINO on VNNI, ONNX Runtime with weights of 4 bits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from edgekit.recipe import DYNAMIC, HALF, STATIC, WEIGHT_ONLY, Recipe
from edgekit.target import Placement

__all__ = ["Costs", "best_us", "costs_of"]

INTEGER_SPEED = 16.0
"""Integers over floats: 4 by VNNI (facts/engines 3), 8 to 16 where a matrix unit has both."""

WIDE_SPEED = 4.0
"""Integers of 16 bits over floats: half as many as of 8 bits fit, 2 by VNNI; twice that for floats at their worst."""

_WIDE = "w8a16"

_ROUNDED = ("MatMul", "Gemm")
"""What has kernels that round activations in each call although weights are only stored, where `Placement.dynamic` has
it: targets/generic-x86.json notes that convolutions and recurrent layers have none."""

SLOW_MEMORY = 10e9
"""Bytes a second that weights are read with at worst; 25e9 were measured (facts/engines 3)."""

_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "w8a8": 8, "w8a8-dynamic": 8, "w8a16": 8, "w8": 8, "w4g32": 4, "w4g128": 4}


@dataclass(frozen=True)
class Costs:
    """Of a graph: multiplications by type of operation, and bytes of its weights in fp32."""

    macs: Mapping[str, int]
    weight_bytes: int


def costs_of(hub: Path) -> Costs:
    """What the graph of a hub file costs; operations nobody can count count nothing."""
    from edgekit.graph import clean, load
    from edgekit.graph.cost import costs

    macs: dict[str, int] = {}
    weight_bytes = 0
    for cost in costs(clean(load(hub))):
        macs[cost.op_type] = macs.get(cost.op_type, 0) + (cost.macs or 0)
        weight_bytes += cost.weight_bytes
    return Costs(macs, weight_bytes)


def best_us(recipe: Recipe, placement: Placement | None, costs: Costs, fp32_us: float) -> tuple[float, str]:
    """The least a file of this recipe could take where the fp32 file of its engine takes `fp32_us`, and why."""
    saved = costs.weight_bytes * (1 - _BITS[recipe.precision] / 32) / SLOW_MEMORY * 1e6
    if recipe.precision in WEIGHT_ONLY or recipe.precision == HALF:
        rounds = placement.dynamic if placement is not None and recipe.precision != HALF else ()
        share = _share(costs, [op for op in _ROUNDED if op in rounds])
        computed = _shortened(fp32_us, share, INTEGER_SPEED)
        bound = max(computed - saved, computed * _BITS[recipe.precision] / 32)
        words = f"products of matrices are {share:.0%} of the multiplications" if share else "it computes as fp32 does"
        return bound, f"{words}, and at best it reads smaller weights"
    if recipe.precision not in (*STATIC, *DYNAMIC) or placement is None:
        return fp32_us / INTEGER_SPEED, "its multiplications are at best so much faster"
    share = _share(costs, placement.dynamic if recipe.precision in DYNAMIC else placement.anchors)
    # Weights that are small all the same, such as of embeddings, may still save their reading.
    speed = WIDE_SPEED if recipe.precision == _WIDE else INTEGER_SPEED
    bound = max(_shortened(fp32_us, share, speed) - saved * (1 - share), 0.0)
    bits = " of 16 bits" if recipe.precision == _WIDE else ""
    return bound, f"integers{bits} have {share:.0%} of the multiplications"


def _share(costs: Costs, types: Sequence[str]) -> float:
    """Of the multiplications, those of operations of these types; of a graph in which none can be counted all."""
    total = sum(costs.macs.values())
    covered = sum(n for op, n in costs.macs.items() if any(fnmatchcase(op, pattern) for pattern in types))
    return covered / total if total else float(bool(types))


def _shortened(fp32_us: float, share: float, speed: float) -> float:
    return fp32_us * ((1 - share) + share / speed)
