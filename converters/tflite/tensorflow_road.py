"""The direct road to TFLite: TensorFlow's converter on a SavedModel, then ai-edge-quantizer for int8."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converter import DirectRoad, Feeds, RoadRequest, SourceModel, Written
from edgekit.errors import InputError, UnsupportedError
from edgekit.registry import installed
from edgekit.spec import Signature
from edgekit.worker import Worker

__all__ = ["ROADS"]

_FRAMEWORK = "edgekit.converters._tensorflow_child"
_CHILD = "edgekit.converters.tflite._quantizer_child"
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
_PACKAGES = ("ai-edge-quantizer", "ai-edge-litert")


def _drive(source: SourceModel, request: RoadRequest) -> Written:
    """Writes `request.path`, or raises and leaves nothing there."""
    if source.worker is None:
        raise UnsupportedError("this road starts in the TensorFlow child that opened the source, and there is none")
    with tempfile.TemporaryDirectory(prefix=".road-", dir=request.path.parent) as folder:
        made = Path(folder, "model.tflite")
        weights = "fp16" if request.precision == "fp16" else "fp32"
        source.worker.call(f"{_FRAMEWORK}:to_tflite", path=str(made), precision=weights)
        with Worker("ai-edge-quantizer", env=_ENVIRONMENT) as worker:
            facts = worker.call(f"{_CHILD}:audit", path=str(made))
            _refuse_foreign(facts)
            if request.precision == "w8a8":
                facts, made = _quantize(worker, made, source.signature, request)
        notes = _review(facts, source.signature, request)
        made.replace(request.path)
    return Written(
        files=(request.path,),
        input_names={spec.name: spec.name for spec in source.signature.inputs},
        output_names={spec.name: spec.name for spec in source.signature.outputs},
        notes=notes,
        versions={name: version for name, version in source.versions.items() if "tensorflow" in name}
        | installed(*_PACKAGES),
    )


def _quantize(worker: Worker, made: Path, signature: Signature, request: RoadRequest) -> tuple[dict[str, Any], Path]:
    worker.call(f"{_CHILD}:begin", model=str(made), float_io=_wants_float_io(request))
    seen = 0
    sample = made.with_name("sample.npz")
    for row in _rows(request.calibration(), signature):
        np.savez(sample, **row)  # type: ignore[arg-type]
        worker.call(f"{_CHILD}:observe", feeds=str(sample))
        seen += 1
    if not seen:
        raise InputError("int8 needs calibration data", hint="give --calibration-data, a folder of typical inputs")
    quantized = made.with_name("quantized.tflite")
    worker.call(f"{_CHILD}:finish", path=str(quantized))
    return worker.call(f"{_CHILD}:audit", path=str(quantized)), quantized


def _wants_float_io(request: RoadRequest) -> bool:
    placement = request.target.placements.get("tflite")
    return placement is not None and placement.float_io


def _rows(samples: Iterable[Feeds], signature: Signature) -> Iterator[dict[str, np.ndarray]]:
    """Samples of batch 1, as the file is written for: larger batches are taken apart."""
    for sample in samples:
        arrays = {spec.name: np.asarray(sample[spec.name]) for spec in signature.inputs}
        if bad := [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]:
            raise InputError(f"calibration data for {bad} holds NaN or infinity")
        batched = {spec.name for spec in signature.inputs if spec.shape and spec.shape[0] == "batch"}
        for row in range(max((len(arrays[name]) for name in batched), default=1)):
            yield {name: array[row : row + 1] if name in batched else array for name, array in arrays.items()}


def _refuse_foreign(facts: dict[str, Any]) -> None:
    if facts["custom"]:
        raise UnsupportedError(
            "the file would need operations that no stock interpreter has",
            offenders=[f"{name} ({count} times)" for name, count in facts["custom"].items()],
            hint="choose onnx or openvino",
        )


def _review(facts: dict[str, Any], signature: Signature, request: RoadRequest) -> tuple[str, ...]:
    """Checks that the file is what was asked for; notes on what in it is not."""
    _refuse_foreign(facts)
    ends = {"input": (facts["inputs"], signature.inputs), "output": (facts["outputs"], signature.outputs)}
    for what, (found, wanted) in ends.items():
        if set(found) != {spec.name for spec in wanted}:
            raise UnsupportedError(
                f"the file's {what}s {sorted(found)} are not the source's", offenders=[spec.name for spec in wanted]
            )
    if request.precision == "fp16":
        halved = facts["constants"].get("float16", 0)
        return () if halved else ("fp16: the converter found no weights to halve",)
    if request.precision != "w8a8":
        return ()
    weighted = facts["weighted"]
    floats = [f"{entry['op']} {entry['name']}" for entry in weighted if entry["type"] != "int8"]
    if not weighted or len(floats) == len(weighted):
        raise UnsupportedError(
            "int8: the quantizer left every operation in float", offenders=floats, hint="use fp16 for this model"
        )
    said = f"int8: {len(weighted) - len(floats)} of {len(weighted)} operations with weights"
    return (said, *(f"float: {name}" for name in floats))


ROADS: tuple[DirectRoad, ...] = (
    DirectRoad(
        name="SavedModel -> TFLite (TensorFlow's converter, ai-edge-quantizer)",
        word="tensorflow",
        needs="saved_model",
        format="tflite",
        precisions=("fp32", "fp16", "w8a8"),
        why="when the hub cannot: TensorFlow's own converter knows its own models",
        drive=_drive,
    ),
)
