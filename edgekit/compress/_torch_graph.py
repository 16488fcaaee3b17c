"""A module as PyTorch exports it: a graph of ATen operations that shares the module's own parameters."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgekit.errors import UnsupportedError

__all__ = ["Arguments", "arguments", "copy_of", "evaluating", "exported", "operation", "parameter"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def arguments(inputs: Any) -> Arguments:
    """What a module is called with, arrays made tensors."""
    import torch
    from torch.utils import _pytree as pytree

    inputs = pytree.tree_map(lambda leaf: torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf, inputs)
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def copy_of(module: Any) -> Any:
    """A copy with parameters of its own."""
    twin = copy.deepcopy(module)
    parts = dict(module.named_modules())
    for name, part in twin.named_modules():  # graph modules lose both when they are copied
        part._non_persistent_buffers_set = set(parts[name]._non_persistent_buffers_set)
        for attribute in vars(parts[name]).keys() - vars(part).keys():
            setattr(part, attribute, copy.deepcopy(vars(parts[name])[attribute]))
    return twin


@contextlib.contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """The module in evaluation mode, and each part of it as it was afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def exported(module: Any, given: Arguments) -> Any:
    """The graph module of `module` in evaluation mode. Its parameters are the module's: training it trains both.

    The batch is open where PyTorch can export it so; otherwise all sizes are those given.

    Raises UnsupportedError for what cannot be exported.
    """
    import torch
    from torch.utils import _pytree as pytree

    def is_tensor(leaf: Any) -> bool:
        return isinstance(leaf, torch.Tensor)

    leaves = [leaf for leaf in pytree.tree_leaves(given) if is_tensor(leaf)]
    rows = {leaf.shape[:1] for leaf in leaves}
    can_open = len(rows) == 1 and bool(leaves[0].shape)
    twice = pytree.tree_map(lambda leaf: torch.cat([leaf, leaf])[:2] if is_tensor(leaf) else leaf, given)
    open_batch = pytree.tree_map(lambda leaf: {0: torch.export.Dim.DYNAMIC} if is_tensor(leaf) else None, given)
    shapes = (*open_batch[0],) if not given[1] else open_batch[1]
    errors = []
    for args, dims in [(twice, shapes)] * can_open + [(given, None)]:
        try:
            with evaluating(module), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of PyTorch's own layers, about how they keep their weights
                program = torch.export.export(module, args[0], args[1], dynamic_shapes=dims, strict=False)
                return program.module()
        except Exception as error:  # noqa: BLE001 - whatever stops the export, as the reason
            errors.append(f"{type(error).__name__}: {error}".splitlines()[0])
    raise UnsupportedError(f"{type(module).__name__} cannot be exported", offenders=errors)


def operation(node: Any) -> str:
    """The name of the ATen operation a node calls, without overload and without the mark of one in place."""
    if node.op != "call_function":
        return ""
    packet = getattr(node.target, "overloadpacket", node.target)
    name = str(getattr(packet, "__name__", ""))
    return name if name.startswith("_") else name.rstrip("_")


def parameter(node: Any) -> tuple[Any, bool] | None:
    """The node that fetches the weight an operand is, and whether the operand is its transpose; None if it is none."""
    is_turned = False
    while hasattr(node, "op") and operation(node) in ("t", "transpose", "permute", "numpy_T") and node.args:
        node, is_turned = node.args[0], not is_turned
    return (node, is_turned) if getattr(node, "op", "") == "get_attr" else None
