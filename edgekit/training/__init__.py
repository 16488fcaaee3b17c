"""Training a family's net: the loop in PyTorch, the metric after each epoch, and the file that comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.datasets import Dataset, open_dataset
from edgekit.errors import InputError, UnavailableError
from edgekit.family import Family
from edgekit.making import MadeModel, about_model, check_output, make_file, named_size, require_form
from edgekit.making.origins import Weights
from edgekit.network.torch_form import torch_weights
from edgekit.scoring import score
from edgekit.training.checkpoint import Checkpoint
from edgekit.training.loop import Epoch, Loop, fixed_torch
from edgekit.training.step import run_of
from edgekit.training.task import Task

__all__ = ["DEFAULT_THREADS", "Epoch", "TrainingReport", "train"]

DEFAULT_THREADS = 1
"""Another number adds up in another order, and so gives other weights. Tiny nets gain little from a second thread, and
where other programs keep a core busy the threads wait for one another."""


@dataclass(frozen=True)
class TrainingReport:
    """What `train` did.

    Attributes:
        model: ``family:size``.
        data: Name of the data set.
        data_sha256: Of its samples.
        labels: Classes it learnt.
        start: What it started from, in words.
        anew: Weights of `start` that did not fit, and so were drawn from the seed.
        metric: Name of the metric.
        score: Of the test data, at the end.
        epochs: One after the other; each judged by samples held out from the training data.
        seconds_s: Of all epochs together, also of those before an interruption.
        made: The file.
    """

    model: str
    data: str
    data_sha256: str
    labels: tuple[str, ...]
    start: str
    anew: tuple[str, ...]
    metric: str
    score: float
    epochs: tuple[Epoch, ...]
    seconds_s: float
    seed: int
    threads: int
    made: MadeModel

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "epochs": [epoch.to_json() for epoch in self.epochs], "made": self.made.to_json()}


def train(
    family: str | Family,
    size: str = "tiny",
    *,
    data: str | Path | Dataset | None = None,
    init: str | Path | None = None,
    output: str | Path,
    seed: int = 0,
    epochs: int | None = None,
    resume: bool = False,
    force: bool = False,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> TrainingReport:
    """Trains a net of `family` and writes it.

    After each epoch its state is in the folder ``OUTPUT.training``; an interrupted run that is resumed ends with the
    very weights it would have had. The folder is removed when the output is written.

    Args:
        family: A family or its name, also with a size: ``"resnet:tiny"``.
        size: Of the family, where the name says none.
        data: A data set, its name, or a folder or file of one's own; by default what the family is trained on.
        init: Weights to start from: ``"tiny"`` for those that ship, or a file; by default drawn from `seed`.
        output: A .safetensors file for the weights alone, or a model in any form `make_model` writes.
        seed: Of the starting weights, the order of the samples, and all else that is random.
        epochs: Passes over the data; by default the family's own.
        resume: Go on from the checkpoint of an interrupted run.
        force: Replace an output, and forget a checkpoint.
        threads: Of PyTorch; 1 by default, whatever the machine, for weights depend on it.
        say: Called with a line after each epoch.
        progress: Called with updates done, updates in all, and what is known so far.

    Raises:
        InputError: The data do not fit the family, the output exists, or what is to be resumed was another run.
        UnavailableError: PyTorch is not installed, or the data set's package.
        UnsupportedError: There is no such family, size or form.
    """
    _require_torch()
    chosen, size = named_size(family, size)
    place, say = Path(output), say or (lambda line: None)
    form = check_output(place, force=force)
    require_form(chosen, form)
    dataset = data if isinstance(data, Dataset) else open_dataset(data or chosen.data, say=say)
    task = Task(chosen, size, dataset, seed, epochs or chosen.training.epochs, threads or DEFAULT_THREADS)
    start = task.start(init)
    checkpoint = Checkpoint(place, task.settings(start))
    if checkpoint.exists and not (resume or force):
        raise InputError(f"{checkpoint.folder} holds an unfinished run", hint="--resume goes on, --force starts anew")
    with fixed_torch(seed, task.threads):
        loop = task.loop(start, checkpoint, say, progress or (lambda *_: None))
        _run(loop, resume, say)
        say(f"judging by the {len(task.test)} test samples")
        reached = score(chosen, run_of(loop.module), task.test, task.signature, processing=task.processing)
    about = about_model(chosen, size, task.processing, task.facts(start, reached))
    made = make_file(task.network, torch_weights(loop.module, task.network), place, form, about, force=force)
    checkpoint.remove()
    return _report(task, start, loop, reached, made)


def _report(task: Task, start: Weights, loop: Loop, reached: float, made: MadeModel) -> TrainingReport:
    return TrainingReport(
        model=f"{task.family.name}:{task.size}",
        data=task.dataset.name,
        data_sha256=task.data_sha256,
        labels=task.labels,
        start=start.origin,
        anew=start.anew,
        metric=task.family.metric,
        score=reached,
        epochs=tuple(loop.epochs),
        seconds_s=round(sum(epoch.seconds_s for epoch in loop.epochs), 2),
        seed=task.seed,
        threads=task.threads,
        made=made,
    )


def _run(loop: Loop, resume: bool, say: Callable[[str], None]) -> None:
    """Trains to the end, or leaves what `resume` goes on from and says so."""
    if resume and loop.checkpoint.exists:
        loop.resume()
        say(f"going on after epoch {len(loop.epochs)} of {loop.num_epochs}")
    elif resume:
        say(f"there is nothing to resume in {loop.checkpoint.folder}: starting at epoch 1")
    try:
        loop.run()
    except KeyboardInterrupt:
        if loop.checkpoint.exists:
            say(f"stopped after epoch {len(loop.epochs)} of {loop.num_epochs}; the same command with --resume goes on")
        raise


def _require_torch() -> None:
    try:
        import torch  # noqa: F401 - whether it can be imported is the question
    except ImportError as error:
        raise UnavailableError(
            "training needs PyTorch, which is not installed", hint="pip install 'edgekit-ml[torch]'"
        ) from error
