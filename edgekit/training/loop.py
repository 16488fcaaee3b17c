"""The loop over epochs: the same seed, data, threads and versions give the same weights, also after an interruption."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgekit.errors import InputError, UnsupportedError
from edgekit.family import Family, Run, TrainingStep
from edgekit.training.checkpoint import Checkpoint
from edgekit.training.material import Material
from edgekit.training.step import Supervised, run_of, tensors

__all__ = ["Epoch", "Loop", "fixed_torch"]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data.

    Attributes:
        number: From 1.
        losses: Means over its updates, by name; ``"loss"`` of the usual step.
        held_out: After it, of the samples held out from the training data: the metric by its name, or their loss.
        seconds_s: How long it took, judging included.
    """

    number: int
    losses: dict[str, float]
    held_out: dict[str, float]
    seconds_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def fixed_torch(seed: int, threads: int) -> Iterator[None]:
    """Within it PyTorch draws from `seed`, uses so many threads, and refuses what differs from run to run."""
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])


@dataclass
class Loop:
    """A module being trained.

    Attributes:
        scorer: From what runs the module to figures of the held-out part.
        describe: From an epoch to a line for people.
        progress: Called with updates done, updates in all, and what is known so far.
    """

    family: Family
    module: Any
    material: Material
    scorer: Callable[[Run], dict[str, float]]
    checkpoint: Checkpoint
    num_epochs: int
    seed: int
    describe: Callable[[Epoch], str]
    say: Callable[[str], None]
    progress: Callable[[int, int, str], None]
    epochs: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        make = self.family.training.make_step
        self._step: TrainingStep = (
            make(self.module, self.family, self.seed) if make else Supervised(self.module, self.family.training)
        )
        self._generator = np.random.default_rng(self.seed)
        self._in_epoch = self.material.num_batches(self.family.training.batch_size)

    def resume(self) -> None:
        """Takes up where the checkpoint was left. Raises InputError or ArtifactError where that is not possible."""
        import torch

        state = self.checkpoint.load()
        if not hasattr(self._step, "load_state_dict"):
            raise UnsupportedError(
                f"the training of {self.family.name} keeps no state to resume from", hint="--force trains anew"
            )
        self.module.load_state_dict(state["module"])
        self._step.load_state_dict(state["step"])
        torch.set_rng_state(state["torch_generator"])
        self._generator.bit_generator.state = json.loads(state["generator"])
        self.epochs = [Epoch(**epoch) for epoch in json.loads(state["epochs"])]

    def run(self) -> None:
        """Trains to the last epoch, leaving a checkpoint after each. Raises InputError when the loss is no number."""
        while len(self.epochs) < self.num_epochs:
            start = time.monotonic()
            losses = self._train_once()
            judged = self.scorer(run_of(self.module))
            epoch = Epoch(len(self.epochs) + 1, losses, judged, round(time.monotonic() - start, 2))
            self.epochs.append(epoch)
            self._save()
            self.say(self.describe(epoch))

    def _train_once(self) -> dict[str, float]:
        total, sums = self.num_epochs * self._in_epoch, dict[str, float]()
        self.module.train()
        done = len(self.epochs) * self._in_epoch
        for feeds, targets in self.material.batches(self.family, self._generator):
            shown = self.describe(self.epochs[-1]) if self.epochs else f"epoch 1/{self.num_epochs}"
            self.progress(done, total, shown)
            if hasattr(self._step, "at"):
                self._step.at(done / total)
            for name, value in self._step(tensors(feeds), tensors(targets)).items():
                if not math.isfinite(value):
                    raise InputError(
                        f"{name} became {value} in epoch {len(self.epochs) + 1}",
                        hint="are the data prepared as the net expects them? a smaller learning rate may help too",
                    )
                sums[name] = sums.get(name, 0.0) + value
            done += 1
        self.module.eval()
        return {name: value / self._in_epoch for name, value in sums.items()}

    def _save(self) -> None:
        import torch

        state = self._step.state_dict() if hasattr(self._step, "state_dict") else {}
        self.checkpoint.save(
            {
                "module": self.module.state_dict(),
                "step": state,
                "torch_generator": torch.get_rng_state(),
                "generator": json.dumps(self._generator.bit_generator.state),
                "epochs": json.dumps([epoch.to_json() for epoch in self.epochs]),
            }
        )
