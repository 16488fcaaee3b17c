"""What an .onnx file computes on the way, by making every tensor an output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.errors import UnavailableError

__all__ = ["tensors"]

_NOTE = "ONNX Runtime computes a tensor that is an output by itself: what it fuses in service is not fused here"
_ROUNDING = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Constant"}


def tensors(
    path: Path, open_session: Callable[[Path], Any], feeds: Sequence[Mapping[str, np.ndarray]]
) -> tuple[dict[str, list[np.ndarray]], str]:
    """Every named tensor of the graph in the order it is computed, for each feed, and how that was done.

    Left out are the rounding of quantized graphs and what is no tensor of numbers.

    Raises:
        UnavailableError: The onnx package is not installed.
    """
    if find_spec("onnx") is None:
        raise UnavailableError(
            "showing what an .onnx file computes on the way takes the onnx package",
            hint="pip install 'edgekit-ml[convert]'",
        )
    import onnx

    model = onnx.load(path)
    known = {value.name for value in model.graph.output}
    wanted = [name for node in model.graph.node if node.op_type not in _ROUNDING for name in node.output if name]
    for name in wanted:
        if name not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    with TemporaryDirectory(prefix="edgekit-") as folder:
        file = Path(folder, "tensors.onnx")
        onnx.save(model, file, save_as_external_data=True, location="weights")
        session = open_session(file)
    names = {node.name for node in session.get_inputs()}
    found: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for feed in feeds:
        given = {name: array for name, array in feed.items() if name in names}
        for name, value in zip(wanted, session.run(wanted, given), strict=True):
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
                found[name].append(value)
    return {name: arrays for name, arrays in found.items() if arrays}, _NOTE
