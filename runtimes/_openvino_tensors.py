"""What an OpenVINO model computes on the way, by adding a result to every named tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["tensors"]

_NOTE = "OpenVINO computes a tensor that is an output by itself: what it fuses in service is not fused here"
_SKIPPED = {"Parameter", "Result", "Constant"}


def tensors(
    model: Any, compile_model: Callable[[Any], Any], feeds: Sequence[Mapping[str, np.ndarray]]
) -> tuple[dict[str, list[np.ndarray]], str]:
    """Every named tensor of the model in the order it is computed, for each feed, and how that was done."""
    ports = {
        sorted(port.get_names(), key=lambda name: (len(name), name))[0]: port
        for op in model.get_ordered_ops()
        if op.get_type_name() not in _SKIPPED
        for port in op.outputs()
        if port.get_names() and port.get_element_type().is_static()
    }
    given = {port for result in model.get_results() for port in [result.input_value(0)]}
    model.add_outputs([port for port in ports.values() if port not in given])
    request = compile_model(model).create_infer_request()
    found: dict[str, list[np.ndarray]] = {name: [] for name in ports}
    for feed in feeds:
        request.infer(dict(feed))
        for name in ports:
            found[name].append(request.get_tensor(name).data.copy())
    return found, _NOTE
