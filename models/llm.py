"""A decoder-only language model: Llama's architecture, with its memory of earlier steps as state.

Touvron et al. 2023, arXiv:2302.13971. Weights are named as in Hugging Face's checkpoints. The tiny size reads bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.family import Batch, Family, Feeds, Hub, Paper, Run, Size, Training
from edgekit.metrics import Metric
from edgekit.network import AttentionNames, Cache, Network, Tensor
from edgekit.processing import Processing
from edgekit.processing.fitting import zero_state
from edgekit.processing.text import BEGIN, END, FIRST_BYTE, PAD
from edgekit.registry import METRICS
from edgekit.samples import Samples
from edgekit.spec import Signature

__all__ = ["FAMILY", "build", "generate"]

_START = "normal:0.02"


def build(
    name: str,
    *,
    vocabulary: int,
    width: int,
    depth: int,
    heads: int,
    key_heads: int,
    inner: int,
    capacity: int,
    steps: int | str = "steps",
    rotary_base: float = 10000.0,
    epsilon: float = 1e-5,
    is_tied: bool = True,
    dropout: float = 0.0,
) -> Network:
    """Llama (Touvron et al. 2023, arXiv:2302.13971): a causal transformer, normalized before each part.

    ``tokens`` [batch, steps] and their ``positions`` [steps] become ``logits`` of the token after each. Keys and values
    of earlier steps are state: inputs ``cache_I_key`` and ``cache_I_value`` of each layer I come back, with this call's
    steps in them, as outputs ``new_cache_I_key`` and ``new_cache_I_value``. Whether steps come together on an empty
    cache or one after the other makes no difference.

    Args:
        name: Of the network.
        vocabulary: Tokens there are.
        width: Features of a step.
        depth: Layers.
        heads: Of attention, which share the width.
        key_heads: Heads of keys and values, each for ``heads / key_heads`` of queries.
        inner: Units of the gated part of a layer (SwiGLU: Shazeer 2020, arXiv:2002.05202).
        capacity: Steps the cache holds.
        steps: Of a call: a number, or a name for any number of them.
        rotary_base: Of the angles positions are turned by.
        epsilon: Of the norms.
        is_tied: Whether tokens are read and told by one table.
        dropout: Share left out while training.
    """
    net = Network(name)
    tokens = net.input("tokens", ["batch", steps], "int64")
    positions = net.input("positions", [steps], "int64")
    shape: tuple[int | str, ...] = ("batch", key_heads, capacity, width // heads)
    caches = [
        Cache(net.input(f"cache_{index}_key", shape), net.input(f"cache_{index}_value", shape), positions)
        for index in range(depth)
    ]
    x = net.dropout(net.embedding(tokens, "model.embed_tokens", vocabulary, width), dropout)
    kept: dict[str, Tensor] = {}
    for index, cache in enumerate(caches):
        prefix = f"model.layers.{index}"
        normal = net.rms_norm(x, f"{prefix}.input_layernorm", epsilon=epsilon)
        found, keys, values = _attention(net, normal, f"{prefix}.self_attn", cache, heads, key_heads, rotary_base)
        kept |= {f"cache_{index}_key": keys, f"cache_{index}_value": values}
        x = net.sum(x, net.dropout(found, dropout))
        normal = net.rms_norm(x, f"{prefix}.post_attention_layernorm", epsilon=epsilon)
        x = net.sum(x, net.dropout(_gated(net, normal, f"{prefix}.mlp", inner), dropout))
    x = net.rms_norm(x, "model.norm", epsilon=epsilon)
    own = None if is_tied else net.dense(x, "lm_head", vocabulary, bias=False, start=_START)
    net.output(own or net.tied_dense(x, "lm_head", "model.embed_tokens.weight"), "logits")
    for state, tensor in kept.items():
        net.output(tensor, f"new_{state}", state_of=state)
    return net


def _attention(
    net: Network, x: Tensor, name: str, cache: Cache, heads: int, key_heads: int, base: float
) -> tuple[Tensor, Tensor, Tensor]:
    names = AttentionNames(*(f"{name}.{part}_proj" for part in "qkvo"))
    return net.cached_attention(x, name, names, cache, heads=heads, key_heads=key_heads, rotary_base=base, start=_START)


def _gated(net: Network, x: Tensor, name: str, inner: int) -> Tensor:
    gate = net.activation(net.dense(x, f"{name}.gate_proj", inner, bias=False, start=_START), "silu")
    up = net.dense(x, f"{name}.up_proj", inner, bias=False, start=_START)
    return net.dense(net.product(gate, up), f"{name}.down_proj", x.channels, bias=False, start=_START)


# --- Running it -------------------------------------------------------------------------------------------------------


def _capacity(signature: Signature) -> int:
    """Steps the cache holds. Raises InputError for what is no decoder with a cache."""
    caches = zero_state(signature)
    if not caches or {"tokens", "positions"} - {spec.name for spec in signature.inputs}:
        raise InputError(
            f"no decoder with a cache takes {', '.join(spec.name for spec in signature.inputs)}",
            hint="edgekit models make llm -o llm.onnx makes one; its state must be in the signature",
        )
    return int(next(iter(caches.values())).shape[2])


class _Reader:
    """One or more texts being read through any engine, with what was read before in the cache."""

    def __init__(self, run: Run, signature: Signature, rows: int = 1) -> None:
        self.capacity = _capacity(signature)
        batch, steps = next(spec.shape for spec in signature.inputs if spec.name == "tokens")
        self._run = run
        self._pairs = signature.state
        self.rows = batch if isinstance(batch, int) else rows
        self._steps = steps if isinstance(steps, int) else None
        self._empty = {
            name: np.repeat(array, self.rows // len(array), axis=0) for name, array in zero_state(signature).items()
        }
        self.forget()

    def forget(self) -> None:
        self._state: Mapping[str, np.ndarray] = self._empty
        self.read = 0

    @property
    def has_room(self) -> bool:
        """Whether the cache takes another call."""
        return self.read + (self._steps or 1) <= self.capacity

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Logits [rows, steps, vocabulary] after each of `tokens` [rows, steps], in calls as the engine has them."""
        size = self._steps or tokens.shape[1]
        parts = [self._step(tokens[:, start : start + size], size) for start in range(0, tokens.shape[1], size)]
        return np.concatenate(parts, axis=1)

    def _step(self, tokens: np.ndarray, size: int) -> np.ndarray:
        count = tokens.shape[1]
        # What fills up a call of fixed size is overwritten by the steps that follow, and seen by none before it.
        feeds = {"tokens": np.pad(tokens, ((0, 0), (0, size - count))), "positions": self.read + np.arange(size)}
        outputs = self._run({**feeds, **self._state})
        self._state = {pair.input: outputs[pair.output] for pair in self._pairs}
        self.read += count
        return np.asarray(outputs["logits"][:, :count], np.float64)


def generate(
    run: Run, signature: Signature, prompt: str, count: int, *, temperature: float = 0.8, seed: int = 0
) -> Iterator[bytes]:
    """What follows `prompt`, byte by byte, as a model of bytes tells it; the same seed gives the same text.

    Args:
        run: Any engine: from feeds by input name to outputs by name, such as a session's `run`.
        signature: What `run` takes.
        prompt: What the text begins with.
        count: Bytes at most; there are fewer where the model ends the text.
        temperature: 1 draws as the model says, lower keeps to what is likely, 0 takes the likeliest.
        seed: Of the draw.

    Raises:
        InputError: The temperature is below zero, or the signature is not a decoder's.
    """
    if temperature < 0.0:
        raise InputError(
            f"a temperature is not below zero, as {temperature} is", hint="0.8 is usual; 0 takes the likeliest"
        )
    generator = np.random.default_rng(seed)
    reader = _Reader(run, signature)
    half = reader.capacity // 2
    tokens = np.append(BEGIN, _bytes(prompt) + FIRST_BYTE)
    logits = reader(np.repeat(tokens[None, -half:], reader.rows, axis=0))
    for _ in range(count):
        token = END + _drawn(logits[0, -1, END : FIRST_BYTE + 256], temperature, generator)
        if token == END:
            return
        yield bytes([token - FIRST_BYTE])
        tokens = np.append(tokens, token)
        new = tokens[-1:]
        if not reader.has_room:
            # The cache is full: begin again with the later half of what it held.
            reader.forget()
            new = tokens[-half:]
        logits = reader(np.repeat(new[None], reader.rows, axis=0))


def _drawn(logits: np.ndarray, temperature: float, generator: np.random.Generator) -> int:
    if temperature == 0.0:
        return int(logits.argmax())
    shares = np.exp((logits - logits.max()) / temperature)
    return int(generator.choice(len(shares), p=shares / shares.sum()))


def _bytes(text: Any) -> np.ndarray:
    """The bytes of a text, or of a file of text, as int64. Raises InputError for anything else."""
    if isinstance(text, Path):
        try:
            return np.fromfile(text, np.uint8).astype(np.int64)
        except OSError as error:
            raise InputError(f"{text} cannot be read: {error}", hint="give a file of text") from error
    if not isinstance(text, str):
        raise InputError(f"a {type(text).__name__} is not a text", hint="a string, or the path of a file of text")
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64)


# --- Data -------------------------------------------------------------------------------------------------------------


def _windows(text: Any, length: int) -> np.ndarray:
    """A text as int64 [windows, length + 1]: begin, bytes, end, padding; windows share their last and first token.

    So every byte is told once, from at most `length` tokens before it.
    """
    content = np.concatenate([[BEGIN], _bytes(text) + FIRST_BYTE, [END]])
    count = -(-(len(content) - 1) // length)
    tokens = np.full(count * length + 1, PAD, np.int64)
    tokens[: len(content)] = content
    return np.lib.stride_tricks.sliding_window_view(tokens, length + 1)[::length]


def _feeds(samples: Samples, signature: Signature) -> Iterator[Feeds]:
    """The first steps of each text, on an empty cache."""
    return (_as_feeds(windows[:1], signature) for windows in _all_windows(samples, signature))


def _training_feeds(samples: Samples, signature: Signature) -> Iterator[Feeds]:
    """All windows of each text, a row each, on an empty cache."""
    return (_as_feeds(windows, signature) for windows in _all_windows(samples, signature))


def _all_windows(samples: Samples, signature: Signature) -> Iterator[np.ndarray]:
    return (_windows(each.value, _capacity(signature)) for each in samples)


def _as_feeds(windows: np.ndarray, signature: Signature) -> Feeds:
    steps = next(spec.shape[1] for spec in signature.inputs if spec.name == "tokens")
    count = steps if isinstance(steps, int) else windows.shape[1] - 1
    return {"tokens": windows[:, :count], "positions": np.arange(count), **zero_state(signature)}


def _loss(outputs: Batch, targets: Batch) -> Any:
    """Of each token but the first, told all before it."""
    from torch.nn.functional import cross_entropy

    logits, tokens = outputs["logits"][:, :-1], targets["tokens"][:, 1:]
    return cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=PAD)


_JUDGED_ROWS = 32
_JUDGED_CALLS = 4
"""A window is read in so many calls, each seeing those before it through the cache alone."""


def _judge(run: Run, samples: Samples, signature: Signature) -> float:
    """Perplexity of a byte, or of the end of a text, told those before it in its window."""
    reader = _Reader(run, signature, _JUDGED_ROWS)
    windows = np.concatenate([_windows(each.value, reader.capacity) for each in samples])
    size = -(-reader.capacity // _JUDGED_CALLS)
    answers = []
    for start in range(0, len(windows), reader.rows):
        rows = windows[start : start + reader.rows]
        tokens = np.pad(rows, ((0, reader.rows - len(rows)), (0, 0)), constant_values=PAD)
        reader.forget()
        parts = [reader(tokens[:, place : place + size]) for place in range(0, reader.capacity, size)]
        answers.append(_surprise(np.concatenate(parts, axis=1), tokens[:, 1:]))
    metric: Metric = METRICS.get(FAMILY.metric)
    return metric.compute(answers, [{}] * len(answers))


def _surprise(logits: np.ndarray, tokens: np.ndarray) -> dict[str, float]:
    """Nats needed for `tokens` that are no padding, and how many they are."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    said = np.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0] - np.log(np.exp(logits).sum(axis=-1))
    is_token = tokens != PAD
    return {"nats": -float(said[is_token].sum()), "tokens": int(is_token.sum())}


# --- The family -------------------------------------------------------------------------------------------------------

_TINY: Mapping[str, Any] = {
    **{"vocabulary": 259, "width": 48, "depth": 2, "heads": 4, "key_heads": 2},
    **{"inner": 128, "capacity": 128},
}
_SMOLLM_135M: Mapping[str, Any] = {
    **{"vocabulary": 49152, "width": 576, "depth": 30, "heads": 9, "key_heads": 3},
    **{"inner": 1536, "capacity": 2048},
}
_TINYLLAMA: Mapping[str, Any] = {
    **{"vocabulary": 32000, "width": 2048, "depth": 22, "heads": 32, "key_heads": 4},
    **{"inner": 5632, "capacity": 2048, "is_tied": False},
}

FAMILY = Family(
    name="llm",
    title="a small language model of Llama's architecture",
    task="text generation",
    paper="Touvron et al. 2023, arXiv:2302.13971",
    frameworks=("torch", "onnx"),
    build=build,
    sizes={
        "tiny": Size(_TINY),
        "smollm-135m": Size(
            _SMOLLM_135M,
            paper=Paper("config.json and model card of HuggingFaceTB/SmolLM-135M: 134.5 million", 134_500_000),
        ),
        "tinyllama-1.1b": Size(
            _TINYLLAMA,
            paper=Paper("Zhang et al. 2024, arXiv:2401.02385, table 1: 1.1 billion", 1_100_000_000),
        ),
    },
    published="smollm-135m",
    processing=Processing(),
    data="prose",
    metric="perplexity",
    score=3.4145,
    tolerance=0.1,
    training=Training(
        _loss,
        None,
        epochs=10,
        batch_size=16,
        learning_rate=6e-3,
        feeds=_training_feeds,
    ),
    feeds=_feeds,
    judge=_judge,
    hubs=(
        Hub("huggingface", "HuggingFaceTB/SmolLM-135M", "smollm-135m", "Apache-2.0"),
        Hub("huggingface", "TinyLlama/TinyLlama_v1.1", "tinyllama-1.1b", "Apache-2.0"),
    ),
    notes=(
        "The tiny size reads and writes bytes: 1 begins, 2 ends, byte b is token b + 3. The others have tokenizers.",
        "`edgekit.models.llm.generate` writes with it, on any engine: a prompt, then bytes through the cache.",
    ),
)
