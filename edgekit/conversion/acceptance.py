"""Whether a written file may enter a bundle: it is run in a child and its answers are held against the source's."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.conversion.reference import Reference, with_sizes
from edgekit.converter import Feeds, SourceModel, Written
from edgekit.errors import ConversionError
from edgekit.opening import own_runtimes
from edgekit.parity import OutputParity, Parity, compare, largest_difference, match_outputs, value_range
from edgekit.recipe import DYNAMIC, STATIC, Recipe
from edgekit.registry import RUNTIMES
from edgekit.spec import Signature
from edgekit.trial import Trial, try_file

__all__ = ["Accepted", "accept"]

MOVES = 4
"""So many times as far as the source's own answer moves by a last bit of its input a file may be from it."""

LEAST_SHARE = 0.01
"""Of the multiplications of a file called int8 so many are to run in integers."""

FAR = 10
"""So many times a recipe's limit random feeds may show where there are real ones: no input reaches those corners."""


@dataclass(frozen=True)
class Accepted:
    """A file that passed, with what was seen.

    Attributes:
        trial: What it did in the child.
        runtime: The runtime it was tried with.
        output_names: For each of the source's output names, the file's.
        parity: Against the source, on real data where there is some, on random feeds otherwise.
        random_parity: Against the source on random feeds.
    """

    trial: Trial
    runtime: str
    output_names: dict[str, str]
    parity: Parity
    random_parity: Parity

    def facts(self) -> dict[str, Any]:
        """What the bundle records of it."""
        return {
            "int8_macs_share": self.trial.int8_macs_share,
            "parity": self.parity.to_json(),
            "parity_random": self.random_parity.to_json(),
            "verified_with": {
                "runtime": self.runtime,
                "engine": self.trial.version,
                "precision": self.trial.precision,
                "machine": platform.machine(),
            },
            "shapes": {spec.name: list(spec.shape) for spec in self.trial.signature.inputs},
        }

    def tolerance(self, expected: Sequence[Mapping[str, np.ndarray]], places: Sequence[int]) -> dict[str, float]:
        """Largest difference a golden test of this file may show, for each output.

        Twice what was seen here, for engines round differently on other processors, and never less than 1e-4 of the
        output's range.
        """
        limits = {}
        for name, theirs in self.output_names.items():
            want = [np.asarray(expected[i][name], dtype="float64") for i in places]
            have = [np.asarray(self.trial.outputs[i][theirs], dtype="float64") for i in places]
            worst = max(map(largest_difference, want, have), default=0.0)
            numbers = np.concatenate([w[np.isfinite(w)] for w in want])
            spread = value_range(numbers) if numbers.size else 1.0
            limits[name] = float(f"{2 * worst + 1e-4 * spread:.6g}")
        return limits


def accept(
    written: Written,
    format: str,
    recipe: Recipe,
    source: SourceModel,
    reference: Reference,
    *,
    runtime: str | None = None,
    precision: str = "fp32",
) -> Accepted:
    """Runs a written file and holds it against the source.

    Args:
        written: The file.
        format: Of it.
        recipe: It was made by; says how near it is to be.
        source: What it is held against.
        reference: Its answers.
        runtime: What runs it; by default the first whose own format it is.
        precision: Arithmetic asked for, for float operations.

    Raises:
        ConversionError: It does not run, gives other shapes, or is further from the source than the recipe allows.
    """
    runtime = runtime or next(iter(own_runtimes(format)), "")
    if not runtime:
        raise ConversionError(f"no runtime is for {format} files, so what was written cannot be verified")
    RUNTIMES.get(runtime).probe().require(f"the {runtime} runtime, needed to verify {format} files,")
    takes = with_sizes(source.signature, written.sizes)
    places = [i for i, feed in enumerate(reference.feeds) if _fits(takes, feed)]
    feeds, answers = [reference.feeds[i] for i in places], [reference.answers[i] for i in places]
    inputs, known = source.signature.inputs, written.input_names
    trial = try_file(written.files[0], runtime, feeds, inputs=inputs, input_names=known, precision=precision)
    names = dict(written.output_names) or match_outputs(answers, trial.outputs)
    outputs = [{ours: answer[theirs] for ours, theirs in names.items()} for answer in trial.outputs]
    real = sum(i < len(reference.real) for i in places)
    random_parity = compare(answers[real:], outputs[real:], data="fixed random feeds")
    parity = compare(answers[:real], outputs[:real], data=reference.data) if real else random_parity
    accepted = Accepted(trial, runtime, names, parity, random_parity)
    _judge(accepted, recipe, source, reference)
    return accepted


def _fits(signature: Signature, feed: Feeds) -> bool:
    return all(spec.accepts_shape(np.shape(feed[spec.name])) for spec in signature.inputs)


def _judge(accepted: Accepted, recipe: Recipe, source: SourceModel, reference: Reference) -> None:
    share = accepted.trial.int8_macs_share
    if recipe.precision in (*STATIC[:1], *DYNAMIC) and share is not None and share < LEAST_SHARE:
        raise ConversionError(
            f"no more than {share:.1%} of its multiplications run in integers in {accepted.trial.version}"
        )
    # Engines round integers differently, and some compute on in float: a source that came quantized is held to what
    # its own precision is held to.
    limits = recipe if source.precision == "fp32" else Recipe.named(source.precision)
    if limits.max_relative is not None:
        allowed = limits.max_relative
        if reference.real:
            _require_near(accepted.parity, allowed, reference.real_moves, recipe)
        _require_near(accepted.random_parity, allowed * (FAR if reference.real else 1), reference.random_moves, recipe)
    if limits.min_sqnr_db is not None and accepted.parity.sqnr_db < limits.min_sqnr_db:
        raise ConversionError(
            f"reaches only {accepted.parity.sqnr_db:.1f} dB against the source on {accepted.parity.data}; "
            f"{recipe.name} wants {limits.min_sqnr_db:g} dB"
        )


def _require_near(parity: Parity, allowed: float, moves: Mapping[str, float], recipe: Recipe) -> None:
    def excess(name: str, output: OutputParity) -> float:
        return max(0.0, output.max_abs - MOVES * moves.get(name, 0.0)) / output.range

    worst = max((excess(name, output) for name, output in parity.outputs.items()), default=0.0)
    if worst > allowed:
        raise ConversionError(
            f"differs from the source by {parity.relative:.2g} of the output range on {parity.data}; "
            f"{recipe.name} allows {allowed:g}"
        )
