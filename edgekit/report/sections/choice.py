"""The candidates by what they cost and what they are worth: the trials of `optimize`, or what was measured now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from edgekit.registry import METRICS
from edgekit.report.document import Block, Figure, Notes, Section, Words, table
from edgekit.report.pictures import Point, Points
from edgekit.report.sections.shipped import ALIKE_DB, facts_of, missing, place, shipped_measurement
from edgekit.report.units import dash, mebibytes, megabytes, milliseconds
from edgekit.reporting import Optimization, Report, Trial

__all__ = ["choice_section", "mark_front"]

_NOISE = "signal to noise against the source, dB"


@dataclass(frozen=True)
class _Worth:
    """What candidates are judged by beside their latency."""

    title: str
    values: dict[str, float]
    is_higher_better: bool = True
    least: float = 0.0


def choice_section(report: Report) -> Section:
    """Latency and worth of each, with the front."""
    if report.optimization is not None:
        return Section("Choice", tuple(_of_trials(report)))
    if report.profile is None or not report.profile.measured:
        note = missing("No latency was measured, so candidates cannot be compared.", f"edgekit profile {place(report)}")
        return Section("Choice", (note,))
    worth = _worth(report)
    if worth is None:
        note = missing(
            "How good the answers are is not known, so there is only latency to choose by.",
            f"edgekit report {place(report)} --data DATA -o report.html",
        )
        return Section("Choice", (note,))
    return Section("Choice", tuple(_of_profile(report, worth)))


def _of_profile(report: Report, worth: _Worth) -> Iterable[Block]:
    assert report.profile is not None
    own = shipped_measurement(report)
    points, rows = [], []
    for m in report.profile.measured:
        if m.latency is None or m.candidate.variant not in worth.values:
            continue
        value, c = worth.values[m.candidate.variant], m.candidate
        figures = _figures(m.p50_us, value, c.size_bytes, worth)
        interval = m.latency.interval
        point = Point(
            c.title, m.p50_us / 1000, _drawn(value, worth), c.size_bytes, c.runtime, f"{c.title}: {figures}",
            is_shipped=m is own, interval=(interval.low / 1000, interval.high / 1000) if interval else None,
        )  # fmt: skip
        points.append(point)
        rows.append(
            (c.title, milliseconds(m.p50_us), f"{value:.4f}", megabytes(c.size_bytes), mebibytes(m.peak_rss_bytes))
        )
    points = mark_front(points, worth.is_higher_better)
    marks = ["shipped" if p.is_shipped else "on the front" if p.is_front else dash for p in points]
    marked = [(*row, mark) for row, mark in zip(rows, marks, strict=True)]
    headings = ["candidate", "p50 ms>", f"{worth.title}>", "files>", "RSS MiB>", ""]
    picture = Points(tuple(points), "p50 latency, ms", worth.title, worth.is_higher_better, worth.least)
    yield Figure(picture, table(headings, marked, "Candidates by latency and worth"), caption=_caption(points, worth))
    yield missing(
        "These files were converted, not searched for.", f"edgekit optimize MODEL -o {place(report)} --target host"
    )


_STAGES = " Finalists were timed side by side, others as long as they took part; the table's front counts memory too."


def _caption(points: Sequence[Point], worth: _Worth) -> str:
    said = [
        "Every circle is a file with an engine and a number of threads; its area is the size of the files, its color "
        "the engine."
    ]
    if any(p.is_shipped for p in points):
        said.append("The one with a thick outline is shipped.")
    if sum(p.is_front for p in points) > 1:
        said.append("Along the dashed line nothing drawn is both faster and better; its circles have numbers.")
    elif any(p.is_front for p in points):
        said.append("Nothing drawn that was not refused is faster or better than number 1.")
    if _is_noise(worth) and any(value > ALIKE_DB for value in worth.values.values()):
        said.append(f"More than {ALIKE_DB:.0f} dB is drawn as {ALIKE_DB:.0f}.")
    return " ".join(said)


def _is_noise(worth: _Worth) -> bool:
    return worth.title == _NOISE


def _figures(us: float, value: float, size_bytes: int | None, worth: _Worth) -> str:
    judged = f"{value:.1f} dB" if _is_noise(worth) else f"{worth.title} {value:.4f}"
    return f"{milliseconds(us)} ms, {judged}, {megabytes(size_bytes)}"


def _drawn(value: float, worth: _Worth) -> float:
    return min(value, ALIKE_DB) if _is_noise(worth) else value


def _worth(report: Report) -> _Worth | None:
    """The best that is known of how good each variant is."""
    names = [str(variant["name"]) for variant in report.inspection.variants]
    if report.evaluation is not None:
        rows = report.evaluation.evaluations
        return _Worth(rows[0].metric, {row.variant: row.value for row in rows}, rows[0].is_higher_better, least=0.01)
    facts = {name: facts_of(report, name) for name in names}
    judged = {name: f["accuracy"] for name, f in facts.items() if f.get("accuracy")}
    if judged:
        first = next(iter(judged.values()))
        values = {name: float(accuracy["value"]) for name, accuracy in judged.items()}
        return _Worth(
            f"{first['metric']} when converted", values, bool(first.get("is_higher_better", True)), least=0.01
        )
    noise = {name: (f.get("parity") or {}).get("sqnr_db") for name, f in facts.items()}
    known = {name: float(db) for name, db in noise.items() if db is not None}
    return _Worth(_NOISE, known) if known else None


def _of_trials(report: Report) -> Iterable[Block]:
    assert report.optimization is not None
    search = report.optimization
    words = [f"Chosen by `edgekit optimize` for {search.objective}, out of {len(search.trials)} trials"]
    if search.seconds is not None:
        words.append(f"in {search.seconds:.0f} s")
    if search.is_cut:
        words.append("where the budget ended it")
    if search.metric and search.source_value is not None:
        lost = "" if search.max_drop is None else f", of which {search.max_drop:.4g} may be lost"
        words.append(f"the source's {search.metric} is {search.source_value:.4f}{lost}")
    yield Words(f"{', '.join(words)}.")
    worth = _trial_worth(search)
    points = [point for trial in search.trials if (point := _point(trial, worth)) is not None]
    headings = ["trial", "status", "p50 ms>", f"{worth.title}>", "samples>", "files>", "RSS MiB>", "front", "reason"]
    trials = table(headings, [_row(trial, worth) for trial in search.trials], "Trials of the search")
    if points:
        points = mark_front(points, worth.is_higher_better)
        picture = Points(tuple(points), "p50 latency, ms", worth.title, worth.is_higher_better, worth.least)
        hollow = " Hollow ones were refused: the table has the reasons." if any(p.is_refused for p in points) else ""
        left, count = len(search.trials) - len(points), len(search.trials)
        other = f" {left} of {count} trials were not timed or not judged: the table says why." if left else ""
        yield Figure(picture, trials, caption=_caption(points, worth) + hollow + other + _STAGES)
    else:
        yield trials
    if search.notes:
        yield Notes(tuple((note, "") for note in search.notes), "Notes of the search")


def _trial_worth(search: Optimization) -> _Worth:
    """By the metric, of those judged on all the data; else by signal to noise.

    What fell out early was judged on a share: such figures are near enough to halve by, but not to draw side by side.
    """
    most = max((t.metric_count for t in search.trials if t.metric_count is not None), default=None)
    values = {t.title: t.metric_value for t in search.trials if t.metric_value is not None and t.metric_count == most}
    if not search.metric or not values:
        noise = {t.title: t.sqnr_db for t in search.trials if t.sqnr_db is not None}
        return _Worth(_NOISE, noise)
    is_known = search.metric in METRICS.names()
    return _Worth(search.metric, values, METRICS.get(search.metric).is_higher_better if is_known else True, least=0.01)


def _point(trial: Trial, worth: _Worth) -> Point | None:
    value = worth.values.get(trial.title)
    if trial.p50_us is None or value is None:
        return None
    interval = trial.interval_us
    why = "" if trial.status == "shipped" else f"; {trial.status}{': ' + trial.reason if trial.reason else ''}"
    figures = _figures(trial.p50_us, value, trial.size_bytes, worth)
    return Point(
        trial.title, trial.p50_us / 1000, _drawn(value, worth), trial.size_bytes or 1, trial.runtime or trial.format,
        f"{trial.title}: {figures}{why}",
        is_shipped=trial.status == "shipped", is_refused=trial.status in ("refused", "failed"),
        interval=(interval[0] / 1000, interval[1] / 1000) if interval else None,
    )  # fmt: skip


def _row(trial: Trial, worth: _Worth) -> tuple[str, ...]:
    value = trial.sqnr_db if _is_noise(worth) else trial.metric_value
    return (
        trial.title,
        trial.status,
        milliseconds(trial.p50_us),
        dash if value is None else f"{value:.4f}",
        dash if trial.metric_count is None else str(trial.metric_count),
        megabytes(trial.size_bytes),
        mebibytes(trial.peak_rss_bytes),
        "yes" if trial.on_front else dash,
        trial.reason or dash,
    )


def mark_front(points: Sequence[Point], is_higher_better: bool = True) -> list[Point]:
    """The points, with those marked than which no other that was not refused is faster and at least as good."""
    sign, best, front = (1 if is_higher_better else -1), float("-inf"), set()
    taken = [p for p in points if not p.is_refused]
    for point in sorted(taken, key=lambda p: (p.x, -sign * p.y)):
        if sign * point.y > best:
            best = sign * point.y
            front.add(id(point))
    return [replace(point, is_front=id(point) in front) for point in points]
