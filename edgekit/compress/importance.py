"""What a channel is worth: by its weights, or by its weights and what runs through it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgekit.errors import InputError
from edgekit.graph.files import save
from edgekit.graph.walking import constant, copy_of, int_attribute, rank

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.compress.coupling import Coupling

__all__ = ["IMPORTANCES", "Feeds", "channel_powers", "score_channels"]

IMPORTANCES = ("l2", "l1", "activation")

Feeds: TypeAlias = Mapping[str, np.ndarray]


def score_channels(
    model: ir.Model, coupling: Coupling, groups: list[np.ndarray], importance: str, feeds: Iterable[Feeds] = ()
) -> np.ndarray:
    """A score for every label of the groups, 1 on the average of its group; 0 for all others.

    Raises:
        InputError: ``"activation"`` without feeds.
    """
    powers = channel_powers(model, feeds) if importance == "activation" else {}
    parts = list(_powers(model, coupling, importance, powers))
    scores = np.zeros(len(coupling.labels))
    for group in groups:
        found = []
        for labels, power in parts:
            sums = np.bincount(labels, power, minlength=len(scores))[group] if np.isin(labels, group).any() else None
            if sums is not None and sums.mean() > 0:
                found.append(sums / sums.mean())
        scores[group] = np.mean(found, axis=0) if found else 1.0
    return scores


def _powers(
    model: ir.Model, coupling: Coupling, importance: str, powers: Mapping[str, np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels along an axis of a weight, and the power of its slices there."""
    gains = _gains(model)
    inputs = {(id(weight), axis): (source, place) for weight, axis, source, place in _readers(model)}
    for value, axis, labels in coupling.weights():
        array = constant(value)
        if array is None or array.ndim < 2 or array.dtype.kind != "f":
            continue
        slices = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype("float64")
        power = np.abs(slices).sum(axis=1) if importance == "l1" else np.square(slices).sum(axis=1)
        if importance != "activation":
            gain = gains.get((id(value), axis), np.ones(1))
            yield labels, power * (np.sqrt(gain) if importance == "l1" else gain)
        elif (id(value), axis) in inputs:
            source, _ = inputs[id(value), axis]
            yield labels, power * powers[source.name or ""]


def _gains(model: ir.Model) -> dict[tuple[int, int], np.ndarray]:
    """What a batch normalization right behind a convolution multiplies the square of its filters by."""
    gains = {}
    for node in model.graph:
        users = list(node.outputs[0].uses()) if node.op_type in ("Conv", "ConvTranspose") else []
        norm = users[0][0] if len(users) == 1 else None
        weight = node.inputs[1] if norm is not None and norm.op_type == "BatchNormalization" else None
        if norm is None or weight is None or int_attribute(node, "group", 1) != 1:
            continue
        gamma, variance = constant(norm.inputs[1]), constant(norm.inputs[4])
        if gamma is not None and variance is not None:
            gain = gamma.astype("float64") ** 2 / (variance + norm.attributes.get_float("epsilon", 1e-5))
            gains[id(weight), 0 if node.op_type == "Conv" else 1] = gain
    return gains


def _readers(model: ir.Model) -> Iterator[tuple[ir.Value, int, ir.Value, int]]:
    """Weights and the axis they sum over, with what they read there."""
    for node in model.graph:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.domain != "":
            continue
        source, weight = node.inputs[0], node.inputs[1]
        if source is None or weight is None or constant(weight) is None or int_attribute(node, "group", 1) != 1:
            continue
        if node.op_type in ("Conv", "ConvTranspose"):
            yield weight, 1 if node.op_type == "Conv" else 0, source, 1
        else:
            dims, is_turned = rank(weight) or 2, int_attribute(node, "transB", 0)
            place = 0 if int_attribute(node, "transA", 0) else (rank(source) or 2) - 1
            yield weight, dims - 1 if is_turned else dims - 2, source, place


def channel_powers(model: ir.Model, feeds: Iterable[Feeds]) -> dict[str, np.ndarray]:
    """The mean square of every channel that a weight reads, by tensor, over all feeds.

    Raises:
        InputError: There are no feeds, or they do not fit the graph.
    """
    from edgekit.registry import RUNTIMES
    from edgekit.runtime import EngineOptions, Session

    watched = copy_of(model)
    places = {source.name or "": place for _, _, source, place in _readers(model)}
    values = {value.name: value for node in watched.graph for value in node.outputs}
    own = {value.name for value in watched.graph.outputs}
    watched.graph.outputs.extend(value for name, value in values.items() if name in places and name not in own)
    sums, count = dict.fromkeys(places, np.zeros(1)), 0
    with TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "watched.onnx"
        save(watched, path)
        with Session(RUNTIMES.get("onnx").open(path, EngineOptions(threads=1)), runtime="onnx") as session:
            for feed in feeds:
                seen, count = {**feed, **session.run(dict(feed))}, count + 1
                for name, place in places.items():
                    square = np.square(np.moveaxis(seen[name], place, -1), dtype="float64")
                    sums[name] = sums[name] + square.reshape(-1, square.shape[-1]).mean(axis=0)
    if not count:
        raise InputError("importance by activations needs samples", hint="give feeds, or importance 'l2'")
    return {name: total / count for name, total in sums.items()}
