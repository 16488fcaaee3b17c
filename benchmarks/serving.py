"""A server under load: 32 clients, HTTP with bytes, HTTP with JSON, and gRPC by turns, then SIGTERM while they ask.

The clients are tritonclient's, four processes of eight threads, in an environment of their own, which is made once.
Exits with 1 when an answer is wrong, a request fails, memory grows by more than the bar, or one is lost at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _roads_places import Place

import edgekit
from edgekit.feeds import random_feeds

CLIENT = Place("tritonclient-2.73.0", (("tritonclient[http,grpc]==2.73.0",),), is_venv=True)
LOAD = Path(__file__).with_name("_serving_load.py")
MODELS = {"digits": "resnet:tiny", "keywords": "ds-cnn:tiny"}
PROCESSES, CLIENTS, CASES = 4, 32, 16
MAX_GROWTH_MB = 4.0
GONE = ("ConnectionRefusedError", "InferenceServerException: [StatusCode.UNAVAILABLE]")
"""How a client finds that nobody is there any more, and knows that its request was not worked on."""


@dataclass(frozen=True)
class Row:
    """One kind of client; times in ms, as the client sees them."""

    kind: str
    answers: int
    per_second: float
    median_ms: float
    p99_ms: float
    worst_ms: float


def write_cases(path: Path) -> None:
    """Random feeds of every model with what a session of its own answers to them."""
    arrays = {}
    for name, model in MODELS.items():
        with edgekit.load(model, threads=1) as session:
            for index, feeds in enumerate(random_feeds(session.signature, count=CASES)):
                answer = session.run(feeds)
                arrays |= {f"{name}/{index}/in/{key}": array for key, array in feeds.items()}
                arrays |= {f"{name}/{index}/out/{key}": array for key, array in answer.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def start_server(folder: Path) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """The server, ready, and its addresses by scheme."""
    words = [sys.executable, "-m", "edgekit", "serve", *(f"{name}={model}" for name, model in MODELS.items())]
    process = subprocess.Popen(
        [*words, "--port", "0", "--grpc-port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
    )
    assert process.stdout is not None
    lines: list[str] = []
    while sum(line.startswith("ready") for line in lines) < len(MODELS):
        lines.append(process.stdout.readline())
        if not lines[-1]:
            raise SystemExit(f"the server ended with {process.wait()}")
    return process, dict(line.strip().split("://") for line in lines if "://" in line)


def metric(address: str, name: str) -> float:
    page = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", page, re.MULTILINE))


def start_clients(cases: Path, where: dict[str, str], seconds: float, *more: str) -> list[subprocess.Popen[str]]:
    words = [*CLIENT.python(), str(LOAD), str(cases), "--http", where["http"], "--grpc", where["grpc"]]
    words += ["--clients", str(CLIENTS // PROCESSES), "--seconds", str(seconds), *more]
    return [
        subprocess.Popen([*words, "--seed", str(100 * index)], stdout=subprocess.PIPE, text=True)
        for index in range(PROCESSES)
    ]


def ended(clients: list[subprocess.Popen[str]]) -> dict[str, Any]:
    """What all of them saw."""
    reports = [json.loads(client.communicate()[0].splitlines()[-1]) for client in clients]
    return {
        "wrong": sum(report["wrong"] for report in reports),
        "failures": [said for report in reports for said, count in report["failures"].items() for _ in range(count)],
        "seconds": {kind: [s for r in reports for s in r["seconds"][kind]] for kind in reports[0]["seconds"]},
    }


def row(kind: str, took: list[float], seconds: float) -> Row:
    p99 = statistics.quantiles(took, n=100)[98]
    figures = (len(took) / seconds, *(1e3 * value for value in (statistics.median(took), p99, max(took))))
    return Row(kind, len(took), *(round(figure, 1) for figure in figures))


def measure(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cases(folder / "cases.npz")
        server, where = start_server(folder)
        try:
            ended(start_clients(folder / "cases.npz", where, min(10.0, seconds)))  # warms up
            before = metric(where["http"], "process_resident_memory_bytes")
            found = ended(start_clients(folder / "cases.npz", where, seconds))
            after = metric(where["http"], "process_resident_memory_bytes")
            last = start_clients(folder / "cases.npz", where, 60.0, "--until-refused")
            time.sleep(3.0)
            started = time.monotonic()
            server.terminate()
            code, drain_s = server.wait(timeout=60), time.monotonic() - started
            farewell = ended(last)
        finally:
            server.kill()
    return {
        "rows": [asdict(row(kind, took, seconds)) for kind, took in found["seconds"].items()],
        "wrong": found["wrong"] + farewell["wrong"],
        "failures": found["failures"],
        "rss_mb": [round(value / 2**20, 1) for value in (before, after)],
        "exit_code": code,
        "drain_s": round(drain_s, 2),
        "lost": [said for said in farewell["failures"] if not said.startswith(GONE)],
    }


def table(report: dict[str, Any]) -> str:
    lines = ["| clients | answers | a second | median, ms | p99, ms | worst, ms |", "|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in report["rows"]]
    rest = {key: value for key, value in report.items() if key != "rows"}
    return "\n".join([*lines, "", *(f"{key}: {value}" for key, value in rest.items())])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    if not CLIENT.is_there:
        CLIENT.install()
    report = measure(arguments.seconds)
    print(json.dumps({"schema": "edgekit.serving", "version": 1, **report}) if arguments.json else table(report))
    growth_mb = report["rss_mb"][1] - report["rss_mb"][0]
    is_bad = report["wrong"] or report["failures"] or report["lost"] or report["exit_code"]
    return int(bool(is_bad) or growth_mb > MAX_GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
