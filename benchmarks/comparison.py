"""How often a comparison of latencies is wrong: a file against itself, and against one that has 5 % more to do.

    python benchmarks/comparison.py [--repeats 50] [--engine tflite] [--max-time 20] [--json]

The net is a chain of 40 equal convolutions, under a millisecond in one thread; the slower file has 42 of them, which
is 5 % more work and nothing else. In turns the net is compared with itself and the slower one with it, by what `edgekit
compare`, and the gate of `profile --baseline`, use: pairs of fresh processes, rounds in drawn order, an interval over
the pairs. A false alarm is "slower" or "faster" of the net against itself; found is "slower" of the other.

Exits with 1 when more than 5 % of the repeats are false alarms, or fewer than 95 % of the slow-downs are found. On a
machine that does other work it finds little: what it says then is "unclear".
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgekit.measuring.candidates import find_candidates, read_subject
from edgekit.measuring.chosen import ChosenFeeds
from edgekit.measuring.pairs import Contestant, Duel, hold_duel
from edgekit.testing.tflite_writer import TfliteWriter

LAYERS, MORE = 40, 42
CHANNELS, SIZE = 16, 28
MOST_ALARMS, LEAST_FOUND = 0.05, 0.95


@dataclass(frozen=True)
class Repeat:
    """One comparison.

    Attributes:
        kind: ``"itself"`` or ``"slower"``.
        process_spread: Standard deviation of a process around the others, as a share, from the pairs' ratios.
        round_spread: The same of the ratio of two neighboring rounds in a pair.
    """

    kind: str
    verdict: str
    ratio: float
    low: float
    high: float
    pairs: int
    seconds: float
    process_spread: float
    round_spread: float


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, (2 / 9 / CHANNELS) ** 0.5, (CHANNELS, 3, 3, CHANNELS)).astype("float32") for _ in range(MORE)]


def write_tflite(path: Path, layers: int) -> Path:
    writer = TfliteWriter()
    shape = (1, SIZE, SIZE, CHANNELS)
    first = last = writer.tensor("x", shape)
    bias = writer.tensor("b", (CHANNELS,), data=np.zeros(CHANNELS, "float32"))
    for number, weight in enumerate(weights()[:layers]):
        kernel = writer.tensor(f"w{number}", weight.shape, data=weight)
        before, last = last, writer.tensor(f"y{number}", shape)
        writer.op("CONV_2D", [before, kernel, bias], [last], options="Conv2DOptions",
                  strideH=1, strideW=1, fusedActivationFunction=1)  # fmt: skip
    path.write_bytes(writer.finish([first], [last]))
    return path


def write_onnx(path: Path, layers: int) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, last = [], [], "x"
    for number, weight in enumerate(weights()[:layers]):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(weight.transpose(0, 3, 1, 2)), f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"y{number}"]))
        last = f"y{number}"
    sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE]) for n in ("x", last)]
    graph = helper.make_graph(nodes, "chain", sides[:1], sides[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def contestant(path: Path, engine: str) -> Contestant:
    subject = read_subject(path)
    (candidate,), _ = find_candidates(subject, engine, 1)
    return Contestant(candidate, path, ChosenFeeds(subject, None, 0).choose)


def repeat(kind: str, first: Contestant, second: Contestant, seed: int, max_time_s: float) -> Repeat:
    duel = hold_duel(
        first, second, is_settled=lambda duel: duel.contrast.verdict != "unclear", max_time_s=max_time_s, seed=seed
    )
    found = duel.contrast
    return Repeat(
        kind, found.verdict, found.ratio, found.low, found.high, found.pairs, round(duel.seconds, 2), *spreads(duel)
    )


def spreads(duel: Duel) -> tuple[float, float]:
    """Of a process and of a round's ratio; what rounds alone scatter a pair's median by is taken off the former."""
    logs = [np.log([np.median(a) / np.median(b) for a, b in zip(*pair, strict=True)]) for pair in duel.pairs]
    within = float(np.median([one.std(ddof=1) for one in logs]))
    seen = float(np.std([np.median(one) for one in logs], ddof=1)) if len(logs) > 1 else 0.0
    by_rounds = within * math.sqrt(math.pi / 2 / len(logs[0]))  # of a median of so many
    return math.sqrt(max(seen**2 - by_rounds**2, 0) / 2), within


def summary(repeats: Sequence[Repeat]) -> dict[str, float | int | dict[str, int]]:
    return {
        "verdicts": dict(Counter(one.verdict for one in repeats)),
        "ratio": round(float(np.median([one.ratio for one in repeats])), 4),
        "half_width": round(float(np.median([(one.high - one.low) / 2 for one in repeats])), 4),
        "pairs": int(np.median([one.pairs for one in repeats])),
        "seconds": round(float(np.median([one.seconds for one in repeats])), 1),
        "process_spread": round(float(np.median([one.process_spread for one in repeats])), 4),
        "round_spread": round(float(np.median([one.round_spread for one in repeats])), 4),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--engine", choices=["tflite", "onnx"], default="tflite")
    parser.add_argument("--max-time", type=float, default=20.0, help="seconds for one comparison")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    write = write_tflite if options.engine == "tflite" else write_onnx
    repeats: list[Repeat] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        paths = [write(Path(name, f"chain{layers}.{options.engine}"), layers) for layers in (LAYERS, MORE)]
        net, slower = (contestant(path, options.engine) for path in paths)
        for seed in range(options.repeats):
            for kind, first in (("itself", net), ("slower", slower)):
                one = repeat(kind, first, net, seed, options.max_time)
                repeats.append(one)
                said = f"x{one.ratio:.3f} ({one.low:.3f} to {one.high:.3f})"
                print(f"{seed + 1}/{options.repeats} {kind}: {one.verdict} {said}, {one.pairs} pairs, {one.seconds} s",
                      file=sys.stderr)  # fmt: skip
    by_kind = {kind: summary([one for one in repeats if one.kind == kind]) for kind in ("itself", "slower")}
    alarms = sum(one.kind == "itself" and one.verdict in ("slower", "faster") for one in repeats)
    found = sum(one.kind == "slower" and one.verdict == "slower" for one in repeats)
    if options.json:
        print(json.dumps({**by_kind, "alarms": alarms, "found": found, "repeats": [asdict(one) for one in repeats]}))
    else:
        for kind, said in by_kind.items():
            print(f"{kind:8}", ", ".join(f"{name} {value}" for name, value in said.items()))
        print(f"false alarms {alarms} of {options.repeats}, slow-downs found {found} of {options.repeats}, "
              f"{time.monotonic() - start:.0f} s")  # fmt: skip
    return int(alarms > MOST_ALARMS * options.repeats or found < LEAST_FOUND * options.repeats)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
