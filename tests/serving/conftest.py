"""A server in a process of its own, the models it serves, and a way to ask it by the standard library alone."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec
from tests.contract import sample_models as samples

ROOT = Path(__file__).resolve().parent.parent.parent
SLOW = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))
JSON = {"Content-Type": "application/json"}


@dataclass
class Answer:
    """What a server said to one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that has said where it listens. `lines` grows while it talks."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def address(self, scheme: str = "http") -> str:
        return next(line.removeprefix(f"{scheme}://") for line in self.lines if line.startswith(f"{scheme}://"))

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.address(), timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def infer(self, model: str, request: Mapping[str, Any]) -> Answer:
        return self.ask("POST", f"/v2/models/{model}/infer", json.dumps(request), JSON)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        page = self.ask("GET", "/metrics").body.decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", page, re.MULTILINE))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def serving(log: Path, *arguments: object, wait_for: str = "ready") -> Iterator[Running]:
    """`edgekit serve` on free ports; what it says on stderr goes to `log`."""
    words = [sys.executable, "-m", "edgekit", "serve", *map(str, arguments)]
    words += [word for option in ("--port", "--grpc-port") if option not in words for word in (option, "0")]
    with log.open("w") as errors:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    running = Running(process)
    models = sum(1 for word in map(str, arguments) if word.endswith((".onnx", ".json", ":tiny")))
    try:
        assert process.stdout is not None
        for line in process.stdout:
            running.lines.append(line.rstrip("\n"))
            if sum(said.startswith(wait_for) for said in running.lines) == (models if wait_for == "ready" else 1):
                break
        else:
            pytest.fail(f"the server ended with {process.wait()}: {log.read_text()}")
        reader = threading.Thread(target=lambda: running.lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(timeout=10)
        process.stdout.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of ONNX models by the name they are served under."""
    folder = tmp_path_factory.mktemp("models")
    built = {
        "dense": samples.dense(),
        "two": samples.two_inputs(),
        "dtypes": samples.every_dtype(),
        "words": _words(),
        "gather": _gather(),
    }
    for name, model in built.items():
        onnx.save(model, folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in built}


@pytest.fixture
def slow(tmp_path: Path) -> Callable[[float], Path]:
    """Writes a model that takes so many milliseconds."""
    return lambda delay_ms: write_null(tmp_path / "slow.null.json", SLOW, delay_ms=delay_ms)


def _words() -> onnx.ModelProto:
    """Texts, twice."""
    kind = TensorProto.STRING
    return samples._model(
        [helper.make_node("Concat", ["words", "words"], ["twice"], axis=0)],
        {"words": (kind, ["n"])},
        {"twice": (kind, [None])},  # type: ignore[list-item]
    )


def _gather() -> onnx.ModelProto:
    """A row of a table by its index: an index that is none fails in the engine."""
    table = np.arange(6, dtype="float32").reshape(3, 2)
    return samples._model(
        [helper.make_node("Gather", ["table", "index"], ["row"])],
        {"index": (TensorProto.INT64, [1])},
        {"row": (TensorProto.FLOAT, [1, 2])},
        {"table": table},
    )
