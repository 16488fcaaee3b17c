"""The one model of a PyTorch child, kept to answer feeds.

What stands here and in the modules that open one is called by name through `edgekit.worker.Worker` and takes and gives
JSON; arrays travel as .npz files. PyTorch is imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.registry import installed
from edgekit.spec import Signature

__all__ = ["flattened", "keep", "run"]

_PACKAGES = ("torch", "onnxscript", "onnx", "onnx-ir")


@dataclass
class _Model:
    """The one model of this process: tensors in the order of the signature to tensors in its order."""

    answer: Callable[[Sequence[Any]], Sequence[Any]]
    signature: Signature


_OPEN: list[_Model] = []


def run(feeds: str, results: str) -> None:
    """Answers the arrays of the .npz file `feeds` by name and writes the outputs as the .npz file `results`."""
    import torch

    model = _OPEN[0]
    with np.load(feeds) as given, torch.no_grad():
        # A copy of its own, for a module may write into what it is given.
        tensors = [torch.from_numpy(given[spec.name].astype(spec.dtype)) for spec in model.signature.inputs]
        answer = model.answer(tensors)
    outputs = zip(model.signature.outputs, answer, strict=True)
    np.savez(results, **{spec.name: tensor.detach().numpy() for spec, tensor in outputs})


def keep(
    answer: Callable[[Sequence[Any]], Sequence[Any]], signature: Signature, path: Path, notes: list[str]
) -> dict[str, Any]:
    """Keeps the model for `run`, and gives what the parent wants to know of it."""
    _OPEN[:] = [_Model(answer, signature)]
    return {
        "signature": signature.to_json(),
        "exports": {"hub": str(path)},
        "hub_error": "",
        "notes": notes,
        "versions": installed(*_PACKAGES),
    }


def flattened(answer: Any) -> list[Any]:
    """The tensors in what a module gives, in the order `_torch_hub.output_names` names them."""
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(answer) if leaf is not None]
