"""The verb `verify`: hashes, and the golden test of every variant with every engine of its own format that is here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.bundle import Artifact, Bundle
from edgekit.errors import EdgekitError, UnsupportedError
from edgekit.loading import is_bundle, takers
from edgekit.registry import RUNTIMES
from edgekit.variants import check_golden, open_variant

__all__ = ["Verification", "VerificationRow", "verify"]


@dataclass(frozen=True)
class VerificationRow:
    """One variant with one runtime.

    Attributes:
        status: ``"passed"``, ``"failed"`` or ``"unavailable"``.
        max_error: Largest difference from the golden answers, of the output nearest to its tolerance.
        tolerance: What is allowed for that output.
        reason: Why it failed or could not be tried.
    """

    variant: str
    runtime: str
    status: str
    max_error: float | None = None
    tolerance: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Verification:
    """All rows, and where they were tried if not on this machine. It passed when something could and nothing failed."""

    bundle: str
    rows: tuple[VerificationRow, ...]
    device: str | None = None

    @property
    def passed(self) -> bool:
        statuses = {row.status for row in self.rows}
        return "passed" in statuses and "failed" not in statuses

    def to_json(self) -> dict[str, Any]:
        rows = [vars(row) for row in self.rows]
        return {"bundle": self.bundle, "device": self.device, "passed": self.passed, "rows": rows}


def verify(
    path: str | Path, *, runtime: str | None = None, device: str | None = None, device_python: str | None = None
) -> Verification:
    """Checks a bundle on this device: every file's hash, then every variant's golden answers.

    Args:
        path: A bundle.
        runtime: Only with this runtime; by default each variant with the runtime of its format.
        device: ``"ssh://USER@HOST"`` checks it there, where nothing of edgekit need be installed.
        device_python: The Python to run there; by default ``python3``.

    Raises:
        ArtifactError: The bundle or a file of it is missing or damaged.
        UnsupportedError: The runtime opens none of the bundle's formats, or `path` is no bundle.
        UnavailableError: The device cannot be reached, or lacks what it takes.
    """
    path = Path(path)
    if not is_bundle(path):
        raise UnsupportedError(f"{path} is a model file: only a bundle carries hashes and golden answers to verify")
    if device is not None:
        from edgekit.devices.remote import ask_device
        from edgekit.measuring.reading import record_from_json

        data = ask_device(device, "verify", path, {"runtime": runtime}, python=device_python)
        return replace(record_from_json(Verification, data, device), bundle=str(path), device=device)
    bundle = Bundle.open(path)
    bundle.verify()
    rows = [_try(bundle, artifact, name) for artifact in bundle.variants for name in takers(artifact.format, runtime)]
    if not rows:
        raise UnsupportedError(f"runtime {runtime!r} opens none of the formats of {path}")
    return Verification(str(path), tuple(rows))


def _try(bundle: Bundle, artifact: Artifact, runtime: str) -> VerificationRow:
    probe = RUNTIMES.get(runtime).probe()
    if not probe.available:
        return VerificationRow(artifact.name, runtime, "unavailable", reason=probe.reason)
    try:
        with open_variant(bundle, artifact, runtime) as session:
            checks = check_golden(bundle, artifact, session)
    except EdgekitError as error:
        return VerificationRow(artifact.name, runtime, "failed", reason=str(error))
    worst, limit = max(checks.values(), key=lambda pair: pair[0] / pair[1])
    status = "passed" if worst <= limit else "failed"
    reason = "" if status == "passed" else "differs from the golden answers by more than its tolerance"
    return VerificationRow(artifact.name, runtime, status, worst, limit, reason)
