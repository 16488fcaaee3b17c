"""Renderers: the same document as text, as markdown and on a terminal; records as JSON."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from edgekit.report import json as json_report
from edgekit.report import markdown, text
from edgekit.report.document import Document, Fields, Notes, table
from edgekit.report.prediction_view import view as prediction_view
from edgekit.report.units import mebibytes, megabytes, milliseconds, percent, ratio

DOCUMENT = Document(
    "A [title] with *signs*",
    (
        table(["name", "p50 ms>"], [("one|two", "1.5"), ("three_[red]", "10.25")], "Numbers"),
        Fields((("cpu", "a <cpu>"), ("cores", "2"))),
        Notes((("it is noisy", "be quiet"), ("no more", "")), "Warnings"),
    ),
)


def test_plain_text_aligns_and_keeps_every_word() -> None:
    lines = text.render(DOCUMENT).splitlines()
    assert lines[0] == "A [title] with *signs*"
    assert lines[3:6] == ["name         p50 ms", "one|two         1.5", "three_[red]   10.25"]
    assert "cpu    a <cpu>" in lines
    assert lines[-3:] == ["- it is noisy", "  -> be quiet", "- no more"]


def test_markdown_escapes_and_marks_numbers() -> None:
    lines = markdown.render(DOCUMENT).splitlines()
    assert lines[0] == r"# A \[title] with \*signs\*"
    assert r"| one\|two | 1.5 |" in lines
    assert "| --- | ---: |" in lines
    assert "- it is noisy **Remedy:** be quiet" in lines
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in rows}) == 1


def _drawn(document: Document, width: int) -> str:
    target = io.StringIO()
    text.draw(document, Console(file=target, force_terminal=True, width=width, color_system="standard"))
    return target.getvalue()


def test_terminal_shows_the_same_words_and_takes_nothing_for_markup() -> None:
    shown = _drawn(DOCUMENT, 100)
    for word in ("three_[red]", "10.25", "be quiet", "a <cpu>"):
        assert word in shown
    assert "\x1b[" in shown


def test_no_color_is_honored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[33" not in _drawn(DOCUMENT, 100)


def test_narrow_terminals_fold_sentences_and_headings_but_no_names() -> None:
    why = "a reason that is far too long for this terminal"
    narrow = Document("t", (table(["variant", "largest error>", "why"], [("openvino-w8a8", "1.25", why)]),))
    rows = re.sub(r"\x1b\[[0-9;]*m", "", _drawn(narrow, 40)).splitlines()
    assert any(row.startswith("openvino-w8a8") and " 1.25" in row for row in rows)
    assert not any("largest error" in row for row in rows)
    first = next(row for row in rows if "1.25" in row).index("a reason")
    assert "".join("".join(row[first:].split()) for row in rows).endswith("".join(why.split()))


def test_what_is_wider_than_the_terminal_is_wrapped_and_not_cut_off() -> None:
    wide = Document("t", (table([f"c{i}>" for i in range(12)], [[str(1000 + i) for i in range(12)]]),))
    shown = _drawn(wide, 30)
    assert all(str(1000 + i) in shown for i in range(12))


def test_json_has_schema_and_version_first_and_no_nan() -> None:
    record = {"a": math.nan, "b": [np.float32(0.5), np.array([1, 2])], "c": Path("x"), "d": math.inf}
    shown = json_report.render(record, schema="edgekit.thing")
    assert json.loads(shown) == {
        "schema": "edgekit.thing", "version": 1, "a": None, "b": [0.5, [1, 2]], "c": "x", "d": None,
    }  # fmt: skip
    assert shown.index("schema") < shown.index('"a"')


def test_json_keeps_the_version_a_record_carries() -> None:
    shown = json.loads(json_report.render({"schema": "own", "version": 7}, schema="edgekit.thing"))
    assert (shown["schema"], shown["version"]) == ("own", 7)


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (milliseconds(3.2), "0.0032"),
        (milliseconds(1058.0), "1.058"),
        (milliseconds(31_600.0), "31.60"),
        (milliseconds(None), "-"),
        (megabytes(229_700), "229.7 kB"),
        (megabytes(13_900_000), "13.90 MB"),
        (mebibytes(53_477_376), "51"),
        (percent(0.125), "12%"),
        (ratio(None), "-"),
    ],
)
def test_units(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_predictions_show_label_and_score_or_the_tensor() -> None:
    answers = [
        {"input": "a.png", "answer": [{"label": "happy", "score": 0.91, "index": 3}]},
        {"input": "b.png", "answer": {"label": "sad", "score": 0.5, "index": 4}},
        {"input": "c.npy", "answer": {"y": np.zeros((1, 20), "float32")}},
    ]
    shown = text.render(
        prediction_view({"model": "m.edge", "variant": "tflite-fp32", "runtime": "tflite", "answers": answers})
    )
    assert "a.png  happy  0.9100      3" in shown
    assert "b.png  sad    0.5000      4" in shown
    assert "float32[1x20] [0., 0., 0., 0., ..., 0., 0., 0., 0.]" in shown
