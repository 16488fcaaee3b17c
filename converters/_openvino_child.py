"""What the OpenVINO converter does in its own process: read the hub or a SavedModel, place integers, write IR.

Functions here are called by name through `edgekit.worker.Worker`; arguments and results are plain data and paths.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from edgekit.converters._openvino_integers import quantize, store_halves
from edgekit.errors import ConversionError, EdgekitError, UnsupportedError

__all__ = ["convert"]

_MADE_UP = re.compile(r"[A-Za-z]+_\d+")
_RT_INFO = ("conversion_parameters", "Runtime_version", "runtime_options", "nncf", "optimization", "framework")


def convert(source: str, target: str, precision: str, plan: str | None = None) -> dict[str, Any]:
    """Converts an .onnx file or a SavedModel folder at `source` to IR at `target`.

    Args:
        source: Path of the hub file or the SavedModel.
        target: Path of the .xml to write; the .bin goes beside it.
        precision: ``"fp32"``; ``"fp16"`` (weights stored so); ``"bf16"`` (asked of the engine by the file); or the
            name of what `plan` holds.
        plan: Folder left by `edgekit.converters._openvino_integers.write_plan`.

    Returns:
        Names of inputs and outputs in the order of the file, and the version of OpenVINO.
    """
    openvino = _openvino()
    options = {"INFERENCE_PRECISION_HINT": "bf16"} if precision == "bf16" else {}
    try:
        if plan is None:
            model = openvino.convert_model(source)
        else:
            model, group = _read_and_quantize(source, Path(plan))
            options |= {} if group is None else {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group)}
    except Exception as error:
        raise _typed(error) from error
    names = {"inputs": _name(model.inputs), "outputs": _name(model.outputs)}
    _make_reproducible(model)
    for option, value in options.items():
        model.set_rt_info(value, ["runtime_options", option])
    openvino.save_model(model, target, compress_to_fp16=precision == "fp16")
    return {**names, "version": openvino.__version__.split("-")[0]}


def _openvino() -> Any:
    # Importing openvino or converting with it sends usage events where this package is there; without it, none.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _read_and_quantize(source: str, plan: Path) -> tuple[Any, int | None]:
    """Reads the hub, puts integers in, and only then lets OpenVINO fuse; gives what `quantize` does, too.

    `convert_model` fuses at once: it multiplies scales into the weights of the next convolution, and tensors the plan
    names are gone. Constants have to be folded all the same, or grouped weights and biases hide behind Reshape nodes.
    """
    import openvino
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.passes import ConstantFolding, Manager

    model = openvino.Core().read_model(source)
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    group = quantize(model, plan)
    apply_moc_transformations(model, cf=False)
    store_halves(model)
    return model, group


def _typed(error: Exception) -> Exception:
    if isinstance(error, EdgekitError):
        return error
    said = str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith("-- ")]
    if failed or type(error).__name__ == "OpConversionFailure":
        return UnsupportedError(
            "OpenVINO cannot read operations of this model",
            offenders=[line.removeprefix("-- ").removesuffix(" with a message:") for line in failed] or lines[:1],
            hint="choose another format, such as onnx",
        )
    first = lines[0] if lines else type(error).__name__
    return ConversionError(f"OpenVINO: {first}", step="openvino", vendor_message=said)


def _name(ports: Any) -> list[str]:
    """The names of inputs or outputs; a port without one gets that of its node."""
    names = []
    for port in ports:
        if not port.get_names():
            port.get_tensor().set_names({port.get_node().get_friendly_name()})
        names.append(sorted(port.get_names())[0])
    return names


def _make_reproducible(model: Any) -> None:
    """Removes what differs from run to run: paths in the notes, and the counters in names OpenVINO makes up."""
    for key in _RT_INFO:
        if model.has_rt_info([key]):
            del model.rt_info[key]
    for index, op in enumerate(model.get_ordered_ops()):
        kind = op.get_type_name()
        if kind not in ("Parameter", "Result") and _MADE_UP.fullmatch(op.get_friendly_name()):
            op.set_friendly_name(f"{kind}_{index}")
