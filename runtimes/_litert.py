"""LiteRT's profiler, by its C interface: the Python one of ai-edge-litert 2.3 has none.

The functions are those of ``libLiteRt.so``, which the package ships and exports them from. Their signatures have
changed between releases, so this works with the releases it was written for only; and as nothing checks the types of
what goes in and out, it belongs in a process of its own, as `edgekit.measuring.operations` runs it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgekit.errors import ArtifactError, UnsupportedError

__all__ = ["Event", "ProfiledModel", "require_profiler"]

_RELEASE = "2.3."
_CPU = 1
_WRITE = 1
_MAX_RANK = 8

_Handle = ctypes.c_void_p
_RankedType = ctypes.c_uint32 * 18
"""Of a tensor: its type, its rank, eight sizes, eight strides."""

_Layout = ctypes.c_uint32 * 17
"""The same without its type."""

_OPERATION, _PART_OF_DELEGATE = 2, 8
"""Kinds of events: an operation of the file, and one of what a delegate made of several."""


class Event(NamedTuple):
    """An operation that ran.

    Attributes:
        tag: The file's word for it, or the delegate's.
        is_delegate: Whether it is a delegate's, of several operations of the file.
        number: Of the operation in its graph, or among those of its delegate.
        time_us: What it took.
    """

    tag: str
    is_delegate: bool
    number: int
    time_us: int


class _EventData(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_uint32),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_int64 * 6),
        ("number", ctypes.c_uint64),
        ("graph", ctypes.c_uint64),
        ("source", ctypes.c_uint32),
    )


def require_profiler(engine: str) -> None:
    """Raises UnsupportedError where `engine`, the package and version of the interpreter, has no profiler we know."""
    if not engine.startswith(f"ai-edge-litert {_RELEASE}"):
        raise UnsupportedError(
            f"only ai-edge-litert {_RELEASE}x has a profiler whose interface is known, and this is {engine}",
            hint="pip install 'ai-edge-litert>=2.3,<2.4'",
        )


def _library() -> ctypes.CDLL:
    path = Path(str(import_module("ai_edge_litert").__file__)).with_name("libLiteRt.so")
    if not path.is_file():
        raise UnsupportedError(f"LiteRT's profiler is known on Linux only: {path} is missing")
    return ctypes.CDLL(str(path))


class ProfiledModel:
    """A model opened by LiteRT with its profiler.

    Args:
        content: The file, which is kept.
        threads: For one call.
        inputs: For each of the file's inputs its number among the tensors, and its shape.
        outputs: The same for its outputs, none of which may have sizes that depend on the data: 2.3.0 then writes
            beyond its memory.

    Raises:
        ArtifactError: It does not open, or takes no inputs of these shapes.
        UnsupportedError: There is no such library on this system, or a shape has more than eight sizes.
    """

    def __init__(
        self, content: bytes, threads: int, inputs: Mapping[int, Sequence[int]], outputs: Mapping[int, Sequence[int]]
    ) -> None:
        self._library = _library()
        if any(len(shape) > _MAX_RANK for shape in (*inputs.values(), *outputs.values())):
            raise UnsupportedError(f"LiteRT's profiler takes no tensors of more than {_MAX_RANK} dimensions")
        self._shapes = [tuple(shape) for shape in inputs.values()]
        self._content = content
        self._kept: list[Any] = []
        self._environment = self._made("LiteRtCreateEnvironment", 0, None)
        size = ctypes.c_size_t(len(content))
        self._model = self._made("LiteRtCreateModelFromBuffer", self._environment, content, size)
        options = self._options(threads)
        self._compiled = self._made("LiteRtCreateCompiledModel", self._environment, self._model, options)
        self._profiler = self._made("LiteRtCompiledModelGetProfiler", self._compiled)
        signature = self._made("LiteRtGetModelSignature", self._model, ctypes.c_size_t(0))
        tensors = list(self._tensors(signature, "Input"))
        numbers = list(map(self._number, tensors))
        self._order = [list(inputs).index(number) for number in numbers]
        given = list(self._tensors(signature, "Output"))
        self._resize(tensors, [inputs[number] for number in numbers], len(given))
        self._inputs = [self._buffer("Input", i, t, inputs[numbers[i]]) for i, t in enumerate(tensors)]
        self._outputs = [self._buffer("Output", i, t, outputs[self._number(t)]) for i, t in enumerate(given)]
        self._sides = [(_Handle * len(side))(*side) for side in (self._inputs, self._outputs)]

    def run(self, arrays: Sequence[np.ndarray]) -> None:
        """One call. `arrays` are in the order of the `inputs` it was opened with.

        Raises:
            UnsupportedError: They have not the shapes it was opened with, for which its memory is.
        """
        if [array.shape for array in arrays] != self._shapes:
            raise UnsupportedError(
                "LiteRT's profiler takes inputs of one shape",
                offenders=[str(list(array.shape)) for array in arrays],
                hint="profile with feeds that are all alike",
            )
        for position, buffer in zip(self._order, self._inputs, strict=True):
            array, memory = np.ascontiguousarray(arrays[position]), _Handle()
            self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(memory), _WRITE)
            ctypes.memmove(memory, array.ctypes.data, array.nbytes)
            self._call("LiteRtUnlockTensorBuffer", buffer)
        counts = [ctypes.c_size_t(len(side)) for side in self._sides]
        self._call(
            "LiteRtRunCompiledModel", self._compiled, ctypes.c_size_t(0),
            counts[0], self._sides[0], counts[1], self._sides[1],
        )  # fmt: skip

    def profiled(self, arrays: Sequence[np.ndarray]) -> list[Event]:
        """One call, and what ran in it, but for the bodies of loops."""
        self._call("LiteRtStartProfiler", self._profiler)
        self.run(arrays)
        self._call("LiteRtStopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_EventData * max(count.value, 1))()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        return [
            Event(e.tag.decode(errors="replace"), e.kind == _PART_OF_DELEGATE, e.number, e.elapsed_us)
            for e in events[: count.value]
            if e.kind in (_OPERATION, _PART_OF_DELEGATE) and e.graph == 0
        ]

    def close(self) -> None:
        """Gives back all it holds."""
        for buffer in (*self._inputs, *self._outputs):
            self._library.LiteRtDestroyTensorBuffer(buffer)
        self._library.LiteRtDestroyCompiledModel(self._compiled)
        self._library.LiteRtDestroyModel(self._model)
        self._library.LiteRtDestroyEnvironment(self._environment)

    def _options(self, threads: int) -> Any:
        options = self._made("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        forget = ctypes.CFUNCTYPE(None, _Handle)(lambda _: None)
        said = {"xnnpack": f"num_threads = {threads}", "runtime_options_string": "enable_profiling = true"}
        for name, settings in said.items():
            text = ctypes.create_string_buffer(settings.encode())
            self._kept += [forget, text]
            opaque = self._made("LiteRtCreateOpaqueOptions", name.encode(), ctypes.cast(text, _Handle), forget)
            self._call("LiteRtAddOpaqueOptions", options, opaque)
        return options

    def _tensors(self, signature: Any, side: str) -> Iterator[Any]:
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(count))
        for index in range(count.value):
            yield self._made(f"LiteRtGetSignature{side}TensorByIndex", signature, ctypes.c_size_t(index))

    def _number(self, tensor: Any) -> int:
        number = ctypes.c_uint32()
        self._call("LiteRtGetTensorIndex", tensor, ctypes.byref(number))
        return number.value

    def _resize(self, tensors: Sequence[Any], shapes: Sequence[Sequence[int]], outputs: int) -> None:
        """Gives inputs `shapes` where they have others, and everything behind them its memory."""
        is_other = [
            self._type_of(t)[2 : 2 + len(shape)] != list(shape) for t, shape in zip(tensors, shapes, strict=True)
        ]
        first = ctypes.c_size_t(0)
        for index, shape in enumerate(shapes):
            if is_other[index]:
                dims, at, rank = (
                    (ctypes.c_int * len(shape))(*shape),
                    ctypes.c_size_t(index),
                    ctypes.c_size_t(len(shape)),
                )
                self._call("LiteRtCompiledModelResizeInputTensorNonStrict", self._compiled, first, at, dims, rank)
        if any(is_other):
            layouts, count = (_Layout * outputs)(), ctypes.c_size_t(outputs)
            self._call("LiteRtGetCompiledModelOutputTensorLayouts", self._compiled, first, count, layouts, True)

    def _type_of(self, tensor: Any) -> ctypes.Array[Any]:
        ranked = _RankedType()
        self._call("LiteRtGetRankedTensorType", tensor, ctypes.byref(ranked))
        return ranked

    def _buffer(self, side: str, index: int, tensor: Any, shape: Sequence[int]) -> Any:
        """Memory for an input or output."""
        ranked = self._type_of(tensor)
        ranked[2 : 2 + len(shape)] = list(shape)
        at = (ctypes.c_size_t(0), ctypes.c_size_t(index))
        needs = self._made(f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, *at)
        make = "LiteRtCreateManagedTensorBufferFromRequirements"
        return self._made(make, self._environment, ctypes.byref(ranked), needs)

    def _made(self, function: str, *arguments: Any) -> Any:
        """What a function hands out by its last argument."""
        handle = _Handle()
        self._call(function, *arguments, ctypes.byref(handle))
        return handle

    def _call(self, function: str, *arguments: Any) -> None:
        if status := getattr(self._library, function)(*arguments):
            raise ArtifactError(f"LiteRT's profiler fails: {function} answers {status}", hint="profile without --ops")
