"""tritonclient against `edgekit serve`: every way it has of asking, and many of it at once.

It lives in an environment of its own, as it wants an older protobuf; made once, under ``.cache``, and used again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.assets import needs_index
from tests.contract import sample_models as samples
from tests.serving.conftest import ROOT, Running, serving

HOME = ROOT / ".cache" / "tritonclient-env"
PACKAGE = "tritonclient[http,grpc]==2.73.0"
LOAD = ROOT / "benchmarks" / "_serving_load.py"
CLIENTS = 32


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of the client's environment; the mark is made last, so half an environment is made again."""
    mark = HOME / PACKAGE.partition("==")[2]
    if not mark.exists():
        needs_index("installs tritonclient")
        shutil.rmtree(HOME, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
        pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        ran = subprocess.run([*pip, "--only-binary=:all:", PACKAGE], capture_output=True, text=True, check=False)
        if ran.returncode:
            pytest.fail(f"{PACKAGE} cannot be installed: {ran.stderr[-800:]}")
        mark.touch()
    return HOME / "bin" / "python"


@pytest.fixture(scope="module")
def running(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    paths = [models[name] for name in ("dense", "two", "dtypes", "words")]
    with serving(tmp_path_factory.mktemp("log") / "err", *paths) as server:
        yield server


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feeds of dense and two with their right answers by ONNX's reference evaluator, of dtypes and words by hand."""
    rng = np.random.default_rng(5)
    found: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {"dense": [], "two": []}
    dense, two = samples.oracle(samples.dense()), samples.oracle(samples.two_inputs())
    for index in range(8):
        x = {"x": rng.standard_normal((1 + index % 3, 6)).astype("float32")}
        image = rng.standard_normal((1, 3, 8, 8)).astype("float32")
        both = {"image": image, "gain": rng.standard_normal((1, 4, 1, 1)).astype("float32")}
        found["dense"].append((x, dense(x)))
        found["two"].append((both, two(both)))
    values = {name: rng.integers(0, 2, (1, 4)).astype(dtype) for name, dtype in samples.EVERY_DTYPE.items()}
    values["i64"][0, 0], values["u64"][0, 0], values["i8"][0, 0] = -(2**63), 2**64 - 1, -128
    twice = {f"{name}_twice": np.concatenate([array, array]) for name, array in values.items()}
    words = np.array(["a", "", "größer"])
    arrays = {
        f"{model}/{index}/{side}/{name}": array
        for model, pairs in {**found, "dtypes": [(values, twice)]}.items()
        for index, pair in enumerate(pairs)
        for side, tensors in zip(("in", "out"), pair, strict=True)
        for name, array in tensors.items()
    }
    path = tmp_path_factory.mktemp("cases") / "cases.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    np.savez(path.with_name("all.npz"), **arrays, **{"words/0/in/words": words, "words/0/out/twice": np.tile(words, 2)})  # type: ignore[arg-type]
    np.savez(path.with_name("load.npz"), **{k: v for k, v in arrays.items() if not k.startswith("dtypes")})  # type: ignore[arg-type]
    return path.with_name("all.npz")


def run(python: Path, script: Path, *arguments: object) -> dict[str, Any]:
    """What a script prints last, as JSON."""
    words = [str(python), "-P", str(script), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.fixture(scope="module")
def report(python: Path, running: Running, cases: Path) -> dict[str, Any]:
    script = Path(__file__).with_name("triton_client.py")
    return run(python, script, cases, running.address(), running.address("grpc"))


def test_every_datatype_comes_back_right_by_json_by_bytes_and_by_grpc(report: dict[str, Any]) -> None:
    assert len(report["judged"]) == 3 * (8 + 8 + 1 + 1)
    assert {name: said for name, said in report["judged"].items() if said != "right"} == {}


def test_metadata_says_the_same_over_http_and_grpc(report: dict[str, Any]) -> None:
    for name, said in report["metadata"].items():
        other = report["grpc_metadata"][name]
        for tensor in other["inputs"] + other["outputs"]:
            tensor["shape"] = [int(size) for size in tensor["shape"]]  # protobuf's JSON has int64 as texts
        assert other == said
    assert report["metadata"]["dense"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 6]}]
    assert report["metadata"]["dense"]["platform"] == "edgekit_onnx"
    assert report["server"]["http"] == report["server"]["grpc"]
    assert "binary_tensor_data" in report["server"]["http"]["extensions"]


def test_server_and_models_are_live_and_ready(report: dict[str, Any]) -> None:
    assert report["health"] == {"http": [True] * 4, "grpc": [True] * 4}


def test_a_client_is_told_in_our_words_what_is_wrong(report: dict[str, Any]) -> None:
    shape = "input 'x' wants shape [batch, 6], got [1, 5]"
    unknown = "there is no model 'none' (models: dense, two, dtypes, words)"
    assert report["refused"] == {
        "http/dense": ["400", shape],
        "http/none": ["404", unknown],
        "grpc/dense": ["StatusCode.INVALID_ARGUMENT", shape],
        "grpc/none": ["StatusCode.NOT_FOUND", unknown],
    }


def rss_mb(running: Running) -> float:
    return running.metric("process_resident_memory_bytes") / 2**20


def load(python: Path, running: Running, cases: Path, seconds: float, *more: str) -> dict[str, Any]:
    where = ("--http", running.address(), "--grpc", running.address("grpc"))
    return run(python, LOAD, cases.with_name("load.npz"), *where, "--clients", CLIENTS, "--seconds", seconds, *more)


def check_load(python: Path, running: Running, cases: Path, seconds: float, growth_mb: float) -> None:
    load(python, running, cases, min(seconds, 5.0))  # warms up: every thread, connection and buffer there will be
    before = rss_mb(running)
    found = load(python, running, cases, seconds)
    assert found["wrong"] == 0
    assert found["failures"] == {}
    assert all(len(took) > CLIENTS for took in found["seconds"].values())
    assert rss_mb(running) - before < growth_mb
    assert running.metric("edgekit_in_flight") == 0


def test_32_clients_of_every_kind_at_once_get_no_wrong_answer(python: Path, running: Running, cases: Path) -> None:
    check_load(python, running, cases, 3.0, growth_mb=4.0)


@pytest.mark.slow  # a minute of load, as the issue of this server states it
def test_a_minute_of_load_grows_nothing(python: Path, running: Running, cases: Path) -> None:
    check_load(python, running, cases, 60.0, growth_mb=4.0)


def test_no_request_is_lost_when_the_server_is_told_to_stop_under_load(
    python: Path, models: dict[str, Path], cases: Path, tmp_path: Path
) -> None:
    """Whoever asks until nobody listens any more gets an answer to everything that was sent."""
    with serving(tmp_path / "err", models["dense"], models["two"]) as running:
        where = ("--http", running.address(), "--grpc", running.address("grpc"))
        words = [str(python), "-P", str(LOAD), str(cases.with_name("load.npz")), *where]
        words += ["--clients", str(CLIENTS), "--seconds", "60", "--until-refused"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as clients:
            assert clients.stdout is not None
            assert clients.stdout.readline() == "started\n"
            deadline = time.monotonic() + 60
            while running.metric("edgekit_requests_total") < 10 * CLIENTS:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert running.stop() == 0
            found = json.loads(clients.communicate(timeout=60)[0])
    assert found["wrong"] == 0
    # Each ended by finding nobody: no connection to be had, or gRPC's word for a server that has said good-bye.
    assert sum(found["failures"].values()) == CLIENTS
    gone = ("ConnectionRefusedError", "InferenceServerException: [StatusCode.UNAVAILABLE]")
    assert [said for said in found["failures"] if not said.startswith(gone)] == []
