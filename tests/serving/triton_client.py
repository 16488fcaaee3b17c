"""Asks a server everything there is to ask, by tritonclient, and prints the answers as JSON. Has no edgekit.

Run as ``python triton_client.py CASES.npz HTTP GRPC``; the cases are arrays named ``model/index/in|out/name``.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as rpc
import tritonclient.http as rest
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def asked(api, client, model, feeds, **binary):
    """The outputs by name of one request, as the client reads them."""
    inputs = []
    for name, array in feeds.items():
        given = api.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        given.set_data_from_numpy(array, **binary)
        inputs.append(given)
    outputs = [output["name"] for output in rest_metadata[model]["outputs"]]
    wanted = [api.InferRequestedOutput(name, **binary) for name in outputs]
    answer = client.infer(model, inputs, outputs=wanted, request_id="r-1")
    said = answer.get_response() if api is rest else {"id": answer.get_response().id}
    assert said["id"] == "r-1", said
    return {name: answer.as_numpy(name) for name in outputs}


def same(got, right):
    if right.dtype.kind == "O":  # JSON gives texts, bytes give bytes
        return [t.decode() if isinstance(t, bytes) else t for t in got.ravel()] == right.ravel().tolist()
    return got.dtype == right.dtype and got.shape == right.shape and np.allclose(got, right, atol=1e-5)


def judge(api, client, model, feeds, right, **binary):
    try:
        got = asked(api, client, model, feeds, **binary)
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "right" if all(same(got[name], right[name]) for name in right) else f"wrong: {got}"


cases = {}
with np.load(sys.argv[1]) as arrays:
    for key in arrays.files:
        model, index, side, name = key.split("/")
        array = arrays[key].astype(object) if arrays[key].dtype.kind == "U" else arrays[key]
        cases.setdefault((model, index), ({}, {}))[side == "out"][name] = array

http, grpc = rest.InferenceServerClient(sys.argv[2]), rpc.InferenceServerClient(sys.argv[3])
rest_metadata = {model: http.get_model_metadata(model) for model, _ in cases}
report = {"judged": {}, "metadata": rest_metadata, "grpc_metadata": {}, "health": {}, "refused": {}}
for (model, index), (feeds, right) in cases.items():
    for kind, api, client, binary in (
        ("http-binary", rest, http, {"binary_data": True}),
        ("http-json", rest, http, {"binary_data": False}),
        ("grpc", rpc, grpc, {}),
    ):
        report["judged"][f"{model}/{index}/{kind}"] = judge(api, client, model, feeds, right, **binary)
for kind, client in (("http", http), ("grpc", grpc)):
    report["health"][kind] = [client.is_server_live(), client.is_server_ready(), client.is_model_ready("dense"),
                              client.is_model_ready("dense", "1")]  # fmt: skip
for model in rest_metadata:
    report["grpc_metadata"][model] = grpc.get_model_metadata(model, as_json=True)
report["server"] = {"http": http.get_server_metadata(), "grpc": grpc.get_server_metadata(as_json=True)}
x = np.zeros((1, 5), "float32")
for kind, api, client in (("http", rest, http), ("grpc", rpc, grpc)):
    for model in ("dense", "none"):
        given = api.InferInput("x", [1, 5], "FP32")
        given.set_data_from_numpy(x)
        try:
            client.infer(model, [given])
        except InferenceServerException as error:
            report["refused"][f"{kind}/{model}"] = [error.status(), error.message()]
print(json.dumps(report))
