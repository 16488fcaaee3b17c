"""The seam to the vendors' engines, and the session that does once what every engine needs.

An *engine* opens a file and runs arrays through it. A *session* stands in front of it: it checks feeds before the
engine sees them, gives calls of several threads a lane each, turns integer inputs and outputs into real numbers and
back, hands out results the caller owns, and maps what the engine raises to edgekit's errors.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekit.errors import ArtifactError, EdgekitError, InputError
from edgekit.lanes import Lanes
from edgekit.record import Record, field
from edgekit.registry import Probe
from edgekit.spec import Signature, StatePair, TensorSpec
from edgekit.validation import Convert, dims_text, fit_array, order, outward, wanted

if TYPE_CHECKING:
    from edgekit.batching import Batches
    from edgekit.bundle import Artifact
    from edgekit.choosing import Choice
    from edgekit.deadline import TimedCalls
    from edgekit.opening import Origin
    from edgekit.pooling import Pool
    from edgekit.processing import Processing
    from edgekit.stateful import Stateful

__all__ = ["Engine", "EngineOptions", "OpenModel", "OpPlacement", "Session"]


class EngineOptions(Record):
    """How an engine is to open a model.

    Attributes:
        threads: Threads for one call; None leaves it to the engine.
        precision: Arithmetic for float models: ``"fp32"`` unless asked otherwise (``"bf16"``, ``"fp16"``).
        device: ``"cpu"``, ``"gpu"`` or ``"npu"``.
        vendor: Options in the vendor's own words, passed on as they are.
        lanes: Calls that may run at the same time, each with `threads`; None is as many as this machine's cores hold.
            The second lane is opened when a call finds the first one busy: ONNX Runtime's share everything but buffers,
            TFLite's and OpenVINO's have weights of their own. 1 has calls take turns.
    """

    threads: int | None = None
    precision: str = "fp32"
    device: str = "cpu"
    vendor: Mapping[str, Any] = field(default_factory=dict)
    lanes: int | None = None


class OpPlacement(Record):
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
    """A file an engine has opened.

    Optional are `state`, the pairs of a signature's: what the file says of it; and, for engines that can run several
    calls at the same time, `lanes`, how many, and ``another() -> OpenModel | None``, the same model to run beside this
    one, or None where there are to be no more; each is closed by itself.

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
    """A vendor's library.

    Optional are `placements(path, options) -> list[OpPlacement]`, what really runs, op by op; ``tensors(path,
    options, feeds) -> (arrays by the name of each tensor on the way, one for each feed; how that was done)``; and
    ``operation_times(path, options, feeds, calls) -> edgekit.tracing.Traced``, by the engine's own profiler, of calls
    as in service on feeds in turns, each the arrays `OpenModel.run` takes; UnsupportedError where it has none.
    """

    name: str
    formats: tuple[str, ...]

    def probe(self) -> Probe:
        """Really tries the engine and says what it saw; never raises, and remembers the answer."""

    def open(self, path: Path, options: EngineOptions) -> OpenModel:
        """Opens a model file. Raises ArtifactError or UnsupportedError, never a vendor's exception."""


_ndarray = np.ndarray


class Session:
    """One loaded model. Safe to call from several threads, whose calls run at the same time where the engine can.

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

    Attributes:
        choice: What `edgekit.load` took, and why.
        origin: What the model was opened from, for a second process to open it where it is known.
    """

    origin: Origin | None = None
    _batches: Batches | None = None
    _timed: TimedCalls | None = None
    _once = allocate_lock()  # held while one of these two is made

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
        self.choice: Choice | None = None
        self.processing = processing
        self.precision = model.precision
        self._model = model
        self._lanes = Lanes(model)
        self._check_finite = check_finite
        self.signature = signature or _public_signature(model, integer_io)
        engine_inputs = order(model.inputs, self.signature.inputs, input_names or {}, "input")
        engine_outputs = order(model.outputs, self.signature.outputs, output_names or {}, "output")
        self._wanted = wanted(model.inputs, self.signature, engine_inputs, check_finite)
        self._is_static = all(spec.is_static for spec in self.signature.inputs)
        names = {engine: ours for ours, engine in engine_outputs.items()}
        self._names = tuple(names[spec.name] for spec in model.outputs)
        self._outward = {
            names[spec.name]: convert
            for spec in model.outputs
            if (convert := outward(self.signature.output(names[spec.name]), spec)) is not None
        }
        self._only_output = self._names[0] if len(self._names) == 1 and not self._outward else None
        self._copies = model.lends_outputs
        self._renames = {"input_names": input_names, "output_names": output_names}
        self._plain: tuple[Any, ...] | None = None
        if len(self._wanted) == 1 and self._wanted[0][3] and self._is_static and self._only_output is not None:
            self._plain = (*self._wanted[0][:3], self._only_output, self._copies, self._lanes.free, self._lanes)

    def run(self, feeds: Mapping[str, np.ndarray], *, copy: bool = True) -> dict[str, np.ndarray]:
        """One inference on raw tensors.

        Args:
            feeds: An array for every input by name, of the signature's dtype and shape.
            copy: False lends the engine's own output buffers where it has them: the next call overwrites them, also
                one of another thread.

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
            name, dtype, shape, output, copies, free, lanes = plain
            array = feeds.get(name) if feeds.__class__ is dict else None
            if array.__class__ is _ndarray and array.dtype is dtype and array.shape == shape and len(feeds) == 1:
                try:
                    lane = free.pop()
                except IndexError:
                    lane = lanes.take()
                try:
                    result = lane.run((array,))[0]
                    return {output: result.copy() if copy and copies else result}
                except EdgekitError:
                    raise
                except Exception as error:
                    raise self._run_error((array,), error) from error
                finally:
                    free.append(lane)
                    if lanes.waiting:
                        lanes.hand_on()
        return self._run_checked(feeds, copy)

    def _run_checked(self, feeds: Mapping[str, np.ndarray], copy: bool) -> dict[str, np.ndarray]:
        arrays = []
        for entry in self._wanted:
            name, dtype, shape, is_plain, spec, convert = entry
            try:
                array = feeds[name]
            except (KeyError, TypeError, IndexError):
                raise self._names_error(feeds) from None
            if array.__class__ is not _ndarray or array.dtype is not dtype or array.shape != shape:
                array = fit_array(array, spec, dtype)
                entry[2] = array.shape
            arrays.append(array if is_plain else self._converted(array, name, convert))
        if len(feeds) != len(arrays):
            raise self._names_error(feeds)
        lanes = self._lanes
        try:
            lane = lanes.free.pop()
        except IndexError:
            lane = lanes.take()
        try:
            results = lane.run(arrays)
            if copy and self._copies:
                results = [result.copy() for result in results]
            answer = dict(zip(self._names, results, strict=True))
        except EdgekitError:
            raise
        except Exception as error:
            raise self._run_error(arrays, error) from error
        finally:
            lanes.free.append(lane)
            if lanes.waiting:
                lanes.hand_on()
        for name, convert in self._outward.items():
            answer[name] = convert(answer[name])
        return answer

    def _converted(self, array: np.ndarray, name: str, convert: Convert | None) -> np.ndarray:
        if self._check_finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"input {name!r} holds NaN or infinity", hint="load with check_finite=False to allow it")
        return array if convert is None else convert(array)

    def _run_error(self, arrays: Sequence[np.ndarray], error: Exception) -> EdgekitError:
        said = _first_line(error)
        if self._is_static:
            return ArtifactError(f"{self.runtime} failed on feeds that match the signature: {said}")
        sizes = ", ".join(f"{w[0]} {dims_text(a.shape)}" for w, a in zip(self._wanted, arrays, strict=True))
        return InputError(f"{self.runtime} cannot run these sizes, {sizes}: {said}", hint="try other sizes")

    def _names_error(self, feeds: object) -> InputError:
        want = [entry[0] for entry in self._wanted]
        if self._lanes.is_closed:
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

    def predict(self, value: Any, *, timeout: float | None = None) -> Any:
        """From a real-world input to an answer: processing, `run`, processing.

        Args:
            value: What the model's processing takes: a path, a picture, audio, or an array; arrays by input name for a
                model of several inputs. A list or tuple of such is several inputs.
            timeout: Give up after so many seconds. An engine that cannot be stopped, which is every one but ONNX
                Runtime, then runs in a second process with the model once more; starting it is not counted.

        Returns:
            What its processing makes of the outputs, such as labels with scores; the arrays by output name where the
            model has no processing. Of several inputs a list, in their order.

        Raises:
            InputError: The input cannot be made into feeds that match the signature.
            PredictTimeout: It was not done within `timeout`. The session still answers.
        """
        run = self.run if timeout is None else self._within(timeout)
        processing, plain = self.processing, self._plain
        is_bare = processing is None or not (processing.inputs or processing.outputs)
        if is_bare and plain and value.__class__ is _ndarray and value.dtype is plain[1] and value.shape == plain[2]:
            return run({plain[0]: value})  # asking whether it fits takes longer than a small net
        if value.__class__ is list or value.__class__ is tuple:
            from edgekit.batching import Batches, is_batch

            if is_batch(value):
                self._batches = self._batches or Batches(self.signature, self.processing)
                return self._batches.predict(value, run)
        if processing is None:
            if not isinstance(value, Mapping):
                inputs = self.signature.inputs
                if len(inputs) != 1:
                    raise InputError(
                        f"the model has {len(inputs)} inputs", hint=f"a dict of {[s.name for s in inputs]}"
                    )
                value = {inputs[0].name: value}
            return run(value)
        return processing.answer(value, run, self.signature)

    def _within(self, timeout: float) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        """`run`, every call of which ends `timeout` seconds from now."""
        from edgekit.deadline import Deadline, TimedCalls

        if self._lanes.is_closed:
            raise InputError("the session is closed", hint="load the model again")
        deadline = Deadline(timeout)
        with self._once:
            if self._timed is None:
                self._timed = TimedCalls(self._model, self.origin)
                if self._lanes.is_closed:
                    self._timed.close()
        model = self._timed.within(deadline)
        return self.around(lambda _: model).run

    def around(self, make: Callable[[OpenModel], OpenModel]) -> Session:
        """A session that shows the same, in front of what `make` gives for this one's model."""
        given: dict[str, Any] = {"signature": self.signature, "check_finite": self._check_finite, **self._renames}
        return Session(make(self._model), runtime=self.runtime, **given)

    def pool(self, size: int) -> Pool:
        """A way for many callers to share the model, `size` of them at a time: ``async with model.pool(4) as pool``."""
        from edgekit.pooling import Pool

        return Pool(self.predict, size)

    def stream(self, values: Iterable[Any], *, ahead: int | None = None, timeout: float | None = None) -> Iterator[Any]:
        """The answer to each of `values`, in order, while the next ones are made: see `edgekit.streaming.stream`."""
        from edgekit.streaming import stream

        return stream(self.predict if timeout is None else partial(self.predict, timeout=timeout), values, ahead=ahead)

    def stateful(self, pairs: Mapping[str, str] | None = None) -> Stateful:
        """One sequence through a model that remembers: see `edgekit.stateful.Stateful`."""
        from edgekit.stateful import Stateful

        return Stateful(self.run, self.signature, self.processing, pairs)

    def close(self) -> None:
        """Waits for calls under way and gives back what the engine holds. Running after it is an InputError."""
        self._lanes.close()
        with self._once:
            timed = self._timed
        if timed is not None:
            timed.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _public_signature(model: OpenModel, integer_io: bool) -> Signature:
    def shown(spec: TensorSpec) -> TensorSpec:
        return spec if integer_io or spec.quant is None else TensorSpec(spec.name, "float32", spec.shape, spec.layout)

    state: tuple[StatePair, ...] = getattr(model, "state", ())
    return Signature(tuple(map(shown, model.inputs)), tuple(map(shown, model.outputs)), state)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
