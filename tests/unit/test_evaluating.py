"""Evaluating beside the source: what is lost, whether that is chance, and what must not be wrong in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from edgekit import evaluate
from edgekit.bundle import BundleWriter, Golden
from edgekit.cli import run
from edgekit.errors import ArtifactError, InputError
from edgekit.evaluating.asking import ask, ask_session
from edgekit.evaluating.data import Question, open_data
from edgekit.evaluating.pairing import held_against
from edgekit.evaluation import evaluate_variants
from edgekit.loading import load
from edgekit.report import text
from edgekit.report.evaluation_view import view
from edgekit.sources import source_sha256
from tests.unit.test_evaluation import BEST, LABELS, SHADES, SIGNATURE, color_net, processing

COUNT = 40


def confused(share: float) -> np.ndarray:
    """Mixing that answers blue where there is more than `share` of blue beside green."""
    mixing = np.eye(3)
    mixing[2, 2] = 1 / share
    return mixing


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """A bundle whose w8a8 is worse, and the source it says it was made of beside it."""
    rng = np.random.default_rng(0)
    feeds = {"x": rng.random((1, 3, 8, 8), "float32")}
    golden = Golden((feeds,), ({"y": feeds["x"].mean((2, 3)), "map": feeds["x"]},))
    source = color_net(tmp_path / "colors.onnx", np.eye(3))
    with BundleWriter(tmp_path / "colors.edge") as writer:
        for precision, mixing in (("fp32", np.eye(3)), ("w8a8", confused(0.5))):
            file = color_net(writer.stage / f"{precision}.onnx", mixing)
            facts = {"tolerance": {"y": 9.0, "map": 9.0}}
            writer.add(name=f"onnx-{precision}", format="onnx", precision=precision, files=[file], facts=facts)
        said = {"name": source.name, "kind": "onnx", "sha256": source_sha256(source)}
        settings: dict[str, Any] = {"target": "host", "golden": golden, "statistics": {}}
        writer.commit(
            name="colors",
            signature=SIGNATURE,
            processing=processing(*BEST).to_json(),
            provenance={"source": said},
            **settings,
        )
    return tmp_path / "colors.edge"


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Forty pictures in a table: of the green ones half have so much blue that w8a8 is wrong about them."""
    rows = ["path,label"]
    for index in range(COUNT):
        name = LABELS[index % 3]
        shade = list(SHADES[name])
        if name == "green" and index % 2:
            shade[2] = 150
        Image.new("RGB", (8, 8), tuple(shade)).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,{name}")
    (tmp_path / "test.csv").write_text("\n".join(rows))
    return tmp_path / "test.csv"


def test_the_source_beside_the_bundle_is_asked_too(colors: Path, shades: Path) -> None:
    found = evaluate_variants(colors, shades, source="auto")
    assert found.source is not None
    assert (found.source.variant, found.source.value) == ("source colors.onnx", 1.0)
    same, worse = (one.versus for one in found.evaluations)
    assert same is not None
    assert worse is not None
    assert (same.base, same.difference, same.verdict, same.p) == ("source colors.onnx", 0, "not measurably worse", 1)
    wrong = sum(index % 2 for index in range(COUNT) if LABELS[index % 3] == "green")
    assert worse.difference == pytest.approx(-wrong / COUNT)
    assert worse.low is not None
    assert worse.high is not None
    assert worse.low < worse.difference < worse.high < 0
    assert (worse.verdict, worse.p) == ("worse", pytest.approx(2 / 2**wrong))
    page = text.render(view(found))
    assert "vs source" in page
    assert "Mistakes of onnx-fp32" not in page
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["source"]["value"] == 1.0
    assert [row["versus"]["verdict"] for row in document["variants"]] == ["not measurably worse", "worse"]
    assert document["variants"][1]["confusion"]["cells"] == [[0, 0, 14], [1, 1, 6], [1, 2, 7], [2, 2, 13]]


def test_a_source_that_is_gone_or_another_is_said_to_be(colors: Path, shades: Path) -> None:
    source = colors.with_name("colors.onnx")
    color_net(source, np.eye(3) * 2)
    changed = evaluate_variants(colors, shades, source="auto")
    assert changed.source is None
    assert "no longer what the bundle was made of" in changed.source_note
    versus = changed.evaluations[1].versus
    assert versus is not None
    assert versus.base == "onnx-fp32"  # instead
    named = evaluate_variants(colors, shades, source=source)
    assert named.source is not None
    source.unlink()
    assert "is not beside it" in evaluate_variants(colors, shades, source="auto").source_note
    assert "--source names it" in text.render(view(evaluate_variants(colors, shades, source="auto")))
    assert evaluate_variants(colors, shades).source_note == ""
    with pytest.raises(ArtifactError, match="does not exist"):
        evaluate_variants(colors, shades, source=source)


def test_what_may_be_lost_is_a_gate(colors: Path, shades: Path) -> None:
    found = evaluate_variants(colors, shades, source="auto", max_drop=1)
    assert [one.versus.is_within for one in found.evaluations if one.versus] == [True, False]
    assert found.unmet == (f"onnx-w8a8 loses {7 / COUNT:.4f} of top1 against source colors.onnx, 0.0100 may be lost",)
    assert "too much is lost" in text.render(view(found))
    assert evaluate_variants(colors, shades, max_drop="20%").unmet == ()
    few = evaluate_variants(colors, shades, source="auto", max_drop=1, num_samples=8, seed=2)
    assert few.evaluations[1].value < 1
    assert few.unmet == ()  # so few of eight may be chance
    assert "do not tell that from chance" in few.evaluations[1].warnings[0]
    with pytest.raises(InputError, match="something to lose against"):
        evaluate_variants(colors, shades, variant="onnx-w8a8", max_drop=1)
    with pytest.raises(InputError, match="no percentage"):
        evaluate_variants(colors, shades, max_drop="much")


def test_the_command_fails_where_too_much_is_lost(
    colors: Path, shades: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(colors), "--data", str(shades)]
    assert run([*words, "--max-drop", "30"]) == 0
    assert "not measurably worse" in capsys.readouterr().out
    assert run([*words, "--max-drop", "1", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["max_drop"] == 0.01
    assert "onnx-w8a8 loses 0.1750 of top1" in err
    assert run([*words, "--source", "none", "--limit", "5", "--strict"]) == 0
    assert "vs fp32" in capsys.readouterr().out


def test_figures_that_are_no_shares_of_samples_are_drawn_in_pairs(colors: Path, shades: Path) -> None:
    found = evaluate_variants(colors, shades, metric="f1", source="auto", max_drop=1)
    versus = found.evaluations[1].versus
    assert versus is not None
    assert "paired bootstrap" in versus.method
    assert (versus.verdict, versus.p, versus.is_within) == ("worse", None, False)
    same = found.evaluations[0].versus
    assert same is not None
    assert (same.low, same.high, same.verdict) == (0, 0, "not measurably worse")


def test_samples_that_cannot_be_read_are_listed_and_left_out(colors: Path, shades: Path) -> None:
    (shades.parent / "3.png").write_bytes(b"no picture")
    (shades.parent / "5.png").write_bytes((shades.parent / "5.png").read_bytes()[:40])
    found = evaluate_variants(colors, shades, source="auto")
    for one in (*found.evaluations, found.source):
        assert one is not None
        assert one.count == COUNT - 2
        assert [name for name, _ in one.failed] == ["3.png", "5.png"]
    assert "onnx-fp32 could not answer 3.png" in text.render(view(found))
    with pytest.raises(InputError, match=r"sample 3\.png"):
        evaluate(colors, shades, strict=True)
    for index in range(COUNT):
        (shades.parent / f"{index}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"sample 0\.png"):
        evaluate(colors, shades)


def test_models_that_fail_at_different_samples_are_compared_on_those_both_answered(shades: Path) -> None:
    class Picky:
        def __init__(self, refuses: int, wrong: int) -> None:
            self.refuses, self.wrong, self.place = refuses, wrong, -1
            self.processing = processing()

        def predict(self, value: Any) -> Any:
            self.place += 1
            if self.place == self.refuses:
                raise InputError("not this one")
            return {"label": LABELS[(self.place + (self.place == self.wrong)) % 3], "score": 1.0}

    examined = open_data(Question(shades))
    one, other = ask(Picky(3, 9), examined, "one", None), ask(Picky(9, 3), examined, "other", None)
    assert (one.evaluation.value, other.evaluation.value) == (38 / 39, 38 / 39)
    versus = held_against(one, other, examined.metric).versus
    assert versus is not None
    assert (versus.count, versus.difference) == (38, 0)


def test_the_metric_widens_what_a_bundle_answers(colors: Path, shades: Path) -> None:
    """A bundle that names the best class only is asked for all of them where the metric needs their scores."""
    examined = open_data(Question(shades, "auc"))
    with load(colors) as session:
        session.processing = processing({"op": "select", "name": "y"}, {"op": "argmax"})
        found = ask_session(session, colors, examined, None).evaluation
    assert found.value == 1.0
    assert set(found.per_class) == set(LABELS)


def test_masks_in_another_order_than_the_model_s_are_refused(colors: Path, tmp_path: Path) -> None:
    data = tmp_path / "masks"
    data.mkdir()
    Image.new("RGB", (8, 8)).save(data / "p.png")
    Image.new("L", (8, 8)).save(data / "m.png")
    (data / "labels.jsonl").write_text('{"file": "p.png", "mask": "m.png"}\n')
    (data / "dataset.yaml").write_text('labels: ["red", "blue", "green"]\ntrain: "."\ntest: "."\n')
    with pytest.raises(InputError, match="class 1 of the masks is 'blue', and of the model 'green'"):
        evaluate(colors, data, metric="miou")


def test_folders_of_splits_are_tested_on_what_was_not_trained_on(colors: Path, shades: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for split, place in (("train", 0), ("val", 1)):
        (root / split / "red").mkdir(parents=True)
        shutil.copyfile(shades.parent / f"{place}.png", root / split / "red" / "a.png")
    found = evaluate(colors, root)
    assert (found.split, found.count, found.value) == ("val", 1, 0.0)
    shutil.rmtree(root / "val")
    with pytest.raises(InputError, match="which split"):
        evaluate(colors, root)


def test_a_model_without_names_for_its_classes(shades: Path, tmp_path: Path) -> None:
    """Trainers number folders by name; where that cannot be, nothing is guessed."""
    net = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> m (float[N,3] x) => (float[N,3] y) { y = Identity(x) }'
    )
    (tmp_path / "m.onnx").write_bytes(net.SerializeToString())
    rows = ["a,b,c,label", "1,0,0,cat", "0,1,0,cow", "0,0,1,dog", "0,1,0,dog"]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    found = evaluate(tmp_path / "m.onnx", tmp_path / "m.csv")
    assert found.value == 0.75
    assert "taken to be those of the data, by name: cat, cow, dog" in found.warnings[0]
    (tmp_path / "m.csv").write_text("\n".join(rows[:3]))
    with pytest.raises(InputError, match=r"outputs of size \[3\], and the data have 2: cat, cow"):
        evaluate(tmp_path / "m.onnx", tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("a,b,c,label\n1,0,0,0\n0,1,0,1\n")
    assert evaluate(tmp_path / "m.onnx", tmp_path / "m.csv").warnings == ()
