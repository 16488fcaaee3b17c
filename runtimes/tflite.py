"""The TensorFlow Lite engine, from whichever package has it: ai-edge-litert, tflite-runtime, or TensorFlow itself.

Only `Interpreter` is used. LiteRT's CompiledModel corrupts memory on models whose output shape depends on data (2.3.0).
"""

from __future__ import annotations

import importlib
import sys
import warnings
from _thread import allocate_lock
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ArtifactError, EdgekitError, UnsupportedError
from edgekit.opening import require_format
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
    first_line,
    lanes_for,
    package,
)
from edgekit.runtimes._tflite_state import keeps_state, state_of
from edgekit.spec import DTYPES, QuantParams, StatePair, TensorSpec

if TYPE_CHECKING:
    import mmap

    from edgekit.tracing import Traced

__all__ = ["ENGINE"]

# y = x + x on float32[1, 2].
_TINY = bytes.fromhex(
    "1800000054464c3300000e00140010000c000800000004000e0000001000000018000000e800000003000000010000000400000020ffffff"
    "01000000100000000c00140010000c00080004000c00000010000000500000005400000058000000010000001400000000000e0014000000"
    "10000c000b0004000e000000100000000000000b0c0000001000000078ffffff010000000100000002000000000000000000000001000000"
    "010000000100000000000000020000003400000004000000e0ffffff080000000c0000000100000079000000020000000100000002000000"
    "0c000c0008000000000004000c000000080000000c0000000100000078000000020000000100000002000000010000000800000004000400"
    "04000000"
)
_UNRESOLVED = r"unresolved custom op: (\S+?)\.?\s"
_UNKNOWN_BUILTIN = r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'"
_QUANTIZED = ("int8", "uint8", "int16")


class TfliteEngine:
    """Opens .tflite files with the first package of the resolver order that really works."""

    name = "tflite"
    formats: tuple[str, ...] = ("tflite",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._probe: Probe | None = None
        self._interpreter: Any = None

    def probe(self) -> Probe:
        with self._lock:
            if self._probe is None:
                self._probe, self._interpreter = _resolve()
        return self._probe

    def open(self, path: Path, options: EngineOptions) -> OpenTflite:
        check_options(self.name, options)
        require_format(path, self.formats)
        self.probe().require("the tflite runtime")
        content = _content(path)
        file = {"model_content": content} if isinstance(content, bytes) else {"model_path": str(path)}
        threads = options.threads or 1

        def interpreter() -> Any:
            opened = self._interpreter(**file, num_threads=threads, **dict(options.vendor))
            opened.allocate_tensors()
            return opened

        # A large file is not held here and may be another one by now; a delegate belongs to one interpreter.
        can_repeat = isinstance(content, bytes) and "experimental_delegates" not in options.vendor
        try:
            return OpenTflite(interpreter, content, lanes_for(options, threads) if can_repeat else 1)
        except EdgekitError:
            raise
        except TypeError as error:
            raise UnsupportedError(f"the interpreter does not take these options: {first_line(error)}") from error
        except Exception as error:
            raise _typed(path, content, error) from error

    def placements(self, path: Path, options: EngineOptions) -> list[OpPlacement]:
        """What each operation computes in, read from the file: the engine runs a .tflite file as it is written."""
        from edgekit.runtimes._tflite_file import placements

        require_format(path, self.formats)
        return placements(path)

    def tensors(
        self, path: Path, options: EngineOptions, feeds: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[dict[str, list[np.ndarray]], str]:
        """What is computed on the way: see `edgekit.runtimes._tflite_tensors`."""
        from edgekit.runtimes._tflite_tensors import tensors

        require_format(path, self.formats)
        self.probe().require("the tflite runtime")
        return tensors(self._interpreter, {"model_path": str(path)}, options.threads or 1, feeds, _input_names)

    def operation_times(
        self, path: Path, options: EngineOptions, feeds: Sequence[Sequence[np.ndarray]], calls: int
    ) -> Traced:
        """From LiteRT's profiler: see `edgekit.runtimes._tflite_times`."""
        from edgekit.runtimes._litert import ProfiledModel, require_profiler
        from edgekit.runtimes._tflite_file import operations
        from edgekit.runtimes._tflite_times import operation_times, partitions, sizes_of

        require_profiler(self.probe().version)
        if options.vendor:
            raise UnsupportedError("LiteRT's profiler takes none of the vendor's options", offenders=options.vendor)
        content = path.read_bytes()
        opened = self.open(path, options)
        opened.run(feeds[0])
        plain = self._interpreter(model_content=content, num_threads=1, **_quietly(self._interpreter))
        inputs, outputs, others = sizes_of(plain, [array.shape for array in feeds[0]])
        file_ops = operations(content, 0, others)
        delegated = partitions(opened._interpreter._interpreter, file_ops)
        opened.close()
        model = ProfiledModel(content, options.threads or 1, inputs, outputs)
        try:
            return operation_times(model, file_ops, delegated, feeds, calls)
        finally:
            model.close()


def _content(path: Path) -> bytes | mmap.mmap:
    """The bytes of a file; of a large one only those that are looked at, which it must keep while it is open."""
    if path.stat().st_size <= LARGE_BYTES:
        return path.read_bytes()
    import mmap

    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class OpenTflite:
    """One interpreter, its tensors named by the signature where the file has exactly one."""

    precision = "fp32"

    def __init__(self, make: Callable[[], Any], content: bytes | mmap.mmap, lanes: int = 1) -> None:
        self.state: tuple[StatePair, ...] = state_of(content)
        self.lanes = lanes
        self._make, self._content = make, content
        interpreter = make()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        in_names, out_names = _names(interpreter, inputs, outputs)
        self.inputs = tuple(_spec(detail, name) for detail, name in zip(inputs, in_names, strict=True))
        self.outputs = tuple(_spec(detail, name) for detail, name in zip(outputs, out_names, strict=True))
        self._in = [detail["index"] for detail in inputs]
        self._out = [detail["index"] for detail in outputs]
        self._interpreter: Any = interpreter  # owns the model's bytes and the delegates
        # The wrapped object's methods skip a Python layer that refuses to run while views of its memory are held; of
        # tensors of fixed size, whose memory stays where it is, that is safe.
        raw = interpreter._interpreter
        self._set, self._invoke, self._get = raw.SetTensor, raw.Invoke, raw.GetTensor
        self._resize, self._allocate = raw.ResizeInputTensor, raw.AllocateTensors
        self._shapes = [tuple(detail["shape"]) for detail in inputs]
        self._is_static = all(spec.is_static for spec in self.inputs)
        feeds, results = self._views() if self._is_static else ([], [])
        self.lends_outputs = bool(results)
        self.run: Run = bound_run(feeds, raw.Invoke, results) if results else self._run_copying

    def another(self) -> OpenTflite | None:
        """A second interpreter of the same bytes; None for a model that remembers, whose calls must meet one memory."""
        return None if keeps_state(self._content) else OpenTflite(self._make, self._content)

    def _views(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Arrays on the memory of inputs and outputs; none when the size of an output depends on the data."""
        if not all(spec.is_static for spec in self.outputs):
            return [], []  # there may be memory already, that of another shape
        try:
            found = tuple([self._interpreter.tensor(i)() for i in side] for side in (self._in, self._out))
        except ValueError:  # no memory yet: it is given when the operation before has run, anew each time
            return [], []
        # Of a tensor without dimensions the interpreter gives a copied number, which nothing keeps up to date.
        is_memory = all(isinstance(view, np.ndarray) for side in found for view in side)
        return found if is_memory else ([], [])  # type: ignore[return-value]

    def _run_copying(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if not self._is_static:
            self._fit(arrays)
        for index, array in zip(self._in, arrays, strict=True):
            self._set(index, array)
        self._invoke()
        return [self._result(index) for index in self._out]

    def _result(self, index: int) -> np.ndarray:
        raw = self._interpreter._interpreter
        shape = raw.TensorSize(index, 0)
        # An output whose size depends on the data and which is empty is refused as "Invalid tensor size".
        return self._get(index, 0) if np.prod(shape) else np.zeros(shape, raw.TensorType(index, 0))

    def _fit(self, arrays: Sequence[np.ndarray]) -> None:
        shapes = [array.shape for array in arrays]
        if shapes == self._shapes:
            return
        self._shapes = []  # a failure half way leaves sizes nobody knows
        for index, shape in zip(self._in, shapes, strict=True):
            self._resize(index, np.array(shape, "int32"), False)
        self._allocate()
        self._shapes = shapes

    def close(self) -> None:
        self.run = closed_run
        self._interpreter = self._make = self._content = None  # type: ignore[assignment]
        del self._set, self._invoke, self._get, self._resize, self._allocate


def _resolve() -> tuple[Probe, Any]:
    """The first package whose interpreter computes the tiny model right, or why none does."""
    reasons = []
    for find in (_from_litert, _from_tflite_runtime, _from_tensorflow):
        name, load, reason = find()
        if load is None:
            reasons += [reason] if reason else []
            continue
        try:
            interpreter_class = load()
            interpreter = interpreter_class(model_content=_TINY, num_threads=1, **_quietly(interpreter_class))
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], PROBE_FEED)
            interpreter.invoke()
            answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is the answer
            reasons.append(f"{name} is installed but fails: {first_line(error)}")
            continue
        if np.array_equal(answer, 2 * PROBE_FEED):
            return Probe(True, version=name, extra="litert"), interpreter_class
        reasons.append(f"{name} answers {answer.tolist()} for 1+1, 2+2")
    why = "; ".join(reasons) or "none of ai-edge-litert, tflite-runtime and tensorflow is installed"
    return Probe(False, reason=why, extra="litert"), None


def _quietly(interpreter_class: Any) -> dict[str, Any]:
    """Without the default delegate, which announces itself on stderr at its first use; a probe has no need of it."""
    types = getattr(sys.modules[interpreter_class.__module__], "OpResolverType", None)
    return {"experimental_op_resolver_type": types.BUILTIN_WITHOUT_DEFAULT_DELEGATES} if types else {}


_Found = tuple[str, Callable[[], Any] | None, str]


def _from_litert() -> _Found:
    if find_spec("ai_edge_litert") is None:
        return "", None, ""
    name = package("ai-edge-litert") or "ai-edge-litert"
    return name, lambda: importlib.import_module("ai_edge_litert.interpreter").Interpreter, ""


def _from_tflite_runtime() -> _Found:
    if find_spec("tflite_runtime") is None:
        return "", None, ""
    name = package("tflite-runtime") or "tflite-runtime"
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        # Importing it would only print a page about its C extension and fail later, at the first tensor.
        return name, None, f"{name} is built for NumPy 1 and NumPy {np.__version__} is installed"
    if "tensorflow" in sys.modules:
        return name, None, f"{name} cannot share a process with tensorflow, which is already imported"
    return name, lambda: importlib.import_module("tflite_runtime.interpreter").Interpreter, ""


def _from_tensorflow() -> _Found:
    if find_spec("tensorflow") is None:
        return "", None, ""
    return package("tensorflow-cpu", "tensorflow") or "tensorflow", _tensorflow_interpreter, ""


def _tensorflow_interpreter() -> Any:
    inner = importlib.import_module("tensorflow").lite.Interpreter

    def interpreter(**arguments: Any) -> Any:
        with warnings.catch_warnings():
            # It says that it will leave TensorFlow for ai-edge-litert, which is absent when this is reached.
            warnings.simplefilter("ignore")
            return inner(**arguments)

    return interpreter


def _input_names(interpreter: Any) -> list[str]:
    return _names(interpreter, interpreter.get_input_details(), interpreter.get_output_details())[0]


def _names(interpreter: Any, inputs: list[Any], outputs: list[Any]) -> tuple[list[str], list[str]]:
    """Names of the only signature, where it covers every input and output once; else the tensors' own."""
    signatures = interpreter._get_full_signature_list() if hasattr(interpreter, "_get_full_signature_list") else {}
    if len(signatures) == 1:
        (signature,) = signatures.values()
        sides = [(signature["inputs"], inputs), (signature["outputs"], outputs)]
        if all(sorted(given.values()) == sorted(detail["index"] for detail in details) for given, details in sides):
            return tuple(_in_order(*side) for side in sides)  # type: ignore[return-value]
    return distinct_names((d["name"] for d in inputs), "input"), distinct_names((d["name"] for d in outputs), "output")


def _in_order(given: dict[str, int], details: list[dict[str, Any]]) -> list[str]:
    """The names in the order of `details`; one tensor may have several, one for each time it is there."""
    names: dict[int, list[str]] = {}
    for name, index in given.items():
        names.setdefault(index, []).append(name)
    return [names[detail["index"]].pop(0) for detail in details]


def _spec(detail: dict[str, Any], name: str) -> TensorSpec:
    dtype = np.dtype(detail["dtype"]).name
    if dtype not in DTYPES or dtype == "string":
        raise UnsupportedError("the tflite runtime feeds no tensors of this type", offenders=[f"{name}: {dtype}"])
    signature = detail.get("shape_signature", ())
    shape = signature if len(signature) == len(detail["shape"]) else detail["shape"]
    parameters = detail["quantization_parameters"]
    quant = None
    if dtype in _QUANTIZED and len(parameters["scales"]) == 1:
        quant = QuantParams(dtype, (float(parameters["scales"][0]),), (int(parameters["zero_points"][0]),))
    return TensorSpec(name, dtype, dims(shape), quant=quant)


def _typed(path: Path, content: bytes | mmap.mmap, error: Exception) -> EdgekitError:
    import re  # which compiles what it is given

    said = str(error) if not isinstance(error, UnicodeDecodeError) else ""
    if found := re.search(_UNRESOLVED, said):
        return UnsupportedError(
            f"{path.name} has custom operations this interpreter does not know",
            offenders=_all_custom(content, found[1]),
        )
    if found := re.search(_UNKNOWN_BUILTIN, said):
        return UnsupportedError(
            f"{path.name} needs a newer interpreter", offenders=[f"{found[1]} version {found[2]}"],
            hint="pip install -U ai-edge-litert",
        )  # fmt: skip
    if isinstance(error, UnicodeDecodeError):
        return ArtifactError(f"{path} is damaged: a name in it is not text", hint="copy or convert it again")
    return ArtifactError(f"{path} does not open: {first_line(error)}", hint="copy or convert it again")


def _all_custom(content: bytes | mmap.mmap, first: str) -> list[str]:
    """The custom operation the engine stumbled over, and the others it would have."""
    from edgekit.runtimes._tflite_file import unresolved_custom_ops

    return [first, *(name for name in unresolved_custom_ops(content) if name != first)]


ENGINE = TfliteEngine()
