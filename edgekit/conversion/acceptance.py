"""Whether a written file may enter a bundle: it is run in a child and its answers are held against the source's."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgekit.converter import Feeds, SourceModel, Written
from edgekit.errors import ConversionError, EdgekitError
from edgekit.feeds import random_feeds
from edgekit.opening import own_runtimes
from edgekit.parity import Parity, compare, match_outputs, value_range
from edgekit.recipe import Recipe
from edgekit.registry import RUNTIMES
from edgekit.spec import Signature, TensorSpec
from edgekit.trial import Trial, try_file

__all__ = ["Accepted", "Reference", "accept", "make_reference", "open_sizes", "with_sizes"]

RANDOM_FEEDS = 4


@dataclass(frozen=True)
class Reference:
    """The source's own answers, which every file is held against.

    Attributes:
        random: Fixed random feeds; they reach every corner of the arithmetic but look like no real input.
        real: Samples of the user's data, held out from calibration where there are enough.
        random_answers: The source's answers to `random`.
        real_answers: The source's answers to `real`.
        data: What `real` is, in words.
        sizes: Of the source's open sizes other than the batch those that all of `real` share, for files that fix them.
    """

    random: Sequence[Feeds]
    real: Sequence[Feeds]
    random_answers: Sequence[Mapping[str, np.ndarray]]
    real_answers: Sequence[Mapping[str, np.ndarray]]
    data: str
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def feeds(self) -> list[Feeds]:
        return [*self.real, *self.random]

    @property
    def answers(self) -> list[Mapping[str, np.ndarray]]:
        return [*self.real_answers, *self.random_answers]


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
            worst = max((float(np.abs(w - h).max()) for w, h in zip(want, have, strict=True) if w.size), default=0.0)
            spread = value_range(np.concatenate([w.ravel() for w in want])) if any(w.size for w in want) else 1.0
            limits[name] = float(f"{2 * worst + 1e-4 * spread:.6g}")
        return limits


def make_reference(source: SourceModel, real: Sequence[Feeds], data: str, seed: int) -> Reference:
    """Asks the source itself, once, for the answers every file is held against."""
    sizes = _shared_sizes(source.signature, real)
    random, answers = _random_answers(source, source.signature, seed)
    if sizes:
        more, further = _random_answers(source, with_sizes(source.signature, sizes), seed)
        random, answers = [*random, *more], [*answers, *further]
    return Reference(
        random=random,
        real=real,
        random_answers=answers,
        real_answers=[source.run(feed) for feed in real],
        data=data,
        sizes=sizes,
    )


def open_sizes(signature: Signature) -> tuple[str, ...]:
    """Names of the sizes of inputs that are only known when the model runs, but for the batch."""
    inner = [dim for spec in signature.inputs for dim in spec.shape[1:] if isinstance(dim, str)]
    return tuple(dict.fromkeys(inner))


def with_sizes(signature: Signature, sizes: Mapping[str, int]) -> Signature:
    """The signature with numbers for those of its open sizes that `sizes` names."""

    def fixed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(spec, shape=tuple(sizes.get(d, d) if isinstance(d, str) else d for d in spec.shape))
            for spec in specs
        )

    return replace(signature, inputs=fixed(signature.inputs), outputs=fixed(signature.outputs))


def _shared_sizes(signature: Signature, feeds: Sequence[Feeds]) -> dict[str, int]:
    seen: dict[str, set[int]] = {name: set() for name in open_sizes(signature)}
    for feed in feeds:
        for spec in signature.inputs:
            for dim, size in zip(spec.shape, np.shape(feed[spec.name]), strict=True):
                if dim in seen:
                    seen[str(dim)].add(size)
    return {name: found.pop() for name, found in seen.items() if len(found) == 1}


def _random_answers(
    source: SourceModel, signature: Signature, seed: int
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """Random feeds the source takes, and its answers: an integer may be a row of a table that has only two."""
    random = random_feeds(signature, count=RANDOM_FEEDS, seed=seed)
    try:
        return random, [source.run(feed) for feed in random]
    except EdgekitError as error:
        if not any(spec.dtype.startswith(("int", "uint")) for spec in source.signature.inputs):
            raise
        random = random_feeds(signature, count=RANDOM_FEEDS, seed=seed, limit=2)
        answers = [source.run(feed) for feed in random]
        said = str(error).splitlines()[0]
        note = f"integers of the random feeds are 0 and 1, for the source refuses larger ones: {said}"
        source.notes.extend([] if note in source.notes else [note])
        return random, answers


def accept(written: Written, format: str, recipe: Recipe, source: SourceModel, reference: Reference) -> Accepted:
    """Runs a written file and holds it against the source.

    Raises:
        ConversionError: It does not run, gives other shapes, or is further from the source than the recipe allows.
    """
    runtimes = own_runtimes(format)
    if not runtimes:
        raise ConversionError(f"no runtime is for {format} files, so what was written cannot be verified")
    runtime = runtimes[0]
    RUNTIMES.get(runtime).probe().require(f"the {runtime} runtime, needed to verify {format} files,")
    takes = with_sizes(source.signature, written.sizes)
    places = [i for i, feed in enumerate(reference.feeds) if _fits(takes, feed)]
    feeds, answers = [reference.feeds[i] for i in places], [reference.answers[i] for i in places]
    trial = try_file(written.files[0], runtime, feeds, inputs=source.signature.inputs, input_names=written.input_names)
    names = dict(written.output_names) or match_outputs(answers, trial.outputs)
    outputs = [{ours: answer[theirs] for ours, theirs in names.items()} for answer in trial.outputs]
    real = sum(i < len(reference.real) for i in places)
    random_parity = compare(answers[real:], outputs[real:], data="fixed random feeds")
    parity = compare(answers[:real], outputs[:real], data=reference.data) if real else random_parity
    accepted = Accepted(trial, runtime, names, parity, random_parity)
    _judge(accepted, recipe, source)
    return accepted


def _fits(signature: Signature, feed: Feeds) -> bool:
    return all(spec.accepts_shape(np.shape(feed[spec.name])) for spec in signature.inputs)


def _judge(accepted: Accepted, recipe: Recipe, source: SourceModel) -> None:
    if recipe.precision == "w8a8" and accepted.trial.int8_macs_share == 0:
        raise ConversionError(f"no operation of it runs in integers in {accepted.trial.version}")
    # Engines round integers differently, and some compute on in float: a source that came quantized is held to what
    # its own precision is held to.
    limits = recipe if source.precision == "fp32" else Recipe.named(source.precision)
    for parity in (accepted.parity, accepted.random_parity):
        if limits.max_relative is not None and parity.relative > limits.max_relative:
            raise ConversionError(
                f"differs from the source by {parity.relative:.2g} of the output range on {parity.data}; "
                f"{recipe.name} allows {limits.max_relative:g}"
            )
    if limits.min_sqnr_db is not None and accepted.parity.sqnr_db < limits.min_sqnr_db:
        raise ConversionError(
            f"reaches only {accepted.parity.sqnr_db:.1f} dB against the source on {accepted.parity.data}; "
            f"{recipe.name} wants {limits.min_sqnr_db:g} dB"
        )
