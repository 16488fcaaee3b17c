"""``edgekit evaluate``: the table, JSON, the choice of variants, exit codes; and a real model on a real face."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Typed

Type = Callable[..., Typed]


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """Three samples for the null engine, which answers zeros."""
    np.savez(tmp_path / "numbers.npz", x=np.ones((3, 4), "float32"), labels=np.array([0, 1, 0]))
    return tmp_path / "numbers.npz"


@pytest.mark.parametrize("chosen", [(), ("--precision", "fp32"), ("--variant", "null-fp32", "--runtime", "null")])
def test_what_cannot_be_judged_says_why(typed: Type, null_bundle: Path, numbers: Path, chosen: tuple[str, ...]) -> None:
    code, out, err = typed("evaluate", null_bundle, "--data", numbers, "--metric", "map50", "--json", *chosen)
    assert (code, out) == (3, "")
    assert 'map50 needs "boxes"' in err
    code, out, err = typed("evaluate", null_bundle, "--data", numbers, "--metric", "miou", "--json", *chosen)
    assert (code, out) == (3, "")
    assert 'miou needs "mask" or "segments"' in err


def test_arrays_are_scores_where_a_bundle_has_no_processing(typed: Type, null_bundle: Path, numbers: Path) -> None:
    code, out, _ = typed("evaluate", null_bundle, "--data", numbers, "--json")
    (row,) = json.loads(out)["variants"]
    assert code == 0
    assert row["value"] == pytest.approx(2 / 3)  # zeros: the first class, always
    assert (row["interval"]["low"], row["interval"]["high"]) == pytest.approx((0.2077, 0.9385), abs=1e-4)


def test_every_variant_of_a_real_bundle_side_by_side(
    typed: Type, emotion_bundle: Path, face_image: Path, tmp_path: Path
) -> None:
    for label in ("happy", "sad"):
        (tmp_path / "faces" / label).mkdir(parents=True)
        shutil.copyfile(face_image, tmp_path / "faces" / label / "face.png")
    code, out, _ = typed("evaluate", emotion_bundle, "--data", tmp_path / "faces", "-o", tmp_path / "r.md")
    assert code == 0
    assert "vs fp32" in out
    assert (tmp_path / "r.md").read_text().startswith("# Evaluation of")
    assert typed("evaluate", emotion_bundle, "--data", tmp_path / "faces", "-o", tmp_path / "r.md").code == 3
    code, out, _ = typed("evaluate", emotion_bundle, "--data", tmp_path / "faces", "--json")
    document = json.loads(out)
    assert (code, document["schema"], document["version"]) == (0, "edgekit.evaluation", 2)
    assert len(document["variants"]) >= 2
    for row in document["variants"]:
        # The one face smiles: right in one folder, wrong in the other, in whatever precision.
        assert (row["value"], row["per_class"]) == (0.5, {"happy": 1.0, "sad": 0.0})
    code, out, _ = typed("evaluate", emotion_bundle, "--data", tmp_path / "faces", "--precision", "int8", "--json")
    assert {row["precision"] for row in json.loads(out)["variants"]} == {"w8a8"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("evaluate", "BUNDLE"), 2),
        (("evaluate", "BUNDLE", "--data", "DATA", "--variant", "a", "--precision", "fp32"), 2),
        (("evaluate", "BUNDLE", "--data", "DATA", "--num-samples", "0"), 2),
        (("evaluate", "BUNDLE", "--data", "no-such-data"), 3),
        (("evaluate", "no-such.edge", "--data", "DATA"), 3),
        (("evaluate", "BUNDLE", "--data", "DATA", "--metric", "best"), 4),
        (("evaluate", "BUNDLE", "--data", "DATA", "--precision", "w2"), 4),
        (("evaluate", "BUNDLE", "--data", "DATA", "--variant", "none"), 4),
        (("evaluate", "BUNDLE", "--data", "DATA", "--runtime", "onnx"), 4),
    ],
)
def test_exit_codes(typed: Type, null_bundle: Path, numbers: Path, arguments: tuple[str, ...], code: int) -> None:
    places = {"BUNDLE": null_bundle, "DATA": numbers}
    found = typed(*(places.get(word, word) for word in arguments))
    assert (found.code, found.out) == (code, "")
    assert "Traceback" not in found.err
