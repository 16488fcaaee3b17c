"""`edgekit evaluate` on the catalogue's own models and its labeled photos, in several forms of the same data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import edgekit
from edgekit.cli import run
from tests.assets import asset
from tests.end_to_end.test_predict import LINE, MEDIAPIPE, OCR, SOURCES, line_image, photo


@pytest.fixture
def evaluated(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """What `edgekit evaluate` prints as JSON."""

    def type_it(*words: object) -> dict[str, Any]:
        assert run(["evaluate", *map(str, words), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return type_it


Evaluated = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photos of ImageNet in folders named after their classes by index, and a table that lists the same."""
    root = tmp_path_factory.mktemp("photos")
    rows = []
    for path in sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg")):
        place = root / "folders" / path.stem.split("_")[2] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        rows.append(f"{place.parent.name}/{path.name},{place.parent.name}\n")
    (root / "table.csv").write_text("path,label\n" + "".join(rows))
    return root


def test_photos_in_folders_and_in_a_table_are_judged_as_the_catalogue_says(
    photos: Path, tmp_path: Path, evaluated: Evaluated
) -> None:
    source, said = SOURCES["lite0"]()
    edgekit.convert(source, tmp_path / "lite0.edge", target="generic-x86", format="onnx", precision="fp32", **said)
    document = evaluated(tmp_path / "lite0.edge", "--data", photos / "folders")
    (row,) = document["variants"]
    assert (document["metric"], row["count"], row["value"]) == ("top1", 20, 0.9)
    assert (row["interval"]["low"], row["interval"]["high"]) == pytest.approx((0.699, 0.972), abs=1e-3)
    assert sum(count for true, answered, count in row["confusion"]["cells"] if true == answered) == 18
    assert row["warnings"] == []
    table = ("--data", photos / "table.csv", "--images", photos / "folders")
    assert evaluated(tmp_path / "lite0.edge", *table)["variants"][0]["value"] == 0.9
    # The bundle names five classes, or fewer; for these all thousand have to be asked for.
    assert evaluated(tmp_path / "lite0.edge", *table, "--metric", "top5")["variants"][0]["value"] == 0.95
    surprise = evaluated(tmp_path / "lite0.edge", *table, "--metric", "log-loss", "--limit", 8)["variants"][0]
    assert 0 < surprise["value"] < 2
    assert surprise["count"] == 8


def coco(root: Path, box: list[float]) -> Path:
    """An astronaut with a face at x, y, width, height, and a cup of coffee without one."""
    images = []
    for index, name in enumerate(("astronaut.png", "coffee.png")):
        shutil.copyfile(photo(name), root / name)
        with Image.open(root / name) as image:
            images.append({"id": index, "file_name": name, "width": image.width, "height": image.height})
    marks = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}]
    content = {"images": images, "annotations": marks, "categories": [{"id": 1, "name": "face"}]}
    (root / "faces.json").write_text(json.dumps(content))
    return root / "faces.json"


def test_faces_are_found_where_coco_says(tmp_path: Path, evaluated: Evaluated) -> None:
    model = asset("mediapipe", MEDIAPIPE.format("face_detection/face_detection_short_range"))
    right = coco(tmp_path, [179.2, 81.9, 94.6, 94.6])
    for metric, best in (("map", 1), ("map50", 1), ("map-medium", 1), ("map50-voc", 1)):
        (row,) = evaluated(model, "--data", right, "--metric", metric, "--source", "none")["variants"]
        assert row["value"] == pytest.approx(best, abs=1e-6), metric
        assert row["support"] == {"face": 1}
    moved = coco(tmp_path, [200, 100, 94.6, 94.6])  # overlaps by 0.45
    assert evaluated(model, "--data", moved)["variants"][0]["value"] == 0


def test_a_line_is_read_without_a_mistake(tmp_path: Path, evaluated: Evaluated) -> None:
    line_image(tmp_path / "line.png")
    model = asset("rapidocr-onnxruntime", OCR.format("ch_PP-OCRv4_rec_infer"))
    for said, expected in ((LINE, 0), (LINE + "!!", 2 / (len(LINE) + 2))):
        (tmp_path / "labels.jsonl").write_text(json.dumps({"file": "line.png", "transcript": said}))
        (row,) = evaluated(model, "--data", tmp_path, "--metric", "cer")["variants"]
        assert row["value"] == pytest.approx(expected, abs=1e-9)
        assert row["interval"]["method"] == "none: one sample does not say how much others differ"
