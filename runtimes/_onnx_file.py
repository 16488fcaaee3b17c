"""Reading .onnx files for what no engine has, and the smallest one that shows whether an engine computes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["TINY", "nodes_with", "unknown_ops"]

# y = x + x on float32[1, 2].
TINY = bytes.fromhex(
    "080812003a3d0a0e0a01780a017812017922034164641201675a130a0178120e0a0c080112080a0208010a02080262130a0179120e0a0c08"
    "0112080a0208010a02080242040a00100d"
)


def unknown_ops(path: Path, *, but_of: tuple[str, ...] = ()) -> list[str]:
    """Operations of the file that neither ONNX nor a function in the file defines; none in a file cut off.

    Those of the domains `but_of` are known.

    Needs the package onnx.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        return []
    local = {(function.domain, function.name) for function in model.functions}
    return sorted(
        {
            f"{node.domain}.{node.op_type}".lstrip(".")
            for node in model.graph.node
            if (node.domain, node.op_type) not in local
            and node.domain not in but_of
            and not onnx.defs.has(node.op_type, node.domain)
        }
    )


def nodes_with(path: Path, op_type: str, attribute: str, value: int) -> set[str]:
    """Names of the file's nodes of a type whose integer attribute has a value; none where onnx is not installed."""
    if find_spec("onnx") is None:
        return set()
    import onnx

    nodes = (node for node in onnx.load(str(path), load_external_data=False).graph.node if node.op_type == op_type)
    return {node.name for node in nodes if any(a.name == attribute and a.i == value for a in node.attribute)}
