"""What users install: the sdist, the wheel built from it, a device with one engine, and an uninstalled checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.assets import needs_index

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("converters", "runtimes", "models")


@dataclass(frozen=True)
class Built:
    """Both distributions, the wheel built from the unpacked sdist as an index would."""

    sdist: Path
    wheel: Path


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Runs a command without this checkout on the path and gives what it printed; fails with what it said."""
    outer = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**outer, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def new_environment(folder: Path) -> Path:
    """A virtual environment with nothing but pip, to install into; gives its Python."""
    needs_index("installs packages")
    venv.create(folder, with_pip=True, symlinks=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("build")
    python = new_environment(folder / "builder")
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    run(python, "-m", "pip", "install", "--quiet", *requires, folder=folder)
    checkout = copy_of_checkout(folder / "checkout")
    build(python, "sdist", folder, checkout)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    build(python, "wheel", folder, source)
    (wheel,) = folder.glob("*.whl")
    return Built(sdist, wheel)


def copy_of_checkout(folder: Path) -> Path:
    """What git tracks or would track, so that building leaves nothing behind here and nothing stale gets in."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder=ROOT).split("\0")
    for name in filter(None, listed):
        source, copy = ROOT / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
        elif source.is_file():
            copy.write_bytes(source.read_bytes())
    return folder


def build(python: Path, what: str, folder: Path, source: Path) -> None:
    code = f"from setuptools import build_meta; build_meta.build_{what}({str(folder)!r})"
    run(python, "-c", code, folder=source)


def expected_files() -> set[str]:
    """Every file of the package as an installed copy must have it."""
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder=ROOT).splitlines()
    own = {name for name in tracked if name.startswith("edgekit/") and (ROOT / name).is_file()}
    linked = {f"edgekit/{name}" for name in tracked if name.split("/")[0] in ROOMS}
    return {name for name in own | linked if name.endswith((".py", ".json", ".txt", ".safetensors", "py.typed"))}


def test_wheel_holds_every_module_as_a_real_file(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        modes = {entry.filename: entry.external_attr >> 16 for entry in wheel.infolist()}
        sizes = {entry.filename: entry.file_size for entry in wheel.infolist()}
    assert expected_files() <= set(modes)
    assert not [name for name, mode in modes.items() if mode & 0o170000 == 0o120000], "links in the wheel"
    for room in ROOMS:
        assert sizes[f"edgekit/{room}/__init__.py"] > 0
    assert "edgekit/targets/raspberry-pi-5.json" in modes


def test_wheel_claims_one_import_name(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"edgekit"}


def test_sdist_holds_license_and_sources(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"LICENSE", "README.md", "pyproject.toml", "edgekit/__init__.py"} <= names
    assert not [name for name in names if name.startswith((".cache", ".venv"))]


def test_version_is_the_package_s(built: Built) -> None:
    import edgekit

    assert built.wheel.name.startswith(f"edgekit_ml-{edgekit.__version__}-py3-none-any")


def test_a_device_needs_the_wheel_and_one_engine(
    built: Built, tmp_path: Path, emotion_bundle: Path, face_image: Path
) -> None:
    """numpy, the command line's two packages, LiteRT and Pillow; no converter, no framework."""
    python = new_environment(tmp_path / "device")
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(python, "-m", "pip", "install", "--quiet", *constraints, f"{built.wheel}[litert,image]", folder=tmp_path)
    code = f"""
import json, sys, edgekit
with edgekit.load({str(emotion_bundle)!r}) as model:
    answer = model.predict({str(face_image)!r})
names = sorted({{name.split(".")[0] for name in sys.modules}})
print(json.dumps([edgekit.__file__, model.runtime, str(answer), names]))
"""
    where, runtime, answer, loaded = json.loads(run(python, "-c", code, folder=tmp_path).splitlines()[-1])
    assert Path(where).is_relative_to(tmp_path)
    assert runtime == "tflite"
    assert "happy" in answer
    assert not {"onnx", "onnxruntime", "openvino", "tensorflow", "keras", "click", "rich"} & set(loaded)
    shown = run(python.with_name("edgekit"), "predict", emotion_bundle, face_image, folder=tmp_path)
    assert "happy" in shown


def test_a_device_without_an_engine_says_what_to_install(built: Built, tmp_path: Path, emotion_bundle: Path) -> None:
    python = new_environment(tmp_path / "bare")
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(python, "-m", "pip", "install", "--quiet", *constraints, built.wheel, folder=tmp_path)
    code = f"""
import edgekit
try:
    edgekit.load({str(emotion_bundle)!r})
except edgekit.errors.UnavailableError as error:
    print(error)
"""
    assert re.search(r"pip install 'edgekit-ml\[.*litert", run(python, "-c", code, folder=tmp_path))


def test_an_uninstalled_checkout_works(tmp_path: Path) -> None:
    code = (
        "import edgekit.runtimes, edgekit.converters, edgekit.models, edgekit; print(edgekit.Target.named('host').name)"
    )
    assert run(sys.executable, "-S", "-c", _with_numpy(code), folder=ROOT).strip() == "host"
    assert run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(ROOT)).strip() == "host"


def _with_numpy(code: str) -> str:
    """`code` in a Python without site-packages but numpy's, so that an installed edgekit cannot be what is found."""
    import numpy as np

    site = str(Path(np.__file__).parent.parent)
    return f"import sys; sys.path.append({site!r}); sys.path.insert(0, '.'); {code}"


def test_extras_that_name_edgekit_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = [word for need in extras["all"] for word in need.partition("[")[2].rstrip("]").split(",")]
    assert set(named) <= set(extras)
    assert set(extras) - set(named) == {"all", "dev", "tflite-runtime"}


def test_every_package_that_is_imported_is_declared() -> None:
    from tests.test_architecture import MODULES, imports

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [*project["dependencies"], *(need for extra in project["optional-dependencies"].values() for need in extra)]
    declared = {canonical(need) for need in needs}
    used = {found.module.split(".")[0] for name in MODULES for found in imports(name)}
    foreign = used - sys.stdlib_module_names - {"edgekit"}
    assert {DISTRIBUTIONS.get(name, canonical(name)) for name in foreign} <= declared


DISTRIBUTIONS = {"PIL": "pillow", "grpc": "grpcio", "google": "protobuf", "yaml": "pyyaml"}
"""Packages whose import name is not that of their distribution."""


def canonical(requirement: str) -> str:
    """The name in a requirement, as an index spells it."""
    name = re.split(r"[\[;<>=!~ ]", requirement, maxsplit=1)[0]
    return name.lower().replace("_", "-")


def test_constraints_pin_every_dependency() -> None:
    from importlib.metadata import requires

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonical(line) for line in lines if "==" in line}
    assert len(pinned) == len([line for line in lines if line and not line.startswith("#")])
    needs = [
        need for need in requires("edgekit-ml") or [] if "tflite-runtime" not in need and "sys_platform !=" not in need
    ]
    assert {canonical(need) for need in needs} - {"edgekit-ml"} <= pinned
