"""OpenVINO on the CPU, in the arithmetic asked for: left alone it runs fp32 models in bf16 on some CPUs."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ArtifactError, EdgekitError, InputError, UnsupportedError
from edgekit.opening import require_format
from edgekit.record import Record
from edgekit.registry import Probe
from edgekit.runtime import EngineOptions, OpPlacement
from edgekit.runtimes._contract import (
    LARGE_BYTES,
    PROBE_FEED,
    Run,
    bound_run,
    check_options,
    closed_run,
    dims,
    distinct_names,
    lanes_for,
    try_engine,
)
from edgekit.spec import TensorSpec

if TYPE_CHECKING:
    from edgekit.tracing import Traced

__all__ = ["ENGINE"]

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_PRECISIONS = {hint: name for name, hint in _HINTS.items()}
_DTYPES = {
    "f32": "float32", "f16": "float16", "f64": "float64", "boolean": "bool", "i8": "int8", "u8": "uint8",
    "i16": "int16", "u16": "uint16", "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64",
}  # fmt: skip
_INT32 = np.iinfo("int32")
_UNSUPPORTED = (
    r"No translator found for (?P<translator>\S+) node"
    r"|No conversion rule found for operations: (?P<rules>[^\n]+)"
    r"|doesn't contain the operation with type: (?P<opset>\S+)"
    r"|Cannot create (?P<layer>\S+) layer"
    r"|Unsupported operation of type: (?P<plugin>\S+)"
    r"|Unsupported ONNX opset version: (?P<version>\S+)"
)


class OpenvinoEngine:
    """Opens OpenVINO's .xml, and .onnx and .tflite files through OpenVINO's readers."""

    name = "openvino"
    formats: tuple[str, ...] = ("openvino", "onnx", "tflite")

    def __init__(self) -> None:
        self._probe: Probe | None = None
        self._core: Any = None
        self._lock = allocate_lock()

    def probe(self) -> Probe:
        if self._probe is None:
            self._probe = try_engine(self._try, "openvino", "openvino")
        return self._probe

    def open(self, path: Path, options: EngineOptions) -> OpenOpenvino:
        check_options(self.name, options, tuple(_HINTS))
        spare = self._spare(path, options)
        model = self._read(path)
        try:
            return OpenOpenvino.of(model, self._compile(model, options), spare)
        except EdgekitError:
            raise
        except Exception as error:
            raise _typed(path, error) from error

    def placements(self, path: Path, options: EngineOptions) -> list[OpPlacement]:
        """The compiled model's own account, at batch 1 where only the batch is open."""
        from edgekit.runtimes._openvino_graph import placements

        model = self._read(path)
        for parameter in model.inputs:
            shape = parameter.get_partial_shape()
            if len(shape) and shape[0].is_dynamic:
                shape[0] = 1
                model.reshape({parameter: shape})
        return placements(self._compile(model, options), self._compile_rounding(options))

    def operation_times(
        self, path: Path, options: EngineOptions, feeds: Sequence[Sequence[np.ndarray]], calls: int
    ) -> Traced:
        """From the counters of the model compiled as in service: see `edgekit.runtimes._openvino_times`."""
        from dataclasses import replace

        from edgekit.runtimes._openvino_graph import placed_layers
        from edgekit.runtimes._openvino_times import names_in_file, names_in_tflite, operation_times
        from edgekit.runtimes._tflite_file import known_operations

        model, names = self._read(path), dict[str, tuple[str, bool]]()
        file_ops = known_operations(path) if require_format(path, self.formats) == "tflite" else None
        counting = replace(options, vendor={**options.vendor, "PERF_COUNT": True})

        def compiled() -> tuple[Any, Run, Callable[[], list[Any]]]:
            fresh = self._read(path)  # sizes are tried on it, and names made up anew
            names.update(names_in_file(fresh) if file_ops is None else names_in_tflite(fresh, file_ops))
            made = self._compile(fresh, counting)
            opened = OpenOpenvino.of(fresh, made, _Spare(1, lambda first: None))
            return made, opened.run, opened.counters

        alike, sized = self._compile_rounding(options), []
        if any(port.get_partial_shape().is_dynamic for port in model.inputs):
            other = self._read(path)
            other.reshape({port: list(a.shape) for port, a in zip(other.inputs, feeds[0], strict=True)})
            sized = list(placed_layers(self._compile(other, options), alike))
        return operation_times(compiled, lambda made: placed_layers(made, alike), sized, names, feeds, calls)

    def tensors(
        self, path: Path, options: EngineOptions, feeds: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[dict[str, list[np.ndarray]], str]:
        """What is computed on the way: see `edgekit.runtimes._openvino_tensors`."""
        from edgekit.runtimes._openvino_tensors import tensors

        return tensors(self._read(path), lambda model: self._compile(model, options), feeds)

    def _compile_rounding(self, options: EngineOptions) -> Callable[[Any, int], Any]:
        """What compiles another model in the same way, but for how activations are rounded in groups."""
        from dataclasses import replace

        from edgekit.runtimes._openvino_graph import GROUP_OPTION

        return lambda model, group: self._compile(
            model, replace(options, vendor={**options.vendor, GROUP_OPTION: group})
        )

    def _read(self, path: Path) -> Any:
        found = require_format(path, self.formats)
        self.probe().require("the openvino runtime")
        if found == "openvino" and not path.with_suffix(".bin").is_file():
            raise ArtifactError(
                f"{path} has no weights beside it", hint=f"keep {path.stem}.bin in the same folder, under this name"
            )
        try:
            with self._lock:
                return self._shared_core().read_model(path)
        except Exception as error:
            raise _typed(path, error) from error

    def _spare(self, path: Path, options: EngineOptions) -> _Spare:
        """What further lanes run on. A call that has all cores to itself leaves none for a second one."""
        read = _stamp(path)
        is_one = sum(size for _, size, _ in read) > LARGE_BYTES or (options.threads is None and options.lanes is None)
        lanes = 1 if is_one else lanes_for(options, options.threads or 1)

        def compile_again(first: Any) -> Any:
            if options.threads is None:
                return first
            # As the first was, for calls of one stream take turns, and one model of several streams gave wrong answers
            # for 16-bit activations (2026.4). It is read again, as keeping it costs its weights.
            return self._compile(self._read(path), options) if _stamp(path) == read else None

        return _Spare(lanes, compile_again)

    def _compile(self, model: Any, options: EngineOptions) -> Any:
        asked = ["runtime_options", "INFERENCE_PRECISION_HINT"]
        is_asked = options.precision == "fp32" and model.has_rt_info(asked)
        settings: dict[str, Any] = {
            # A file converted for bf16 says so itself; what was left alone runs in fp32.
            "INFERENCE_PRECISION_HINT": model.get_rt_info(asked).astype(str) if is_asked else _HINTS[options.precision],
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned, all models of one thread would share the first core.
            "ENABLE_CPU_PINNING": False,
            **options.vendor,
        }
        if options.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        with self._lock:
            return self._shared_core().compile_model(model, "CPU", settings)

    def _shared_core(self) -> Any:
        import openvino

        if self._core is None:
            self._core = openvino.Core()
            # Weights are copied in, so that nobody can change or cut the file under a running session.
            self._core.set_property({"ENABLE_MMAP": False})
        return self._core

    def _try(self) -> Any:
        import openvino
        from openvino import opset13

        x = opset13.parameter(PROBE_FEED.shape, np.float32)
        model = openvino.Model([opset13.add(x, x)], [x], "tiny")
        return self._compile(model, EngineOptions(threads=1))(PROBE_FEED)[0]


class _Spare(Record):
    """How many lanes a model may have, and what makes another compiled model of the first; None when nothing can."""

    lanes: int
    compile_again: Callable[[Any], Any]


class _Sizes:
    """Which sizes fit a model, tried on the model itself, which costs its weights in memory."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._fitting: set[tuple[tuple[int, ...], ...]] = set()
        self._lock = allocate_lock()

    def check(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        if shapes in self._fitting:
            return
        try:
            with self._lock:
                self._model.reshape(dict(zip(self._model.inputs, map(list, shapes), strict=True)))
        except RuntimeError as error:
            raise ValueError(_last_line(error)) from error
        self._fitting.add(shapes)


class OpenOpenvino:
    """One infer request of its own. Where all shapes are known its buffers are looked up once, at load."""

    lends_outputs = True

    def __init__(
        self,
        compiled: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        spare: _Spare,
        sizes: _Sizes | None,
    ) -> None:
        self.inputs, self.outputs, self.lanes = inputs, outputs, spare.lanes
        said = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = _PRECISIONS.get(said, said)
        self._compiled, self._spare, self._sizes = compiled, spare, sizes
        self._request = request = compiled.create_infer_request()
        # The wrapped class's method skips a Python layer that copies every output into a dictionary.
        self._infer = super(type(request), request).infer  # type: ignore[misc]
        self._narrowed = [i for i, spec in enumerate(inputs) if spec.dtype in ("int64", "uint64")]
        if not self._narrowed and all(spec.is_static for spec in (*inputs, *outputs)):
            feeds = [request.get_input_tensor(i).data for i in range(len(inputs))]
            results = [request.get_output_tensor(i).data for i in range(len(outputs))]
            self.run: Run = bound_run(feeds, partial(self._infer, {}, True, False), results)
        else:
            self.run = self._run_set

    @classmethod
    def of(cls, model: Any, compiled: Any, spare: _Spare) -> OpenOpenvino:
        inputs, outputs = _specs(model.inputs, "input"), _specs(model.outputs, "output")
        # In one thread the plugin swallows what goes wrong with new sizes and leaves the last answer standing (2026.4),
        # so sizes not seen before are tried.
        is_open = not all(spec.is_static for spec in inputs)
        is_swallowing = is_open and compiled.get_property("INFERENCE_NUM_THREADS") == 1
        return cls(compiled, inputs, outputs, spare, _Sizes(model) if is_swallowing else None)

    def another(self) -> OpenOpenvino | None:
        """A request of the model compiled once more; None when its file has changed, and for one that remembers.

        Calls of one that remembers must meet one memory.
        """
        compiled = None if self._request.query_state() else self._spare.compile_again(self._compiled)
        return compiled and OpenOpenvino(compiled, self.inputs, self.outputs, self._spare, self._sizes)

    def counters(self) -> list[Any]:
        """What each layer took on the mean of all calls so far, of a model compiled to count."""
        return list(self._request.profiling_info)

    def _run_set(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self._check_narrowed(arrays)
        self._set(arrays)
        self._infer({}, True, False)
        return [self._request.get_output_tensor(i).data for i in range(len(self.outputs))]

    def _check_narrowed(self, arrays: Sequence[np.ndarray]) -> None:
        """The CPU plugin computes 64-bit integers in 32 bits and wraps what does not fit, without a word."""
        for index in self._narrowed:
            array = arrays[index]
            if array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
                raise InputError(
                    f"input {self.inputs[index].name!r} holds integers beyond 32 bits, which OpenVINO cuts off",
                    hint="use another runtime for this model",
                )

    def _set(self, arrays: Sequence[np.ndarray]) -> None:
        import openvino

        if self._sizes is not None:
            self._sizes.check(tuple(array.shape for array in arrays))
        for index, array in enumerate(arrays):
            self._request.set_input_tensor(index, openvino.Tensor(np.ascontiguousarray(array).reshape(array.shape)))

    def close(self) -> None:
        self.run = closed_run
        self._infer = self._request = self._compiled = self._sizes = None
        del self._spare


def _stamp(path: Path) -> list[tuple[int, int, int]]:
    """Differs when a file, or the weights beside it, are no longer those that were there."""
    found = [file.stat() for file in (path, path.with_suffix(".bin")) if file.is_file()]
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in found]


def _specs(ports: Sequence[Any], what: str) -> tuple[TensorSpec, ...]:
    names = distinct_names([_name(port) for port in ports], what)
    types = [port.get_element_type().to_string() for port in ports]
    odd = [f"{name}: {kind}" for name, kind in zip(names, types, strict=True) if kind not in _DTYPES]
    if odd:
        raise UnsupportedError("the openvino runtime feeds no tensors of these types", offenders=odd)
    specs = []
    for port, name, kind in zip(ports, names, types, strict=True):
        shape = port.get_partial_shape()
        if shape.rank.is_dynamic:
            raise UnsupportedError("the openvino runtime needs to know every rank", offenders=[name])
        specs.append(TensorSpec(name, _DTYPES[kind], dims(-1 if d.is_dynamic else d.get_length() for d in shape)))
    return tuple(specs)


def _name(port: Any) -> str:
    """The tensor's name, the shortest where it has several; its layer's where it has none, the same at every load."""
    names = sorted(port.get_names(), key=lambda name: (len(name), name))
    if names:
        return str(names[0])
    node = port.get_node()
    # An output port belongs to a node of its own; the layer that computes it is the one before.
    source = node.input_value(0) if node.get_type_name() == "Result" else port
    layer = source.get_node()
    suffix = f".{source.get_index()}" if layer.get_output_size() > 1 else ""
    return f"{layer.get_friendly_name()}{suffix}"


def _typed(path: Path, error: Exception) -> EdgekitError:
    import re  # which compiles what it is given

    if isinstance(error, UnicodeDecodeError):
        return ArtifactError(f"{path} is damaged: a name in it is not text", hint="copy or convert it again")
    said = str(error)
    if found := list(re.finditer(_UNSUPPORTED, said)):
        listed = [name for match in found for group in match.groups() if group for name in group.split(", ")]
        return UnsupportedError(
            f"OpenVINO has no kernel for operations of {path.name}", offenders=dict.fromkeys(listed)
        )
    return ArtifactError(f"{path} does not open: {_last_line(error)}", hint="copy or convert it again")


def _last_line(error: Exception) -> str:
    """What went wrong; the lines before say where in OpenVINO's sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


ENGINE = OpenvinoEngine()
