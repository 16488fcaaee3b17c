"""Why a request gets no answer: one list of kinds, in the words of HTTP and of gRPC."""

from __future__ import annotations

from edgekit.errors import EdgekitError, InputError, UnavailableError, UnsupportedError

__all__ = ["STATUSES", "RefusedError", "refused"]

STATUSES: dict[str, tuple[int, str]] = {
    "bad_request": (400, "INVALID_ARGUMENT"),
    "foreign": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "slow_request": (408, "DEADLINE_EXCEEDED"),
    "too_large": (413, "RESOURCE_EXHAUSTED"),
    "media_type": (415, "INVALID_ARGUMENT"),
    "engine": (500, "INTERNAL"),
    "not_possible": (501, "UNIMPLEMENTED"),
    "busy": (503, "RESOURCE_EXHAUSTED"),
    "not_ready": (503, "UNAVAILABLE"),
    "timeout": (504, "DEADLINE_EXCEEDED"),
}
"""Kind -> status of HTTP, name of the status of gRPC. The kinds are labels of the metrics too."""


class RefusedError(EdgekitError):
    """A request that is not answered.

    Args:
        kind: A key of `STATUSES`.
    """

    def __init__(self, kind: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind

    @property
    def http(self) -> int:
        return STATUSES[self.kind][0]

    @property
    def grpc(self) -> str:
        return STATUSES[self.kind][1]


def refused(error: Exception) -> RefusedError:
    """What a caller is told of `error`: nothing of its trace, which is for the log of whoever serves."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, EdgekitError):
        is_asked = isinstance(error, UnsupportedError | UnavailableError)
        kind = "bad_request" if isinstance(error, InputError) else "not_possible" if is_asked else "engine"
        return RefusedError(kind, error.message, hint=error.hint)
    return RefusedError(
        "engine", f"this is a bug in edgekit: {type(error).__name__}", hint="the server's log shows where"
    )
