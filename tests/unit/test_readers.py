"""Forms of data: each as people lay it out, read whole, and each way of being wrong with the line or file that is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import InputError, UnavailableError
from edgekit.readers import READERS
from edgekit.readers.pictures import Segments, picture_size
from edgekit.samples import Samples, read_samples

SIZE = (40, 20)


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 100, 50)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def truths(samples: Samples) -> dict[str, Any]:
    return {sample.name: dict(sample.truth) for sample in samples}


def refused(said: str, path: Path, **asked: Any) -> InputError:
    with pytest.raises(InputError, match=said) as caught:
        list(read_samples(path, **asked))
    return caught.value


def reader_of(path: Path) -> str:
    return next(name for name, reader in READERS if reader.accepts(path))


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_table_of_files_and_classes(tmp_path: Path) -> None:
    for name in ("a.png", "in/b.png"):
        picture(tmp_path / "pictures" / name)
    plain = write(tmp_path / "plain.csv", "path,label\na.png,cat\nin/b.png,dog\n")
    assert truths(read_samples(plain, images=tmp_path / "pictures")) == {
        "a.png": {"label": "cat"},
        "in/b.png": {"label": "dog"},
    }
    for text in ("a.png;cat\nin/b.png;dog\n", "\ufeffFilename;Class\na.png;cat\n\nin\\b.png;dog\n"):
        found = read_samples(write(tmp_path / "pictures" / "labels.csv", text))
        assert [(sample.value.name, sample.label) for sample in found] == [("a.png", "cat"), ("b.png", "dog")]
    assert reader_of(tmp_path / "pictures") == "table"  # the folder itself will do
    assert len(read_samples(tmp_path / "pictures", limit=1)) == 1


def test_a_table_of_boxes_in_pixels_or_shares(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    expected = {"label": "cat", "box": pytest.approx([0.1, 0.25, 0.5, 1.0])}
    for rows in (
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,20,cat,4,5,20,20\nb.png,40,20,,,,,\n",
        "image,label,x,y,w,h\na.png,cat,4,5,16,15\nb.png,,,,,\n",
        "path,label,x0,y0,x1,y1\na.png,cat,0.1,0.25,0.5,1\nb.png,,,,,\n",
    ):
        found = truths(read_samples(write(tmp_path / "boxes.csv", rows)))
        assert found == {"a.png": {"boxes": [expected], "size": SIZE}, "b.png": {"boxes": [], "size": SIZE}}


def test_a_table_of_numbers(tmp_path: Path) -> None:
    for text, first in (
        ("sepal,petal,species\n1,2.5,setosa\n3,4,virginica\n", {"label": "setosa"}),
        (",sepal,petal,target\n0,1,2.5,1.0\n1,3,4,0\n", {"label": "1"}),
        ("sepal,petal,y\n1,2.5,0.25\n3,4,7\n", {"target": 0.25}),
        ("1,2.5,setosa\n3,4,virginica\n", {"label": "setosa"}),
    ):
        one, two = read_samples(write(tmp_path / "t.csv", text))
        np.testing.assert_array_equal(one.value, np.array([1, 2.5], np.float32))
        np.testing.assert_array_equal(two.value, np.array([3, 4], np.float32))
        assert dict(one.truth) == first


def test_lines_of_texts_with_their_classes(tmp_path: Path) -> None:
    for name, text in (
        ("t.tsv", 'en\tit is "quoted\nde\tguten Tag\n'),
        ("t.txt", 'en\tit is "quoted\nde\tguten Tag\n'),
        ("t.csv", 'label,text\nen,"it is ""quoted"\nde,guten Tag\n'),
    ):
        found = list(read_samples(write(tmp_path / name, text)))
        assert [(s.value, s.label) for s in found] == [('it is "quoted', "en"), ("guten Tag", "de")]
    plain = read_samples(write(tmp_path / "plain.txt", "one text\na tab\tin one\n"))
    assert [sample.value for sample in plain] == ["one text", "a tab\tin one"]
    assert truths(plain) == {"0": {}, "1": {}}


def test_a_column_says_which_rows_are_to_test_on(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "text,label,split\na,x,train\nb,y,val\nc,x,test\n")
    assert [sample.value for sample in read_samples(table)] == ["c"]
    assert [sample.value for sample in read_samples(table, split="val")] == ["b"]
    refused("no split 'dev'", table, split="dev")
    assert "--split" in refused("which split", write(table, "text,label,split\na,x,train\n")).hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\na.png,cat\na.png,dog\n", r"line 3: a\.png is there twice"),
        ("path,label\na.png\n", "line 2: 1 cells under 2 headings"),
        ("path,label\n/etc/passwd,cat\n", r"line 2: '/etc/passwd' is not inside"),
        ("path,label\n../a.png,cat\n", r"line 2: '\.\./a\.png' is not inside"),
        ("path,label\nno.png,cat\n", r"1 of 1 files are not there, the first .*no\.png"),
        ("path,label\n", "headings and no rows"),
        ("path,path\na.png,b\n", "heading is there twice"),
        ("", "has no rows"),
        ("path,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n", "boxes and no label"),
        ("path,label,xmin,ymin,xmax,ymax\na.png,cat,1,2,x,4\n", "line 2: 'x' is not a number"),
        ("path,label,xmin,ymin,xmax,ymax\na.png,cat,20,2,1,4\n", "line 2: .* is not a box"),
        ("path,label,xmin,ymin,xmax,ymax\na.png,cat,1,2,300,4\n", "reaches out of the picture of 40 x 20"),
        ("path,label,x,y,w,h\na.png,cat,30,2,30,4\n", "reaches out of the picture"),
        ("path,label,x0,y0,x1,y1\na.png,cat,0,0,.5,1\na.png,cat,4,4,9,9\n", "1 of 2 boxes are within 0 to 1"),
        ("path,width,height,label,xmin,ymin,xmax,ymax\na.png,80,40,cat,1,2,3,4\n", "is 40 x 20, not 80 x 40"),
        ("a,b,target\n1,x,0\n", "line 2: 'x' is not a number"),
        ("a,b,target\n1,nan,0\n", "line 2: NaN or infinity"),
        ("text,label\n,en\n", "line 2: the text is empty"),
        ('text,label\n"a,en\n', "unexpected end"),
        ("what\nis\nthis\n", "which column is what"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    picture(tmp_path / "a.png")
    table = write(tmp_path / "t.csv", text)
    assert str(table) in refused(said, table).message


def test_a_table_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("text,label\nOlé,es\n".encode("latin-1"))
    assert "UTF-8" in refused("is not UTF-8", tmp_path / "t.csv").hint


# --- COCO -------------------------------------------------------------------------------------------------------------


def coco(path: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 20},
            {"id": 3, "file_name": "b.png", "width": 40, "height": 20},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [4, 5, 16, 15], "iscrowd": 0, "area": 99.5},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 40, 20], "iscrowd": 1},
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_coco_where_it_lies(tmp_path: Path) -> None:
    file = coco(tmp_path / "annotations" / "instances_val2017.json")
    for name in "ab":
        picture(tmp_path / "val2017" / f"{name}.png")
    expected = [
        {"label": "dog", "box": pytest.approx([0.1, 0.25, 0.5, 1]), "crowd": False, "area_px": 99.5},
        {"label": "cat", "box": [0, 0, 1, 1], "crowd": True},
    ]
    for path, images in ((file, None), (tmp_path, None), (file, tmp_path / "val2017")):
        samples = read_samples(path, images=images)
        assert truths(samples) == {"a.png": {"size": SIZE, "boxes": expected}, "b.png": {"size": SIZE, "boxes": []}}
        assert samples.labels == ("cat", "dog")  # by the number of the category
        assert [sample.value.is_file() for sample in samples] == [True, True]
    coco(tmp_path / "annotations" / "instances_train2017.json")
    assert read_samples(tmp_path).split == "val"
    assert refused("no split 'test'", tmp_path, split="test").hint == "it has train, val"
    exported = tmp_path / "exported" / "valid"
    coco(exported / "_annotations.coco.json")
    for name in "ab":
        picture(exported / f"{name}.png")
    assert len(read_samples(exported.parent)) == len(read_samples(exported)) == 2


SQUARE = [[10.0, 0.0, 20.0, 0.0, 20.0, 10.0, 10.0, 10.0]]
RUNS = {"size": [20, 40], "counts": [0, 20 * 10, 20 * 30]}
"""The ten columns at the left."""


@pytest.mark.parametrize("background", [True, False])
def test_areas_are_drawn_as_masks(tmp_path: Path, background: bool) -> None:
    from pycocotools import mask

    packed = mask.frPyObjects(RUNS, 20, 40)
    text = {"size": packed["size"], "counts": packed["counts"].decode()}
    for runs in (RUNS, text):
        areas = [
            {"image_id": 7, "category_id": 9, "bbox": [0, 0, 10, 20], "segmentation": runs, "iscrowd": 1},
            {"image_id": 7, "category_id": 2, "bbox": [10, 0, 10, 10], "segmentation": SQUARE},
        ]
        picture(tmp_path / "a.png")
        picture(tmp_path / "b.png")
        first, _ = read_samples(coco(tmp_path / "coco.json", annotations=areas))
        labels = ("background", "cat", "dog") if background else ("cat", "dog")
        drawn = first.truth["segments"].mask(labels, 255)
        assert drawn.shape == (20, 40)
        assert (drawn[:, :10] == labels.index("dog")).all()
        assert (drawn[:10, 10:20] == labels.index("cat")).all()
        assert (drawn[:, 20:] == (0 if background else 255)).all()
    with pytest.raises(InputError, match="knows no class 'dog'"):
        first.truth["segments"].mask(("cat", "cow"), 255)


def test_areas_need_pycocotools_and_must_be_some(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be drawn"):
        Segments(SIZE, (("cat", {"counts": None, "size": [20, 40]}),)).mask(("cat",), 255)
    with pytest.raises(InputError, match="area of 10 x 5 in a picture of 40 x 20"):
        Segments(SIZE, (("cat", {"counts": [50], "size": [5, 10]}),)).mask(("cat",), 255)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(UnavailableError, match="pycocotools") as caught:
        Segments(SIZE, (("cat", SQUARE),)).mask(("cat",), 255)
    assert "edgekit-ml[evaluate]" in caught.value.hint


def annotation(**changes: Any) -> dict[str, Any]:
    own = {"id": 1, "image_id": 7, "category_id": 9, "bbox": [4, 5, 16, 15], **changes}
    return {"annotations": [own]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": None}, "no list of images"),
        ({"annotations": [3]}, "no list of annotations"),
        ({"categories": [{"id": 9}]}, "its name is None"),
        ({"categories": [{"id": 9, "name": "a"}, {"id": 9, "name": "b"}]}, "two of its categories have the id '9'"),
        (annotation(image_id=99), "of the picture 99, which is not listed"),
        (annotation(category_id=5), r"a\.png, annotation 1: there is no category 5"),
        (annotation(bbox=[1, 2, 3]), "its bbox is"),
        (annotation(bbox=[0.1, 0.25, 0.5, 1]), "looks like shares"),
        (annotation(bbox=[20, 5, 40, 20]), "reaches out of the picture"),  # two corners in place of a size
        (annotation(bbox=[20, 5, -4, 2]), "is not a box"),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 0, "height": 20}]}, "a picture of 0 x 20"),
        ({"images": [{"id": 7, "file_name": "../../a.png", "width": 40, "height": 20}]}, "is not inside"),
        ({"images": [{"id": 7, "file_name": "no.png", "width": 40, "height": 20}]}, r"no no\.png beside it"),
    ],
)
def test_coco_that_is_wrong(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    file = coco(tmp_path / "coco.json", **changes)
    assert str(file) in refused(said, file).message
    write(file, file.read_text()[:-5])
    refused("line 1: not JSON", file)
    write(file, '{"images": ' + "[" * 100_000)
    refused("nested deeper|not JSON", file)


# --- YOLO -------------------------------------------------------------------------------------------------------------


def yolo(root: Path, text: str = "1 0.3 0.625 0.4 0.75\n", names: str = "names: [cat, dog]\n") -> Path:
    for name in "ab":
        picture(root / "images" / "val" / f"{name}.png")
    write(root / "labels" / "val" / "a.txt", text)
    return write(root / "data.yaml", f"path: .\ntrain: images/train\nval: images/val\n{names}")


def test_yolo_where_it_lies(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    expected = {
        "a.png": {"boxes": [{"label": "dog", "box": pytest.approx([0.1, 0.25, 0.5, 1])}], "size": SIZE},
        "b.png": {"boxes": [], "size": SIZE},
    }
    for path in (file, tmp_path):
        samples = read_samples(path)
        assert truths(samples) == expected
        assert (samples.labels, samples.split) == (("cat", "dog"), "val")
    yolo(tmp_path, names="names:\n  0: cat\n  1: dog\n")
    assert truths(read_samples(tmp_path, images=tmp_path / "images" / "val")) == expected
    write(file, file.read_text().replace("val: images/val", "val: ../images/val"))  # as some exporters have it
    assert truths(read_samples(tmp_path)) == expected
    file.unlink()
    bare = truths(read_samples(tmp_path))
    assert bare["val/a.png"]["boxes"][0]["label"] == "1"
    assert reader_of(tmp_path) == "yolo"


def test_areas_of_yolo(tmp_path: Path) -> None:
    yolo(tmp_path, "0 0.25 0 0.5 0 0.5 0.5 0.25 0.5\n")
    first, _ = read_samples(tmp_path)
    assert first.truth["boxes"] == [{"label": "cat", "box": [0.25, 0, 0.5, 0.5]}]
    drawn = first.truth["segments"].mask(("cat", "dog"), 255)
    assert (drawn[:10, 10:20] == 0).all()
    assert (drawn == 255).sum() == 700


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.3 0.6 0.4 0.7", "there is no class 2"),
        ("dog 0.3 0.6 0.4 0.7", "is not class x y width height"),
        ("1 12 12 16 15", "are no shares"),
        ("1 0.1 0.25 0.9", "3 numbers after the class"),
        ("1 0.3 0.6 0.4 0.7 0.98", "what a model found"),
        ("1 0.1 0.1 0.9 0.9", "the box reaches to"),  # two corners in place of center and size
        ("1 0.3 0.6 0 0.7", "the box reaches to"),
    ],
)
def test_yolo_that_is_wrong(tmp_path: Path, line: str, said: str) -> None:
    yolo(tmp_path, f"0 0.5 0.5 0.1 0.1\n{line}\n")
    assert "a.txt, line 2" in refused(said, tmp_path).message


def test_yolo_folders_that_are_wrong(tmp_path: Path) -> None:
    file = yolo(tmp_path / "data")
    (tmp_path / "data" / "labels" / "val" / "a.txt").unlink()
    refused("not one picture in .* has a text", file)
    yolo(tmp_path / "data", names="names: [cat, cat]\n")
    refused("names is", file)
    picture(tmp_path / "elsewhere" / "a.png")
    yolo(tmp_path / "data")
    write(file, file.read_text().replace("path: .", f"path: {tmp_path / 'elsewhere'}"))
    assert "leave `path` out" in refused("is outside of", file).hint
    write(file, "names: [cat]\ntrain: images/val\n")
    assert "it has train" in refused("which split", file).hint
    write(file, "names: [cat\n")
    refused("cannot be read", file)


# --- VOC --------------------------------------------------------------------------------------------------------------

OBJECT = (
    "<object><name>dog</name><difficult>{difficult}</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin>"
    "<xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


def voc(root: Path, *corners: Any, name: str = "a", difficult: int = 0, head: str = "") -> Path:
    picture(root / "JPEGImages" / f"{name}.png")
    inner = OBJECT.format(*corners, difficult=difficult) if corners else ""
    size = "<size><width>40</width><height>20</height></size>"
    return write(
        root / "Annotations" / f"{name}.xml",
        f"{head}<annotation><filename>{name}.png</filename>{size}{inner}</annotation>",
    )


def test_voc_where_it_lies(tmp_path: Path) -> None:
    voc(tmp_path, 5, 6, 20, 20)
    voc(tmp_path, 1, 1, 40, 20, name="b", difficult=1)
    voc(tmp_path, name="c")
    expected = {
        "a.png": {"boxes": [{"label": "dog", "box": pytest.approx([0.1, 0.25, 0.5, 1])}], "size": SIZE},
        "b.png": {"boxes": [{"label": "dog", "box": [0, 0, 1, 1], "difficult": True}], "size": SIZE},
        "c.png": {"boxes": [], "size": SIZE},
    }
    assert truths(read_samples(tmp_path)) == expected
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "a 1\nc -1\n")
    write(tmp_path / "ImageSets" / "Main" / "dog_val.txt", "a 1\n")
    assert read_samples(tmp_path).split == "val"
    assert set(truths(read_samples(tmp_path))) == {"a.png", "c.png"}
    (tmp_path / "SegmentationClass").mkdir()
    Image.new("P", SIZE).save(tmp_path / "SegmentationClass" / "a.png")
    found = truths(read_samples(tmp_path))
    assert found["a.png"]["mask"] == tmp_path / "SegmentationClass" / "a.png"
    assert "mask" not in found["c.png"]


def test_voc_beside_its_pictures(tmp_path: Path) -> None:
    voc(tmp_path / "x", 5, 6, 20, 20)
    flat = tmp_path / "flat"
    flat.mkdir()
    (tmp_path / "x" / "Annotations" / "a.xml").rename(flat / "a.xml")
    (tmp_path / "x" / "JPEGImages" / "a.png").rename(flat / "a.png")
    (sample,) = read_samples(flat)
    assert sample.truth["boxes"][0]["label"] == "dog"


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("corners", "head", "said"),
    [
        ((5, 6, 20, "x"), "", "object 1 has no box"),
        ((0.1, 0.2, 0.5, 1), "", "looks like shares"),
        ((20, 6, 5, 20), "", "is not a box"),
        ((5, 6, 20, 200), "", "reaches out of the picture"),
        ((5, 6, 20, 20), BOMB, "has a DOCTYPE"),
        ((5, 6, 20, 20), "<", "cannot be read"),
    ],
)
def test_voc_that_is_wrong(tmp_path: Path, corners: tuple[Any, ...], head: str, said: str) -> None:
    file = voc(tmp_path, *corners, head=head)
    (tmp_path / "Annotations" / "0.xml").write_text("<annotation><filename>a.png</filename></annotation>")
    assert str(file) in refused(said, tmp_path).message


def test_voc_names_nothing_outside(tmp_path: Path) -> None:
    file = voc(tmp_path, 5, 6, 20, 20)
    for name in ("../../secret.png", "/etc/passwd"):
        write(file, file.read_text().replace("a.png", name))
        refused("is not inside", tmp_path)
        voc(tmp_path, 5, 6, 20, 20)


# --- the others -------------------------------------------------------------------------------------------------------


def test_folders_of_splits_are_not_classes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        picture(tmp_path / split / "cat" / "a.png")
    picture(tmp_path / "val" / "dog" / "b.png")
    samples = read_samples(tmp_path, split="val")
    assert (samples.found, samples.split, len(samples)) == (("cat", "dog"), "val", 2)
    refused("has no split 'test'", tmp_path, split="test")
    refused("takes no --images", tmp_path, images=tmp_path)


def test_numbers_to_be_told_in_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((2, 3)), targets=np.array([[0.5, 1], [2, 3]]))
    first, _ = read_samples(tmp_path / "d.npz")
    assert set(first.value) == {"x"}
    np.testing.assert_array_equal(first.truth["target"], [0.5, 1])
    np.savez(tmp_path / "d.npz", x=np.ones((2, 3)), labels=np.eye(2))
    assert "argmax" in refused("one name or index", tmp_path / "d.npz").hint


def test_sounds_and_what_is_said_in_them(tmp_path: Path) -> None:
    from edgekit.datasets.files import write_wav

    write_wav(tmp_path / "a.wav", np.zeros(100), 8000)
    write(tmp_path / "labels.jsonl", '{"file": "a.wav", "transcript": "good day"}\n')
    assert truths(read_samples(tmp_path)) == {"a.wav": {"transcript": "good day"}}
    (tmp_path / "labels.jsonl").unlink()
    write(tmp_path / "labels.csv", "path,transcript\na.wav,good day\n")
    assert truths(read_samples(tmp_path)) == {"a.wav": {"transcript": "good day"}}
    write(tmp_path / "said.jsonl", '{"file": "a.wav", "transcript": "good day"}\n')
    (tmp_path / "labels.csv").unlink()
    assert truths(read_samples(tmp_path / "said.jsonl")) == {"a.wav": {"transcript": "good day"}}


def test_the_size_of_a_picture_is_that_it_is_shown_with(tmp_path: Path) -> None:
    turned = Image.new("RGB", SIZE)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=exif)
    assert picture_size(tmp_path / "a.jpg") == (20, 40)
    write(tmp_path / "b.jpg", "no picture")
    with pytest.raises(InputError, match="cannot be read as an image"):
        picture_size(tmp_path / "b.jpg")


Make = Callable[[Path], Path]
FORMS: dict[str, Make] = {
    "yolo": lambda root: yolo(root).parent,
    "voc": lambda root: voc(root, 5, 6, 20, 20).parents[1],
    "coco": lambda root: coco(root / "coco.json"),
    "table": lambda root: write(root / "t.csv", "path,label\na.png,cat\nb.png,dog\n"),
    "folder": lambda root: picture(root / "cat" / "a.png").parents[1],
}


@pytest.mark.parametrize("form", FORMS)
def test_data_are_known_by_their_content_and_their_labels_held_to_those_there_are(form: str, tmp_path: Path) -> None:
    place = FORMS[form](tmp_path / "data")
    if place.is_file():
        for name in "ab":
            picture(place.parent / f"{name}.png")
    assert reader_of(place) == form
    samples = read_samples(place)
    assert samples.sha256 == read_samples(place).sha256
    file = next(sample.value for sample in samples)
    Image.new("RGB", SIZE, (0, 0, 0)).save(file)
    assert samples.sha256 != read_samples(place).sha256
    refused("there is no label", place, labels=("cow",))
    refused("cannot take 0", place, limit=0)
    refused("there is no folder", place, images=tmp_path / "nowhere")


def test_arrays_a_table_names_that_cannot_be_read_are_left_out_as_pictures_are(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3, np.float32))
    (tmp_path / "b.npy").write_bytes(b"junk")
    (tmp_path / "t.csv").write_text("path,label\na.npy,cat\nb.npy,dog\n")
    samples = read_samples(tmp_path / "t.csv")
    assert [sample.name for sample in samples] == ["a.npy"]
    assert [name for name, _ in samples.skipped] == ["b.npy"]
    assert "no file of arrays" in samples.skipped[0][1]
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(InputError, match="none of 2 files can be read"):
        read_samples(tmp_path / "t.csv")
    (tmp_path / "labels.jsonl").write_text('{"file": "b.npy", "label": "dog"}\n')
    with pytest.raises(InputError, match=r"line 1: .*b\.npy"):
        read_samples(tmp_path / "labels.jsonl")
