"""Every error edgekit raises on purpose.

    EdgekitError             message + hint (what to do next), exit_code
    ├── ArtifactError     3  missing, corrupt, wrong format, failed verification
    ├── InputError        3  feeds or data do not match the signature       (also ValueError)
    ├── UnsupportedError  4  op, dtype, format or recipe not possible here; lists every offender
    ├── UnavailableError  5  an optional part is absent; names the extra    (also ImportError)
    ├── ConversionError   6  a vendor's tool failed or crashed; step, source, vendor message
    └── PredictTimeout    7  a prediction was not done in the time it was given (also TimeoutError)
    GateFailed            1  not an error: the question was answered, and the answer is no

Foreign exceptions are mapped to these at one boundary each: the session for engines, the worker for vendor tools.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ArtifactError",
    "ConversionError",
    "EdgekitError",
    "GateFailed",
    "InputError",
    "PredictTimeout",
    "UnavailableError",
    "UnsupportedError",
]


class EdgekitError(Exception):
    """Base of all errors a user can act on: what was wrong, and as `hint` what to do next."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ArtifactError(EdgekitError):
    """A file is missing, corrupt, of another format than its name says, or failed verification."""

    exit_code = 3


class InputError(EdgekitError, ValueError):
    """Feeds or data do not match what the signature asks for."""

    exit_code = 3


class UnsupportedError(EdgekitError):
    """Something asked for is not possible here; `offenders` lists every cause, not only the first."""

    exit_code = 4

    def __init__(self, message: str, *, offenders: Iterable[str] = (), hint: str = "") -> None:
        self.offenders = tuple(offenders)
        super().__init__(": ".join([message, "; ".join(self.offenders)]) if self.offenders else message, hint=hint)


class UnavailableError(EdgekitError, ImportError):
    """An optional part is not installed or does not work here; the hint names what adds it."""

    exit_code = 5


class ConversionError(EdgekitError):
    """A vendor's tool failed or its process died.

    Args:
        message: What failed, in our words.
        step: The step of the plan that was running, such as ``"keras -> hub"``.
        vendor_message: The tail of what the vendor's tool said.
    """

    exit_code = 6

    def __init__(self, message: str, *, step: str = "", vendor_message: str = "", hint: str = "") -> None:
        self.step = step
        self.vendor_message = vendor_message
        super().__init__(f"{step}: {message}" if step else message, hint=hint)


class PredictTimeout(EdgekitError, TimeoutError):  # noqa: N818 - named as the built-in it is one of
    """A prediction was not done in the time its caller gave it, and has been given up.

    Args:
        message: What took how long.
        timeout_s: The time it was given.
    """

    exit_code = 7

    def __init__(self, message: str, *, timeout_s: float = 0.0, hint: str = "") -> None:
        self.timeout_s = timeout_s
        super().__init__(message, hint=hint)


class GateFailed(Exception):  # noqa: N818 - an answer, not an error
    """The question was answered and the answer is no: accuracy, latency, size or drift is beyond its limit."""

    exit_code = 1
