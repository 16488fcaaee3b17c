"""Figures of models that look at pictures: D1, D7, D8, D9, D11, and volumes: D12."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from examples.assets import asset
from tests.catalogue.figures import Ask, Check, Figure, moments, only

__all__ = [
    "blobs",
    "classes",
    "emotion",
    "face",
    "line_image",
    "lines",
    "mask",
    "page_image",
    "picture",
    "style",
    "styled",
    "stylized",
    "text",
    "upright",
    "views",
    "volume",
]


def picture(name: str, size: int) -> np.ndarray:
    """A photo of scikit-image, bilinear at `size` x `size`: float32 [1,size,size,3] of 0 to 255."""
    from PIL import Image

    with Image.open(asset("scikit-image", f"skimage/data/{name}")) as opened:
        shown = opened.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(shown, "float32")[None]


def views(size: int) -> np.ndarray:
    """The astronaut, whole and nearer, each as she is and in the mirror: float32 [6,size,size,3] of 0 to 255."""
    from PIL import Image

    with Image.open(asset("scikit-image", "skimage/data/astronaut.png")) as opened:
        whole = opened.convert("RGB")
    boxes = ((0, 0, 512, 512), (32, 0, 480, 448), (64, 16, 432, 384))
    shown = [np.asarray(whole.crop(box).resize((size, size), Image.Resampling.BILINEAR), "float32") for box in boxes]
    return np.stack([*shown, *(pixels[:, ::-1] for pixels in shown)])


# --- D1: what is in a photo ------------------------------------------------------------------------------------------

_SEEN = (243, 559, 438, 990, 949, 853, 436, 511, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305)
"""The class EfficientNet-Lite0 sees in each of foolbox's 20 photos."""


def classes(input: str, *, is_nchw: bool) -> Check:
    """The 20 photos, classified."""

    def check(ask: Ask) -> list[Figure]:
        rows, labels = [], []
        for path in sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg")):
            labels.append(int(path.stem.split("_")[2]))
            pixels = (_middle(path) - 127) / 128
            feed = np.moveaxis(pixels, 2, 0) if is_nchw else pixels
            rows.append(only(ask({input: np.ascontiguousarray(feed[None], "float32")}))[0])
        logits = np.stack(rows)
        seen = logits.argmax(1)
        return [
            *moments("logits of 20 photos", logits, -0.082279, 1.141185, 2e-6),
            Figure("logits: smallest", -4.080441, float(logits.min()), 1e-4),
            Figure("logits: largest", 13.676454, float(logits.max()), 1e-4),
            Figure("top-1 of 20 photos", 0.90, float((seen == labels).mean()), 1e-9),
            Figure("photos seen as by PyTorch", 20, float((seen == _SEEN).sum()), 0),
        ]

    return check


def _middle(path: Path) -> np.ndarray:
    """The middle 87.5 % of the shorter side, bicubic at 224."""
    from PIL import Image

    with Image.open(path) as opened:
        shown = opened.convert("RGB")
    side = min(shown.size) * 0.875
    left, top = ((length - side) / 2 for length in shown.size)  # Pillow rounds the edges, each by itself
    shown = shown.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return np.asarray(shown, "float32")


# --- D7: who is in a picture -----------------------------------------------------------------------------------------


def mask(input: str) -> Check:
    """The astronaut cut out of her picture."""

    def check(ask: Ask) -> list[Figure]:
        found = only(ask({input: picture("astronaut.png", 256) / 255}))
        return [
            *moments("mask", found, 0.540422, 0.483332, 2e-5),
            Figure("mask: share above 0.5", 0.5454, float((found > 0.5).mean()), 1e-4),
        ]

    return check


def face(input: str, boxes: str, scores: str) -> Check:
    """The astronaut's face in her picture of 512 pixels: anchors at the middles of a 16 x 16 and an 8 x 8 grid."""

    def check(ask: Ask) -> list[Figure]:
        answer = ask({input: picture("astronaut.png", 128) / 127.5 - 1})
        logits = answer[scores][0, :, 0]
        best = int(logits.argmax())
        x, y, width, height = answer[boxes][0, best, :4] / 128
        across, down = _anchors()[best]
        return [
            Figure("best score", 0.9209, float(1 / (1 + np.exp(-logits[best].astype("float64")))), 1e-4),
            Figure("box: left", 179.2, float(512 * (across + x - width / 2)), 0.1),
            Figure("box: top", 81.9, float(512 * (down + y - height / 2)), 0.1),
            Figure("box: width", 94.6, float(512 * width), 0.1),
        ]

    return check


def _anchors() -> np.ndarray:
    grids = []
    for cells, copies in ((16, 2), (8, 6)):
        middles = (np.arange(cells) + 0.5) / cells
        across, down = np.meshgrid(middles, middles)
        grids.append(np.repeat(np.stack([across.ravel(), down.ravel()], 1), copies, axis=0))
    return np.concatenate(grids)


# --- D8: reading -----------------------------------------------------------------------------------------------------

_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def page_image() -> np.ndarray:
    """scikit-image's page as the text detector takes it: float32 [1,3,192,384]."""
    pixels = (_page() / 255 - _MEAN) / _STD
    padded = np.zeros((192, 384, 3))
    padded[: pixels.shape[0]] = pixels
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], "float32")


def _page() -> np.ndarray:
    from PIL import Image

    with Image.open(asset("scikit-image", "skimage/data/page.png")) as opened:
        return np.asarray(opened.convert("RGB"), "float64")


def lines(input: str) -> Check:
    """How many lines of text the page has."""

    def check(ask: Ask) -> list[Figure]:
        found = only(ask({input: page_image()}))[0, 0] > 0.3
        rows = (found.sum(1) > 20).astype(int)
        return [Figure("lines of text (ours)", 7, float((np.diff(rows, prepend=0) == 1).sum()), 0)]

    return check


_LINE = "Let us first determine markers of the coins and the"
_LINE_ROWS = slice(48, 66)


def line_image(width: int = 640) -> np.ndarray:
    """The page's first line of text as recognizers take it: float32 [1,3,48,width]."""
    from PIL import Image

    cut = Image.fromarray(_page()[_LINE_ROWS].astype("uint8"))
    wide = min(width, round(cut.width * 48 / cut.height))
    pixels = np.asarray(cut.resize((wide, 48), Image.Resampling.BILINEAR), "float64") / 127.5 - 1
    padded = np.zeros((48, width, 3))
    padded[:, :wide] = pixels
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], "float32")


def text(input: str, width: int) -> Check:
    """The words of the page's first line."""

    def check(ask: Ask) -> list[Figure]:
        chances = only(ask({input: line_image(width)}))[0]
        best = chances.argmax(1)
        kept = [i for i, index in enumerate(best) if index and (i == 0 or best[i - 1] != index)]
        read = "".join(_characters()[best[i]] for i in kept)
        right = sum(a == b for a, b in zip(read.replace(" ", ""), _LINE.replace(" ", ""), strict=False))
        return [
            Figure("letters of the first line read right", len(_LINE.replace(" ", "")), right, 0),
            Figure("certainty", 0.931, float(np.mean([chances[i, best[i]] for i in kept])), 1e-3),
        ]

    return check


def _characters() -> list[str]:
    """By the index in the recognizer's answer; the first is no character."""
    import onnx

    path = asset("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx")
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}["character"]
    return ["", *said.splitlines(), " "]


def upright(input: str, width: int) -> Check:
    """Which way up the line is."""

    def check(ask: Ask) -> list[Figure]:
        image = line_image(width)
        chances = [only(ask({input: turned}))[0] for turned in (image, np.ascontiguousarray(image[:, :, ::-1, ::-1]))]
        return [
            Figure("the line is upright", 1, float(chances[0][0] > 0.5), 0),
            Figure("the line turned round is not", 1, float(chances[1][1] > 0.5), 0),
        ]

    return check


# --- D9: another style -----------------------------------------------------------------------------------------------


def stylized(ask: Ask) -> list[Figure]:
    """Coffee in the first of 26 styles."""
    image = np.ascontiguousarray(picture("coffee.png", 256).transpose(0, 3, 1, 2)) / np.float32(255)
    found = only(ask({"image": image, "style_weights": np.eye(26, dtype="float32")[0]}))
    return moments("coffee", found, 0.570384, 0.201225, 1e-4)


def style(ask: Ask) -> list[Figure]:
    """The style of coffee; engines round integers differently."""
    return moments(
        "style of coffee", only(ask({"style_image": picture("coffee.png", 256) / 255})), 0.121659, 0.817459, 0.01
    )


def styled(bottleneck: np.ndarray) -> Check:
    """The cat Chelsea in the style of coffee, which `bottleneck` is."""

    def check(ask: Ask) -> list[Figure]:
        feeds = {"content_image": picture("chelsea.png", 384) / 255, "mobilenet_conv/Conv/BiasAdd": bottleneck}
        return [Figure("Chelsea as coffee: mean", 0.40156, float(only(ask(feeds)).mean()), 0.005)]

    return check


# --- D11: a face's expression ----------------------------------------------------------------------------------------


def emotion(input: str, within: float) -> Check:
    """The astronaut smiles."""

    def check(ask: Ask) -> list[Figure]:
        from PIL import Image

        with Image.open(asset("scikit-image", "skimage/data/astronaut.png")) as opened:
            grey = opened.crop((170, 60, 280, 190)).convert("L").resize((64, 64), Image.Resampling.BICUBIC)
        answer = only(ask({input: ((np.asarray(grey, "float32") / 255 - 0.5) * 2)[None, ..., None]}))[0]
        return [
            Figure("the expression is happy", 3, float(answer.argmax()), 0),
            Figure("happy", 0.99903, float(answer[3]), within),
        ]

    return check


# --- D12: blobs in a volume ------------------------------------------------------------------------------------------


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Twelve Gaussian blobs of sigma 1, 4, 4 as float32 [1,1,10,128,128], and their middles."""
    rng = np.random.default_rng(0)
    middles = np.stack([rng.integers(2, 8, 12), rng.integers(12, 116, 12), rng.integers(12, 116, 12)], 1)
    z, y, x = np.mgrid[:10, :128, :128]
    volume = np.zeros((10, 128, 128))
    for depth, down, across in middles:
        near = (z - depth) ** 2 + ((y - down) / 4) ** 2 + ((x - across) / 4) ** 2
        volume = np.maximum(volume, np.exp(-near / 2))
    return volume[None, None].astype("float32"), middles


def volume(input: str, mean: float, std: float, overlap: float) -> Check:
    """The blobs found again."""

    def check(ask: Ask) -> list[Figure]:
        image, middles = blobs()
        found = only(ask({input: image}))
        inside, there = found[0, 3] > 0.5, image[0, 0] > 0.3
        return [
            *moments("volume of blobs (ours)", found, mean, std, 2e-5),
            Figure("blobs: overlap (ours)", overlap, float((inside & there).sum() / (inside | there).sum()), 0.002),
            Figure("blobs: middles found", 12, float(sum(found[(0, 4, *middle)] > 0.88 for middle in middles)), 0),
        ]

    return check
