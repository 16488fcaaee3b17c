"""The protocol over HTTP: JSON, the binary tensor extension, and raw inputs by `predict`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import __version__
from edgekit.errors import ArtifactError, EdgekitError, InputError
from edgekit.serving.models import VERSION, Answer, Model, Tensor, check_parameters, find
from edgekit.serving.origins import check_host, check_origin
from edgekit.serving.refusing import RefusedError, refused
from edgekit.serving.tensors import DATATYPES, to_bytes, to_list
from edgekit.serving.working import Place, Work

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["EXTENSIONS", "HEADER_LENGTH", "Rest"]

EXTENSIONS = ["binary_tensor_data", "edgekit_predict"]
HEADER_LENGTH = "Inference-Header-Content-Length"
_TENSOR_TYPES = ("", "application/json", "application/octet-stream")
"""No type at all is what tritonclient sends."""

_DRAIN_S = 5.0

_LOG = logging.getLogger("edgekit.serving")


class Rest:
    """The application. `stopping` has every answer close its connection.

    Args:
        models: By name.
        work: Who runs them.
        max_body_bytes: Of a request.
        is_local: Whether it listens for this machine alone: who asks for another host than that is refused.
    """

    def __init__(self, models: Mapping[str, Model], work: Work, max_body_bytes: int, *, is_local: bool) -> None:
        self.stopping = False
        self._is_local = is_local
        self._models, self._work, self._max_body_bytes = models, work, max_body_bytes

    def application(self) -> ASGIApp:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        routes = [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/metrics", self._metrics),
        ]
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                Route(path, self._model),
                Route(f"{path}/ready", self._model_ready),
                Route(f"{path}/infer", self._infer, methods=["POST"]),
                Route(f"{path}/predict", self._predict, methods=["POST"]),
            ]
        return self._guarded(Starlette(routes=routes, exception_handlers={HTTPException: self._no_route}))

    def _guarded(self, application: Starlette) -> ASGIApp:
        """`application` for those who may ask."""
        from starlette.requests import Request

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            answer: ASGIApp = application
            if scope["type"] == "http":
                request = Request(scope, receive)
                try:
                    check_origin(request.headers)
                    if self._is_local:
                        check_host(request.headers)
                except RefusedError as error:
                    self._work.meters.requests.labels("", "rest").inc()
                    self._work.meters.errors.labels("", "rest", error.kind).inc()
                    await self._drain(request)
                    answer = self._refusal(error)
            await answer(scope, receive, send)

        return guarded

    @property
    def is_ready(self) -> bool:
        return not self.stopping and all(model.session is not None for model in self._models.values())

    async def _server(self, request: Request) -> Response:
        return self._json({"name": "edgekit", "version": __version__, "extensions": EXTENSIONS})

    async def _live(self, request: Request) -> Response:
        return self._json({"live": True})

    async def _ready(self, request: Request) -> Response:
        return self._json({"ready": self.is_ready}, 200 if self.is_ready else 503)

    async def _metrics(self, request: Request) -> Response:
        content, kind = self._work.meters.text()
        return self._reply(content, kind)

    async def _model(self, request: Request) -> Response:
        try:
            return self._json(self._found(request).metadata())
        except RefusedError as error:
            return self._refusal(error)

    async def _model_ready(self, request: Request) -> Response:
        try:
            model = self._found(request)
        except RefusedError as error:
            return self._refusal(error)
        is_ready = model.session is not None and not self.stopping
        return self._json({"name": model.name, "ready": is_ready}, 200 if is_ready else 503)

    async def _infer(self, request: Request) -> Response:
        async def work(model: Model, place: Place) -> Response:
            check_media_type(request.headers)
            body = await self._body(request, place)
            length = request.headers.get(HEADER_LENGTH)
            content, header = await place.run(model.name, lambda: infer(model, body, length))
            if header is None:
                return self._reply(content, "application/json")
            return self._reply(content, "application/octet-stream", {HEADER_LENGTH: str(header)})

        return await self._answered(request, work)

    async def _predict(self, request: Request) -> Response:
        async def work(model: Model, place: Place) -> Response:
            body = await self._body(request, place)
            return self._reply(await place.run(model.name, lambda: predict(model, body)), "application/json")

        return await self._answered(request, work)

    async def _answered(self, request: Request, work: Callable[[Model, Place], Any]) -> Response:
        """Whatever `work` gives, or the refusal it ends in; counted either way."""
        started, meters, name = time.perf_counter(), self._work.meters, ""
        try:
            model = self._found(request)
            name = model.name
            model.loaded()
            with self._work.place() as place:
                response: Response = await work(model, place)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it is, the caller gets a status and our words
            response = self._refusal(refused(error))
            meters.errors.labels(name, "rest", refused(error).kind).inc()
            if not isinstance(error, EdgekitError):
                _LOG.exception("a request failed")
            await self._drain(request)
        meters.requests.labels(name, "rest").inc()
        meters.seconds.labels(name, "rest").observe(time.perf_counter() - started)
        return response

    def _found(self, request: Request) -> Model:
        return find(self._models, request.path_params["name"], request.path_params.get("version", ""))

    async def _body(self, request: Request, place: Place) -> bytearray:
        from starlette.requests import ClientDisconnect

        too_large = RefusedError(
            "too_large", f"the body is beyond {self._max_body_bytes} bytes", hint="--max-body allows more"
        )
        if int(request.headers.get("content-length", 0)) > self._max_body_bytes:
            raise too_large
        body, length = bytearray(), 0
        request.state.is_read = True
        try:
            async with asyncio.timeout(place.left_s):
                async for part in request.stream():
                    length += len(part)
                    if length <= self._max_body_bytes:
                        body += part
                    elif length > 2 * self._max_body_bytes:
                        break
        except TimeoutError:
            raise RefusedError("slow_request", f"only {length} bytes of the body came in time") from None
        except ClientDisconnect:
            raise InputError("the connection ended before the body did") from None
        if length > self._max_body_bytes:
            raise too_large
        return body

    async def _drain(self, request: Request) -> None:
        """Takes what a refused caller is still sending: many read no answer before all of theirs is sent."""
        from starlette.requests import ClientDisconnect

        if hasattr(request.state, "is_read") or "expect" in request.headers:
            return
        dropped = 0
        with suppress(TimeoutError, ClientDisconnect):  # who is slow or gone has the connection closed on them
            async with asyncio.timeout(_DRAIN_S):
                async for part in request.stream():
                    dropped += len(part)
                    if dropped > self._max_body_bytes:
                        return

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        said = "this path takes another method" if status == 405 else f"there is no path {request.url.path}"
        return self._json({"error": f"{said} (see /v2)"}, status, dict(getattr(error, "headers", None) or {}))

    def _refusal(self, error: RefusedError) -> Response:
        return self._json({"error": str(error)}, error.http, {"Retry-After": "1"} if error.http == 503 else {})

    def _json(self, data: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return self._reply(json.dumps(data).encode(), "application/json", headers, status)

    def _reply(
        self, content: bytes, kind: str, headers: Mapping[str, str] | None = None, status: int = 200
    ) -> Response:
        from starlette.responses import Response

        closing = {"Connection": "close"} if self.stopping else {}
        return Response(content, status, {**(headers or {}), **closing}, kind)


def check_media_type(headers: Mapping[str, str]) -> None:
    """Raises RefusedError for a body that is said to be something else than tensors, or to be compressed."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _TENSOR_TYPES:
        raise RefusedError("media_type", f"tensors do not come as {kind!r}", hint="Content-Type: application/json")
    if (coding := headers.get("content-encoding", "identity")) != "identity":
        raise RefusedError("media_type", f"bodies of Content-Encoding {coding!r} are not read", hint="send it as it is")


def infer(model: Model, body: bytearray, header_length: str | None) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where tensors follow as bytes.

    Args:
        body: JSON, and behind it the bytes of those tensors that have a ``binary_data_size``, in their order.
        header_length: Length of the JSON as the header `HEADER_LENGTH` says it; None when there is nothing else.

    Raises:
        InputError: The body is not what the protocol and the model's signature say.
    """
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdecimal() and int(header_length) <= length):
            raise InputError(f"{HEADER_LENGTH} is {header_length!r}, and the body has {length} bytes")
        length = int(header_length)
    asked = _object(body[:length])
    inputs = _inputs(asked, memoryview(body)[length:])
    parameters = asked.get("parameters") or {}
    check_parameters(parameters)
    given = asked.get("outputs") or []
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise InputError('"outputs" is a list of objects with a "name"')
    wanted = [(item.get("name"), item.get("parameters") or {}) for item in given]
    answer = model.infer(inputs, wanted)
    default = parameters.get("binary_data_output", False)
    is_binary = [bool(said.get("binary_data", default)) for _, said in wanted] or [bool(default)] * len(answer)
    return _written(model, asked, answer, is_binary)


def predict(model: Model, body: bytearray) -> bytes:
    """The answer to a raw input as JSON. Raises InputError; ArtifactError where JSON cannot hold it."""
    answer = {"model_name": model.name, "model_version": VERSION, "answer": model.predict(body)}
    try:
        return json.dumps(answer, allow_nan=False, default=_plain).encode()
    except ValueError as error:
        raise ArtifactError("the answer holds NaN or infinity, which JSON cannot") from error


def _object(text: bytes | bytearray) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError("the body is no JSON object", hint='{"inputs": [...]}')
    if not isinstance(found.get("id", ""), str):
        raise InputError('"id" is a text')
    return found


def _no_constant(word: str) -> Any:
    raise InputError(f"JSON has no {word}", hint="send the tensor as bytes: the binary tensor extension")


def _inputs(asked: Mapping[str, Any], rest: memoryview) -> list[Tensor]:
    given = asked.get("inputs")
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise InputError('"inputs" is a list of objects', hint="of name, shape, datatype and data")
    tensors = []
    for item in given:
        parameters = item.get("parameters") or {}
        check_parameters(parameters)
        data = item.get("data")
        if (size := parameters.get("binary_data_size")) is not None:
            if data is not None or type(size) is not int or not 0 <= size <= len(rest):
                said = f'"binary_data_size" of input {item.get("name")!r} is {size!r}, and {len(rest)} bytes are left'
                raise InputError(said, hint="and no data beside it")
            data, rest = rest[:size], rest[size:]
        tensors.append(Tensor(item.get("name"), item.get("datatype"), item.get("shape"), data, parameters))
    if len(rest):
        raise InputError(f"{len(rest)} bytes behind the last tensor", hint=f"{HEADER_LENGTH} and sizes must add up")
    return tensors


def _written(model: Model, asked: Mapping[str, Any], answer: Answer, is_binary: list[bool]) -> tuple[bytes, int | None]:
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for (spec, array), as_bytes in zip(answer, is_binary, strict=True):
        output: dict[str, Any] = {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(array.shape)}
        if as_bytes:
            parts.append(to_bytes(spec, array))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = to_list(spec, array)
        outputs.append(output)
    said = {key: asked[key] for key in ("id",) if key in asked}
    header = json.dumps({"model_name": model.name, "model_version": VERSION, **said, "outputs": outputs}).encode()
    return b"".join([header, *parts]), len(header) if parts else None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise ArtifactError(f"the answer holds a {type(value).__name__}, which JSON cannot")
