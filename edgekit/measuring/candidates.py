"""Which files, engines and thread counts are to be measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.errors import UnsupportedError
from edgekit.loading import is_bundle
from edgekit.measuring.records import Candidate
from edgekit.opening import ORACLE, detect_format
from edgekit.registry import RUNTIMES, Probe
from edgekit.runtime import Engine

__all__ = ["Subject", "find_candidates", "read_subject"]


@dataclass(frozen=True)
class _File:
    name: str
    format: str
    precision: str | None
    recipe: str | None
    threads: int | None
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Subject:
    """What is to be profiled: a bundle, or a bare model file, which has one variant and says less of itself."""

    path: Path
    bundle: Bundle | None
    files: tuple[_File, ...]

    @property
    def target(self) -> str | None:
        return self.bundle.target if self.bundle else None


def read_subject(path: Path) -> Subject:
    """Reads the manifest of a bundle, or the format of a model file. Raises ArtifactError when it is neither."""
    if is_bundle(path):
        bundle = Bundle.open(path)
        bundle.verify()
        return Subject(path, bundle, tuple(_files_of(bundle)))
    format = detect_format(path)
    weights = path.with_suffix(".bin")
    files = [path, weights] if format == "openvino" and weights.is_file() else [path]
    size = sum(file.stat().st_size for file in files)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Subject(path, None, (_File(path.name, format, None, None, None, sha256, size),))


def _files_of(bundle: Bundle) -> Iterator[_File]:
    for artifact in bundle.variants:
        recipe = artifact.facts.get("recipe") or {}
        yield _File(
            name=artifact.name,
            format=artifact.format,
            precision=artifact.precision,
            recipe=recipe.get("name"),
            threads=artifact.engine_options.get("threads"),
            sha256=artifact.files[0].sha256,
            size_bytes=artifact.size_bytes,
        )


def find_candidates(
    subject: Subject, runtime: str | Sequence[str] | None, threads: int | Sequence[int] | None
) -> tuple[list[Candidate], list[tuple[Candidate, Probe]]]:
    """All combinations, and apart from them those whose engine is not available here, with its probe.

    Args:
        subject: What is to be profiled.
        runtime: Names; None for every engine that is here but the oracle; ``"all"`` for every one there is.
        threads: Counts; None for what the bundle says for each file, else what the engine does by itself.

    Raises:
        UnsupportedError: A name is none, or none of those named opens any of the files.
    """
    engines = _engines(runtime)
    counts = [threads] if isinstance(threads, int) or threads is None else list(threads)
    here: list[Candidate] = []
    absent: list[tuple[Candidate, Probe]] = []
    for file in subject.files:
        for name, engine in engines.items():
            if file.format not in engine.formats:
                continue
            probe = engine.probe()
            for count in counts:
                candidate = _candidate(file, name, probe, count or file.threads, subject.bundle is not None)
                if probe.available:
                    here.append(candidate)
                else:
                    absent.append((candidate, probe))
    if not here and not absent:
        formats = sorted({file.format for file in subject.files})
        raise UnsupportedError(
            f"none of the runtimes {', '.join(engines)} opens {', '.join(formats)}", hint="edgekit list runtimes"
        )
    return here, absent


def _engines(runtime: str | Sequence[str] | None) -> dict[str, Engine]:
    if runtime is None:
        return {name: engine for name, engine in RUNTIMES if name != ORACLE}
    if runtime == "all":
        return dict(RUNTIMES)
    return {name: RUNTIMES.get(name) for name in ([runtime] if isinstance(runtime, str) else runtime)}


def _candidate(file: _File, runtime: str, probe: Probe, threads: int | None, in_bundle: bool) -> Candidate:
    return Candidate(
        variant=file.name,
        format=file.format,
        precision=file.precision,
        recipe=file.recipe,
        runtime=runtime,
        runtime_version=probe.version,
        threads=threads,
        artifact_sha256=file.sha256,
        size_bytes=file.size_bytes,
        in_bundle=in_bundle,
    )
