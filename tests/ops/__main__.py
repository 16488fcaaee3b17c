"""``python -m tests.ops``: runs the node tests and prints what each road can do."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

os.environ.setdefault("EDGEKIT_CACHE", str(Path(__file__).resolve().parents[2] / ".cache" / "edgekit"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from tests.ops import baseline, roads
from tests.ops.cases import DISPUTED, NAMES, Case, data_folder, load_case, ops_of
from tests.ops.score import Score, classify, fell, passes, summarize
from tests.ops.worker import Verdict, run_road


def main() -> int:
    options = _options()
    if options.update_baseline and (options.only or options.as_shipped):
        print("--update-baseline needs all tests, with their constants", file=sys.stderr)
        return 2
    data = data_folder(say=lambda text: print(text, file=sys.stderr))
    if options.debug:
        case = load_case(data, options.debug, freezes=not options.as_shipped)
        return max(_debug(road, case) for road in options.road or roads.ROADS)
    names = [name for name in NAMES if _takes(name, options.only, ops_of(data)[name])]
    found: dict[str, dict[str, Verdict]] = {}
    worse: dict[str, str] = {}
    for road in options.road or roads.ROADS:
        start = time.perf_counter()
        found[road] = run_road(road, data, names, jobs=options.jobs, freezes=not options.as_shipped)
        kinds = {name: kind for name, (kind, _) in found[road].items()}
        print(_report(road, found[road], summarize(kinds, ops_of(data)), options.quiet))
        print(f"  {time.perf_counter() - start:.0f} s")
        before = {} if options.as_shipped else baseline.read().get(road, {})
        dropped = fell(before, kinds, names)
        worse |= {f"{road} {name}": how for name, how in dropped.items()}
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.update_baseline:
        kinds_by_road = {road: {name: kind for name, (kind, _) in found[road].items()} for road in found}
        baseline.write(kinds_by_road, ops_of(data))
    if worse:
        print("below the baseline:\n" + "\n".join(f"  {name}: {how}" for name, how in worse.items()))
    return 1 if worse else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.ops", description=__doc__)
    parser.add_argument("--road", action="append", choices=roads.ROADS, help="one road; may be repeated")
    parser.add_argument("--only", default="", metavar="PATTERN", help="an op, or a regular expression of test names")
    parser.add_argument("--jobs", type=int, default=0, help="children at a time; by default one a core")
    parser.add_argument("--json", metavar="FILE", help="also writes class and reason of every test")
    parser.add_argument("--debug", metavar="NAME", help="runs one test in this process and prints what happens")
    parser.add_argument("--as-shipped", action="store_true", help="shapes, axes and weights are inputs too")
    parser.add_argument("--quiet", action="store_true", help="figures only, no list of tests")
    parser.add_argument("--update-baseline", action="store_true", help="writes what rose, and edgekit/ops.json")
    return parser.parse_args()


def _takes(name: str, pattern: str, op: str) -> bool:
    return not pattern or op == pattern or re.search(pattern, name) is not None


def _report(road: str, found: dict[str, Verdict], score: Score, is_quiet: bool) -> str:
    def share(part: int, whole: int) -> str:
        return f"{part} of {whole} ({100 * part / max(whole, 1):.1f} %)"

    counts = score.counts
    lines = [
        f"== {road}: strict {share(score.strict, score.undisputed)}, lenient {share(score.lenient, score.undisputed)}, "
        f"with the disputed {share(score.lenient_of_all, score.tests)}",
        f"  ops whole {score.whole} of {len(score.ops)}; refused {counts['refused']}, wrong {counts['wrong']}, "
        f"unrunnable {counts['unrunnable']}, crash {counts['crash']}",
    ]
    if not is_quiet:
        shown = sorted((kind, name, why) for name, (kind, why) in found.items() if kind != "strict")
        marks = Counter(name for name in found if name in DISPUTED)
        lines += [
            f"  {kind:10} {name}{' (disputed)' if marks[name] else ''}: {' '.join(why.split())[:160]}"
            for kind, name, why in shown
        ]
    return "\n".join(lines)


def _debug(road: str, case: Case) -> int:
    import onnx

    print(f"== {road}\n{onnx.printer.to_text(case.model)}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            written = roads.write(road, case, Path(folder))
            got = roads.run(road, case, written)
        except Exception:  # noqa: BLE001 - the traceback is what is asked for
            traceback.print_exc()
            return 1
    np.set_printoptions(precision=5, suppress=True, linewidth=140)
    for output, want in case.expected.items():
        print(f"{output} expected {want.dtype}{list(want.shape)}\n{want}")
        have = got.get(output)
        print(f"{output} got {'nothing' if have is None else f'{have.dtype}{list(have.shape)}'}\n{have}")
    kind, why = classify(case.expected, got)
    print(f"{kind} {why}")
    return 0 if passes(kind) else 1


if __name__ == "__main__":
    sys.exit(main())
