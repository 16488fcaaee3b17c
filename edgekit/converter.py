"""The seam to the formats: what a converter reads and writes, and the direct roads that skip the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekit.errors import InputError
from edgekit.registry import Probe
from edgekit.spec import DTYPES, Dim, Signature, TensorSpec

if TYPE_CHECKING:
    from edgekit.quantize.plan import QuantPlan
    from edgekit.target import Target
    from edgekit.worker import Worker

__all__ = [
    "Converter",
    "DirectRoad",
    "Feeds",
    "OptionReader",
    "Reader",
    "RoadRequest",
    "SourceModel",
    "SourceOptions",
    "Writer",
    "Written",
    "parse_input_shape",
]

Feeds = Mapping[str, np.ndarray]


@dataclass
class SourceModel:
    """A trained model opened by its converter: it can answer, and it can be read from the places in `exports`.

    Attributes:
        kind: Name of the converter that opened it.
        path: What the user gave.
        signature: Names, dtypes and shapes as the source has them.
        run: The source's own answer, by its own framework, to feeds by name.
        exports: Forms it is readable in, by name: ``"hub"`` (an .onnx file) always, unless `hub_error` says why not;
            ``"saved_model"`` where there is one.
        hub_error: Why the source could not be brought to the hub; direct roads may still go.
        worker: The child its framework lives in, for direct roads that need the same framework.
        versions: Package versions that took part.
        notes: What a user should know of how it was read, such as a fall-back loader.
        precision: What it computes in itself; ``"w8a8"`` for one that came quantized.
    """

    kind: str
    path: Path
    signature: Signature
    run: Callable[[Feeds], dict[str, np.ndarray]]
    exports: dict[str, Path]
    hub_error: str = ""
    worker: Worker | None = None
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    precision: str = "fp32"

    def close(self) -> None:
        """Ends the child, if there is one."""
        if self.worker is not None:
            self.worker.close()


@dataclass(frozen=True)
class Written:
    """Files a road wrote, the one to open first, and how its tensors are named where that is already known.

    Attributes:
        files: All files that belong together, such as ``[model.xml, model.bin]``.
        input_names: For inputs of the source's signature, the file's name, where the road knows it.
        output_names: The same for outputs.
        notes: What a user should know of how it was written.
        versions: Package versions that took part.
        sizes: The numbers that sizes open in the source have in this file.
    """

    files: tuple[Path, ...]
    input_names: Mapping[str, str] = field(default_factory=dict)
    output_names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


class Converter(Protocol):
    """One format, with the roads to it: a `Reader`, a `Writer`, both, or only direct roads.

    Attributes:
        name: What it is registered as.
        format: The artifact format it writes or its direct roads lead to, such as ``"tflite"``; empty for none.
        suffix: Of the file to open, such as ``".tflite"``.
        reads: Whether it reads sources.
        writes: Whether it writes from the hub.
        reading: How it reads, in words for ``--dry-run``; empty where it does not.
        writing: How it writes, the same.
        fixes_sizes: Whether files it writes have a number for every size, where the source leaves some open.
        exports: Forms `read` leaves a source in, see `SourceModel.exports`.
        roads: Direct roads to its format.
    """

    name: str
    format: str
    suffix: str
    reads: bool
    writes: bool
    reading: str
    writing: str
    fixes_sizes: bool
    exports: tuple[str, ...]
    roads: tuple[DirectRoad, ...]

    def probe(self) -> Probe:
        """Whether what it needs is installed and works; never raises."""


class Reader(Converter, Protocol):
    """A converter whose `reads` is true: it brings a source to the hub. May live in a child process."""

    def accepts(self, path: Path) -> bool:
        """Whether the content of `path`, not its name, is of this format."""

    def read(self, path: Path, stage: Path) -> SourceModel:
        """Opens a source model, leaving its exports under the folder `stage`."""


@dataclass(frozen=True)
class SourceOptions:
    """What the user says of a source that does not say it itself.

    Attributes:
        input_shapes: Of the inputs in their order; a spec without a name is for the input at its place.
    """

    input_shapes: tuple[TensorSpec, ...] = ()


class OptionReader(Reader, Protocol):
    """A reader of sources that may leave something open. Only those that have `with_options` are given options."""

    def with_options(self, options: SourceOptions) -> Reader:
        """The same reader, reading as `options` say."""


class Writer(Converter, Protocol):
    """A converter whose `writes` is true: it takes the hub to its format. May live in a child process."""

    def write(self, graph: Any, path: Path, *, precision: str, plan: QuantPlan | None) -> Written:
        """Writes the hub graph (an ``onnx_ir.Model``) as `path`, weights and activations as `plan` says."""


@dataclass(frozen=True)
class RoadRequest:
    """What a direct road is asked for.

    Attributes:
        precision: One name of DESIGN 4, such as ``"w8a8"``.
        target: The device, which decides placement and types.
        path: The file to write.
        calibration: Gives feeds one sample at a time, from the start at each call; empty where none is needed.
    """

    precision: str
    target: Target
    path: Path
    calibration: Callable[[], Iterable[Feeds]]


@dataclass(frozen=True)
class DirectRoad:
    """A vendor's converter that skips the hub.

    Attributes:
        name: As printed by ``--dry-run``, such as ``"keras -> tflite (TensorFlow's converter)"``.
        word: What ``--road`` asks for it by, such as ``"tensorflow"``.
        needs: The export of the source it starts from, such as ``"saved_model"``.
        format: The format it writes.
        precisions: The precisions it honours.
        why: Why it may be taken in place of the hub, or when.
        drive: Does it.
        better_at: The precisions at which it was measured better than the way through the hub, and comes before it.
    """

    name: str
    word: str
    needs: str
    format: str
    precisions: tuple[str, ...]
    why: str
    drive: Callable[[SourceModel, RoadRequest], Written]
    better_at: tuple[str, ...] = ()


def parse_input_shape(text: str) -> TensorSpec:
    """The input that ``[NAME=]SIZE,SIZE,...[:DTYPE]`` describes, such as ``ids=batch,128:int64``.

    A size is a number, or a word for one that stays open; the same word is the same size. The dtype is float32 unless
    it is said. Without a name, the spec's is empty.

    Raises:
        InputError: It is not of that form, a size is 0, or there is no such dtype.
    """
    match = re.fullmatch(r"(?:([^=:,]+)=)?([^=:]+)(?::(\w+))?", re.sub(r"\s*([=,:])\s*", r"\1", text.strip()))
    sizes = match[2].split(",") if match else []
    if not match or not all(re.fullmatch(r"[1-9]\d*|[A-Za-z_]\w*", size) for size in sizes):
        raise InputError(
            f"{text!r} is no shape of an input",
            hint="[NAME=]SIZE,SIZE,...[:DTYPE], such as 1,3,224,224 or ids=batch,128:int64",
        )
    if match[3] and match[3] not in DTYPES:
        raise InputError(f"there is no dtype {match[3]!r} in {text!r}", hint=", ".join(DTYPES))
    shape: tuple[Dim, ...] = tuple(int(size) if size.isdigit() else size for size in sizes)
    return TensorSpec(match[1] or "", match[3] or "float32", shape)
