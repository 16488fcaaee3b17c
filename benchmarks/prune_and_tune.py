"""More than half of a net's multiply-accumulates left out, and the accuracy won back: what it loses, what it gains.

    python benchmarks/prune_and_tune.py [--model resnet:tiny] [--macs 0.45] [--trials 8e-3x1500] [--json]

The planner chooses channels on the net's graph; the same plan cuts its PyTorch module, which then learns from what the
net as it was answers, and from the labels. Each trial, a learning rate and a number of steps, is judged by every tenth
digit of the training data, which none learns from, as it is and moved about in ways that are the same for all. The best
one is then held against the net as it was: on the test data, which nothing was chosen by, once in PyTorch and once in
each of the three formats that `edgekit.convert` makes of it; and by its latency. That is CPU time of one thread: blocks
of calls of the file before and the file after take turns within a process, each pair gives one ratio, and half of the
processes open the one first, half the other.

Exits with 1 when more than 0.3 points of the metric are lost in PyTorch or in any format, when more
multiply-accumulates are left than were asked for, or when an engine is not 1.6 times as fast in the median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from _roads_places import HERE, run

import edgekit
from edgekit.bundle import Bundle
from edgekit.compress import ChannelPlan, apply_channels, finetune, plan_channels
from edgekit.datasets import open_dataset
from edgekit.family import Batch, Run
from edgekit.graph import load, save
from edgekit.making import find_model
from edgekit.named_files import file_of
from edgekit.network.torch_form import to_torch
from edgekit.opening import open_session
from edgekit.runtime import EngineOptions
from edgekit.samples import Samples
from edgekit.scoring import make_scorer
from edgekit.training.loop import fixed_torch
from edgekit.training.material import Material, held_out, stack, trained_on
from edgekit.training.step import mean_loss, run_of, tensors

LOSS_LIMIT = 0.003
SPEED_LIMIT = 1.6
TRIALS = "8e-3x1500"
MACS = 0.45
"""At 0.5 one layer of resnet:tiny keeps 40 channels, no multiple of 16, and OpenVINO is 1.59 times as fast."""
MULTIPLE = 0
LABELS_WEIGHT = 0.1
"""What the labels count beside the answers of the net as it was."""
MOVED = 20
"""Times each held-out sample is judged moved about: 380 of them as they are tell trials apart by chance alone."""
PROCESSES = 4
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Trial:
    """One way to tune, and the training loss of the samples held out, moved about; lower is better."""

    learning_rate: float
    steps: int
    held_out_loss: float = float("nan")
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Speed:
    """One engine: medians in milliseconds, and median and quartiles of how many times as fast a pair was."""

    engine: str
    before_ms: float
    after_ms: float
    times: float
    times_low: float
    times_high: float
    rounds: int


@dataclass(frozen=True)
class Result:
    """All figures.

    Attributes:
        scores: On the test data, by who computes: ``"torch"`` or an engine; before and after.
        untuned: The same figure with fewer channels and nothing learnt.
    """

    model: str
    metric: str
    samples: int
    macs: tuple[int, int]
    parameters: tuple[int, ...]
    seed: int
    trials: list[Trial]
    chosen: Trial
    untuned: float
    scores: dict[str, tuple[float, float]]
    speeds: list[Speed]


class Net:
    """A net of ours with its weights as they ship, and its data."""

    def __init__(self, name: str) -> None:
        known = find_model(name)
        self.name, self.family, self.processing = name, known.family, known.processing
        self.signature = known.network.signature()
        self.module = to_torch(known.network, known.weights.arrays)
        data = open_dataset(self.family.data)
        self.test, train = data.samples("test"), data.samples("train")
        self.learnt, self.held = self._stacked(trained_on(train)), self._stacked(held_out(train))
        self.moved = self._moved()

    def _stacked(self, samples: Samples) -> Material:
        return stack(self.family, samples, self.signature, self.processing, self.processing.labels)

    def _moved(self) -> Material:
        """The samples held out, as they are and as the family's training moves them."""
        generator = np.random.default_rng(0)
        augment = self.family.training.augment
        pairs = [(self.held.feeds, self.held.targets)]
        if augment is not None:
            pairs += [augment(dict(self.held.feeds), dict(self.held.targets), generator) for _ in range(MOVED)]
        feeds, targets = (_joined([pair[side] for pair in pairs]) for side in (0, 1))
        return replace(self.held, feeds=feeds, targets=targets)

    def loss(self, answers: Any, targets: Batch) -> Any:
        return LABELS_WEIGHT * self.family.training.loss({self.module.output_names[0]: answers}, targets)

    def held_out_loss(self, module: Any) -> float:
        return mean_loss(self.family.training.loss, run_of(module), self.moved)

    def score(self, compute: Run, signature: Any = None) -> float:
        """On the test data."""
        return make_scorer(self.family, self.test, signature or self.signature, self.processing)(compute)

    def tuned(self, plan: ChannelPlan, learning_rate: float, steps: int, seed: int, say: Callable[[str], None]) -> Any:
        return finetune(
            self.module,
            Lesson(self, seed),
            channels=plan,
            loss=self.loss,
            steps=steps,
            learning_rate=learning_rate,
            seed=seed,
            say=say,
        )


class Lesson:
    """Batches as the family's training makes them, the same ones in the same order for every trial."""

    def __init__(self, net: Net, seed: int) -> None:
        self._net = net
        self._generator = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        for feeds, targets in self._net.learnt.batches(self._net.family, self._generator):
            yield tensors(feeds), tensors(targets)


def _joined(parts: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def tried(net: Net, plan: ChannelPlan, asked: argparse.Namespace, folder: Path) -> tuple[list[Trial], Trial, Any]:
    """All trials judged, the best of them, and its module. The folder keeps each by what it was told."""
    done: list[tuple[Trial, Any]] = []
    for trial in trials_of(asked.trials):
        name = f"{net.name}-{asked.macs:g}-{asked.multiple}-{trial.learning_rate:g}x{trial.steps}-{asked.seed}"
        file = folder / f"{name.replace(':', '-')}.json"
        if not file.exists():
            judged, module = taught(net, plan, trial, asked.seed)
            torch.save(module, file.with_suffix(".pt"))
            file.write_text(json.dumps(asdict(judged)), encoding="utf-8")
        judged = Trial(**json.loads(file.read_text(encoding="utf-8")))
        shown(f"{judged}")
        done.append((judged, torch.load(file.with_suffix(".pt"), weights_only=False)))
    best, module = min(done, key=lambda pair: pair[0].held_out_loss)
    return [trial for trial, _ in done], best, module


def taught(net: Net, plan: ChannelPlan, trial: Trial, seed: int) -> tuple[Trial, Any]:
    started = time.process_time()
    module = net.tuned(plan, trial.learning_rate, trial.steps, seed, shown)
    took = round(time.process_time() - started, 1)
    return replace(trial, held_out_loss=round(net.held_out_loss(module), 5), cpu_s=took), module


def shown(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def written(net: Net, module: Any, folder: Path) -> dict[str, Path]:
    """The file of every format, by format, after `edgekit.convert` has held each against the module."""
    example = tuple(tensors({name: net.held.feeds[name][:2] for name in module.input_names}).values())
    edgekit.convert(module, folder, example_inputs=example, precision="fp32", force=True)
    bundle = Bundle.open(folder)
    return {variant.format: bundle.root / variant.files[0].path for variant in bundle.variants}


def score_of_file(net: Net, path: Path, engine: str) -> float:
    """On the test data, one at a time: a file calls its outputs as it likes, the processing as the net does."""
    names = net.module.output_names
    with open_session(path, engine, engine, EngineOptions(threads=1))[1] as session:
        return net.score(
            lambda feeds: dict(zip(names, session.run(dict(feeds)).values(), strict=True)), session.signature
        )


def race(engine: str, before: Path, after: Path, feeds: Path, seconds: float) -> Speed:
    found: dict[str, list[float]] = {"ours_ms": [], "other_ms": []}
    for turn in range(PROCESSES):
        first = "ours" if turn % 2 else "other"
        told = ["race", str(after), str(before), str(feeds), str(seconds / PROCESSES), "1000", first]
        done = run(HERE, "_roads_engines.py", told, timeout_s=TIMEOUT_S)
        if done.returncode:
            raise SystemExit(f"{engine}: {done.stderr.strip().splitlines()[-1:]}")
        for side, values in json.loads(done.stdout.strip().splitlines()[-1]).items():
            found[side] += values
    ratios = [was / now for was, now in zip(found["other_ms"], found["ours_ms"], strict=True)]
    low, middle, high = (round(value, 3) for value in statistics.quantiles(ratios, n=4))
    was, now = (round(statistics.median(found[side]), 4) for side in ("other_ms", "ours_ms"))
    return Speed(engine, was, now, middle, low, high, len(ratios))


def untuned(net: Net, graph: ir.Model, plan: ChannelPlan, folder: Path) -> float:
    """On the test data: the net's graph cut as the plan says, nothing learnt."""
    path = folder / "untuned.onnx"
    save(apply_channels(graph, plan), path)
    return score_of_file(net, path, "onnx")


def measure(net: Net, asked: argparse.Namespace, folder: Path) -> Result | None:
    """None where the trials were all that was asked for: the test data are not looked at then."""
    graph = load(file_of(net.name))
    plan = plan_channels(graph, macs=asked.macs, multiple=asked.multiple or None)
    trials, chosen, small = tried(net, plan, asked, folder)
    if asked.only_tune:
        return None
    counts = tuple(sum(part.numel() for part in module.parameters()) for module in (net.module, small))
    scores = {"torch": (net.score(run_of(net.module)), net.score(run_of(small)))}
    speeds = []
    before, after = written(net, net.module, folder / "was.edge"), written(net, small, folder / "is.edge")
    np.savez(folder / "feeds.npz", **{name: array[:1] for name, array in net.held.feeds.items()})  # type: ignore[arg-type]
    for engine in sorted(before):
        shown(f"{engine}: {net.family.metric} and latency")
        scores[engine] = (score_of_file(net, before[engine], engine), score_of_file(net, after[engine], engine))
        speeds.append(race(engine, before[engine], after[engine], folder / "feeds.npz", asked.seconds))
    left, macs = untuned(net, graph, plan, folder), (plan.macs_before, plan.macs_after)
    return Result(
        net.name, net.family.metric, len(net.test), macs, counts, asked.seed, trials, chosen, left, scores, speeds
    )


def bars(result: Result, macs: float) -> list[dict[str, Any]]:
    """What has to hold, each with its figure, and whether it does."""
    share = result.macs[1] / result.macs[0]
    found = [{"name": "MACs left", "value": round(share, 4), "limit": macs, "is_met": share <= macs}]
    for place, (was, now) in result.scores.items():
        lost = round(was - now, 6)
        name = f"{result.metric} lost, {place}"
        found.append({"name": name, "value": lost, "limit": LOSS_LIMIT, "is_met": lost <= LOSS_LIMIT})
    for speed in result.speeds:
        name, is_met = f"times as fast, {speed.engine}", speed.times >= SPEED_LIMIT
        found.append({"name": name, "value": speed.times, "limit": SPEED_LIMIT, "is_met": is_met})
    return found


def table(result: Result, held: list[dict[str, Any]]) -> str:
    share, parameters = (after / before for before, after in (result.macs, result.parameters))
    lines = [
        f"{result.model}: {share:.3f} of {result.macs[0]:,} MACs and {parameters:.3f} of {result.parameters[0]:,} "
        f"parameters left; seed {result.seed}",
        "",
        "| learning rate | steps | loss held out | CPU s |",
        "|---|---|---|---|",
        *(f"| {t.learning_rate:g} | {t.steps} | {t.held_out_loss:.5f} | {t.cpu_s:.0f} |" for t in result.trials),
        "",
        f"Chosen: {result.chosen.learning_rate:g}, {result.chosen.steps} steps. {result.metric} of {result.samples} "
        f"test samples, cut and not tuned: {result.untuned:.3f}",
        "",
        f"| | {result.metric} before | {result.metric} after | ms before | ms after | times as fast (quartiles) |",
        "|---|---|---|---|---|---|",
    ]
    speeds = {speed.engine: told(speed) for speed in result.speeds}
    for place, (was, now) in result.scores.items():
        lines.append(f"| {place} | {was:.3f} | {now:.3f} | {speeds.get(place, '| | |')}")
    lines.append("")
    for bar in held:
        lines.append(f"- {bar['name']}: {bar['value']} (limit {bar['limit']}){'' if bar['is_met'] else ' MISSED'}")
    return "\n".join(lines)


def told(speed: Speed) -> str:
    """Its three columns."""
    times = f"{speed.times:.2f} ({speed.times_low:.2f} to {speed.times_high:.2f})"
    return f"{speed.before_ms:.4f} | {speed.after_ms:.4f} | {times} |"


def trials_of(given: str) -> list[Trial]:
    return [Trial(float(rate), int(steps)) for rate, _, steps in (one.partition("x") for one in given.split(","))]


def main() -> int:
    parser = argparse.ArgumentParser(description="What pruning channels costs and gains once the net has learnt again.")
    parser.add_argument("--model", default="resnet:tiny", help="an image classifier of ours whose weights ship")
    parser.add_argument("--macs", type=float, default=MACS, help="share of multiply-accumulates to leave")
    parser.add_argument("--multiple", type=int, default=MULTIPLE, help="of channels a layer; 0 for the planner's")
    parser.add_argument("--trials", default=TRIALS, help="learning rates and steps to choose from, as RATExSTEPS,...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-tune", action="store_true", help="do no more than the trials; with --folder")
    parser.add_argument("--folder", type=Path, help="keep all files here, and use the trials that are there already")
    parser.add_argument("--seconds", type=float, default=24.0, help="of a race, for each engine")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the tables")
    asked = parser.parse_args()
    if asked.only_tune and asked.folder is None:
        parser.error("--only-tune leaves nothing without --folder")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch, fixed_torch(asked.seed, threads=1):
        folder = (asked.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        result = measure(Net(asked.model), asked, folder)
    if result is None:
        return 0
    held = bars(result, asked.macs)
    if asked.json:
        print(json.dumps({"schema": "edgekit.prune-and-tune", "version": 1, **asdict(result), "bars": held}, indent=1))
    else:
        print(table(result, held))
    return 0 if all(bar["is_met"] for bar in held) else 1


if __name__ == "__main__":
    sys.exit(main())
