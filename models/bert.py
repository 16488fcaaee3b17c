"""BERT: a transformer encoder that reads a text at once, for its class, its states or its meaning as a vector.

Devlin et al. 2018, arXiv:1810.04805. Weights are named as in Hugging Face's checkpoints, without the prefix ``bert.``
that classifiers there have. The tiny size reads WordPiece tokens as the published ones do, of a vocabulary of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.family import Batch, Family, Hub, Paper, Size, Training
from edgekit.models._classification import best_classes, class_targets, cross_entropy
from edgekit.models._pieces import SPECIAL, read_pieces
from edgekit.network import AttentionNames, Network, Tensor
from edgekit.processing import Processing

__all__ = ["FAMILY", "build", "from_hugging_face"]

_EPSILON = 1e-12


def build(
    name: str,
    *,
    vocabulary: int,
    positions: int,
    width: int,
    depth: int,
    heads: int,
    inner: int,
    classes: int | None = None,
    is_embedding: bool = False,
    dropout: float = 0.1,
) -> Network:
    """BERT (Devlin et al. 2018, arXiv:1810.04805): a transformer encoder, normalized after each sum.

    Args:
        name: Of the network.
        vocabulary: Tokens there are.
        positions: Steps it can take at most.
        width: Features of a step.
        depth: Layers.
        heads: Of attention, which share the width.
        inner: Units between the two dense layers of a layer.
        classes: Gives ``logits`` for so many. Without, the outputs are ``last_hidden_state`` and ``pooler_output``.
        is_embedding: Gives ``sentence_embedding`` instead of states: the mean over the tokens that are not padding, of
            unit length (Reimers and Gurevych 2019, arXiv:1908.10084).
        dropout: Share left out while training.
    """
    net = Network(name)
    ids, mask, types = (
        net.input(part, ["batch", "steps"], "int64") for part in ("input_ids", "attention_mask", "token_type_ids")
    )
    words = net.embedding(ids, "embeddings.word_embeddings", vocabulary, width)
    x = net.sum(words, net.embedding(types, "embeddings.token_type_embeddings", 2, width))
    x = net.add_positions(x, "embeddings.position_embeddings", positions)
    x = net.dropout(net.layer_norm(x, "embeddings.LayerNorm", epsilon=_EPSILON), dropout)
    for index in range(depth):
        x = _layer(net, x, mask, f"encoder.layer.{index}", heads, inner, dropout)
    if is_embedding and classes is None:
        net.output(net.unit_length(net.masked_mean(x, mask)), "sentence_embedding")
        return net
    pooled = net.dense(net.step(x, 0), "pooler.dense", width)
    pooled = net.activation(pooled, "tanh")
    if classes is None:
        net.output(x, "last_hidden_state")
        net.output(pooled, "pooler_output")
    else:
        net.output(net.dense(net.dropout(pooled, dropout), "classifier", classes), "logits")
    return net


def _layer(net: Network, x: Tensor, mask: Tensor, name: str, heads: int, inner: int, dropout: float) -> Tensor:
    own = f"{name}.attention.self"
    names = AttentionNames(f"{own}.query", f"{own}.key", f"{own}.value", f"{name}.attention.output.dense")
    found = net.attention(x, f"{name}.attention", names, heads=heads, mask=mask)
    x = net.sum(net.dropout(found, dropout), x)
    x = net.layer_norm(x, f"{name}.attention.output.LayerNorm", epsilon=_EPSILON)
    wide = net.dense(x, f"{name}.intermediate.dense", inner)
    narrow = net.dense(net.activation(wide, "gelu"), f"{name}.output.dense", x.channels)
    x = net.sum(net.dropout(narrow, dropout), x)
    return net.layer_norm(x, f"{name}.output.LayerNorm", epsilon=_EPSILON)


def from_hugging_face(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A checkpoint's weights under our names: without the prefix, and with the norms' newer names."""
    renamed = {}
    for name, array in weights.items():
        ours = name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
        renamed[ours.replace("LayerNorm.beta", "LayerNorm.bias")] = np.asarray(array)
    return renamed


# --- The family -------------------------------------------------------------------------------------------------------

_STEPS = 64
"""Tokens the tiny size reads: 62 pieces of a text, its begin and its end."""

_PIECES = read_pieces()
_PAD, _UNKNOWN, _BEGIN, _END = (_PIECES.index(piece) for piece in SPECIAL)
_IS_INNER = np.array([piece.startswith("##") for piece in _PIECES])


def _processing(labels: tuple[str, ...]) -> Processing:
    parts = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}
    step = {"op": "tokenize_wordpiece", "vocabulary": _PIECES, "length": _STEPS, "lower": True}
    return Processing({name: ({**step, "what": what},) for name, what in parts.items()}, best_classes(3), labels)


_BLANKED = 0.1
"""Share of the pieces that are blanked out."""

_FEWEST = 12
"""Pieces of a text of words dealt anew."""


def _mixed(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Words of all texts of a language in the batch, dealt anew: what a language is, is in its words.

    Without this the net learns the few texts there are by heart.
    """
    ids, mask = np.full_like(feeds["input_ids"], _PAD), np.zeros_like(feeds["attention_mask"])
    room = ids.shape[1] - 2
    for label in np.unique(targets["label"]):
        rows = np.flatnonzero(targets["label"] == label)
        words = [word for row in rows for word in _words(feeds["input_ids"][row])]
        for row in rows:
            wanted = generator.integers(_FEWEST, room + 1)
            dealt = np.concatenate([words[place] for place in generator.permutation(len(words))])[:wanted]
            dealt = np.where(generator.random(len(dealt)) < _BLANKED, _UNKNOWN, dealt)
            ids[row, : len(dealt) + 2] = [_BEGIN, *dealt, _END]
            mask[row, : len(dealt) + 2] = 1
    return {**feeds, "input_ids": ids, "attention_mask": mask}, targets


def _words(tokens: np.ndarray) -> list[np.ndarray]:
    """The words of a text, each with all its pieces."""
    content = tokens[~np.isin(tokens, (_PAD, _BEGIN, _END))]
    starts = np.flatnonzero(~_IS_INNER[content])
    return np.split(content, starts[1:])


_LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "pl", "cs", "fi")

_TINY: Mapping[str, Any] = {
    **{"vocabulary": len(_PIECES), "positions": _STEPS, "width": 40, "depth": 2, "heads": 4, "inner": 96},
    **{"classes": len(_LANGUAGES), "dropout": 0.0},
}
_WORDPIECE: Mapping[str, Any] = {"vocabulary": 30522, "positions": 512}


def _without_pooler(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Of a checkpoint that keeps the pooler it began with, what an embedding is made of."""
    return from_hugging_face({name: array for name, array in weights.items() if not name.startswith("pooler.")})


FAMILY = Family(
    name="bert",
    title="BERT, a transformer encoder",
    task="text classification",
    paper="Devlin et al. 2018, arXiv:1810.04805",
    frameworks=("keras", "torch", "onnx"),
    build=build,
    sizes={
        "tiny": Size(_TINY),
        "minilm-l6": Size(
            {**_WORDPIECE, "width": 384, "depth": 6, "heads": 12, "inner": 1536, "is_embedding": True},
            Processing(),
            Paper(
                "weights of sentence-transformers/all-MiniLM-L6-v2, less the pooler no embedding uses",
                22_565_376,
                tolerance=0.0,
            ),
        ),
        "small": Size(
            {**_WORDPIECE, "width": 512, "depth": 4, "heads": 8, "inner": 2048},
            Processing(),
            Paper("Turc et al. 2019, arXiv:1908.08962, table 1: 28.8 million", 28_800_000),
        ),
        "base": Size(
            {**_WORDPIECE, "width": 768, "depth": 12, "heads": 12, "inner": 3072},
            Processing(),
            Paper("the paper, section 3: 110 million", 110_000_000),
        ),
        "large": Size(
            {**_WORDPIECE, "width": 1024, "depth": 24, "heads": 16, "inner": 4096},
            Processing(),
            Paper("the paper, section 3: 340 million", 340_000_000, tolerance=0.015),
        ),
    },
    published="base",
    processing=_processing(_LANGUAGES),
    data="languages",
    metric="top1",
    score=0.978,
    tolerance=0.015,
    training=Training(cross_entropy, class_targets, epochs=40, batch_size=32, learning_rate=3e-3, augment=_mixed),
    hubs=(
        Hub("huggingface", "google-bert/bert-base-uncased", "base", "Apache-2.0", from_hugging_face),
        Hub("huggingface", "google-bert/bert-large-uncased", "large", "Apache-2.0", from_hugging_face),
        Hub("huggingface", "sentence-transformers/all-MiniLM-L6-v2", "minilm-l6", "Apache-2.0", _without_pooler),
    ),
    notes=(
        "All sizes read WordPiece tokens. A published size needs the vocab.txt of its checkpoint, which is not part of"
        " the net; the tiny size has a vocabulary of its own, without capitals and accents.",
        "The tiny size knows the messages of a program and wants a sentence or two of such: of everyday texts, and of"
        " words alone, it mistakes more than the score says.",
    ),
)
