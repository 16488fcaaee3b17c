"""The table of processing steps, and how a step that is data becomes a function.

A step is a mapping with ``"op"``, a name of the table, and that op's arguments. The table leads to a *maker*: a
function of keyword-only arguments that checks them once, when a bundle is loaded, and returns what is done to every
value. A package adds steps through the entry-point group ``edgekit.steps``. An argument that is large, or that several
steps share, stands once under the processing's `data`, and is ``{"data": NAME}`` in the steps.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.processing.geometry import Track
from edgekit.record import Record, field
from edgekit.registry import Registry
from edgekit.spec import TensorSpec

__all__ = [
    *("SCHEMA", "STEPS", "VERSION", "Apply", "Step", "StepContext", "compile_steps"),
    *("integers", "name_of", "names_of", "number", "one_of", "plain", "plain_steps", "truth"),
]

SCHEMA = "edgekit.processing"
VERSION = 1

Step: TypeAlias = Mapping[str, Any]


class StepContext(Record):
    """What a step may look at beside the value.

    Attributes:
        spec: The input a value is made ready for; None after the model.
        labels: Names of the classes, by index.
        feeds: What the model was given, for steps that compare its outputs with that; None before the model.
        track: Where steps before the model write down what they cut, resized and padded, for those after it.
    """

    spec: TensorSpec | None = None
    labels: tuple[str, ...] = ()
    feeds: Mapping[str, np.ndarray] | None = None
    track: Track = field(default_factory=Track)


Apply: TypeAlias = Callable[[Any, StepContext], Any]

STEPS = Registry(
    "edgekit.steps",
    "processing step",
    {
        "decode_image": "edgekit.processing.image:decode_image",
        "color": "edgekit.processing.image:color",
        "swap_channels": "edgekit.processing.image:swap_channels",
        "crop": "edgekit.processing.image:crop",
        "center_crop": "edgekit.processing.image:center_crop",
        "resize": "edgekit.processing.image:resize",
        "letterbox": "edgekit.processing.framing:letterbox",
        "resize_shorter": "edgekit.processing.framing:resize_shorter",
        "fit_height": "edgekit.processing.framing:fit_height",
        "layout": "edgekit.processing.image:layout",
        "decode_wav": "edgekit.processing.audio:decode_wav",
        "mono": "edgekit.processing.audio:mono",
        "resample": "edgekit.processing.audio:resample",
        "normalize_volume": "edgekit.processing.audio:normalize_volume",
        "pad_to_windows": "edgekit.processing.audio:pad_to_windows",
        "frame": "edgekit.processing.audio:frame",
        "mel": "edgekit.processing.mel:mel",
        "frame_rows": "edgekit.processing.mel:frame_rows",
        "log_mel": "edgekit.processing.features:log_mel",
        "mfcc": "edgekit.processing.features:mfcc",
        "mu_law": "edgekit.processing.features:mu_law",
        "window_context": "edgekit.processing.features:window_context",
        "tokenize_bytes": "edgekit.processing.text:tokenize_bytes",
        "tokenize_wordpiece": "edgekit.processing.text:tokenize_wordpiece",
        "tokenize": "edgekit.processing.text:tokenize",
        "constant": "edgekit.processing.tensor:constant",
        "one_hot": "edgekit.processing.tensor:one_hot",
        "normalize": "edgekit.processing.tensor:normalize",
        "cast": "edgekit.processing.tensor:cast",
        "reshape": "edgekit.processing.tensor:reshape",
        "expand": "edgekit.processing.tensor:expand",
        "pad": "edgekit.processing.tensor:pad",
        "pad_or_cut": "edgekit.processing.tensor:pad_or_cut",
        "replace_nonfinite": "edgekit.processing.tensor:replace_nonfinite",
        "select": "edgekit.processing.results:select",
        "softmax": "edgekit.processing.results:softmax",
        "sigmoid": "edgekit.processing.results:sigmoid",
        "argmax": "edgekit.processing.results:argmax",
        "top_k": "edgekit.processing.results:top_k",
        "threshold": "edgekit.processing.results:threshold",
        "join_frames": "edgekit.processing.results:join_frames",
        "events": "edgekit.processing.results:events",
        "reconstruction_error": "edgekit.processing.results:reconstruction_error",
        "mean_pool": "edgekit.processing.vectors:mean_pool",
        "mean_rows": "edgekit.processing.vectors:mean_rows",
        "unit_length": "edgekit.processing.vectors:unit_length",
        "nearest": "edgekit.processing.vectors:nearest",
        "ctc_text": "edgekit.processing.reading:ctc_text",
        "text_regions": "edgekit.processing.regions:text_regions",
        "decode_anchors": "edgekit.processing.detectors:decode_anchors",
        "decode_grid": "edgekit.processing.detectors:decode_grid",
        "split_boxes": "edgekit.processing.detectors:split_boxes",
        "detections": "edgekit.processing.boxes:detections",
        "landmarks": "edgekit.processing.points:landmarks",
        "heatmap_points": "edgekit.processing.points:heatmap_points",
        "mask": "edgekit.processing.pictures:mask",
        "class_map": "edgekit.processing.pictures:class_map",
        "picture": "edgekit.processing.pictures:picture",
    },
)


def compile_steps(steps: Iterable[Step], where: str, data: Mapping[str, Any] | None = None) -> tuple[Apply, ...]:
    """The functions that `steps` stand for, with `data` in place of the names of it.

    Raises ArtifactError naming the op or argument that is wrong.
    """
    return tuple(_compile(step, f"step {index} of {where}", data or {}) for index, step in enumerate(steps, start=1))


def _compile(step: Step, where: str, data: Mapping[str, Any]) -> Apply:
    op = step.get("op") if isinstance(step, Mapping) else None
    if not isinstance(op, str):
        raise ArtifactError(f"{where} has no op: {step!r}", hint='a step is {"op": NAME, ARGUMENT: VALUE, ...}')
    try:
        maker = STEPS.get(op)
    except UnsupportedError as error:
        raise ArtifactError(f"{where}: there is no op {op!r}", hint=error.hint) from None
    arguments = {key: _looked_up(value, data, where) for key, value in step.items() if key != "op"}
    known = inspect.signature(maker).parameters
    if unknown := sorted(set(arguments) - set(known)):
        takes = ", ".join(known) or "no arguments"
        raise ArtifactError(f"{where}: {op!r} has no argument {unknown[0]!r}", hint=f"it takes: {takes}")
    required = [name for name, parameter in known.items() if parameter.default is inspect.Parameter.empty]
    if missing := [name for name in required if name not in arguments]:
        raise ArtifactError(f"{where}: {op!r} needs the argument {missing[0]!r}")
    try:
        return maker(**arguments)
    except ArtifactError as error:
        raise ArtifactError(f"{where}: {op!r}: {error.message}", hint=error.hint) from None


def _looked_up(value: Any, data: Mapping[str, Any], where: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if value["data"] not in data:
        raise ArtifactError(f"{where}: there is no data {value['data']!r}", hint=f"known: {', '.join(data) or 'none'}")
    return data[value["data"]]


def plain_steps(steps: Iterable[Step], where: str) -> tuple[dict[str, Any], ...]:
    """`steps` with tuples turned into lists, so that a record equals what its JSON gives back."""
    if isinstance(steps, Mapping | str) or not isinstance(steps, Iterable):
        raise ArtifactError(f"the steps of {where} are not a list")
    return tuple(
        {str(key): plain(value, where) for key, value in step.items()} if isinstance(step, Mapping) else step
        for step in steps
    )


def plain(value: Any, where: str) -> Any:
    """`value` as JSON gives it back: a number, a word, a list, or ``{"data": NAME}``. Raises ArtifactError."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    if isinstance(value, Mapping) and value.keys() == {"data"} and isinstance(value["data"], str):
        return dict(value)
    if isinstance(value, Mapping):
        raise ArtifactError(f"{where} holds an object", hint='an argument may be {"data": NAME}')
    raise ArtifactError(f"{where} holds a {type(value).__name__}, which JSON cannot")


def number(
    name: str, value: Any, *, least: float | None = None, above: float | None = None, most: float | None = None
) -> float:
    """`value` as a float, checked to be a finite one and within its bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ArtifactError(f"{name} must be a number, not {str(value)[:40]}")
    if least is not None and value < least:
        raise ArtifactError(f"{name} must be at least {least:g}, not {value!r}")
    if above is not None and not value > above:
        raise ArtifactError(f"{name} must be above {above:g}, not {value!r}")
    if most is not None and not value <= most:
        raise ArtifactError(f"{name} must be at most {most:g}, not {value!r}")
    return float(value)


def integers(name: str, value: Any, *, count: int | None = None, least: int | None = None) -> tuple[int, ...]:
    """`value`, one integer or a list of them, as a tuple checked for its length and lower bound."""
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise ArtifactError(f"{name} must be of integers, not {value!r}")
    if count is not None and len(items) != count:
        raise ArtifactError(f"{name} must be {count} integers, not {value!r}")
    if least is not None and any(item < least for item in items):
        raise ArtifactError(f"{name} must be at least {least}, not {value!r}")
    return tuple(items)


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """`value`, checked to be a known word."""
    words = list(known)
    if value not in words:
        raise ArtifactError(f"{name} cannot be {value!r}", hint=f"known: {', '.join(words)}")
    return str(value)


def name_of(argument: str, value: Any, what: str) -> str:
    """`value`, checked to be one name of `what`."""
    if not isinstance(value, str) or not value:
        raise ArtifactError(f"{argument} must be the name of {what}, not {value!r}")
    return value


def names_of(argument: str, value: Any, what: str) -> tuple[str, ...]:
    """`value`, one name of `what` or a list of them, as a tuple."""
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"{argument} must be the name of {what}, or several, not {value!r}")
    return tuple(names)


def truth(name: str, value: Any) -> bool:
    """`value`, checked to be true or false."""
    if not isinstance(value, bool):
        raise ArtifactError(f"{name} must be true or false, not {value!r}")
    return value
