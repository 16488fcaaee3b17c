"""The report in a real browser: on a phone and on a desk, by day and by night, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekit
from edgekit.report import html
from edgekit.report.charts.palette import DARK, LIGHT
from edgekit.report.sections import view
from edgekit.reporting import report
from tests.browser import Browser, Page, find_browser
from tests.unit.reports import full_report

pytestmark = pytest.mark.web

SCREENS = [(360, 800), (1280, 900)]

WIDER = """(() => {
  const wide = document.scrollingElement.scrollWidth - innerWidth;
  const seen = [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .hidden, .skip'));
  const out = seen.filter(e => e.getBoundingClientRect().right > innerWidth + 1);
  return [wide, out.map(e => e.outerHTML.slice(0, 80))];
})()"""
"""By how much the page is wider than the screen, and what stands out of it."""

TINY = """[...document.querySelectorAll('svg text, td, th, p, li, dd, dt, span')]
  .filter(e => e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 12)
  .map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        pytest.skip("there is no chromium on the path: apt-get install chromium")
    with Browser(executable) as started:
        yield started


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of everything there is to show, of names that would run scripts."""
    path = tmp_path_factory.mktemp("page") / "hostile.html"
    path.write_text(html.render(view(full_report())), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, emotion_bundle: Path) -> Path:
    """The report of a trained model, measured here with operations and no longer than a page needs."""
    brief = {"rounds": 2, "min_samples": 10, "min_time_s": 0.01, "warmup_s": 0.01, "cold_starts": 1}
    measured = edgekit.profile(emotion_bundle, runtime="tflite", threads=1, ops=True, **brief)
    page = tmp_path_factory.mktemp("real") / "report.html"
    page.write_text(html.render(view(report(emotion_bundle, profile=measured))), encoding="utf-8")
    return page


@pytest.mark.parametrize("dark", [False, True], ids=["day", "night"])
@pytest.mark.parametrize("screen", SCREENS, ids=["phone", "desk"])
@pytest.mark.parametrize("page", ["hostile", "real"])
def test_the_page_fits_the_screen_asks_nobody_and_complains_of_nothing(
    request: pytest.FixtureRequest, browser: Browser, page: str, screen: tuple[int, int], dark: bool, tmp_path: Path
) -> None:
    path: Path = request.getfixturevalue(page)
    shown = Page(browser, path, *screen, dark=dark)
    assert shown.evaluate("innerWidth") == screen[0]
    assert shown.evaluate(WIDER) == [0, []]
    assert shown.evaluate(TINY) == []
    assert shown.evaluate("document.title") != "owned"
    colors = DARK if dark else LIGHT
    red, green, blue = re.findall(r"\d+", shown.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert f"#{int(red):02x}{int(green):02x}{int(blue):02x}" == colors["page"]
    assert shown.evaluate(
        "[...document.querySelectorAll('.chart svg')].every(e => e.getBoundingClientRect().width > 5)"
    )
    shown.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert shown.evaluate(WIDER) == [0, []], "with all tables open"
    assert shown.picture(tmp_path / "page.png", whole=False).stat().st_size > 10_000
    assert (shown.complaints, shown.requests) == ([], [])


def test_a_page_that_would_load_or_run_something_is_noticed(browser: Browser, hostile: Path, tmp_path: Path) -> None:
    """The tests above would see it: the same page with a picture from elsewhere, a script, and a wide block."""
    planted = (
        '<img src="https://example.org/x.png"><script>document.title="owned"</script><div style="width:2000px">x</div>'
    )
    page = tmp_path / "planted.html"
    page.write_text(hostile.read_text().replace("</main>", planted + "</main>"))
    shown = Page(browser, page, 1280, 900)
    assert len(shown.complaints) == 2
    assert all("Content Security Policy" in said for said in shown.complaints)
    assert shown.evaluate("document.title") != "owned"
    assert shown.evaluate(WIDER)[0] > 0
    without = tmp_path / "without.html"
    without.write_text(page.read_text().replace("img-src data:", "img-src *"))
    shown = Page(browser, without, 1280, 900)
    assert "https://example.org/x.png" in shown.requests


def test_on_paper_tables_are_open_and_the_page_is_by_day(browser: Browser, hostile: Path) -> None:
    shown = Page(browser, hostile, 1280, 900, dark=True)
    shown.print_media()
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = "[...document.querySelectorAll('details table')].filter(e => !e.getBoundingClientRect().height).length"
    assert shown.evaluate(hidden) == 0
    assert shown.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
