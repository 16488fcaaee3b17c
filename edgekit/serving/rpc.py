"""The protocol over gRPC."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from edgekit import __version__
from edgekit.errors import EdgekitError, InputError
from edgekit.serving.messages import SERVICE, messages
from edgekit.serving.models import VERSION, Model, Tensor, check_parameters, find
from edgekit.serving.refusing import RefusedError, refused
from edgekit.serving.rest import EXTENSIONS, Rest
from edgekit.serving.tensors import DATATYPES, to_bytes
from edgekit.serving.working import Work, on

__all__ = ["Rpc"]

_CONTENTS = {
    "BOOL": "bool_contents", "BYTES": "bytes_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
}  # fmt: skip
"""Datatype -> the field its values are in where they do not come as bytes. 16-bit floats always do."""

_LOG = logging.getLogger("edgekit.serving")


class Rpc:
    """The service. `heard_at` is when it last got a ModelInfer, by the monotonic clock.

    It is made on the event loop that `work` belongs to, which is HTTP's too, and answers on another one: a call takes
    `grpc.aio` several turns of its loop, and beside busy HTTP clients each of them lasts as long as all they have sent.

    Args:
        models: By name.
        work: Who runs them.
        rest: Its twin over HTTP, which knows whether the server is ready.
    """

    def __init__(self, models: Mapping[str, Model], work: Work, rest: Rest) -> None:
        self.heard_at = 0.0
        self._home = asyncio.get_running_loop()
        self._models, self._work, self._rest = models, work, rest

    def add_to(self, server: Any) -> None:
        """Registers every call with a `grpc.aio` server. It reads messages itself: a broken one gets our words."""
        import grpc

        calls = (
            self.server_live, self.server_ready, self.model_ready, self.server_metadata, self.model_metadata,
            self.model_infer,
        )  # fmt: skip
        handlers = {}
        for call in calls:
            name = call.__name__.title().replace("_", "")
            handlers[name] = grpc.unary_unary_rpc_method_handler(self._answered(name, call))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    def _answered(
        self, name: str, call: Callable[[Any, Any], Awaitable[dict[str, Any] | bytes]]
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """`call` between the bytes of its request and of its answer; what it raises becomes a status."""
        import grpc

        request_class, response_class = messages()[f"{name}Request"], messages()[f"{name}Response"]

        async def answered(raw: bytes, context: Any) -> bytes:
            try:
                try:
                    request = request_class.FromString(raw)
                except Exception as error:
                    raise InputError(f"this is no {name}Request") from error
                answer = await call(request, context)
                return answer if isinstance(answer, bytes) else response_class(**answer).SerializeToString()
            except Exception as error:  # noqa: BLE001 - the boundary, as in `Rest`
                said = refused(error)
                if not isinstance(error, EdgekitError):
                    _LOG.error("a request failed", exc_info=error)
            await context.abort(grpc.StatusCode[said.grpc], str(said))
            return b""

        return answered

    async def server_live(self, request: Any, context: Any) -> dict[str, Any]:
        return {"live": True}

    async def server_ready(self, request: Any, context: Any) -> dict[str, Any]:
        return {"ready": self._rest.is_ready}

    async def model_ready(self, request: Any, context: Any) -> dict[str, Any]:
        model = find(self._models, request.name, request.version)
        return {"ready": model.session is not None and not self._rest.stopping}

    async def server_metadata(self, request: Any, context: Any) -> dict[str, Any]:
        return {"name": "edgekit", "version": __version__, "extensions": EXTENSIONS}

    async def model_metadata(self, request: Any, context: Any) -> dict[str, Any]:
        return find(self._models, request.name, request.version).metadata()

    async def model_infer(self, request: Any, context: Any) -> bytes:
        started, meters, name = time.perf_counter(), self._work.meters, ""
        self.heard_at = time.monotonic()
        try:
            if self._rest.stopping:
                raise RefusedError("not_ready", "the server is stopping", hint="ask another one")
            model = find(self._models, request.model_name, request.model_version)
            name = model.name
            model.loaded()
            return await on(self._home, self._worked_on(model, request, context.time_remaining()))
        except Exception as error:
            meters.errors.labels(name, "grpc", refused(error).kind).inc()
            raise
        finally:
            meters.requests.labels(name, "grpc").inc()
            meters.seconds.labels(name, "grpc").observe(time.perf_counter() - started)

    async def _worked_on(self, model: Model, request: Any, timeout_s: float | None) -> bytes:
        with self._work.place(timeout_s) as place:
            return await place.run(model.name, lambda: infer(model, request))


def infer(model: Model, request: Any) -> bytes:
    """The answer to a ModelInferRequest, all its tensors as bytes. Raises InputError."""
    check_parameters(_parameters(request))
    wanted = [(output.name, _parameters(output)) for output in request.outputs]
    answer = model.infer(_inputs(request), wanted)
    response = messages()["ModelInferResponse"](model_name=model.name, model_version=VERSION, id=request.id)
    for spec, array in answer:
        response.outputs.add(name=spec.name, datatype=DATATYPES[spec.dtype], shape=array.shape)
        response.raw_output_contents.append(to_bytes(spec, array))
    content: bytes = response.SerializeToString()
    return content


def _inputs(request: Any) -> list[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(f"{len(request.inputs)} inputs and {len(raw)} raw_input_contents")
    tensors = []
    for index, given in enumerate(request.inputs):
        if raw and given.HasField("contents"):
            raise InputError(f"input {given.name!r} has contents beside raw_input_contents")
        data = raw[index] if raw else _contents(given)
        tensors.append(Tensor(given.name, given.datatype, list(given.shape), data, _parameters(given)))
    return tensors


def _contents(given: Any) -> tuple[Any, ...]:
    if given.datatype not in _CONTENTS:
        raise InputError(f"input {given.name!r} is {given.datatype}", hint="it comes in raw_input_contents")
    field = _CONTENTS[given.datatype]
    others = [found.name for found, _ in given.contents.ListFields() if found.name != field]
    if others:
        raise InputError(f"input {given.name!r} of {given.datatype} has its values in {others[0]}, not in {field}")
    return tuple(getattr(given.contents, field))


def _parameters(message: Any) -> dict[str, Any]:
    found = {}
    for name, parameter in message.parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = getattr(parameter, choice) if choice else None
    return found
