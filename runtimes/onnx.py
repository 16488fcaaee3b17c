"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ArtifactError, EdgekitError, UnsupportedError
from edgekit.opening import require_format
from edgekit.registry import Probe
from edgekit.runtime import EngineOptions, OpPlacement
from edgekit.runtimes._contract import (
    PROBE_FEED,
    Run,
    bound_run,
    check_options,
    closed_run,
    distinct_names,
    first_line,
    lanes_for,
    try_engine,
)
from edgekit.runtimes._onnx_file import TINY, unknown_ops
from edgekit.spec import STATE_KEY, TensorSpec, state_pairs

if TYPE_CHECKING:
    from edgekit.tracing import Traced

__all__ = ["ENGINE"]

_BFLOAT16 = 16
_OWN_DOMAINS = ("com.microsoft", "com.microsoft.nchwc")
_DTYPES = {
    "float": "float32", "float16": "float16", "bfloat16": "bfloat16", "double": "float64", "bool": "bool",
    "string": "string", "int8": "int8", "uint8": "uint8", "int16": "int16", "uint16": "uint16", "int32": "int32",
    "uint32": "uint32", "int64": "int64", "uint64": "uint64",
}  # fmt: skip
_UNKNOWN_OP = (
    r"Fatal error: (\S+?)\(-?\d+\) is not a registered|No Op registered for (\S+)|implementation for (\S+?)\(\d+\)"
)
_OTHER_SHAPE = ("computed output shape", "shape verification failed")
_TOO_NEW = r"[Oo]pset (\d+) is under development|Unsupported model IR version: (\d+)|opset version (\d+)"


class OnnxEngine:
    """Opens .onnx files with onnxruntime's CPU kernels."""

    name = "onnx"
    formats: tuple[str, ...] = ("onnx",)

    def __init__(self) -> None:
        self._probe: Probe | None = None

    def probe(self) -> Probe:
        if self._probe is None:
            self._probe = try_engine(_try, "onnxruntime", "onnx")
        return self._probe

    def open(self, path: Path, options: EngineOptions) -> OpenOnnx:
        check_options(self.name, options)
        require_format(path, self.formats)
        self.probe().require("the onnx runtime")
        return OpenOnnx(_session(path, _settings(options)), lanes_for(options))

    def placements(self, path: Path, options: EngineOptions) -> list[OpPlacement]:
        """What ran in one call on zeros: see `edgekit.runtimes._onnx_profile`."""
        from edgekit.runtimes._onnx_profile import placements

        require_format(path, self.formats)
        return placements(lambda: _settings(options), lambda settings: _session(path, settings))

    def tensors(
        self, path: Path, options: EngineOptions, feeds: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[dict[str, list[np.ndarray]], str]:
        """What is computed on the way: see `edgekit.runtimes._onnx_tensors`."""
        from edgekit.runtimes._onnx_tensors import tensors

        require_format(path, self.formats)
        return tensors(path, lambda file: _session(file, _settings(options)), feeds)

    def operation_times(
        self, path: Path, options: EngineOptions, feeds: Sequence[Sequence[np.ndarray]], calls: int
    ) -> Traced:
        """From the engine's profile of calls as in service: see `edgekit.runtimes._onnx_times`."""
        from edgekit.runtimes._onnx_times import operation_times

        require_format(path, self.formats)
        return operation_times(
            path, lambda: _settings(options), lambda settings: _session(path, settings), feeds, calls
        )


class OpenOnnx:
    """One session, which may be shared. Where all shapes are known, inputs and outputs are buffers bound at load."""

    precision = "fp32"

    def __init__(self, session: Any, lanes: int = 1) -> None:
        self.lanes = lanes
        inputs, outputs = session.get_inputs(), session.get_outputs()
        in_names, out_names = ([node.name for node in side] for side in (inputs, outputs))
        self.inputs = _specs(inputs, distinct_names(in_names, "input"))
        self.outputs = _specs(outputs, distinct_names(out_names, "output"))
        self.state = state_pairs(session.get_modelmeta().custom_metadata_map.get(STATE_KEY, ""))
        self._in, self._out = in_names, out_names
        self._session = session
        specs = self.inputs + self.outputs
        self.lends_outputs = all(spec.is_static and spec.dtype != "string" for spec in specs)
        if not self.lends_outputs and any(spec.dtype == "bfloat16" for spec in specs):
            raise UnsupportedError("the onnx runtime takes bfloat16 inputs and outputs of known sizes only")
        self.run: Run = self._bind() if self.lends_outputs else self._run_unbound

    def another(self) -> OpenOnnx:
        """The same session, which takes calls of several threads, with buffers of its own."""
        return OpenOnnx(self._session)

    def _bind(self) -> Run:
        self._binding: Any = self._session.io_binding()
        feeds, results = ([_bound(spec) for spec in side] for side in (self.inputs, self.outputs))
        for name, (_, value) in zip(self._in, feeds, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        for name, (_, value) in zip(self._out, results, strict=True):
            self._binding.bind_ortvalue_output(name, value)
        # The wrapped objects' own call skips a Python layer that only passes it on.
        call = partial(self._session._sess.run_with_iobinding, self._binding._iobinding, None)
        return bound_run([array for array, _ in feeds], call, [array for array, _ in results], self._unbind)

    def _unbind(self, arrays: Sequence[np.ndarray], error: Exception) -> Sequence[np.ndarray]:
        """When the file declares another shape for an output than it computes, nothing bound can be trusted."""
        if not any(said in str(error) for said in _OTHER_SHAPE):
            raise error
        self.run = self._run_unbound
        return self._run_unbound(arrays)

    def stoppable(self) -> tuple[Run, Callable[[], None]] | None:
        """A call of its own beside all others, and what ends it from another thread; None where there is no such call.

        The engine looks up between two operations, those in the body of a loop included.
        """
        import onnxruntime

        if any(spec.dtype == "bfloat16" for spec in self.inputs + self.outputs):
            return None  # only bound buffers hold these
        options, session = onnxruntime.RunOptions(), self._session
        options.log_severity_level = 4  # that it was stopped is no error

        def run(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            results: Sequence[np.ndarray] = session.run(self._out, dict(zip(self._in, arrays, strict=True)), options)
            return results

        def stop() -> None:
            options.terminate = True

        return run, stop

    def _run_unbound(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        results: Sequence[np.ndarray] = self._session.run(self._out, dict(zip(self._in, arrays, strict=True)))
        return results

    def close(self) -> None:
        self.run = closed_run
        self._session = self._binding = None


def _bound(spec: TensorSpec) -> tuple[np.ndarray, Any]:
    """An array and the engine's value on the same memory."""
    import onnxruntime

    array = np.zeros([int(d) for d in spec.shape], "uint16" if spec.dtype == "bfloat16" else spec.dtype)
    if spec.dtype == "bfloat16":
        return array, onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
    return array, onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _specs(nodes: Sequence[Any], names: Sequence[str]) -> tuple[TensorSpec, ...]:
    types = {node.name: node.type for node in nodes}
    odd = [f"{name}: {kind}" for name, kind in types.items() if _dtype(kind) is None]
    if odd:
        raise UnsupportedError(
            "inputs and outputs must be tensors", offenders=odd, hint="export without ZipMap or sequence outputs"
        )
    return tuple(
        TensorSpec(name, _dtype(node.type) or "", tuple(_dim(d, i) for i, d in enumerate(node.shape)))
        for node, name in zip(nodes, names, strict=True)
    )


def _dtype(kind: str) -> str | None:
    return _DTYPES.get(kind[7:-1]) if kind.startswith("tensor(") else None


def _dim(size: int | str | None, axis: int) -> int | str:
    if isinstance(size, str) and size:
        return size
    return size if isinstance(size, int) and size >= 0 else f"dim{axis}"


def _settings(options: EngineOptions) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.inter_op_num_threads = 1
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    for key, value in options.vendor.items():
        settings.add_session_config_entry(key, str(value))
    return settings


def _session(path: Path, settings: Any) -> Any:
    import onnxruntime

    # By its path: the engine reads the file once and lets go of it, so that nobody can change it under a running
    # session, and needs a third less memory on the way than of bytes.
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _typed(path, error) from error


def _typed(path: Path, error: Exception) -> EdgekitError:
    import re  # which compiles what it is given

    if isinstance(error, UnicodeDecodeError):
        return ArtifactError(f"{path} is damaged: a name in it is not text", hint="copy or export it again")
    said = str(error)
    if found := re.search(_UNKNOWN_OP, said):
        first = next(filter(None, found.groups())).replace(":", ".")
        return UnsupportedError(
            f"onnxruntime has no kernel for operations of {path.name}", offenders=_all_unknown(path, first)
        )
    if found := re.search(_TOO_NEW, said):
        return UnsupportedError(
            f"{path.name} is newer than onnxruntime", offenders=[found[0]], hint="pip install -U onnxruntime"
        )
    return ArtifactError(f"{path} does not open: {first_line(error)}", hint="copy or export it again")


def _all_unknown(path: Path, first: str) -> list[str]:
    """The operation the engine stumbled over, and where the onnx package is there to tell, the others of its kind."""
    if find_spec("onnx") is None:
        return [first]
    return [first, *(name for name in unknown_ops(path, but_of=_OWN_DOMAINS) if name != first)]


def _try() -> Mapping[str, Any]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(TINY, settings, providers=["CPUExecutionProvider"])
    answer: Mapping[str, Any] = session.run(None, {"x": PROBE_FEED})[0]
    return answer


ENGINE = OnnxEngine()
