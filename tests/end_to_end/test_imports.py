"""No framework is imported in the user's process by a road that does not need it there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.graph import save
from tests.assets import asset
from tests.contract import tensorflow_samples
from tests.unit.networks import residual_network

FRAMEWORKS = ("tensorflow", "keras", "torch", "tf2onnx", "h5py", "jax", "onnx2tf", "litert_torch")

PROBE = """
import sys

class Probe:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {frameworks!r}:
            raise AssertionError(f"{{name}} is imported")

sys.meta_path.insert(0, Probe())
import edgekit
if __name__ == "__main__":
    report = edgekit.convert({source!r}, {output!r}, target="generic-x86", format={formats!r})
    print(sorted(f"{{v.format}} {{v.status}}" for v in report.variants))
    model = edgekit.load({output!r})
    feeds = {{spec.name: __import__("numpy").zeros([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype)
             for spec in model.signature.inputs}}
    model.run(feeds)
"""


def converted(source: str, folder: Path, *formats: str) -> str:
    """What a process prints in which importing any framework is an error."""
    program = folder / "program.py"
    output = str(folder / "made.edge")
    text = PROBE.format(frameworks=FRAMEWORKS, source=source, output=output, formats=list(formats))
    program.write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


ALL = ("tflite", "onnx", "openvino")
WRITTEN = "['onnx written', 'openvino written', 'tflite written']"


def test_onnx_to_every_format(tmp_path: Path) -> None:
    save(residual_network(), tmp_path / "net.onnx")
    assert WRITTEN in converted(str(tmp_path / "net.onnx"), tmp_path, *ALL)


def test_tflite_to_every_format(tmp_path: Path) -> None:
    source = asset("mediapipe", "mediapipe/modules/face_detection/face_detection_short_range.tflite")
    assert WRITTEN in converted(str(source), tmp_path, *ALL)


def test_a_model_by_name_to_every_format(tmp_path: Path) -> None:
    assert WRITTEN in converted("ds-cnn:tiny", tmp_path, *ALL)


@pytest.mark.parametrize("source", ["awkward.keras", "two_inputs"])
def test_what_needs_tensorflow_has_it_in_a_process_of_its_own(source: str, tmp_path: Path) -> None:
    assert "written" in converted(str(tensorflow_samples.folder() / source), tmp_path, *ALL)
