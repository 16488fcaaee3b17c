"""The frontier: every recipe in every engine on ten nets, what any one choice for all costs, and what `optimize` finds.

    python benchmarks/frontier.py [--nets bert_small,unet] [--out FOLDER --resume] [--rounds 9] [--nncf PYTHON] [--json]

For each net all files are made once: ours in three formats by four recipes, and those of the quantizers that come with
the engines, from our fp32 files. Then all of them, in every engine that opens them, with one thread and with two, and
the bundle that `edgekit.optimize` ships, take turns in one run (`_frontier_rounds.py`). Nets have weights of a seed:
these are figures of speed; of accuracy nothing is said but that a file computes the net (8 dB).

Files and timings run in processes of their own; one that fails is a row with its reason. Every net that is finished is
written to --out, and --resume goes on from there. Exits with 1 when what was shipped misses a bar: on some net it is
more than 5 % slower than the best of our files, or more than 2 % slower than what some one choice for all takes; over
all nets it is less than 2.8 times as fast as ONNX Runtime with floats and one thread; or finding it took more than a
quarter of the time that making and profiling all there is would take.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _frontier_files import FORMATS, RECIPES, TOOLS, File, make_all, worker
from _frontier_nets import NETS, SEED
from _frontier_ours import MIN_SQNR_DB, Shipped, ship
from _frontier_rounds import Effort, Row, seats_of, time_all
from _frontier_tables import (
    LEGEND,
    Result,
    bars,
    latency_table,
    ours_table,
    policy_table,
    reasons,
    slower_than_peers,
)

from edgekit.errors import EdgekitError

SCHEMA, VERSION = "edgekit.frontier", 1
_PACKAGES = ("edgekit-ml", "onnxruntime", "openvino", "ai-edge-litert", "ai-edge-quantizer")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a figure depends on beside the machine: a net measured under others is measured again."""
    return {
        "effort": asdict(effort_of(arguments)),
        "formats": list(FORMATS),
        "recipes": list(RECIPES),
        "tools": [tool.name for tool in TOOLS],
        "nncf": bool(arguments.nncf),
        "min_sqnr_db": MIN_SQNR_DB,
        "seed": SEED,
        "packages": {name: version(name) for name in _PACKAGES},
    }


def effort_of(arguments: argparse.Namespace) -> Effort:
    return Effort(arguments.rounds, 2 * arguments.rounds, arguments.seconds)


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All of one net, as a document. Raises EdgekitError where there is no net to measure."""
    begun = time.monotonic()

    def tell(line: str) -> None:
        say(f"{name}, {time.monotonic() - begun:4.0f} s: {line}")

    with worker("making the net") as making:
        made = making.call("_frontier_nets:make_net", name=name, folder=str(folder))
    files = make_all(made, folder, arguments.nncf, tell)
    shipped = Shipped(None, None, "left out by --no-optimize", {})
    if arguments.optimize:
        shipped = ship(made, folder, tell)
        tell(f"shipped: {shipped.what}")
    seats = seats_of(files)
    rows = time_all(seats, shipped.path, made["samples"], effort_of(arguments), tell)
    own = [seat.seconds for seat in seats if seat.rows[0].maker == "edgekit"]
    tell("done")
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "net": name,
        "settings": settings_of(arguments),
        "load_average": os.getloadavg()[0],
        "outputs": made["outputs"],
        "files": [file.to_json() for file in files],
        "rows": [row.to_json() for row in rows],
        "made_s": sum(file.seconds for file in files if file.maker == "edgekit"),
        "num_made": sum(file.maker == "edgekit" for file in files),
        "swept_s": sum(own),
        "optimized_s": shipped.seconds,
        "shipped": shipped.what,
        "optimization": dict(shipped.record),
        "seconds": time.monotonic() - begun,
    }


def result_of(document: dict[str, Any]) -> Result:
    keep = ("net", "made_s", "num_made", "swept_s", "optimized_s", "shipped")
    estimate = document["optimization"].get("estimate")
    space = (estimate["files"], estimate["timings"]) if estimate else None
    return Result(rows=[Row(**row) for row in document["rows"]], space=space, **{name: document[name] for name in keep})


def kept(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What was measured before under the same settings; None where nothing was, or what is there is broken off."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if document.get("version") == VERSION and document.get("settings") == settings else None


def all_nets(names: list[str], arguments: argparse.Namespace, out: Path | None) -> list[dict[str, Any]]:
    documents = []
    for name in names:
        path = out / f"{name}.json" if out else None
        document = kept(path, settings_of(arguments)) if path and arguments.resume else None
        if document is not None:
            say(f"{name}: measured before, in {path}")
            documents.append(document)
            continue
        with tempfile.TemporaryDirectory(prefix=f"edgekit-frontier-{name}-") as folder:
            try:
                document = measure(name, arguments, Path(folder))
            except EdgekitError as error:
                say(f"{name}: not measured: {error}")
                continue
        documents.append(document)
        if path is not None:
            part = path.with_suffix(".part")
            part.write_text(json.dumps(document, indent=1), encoding="utf-8")
            part.replace(path)
    return documents


def show(documents: list[dict[str, Any]], results: list[Result]) -> None:
    for threads in (1, 2):
        print(f"\n## Latency, ms, {threads} thread{'s' * (threads > 1)}\n\n{latency_table(results, threads)}")
    print(f"\n{LEGEND}")
    print(f"\n## What one choice for all costs, against the best of each net\n\n{policy_table(results)}")
    print(f"\n## What was shipped\n\n{ours_table(results)}")
    for title, lines in (
        ("Where a peer's file is faster than all of ours", slower_than_peers(results)),
        ("Files that are not there", missing(documents)),
        ("What could not be timed", reasons(results, {(net, file.name) for net, file in absent(documents)})),
    ):
        if lines:
            print(f"\n## {title}\n\n" + "\n".join(f"- {line}" for line in lines))
    print("\n## Bars\n\n" + "\n".join(f"- {bar}" for bar in bars(results)))


def absent(documents: list[dict[str, Any]]) -> list[tuple[str, File]]:
    """Files that could not be made, each with its net."""
    files = ((document["net"], File(**made)) for document in documents for made in document["files"])
    return [(net, file) for net, file in files if not file.path]


def missing(documents: list[dict[str, Any]]) -> list[str]:
    found: dict[str, list[str]] = {}
    for net, file in absent(documents):
        found.setdefault(f"{file.name}: {file.reason}", []).append(net)
    return [f"{what} ({', '.join(nets)})" for what, nets in found.items()]


def chosen(given: str | None) -> list[str]:
    names = list(NETS) if given is None else [name.strip() for name in given.split(",")]
    if unknown := [name for name in names if name not in NETS]:
        raise SystemExit(f"{', '.join(unknown)}: not among {', '.join(NETS)}")
    return names


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Every recipe in every engine on ten nets, and what optimize finds.")
    parser.add_argument("--nets", help=f"of {', '.join(NETS)}")
    parser.add_argument("--out", type=Path, help="a folder for what was measured, a file for each net")
    parser.add_argument("--resume", action="store_true", help="take nets from --out that are there already")
    parser.add_argument("--rounds", type=int, default=9, help="for all; those near the best have twice as many more")
    parser.add_argument("--seconds", type=float, default=45.0, help="after which either kind of rounds ends")
    parser.add_argument("--nncf", default="", metavar="PYTHON", help="a Python that has NNCF, which edgekit's lacks")
    parser.add_argument("--no-optimize", dest="optimize", action="store_false", help="measure files alone")
    parser.add_argument("--json", action="store_true", help="print one JSON document in place of the tables")
    arguments = parser.parse_args()
    if arguments.resume and arguments.out is None:
        parser.error("--resume goes on from what is in --out FOLDER")
    return arguments


def main() -> int:
    arguments = parsed()
    names = chosen(arguments.nets)
    say(f"{len(names)} nets, about {sum(NETS[name].minutes for name in names):.0f} minutes on 2 cores that are free")
    if not arguments.nncf:
        say("left out: NNCF is not part of edgekit's environment; --nncf PYTHON names one that has it")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    documents = all_nets(names, arguments, arguments.out)
    if not documents:
        return 1
    results = [result_of(document) for document in documents]
    if arguments.json:
        print(json.dumps({"nets": documents, "bars": [bar.to_json() for bar in bars(results)]}, indent=1))
    else:
        show(documents, results)
    return int(len(documents) < len(names) or (arguments.optimize and not all(bar.is_met for bar in bars(results))))


if __name__ == "__main__":
    sys.exit(main())
