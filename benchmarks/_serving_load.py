"""Clients of a server, by tritonclient; run in an environment that has it, and has no edgekit.

Prints one JSON document: how many answers came, how many were wrong, what failed, and how long each kind took.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from collections import Counter

import numpy as np
import tritonclient.grpc as rpc
import tritonclient.http as rest

KINDS = ("http-binary", "http-json", "grpc")
DATATYPE = "FP32"


class Client:
    """One caller with its own connection, in its own thread, one request after the other.

    Args:
        kind: One of `KINDS`.
        cases: For each model pairs of feeds and right answers, both by name.
    """

    def __init__(self, kind: str, arguments: argparse.Namespace, cases: dict[str, list[tuple[dict, dict]]], seed: int):
        self.kind, self.cases, self.until_refused = kind, cases, arguments.until_refused
        self.random = random.Random(seed)
        self.seconds: list[float] = []
        self.wrong, self.failures = 0, Counter()
        self.url = arguments.grpc if kind == "grpc" else arguments.http
        self.api = rpc if kind == "grpc" else rest

    def run(self, stop: threading.Event) -> None:
        client = self.api.InferenceServerClient(self.url)
        while not stop.is_set():
            model = self.random.choice(list(self.cases))
            feeds, right = self.random.choice(self.cases[model])
            inputs, outputs = self.request(feeds, right)
            started = time.perf_counter()
            try:
                answer = client.infer(model, inputs, outputs=outputs)
            except Exception as error:  # noqa: BLE001 - whatever a client raises is counted
                self.failures[f"{type(error).__name__}: {error}"[:120]] += 1
                if self.until_refused:
                    return
                continue
            self.seconds.append(time.perf_counter() - started)
            got = {name: answer.as_numpy(name) for name in right}
            self.wrong += not all(np.allclose(got[name], right[name], atol=1e-4) for name in right)

    def request(self, feeds: dict, right: dict) -> tuple[list, list]:
        inputs = [self.api.InferInput(name, list(array.shape), DATATYPE) for name, array in feeds.items()]
        binary = {"binary_data": self.kind == "http-binary"} if self.api is rest else {}
        for given, array in zip(inputs, feeds.values(), strict=True):
            given.set_data_from_numpy(array, **binary)
        return inputs, [self.api.InferRequestedOutput(name, **binary) for name in right]


def read_cases(path: str) -> dict[str, list[tuple[dict, dict]]]:
    """Of an .npz with arrays named ``model/index/in/name`` and ``model/index/out/name``."""
    found: dict[str, dict[str, tuple[dict, dict]]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            model, index, side, name = key.split("/")
            pair = found.setdefault(model, {}).setdefault(index, ({}, {}))
            pair[side == "out"][name] = arrays[key]
    return {model: list(pairs.values()) for model, pairs in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases")
    parser.add_argument("--http", required=True, help="HOST:PORT")
    parser.add_argument("--grpc", required=True, help="HOST:PORT")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until-refused", action="store_true", help="each client ends at its first failure")
    arguments = parser.parse_args()
    cases = read_cases(arguments.cases)
    stop = threading.Event()
    clients = [Client(KINDS[i % len(KINDS)], arguments, cases, arguments.seed + i) for i in range(arguments.clients)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    print("started", flush=True)
    deadline = time.monotonic() + arguments.seconds
    while time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    seconds = {kind: [s for client in clients if client.kind == kind for s in client.seconds] for kind in KINDS}
    print(
        json.dumps(
            {
                "answers": sum(map(len, seconds.values())),
                "wrong": sum(client.wrong for client in clients),
                "failures": dict(sum((client.failures for client in clients), Counter())),
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
