"""One variant of a bundle with one runtime: a session that shows the bundle's signature, and its golden test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.bundle import Artifact, Bundle
from edgekit.cache import cache_folder
from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.hashing import sha256_hex
from edgekit.opening import Origin
from edgekit.processing import Processing
from edgekit.registry import RUNTIMES
from edgekit.runtime import Engine, EngineOptions, OpenModel, Session
from edgekit.spec import Signature, TensorSpec

__all__ = ["FP32", "check_golden", "open_variant", "pass_golden_once", "precision_of", "verify_once"]

FP32 = "fp32"
"""Arithmetic of float operations where nobody says otherwise."""

_FIRST_CORE = 4096
"""Bytes of /proc/cpuinfo, which the kernel writes core by core as it is read."""


def open_variant(
    bundle: Bundle,
    artifact: Artifact,
    runtime: str,
    *,
    threads: int | None = None,
    lanes: int | None = None,
    precision: str | None = None,
    device: str = "cpu",
    check_finite: bool = False,
) -> Session:
    """Opens one variant with one runtime, showing the bundle's signature; nothing is verified here."""
    threads = threads or artifact.engine_options.get("threads")
    arithmetic = precision_of(artifact, precision) if _has_choice(artifact, runtime) else precision or FP32
    options = EngineOptions(threads=threads, precision=arithmetic, device=device, lanes=lanes)
    engine: Engine = RUNTIMES.get(runtime)
    model = engine.open(artifact.path, options)
    inputs, outputs = artifact.input_names, artifact.output_names
    if engine.formats[0] != artifact.format:
        inputs, outputs = _names_by_meaning(bundle, model, runtime)
    session = Session(
        model,
        runtime=runtime,
        signature=_narrowed(bundle.signature, model, inputs, outputs),
        input_names=inputs,
        output_names=outputs,
        check_finite=check_finite,
        processing=Processing.from_json(bundle.processing),
        artifact=artifact,
    )
    session.origin = Origin.of(artifact.path, runtime, options)
    return session


def precision_of(artifact: Artifact, asked: str | None) -> str:
    """Arithmetic of a variant's float operations: what is asked for, else what the bundle says, else fp32."""
    return asked or str(artifact.engine_options.get("precision") or FP32)


def _has_choice(artifact: Artifact, runtime: str) -> bool:
    """Whether what the bundle says of arithmetic is said of this runtime: others may not have it."""
    return artifact.engine_options.get("runtime") in (None, runtime)


def _names_by_meaning(bundle: Bundle, model: OpenModel, runtime: str) -> tuple[dict[str, str], dict[str, str]]:
    """Which tensor is which, for an engine that reads another engine's format and may name its tensors otherwise."""
    from edgekit.parity import match_inputs, match_outputs

    golden = bundle.golden()
    inputs = match_inputs(bundle.signature.inputs, model.inputs)
    bare = [
        f"{spec.name}: {spec.dtype}"
        for spec in (*model.inputs, *model.outputs)
        if spec.quant is None
        and spec.dtype not in {s.dtype for s in (*bundle.signature.inputs, *bundle.signature.outputs)}
    ]
    if bare:
        raise UnsupportedError(
            f"the {runtime} runtime does not say what the file's integer inputs and outputs stand for",
            offenders=bare,
            hint="the runtime of the file's own format does",
        )
    raw = Session(model, runtime=runtime)
    answers = [raw.run({inputs[name]: array for name, array in feed.items()}) for feed in golden.feeds]
    return inputs, match_outputs(golden.outputs, answers)


def _narrowed(
    signature: Signature, model: OpenModel, input_names: Mapping[str, str], output_names: Mapping[str, str]
) -> Signature:
    """The source's signature with the sizes this file fixes, such as a batch of 1."""

    def narrow(
        specs: tuple[TensorSpec, ...], file: tuple[TensorSpec, ...], names: Mapping[str, str]
    ) -> tuple[TensorSpec, ...]:
        shapes = {spec.name: spec.shape for spec in file}
        own = [shapes.get(names.get(spec.name, spec.name), spec.shape) for spec in specs]
        return tuple(
            TensorSpec(spec.name, spec.dtype, shape, spec.layout, spec.quant) if len(shape) == len(spec.shape) else spec
            for spec, shape in zip(specs, own, strict=True)
        )

    return Signature(
        narrow(signature.inputs, model.inputs, input_names),
        narrow(signature.outputs, model.outputs, output_names),
        signature.state,
    )


def check_golden(bundle: Bundle, artifact: Artifact, session: Session) -> dict[str, tuple[float, float]]:
    """For each output the largest difference from the golden answers, and the tolerance it is to be within."""
    from edgekit.parity import largest_difference

    golden = bundle.golden()
    limits: dict[str, float] = artifact.facts["tolerance"]
    worst = dict.fromkeys(limits, 0.0)
    for feeds, expected in zip(golden.feeds, golden.outputs, strict=True):
        got = session.run(feeds)
        for name in limits:
            worst[name] = max(worst[name], largest_difference(expected[name], got[name]))
    return {name: (worst[name], limits[name]) for name in limits}


def pass_golden_once(bundle: Bundle, artifact: Artifact, runtime: str, session: Session, precision: str) -> None:
    """Runs the golden test unless this device has passed it with this engine before.

    Raises:
        ArtifactError: An output is further from the source's answer than the bundle allows.
    """
    engine = RUNTIMES.get(runtime).probe().version
    hashes = sorted(file.sha256 for file in artifact.files)
    identity = [bundle.sha256, artifact.name, hashes, runtime, engine, os.uname().machine, _cpu(), precision]
    mark = _mark("golden", identity)
    if mark.exists():
        return
    for name, (worst, limit) in check_golden(bundle, artifact, session).items():
        if worst > limit:
            raise ArtifactError(
                f"{artifact.name} with {engine} fails its golden test on this device: output {name!r} is "
                f"{worst:.3g} from the source's answer, {limit:.3g} is allowed",
                hint="load(..., variant=...) another one; `edgekit verify` shows which pass",
            )
    _leave(mark)


def verify_once(bundle: Bundle, artifact: Artifact) -> None:
    """Checks the hashes of a variant's files unless these very files passed before: same inode, size and times.

    The time of change is the kernel's own: what writes to a file, or puts another in its place, cannot keep it. What
    a failing disk does beneath is seen by `edgekit verify`, which always reads all.

    Raises:
        ArtifactError: Names every file that is not as the manifest says.
    """
    before = _stamps(bundle, artifact)
    mark = _mark("verified", before)
    if mark.exists():
        return
    bundle.verify(artifact)
    if _stamps(bundle, artifact) == before:
        _leave(mark)


def _stamps(bundle: Bundle, artifact: Artifact) -> list[Any]:
    found: list[Any] = [str(bundle.root)]
    for file in artifact.files:
        info = os.lstat(bundle.root / file.path)
        found += [file.sha256, file.path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
    return found


def _cpu() -> str:
    """What tells the first core from those of other machines that may share a cache folder."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - the shorter way
            lines = file.read(_FIRST_CORE).splitlines()
    except OSError:
        import platform

        return platform.processor()
    known = ("model name", "flags", "features", "cpu part", "cpu implementer", "cpu variant")
    return "\n".join(line for line in lines[:64] if line.lower().startswith(known))


def _mark(kind: str, identity: list[Any]) -> Path:
    return cache_folder() / kind / sha256_hex(repr(identity).encode())


def _leave(mark: Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        # A device with a read-only home checks at every load; nothing else is lost.
        return
