"""The verb `load`: the best variant this device can run, verified, as a session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edgekit.bundle import Artifact, Bundle
from edgekit.choosing import (
    Choice,
    Contender,
    Question,
    announce,
    decide,
    forget,
    require_objective,
    warn_fallback,
)
from edgekit.errors import ArtifactError, EdgekitError, UnavailableError, UnsupportedError
from edgekit.opening import detect_format, each_own_runtime, open_session
from edgekit.processing import Processing
from edgekit.record import Record
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.variants import FP32, open_variant, pass_golden_once, precision_of, verify_once

__all__ = ["AUTO", "is_bundle", "load", "takers"]

AUTO = "auto"
"""In place of a runtime's name: whatever is measured to be best."""


class _Wish(Record):
    """What the caller of `load` asked of a bundle."""

    runtime: str | None
    variant: str | None
    device: str
    threads: int | None
    lanes: int | None
    objective: str
    measure: bool
    strict: bool
    precision: str | None
    check_finite: bool

    @property
    def engine(self) -> str | None:
        """The runtime that is insisted on."""
        return None if self.runtime == AUTO else self.runtime

    @property
    def is_measured(self) -> bool:
        return self.runtime == AUTO and self.measure


def load(
    path: str | Path,
    *,
    runtime: str | None = None,
    variant: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    lanes: int | None = None,
    objective: str = "latency",
    measure: bool = True,
    strict: bool = False,
    precision: str | None = None,
    check_finite: bool = False,
    integer_io: bool = False,
) -> Session:
    """Opens a bundle, or a bare .tflite, .onnx or .xml file, ready to run.

    Of a bundle the files are checked against their hashes, the first variant this device can run is taken, and the
    first time on a device or engine version it must reproduce the bundle's golden answers. If it fails, the next one
    is taken with a `FallbackWarning`. What was taken, and why, is ``session.choice``.

    With ``runtime="auto"`` the first load on a device measures for some seconds, each variant in a process of its own,
    which of them serves `objective` best with how many threads. The choice is remembered in the cache folder for this
    bundle, device, engines and objective; loads after that measure nothing.

    Args:
        path: ``NAME.edge``, ``NAME.edge.zip`` or a model file, told apart by content; or the name of a model.
        runtime: Insist on a runtime, such as ``"onnx"``; ``"auto"`` measures; None takes the manifest's order, of each
            variant with the runtime it was chosen with, where the bundle says.
        variant: Insist on a variant of the bundle, such as ``"tflite-w8a8"``.
        device: ``"cpu"``, or what else an engine has.
        threads: Threads for one call; by default what the bundle says, else what the engine does.
        lanes: Calls that may run at the same time; by default as many as the cores hold, each with `threads`. The
            second is opened when two callers meet; with TFLite and OpenVINO it has weights of its own. 1 has them take
            turns.
        objective: What "auto" chooses for: ``"latency"``, ``"throughput"``, ``"memory"``, ``"startup"`` or
            ``"cpu-time"``.
        measure: False has "auto" take the manifest's order and measure nothing.
        strict: Raise where a variant that comes first fails, rather than take the next one.
        precision: Arithmetic for float operations where the engine has a choice: ``"fp32"``, ``"bf16"``, ``"fp16"``; by
            default what the bundle says, else fp32.
        check_finite: Refuse NaN and infinity in feeds.
        integer_io: Show quantized inputs and outputs of a bare file as the integers they are.

    Raises:
        ArtifactError: The file is missing, corrupt, or fails its golden test with whatever can open it.
        InputError: There is no such objective.
        UnavailableError: No installed engine opens it; the hint names what to install.
        UnsupportedError: The runtime or variant insisted on is none, or an operation is not supported.
    """
    path = _file(path)
    require_objective(objective)
    wish = _Wish(runtime, variant, device, threads, lanes, objective, measure, strict, precision, check_finite)
    if not is_bundle(path):
        return _load_file(path, wish, integer_io)
    bundle = Bundle.open(path)
    try:
        return _load_bundle(bundle, wish)
    except ArtifactError:
        if bundle.is_current():
            raise
        # A newer generation took its place while this one was being read.
        return _load_bundle(Bundle.open(path), wish)


def _file(path: str | Path) -> Path:
    """`path`, or of the name of a model its file. What is there need not be looked up among names."""
    found = Path(path)
    if isinstance(path, Path) or found.exists():
        return found
    from edgekit.named_files import file_of

    return file_of(path)


def _load_file(path: Path, wish: _Wish, integer_io: bool) -> Session:
    if wish.variant is not None:
        raise UnsupportedError(f"{path} is a model file, not a bundle: it has no variants")
    format = detect_format(path)
    settings = {"check_finite": wish.check_finite, "integer_io": integer_io, "processing": _own_processing(path)}
    choice = _decide_file(path, format, wish) if wish.is_measured else None
    engine, threads = (choice.runtime, choice.threads) if choice else (wish.engine, wish.threads)
    options = EngineOptions(threads=threads, precision=wish.precision or FP32, device=wish.device, lanes=wish.lanes)
    name, session = open_session(path, format, engine, options, **settings)
    session.choice = choice or _in_order(Contender(path.name, name, threads), wish)
    return session


def _decide_file(path: Path, format: str, wish: _Wish) -> Choice | None:
    import hashlib

    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    artifact = Artifact(path.name, format, "", path)
    pairs = tuple((artifact, name) for name in takers(format, None))
    options = {"precision": wish.precision or FP32, "device": wish.device}
    choices = decide(Question(path, sha256, pairs, wish.threads, wish.objective, options))
    return choices[0] if choices else None


def _own_processing(path: Path) -> Processing | None:
    """How a model file that edgekit made says its inputs are prepared; None for any other file."""
    from edgekit.about import read_about

    about = read_about(path)
    return Processing.from_json(about.get("processing", {})) if about else None


def _load_bundle(bundle: Bundle, wish: _Wish) -> Session:
    """Opens what comes first of what there is to try, and what comes next where that fails."""
    failed: list[tuple[Contender, EdgekitError]] = []
    for choice in _order(bundle, wish):
        artifact = bundle.variant(choice.variant)
        verify_once(bundle, artifact)
        try:
            session = _open_choice(bundle, artifact, choice, wish)
        except EdgekitError as error:
            if wish.strict or not bundle.is_current():
                raise
            failed.append((choice.taken, error))
            forget(choice)
            continue
        for contender, why in failed:
            warn_fallback(contender, why, choice.taken)
        session.choice = _after(choice, failed)
        return session
    raise failed[0][1] if len(failed) == 1 else _all_failed(failed)


def _order(bundle: Bundle, wish: _Wish) -> Iterator[Choice]:
    """Choices in the order they are to be tried."""
    if wish.is_measured:
        pairs = tuple(pairs_of(bundle, None, wish.variant))
        options = {"precision": wish.precision, "device": wish.device}
        question = Question(bundle.root, bundle.sha256, pairs, wish.threads, wish.objective, options, bundle.golden)
        if choices := decide(question):
            announce(choices[0], strict=wish.strict)
            yield from choices
            return
    for artifact, name in available(bundle, wish):
        threads = wish.threads or artifact.engine_options.get("threads")
        yield _in_order(Contender(artifact.name, name, threads), wish)


def _in_order(taken: Contender, wish: _Wish) -> Choice:
    asked = [f"runtime {wish.engine}"] if wish.engine else []
    asked += [f"variant {wish.variant}"] if wish.variant else []
    why = f"asked for: {', '.join(asked)}" if asked else "the first in the manifest's order that works here"
    return Choice(taken, why, "order")


def _after(choice: Choice, failed: Sequence[tuple[Contender, EdgekitError]]) -> Choice:
    """The choice, with what was tried before it."""
    if not failed:
        return choice
    from dataclasses import replace

    said = "; ".join(f"{contender.title} failed: {error}" for contender, error in failed)
    losers = [replace(contender, status="failed", reason=str(error)) for contender, error in failed]
    tried = [contender for contender, _ in failed]
    others = [one for one in choice.others if one not in tried]
    return replace(choice, why=f"{choice.why}; before it {said}", others=(*others, *losers), record=None)


def _all_failed(failed: Sequence[tuple[Contender, EdgekitError]]) -> EdgekitError:
    """One error for all: of their own kind, where they are of one."""
    kind = type(failed[0][1]) if len({type(error) for _, error in failed}) == 1 else ArtifactError
    said = "; ".join(f"{contender.title}: {error.message}" for contender, error in failed)
    return kind(f"nothing in the bundle works here: {said}", hint=failed[0][1].hint)


def _open_choice(bundle: Bundle, artifact: Artifact, choice: Choice, wish: _Wish) -> Session:
    session = open_variant(
        bundle,
        artifact,
        choice.runtime,
        threads=choice.threads,
        lanes=wish.lanes,
        precision=wish.precision,
        device=wish.device,
        check_finite=wish.check_finite,
    )
    try:
        pass_golden_once(bundle, artifact, choice.runtime, session, precision_of(artifact, wish.precision))
    except BaseException:
        session.close()
        raise
    return session


def is_bundle(path: Path) -> bool:
    """Whether `path` is meant to be a bundle: a folder, or a zip archive."""
    if path.is_dir():
        return True
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist")
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def pairs_of(bundle: Bundle, runtime: str | None, variant: str | None) -> Iterator[tuple[Artifact, str]]:
    """Variants with the runtimes that take them, in the bundle's order.

    A runtime takes files of another engine's format only when it is insisted on, and its own before those; or when the
    bundle says that it was measured to be the best for one.
    """
    artifacts = [bundle.variant(variant)] if variant is not None else list(bundle.variants)
    if runtime is not None:
        own = RUNTIMES.get(runtime).formats[0]
        artifacts.sort(key=lambda artifact: artifact.format != own)
    for artifact in artifacts:
        chosen = artifact.engine_options.get("runtime") if runtime is None else None
        names = list(takers(artifact.format, runtime))
        if chosen in RUNTIMES.names() and artifact.format in RUNTIMES.get(chosen).formats:
            names = [chosen, *(name for name in names if name != chosen)]
        for name in names:
            yield artifact, name


def available(bundle: Bundle, wish: _Wish) -> Iterator[tuple[Artifact, str]]:
    """Pairs whose engine works here, asked one by one: an engine that is not needed is not even imported.

    Raises:
        UnsupportedError: What is insisted on does not open what the bundle has.
        UnavailableError: It would be possible, but no engine for it works here.
    """
    probes = {}
    for artifact, name in pairs_of(bundle, wish.engine, wish.variant):
        probes[name] = RUNTIMES.get(name).probe()
        if probes[name].available:
            yield artifact, name
    if any(probe.available for probe in probes.values()):
        return
    if not probes:
        artifacts = bundle.variants if wish.variant is None else (bundle.variant(wish.variant),)
        formats = ", ".join(sorted({artifact.format for artifact in artifacts}))
        raise UnsupportedError(f"{wish.engine or 'no runtime'} opens none of what there is: {formats}")
    commands = [f"pip install 'edgekit-ml[{probe.extra}]'" for probe in probes.values() if probe.extra]
    raise UnavailableError(
        "no engine for this bundle works here: " + "; ".join(f"{name}: {p.reason}" for name, p in probes.items()),
        hint=", or ".join(commands) or "edgekit doctor",
    )


def takers(format: str, runtime: str | None) -> Iterable[str]:
    """The runtimes whose own format this is, or the one insisted on, if it opens the format at all."""
    if runtime is None:
        return each_own_runtime(format)
    return [runtime] if format in RUNTIMES.get(runtime).formats else []
