"""What every layer of a bundle's integer variants is, for `inspect --layers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.conversion.preparing import Preparation
from edgekit.conversion.tuning import Tuner
from edgekit.recipe import Recipe
from edgekit.target import Target

__all__ = ["layers_of_variants"]


def layers_of_variants(
    preparation: Preparation, recipes: Mapping[str, tuple[str, Recipe]], target: Target, tuner: Tuner | None
) -> list[dict[str, Any]]:
    """A record for each operation, with its form in every variant; see `edgekit.quantize.layers.layers_of`.

    Args:
        preparation: The graph and its plans.
        recipes: Format and recipe by the name of the variant.
        target: Says where integers go.
        tuner: Of a search, for the sensitivity it measured.
    """
    from edgekit.quantize.layers import join_layers, layers_of

    parts = []
    for name, (format, recipe) in recipes.items():
        plan = preparation.plan(recipe, target.placements.get(format))
        if plan is not None:
            known = tuner.known_sensitivity(recipe) if tuner is not None else None
            parts.append(layers_of(preparation.graph(recipe), {name: plan}, known))
    return join_layers(parts)
