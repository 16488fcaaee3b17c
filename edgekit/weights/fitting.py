"""Weights under other names, with wrappings and extras, made to fit a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from edgekit.errors import ArtifactError
from edgekit.network import Network

__all__ = ["fit_weights"]

_BUFFERS = (
    *("num_batches_tracked", "position_ids", "token_type_ids", "relative_position_index", "inv_freq", "masked_bias"),
    *("attn_mask", "anchors", "anchor_grid"),
)
"""What PyTorch modules keep beside their weights, by the last part of the name."""


def fit_weights(
    weights: Mapping[str, np.ndarray],
    network: Network,
    *,
    rename: Callable[[str], str] | None = None,
    allow_extra: bool = False,
) -> dict[str, np.ndarray]:
    """Just the weights `network` wants, in its order, as float32.

    A beginning that all names share, such as ``module.`` or ``model.``, is dropped where names fit better without it.

    Args:
        weights: By name, as `read_weights` gives them.
        network: What they are for.
        rename: From a name in `weights`, without that beginning, to the network's.
        allow_extra: Take no offense at trained weights the network has no use for.

    Raises:
        ArtifactError: Some are missing, of another shape, left over, or renamed to the same; all of them are listed.
    """
    wanted = network.params
    candidates = [_renamed(weights, start, rename) for start in _starts(weights)]
    # The first of equals: nothing is dropped without need.
    names = max(candidates, key=lambda names: len(wanted.keys() & names.keys()))
    wrong = [f"{name} is {' and '.join(sources)} at once" for name, sources in names.items() if len(sources) > 1]
    for name, param in wanted.items():
        if name not in names:
            wrong.append(f"{name} {list(param.shape)} is missing")
        elif (shape := np.shape(weights[names[name][0]])) != param.shape:
            wrong.append(f"{name} is {list(shape)}, not {list(param.shape)}")
    if not allow_extra:
        extra = [name for name in names.keys() - wanted.keys() if not _is_buffer(name, weights[names[name][0]])]
        wrong += [f"{name} {list(np.shape(weights[names[name][0]]))} is left over" for name in sorted(extra)]
    if wrong:
        raise ArtifactError(
            f"the weights are not those of {network.name}: {'; '.join(wrong)}",
            hint="give the weights of the same architecture and size",
        )
    return {name: np.asarray(weights[names[name][0]], np.float32) for name in wanted}


def _starts(weights: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Nothing, then all beginnings of one, two, ... parts that every name has."""
    yield ""
    start = ""
    while True:
        parts = {name.removeprefix(start).partition(".")[::2] for name in weights}
        firsts = {first for first, _ in parts}
        if len(firsts) != 1 or not all(rest for _, rest in parts):
            return
        start += f"{firsts.pop()}."
        yield start


def _renamed(
    weights: Mapping[str, np.ndarray], start: str, rename: Callable[[str], str] | None
) -> dict[str, list[str]]:
    """The names in `weights` by what they become."""
    names: dict[str, list[str]] = {}
    for name in weights:
        bare = name.removeprefix(start)
        names.setdefault(rename(bare) if rename else bare, []).append(name)
    return names


def _is_buffer(name: str, array: np.ndarray) -> bool:
    last = name.rpartition(".")[2]
    # GPT-2 keeps its causal mask as the bias of an attention; no bias has so many axes.
    return last in _BUFFERS or (last == "bias" and np.ndim(array) > 3)
