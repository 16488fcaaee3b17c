"""The verb `load`: the best variant this device can run, verified, as a session."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.about import read_about
from edgekit.bundle import Artifact, Bundle
from edgekit.cache import cache_folder
from edgekit.errors import ArtifactError, UnavailableError, UnsupportedError
from edgekit.named_files import file_of
from edgekit.opening import detect_format, open_session, own_runtimes
from edgekit.parity import match_inputs, match_outputs
from edgekit.processing import Processing
from edgekit.registry import RUNTIMES
from edgekit.runtime import Engine, EngineOptions, OpenModel, Session
from edgekit.spec import Signature, TensorSpec

__all__ = ["check_golden", "choose_variant", "is_bundle", "load", "open_variant", "takers"]


def load(
    path: str | Path,
    *,
    runtime: str | None = None,
    variant: str | None = None,
    threads: int | None = None,
    precision: str = "fp32",
    check_finite: bool = False,
    integer_io: bool = False,
) -> Session:
    """Opens a bundle, or a bare .tflite, .onnx or .xml file, ready to run.

    Of a bundle the files are checked against their hashes, the first variant this device can run is taken, and the
    first time on a device or engine version it must reproduce the bundle's golden answers.

    Args:
        path: ``NAME.edge``, ``NAME.edge.zip`` or a model file, told apart by content; or the name of a model.
        runtime: Insist on a runtime, such as ``"onnx"``.
        variant: Insist on a variant of the bundle, such as ``"tflite-w8a8"``.
        threads: Threads for one call; by default what the bundle says, else what the engine does.
        precision: Arithmetic for float operations where the engine has a choice: ``"fp32"``, ``"bf16"``, ``"fp16"``.
        check_finite: Refuse NaN and infinity in feeds.
        integer_io: Show quantized inputs and outputs of a bare file as the integers they are.

    Raises:
        ArtifactError: The file is missing, corrupt, or fails its golden test.
        UnavailableError: No installed engine opens it; the hint names what to install.
        UnsupportedError: The runtime or variant insisted on is none, or an operation is not supported.
    """
    path = file_of(path)
    if is_bundle(path):
        arguments = (runtime, variant, threads, precision, check_finite)
        bundle = Bundle.open(path)
        try:
            return _load_bundle(bundle, *arguments)
        except ArtifactError:
            if bundle.is_current():
                raise
            # A newer generation took its place while this one was being read.
            return _load_bundle(Bundle.open(path), *arguments)
    if variant is not None:
        raise UnsupportedError(f"{path} is a model file, not a bundle: it has no variants")
    options = EngineOptions(threads=threads, precision=precision)
    settings = {"check_finite": check_finite, "integer_io": integer_io, "processing": _own_processing(path)}
    return open_session(path, detect_format(path), runtime, options, **settings)[1]


def _own_processing(path: Path) -> Processing | None:
    """How a model file that edgekit made says its inputs are prepared; None for any other file."""
    about = read_about(path)
    return Processing.from_json(about.get("processing", {})) if about else None


def _load_bundle(
    bundle: Bundle,
    runtime: str | None,
    variant: str | None,
    threads: int | None,
    precision: str,
    check_finite: bool,
) -> Session:
    artifact, name = choose_variant(bundle, runtime, variant)
    bundle.verify(artifact)
    session = open_variant(bundle, artifact, name, threads=threads, precision=precision, check_finite=check_finite)
    _golden_once(bundle, artifact, name, session, precision)
    return session


def is_bundle(path: Path) -> bool:
    """Whether `path` is meant to be a bundle: a folder, or a zip archive."""
    if path.is_dir():
        return True
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist")
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def choose_variant(bundle: Bundle, runtime: str | None, variant: str | None) -> tuple[Artifact, str]:
    """The best variant this device can run, and the runtime for it.

    The order is the bundle's. A runtime takes files of another engine's format only when it is insisted on.

    Raises:
        UnsupportedError: What is insisted on does not open what the bundle has.
        UnavailableError: It would be possible, but no engine for it works here.
    """
    artifacts = [bundle.variant(variant)] if variant is not None else list(bundle.variants)
    pairs = [(artifact, name) for artifact in artifacts for name in takers(artifact.format, runtime)]
    if not pairs:
        formats = ", ".join(sorted({artifact.format for artifact in artifacts}))
        raise UnsupportedError(f"{runtime or 'no runtime'} opens none of what there is: {formats}")
    # Stable: of what one insists on, the runtime's own format comes before others.
    for artifact, name in sorted(pairs, key=lambda pair: RUNTIMES.get(pair[1]).formats[0] != pair[0].format):
        if RUNTIMES.get(name).probe().available:
            return artifact, name
    probes = {name: RUNTIMES.get(name).probe() for _, name in pairs}
    commands = [f"pip install 'edgekit-ml[{probe.extra}]'" for probe in probes.values() if probe.extra]
    raise UnavailableError(
        "no engine for this bundle works here: " + "; ".join(f"{name}: {p.reason}" for name, p in probes.items()),
        hint=", or ".join(commands) or "edgekit doctor",
    )


def takers(format: str, runtime: str | None) -> list[str]:
    """The runtimes whose own format this is, or the one insisted on, if it opens the format at all."""
    if runtime is None:
        return own_runtimes(format)
    return [runtime] if format in RUNTIMES.get(runtime).formats else []


def open_variant(
    bundle: Bundle,
    artifact: Artifact,
    runtime: str,
    *,
    threads: int | None = None,
    precision: str = "fp32",
    check_finite: bool = False,
) -> Session:
    """Opens one variant with one runtime, showing the bundle's signature; nothing is verified here."""
    options = EngineOptions(threads=threads or artifact.engine_options.get("threads"), precision=precision)
    engine: Engine = RUNTIMES.get(runtime)
    model = engine.open(artifact.path, options)
    inputs, outputs = artifact.input_names, artifact.output_names
    if engine.formats[0] != artifact.format:
        inputs, outputs = _names_by_meaning(bundle, model, runtime)
    return Session(
        model,
        runtime=runtime,
        signature=_narrowed(bundle.signature, model, inputs, outputs),
        input_names=inputs,
        output_names=outputs,
        check_finite=check_finite,
        processing=Processing.from_json(bundle.processing),
        artifact=artifact,
    )


def _names_by_meaning(bundle: Bundle, model: OpenModel, runtime: str) -> tuple[dict[str, str], dict[str, str]]:
    """Which tensor is which, for an engine that reads another engine's format and may name its tensors otherwise."""
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
            replace(spec, shape=shape) if len(shape) == len(spec.shape) else spec
            for spec, shape in zip(specs, own, strict=True)
        )

    return Signature(
        narrow(signature.inputs, model.inputs, input_names),
        narrow(signature.outputs, model.outputs, output_names),
        signature.state,
    )


def check_golden(bundle: Bundle, artifact: Artifact, session: Session) -> dict[str, tuple[float, float]]:
    """For each output the largest difference from the golden answers, and the tolerance it is to be within."""
    golden = bundle.golden()
    limits: dict[str, float] = artifact.facts["tolerance"]
    worst = dict.fromkeys(limits, 0.0)
    for feeds, expected in zip(golden.feeds, golden.outputs, strict=True):
        got = session.run(feeds)
        for name in limits:
            difference = np.abs(np.asarray(got[name], "float64") - np.asarray(expected[name], "float64"))
            # NaN compares false with everything, so it must not be able to pass as small.
            worst[name] = max(worst[name], float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)))
    return {name: (worst[name], limits[name]) for name in limits}


def _golden_once(bundle: Bundle, artifact: Artifact, runtime: str, session: Session, precision: str) -> None:
    """Runs the golden test unless this device has passed it with this engine before."""
    engine = RUNTIMES.get(runtime).probe().version
    hashes = sorted(file.sha256 for file in artifact.files)
    identity = [
        bundle.sha256,
        artifact.name,
        hashes,
        runtime,
        engine,
        platform.machine(),
        platform.processor(),
        precision,
    ]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    mark = cache_folder() / "golden" / key
    if mark.exists():
        return
    for name, (worst, limit) in check_golden(bundle, artifact, session).items():
        if worst > limit:
            session.close()
            raise ArtifactError(
                f"{artifact.name} with {engine} fails its golden test on this device: output {name!r} is "
                f"{worst:.3g} from the source's answer, {limit:.3g} is allowed",
                hint="load(..., variant=...) another one; `edgekit verify` shows which pass",
            )
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        # A device with a read-only home runs the golden test at every load; nothing else is lost.
        return
