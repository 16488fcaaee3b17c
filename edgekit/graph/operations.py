"""Which operations of a graph nobody but their author knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import UnsupportedError
from edgekit.graph.walking import walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["require_known", "unknown_operations"]

_CONTRIBUTED = "com.microsoft"
"""The domain of ONNX Runtime's own additions, of which the onnx package has no list."""


def unknown_operations(model: ir.Model) -> list[str]:
    """``domain.Type (node name)`` of every operation neither ONNX nor the model's own functions define."""
    import onnx

    local = {(function.domain, function.name) for function in model.functions.values()}
    found = []
    for node, _ in walk(model.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        is_known = domain.startswith(_CONTRIBUTED) or (node.domain, node.op_type) in local
        opset = model.graph.opset_imports.get(node.domain, 1)
        if not is_known and not onnx.defs.has(node.op_type, opset, domain):
            found.append(f"{domain}.{node.op_type} ({node.name})".lstrip("."))
    return found


def require_known(model: ir.Model, what: str) -> None:
    """Raises UnsupportedError with the list of them when there are unknown operations in `what`."""
    if unknown := unknown_operations(model):
        raise UnsupportedError(
            f"{what} has operations that ONNX does not define",
            offenders=unknown,
            hint="export without custom operations",
        )
