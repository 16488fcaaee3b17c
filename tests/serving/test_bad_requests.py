"""Requests that are wrong, over HTTP and gRPC: each gets a status of its own fault, our words, and no traceback."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from edgekit.serving.messages import SERVICE, messages
from tests.serving.conftest import JSON, Running, serving

RIGHT: dict[str, Any] = {"name": "x", "shape": [1, 6], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6.5]}
BYTES = {"Content-Type": "application/octet-stream"}
LENGTH = "Inference-Header-Content-Length"
MAX_BODY = 1 << 20


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "err"


@pytest.fixture(scope="module")
def running(models: dict[str, Path], log: Path) -> Iterator[Running]:
    paths = [models[name] for name in ("dense", "dtypes", "words", "gather")]
    with serving(log, *paths, "resnet:tiny", "bert=bert:tiny", "--max-body", "1") as server:
        yield server


def dense(**other: Any) -> dict[str, Any]:
    return {"inputs": [{**RIGHT, **other}]}


def one(model_input: str, datatype: str, data: Any) -> dict[str, Any]:
    return {"inputs": [{"name": model_input, "shape": [1, 4], "datatype": datatype, "data": data}]}


DENSE: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown input", dense(name="z"), "the model has no input 'z' (inputs: x)"),
    ("an input without a name", {"inputs": [{"shape": [1, 6]}]}, "the model has no input None"),
    ("an input twice", {"inputs": [RIGHT, RIGHT]}, "input 'x' is given twice"),
    ("no input", {"inputs": []}, "missing ['x']"),
    ("no inputs at all", {}, '"inputs" is a list of objects'),
    ("inputs of numbers", {"inputs": [1]}, '"inputs" is a list of objects'),
    ("another rank", dense(shape=[6]), "wants shape [batch, 6], got [6]"),
    ("another size", dense(shape=[2, 3]), "wants shape [batch, 6], got [2, 3]"),
    ("another datatype", dense(datatype="FP64"), "input 'x' is FP32, not 'FP64'"),
    ("a datatype that is none", dense(datatype="float32"), "input 'x' is FP32, not 'float32'"),
    ("too few values", dense(data=[1, 2]), "of shape [1, 6] takes 6 values, got 2"),
    ("too many values", dense(shape=[1, 6], data=[0.0] * 7), "takes 6 values, got 7"),
    ("another nesting", dense(data=[[1, 2, 3], [4, 5, 6]]), "is not nested as its shape"),
    ("ragged rows", dense(shape=[2, 6], data=[[1, 2, 3, 4, 5, 6], [1]]), "is not nested as its shape"),
    ("a row that is none", dense(shape=[2, 6], data=[[1, 2, 3, 4, 5, 6], 1]), "is not nested as its shape"),
    ("texts", dense(data=["1"] * 6), "holds str, which FP32 does not"),
    ("truth among numbers", dense(data=[True, 2, 3, 4, 5, 6]), "holds bool, which FP32 does not"),
    ("nothing among numbers", dense(data=[None, 2, 3, 4, 5, 6]), "holds NoneType"),
    ("no data", {"inputs": [{k: v for k, v in RIGHT.items() if k != "data"}]}, "has no list of data"),
    ("data that is one number", dense(data=1.0), "has no list of data"),
    ("a number beyond FP32", dense(data=[1e39, 0, 0, 0, 0, 0]), "numbers beyond the range of FP32"),
    ("an integer beyond all floats", dense(data=[10**400, 0, 0, 0, 0, 0]), "numbers beyond the range of FP32"),
    ("a negative size", dense(shape=[-1, 6]), "is not a list of sizes"),
    ("a huge size", dense(shape=[2**40, 6]), "is not a list of sizes"),
    ("sizes that multiply to nothing", dense(shape=[0, *[2**31 - 1] * 5], data=[]), "x"),
    ("a shape of floats", dense(shape=[1.0, 6]), "is not a list of sizes"),
    ("a shape that is a text", dense(shape="16"), "is not a list of sizes"),
    ("a shape of a thousand sizes", dense(shape=[1] * 1000), "is not a list of sizes"),
    ("an unknown output", {**dense(), "outputs": [{"name": "z"}]}, "the model has no output 'z' (outputs: y)"),
    ("outputs of texts", {**dense(), "outputs": ["y"]}, '"outputs" is a list of objects'),
    ("an id that is a number", {**dense(), "id": 7}, '"id" is a text'),
    ("parameters that are a list", {**dense(), "parameters": [1]}, "parameters are an object"),
    ("a sequence", {**dense(), "parameters": {"sequence_id": 3}}, "'sequence_id' is not supported"),
    (
        "classes in place of scores",
        {**dense(), "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
        "'classification' is not supported",
    ),
    ("bytes that are not there", dense(parameters={"binary_data_size": 24}), "0 bytes are left"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "words"), [case[1:] for case in DENSE], ids=[case[0] for case in DENSE])
def test_a_wrong_request_is_a_400_that_says_what_it_should_have_been(
    running: Running, request_: dict[str, Any], words: str
) -> None:
    answer = running.infer("dense", request_)
    assert answer.status == 400, answer.data
    assert words in answer.data["error"]
    assert list(answer.data) == ["error"]


OTHERS = [
    ("dtypes", one("i8", "INT8", [1, 2, 3, 128]), "beyond the range of INT8"),
    ("dtypes", one("u64", "UINT64", [-1, 0, 0, 0]), "beyond the range of UINT64"),
    ("dtypes", one("i32", "INT32", [1.5, 0, 0, 0]), "holds float, which INT32 does not"),
    ("dtypes", one("flag", "BOOL", [0, 1, 0, 1]), "holds int, which BOOL does not"),
    ("dtypes", one("f16", "FP16", [65520.0, 0, 0, 0]), "beyond the range of FP16"),
    (
        "words",
        {"inputs": [{"name": "words", "shape": [1], "datatype": "BYTES", "data": [1]}]},
        "holds int, which BYTES",
    ),
]


@pytest.mark.parametrize(("model", "request_", "words"), OTHERS)
def test_values_must_be_of_the_datatype(running: Running, model: str, request_: dict[str, Any], words: str) -> None:
    answer = running.infer(model, request_)
    assert (answer.status, words in answer.data["error"]) == (400, True), answer.data


def binary(**other: Any) -> bytes:
    given = {"name": "x", "shape": [1, 6], "datatype": "FP32", "parameters": {"binary_data_size": 24}, **other}
    return json.dumps({"inputs": [given]}).encode()


TENSOR = np.arange(6, dtype="<f4").tobytes()
BINARY: list[tuple[str, bytes, bytes, object, str]] = [
    ("a truncated tensor", binary(), TENSOR[:-1], None, "'binary_data_size' of input 'x' is 24, and 23 bytes are left"),
    ("another size", binary(parameters={"binary_data_size": 20}), TENSOR[:20], None, "24 bytes, got 20"),
    ("bytes left over", binary(), TENSOR + b"!", None, "1 bytes behind the last tensor"),
    ("a header said to be longer than all", binary(), TENSOR, 10**6, f"{LENGTH} is '1000000'"),
    ("a header said to be shorter", binary(), TENSOR, 20, "the body is not JSON"),
    ("a header said to be longer", binary(), TENSOR, len(binary()) + 4, "the body is not JSON"),
    ("a header of no number", binary(), TENSOR, "all", f"{LENGTH} is 'all'"),
    ("a negative header", binary(), TENSOR, -1, f"{LENGTH} is '-1'"),
    ("a negative size", binary(parameters={"binary_data_size": -1}), TENSOR, None, "is -1"),
    ("a size that is a text", binary(parameters={"binary_data_size": "24"}), TENSOR, None, "is '24'"),
    ("bytes beside data", binary(data=[1] * 6), TENSOR, None, "and no data beside it"),
]  # fmt: skip


@pytest.mark.parametrize(("head", "tail", "length", "words"), [c[1:] for c in BINARY], ids=[c[0] for c in BINARY])
def test_bytes_that_do_not_add_up_are_a_400(
    running: Running, head: bytes, tail: bytes, length: object, words: str
) -> None:
    headers = {**BYTES, LENGTH: str(len(head) if length is None else length)}
    answer = running.ask("POST", "/v2/models/dense/infer", head + tail, headers)
    assert answer.status == 400, answer.data
    assert words.replace("'", '"') in answer.data["error"].replace("'", '"')


@pytest.mark.parametrize(
    ("name", "datatype", "raw", "words"),
    [
        ("flag", "BOOL", b"\0\1\2\0", "bytes other than 0 and 1"),
        ("i16", "INT16", b"\0" * 4, "takes 8 bytes, got 4"),
    ],
)
def test_bytes_must_be_of_the_datatype(running: Running, name: str, datatype: str, raw: bytes, words: str) -> None:
    given = {"name": name, "shape": [1, 4], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [given]}).encode()
    answer = running.ask("POST", "/v2/models/dtypes/infer", head + raw, {**BYTES, LENGTH: str(len(head))})
    assert (answer.status, words in answer.data["error"]) == (400, True), answer.data


@pytest.mark.parametrize("raw", [b"\1\0\0", b"\5\0\0\0abc", struct.pack("<I", 2**32 - 1), b"\1\0\0\0\xff"])
def test_texts_that_end_early_or_are_no_texts_are_a_400(running: Running, raw: bytes) -> None:
    given = {"name": "words", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [given]}).encode()
    answer = running.ask("POST", "/v2/models/words/infer", head + raw, {**BYTES, LENGTH: str(len(head))})
    assert answer.status == 400, answer.data
    assert "'words'" in answer.data["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "the body is not JSON"),
        ("", "the body is not JSON"),
        ("[1]", "the body is no JSON object"),
        ("[" * 100_000, "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (json.dumps(dense(data=[float("nan")] * 6)), "JSON has no NaN"),
        (json.dumps(dense(data=[float("-inf")] * 6)), "JSON has no -Infinity"),
        ('{"inputs": [' + "9" * 5000 + "]}", "the body is not JSON"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_body_that_is_not_json_is_a_400(running: Running, body: bytes | str, words: str) -> None:
    answer = running.ask("POST", "/v2/models/dense/infer", body, JSON)
    assert (answer.status, words in answer.data["error"]) == (400, True), answer.data


def test_other_paths_methods_versions_and_types_have_their_own_status(running: Running) -> None:
    body = json.dumps(dense())
    infer = "/v2/models/dense/infer"
    found = {
        "path": running.ask("GET", "/v3"),
        "model": running.ask("POST", "/v2/models/none/infer", body, JSON),
        "version": running.ask("POST", "/v2/models/dense/versions/2/infer", body, JSON),
        "method": running.ask("GET", infer),
        "type": running.ask("POST", infer, body, {"Content-Type": "text/plain"}),
        "coding": running.ask("POST", infer, body, {**JSON, "Content-Encoding": "gzip"}),
    }
    statuses = {"path": 404, "model": 404, "version": 404, "method": 405, "type": 415, "coding": 415}
    assert {name: answer.status for name, answer in found.items()} == statuses
    assert all(list(answer.data) == ["error"] for answer in found.values())
    assert running.ask("POST", "/v2/models/dense/versions/1/infer", body, JSON).status == 200


def test_pages_of_other_sites_are_refused(running: Running) -> None:
    body, path = json.dumps(dense()), "/v2/models/dense/infer"
    own = f"http://{running.address()}"
    statuses = {
        origin: running.ask("POST", path, body, {"Origin": origin}).status for origin in (own, "http://a.b", "null")
    }
    assert statuses == {own: 200, "http://a.b": 403, "null": 403}


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1",
        "[::2]:{port}", "[::1]evil.example", "::1", "localhost:1:2", "",
    ],
)  # fmt: skip
def test_a_site_whose_name_leads_here_is_refused_on_every_route(running: Running, host: str) -> None:
    """DNS rebinding: to a browser such a page and this server are one origin, and its GETs say none."""
    host = host.format(port=running.address().rpartition(":")[2])
    before = running.metric("edgekit_errors_total")
    infer = "/v2/models/dense/infer"
    answers = [
        running.ask("POST", infer, json.dumps(dense()), {**JSON, "Host": host, "Origin": f"http://{host}"}),
        running.ask("POST", "/v2/models/dense/predict", b"x", {"Host": host}),
        *(running.ask("GET", path, None, {"Host": host}) for path in ("/v2", "/v2/models/dense", "/metrics", "/none")),
    ]
    assert [answer.status for answer in answers] == [403] * 6
    assert answers[2].data == {"error": f"nobody asks here for {host!r} (ask for localhost or 127.0.0.1)"}
    assert running.metric("edgekit_errors_total") == before + 6


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:8000"])
def test_this_machine_is_known_by_its_own_names(running: Running, host: str) -> None:
    own = {**JSON, "Host": host, "Origin": f"http://{host}"}
    assert running.ask("POST", "/v2/models/dense/infer", json.dumps(dense()), own).status == 200
    assert running.ask("GET", "/v2", None, {"Host": host}).status == 200


def test_a_body_beyond_the_limit_is_a_413_with_or_without_a_length(running: Running) -> None:
    said = running.ask("POST", "/v2/models/dense/infer", b" " * (MAX_BODY + 1), JSON)
    with socket.create_connection(running.address().split(":")) as connection:
        connection.sendall(
            b"POST /v2/models/dense/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(MAX_BODY // (1 << 16) + 1):
            connection.sendall(b"10000\r\n" + b" " * (1 << 16) + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        chunked = connection.recv(1 << 16)
    assert (said.status, "beyond 1048576 bytes" in said.data["error"]) == (413, True)
    assert chunked.startswith(b"HTTP/1.1 413 ")


def test_a_caller_who_asks_first_is_told_before_sending_a_huge_body(running: Running) -> None:
    head = "POST /v2/models/dense/infer HTTP/1.1\r\nHost: localhost\r\n"
    head += "Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    with socket.create_connection(running.address().split(":"), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_a_caller_who_goes_away_leaves_no_place_taken(running: Running) -> None:
    with socket.create_connection(running.address().split(":")) as connection:
        connection.sendall(b"POST /v2/models/dense/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert running.infer("dense", dense()).status == 200
    assert running.metric("edgekit_in_flight") == 0


def test_an_engine_that_fails_is_a_500_in_our_words(running: Running, log: Path) -> None:
    request = {"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [99]}]}
    answer = running.infer("gather", request)
    assert answer.status == 500
    assert answer.data["error"].startswith("onnx failed on feeds that match the signature")
    request["inputs"][0]["data"] = [2]
    assert running.infer("gather", request).data["outputs"][0]["data"] == [4.0, 5.0]
    assert "Traceback" not in answer.body.decode() + log.read_text()


def test_what_json_cannot_say_is_asked_for_as_bytes(running: Running) -> None:
    head = binary()
    infinite = np.full(6, np.inf, "<f4").tobytes()
    answer = running.ask("POST", "/v2/models/dense/infer", head + infinite, {**BYTES, LENGTH: str(len(head))})
    assert (answer.status, "binary_data" in answer.data["error"]) == (400, True)
    head = json.dumps({**json.loads(head), "parameters": {"binary_data_output": True}}).encode()
    answer = running.ask("POST", "/v2/models/dense/infer", head + infinite, {**BYTES, LENGTH: str(len(head))})
    size = int(answer.headers[LENGTH.lower()])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert not np.isfinite(np.frombuffer(answer.body[size:], "<f4")).any()


def test_predict_never_opens_a_path_that_is_sent(running: Running, face_image: Path) -> None:
    path = str(face_image).encode()
    for headers in ({}, JSON, {"Content-Type": "text/plain"}):
        answer = running.ask("POST", "/v2/models/resnet:tiny/predict", path, headers)
        assert (answer.status, "cannot be read as an image" in answer.data["error"]) == (400, True), answer.data
        assert "/" not in answer.data["error"]
    text = running.ask("POST", "/v2/models/bert/predict", path)
    assert text.status == 200  # a path is a text like another, and no language
    assert running.ask("POST", "/v2/models/bert/predict", b"\xff").status == 400


def test_predict_answers_the_content_of_a_picture_and_a_text(running: Running, face_image: Path) -> None:
    import edgekit

    with edgekit.load("resnet:tiny") as model:
        right = model.predict(face_image)
    answer = running.ask("POST", "/v2/models/resnet:tiny/predict", face_image.read_bytes()).data
    assert (answer["model_name"], answer["model_version"]) == ("resnet:tiny", "1")
    assert [entry["label"] for entry in answer["answer"]] == [entry["label"] for entry in right]
    said = running.ask("POST", "/v2/models/bert/predict", b"Das ist ein kleiner Satz.").data
    assert said["answer"][0]["label"] == "de"
    raw = running.ask("POST", "/v2/models/dense/predict", b"picture")
    assert (raw.status, "says nothing of raw inputs" in raw.data["error"]) == (400, True)


def call(running: Running, raw: bytes) -> tuple[str, str]:
    """The name and words of the status that a ModelInfer of these bytes ends in."""
    with grpc.insecure_channel(running.address("grpc")) as channel:
        try:
            channel.unary_unary(f"/{SERVICE}/ModelInfer")(raw, timeout=30)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def infer_request(**fields: Any) -> bytes:
    given = {"name": "x", "datatype": "FP32", "shape": [1, 6], **fields.pop("given", {})}
    made = messages()["ModelInferRequest"](model_name="dense", inputs=[given], **fields)
    content: bytes = made.SerializeToString()
    return content


INVALID = "INVALID_ARGUMENT"
VALUES = {"fp32_contents": [1.0] * 6}
RPC = [
    ("right by values", infer_request(given={"contents": VALUES}), "OK", ""),
    ("right by bytes", infer_request(raw_input_contents=[TENSOR]), "OK", ""),
    ("no message", b"\xff\xff", INVALID, "this is no ModelInferRequest"),
    ("both forms", infer_request(given={"contents": VALUES}, raw_input_contents=[TENSOR]), INVALID, "beside"),
    ("neither form", infer_request(), INVALID, "takes 6 values, got 0"),
    ("more bytes than inputs", infer_request(raw_input_contents=[TENSOR] * 2), INVALID, "1 inputs and 2"),
    ("a truncated tensor", infer_request(raw_input_contents=[TENSOR[:-1]]), INVALID, "takes 24 bytes, got 23"),
    ("another field", infer_request(given={"contents": {"fp64_contents": [1.0] * 6}}), INVALID, "fp64_contents"),
    ("no datatype", infer_request(given={"datatype": "FP16"}), INVALID, "comes in raw_input_contents"),
    ("a negative size", infer_request(given={"shape": [-1, 6], "contents": VALUES}), INVALID, "list of sizes"),
    ("an unknown output", infer_request(given={"contents": VALUES}, outputs=[{"name": "z"}]), INVALID, "'z'"),
    ("a version", infer_request(model_version="2", given={"contents": VALUES}), "NOT_FOUND", "no version '2'"),
    ("a sequence", infer_request(parameters={"sequence_id": {"int64_param": 1}}), INVALID, "sequence_id"),
    ("a huge body", infer_request(raw_input_contents=[bytes(2 * MAX_BODY)]), "RESOURCE_EXHAUSTED", ""),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "status", "words"), [case[1:] for case in RPC], ids=[case[0] for case in RPC])
def test_grpc_says_the_same(running: Running, raw: bytes, status: str, words: str) -> None:
    code, said = call(running, raw)
    assert (code, words in said) == (status, True), said


def test_metrics_count_what_was_refused_by_kind(running: Running) -> None:
    before = running.metric("edgekit_errors_total")
    running.infer("dense", dense(name="z"))
    page = running.ask("GET", "/metrics").body.decode()
    assert running.metric("edgekit_errors_total") == before + 1
    assert 'edgekit_errors_total{kind="bad_request",model="dense",protocol="rest"}' in page
    assert 'edgekit_model_ready{model="dense"} 1.0' in page
    for name in ("edgekit_queue_seconds", "edgekit_compute_seconds", "edgekit_request_seconds"):
        assert running.metric(f"{name}_count") > 0
    assert running.metric("process_resident_memory_bytes") > 1 << 20
