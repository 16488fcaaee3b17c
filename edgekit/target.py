"""A target: what a device takes and how to serve it, as data. The named ones are the files in ``edgekit/targets``."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.recipe import FLOATS, canonical_precision
from edgekit.registry import TARGETS

__all__ = ["Placement", "Target"]

SCHEMA = "edgekit.target"
VERSION = 1

_COUNTS = {"batch": (int,), "threads": (int, type(None)), "onnx_opset": (int, type(None))}
_FOLDER = Path(__file__).parent / "targets"


@dataclass(frozen=True)
class Placement:
    """Where a format wants quantized tensors on this target, and of which types.

    Attributes:
        activations: Integer dtype of activations, ``"uint8"`` or ``"int8"``.
        symmetric_activations: Zero point in the middle of the range.
        zero_points: Whether activations may have any other than 0. Where not, those that go below 0 are signed and lie
            evenly around it, and all others are unsigned.
        weights: Integer dtype of weights, always symmetric.
        per_channel: One scale per output channel of a weight.
        anchors: Op types that are quantized for their own sake.
        followers: Op types quantized when what feeds them already is, because the engine has an integer kernel.
        quantize_outputs: Whether outputs of anchors get parameters too, for engines that requantize in the kernel.
        float_products: Whether integer kernels for MatMul and Gemm can give floats, so that the last ones do.
        one_scale: Op types whose kernels want one scale for all they take and give, beyond those that only move values.
        narrow: Convolutions of at most so many input channels and fewer than so many multiplications for each place of
            the output stay float, for they are faster so; empty for none.
        dynamic: Op types with a kernel for constant integers and activations that become integers in each call.
        stored: Op types whose constants may be stored in 8 bits and be computed with in float.
        stored_in_4_bits: Op types whose constants may be stored in 4 bits.
        four_bits: What shares a scale in 4 bits: ``"group"``, ``"channel"``, or ``""`` where there is no such form.
        palettes: Whether the engine puts weights together once that are stored as a few values and places in them.
        float_io: Inputs and outputs of the file stay float.
    """

    activations: str
    weights: str = "int8"
    symmetric_activations: bool = False
    zero_points: bool = True
    per_channel: bool = True
    anchors: tuple[str, ...] = ()
    followers: tuple[str, ...] = ()
    quantize_outputs: bool = False
    float_products: bool = True
    one_scale: tuple[str, ...] = ()
    narrow: tuple[int, ...] = ()
    dynamic: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    stored_in_4_bits: tuple[str, ...] = ()
    four_bits: str = ""
    palettes: bool = False
    float_io: bool = True


@dataclass(frozen=True)
class Target:
    """A device: the formats and precisions it takes, in order of preference, and how each is to be written.

    Attributes:
        name: As given to ``--target``.
        title: What it is, for people.
        architectures: ``platform.machine()`` values it is; empty for any.
        formats: Formats it takes, best first.
        precisions: For each format the precisions that make sense on it.
        refusals: For each format and precision it takes no part in, why, with the source of the claim.
        placements: For each format, where and how int8 is placed.
        batch: The batch size files are written for where the format fixes it.
        threads: Threads to serve with; None leaves it to the engine.
        onnx_opset: The newest opset its ONNX Runtime is sure to open; None for the one that is installed here.
        notes: Facts behind the choices, with where they were measured or read.
    """

    name: str
    title: str
    architectures: tuple[str, ...]
    formats: tuple[str, ...]
    precisions: Mapping[str, tuple[str, ...]]
    refusals: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    placements: Mapping[str, Placement] = field(default_factory=dict)
    batch: int = 1
    threads: int | None = None
    onnx_opset: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_this_machine(self) -> bool:
        """Whether this machine is of an architecture the target names."""
        return not self.architectures or platform.machine().lower() in self.architectures

    @classmethod
    def named(cls, name: str) -> Target:
        """The target called `name`, or read from a file when `name` is the path of a .json file."""
        if name.endswith(".json"):
            return cls.from_file(Path(name))
        if (path := _FOLDER / f"{name}.json").is_file() and path.parent == _FOLDER:
            return cls.from_file(path)
        if name in TARGETS.names():
            target = TARGETS.get(name)
            return target if isinstance(target, cls) else cls.from_file(Path(target))
        raise UnsupportedError(
            f"there is no target named {name!r}", hint=f"known: {', '.join(cls.names())}; or a .json file"
        )

    @staticmethod
    def names() -> list[str]:
        """All named targets: those of this package, then those of installed ones."""
        return [*sorted(path.stem for path in _FOLDER.glob("*.json")), *TARGETS.names()]

    @classmethod
    def from_file(cls, path: Path) -> Target:
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(
                f"{path} is not a target: {error!r}", hint="compare `edgekit list targets --json`"
            ) from error

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Target:
        """Reads what `to_json` gave."""
        if data.get("schema") != SCHEMA or data.get("version") != VERSION:
            raise ArtifactError(f"not a target of version {VERSION}: schema {data.get('schema')!r}")
        if "same_as" in data:
            machine = platform.machine().lower()
            if machine not in data["same_as"]:
                raise UnsupportedError(
                    f"target {data['name']!r} knows no {machine}", hint="name the device's own target"
                )
            other = data["same_as"][machine]
            if other.endswith(".json"):
                raise ArtifactError(f"'same_as' names a target, not a file: {other!r}")
            return replace(cls.named(other), name=data["name"], title=data["title"], onnx_opset=None)
        target = cls(
            name=data["name"],
            title=data["title"],
            architectures=_several(data.get("architectures", ())),
            formats=_several(data["formats"]),
            precisions={
                format: tuple(map(canonical_precision, _several(names))) for format, names in data["precisions"].items()
            },
            refusals=data.get("refusals", {}),
            placements={format: _placement(fields) for format, fields in data.get("placements", {}).items()},
            batch=data.get("batch", 1),
            threads=data.get("threads"),
            onnx_opset=data.get("onnx_opset"),
            notes=_several(data.get("notes", ())),
        )
        target._check()
        return target

    def _check(self) -> None:
        lists = {"architectures": self.architectures, "formats": self.formats, "notes": self.notes, **self.precisions}
        wrong = [name for name, texts in lists.items() if not all(isinstance(text, str) for text in texts)]
        wrong += [name for name in ("name", "title") if not isinstance(getattr(self, name), str)]
        wrong += [name for name in ("batch", "threads", "onnx_opset") if type(getattr(self, name)) not in _COUNTS[name]]
        wrong += [f"precisions of {format}" for format in self.formats if not self.precisions.get(format)]
        wrong += [
            f"placement of {format}, which {', '.join(integers)} needs"
            for format, precisions in self.precisions.items()
            if (integers := [name for name in precisions if name not in FLOATS]) and format not in self.placements
        ]
        wrong += [
            f"types of the placement of {format}"
            for format, placement in self.placements.items()
            if placement.activations not in ("int8", "uint8") or placement.weights != "int8"
        ]
        if wrong or not self.formats:
            raise ArtifactError(
                f"target {self.name!r} is not valid: {', '.join(map(str, wrong)) or 'formats'}",
                hint="compare `edgekit list targets --json`",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "name": self.name,
            "title": self.title,
            "architectures": list(self.architectures),
            "formats": list(self.formats),
            "precisions": {format: list(names) for format, names in self.precisions.items()},
            "refusals": {format: dict(reasons) for format, reasons in self.refusals.items()},
            "placements": {format: _fields(placement) for format, placement in self.placements.items()},
            "batch": self.batch,
            "threads": self.threads,
            "onnx_opset": self.onnx_opset,
            "notes": list(self.notes),
        }


def _several(values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{values!r} is not a list")  # a text would fall into its letters
    return tuple(values)


def _placement(fields: Mapping[str, Any]) -> Placement:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Placement(**plain)


def _fields(placement: Placement) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(placement).items()}
