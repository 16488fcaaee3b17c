"""Evaluating: real engines on models with known answers, on data in every form, and what cannot be evaluated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from edgekit import evaluate
from edgekit.bundle import BundleWriter, Golden
from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.evaluation import Evaluations, evaluate_variants
from edgekit.processing import Processing
from edgekit.report import markdown, text
from edgekit.report.evaluation_view import view
from edgekit.spec import Signature, TensorSpec

LABELS = ("red", "green", "blue")
SHADES = {"red": (200, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 200)}
SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("N", 3, 8, 8)),),
    (TensorSpec("y", "float32", ("N", 3)), TensorSpec("map", "float32", ("N", 3, 8, 8))),
)


def color_net(path: Path, mixing: np.ndarray) -> Path:
    """Scores of three colors, of the whole picture and of each pixel, after mixing the channels."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> m (float[N,3,8,8] x) => (float[N,3] y, float[N,3,8,8] map) {'
        " map = Conv(x, w) m = GlobalAveragePool(map) y = Flatten(m) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(mixing.astype("float32").reshape(3, 3, 1, 1), "w"))
    path.write_bytes(model.SerializeToString())
    return path


def processing(*outputs: dict[str, Any]) -> Processing:
    steps = ({"op": "decode_image"}, {"op": "resize", "size": [8, 8]}, {"op": "normalize", "scale": 1 / 255})
    return Processing({"x": (*steps, {"op": "layout"})}, outputs, LABELS)


BEST = ({"op": "select", "name": "y"}, {"op": "top_k", "k": 3})


def make_bundle(path: Path, *outputs: dict[str, Any]) -> Path:
    """Two variants: one that is right, and one that takes blue for green, as a bad quantizer might."""
    rng = np.random.default_rng(0)
    feeds = {"x": rng.random((1, 3, 8, 8), "float32")}
    scores = feeds["x"].mean((2, 3))
    golden = Golden((feeds,), ({"y": scores, "map": feeds["x"]},))
    confused = np.eye(3)
    confused[1, 2] = 2
    with BundleWriter(path) as writer:
        for name, precision, mixing in (("fp32", "fp32", np.eye(3)), ("w8a8", "w8a8", confused)):
            file = color_net(writer.stage / f"{name}.onnx", mixing)
            facts = {"tolerance": {"y": 9.0, "map": 9.0}}
            writer.add(name=f"onnx-{name}", format="onnx", precision=precision, files=[file], facts=facts)
        writer.commit(
            name="colors",
            signature=SIGNATURE,
            processing=processing(*outputs).to_json(),
            target="host",
            golden=golden,
            statistics={},
            provenance={},
        )
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "colors.edge", *BEST)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two red, one green and one blue picture in folders, and a file that is no picture."""
    root = tmp_path_factory.mktemp("pictures")
    for name, label in (("1", "red"), ("2", "red"), ("3", "green"), ("4", "blue")):
        (root / label).mkdir(exist_ok=True)
        Image.new("RGB", (12, 10), SHADES[label]).save(root / label / f"{name}.png")
    (root / "red" / "notes.txt").write_text("no picture")
    return root


def test_the_best_variant_of_a_bundle_on_a_folder_of_classes(bundle: Path, pictures: Path) -> None:
    found = evaluate(bundle, pictures)
    assert (found.metric, found.value, found.count) == ("top1", 1.0, 4)
    assert (found.variant, found.precision, found.runtime) == ("onnx-fp32", "fp32", "onnx")
    assert found.runtime_version is not None
    assert found.runtime_version.startswith("onnxruntime")
    assert found.per_class == {"red": 1, "green": 1, "blue": 1}
    assert found.skipped == (("red/notes.txt", "a text among samples of another kind"),)
    assert (found.data, found.split, len(found.data_sha256)) == (str(pictures), None, 64)
    json.dumps(found.to_json(), allow_nan=False)


def test_every_variant_on_the_same_samples(bundle: Path, pictures: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    found = evaluate_variants(bundle, pictures, progress=lambda *step: seen.append(step))
    assert [(row.variant, row.value) for row in found.evaluations] == [("onnx-fp32", 1.0), ("onnx-w8a8", 0.75)]
    assert found.evaluations[1].per_class == {"red": 1, "green": 1, "blue": 0}
    assert found.absent == ()
    assert seen[0] == (0, 4, "onnx-fp32")
    assert seen[-1] == (3, 4, "onnx-w8a8")
    only = evaluate_variants(bundle, pictures, precision="int8")
    assert [row.variant for row in only.evaluations] == ["onnx-w8a8"]
    with pytest.raises(UnsupportedError, match="no variant of fp16") as caught:
        evaluate_variants(bundle, pictures, precision="fp16")
    assert "fp32, w8a8" in caught.value.hint
    page = text.render(view(found))
    assert "onnx-w8a8  w8a8" in page
    assert "-0.2500" in page
    assert "red/notes.txt was left out" in page
    assert "| onnx-w8a8 |" in markdown.render(view(found))
    document = found.to_json()
    assert (document["metric"], document["count"]) == ("top1", 4)
    assert [row["value"] for row in document["variants"]] == [1.0, 0.75]


def test_a_variant_that_fails_here_does_not_hide_the_others(tmp_path: Path, pictures: Path) -> None:
    path = make_bundle(tmp_path / "c.edge", *BEST)
    document = json.loads((path / "edgekit.json").read_text())
    file = path / document["variants"][1]["files"][0]["path"]
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    found = evaluate_variants(path, pictures)
    assert [row.variant for row in found.evaluations] == ["onnx-fp32"]
    assert [absent.variant for absent in found.absent] == ["onnx-w8a8"]
    assert "onnx-w8a8 was not evaluated" in text.render(view(found))
    with pytest.raises(ArtifactError):
        evaluate(path, pictures, variant="onnx-w8a8")


def test_metric_split_and_number_of_samples(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "train")
    shutil.copytree(pictures / "blue", tmp_path / "test" / "blue")
    (tmp_path / "dataset.yaml").write_text(
        'task: "image classification"\nlabels: ["red", "green", "blue"]\ntrain: "train"\ntest: "test"\n'
    )
    found = evaluate(bundle, tmp_path, variant="onnx-w8a8")
    assert (found.value, found.count, found.split) == (0.0, 1, "test")
    assert evaluate(bundle, tmp_path / "dataset.yaml", split="train").count == 4
    few = evaluate(bundle, pictures, num_samples=2, seed=1)
    assert few.count == 2
    assert few.data_sha256 == evaluate(bundle, pictures, num_samples=2, seed=1).data_sha256
    assert few.data_sha256 != found.data_sha256
    with pytest.raises(UnsupportedError, match="no metric named 'top7'"):
        evaluate(bundle, pictures, metric="top7")
    with pytest.raises(InputError, match='needs "boxes" for every sample, and sample blue/4'):
        evaluate(bundle, pictures, metric="map50")
    with pytest.raises(InputError):
        evaluate(bundle, tmp_path, split="validation")
    with pytest.raises(InputError, match="no data set 'nowhere'"):
        evaluate(bundle, "nowhere")


def test_masks_of_a_listing(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "c.edge", {"op": "select", "name": "map"}, {"op": "class_map"})
    data = tmp_path / "data"
    data.mkdir()
    pixels, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    for column, label in ((slice(0, 4), 0), (slice(4, 6), 1), (slice(6, 8), 2)):
        pixels[:, column] = SHADES[LABELS[label]]
        mask[:, column] = label
    Image.fromarray(pixels).save(data / "p.png")
    Image.fromarray(mask).save(data / "m.png")
    (data / "labels.jsonl").write_text('{"file": "p.png", "mask": "m.png"}\n')
    rows = evaluate_variants(path, data).evaluations
    assert [(row.metric, row.value) for row in rows] == [("miou", 1.0), ("miou", 0.5)]
    assert rows[1].per_class == {"red": 1, "green": 0.5, "blue": 0}


def test_a_bare_file_takes_arrays_and_the_data_names_the_classes(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> m (float[N,3] x) => (float[N,3] y) { y = Identity(x) }'
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "test.npz", x=np.eye(3, dtype="float32")[[0, 1, 2, 2]], labels=np.array([0, 1, 2, 0]))
    (tmp_path / "dataset.yaml").write_text('labels: ["a", "b", "c"]\ntrain: "test.npz"\ntest: "test.npz"\n')
    found = evaluate(tmp_path / "m.onnx", tmp_path)
    assert (found.value, found.variant, found.artifact_sha256) == (0.75, "m.onnx", None)
    assert found.per_class == {"a": 0.5, "b": 1, "c": 1}
    assert evaluate_variants(tmp_path / "m.onnx", tmp_path / "test.npz").evaluations[0].value == 0.75
    with pytest.raises(UnsupportedError, match="has no variants"):
        evaluate_variants(tmp_path / "m.onnx", tmp_path, precision="fp32")


class Parrot:
    """Answers for a language model, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def predict(self, value: str) -> dict[str, float]:
        self.asked.append(value)
        return {"nats": float(len(value)), "tokens": len(value)}


def test_any_object_that_predicts(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"text": "abc", "label": "en"}\n{"text": "d", "label": "en"}\n')
    parrot = Parrot()
    found = evaluate(parrot, tmp_path, metric="perplexity")
    assert parrot.asked == ["abc", "d"]
    assert found.value == pytest.approx(np.e)
    assert (found.variant, found.runtime, found.runtime_version) == ("Parrot", None, None)
    with pytest.raises(InputError, match="top1 cannot judge these answers") as caught:
        evaluate(parrot, tmp_path)
    assert "top_k" in caught.value.hint
    parrot.asked.clear()
    with pytest.raises(InputError, match='needs "target"'):
        evaluate(parrot, tmp_path, metric="ssim")
    assert parrot.asked == []  # before anything is answered


def test_data_that_does_not_say_what_is_true(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match="does not say what is true") as caught:
        evaluate(bundle, tmp_path)
    assert "labels.jsonl" in caught.value.hint
    (tmp_path / "pink").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pink" / "2.png")
    with pytest.raises(InputError, match=r"sample 1\.png has no truth"):
        evaluate(bundle, tmp_path, metric="top1")
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match=r"sample pink/2\.png: the model knows no class 'pink'"):
        evaluate(bundle, tmp_path)
    (tmp_path / "pink").rename(tmp_path / "blue")
    (tmp_path / "blue" / "2.png").unlink()
    np.save(tmp_path / "blue" / "1.npy", np.zeros((2, 2, 2), "uint8"))
    with pytest.raises(InputError, match=r"sample blue/1\.npy"):
        evaluate(bundle, tmp_path)


def test_many_classes_are_not_all_shown(bundle: Path, pictures: Path) -> None:
    one = evaluate(bundle, pictures)
    many = {f"class {index}": index / 100 for index in range(100)}
    page = text.render(view(Evaluations((type(one)(**{**one.__dict__, "per_class": many}),))))
    assert "lowest and the highest 20 of 100" in page
    assert "class 99" in page
    assert "class 50" not in page
