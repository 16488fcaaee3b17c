"""Documents as HTML: nothing a file says becomes markup, colors are told apart, numbers stand where they belong."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from edgekit.report import html, markdown, text
from edgekit.report.charts import draw_picture
from edgekit.report.charts.axes import log_scale, scale
from edgekit.report.charts.density import density
from edgekit.report.charts.palette import COLORS, DARK, LIGHT, contrast
from edgekit.report.document import Document, Fields, Figure, Highlights, Notes, Section, Words, table
from edgekit.report.markup import Markup, join, tag
from edgekit.report.pictures import Bar, Bars, Distribution, Distributions, Point, Points, Segment, Span, Spans
from edgekit.report.sections import view, written_view
from edgekit.report.sections.choice import mark_front
from tests.unit.reports import HOSTILE, full_report

VOID = {"meta", "br", "hr", "link"}
NOT_OURS = {"script", "img", "iframe", "object", "embed", "link", "base", "form", "foreignObject", "image", "use"}


class _Reader(HTMLParser):
    """Checks that elements are closed in order, and keeps them and their words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page() -> str:
    return html.render(view(full_report()))


def test_text_is_escaped_in_elements_and_in_attributes_but_markup_is_not() -> None:
    inner = tag("b", "1 < 2")
    assert tag("p", inner, " & ", aria_label='"x"', hidden=True, title=None) == (
        '<p aria-label="&quot;x&quot;" hidden><b>1 &lt; 2</b> &amp; </p>'
    )
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert join("<", Markup("<br>"), None) == "&lt;<br>"
    assert tag("rect", width=1 / 3, x=2.0) == '<rect width="0.333" x="2"></rect>'


def test_hostile_names_of_a_bundle_stay_words(page: str) -> None:
    reader = read(page)
    assert not {name for name, _ in reader.elements} & NOT_OURS
    assert not [key for _, attributes in reader.elements for key in attributes if key.startswith("on")]
    assert HOSTILE in "".join(reader.words)
    assert page.count("<title>") - page.count("</title>") == 0
    assert "<script" not in page


def test_the_page_loads_nothing_and_says_so_to_the_browser(page: str) -> None:
    reader = read(page)
    policies = [a["content"] for name, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [html.POLICY]
    assert html.POLICY.startswith("default-src 'none'")
    links = [value for _, a in reader.elements for key in ("href", "src", "xlink:href") if (value := a.get(key))]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "url(" not in page
    assert "@import" not in page


def test_every_picture_says_what_it_shows_and_has_its_numbers_as_a_table(page: str) -> None:
    reader = read(page)
    for _, attributes in (one for one in reader.elements if one[0] == "svg" and one[1].get("role") == "img"):
        assert attributes["aria-label"]
    figures = page.split("<figure>")[1:]
    assert len(figures) >= 8
    for figure in figures:
        inside = figure.partition("</figure>")[0]
        assert "<svg " in inside
        assert "<caption>" in inside
        assert '<th scope="col"' in inside
        assert '<th scope="row"' in inside


def test_links_of_the_contents_lead_to_sections(page: str) -> None:
    reader = read(page)
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"] for name, a in reader.elements if name == "a"} <= {f"#{one}" for one in ids}
    titles = (
        *("What is shipped", "Warnings (1)", "Choice", "Latency", "Start and memory", "Operations", "Layers", "Size"),
        *("Accuracy", "Machine and method", "Origin"),
    )
    shown = [" ".join(re.sub("<[^>]*>", "", part).split()) for part in re.findall(r"<h2[^>]*>(.*?)</h2>", page)]
    assert tuple(shown) == titles


def test_the_same_record_gives_the_same_page(page: str) -> None:
    report = full_report()
    assert html.render(view(report)) == html.render(view(report))


def test_all_that_a_picture_holds_is_in_the_other_forms_too() -> None:
    document = view(full_report(hostile=False))
    for said in (text.render(document), markdown.render(document).replace("\\", "")):
        for word in (
            "tflite-w8a8 on tflite x1",
            "Trials of the search",
            "0.9850",
            "its kin already lost",
            "Never slower",
        ):
            assert word in said


def test_a_document_of_every_block_is_a_page() -> None:
    rows = [[f"row {i}", "1"] for i in range(12)]
    document = Document(
        "All & more",
        (
            Words("type `edgekit <x>`", "bad"),
            Highlights((("p50", "1 ms", "best 2 ms"),)),
            Notes((("it is noisy", "be quiet"), ("no metric", "`edgekit evaluate`"))),
            Section("A part", (table(["name", "n>"], rows, "Many rows"), Fields((("a", "b"),), "Few"))),
        ),
    )
    shown = html.render(document)
    read(shown)
    assert "<h1>All &amp; more</h1>" in shown
    assert '<p class="answer bad">type <code>edgekit &lt;x&gt;</code></p>' in shown
    assert '<li class="act">it is noisy<span class="remedy">be quiet</span></li>' in shown
    assert '<li>no metric<span class="remedy"><code>edgekit evaluate</code></span></li>' in shown
    assert "<summary>Many rows (12 rows)</summary>" in shown
    assert '<td class="number">1</td>' in shown
    assert text.render(document).splitlines()[-1] == "a  b"


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["day", "night"])
def test_colors_are_told_apart_by_weak_eyes(colors: dict[str, str]) -> None:
    """WCAG 2.2: 4.5 for letters, 3 for what charts are made of."""
    for ground in ("page", "card", "warn-card"):
        for ink in ("text", "quiet"):
            assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
    for ink in ("accent", "bad", "good", "warn"):
        assert contrast(colors[ink], colors["page"]) >= 4.5, ink
    for turn in range(1, COLORS + 1):
        assert contrast(colors[f"c{turn}"], colors["page"]) >= 3, turn
    assert len({colors[f"c{turn}"] for turn in range(1, COLORS + 1)}) == COLORS


def test_contrast_is_what_wcag_defines() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    assert contrast("#123456", "#123456") == 1


def test_the_style_sheet_has_a_color_for_every_name_it_uses(page: str) -> None:
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", page)) - {"own"}
    assert used <= set(LIGHT) == set(DARK)


def test_a_scale_holds_its_values_and_round_ticks() -> None:
    axis = scale([3.0, 17.0])
    assert axis.low < 3 < 17 < axis.high
    assert axis.ticks == (5.0, 10.0, 15.0)
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == 100
    assert axis.place(1e9) == 100
    assert [axis.words(tick) for tick in axis.ticks] == ["5", "10", "15"]
    assert scale([8.0], from_zero=True).low == 0
    flat = scale([0.986, 0.986], least=0.01)
    assert flat.high - flat.low >= 0.01
    assert flat.words(0.985) == "0.985"


def test_a_scale_over_decades_is_logarithmic() -> None:
    axis = log_scale([0.02, 40.0])
    assert axis.is_log
    assert axis.place(0.2) - axis.place(0.02) == pytest.approx(axis.place(20) - axis.place(2))
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert [axis.words(tick) for tick in axis.ticks] == ["0.1", "1", "10"]
    assert not log_scale([1.0, 2.0]).is_log
    assert not log_scale([0.0, 20.0]).is_log


def test_a_density_is_highest_where_most_samples_are() -> None:
    rng = np.random.default_rng(0)
    heights = density([*rng.normal(20, 2, 900), *rng.normal(70, 2, 100)])
    places = np.linspace(0, 100, len(heights))
    assert abs(places[heights.argmax()] - 20) < 2
    assert 0.05 < heights[abs(places - 70) < 2].max() / heights.max() < 0.2
    assert heights[abs(places - 45) < 2].max() < 0.01 * heights.max()
    assert density([50.0] * 30).max() > 0
    assert density([]).max() == 0


def _point(name: str, x: float, y: float, **states: bool) -> Point:
    return Point(name, x, y, 1.0, "g", f"{name}: said", **states)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    points = [
        _point("a", 1, 0.5),
        _point("b", 2, 0.9),
        _point("c", 3, 0.9),
        _point("d", 1, 0.4),
        _point("e", 0.5, 0.99, is_refused=True),
    ]
    assert [p.name for p in mark_front(points) if p.is_front] == ["a", "b"]
    assert [p.name for p in mark_front(points, is_higher_better=False) if p.is_front] == ["d"]


def test_points_stand_by_their_numbers() -> None:
    points = (
        _point("fast", 1, 0.5, is_front=True),
        _point("good", 3, 0.9, is_front=True, is_shipped=True),
        _point("out", 2, 0.1, is_refused=True),
    )
    drawn = draw_picture(Points(points, "ms", "top1"))
    circles = {m[2]: m[1] for m in re.finditer(r'<circle class="point ([^"]*)"[^>]*><title>(\w+)', drawn)}
    assert circles == {"fast": "c1 front", "good": "c1 front shipped", "out": "c1 refused"}
    places = {
        m[3]: (float(m[1]), float(m[2])) for m in re.finditer(r'cx="([\d.]+)%" cy="([\d.]+)%"[^>]*><title>(\w+)', drawn)
    }
    assert places["fast"][0] < places["out"][0] < places["good"][0]
    assert places["good"][1] < places["fast"][1] < places["out"][1]
    assert [m[1] for m in re.finditer(r"<li><strong>(\w+)</strong>", drawn)] == ["fast", "good"]


def test_parts_of_bars_are_as_wide_as_their_share() -> None:
    bars = (Bar("whole", (Segment(30, "a", "a 30"), Segment(10, "b", "b 10")), "40"), Bar("none", (), "no reason"))
    drawn = draw_picture(Bars(bars, "ms", ("a", "b")))
    (x1, w1), (x2, w2) = _rects(drawn)
    assert (x1, x2) == (0, pytest.approx(w1))
    assert w1 == pytest.approx(3 * w2, rel=1e-3)
    assert "no reason" in drawn
    assert drawn.count('<rect class="part') == 2
    named = draw_picture(Bars(bars, "ms", ("a", "b", "in another chart")))
    assert named.count("<li>") == 2
    assert "in another chart" not in named


def _rects(drawn: str) -> list[tuple[float, float]]:
    found = re.findall(r'<rect class="part [^"]*" x="([\d.]+)%" width="([\d.]+)%"', drawn)
    return [(float(x), float(width)) for x, width in found]


def test_intervals_reach_from_end_to_end_with_the_reference_through_them() -> None:
    spans = (Span("one", 0.9, 0.95, 0.99, "int8", "0.95"), Span("two", 0.97, 0.98, 0.985, "fp32", "0.98"))
    drawn = draw_picture(Spans(spans, "top1", 0.01, 0.98))
    ends = [(float(a), float(b)) for a, b in re.findall(r'class="span c\d" x1="([\d.]+)%" x2="([\d.]+)%"', drawn)]
    wide = [b - a for a, b in ends if b > a]
    assert wide[0] == pytest.approx(6 * wide[1], rel=1e-2)
    assert drawn.count('class="reference"') == 2
    assert '<ul class="legend">' in drawn


def test_a_far_tail_is_an_arrow_at_the_end_of_the_axis() -> None:
    calm = Distribution("calm", tuple(np.linspace(1.0, 1.2, 200)), "a", "said")
    wild = Distribution("wild", (*np.linspace(1.0, 1.2, 195), *([90.0] * 5)), "a", "said")
    assert "beyond" not in draw_picture(Distributions((calm,), "ms"))
    drawn = draw_picture(Distributions((calm, wild), "ms"))
    assert drawn.count('class="beyond"') == 1
    assert drawn.count('class="mark p99"') == 1


@pytest.mark.parametrize(
    ("ratio", "versus", "tone", "words"),
    [
        (0.5, "faster", "good", "2.00x as fast as the best fp32"),
        (1.3, "slower", "bad", "SLOWER than the best fp32"),
        (1.0, "unclear", "open", "cannot tell from chance"),
    ],
)
def test_the_promise_is_held_against_the_numbers(ratio: float, versus: str, tone: str, words: str) -> None:
    summary = view(full_report(ratio=ratio, versus=versus)).blocks[0]
    assert isinstance(summary, Section)
    promise, verdict = summary.blocks[:2]
    assert isinstance(promise, Words)
    assert isinstance(verdict, Words)
    assert words in promise.text
    assert "top1 is 0.9850 (0.9770 to 0.9920) where onnx-fp32 has 0.9860 on the same 1000 samples" in promise.text
    assert verdict.tone == tone


def test_what_was_written_is_told_with_what_is_missing() -> None:
    said = text.render(written_view(full_report(), "page.html"))
    assert "report  page.html" in said
    assert "Not on it" not in said
    bare = replace(full_report(), profile=None, evaluation=None)
    assert "`edgekit profile full.edge --ops -o profile.json`" in text.render(written_view(bare, "page.html"))


def test_a_figure_without_a_picture_is_its_table_and_caption() -> None:
    figure = Figure(Bars((Bar("a", (), "1"),), "ms", ()), table(["name"], [("a",)]), "Title", "caption `x`")
    assert text.render(Document("d", (figure,))).splitlines() == ["d", "", "Title", "name", "a", "", "caption `x`"]
    assert markdown.render(Document("d", (figure,))).splitlines()[2:5] == ["## Title", "", "| name |"]
