"""Recurrent sequence classifiers: what a long short-term memory (LSTM), or a gated recurrent unit (GRU), says last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.family import Batch, Family, Paper, Size, Training
from edgekit.models._classification import class_targets, cross_entropy
from edgekit.models._keywords import COEFFICIENTS, KEYWORDS, TABLE, keyword_processing
from edgekit.network import Network
from edgekit.processing import Processing

__all__ = ["GRU", "LSTM", "build"]

_SPEAKERS = tuple(str(number) for number in range(1, 10))
"""The nine men whose vowels `japanese-vowels` holds; the data names them by number."""


_FEWEST_STEPS = 15
_NOISE = 0.2


def build(cell: str) -> Callable[..., Network]:
    """The builder of a net around ``"lstm"`` (Hochreiter and Schmidhuber 1997) or ``"gru"`` (Cho et al. 2014)."""

    def build_recurrent(
        name: str,
        *,
        units: int,
        features: int,
        classes: int,
        steps: int,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> Network:
        """[batch, steps, features] -> logits, from the last state of each direction of the last of `layers`.

        Any number of steps; `steps` is how many the data have, for forms that must fix it.
        """
        net = Network(name)
        net.typical["steps"] = steps
        x = net.input("sequence", ["batch", "steps", features])
        recurrent = {"lstm": net.lstm, "gru": net.gru}[cell]
        for below in range(layers - 1):
            x = recurrent(x, f"below.{below}", units, bidirectional=bidirectional)
        x = recurrent(x, "rnn", units, sequences=False, bidirectional=bidirectional)
        if dropout:
            x = net.dropout(x, dropout)
        net.output(net.dense(x, "fc", classes), "logits")
        return net

    return build_recurrent


def _varied(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Some of the steps, as many for the whole batch, with noise on every number."""
    x = feeds["sequence"]
    count = int(generator.integers(min(_FEWEST_STEPS, x.shape[1]), x.shape[1] + 1))
    start = int(generator.integers(x.shape[1] - count + 1))
    x = x[:, start : start + count]
    return {"sequence": (x + generator.normal(0, _NOISE, x.shape)).astype(np.float32)}, targets


def _hello_edge(units: int, operations: float, hop_ms: float = 20.0) -> Size:
    """A size of the paper; `operations` as its table has them."""
    steps = 1 + round((1000 - 40) / hop_ms)
    paper = Paper(TABLE, macs=round(operations / 2), sizes={"steps": steps})
    settings = {"units": units, "features": COEFFICIENTS, "classes": len(KEYWORDS), "steps": steps}
    return Size(settings, keyword_processing(hop_ms=hop_ms), paper)


_ANSWER: tuple[dict[str, Any], ...] = ({"op": "select", "name": "logits"}, {"op": "softmax"}, {"op": "top_k", "k": 5})
_VOWELS = Processing({}, _ANSWER, _SPEAKERS)
_TINY = {"units": 64, "features": 12, "classes": len(_SPEAKERS), "steps": 25, "dropout": 0.3}
_TRAINING = Training(cross_entropy, class_targets, epochs=80, batch_size=32, learning_rate=5e-3, augment=_varied)
_MEMORY = (
    "The paper gives memory, not parameters: weights, input and gates of a step, a byte each, with one bias a gate; "
    "PyTorch's layout has two, of which only the sum counts."
)

LSTM = Family(
    name="lstm",
    title="LSTM sequence classifier",
    task="sequence classification",
    paper="Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735",
    frameworks=("torch", "keras", "onnx"),
    build=build("lstm"),
    sizes={
        "tiny": Size(_TINY),
        "hello-edge-s": _hello_edge(118, 5.9e6),
        "hello-edge-m": _hello_edge(214, 18.9e6),
        "hello-edge-l": _hello_edge(344, 47.9e6),
        "2x128": Size(
            {"units": 128, "features": 40, "classes": len(KEYWORDS), "steps": 98, "layers": 2},
            Processing({}, _ANSWER, KEYWORDS),
        ),
    },
    published="hello-edge-l",
    processing=_VOWELS,
    data="japanese-vowels",
    metric="top1",
    score=0.965,
    tolerance=0.02,
    training=_TRAINING,
    notes=(
        'The sizes hello-edge-* are the "Basic LSTM" of Zhang et al. 2017 (arXiv:1711.07128). Their "LSTM" has a '
        "projection and peepholes besides, which not all of the three forms have; it is left out.",
        _MEMORY,
    ),
)

GRU = Family(
    name="gru",
    title="GRU sequence classifier",
    task="sequence classification",
    paper="Cho et al. 2014, arXiv:1406.1078",
    frameworks=("torch", "keras", "onnx"),
    build=build("gru"),
    sizes={
        "tiny": Size(_TINY),
        "hello-edge-s": _hello_edge(154, 3.8e6, hop_ms=40.0),
        "hello-edge-m": _hello_edge(250, 19.2e6),
        "hello-edge-l": _hello_edge(400, 48.4e6),
    },
    published="hello-edge-l",
    processing=_VOWELS,
    data="japanese-vowels",
    metric="top1",
    score=0.976,
    tolerance=0.02,
    training=_TRAINING,
    notes=(
        "The reset gate comes after the product, as in PyTorch, Keras and cuDNN; Cho et al. have it before.",
        "The sizes hello-edge-* are of Zhang et al. 2017 (arXiv:1711.07128); S hears a frame every 40 ms, not 20.",
        _MEMORY,
    ),
)
