"""A graph as every later step wants it: no dead or useless nodes, constants as initializers, names, shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekit.graph.absorbing import fold_batch_norms, fold_scales
from edgekit.graph.files import raise_opset
from edgekit.graph.folding import fold_biases, fold_constants, fold_pads
from edgekit.graph.naming import name_everything, name_symbols
from edgekit.graph.reshaping import (
    cancel_transposes,
    fold_dimensions,
    merge_casts,
    merge_reshapes,
    merge_transposes,
    settle_reshapes,
)
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.simplifying import define_erfc, merge_duplicates, remove_no_ops, resolve_branches, share_constants
from edgekit.graph.walking import (
    constant,
    copy_of,
    dtype_name,
    fresh_name,
    initializer,
    inner_graphs,
    replace_value,
    value_names,
    walk,
)

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["PASSES", "clean", "outline"]


_SHAPE_BYTES = 1024
"""Larger constants are no sizes of a tensor."""


def clean(model: ir.Model) -> ir.Model:
    """A cleaned copy: same inputs, outputs and answers, fewer nodes. Cleaning it again changes nothing.

    Raises:
        ConversionError: The opset is older than the hub's and cannot be raised.
    """
    model = raise_opset(copy_of(model))
    for prepare in _PREPARATIONS:
        model = prepare(model)
    model, written = infer_shapes(model), ""
    while written != (written := outline(model)):
        for step in PASSES:
            model = step(model)
    return infer_shapes(name_symbols(model))


def outline(model: ir.Model) -> str:
    """Everything a pass can change, in words that are the same when nothing has."""
    parts = [" ".join(model.graph.initializers)]
    for node, around in walk(model.graph):
        names = [value.name if value is not None else "" for value in (*node.inputs, *node.outputs)]
        numbers = [str(value) for name, value in sorted(node.attributes.items()) if name in ("perm", "pads")]
        parts.append(f"{len(around)} {node.op_type} {names} {numbers}")
    return "\n".join(parts)


def inline_functions(model: ir.Model) -> ir.Model:
    """Functions that travel in the file are put where they are called."""
    from onnx_ir.passes.common import InlinePass

    if model.functions:
        InlinePass()(model)
    return model


def lift_constants(model: ir.Model) -> ir.Model:
    """Constant nodes, and initializers of inner graphs, become initializers of the graph; none is an input.

    Sizes and axes are kept in each inner graph that reads them: ONNX's shape inference does not look for them outside.
    """
    from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveInitializersFromInputsPass

    RemoveInitializersFromInputsPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for inner in [inner for node, _ in walk(model.graph) for inner in inner_graphs(node)]:
        for name, value in list(inner.initializers.items()):
            if not _tells_shapes(value):
                del inner.initializers[name]
                model.graph.register_initializer(value)
    _hand_in_sizes(model)
    return model


def _hand_in_sizes(model: ir.Model) -> None:
    taken: set[str] = set()
    for inner in [inner for node, _ in walk(model.graph) for inner in inner_graphs(node)]:
        own: dict[ir.Value, ir.Value] = {}
        for node in inner:
            for index, value in enumerate(node.inputs):
                if value is None or value.graph is inner or not value.is_initializer() or not _tells_shapes(value):
                    continue
                if value not in own:
                    taken = taken or value_names(model.graph)
                    array = constant(value)
                    assert array is not None
                    own[value] = initializer(inner, fresh_name(taken, value.name or ""), array)
                node.replace_input_with(index, own[value])


def _tells_shapes(value: ir.Value) -> bool:
    return dtype_name(value) == "int64" and value.const_value is not None and value.const_value.nbytes <= _SHAPE_BYTES


def remove_identities(model: ir.Model) -> ir.Model:
    """Identity, and Dropout that drops nothing when the model is not being trained, are bypassed."""
    for node, _ in list(walk(model.graph)):
        source, result, graph = node.inputs[0] if node.inputs else None, node.outputs[0], node.graph
        if source is None or graph is None or not (_is_identity(node) or _drops_nothing(node)):
            continue
        # A value has one name: what an output is made of must not be public, or another graph's, already.
        producer = source.producer()
        is_own = producer is not None and producer.graph is graph and not source.is_graph_output()
        if is_own or not result.is_graph_output():
            replace_value(result, source)
            graph.remove(node, safe=True)
    return model


def _is_identity(node: ir.Node) -> bool:
    return node.op_type == "Identity" and node.domain == ""


def _drops_nothing(node: ir.Node) -> bool:
    if node.op_type != "Dropout" or node.domain != "" or (len(node.inputs) > 2 and node.inputs[2] is not None):
        return False
    return len(node.outputs) < 2 or not (node.outputs[1].uses() or node.outputs[1].is_graph_output())


def remove_dead(model: ir.Model) -> ir.Model:
    """Nodes and initializers that no output depends on, opsets nobody uses, and comments go."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

    RemoveUnusedNodesPass()(model)
    RemoveUnusedOpsetsPass()(model)
    ClearMetadataAndDocStringPass()(model)
    return model


def sort_nodes(model: ir.Model) -> ir.Model:
    """Every node stands behind those it reads from."""
    model.graph.sort()
    return model


_PREPARATIONS = (
    inline_functions,
    sort_nodes,
    name_everything,
    lift_constants,
    remove_identities,
    remove_dead,
)

PASSES: tuple[Callable[[ir.Model], ir.Model], ...] = (
    define_erfc,
    fold_dimensions,
    fold_constants,
    resolve_branches,
    settle_reshapes,
    remove_dead,
    merge_casts,
    merge_transposes,
    cancel_transposes,
    merge_reshapes,
    remove_no_ops,
    share_constants,
    merge_duplicates,
    fold_pads,
    fold_batch_norms,
    fold_scales,
    fold_biases,
    remove_dead,
    infer_shapes,
)
"""What `clean` repeats in this order until nothing changes; shapes are known before and after."""
