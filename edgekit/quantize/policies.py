"""Which recipes are worth trying on a net of which kind: the kind is told from the graph, the policy is data.

The policies stand in ``policies.json`` beside this file, each with the measurements behind it.
"""

from __future__ import annotations

import functools
import glob
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import ArtifactError
from edgekit.graph.cost import costs
from edgekit.graph.walking import constant, static_shape, walk
from edgekit.recipe import Recipe, Rule

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Policy", "exactly", "front_of", "kind_of", "policy_for"]

SCHEMA = "edgekit.policies"
VERSION = 1

_RECURRENT = ("LSTM", "GRU", "RNN")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = (*_CONVOLUTIONS, "MatMul", "Gemm", *_RECURRENT)

_MUCH = 0.1
"""Share of the multiplications from which recurrent layers decide what a net is."""

_LONG_KERNEL = 64
"""A kernel at least so long in one direction, 1 in the others, over a single channel: a filter for raw samples."""

_FEW_NORMS = 3
"""So many norms over an input's own area make a net one that normalizes by them."""


@dataclass(frozen=True)
class Policy:
    """What to try on one graph, in order.

    Attributes:
        kind: Its key in ``policies.json``.
        title: What that is, for people.
        why: The measurements behind it.
        candidates: Recipes, the cheapest and fastest first.
        improvements: Fields of a recipe that may win back what rounding lost, each tried on the best candidate; and
            under ``of`` whether that is of ``"weights"`` or of ``"activations"``.
        last: Recipes to fall back on that keep accuracy for little or no gain in speed.
    """

    kind: str
    title: str
    why: str
    candidates: tuple[Recipe, ...]
    improvements: tuple[Mapping[str, Any], ...] = ()
    last: tuple[Recipe, ...] = ()


def policy_for(graph: ir.Model, kind: str | None = None) -> Policy:
    """The policy for a cleaned graph, its rules naming the operations of this graph.

    Args:
        graph: A cleaned hub graph.
        kind: One of ``policies.json``; by default what `kind_of` says.

    Raises:
        ArtifactError: ``policies.json`` is damaged, or knows no such kind.
    """
    kind = kind or kind_of(graph)
    known = _policies()
    if kind not in known:
        raise ArtifactError(f"there is no policy for {kind!r}", hint=f"known: {', '.join(known)}")
    data = known[kind]
    chosen = {"front": front_of, "first-recurrent": _first_recurrent, "ends": _ends}
    return Policy(
        kind=kind,
        title=data["title"],
        why=data["why"],
        candidates=_recipes(data["candidates"], graph, chosen),
        improvements=tuple(data["improvements"]),
        last=_recipes(data["last"], graph, chosen),
    )


@functools.cache
def _policies() -> dict[str, Any]:
    path = Path(__file__).with_name("policies.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (data["schema"], data["version"]) != (SCHEMA, VERSION):
            raise ValueError(f"{data['schema']} {data['version']}")
        return dict(data["kinds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path.name} is damaged: {error}", hint="install edgekit again") from error


def _recipes(
    listed: Sequence[Mapping[str, Any]], graph: ir.Model, chosen: Mapping[str, Callable[[ir.Model], tuple[str, ...]]]
) -> tuple[Recipe, ...]:
    """The recipes of a policy; those that come to the same on this graph once."""
    found: list[Recipe] = []
    for data in listed:
        base = Recipe.named(data["precision"])
        fields = {key: value for key, value in data.items() if key not in ("precision", "rules", "why")}
        rules: list[Rule] = []
        for rule in data.get("rules", ()):
            if "op_type" in rule:
                if any(node.op_type == rule["op_type"] for node in graph.graph):
                    rules.append(Rule(rule["precision"], op_type=rule["op_type"], reason=data["why"]))
                continue
            names = chosen[rule["operations"]](graph)
            rules += [Rule(rule["precision"], name=exactly(name), reason=data["why"]) for name in names]
        recipe = replace(base, description=data["why"], rules=tuple(rules), **fields)
        if not any(_is_same(recipe, other) for other in found):
            found.append(recipe)
    return tuple(found)


def _is_same(one: Recipe, other: Recipe) -> bool:
    plain = [
        replace(r, description="", rules=tuple(replace(rule, reason="") for rule in r.rules)) for r in (one, other)
    ]
    return plain[0] == plain[1]


def exactly(name: str) -> str:
    """The pattern that matches this name and no other."""
    return glob.escape(name)


def kind_of(graph: ir.Model) -> str:
    """What a cleaned graph is, by what its multiplications are in and by what stands between them.

    Returns:
        ``"recurrent"``, ``"audio"``, ``"instance-norm"``, ``"transformer"``, ``"conv-attention"``, ``"cnn"`` or
        ``"dense"``.
    """
    shares = _shares(graph)
    if sum(shares[op_type] for op_type in _RECURRENT) >= _MUCH:
        return "recurrent"
    if front_of(graph):
        return "audio"
    convolutions = sum(shares[op_type] for op_type in _CONVOLUTIONS)
    if convolutions and _own_norms(graph) >= _FEW_NORMS:
        return "instance-norm"
    if any(True for _ in _attentions(graph)):
        return "conv-attention" if convolutions >= 0.5 else "transformer"
    return "cnn" if convolutions >= 0.5 else "dense"


def _shares(graph: ir.Model) -> Counter[str]:
    """Share of the multiplications by type of operation; by number of operations where shapes do not say."""
    listed = [cost for cost in costs(graph) if cost.op_type in _PRODUCTS]
    macs = {id(cost): cost.macs or 0 for cost in listed}
    is_known = all(cost.macs is not None for cost in listed) and any(macs.values())
    weighed = [(cost.op_type, macs[id(cost)] if is_known else 1) for cost in listed]
    total = sum(weight for _, weight in weighed) or 1
    shares: Counter[str] = Counter()
    for op_type, weight in weighed:
        shares[op_type] += weight / total  # type: ignore[assignment]
    return shares


def front_of(graph: ir.Model) -> tuple[str, ...]:
    """Names of the convolutions that filter raw samples by long kernels of one channel, as those of STFT and CQT do."""
    found = []
    for node, around in walk(graph.graph):
        weight = static_shape(node.inputs[1]) if node.op_type == "Conv" and not around else None
        if weight is None or constant(node.inputs[1]) is None or weight[1] != 1:
            continue
        kernel = sorted(weight[2:], reverse=True)
        if kernel[0] >= _LONG_KERNEL and all(size == 1 for size in kernel[1:]):
            found.append(node.name or "")
    return tuple(found)


def _own_norms(graph: ir.Model) -> int:
    """Norms over the area of an input: as such, or as what they are made of, a mean over area of a convolution."""
    count = 0
    for node in graph.graph:
        if node.op_type in ("InstanceNormalization", "GroupNormalization"):
            count += 1
        elif node.op_type in ("ReduceMean", "GlobalAveragePool") and node.inputs[0] is not None:
            # The mean is subtracted from what it is the mean of.
            readers = {use for output in node.outputs for use in output.consumers()}
            count += any(one.op_type == "Sub" and node.inputs[0] in one.inputs for one in readers) and _is_map(node)
    return count


def _is_map(node: ir.Node) -> bool:
    value = node.inputs[0]
    return value is not None and value.shape is not None and len(value.shape) == 4


def _attentions(graph: ir.Model) -> Iterator[ir.Node]:
    """Products of two activations of which one is behind a Softmax, and Attention itself."""
    for node, _ in walk(graph.graph):
        if node.op_type == "Attention":
            yield node
        elif node.op_type == "MatMul" and all(value is not None and constant(value) is None for value in node.inputs):
            first = node.inputs[0]
            if first is not None and _is_behind(first, "Softmax", depth=4):
                yield node


def _is_behind(value: ir.Value, op_type: str, depth: int) -> bool:
    node = value.producer()
    if node is None or depth == 0:
        return False
    if node.op_type == op_type:
        return True
    return any(other is not None and _is_behind(other, op_type, depth - 1) for other in node.inputs)


def _first_recurrent(graph: ir.Model) -> tuple[str, ...]:
    return tuple(node.name or "" for node in graph.graph if node.op_type in _RECURRENT)[:1]


def _ends(graph: ir.Model) -> tuple[str, ...]:
    names = [n.name or "" for n in graph.graph if n.op_type in _PRODUCTS and constant(n.inputs[1]) is not None]
    return tuple(dict.fromkeys([*names[:1], *names[-1:]]))
