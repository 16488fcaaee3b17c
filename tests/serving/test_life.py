"""A server from its first line to its last: ports, readiness, limits, signals, and how it says that it cannot."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from edgekit.errors import ArtifactError, InputError, UnavailableError
from edgekit.serving import ServeOptions, is_loopback
from edgekit.serving.messages import SERVICE, messages
from edgekit.serving.models import Model, named
from edgekit.serving.server import Server, check_installed
from tests.serving.conftest import JSON, ROOT, Answer, Running, serving

FEED = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}]}
Slow = Callable[[float], Path]


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A server that ends by itself."""
    words = [sys.executable, "-m", "edgekit", "serve", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def test_it_says_where_it_listens_and_ends_with_0(slow: Slow, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(tmp_path / "err", slow(0)) as running:
            assert [line.split(":")[0] for line in running.lines] == ["http", "grpc", "ready slow"]
            assert running.address().startswith("127.0.0.1:")
            assert running.ask("GET", "/v2/health/ready").data == {"ready": True}
            started = time.monotonic()
            assert running.stop(number) == 0
            assert time.monotonic() - started < 5
        assert (tmp_path / "err").read_text() == ""


def test_without_grpc_only_http_listens(slow: Slow, tmp_path: Path) -> None:
    with serving(tmp_path / "err", slow(0), "--no-grpc") as running:
        assert [line.split(":")[0] for line in running.lines] == ["http", "ready slow"]
        assert running.infer("slow", FEED).data["outputs"][0]["data"] == [0.0, 0.0]
        assert running.stop() == 0


def test_a_model_that_is_being_loaded_is_live_but_not_ready_and_one_that_cannot_be_ends_the_server() -> None:
    lines: list[str] = []
    seen: dict[str, int] = {}

    def load(model: Model) -> None:
        until(lambda: len(lines) == 1)
        address = lines[0].removeprefix("http://")
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/m", "/v2/models/m/ready"):
            seen[path] = ask(address, "GET", path).status
        refused = ask(address, "POST", "/v2/models/m/infer", json.dumps(FEED))
        seen["infer"] = refused.status
        assert refused.data["error"].startswith("model 'm' is being loaded")
        raise ArtifactError("its golden test failed")

    async def run() -> int:
        options = ServeOptions(port=0, grpc_port=None)
        return await Server({"m": Model("m", "nowhere")}, options, load=load, say=lines.append).run()

    with pytest.raises(ArtifactError, match="golden test"):
        asyncio.run(run())
    assert seen == {
        "/v2/health/live": 200,
        "/v2/health/ready": 503,
        "/v2/models/m": 503,
        "/v2/models/m/ready": 503,
        "infer": 503,
    }


@pytest.mark.parametrize("no_delay", [0, 1])
def test_no_answer_waits_for_an_acknowledgment(slow: Slow, tmp_path: Path, no_delay: int) -> None:
    """A client that sends a body apart from its header has 40 ms added by the kernel, on either side, unless told."""
    took = []
    with serving(tmp_path / "err", slow(0), "--no-grpc") as running:
        connection = http.client.HTTPConnection(running.address(), timeout=30)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)
        for _ in range(60):
            started = time.perf_counter()
            connection.request("POST", "/v2/models/slow/infer", json.dumps(FEED).encode(), JSON)
            connection.getresponse().read()
            took.append(time.perf_counter() - started)
        connection.close()
    assert min(took[30:]) < 0.03  # the kernel acknowledges the first few at once in any case


def ask(address: str, method: str, path: str, body: str | None = None) -> Answer:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body, JSON)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def test_a_file_that_is_none_ends_it_with_3_and_two_lines(tmp_path: Path) -> None:
    done = ended(tmp_path / "none.edge", "--port", 0, "--no-grpc")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == f"edgekit: error: {tmp_path / 'none.edge'} does not exist"
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_port_that_is_taken_ends_it_with_3_and_a_hint(slow: Slow, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = {"--port": "--grpc-port", "--grpc-port": "--port"}[option]
        done = ended(slow(0), option, taken.getsockname()[1], other, 0)
    assert done.returncode == 3
    said, hint = done.stderr.splitlines()[-2:]
    assert said.startswith("edgekit: error: cannot listen on 127.0.0.1, port ")
    assert hint == "hint: port 0 takes a free one"


def test_beyond_loopback_it_warns(slow: Slow, tmp_path: Path) -> None:
    with serving(tmp_path / "err", slow(0), "--no-grpc", "--host", "0.0.0.0") as running:
        assert running.ask("GET", "/v2", None, {"Host": "pi.example:8000"}).status == 200
        assert running.ask("GET", "/v2", None, {"Host": "pi.example", "Origin": "http://a.b"}).status == 403
        assert "warning: whoever reaches 0.0.0.0 may use these models" in (tmp_path / "err").read_text()
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org")] == [False] * 4


def asked(running: Running, count: int) -> list[Answer]:
    """`count` requests at once."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: running.infer("slow", FEED), range(count)))


def test_more_requests_than_there_is_room_for_are_sent_away_at_once(slow: Slow, tmp_path: Path) -> None:
    with serving(tmp_path / "err", slow(2500), "--workers", 1, "--waiting", 1) as running:
        with ThreadPoolExecutor(1) as thread:
            first = thread.submit(asked, running, 2)
            until(lambda: running.metric("edgekit_in_flight") == 2)
            started = time.monotonic()
            refused = running.infer("slow", FEED)
            status, details = rpc_status(running)
            assert time.monotonic() - started < 2.0
            assert [answer.status for answer in first.result()] == [200, 200]
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.data["error"] == "2 requests are here already (try again in a second)"
        assert (status, details) == ("RESOURCE_EXHAUSTED", refused.data["error"])
        assert running.infer("slow", FEED).status == 200


def rpc_request() -> bytes:
    given = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [0.0] * 4}}
    content: bytes = messages()["ModelInferRequest"](model_name="slow", inputs=[given]).SerializeToString()
    return content


def rpc_status(running: Running, timeout_s: float = 30.0) -> tuple[str, str]:
    with grpc.insecure_channel(running.address("grpc")) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/ModelInfer")(rpc_request(), timeout=timeout_s)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def test_a_request_that_takes_too_long_is_a_504_and_its_room_is_taken_until_the_engine_is_done(
    slow: Slow, tmp_path: Path
) -> None:
    with serving(tmp_path / "err", slow(1500), "--timeout", 0.3, "--workers", 1, "--waiting", 1) as running:
        started = time.monotonic()
        answer = running.infer("slow", FEED)
        assert (answer.status, answer.data["error"].split(" (")[0]) == (504, "no answer within 0.3 s")
        assert time.monotonic() - started < 1.4
        assert running.metric("edgekit_in_flight") == 1
        assert rpc_status(running)[0] == "DEADLINE_EXCEEDED"  # it waits its time for the first one to end
        until(lambda: running.metric("edgekit_in_flight") == 0)


def test_the_deadline_of_a_grpc_caller_is_kept(slow: Slow, tmp_path: Path) -> None:
    with serving(tmp_path / "err", slow(1500), "--workers", 1) as running:
        assert rpc_status(running, timeout_s=0.3)[0] == "DEADLINE_EXCEEDED"
        until(lambda: running.metric("edgekit_in_flight") == 0)


def test_a_grpc_caller_who_goes_while_it_waits_gives_its_room_back_at_once(slow: Slow, tmp_path: Path) -> None:
    with serving(tmp_path / "err", slow(2500), "--workers", 1, "--waiting", 1) as running, ThreadPoolExecutor(1) as one:
        first = one.submit(running.infer, "slow", FEED)
        until(lambda: running.metric("edgekit_in_flight") == 1)
        with grpc.insecure_channel(running.address("grpc")) as channel:
            second = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(rpc_request())
            until(lambda: running.metric("edgekit_in_flight") == 2)
            second.cancel()
            until(lambda: running.metric("edgekit_in_flight") == 1)
        assert not first.done()
        assert first.result().status == 200


def test_grpc_does_not_wait_its_turn_on_the_event_loop_of_http() -> None:
    lines: list[str] = []
    released = threading.Event()
    seen: list[bool] = []

    async def run() -> int:
        loop = asyncio.get_running_loop()

        def load(model: Model) -> None:
            loop.call_soon_threadsafe(released.wait, 30)
            address = lines[1].removeprefix("grpc://")
            try:
                with grpc.insecure_channel(address) as channel:
                    raw = channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=20)
                seen.append(messages()["ServerLiveResponse"].FromString(raw).live)
            finally:
                released.set()
            raise ArtifactError("enough")

        options = ServeOptions(port=0, grpc_port=0)
        return await Server({"m": Model("m", "nowhere")}, options, load=load, say=lines.append).run()

    with pytest.raises(ArtifactError, match="enough"):
        asyncio.run(run())
    assert seen == [True]
    assert [thread.name for thread in threading.enumerate() if thread.name == "edgekit-grpc"] == []


def test_a_body_that_does_not_come_is_a_408(slow: Slow, tmp_path: Path) -> None:
    with serving(tmp_path / "err", slow(0), "--timeout", 0.3) as running:
        with socket.create_connection(running.address().split(":"), timeout=10) as connection:
            connection.sendall(b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")
        assert running.metric("edgekit_in_flight") == 0


def test_what_is_being_worked_on_is_answered_after_sigterm_and_nobody_new_is_let_in(slow: Slow, tmp_path: Path) -> None:
    with serving(tmp_path / "err", slow(1500), "--workers", 2) as running:
        answers: list[Answer] = []
        ending = threading.Thread(target=lambda: answers.extend(asked(running, 3)))
        ending.start()
        with ThreadPoolExecutor(1) as thread:
            rpc = thread.submit(rpc_status, running)
            until(lambda: running.metric("edgekit_in_flight") == 4)
            running.process.send_signal(signal.SIGTERM)
            until(lambda: is_refused(running))
            assert running.process.wait(timeout=30) == 0
            ending.join()
            assert rpc.result()[0] == "OK"
    assert [answer.status for answer in answers] == [200] * 3
    assert {answer.headers["connection"] for answer in answers} == {"close"}


def is_refused(running: Running) -> bool:
    host, port = running.address().split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return True
    return False


def test_work_that_outlasts_the_drain_is_given_up_with_1(slow: Slow, tmp_path: Path) -> None:
    with serving(tmp_path / "err", slow(20_000), "--drain", 0.5) as running, ThreadPoolExecutor(2) as threads:
        answer, rpc = threads.submit(running.infer, "slow", FEED), threads.submit(rpc_status, running)
        until(lambda: running.metric("edgekit_in_flight") == 2)
        started = time.monotonic()
        assert running.stop() == 1
        assert time.monotonic() - started < 8
    said = "the server stopped before there was an answer"
    assert (answer.result().status, answer.result().data["error"]) == (503, said)
    assert rpc.result() == ("UNAVAILABLE", said)


def test_check_loads_and_shows_what_would_be_served(models: dict[str, Path], slow: Slow) -> None:
    done = ended(models["dense"], f"other={slow(0)}", "--check", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)["models"]
    assert [model["name"] for model in found] == ["dense", "other"]
    assert found[0]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 6]}]
    assert "dense  input   x       FP32      [-1, 6]" in ended(models["dense"], slow(0), "--check").stdout


def test_names_are_the_files_up_to_the_first_dot_or_as_said() -> None:
    assert {name: model.path for name, model in named(["a/b.edge.zip", "c=d/e.tflite", "resnet:tiny"]).items()} == {
        "b": "a/b.edge.zip",
        "c": "d/e.tflite",
        "resnet:tiny": "resnet:tiny",
    }
    with pytest.raises(InputError, match="two models are named 'b'"):
        named(["a/b.edge", "c/b.tflite"])


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.serving.server.find_spec", lambda name: None if name == "grpc" else object())
    with pytest.raises(UnavailableError, match=r"needs grpc .*edgekit-ml\[serve\]"):
        check_installed(ServeOptions())
    check_installed(ServeOptions(grpc_port=None))


def test_grpc_needs_protobuf_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    def without_google(name: str) -> object:
        if name == "google.protobuf":  # what importlib says of a package whose parent is missing
            raise ModuleNotFoundError("No module named 'google'")
        return None if name == "google" else find_spec(name)

    monkeypatch.setattr("edgekit.serving.server.find_spec", without_google)
    with pytest.raises(UnavailableError, match=r"needs google\.protobuf "):
        check_installed(ServeOptions())
    check_installed(ServeOptions(grpc_port=None))


@pytest.mark.parametrize(("method", "said"), [("startup", []), ("main_loop", ["http", "grpc"])])
def test_an_http_server_that_breaks_ends_it_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, method: str, said: list[str]
) -> None:
    import uvicorn

    async def broken(*_: object, **__: object) -> None:
        await asyncio.sleep(0.3 if said else 0)
        raise OSError("no descriptors are left")

    monkeypatch.setattr(uvicorn.Server, method, broken)
    lines: list[str] = []

    async def run() -> int:
        options = ServeOptions(port=0, grpc_port=0)
        return await Server({}, options, load=lambda model: None, say=lines.append).run()

    with pytest.raises(OSError, match="no descriptors are left"):
        asyncio.run(run())
    assert [line.split(":")[0] for line in lines] == said
