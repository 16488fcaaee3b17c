"""Compression at the hub: graph in, graph out, one file per method."""

from __future__ import annotations

from edgekit.compress.channels import ChannelPlan, apply_channels, cut_arrays, plan_channels, prune_channels
from edgekit.compress.clustering import cluster, store_palettes
from edgekit.compress.factorizing import factorize
from edgekit.compress.finetuning import finetune
from edgekit.compress.pruning import prune_magnitude, prune_n_m
from edgekit.compress.steps import METHODS, Effect, compress, read_steps

__all__ = [
    "METHODS",
    "ChannelPlan",
    "Effect",
    "apply_channels",
    "cluster",
    "compress",
    "cut_arrays",
    "factorize",
    "finetune",
    "plan_channels",
    "prune_channels",
    "prune_magnitude",
    "prune_n_m",
    "read_steps",
    "store_palettes",
]
