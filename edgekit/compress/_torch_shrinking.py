"""Channels left out of a PyTorch module: its parameters cut in place, so that it stays a module like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgekit.compress._torch_graph import Arguments, evaluating, exported, operation, parameter
from edgekit.errors import UnsupportedError

__all__ = ["Channels", "Kept", "shrink"]

Kept = Mapping[str, Mapping[int, Sequence[int] | np.ndarray]]
"""Name of an initializer of the hub graph -> axis -> indices that stay."""

_NORMS = ("batch_norm", "prelu")
_FOLDED_BIAS = "_bias"
"""What the hub adds to a weight's name for the bias of a normalization it folds."""


class Channels(Protocol):
    """A plan of channels, as `edgekit.compress.plan_channels` makes it."""

    @property
    def kept(self) -> Kept: ...


def shrink(module: Any, kept: Kept, given: Arguments) -> None:
    """Leaves only the channels `kept` names in every weight, and what goes along with them: biases, normalizations.

    Args:
        module: Its weights are named as the hub graph's initializers are, which come from it.
        kept: By the hub graph's names.
        given: What the module is called with.

    Raises:
        UnsupportedError: A name is none of the module's, a convolution is in groups that do not go with its channels,
            or the smaller module does not run.
    """
    tensors = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    names = {name for named in tensors for name, _ in named}
    weights = {name: dict(axes) for name, axes in kept.items() if name in names}
    strange = sorted(kept.keys() - names - {f"{name}{_FOLDED_BIAS}" for name in names})
    if strange:
        raise UnsupportedError(
            "channels are planned of weights the module has not",
            offenders=strange,
            hint="plan on this module's own hub",
        )
    cuts = {**_along(exported(module, given), weights), **weights}
    owners: dict[str, None] = {}
    for name, axes in cuts.items():
        _cut(module, name, axes)
        owners[name.rpartition(".")[0]] = None
    for owner in owners:
        _settle(module.get_submodule(owner), owner)
    _require_running(module, given)


def _along(graph: Any, weights: Kept) -> dict[str, dict[int, Sequence[int] | np.ndarray]]:
    """The cuts of biases and normalizations, which follow from those of the weights before them."""
    cuts: dict[str, dict[int, Sequence[int] | np.ndarray]] = {}
    for node in graph.graph.nodes:
        name = operation(node)
        if name in _NORMS:
            indices = _channels_of(node.args[0], weights)
            operands = node.args[1:5]
        elif _is_product(node):
            indices = _channels_of(node, weights)
            operands = node.args[2:3]
        else:
            continue
        if indices is None:
            continue
        for operand in operands:
            if (found := parameter(operand)) is not None and operand.meta["val"].shape[0] > 1:
                cuts[found[0].target] = {0: indices}
    return cuts


def _is_product(node: Any) -> bool:
    return operation(node).startswith("conv") or operation(node) == "linear"


def _channels_of(node: Any, weights: Kept) -> Sequence[int] | np.ndarray | None:
    """Which channels of a tensor stay; None for all."""
    if _is_product(node):
        found = parameter(node.args[1])
        axis = 1 if operation(node).startswith("conv_transpose") else 0
        return weights.get(found[0].target, {}).get(axis) if found is not None else None
    if operation(node) == "cat":
        return _channels_of_parts(node.args[0], weights)
    shape = _shape(node)
    for source in node.all_input_nodes:
        if source.op == "call_function" and len(_shape(source)) == len(shape) and _shape(source)[1:2] == shape[1:2]:
            indices = _channels_of(source, weights)
            if indices is not None:
                return indices
    return None


def _channels_of_parts(parts: Any, weights: Kept) -> np.ndarray | None:
    found, start, is_cut = [], 0, False
    for part in parts:
        indices, size = _channels_of(part, weights), int(_shape(part)[1])
        is_cut = is_cut or indices is not None
        found.append(start + (np.arange(size) if indices is None else np.asarray(indices)))
        start += size
    return np.concatenate(found) if is_cut else None


def _shape(node: Any) -> tuple[Any, ...]:
    return tuple(getattr(node.meta.get("val"), "shape", ()))


def _cut(module: Any, name: str, axes: Mapping[int, Sequence[int] | np.ndarray]) -> None:
    """Replaces a parameter or buffer by what stays of it."""
    import torch

    owner, _, last = name.rpartition(".")
    part = module.get_submodule(owner)
    tensor = getattr(part, last)
    with torch.no_grad():
        cut = tensor
        for axis, indices in axes.items():
            cut = cut.index_select(axis, torch.from_numpy(np.asarray(indices, np.int64)))
    if isinstance(tensor, torch.nn.Parameter):
        setattr(part, last, torch.nn.Parameter(cut.clone(), requires_grad=tensor.requires_grad))
    else:
        setattr(part, last, cut.clone())


def _settle(part: Any, name: str) -> None:
    """Has a module of PyTorch say the sizes its weights now have."""
    import torch

    nn = torch.nn
    if isinstance(part, nn.modules.conv._ConvNd):
        one, other = part.weight.shape[:2]
        if part.groups > 1:
            if part.weight.shape[0] % other or part.in_channels != part.groups:
                raise UnsupportedError(f"channels of {name}, a convolution in {part.groups} groups")
            multiplier = part.out_channels // part.groups
            part.groups = int(one // multiplier)
        out, into = (other, one) if part.transposed else (one, other)
        part.out_channels, part.in_channels = int(out), int(into)
        if part.groups > 1:
            part.in_channels = part.groups
            part.out_channels = int(one if not part.transposed else part.groups * other)
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = map(int, part.weight.shape)
    elif isinstance(part, nn.modules.batchnorm._BatchNorm):
        part.num_features = int(part.running_mean.shape[0] if part.running_mean is not None else part.weight.shape[0])


def _require_running(module: Any, given: Arguments) -> None:
    import torch

    try:
        with evaluating(module), torch.no_grad():
            module(*given[0], **given[1])
    except RuntimeError as error:
        raise UnsupportedError(
            f"{type(module).__name__} does not run with fewer channels",
            offenders=[str(error).splitlines()[0]],
            hint="has its forward sizes written down, or does the plan leave a weight out?",
        ) from error
