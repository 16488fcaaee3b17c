"""From the hub graph and a recipe to the graph that is written and its plan; what recipes share is done once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.cache import cache_folder
from edgekit.converter import Feeds
from edgekit.recipe import FLOATS, STATIC, Recipe
from edgekit.target import Placement

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.compress import Effect
    from edgekit.quantize import QuantPlan, Statistics
    from edgekit.quantize.moments import Moments

__all__ = ["Preparation"]

SEEN_SAMPLES = 64
"""Calibration samples given to compression that looks at activations."""


@dataclass
class Preparation:
    """One source's graph under all recipes.

    Attributes:
        hub: Path of the hub file.
        calibration: Gives the calibration feeds from the start, one at a time.
        say: Called with a line at each step.
        identity: Of the calibration feeds; empty keeps nothing of an observation that is interrupted.
    """

    hub: Path
    calibration: Callable[[], Iterator[Feeds]]
    say: Callable[[str], None]
    identity: str = ""
    _made: dict[Hashable, Any] = field(default_factory=dict)

    @cached_property
    def source(self) -> ir.Model:
        """The hub graph, cleaned."""
        from edgekit.graph import clean, load

        return clean(load(self.hub))

    def graph(self, recipe: Recipe) -> ir.Model:
        """The graph as the recipe changes it before anything is rounded."""
        return self._once(("graph", _changes(recipe)), lambda: self._changed(recipe))

    def effects_of(self, recipe: Recipe) -> list[Effect]:
        """What each step of its compression did; empty for a recipe that was not followed."""
        effects: list[Effect] = self._made.get(("effects", repr(recipe.compress)), [])
        return effects

    def statistics(self, recipe: Recipe) -> Statistics:
        """What calibration showed of that graph's activations: once for every format, and every observer it answers."""
        from edgekit.quantize import observe
        from edgekit.quantize.checkpoints import Checkpoint
        from edgekit.quantize.histograms import SOLVERS

        key = ("statistics", _changes(recipe))
        known: Statistics | None = self._made.get(key)
        if known is None or (recipe.observer in SOLVERS and known.observer not in SOLVERS):
            self.say("observing activations on the calibration data")
            kept = Checkpoint(cache_folder() / "observations", self.identity, self.say) if self.identity else None
            known = observe(self.graph(recipe), self.calibration(), observer=recipe.observer, checkpoint=kept)
            self._made[key] = known
        seen, observer = known, recipe.observer
        solved: Statistics = self._once(
            (*key, observer), lambda: replace(seen, ranges=seen.ranges_by(observer), observer=observer)
        )
        return solved

    def plan(self, recipe: Recipe, placement: Placement | None) -> QuantPlan | None:
        """What becomes integer where `placement` says; None for a recipe of floats."""
        if recipe.precisions <= set(FLOATS):
            return None
        assert placement is not None
        key = ("plan", repr(placement), repr(replace(recipe, name="", description="")))
        plan: QuantPlan = self._once(key, lambda: self._planned(recipe, placement))
        return plan

    def finished(self, recipe: Recipe, placement: Placement | None) -> tuple[ir.Model, QuantPlan | None]:
        """The graph that is written and its plan; where the recipe wants it, biases make up for rounded weights."""
        graph, plan = self.graph(recipe), self.plan(recipe, placement)
        if plan is None and placement is not None and placement.palettes and _clusters(recipe):
            from edgekit.compress import store_palettes

            return store_palettes(graph), None
        if plan is None or not recipe.correct_biases:
            return graph, plan
        from edgekit.quantize.correcting import correct_biases

        return correct_biases(graph, {**plan.stored, **plan.weights}, self._moments(recipe)).graph, plan

    def _planned(self, recipe: Recipe, placement: Placement) -> QuantPlan:
        from edgekit.quantize import make_quant_plan
        from edgekit.quantize.planning import round_weights

        statistics = self.statistics(recipe) if not recipe.precisions.isdisjoint(STATIC) else None
        plan = make_quant_plan(self.graph(recipe), placement, recipe, statistics)
        if recipe.rounding == "nearest":
            return plan
        self.say(f"rounding weights by {recipe.rounding}")
        return round_weights(self.graph(recipe), plan, self._moments(recipe, products=True), recipe.rounding)

    def _moments(self, recipe: Recipe, *, products: bool = False) -> Moments:
        from edgekit.quantize.moments import gather

        key = ("moments", _changes(recipe))
        known: Moments | None = self._made.get(key)
        if known is None or (products and not known.products):
            self.say("measuring what operations multiply on the calibration data")
            known = gather(self.graph(recipe), self.calibration(), products=products or recipe.rounding != "nearest")
            self._made[key] = known
        return known

    def _changed(self, recipe: Recipe) -> ir.Model:
        graph = self.source
        if recipe.compress:
            from edgekit.compress import compress

            self.say("compressing")
            graph, effects = compress(graph, recipe.compress, feeds=list(islice(self.calibration(), SEEN_SAMPLES)))
            self._made["effects", repr(recipe.compress)] = effects
        if recipe.equalize:
            from edgekit.quantize.equalizing import equalize

            graph = equalize(graph)
        if recipe.smooth is not None:
            from edgekit.graph import clean
            from edgekit.graph.fusing import fuse
            from edgekit.quantize.moments import gather
            from edgekit.quantize.smoothing import smooth

            graph = clean(fuse(graph))
            self.say("measuring what products multiply on the calibration data")
            graph = smooth(graph, gather(graph, self.calibration(), products=False), recipe.smooth)
        return graph

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _changes(recipe: Recipe) -> Hashable:
    """What of a recipe changes the graph."""
    return repr(recipe.compress), recipe.equalize, recipe.smooth


def _clusters(recipe: Recipe) -> bool:
    return any(step["method"] == "cluster" for step in recipe.compress)
