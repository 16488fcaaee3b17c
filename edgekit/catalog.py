"""The models there are, as plain data: families to make and train, and published files that are known by content."""

from __future__ import annotations

from typing import Any

from edgekit.family import Family
from edgekit.registry import FAMILIES, MODELS

__all__ = ["list_models"]


def list_models() -> list[dict[str, Any]]:
    """Families, which can be made in several sizes and forms, then published files that are known by content."""
    names = ("name", "title", "task", "package", "license", "labels", "metrics", "notes")
    published = [
        {
            "kind": "published file",
            **{name: getattr(card, name) for name in names},
            "files": [f.path for f in card.files],
        }
        for _, card in MODELS
    ]
    return [*(_family(family) for _, family in FAMILIES), *published]


def _family(family: Family) -> dict[str, Any]:
    names = ("name", "title", "task", "frameworks", "license", "paper", "data", "metric", "score", "tolerance", "notes")
    return {
        "kind": "family",
        **{name: getattr(family, name) for name in names},
        "sizes": list(family.sizes),
        "published": family.published,
        "labels": family.processing.labels,
        "hubs": [{"size": hub.size, "kind": hub.kind, "name": hub.name} for hub in family.hubs],
        "weights": ["tiny"] if family.tiny_weights.is_file() else [],
    }
