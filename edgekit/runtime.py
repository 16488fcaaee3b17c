"""The seam to the vendors' engines, and the session that does once what every engine needs.

An *engine* opens a file and runs arrays through it. A *session* stands in front of it: it checks feeds before the
engine sees them, takes turns between threads, turns integer inputs and outputs into real numbers and back, hands out
results the caller owns, and maps what the engine raises to edgekit's errors.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekit.errors import ArtifactError, EdgekitError, InputError
from edgekit.registry import Probe
from edgekit.spec import QuantParams, Signature, StatePair, TensorSpec
from edgekit.validation import dims_text, fit_array, numpy_dtype, quantized

if TYPE_CHECKING:
    from edgekit.bundle import Artifact
    from edgekit.processing import Processing

__all__ = ["Engine", "EngineOptions", "OpenModel", "OpPlacement", "Session"]


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is to open a model.

    Attributes:
        threads: Threads for one call; None leaves it to the engine.
        precision: Arithmetic for float models: ``"fp32"`` unless asked otherwise (``"bf16"``, ``"fp16"``).
        device: ``"cpu"``, ``"gpu"`` or ``"npu"``.
        vendor: Options in the vendor's own words, passed on as they are.
    """

    threads: int | None = None
    precision: str = "fp32"
    device: str = "cpu"
    vendor: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OpPlacement:
    """One operation as the engine really prepared it.

    Attributes:
        name: The engine's name of it, or the names of what was fused into it.
        type: The engine's word for what it does, such as ``"QLinearConv"``.
        precision: The arithmetic it runs in: ``"int8"``, ``"fp32"``, ...
        macs: Multiply-accumulates of one call, where the shapes are known.
    """

    name: str
    type: str
    precision: str
    macs: int | None = None


class OpenModel(Protocol):
    """A file an engine has opened. `state`, the pairs of a signature's, is optional: what the file says of it.

    Attributes:
        inputs: In the order `run` takes them.
        outputs: In the order `run` gives them.
        precision: The arithmetic float operations run in, as the engine reports it.
        lends_outputs: True when `run` returns the engine's own buffers, which the next call overwrites.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str
    lends_outputs: bool

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """One call. `arrays` have been checked: right number, dtype, native byte order, rank and shape."""

    def close(self) -> None:
        """Gives back what the engine holds."""


class Engine(Protocol):
    """A vendor's library. `placements(path, options) -> list[OpPlacement]` is optional: what really runs, op by op."""

    name: str
    formats: tuple[str, ...]

    def probe(self) -> Probe:
        """Really tries the engine and says what it saw; never raises, and remembers the answer."""

    def open(self, path: Path, options: EngineOptions) -> OpenModel:
        """Opens a model file. Raises ArtifactError or UnsupportedError, never a vendor's exception."""


_ndarray = np.ndarray


class Session:
    """One loaded model. Safe to call from several threads; calls take turns.

    Args:
        model: What an engine opened.
        runtime: Name of the runtime, for reports and errors.
        signature: What callers see, when it is not the engine's own: same tensors, other names or float in place of
            quantized integers.
        input_names: For each input of `signature`, the engine's name for it.
        output_names: For each output of `signature`, the engine's name for it.
        integer_io: Show quantized inputs and outputs as the integers they are.
        check_finite: Refuse NaN and infinity in float feeds.
        processing: How `predict` makes feeds of real-world inputs and an answer of the outputs.
        artifact: What was opened, where it is known.
    """

    def __init__(
        self,
        model: OpenModel,
        *,
        runtime: str,
        signature: Signature | None = None,
        input_names: Mapping[str, str] | None = None,
        output_names: Mapping[str, str] | None = None,
        integer_io: bool = False,
        check_finite: bool = False,
        processing: Processing | None = None,
        artifact: Artifact | None = None,
    ) -> None:
        self.runtime = runtime
        self.artifact = artifact
        self.processing = processing
        self.precision = model.precision
        self._model = model
        self._lock = threading.Lock()
        self._check_finite = check_finite
        self.signature = signature or _public_signature(model, integer_io)
        engine_inputs = _order(model.inputs, self.signature.inputs, input_names or {}, "input")
        engine_outputs = _order(model.outputs, self.signature.outputs, output_names or {}, "output")
        self._wanted = _wanted(model.inputs, self.signature, engine_inputs, check_finite)
        self._is_static = all(spec.is_static for spec in self.signature.inputs)
        names = {engine: ours for ours, engine in engine_outputs.items()}
        self._names = tuple(names[spec.name] for spec in model.outputs)
        self._dequantize = {
            names[spec.name]: quant
            for spec in model.outputs
            if (quant := _conversion(self.signature.output(names[spec.name]), spec)) is not None
        }
        self._only_output = self._names[0] if len(self._names) == 1 and not self._dequantize else None
        self._copies = model.lends_outputs
        self._run = [model.run]  # in a cell, which `_plain` shares and `close` empties
        self._plain: tuple[Any, ...] | None = None
        if len(self._wanted) == 1 and self._wanted[0][3] and self._is_static and self._only_output is not None:
            self._plain = (*self._wanted[0][:3], self._only_output, self._copies, self._run, self._lock)

    def run(self, feeds: Mapping[str, np.ndarray], *, copy: bool = True) -> dict[str, np.ndarray]:
        """One inference on raw tensors.

        Args:
            feeds: An array for every input by name, of the signature's dtype and shape.
            copy: False lends the engine's own output buffers where it has them: the next call overwrites them.

        Returns:
            An array for every output by name; with `copy`, the caller's own.

        Raises:
            InputError: A feed is missing, extra, or of another dtype, rank or shape than the signature's, or of sizes
                the engine cannot run where the signature leaves them open.
            ArtifactError: The engine failed on feeds that match a signature with no open sizes.
        """
        if (plain := self._plain) is not None:
            # One input of fixed shape, one output, nothing to convert: the same checks with fewer look-ups, each of
            # which shows in a call of microseconds. Whatever does not fit takes the long way, which says why.
            name, dtype, shape, output, copies, engine, lock = plain
            array = feeds.get(name) if feeds.__class__ is dict else None
            if array.__class__ is _ndarray and array.dtype is dtype and array.shape == shape and len(feeds) == 1:
                try:
                    with lock:
                        result = engine[0]((array,))[0]
                        return {output: result.copy() if copy and copies else result}
                except EdgekitError:
                    raise
                except Exception as error:
                    raise self._run_error((array,), error) from error
        return self._run_checked(feeds, copy)

    def _run_checked(self, feeds: Mapping[str, np.ndarray], copy: bool) -> dict[str, np.ndarray]:
        arrays = []
        for entry in self._wanted:
            name, dtype, shape, is_plain, spec, quant = entry
            try:
                array = feeds[name]
            except (KeyError, TypeError, IndexError):
                raise self._names_error(feeds) from None
            if array.__class__ is not _ndarray or array.dtype is not dtype or array.shape != shape:
                array = fit_array(array, spec, dtype)
                entry[2] = array.shape
            arrays.append(array if is_plain else self._converted(array, name, quant))
        if len(feeds) != len(arrays):
            raise self._names_error(feeds)
        try:
            with self._lock:
                results = self._run[0](arrays)
                if copy and self._copies:
                    results = [result.copy() for result in results]
                answer = dict(zip(self._names, results, strict=True))
        except EdgekitError:
            raise
        except Exception as error:
            raise self._run_error(arrays, error) from error
        for name, quant in self._dequantize.items():
            answer[name] = quant.dequantize(answer[name])
        return answer

    def _converted(self, array: np.ndarray, name: str, quant: QuantParams | None) -> np.ndarray:
        if self._check_finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"input {name!r} holds NaN or infinity", hint="load with check_finite=False to allow it")
        return array if quant is None else quantized(name, array, quant)

    def _run_error(self, arrays: Sequence[np.ndarray], error: Exception) -> EdgekitError:
        said = _first_line(error)
        if self._is_static:
            return ArtifactError(f"{self.runtime} failed on feeds that match the signature: {said}")
        sizes = ", ".join(f"{w[0]} {dims_text(a.shape)}" for w, a in zip(self._wanted, arrays, strict=True))
        return InputError(f"{self.runtime} cannot run these sizes, {sizes}: {said}", hint="try other sizes")

    def _names_error(self, feeds: object) -> InputError:
        want = [entry[0] for entry in self._wanted]
        if self._run[0] is _closed:
            return InputError("the session is closed", hint="load the model again")
        if not isinstance(feeds, Mapping):
            return InputError(
                f"feeds must map input names to arrays, not {type(feeds).__name__}", hint=f"inputs: {want}"
            )
        missing = [name for name in want if name not in feeds]
        extra = [str(name) for name in feeds if name not in want]
        said = [f"missing {missing}"] if missing else []
        said += [f"unknown {extra}"] if extra else []
        return InputError("feeds do not match the inputs: " + ", ".join(said), hint=f"inputs: {want}")

    def predict(self, value: Any) -> Any:
        """From a real-world input to an answer: processing, `run`, processing.

        Args:
            value: What the model's processing takes: a path, a picture, audio, or an array; arrays by input name for a
                model of several inputs.

        Returns:
            What its processing makes of the outputs, such as labels with scores; the arrays by output name where the
            model has no processing.

        Raises:
            InputError: The input cannot be made into feeds that match the signature.
        """
        if self.processing is None:
            if not isinstance(value, Mapping):
                inputs = self.signature.inputs
                if len(inputs) != 1:
                    raise InputError(
                        f"the model has {len(inputs)} inputs", hint=f"a dict of {[s.name for s in inputs]}"
                    )
                value = {inputs[0].name: value}
            return self.run(value)
        return self.processing.answer(value, self.run, self.signature)

    def close(self) -> None:
        """Gives back what the engine holds. Closing twice is harmless; running after it is an InputError."""
        with self._lock:
            if self._run[0] is not _closed:
                self._run[0] = _closed
                self._model.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _closed(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    raise InputError("the session is closed", hint="load the model again")


def _public_signature(model: OpenModel, integer_io: bool) -> Signature:
    def shown(spec: TensorSpec) -> TensorSpec:
        return spec if integer_io or spec.quant is None else replace(spec, dtype="float32", quant=None)

    state: tuple[StatePair, ...] = getattr(model, "state", ())
    return Signature(tuple(map(shown, model.inputs)), tuple(map(shown, model.outputs)), state)


def _wanted(
    inputs: Sequence[TensorSpec], signature: Signature, engine_names: Mapping[str, str], check_finite: bool
) -> list[list[Any]]:
    """What the hot path reads for each input.

    Our name, dtype, exact shape or the last that fitted, whether the engine takes it as it is, our spec, parameters to
    quantize. They are lists because the shape is renewed; a stale one only costs the full check.
    """
    ours = {engine_names[spec.name]: spec for spec in signature.inputs}
    wanted = []
    for engine in inputs:
        spec = ours[engine.name]
        quant = _conversion(spec, engine)
        is_plain = quant is None and not check_finite
        wanted.append([spec.name, numpy_dtype(spec), _static_shape(spec), is_plain, spec, quant])
    return wanted


def _order(
    engine: Sequence[TensorSpec], ours: Sequence[TensorSpec], renames: Mapping[str, str], what: str
) -> dict[str, str]:
    """For each of our names the engine's, checked to be one to one."""
    pairs = {spec.name: renames.get(spec.name, spec.name) for spec in ours}
    if sorted(pairs.values()) != sorted(spec.name for spec in engine):
        raise ArtifactError(
            f"the file's {what}s {[s.name for s in engine]} are not those of the signature, {sorted(pairs.values())}"
        )
    return pairs


def _static_shape(spec: TensorSpec) -> tuple[int, ...] | None:
    return tuple(int(d) for d in spec.shape) if spec.is_static else None


def _conversion(ours: TensorSpec, engine: TensorSpec) -> QuantParams | None:
    """The parameters between our real numbers and the engine's integers; None when nothing is to be converted."""
    return engine.quant if engine.quant is not None and ours.dtype == "float32" else None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
