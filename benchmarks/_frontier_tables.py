"""What the rows of all nets say: latencies, what each fixed policy costs, and whether ours holds its bars."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from statistics import geometric_mean
from typing import Any

from _frontier_rounds import OURS, THREADS, YARDSTICK, Row, ratio

NEAR_BEST = 1.05
OVER_FIXED = 1.02
OVER_FLOATS = 2.8
SWEEP_SHARE = 1 / 4

_PROFILE_CALLS, _PROFILE_S, _PROFILE_MOST_S = 100, 0.5, 10.0
"""What `edgekit profile` times of each candidate unless told otherwise: calls and seconds at least, seconds at most."""

Place = tuple[str, str, str]
"""File, runtime and arithmetic."""

COLUMNS: dict[str, Place] = {
    "tfl fp32": ("tflite fp32", "tflite", "fp32"),
    "tfl w8": ("tflite w8", "tflite", "fp32"),
    "tfl dyn": ("tflite w8a8-dynamic", "tflite", "fp32"),
    "tfl int8": ("tflite w8a8", "tflite", "fp32"),
    "aie dyn": ("tflite ai-edge-dynamic", "tflite", "fp32"),
    "aie int8": ("tflite ai-edge-static", "tflite", "fp32"),
    "ort fp32": ("onnx fp32", "onnx", "fp32"),
    "ort dyn": ("onnx w8a8-dynamic", "onnx", "fp32"),
    "ort int8": ("onnx w8a8", "onnx", "fp32"),
    "q_dyn": ("onnx ort-dynamic", "onnx", "fp32"),
    "q u8s8": ("onnx ort-u8s8", "onnx", "fp32"),
    "q s8s8": ("onnx ort-s8s8", "onnx", "fp32"),
    "ov fp32": ("openvino fp32", "openvino", "fp32"),
    "ov bf16": ("openvino fp32", "openvino", "bf16"),
    "ov dyn": ("openvino w8a8-dynamic", "openvino", "fp32"),
    "ov int8": ("openvino w8a8", "openvino", "fp32"),
    "ov(q u8s8)": ("onnx ort-u8s8", "openvino", "fp32"),
    "ov nncf": ("openvino nncf", "openvino", "fp32"),
}
LEGEND = (
    "tfl, ort, ov: our files in TFLite, ONNX Runtime and OpenVINO; dyn is w8a8-dynamic, int8 is w8a8, w8 small weights"
    " alone. aie: ai-edge-quantizer. q: ONNX Runtime's quantize_dynamic and quantize_static, by types of activations"
    " and weights. Bold: within 2 % of the best in the row, of all that was timed. ~: a look of a few calls, the least."
)


@dataclass(frozen=True)
class Policy:
    """One answer for all nets.

    Attributes:
        places: What it takes; the best of several where one may choose by net.
        floats: What it falls back to where a net has none of these.
    """

    title: str
    places: tuple[Place, ...]
    floats: Place

    @property
    def is_single(self) -> bool:
        return len(self.places) == 1


_FLOATS = {name: COLUMNS[f"{name} fp32"] for name in ("tfl", "ort", "ov")}


def _one(title: str, column: str, engine: str) -> Policy:
    return Policy(title, (COLUMNS[column],), _FLOATS[engine])


def _best(title: str, columns: Sequence[str], engine: str) -> Policy:
    return Policy(title, tuple(COLUMNS[column] for column in columns), _FLOATS[engine])


POLICIES = (
    _one("TFLite fp32", "tfl fp32", "tfl"),
    _one("ONNX Runtime fp32", "ort fp32", "ort"),
    _one("OpenVINO fp32 (f32 asked for)", "ov fp32", "ov"),
    _best("best fp32 engine per net", ["tfl fp32", "ort fp32", "ov fp32"], "ov"),
    _one("OpenVINO out of the box (bf16)", "ov bf16", "ov"),
    _one("ONNX Runtime, quantize_static u8s8", "q u8s8", "ort"),
    _one("ONNX Runtime, quantize_static of its default types (s8s8)", "q s8s8", "ort"),
    _one("ONNX Runtime, quantize_dynamic", "q_dyn", "ort"),
    _one("TFLite static int8 (ai-edge-quantizer)", "aie int8", "tfl"),
    _one("TFLite dynamic range (ai-edge-quantizer)", "aie dyn", "tfl"),
    _best("best TFLite recipe per net", ["tfl fp32", "tfl w8", "tfl dyn", "tfl int8", "aie dyn", "aie int8"], "tfl"),
    _best("best ONNX Runtime recipe per net", ["ort fp32", "ort dyn", "ort int8", "q_dyn", "q u8s8", "q s8s8"], "ort"),
    _one("OpenVINO with NNCF's int8, always", "ov nncf", "ov"),
    _one("OpenVINO with our w8a8, always", "ov int8", "ov"),
    _one("TFLite with our w8a8, always", "tfl int8", "tfl"),
    _one("ONNX Runtime with our w8a8, always", "ort int8", "ort"),
    _best("best OpenVINO recipe per net", ["ov fp32", "ov bf16", "ov dyn", "ov int8", "ov(q u8s8)", "ov nncf"], "ov"),
)


@dataclass(frozen=True)
class Bar:
    """A figure to hold.

    Attributes:
        where: Where the figure is from, or what to hold beside it.
        is_least: Whether `limit` is the least, rather than the most.
    """

    name: str
    value: float
    limit: float
    where: str = ""
    is_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.limit if self.is_least else self.value <= self.limit

    def __str__(self) -> str:
        sense = "at least" if self.is_least else "at most"
        where = f" ({self.where})" if self.where else ""
        return f"{self.name}: {self.value:.3f}, {sense} {self.limit:g}: {'met' if self.is_met else 'MISSED'}{where}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_met": self.is_met}


@dataclass
class Result:
    """One net, measured.

    Attributes:
        made_s: Seconds that making all files of ours took.
        swept_s: Seconds that opening and timing them here took.
        num_made: Files of ours that were tried to be made.
        space: How many files and ways to run them `optimize` says there are; those here where it says nothing.
        optimized_s: Seconds `optimize` took; None where it shipped nothing.
        shipped: What it says it shipped, or why it did not.
    """

    net: str
    rows: list[Row]
    made_s: float
    num_made: int
    swept_s: float
    space: tuple[int, int] | None
    optimized_s: float | None
    shipped: str

    def row(self, place: Place, threads: int) -> Row | None:
        found = (row for row in self.rows if row.key == (*place, threads))
        return next((row for row in found if row.p50_us < float("inf")), None)

    @property
    def ours(self) -> Row | None:
        return next((row for row in self.rows if row.key == OURS and row.p50_us < float("inf")), None)

    def best(self, threads: int | None = None, maker: str = "") -> Row:
        """The fastest of all that was timed but what was shipped: of so many threads or any, of a maker or any."""
        others = [row for row in self.rows if row.key != OURS and threads in (None, row.threads)]
        return min((row for row in others if maker in ("", row.maker)), key=lambda row: row.p50_us)

    def taken(self, policy: Policy, threads: int) -> Row | None:
        """What somebody who follows the policy runs."""
        found = [row for place in policy.places if (row := self.row(place, threads)) is not None]
        return min(found, key=lambda row: row.p50_us) if found else self.row(policy.floats, threads)

    @property
    def exhaustive_s(self) -> float:
        """Making all files of `optimize`'s space and measuring all ways to run them: computed, not run.

        Each file takes what one of ours took here; each way to run one, what opening and timing took here, and then
        what `edgekit profile` times of it by itself.
        """
        own = [row.p50_us / 1e6 for row in self.rows if row.maker == "edgekit" and row.p50_us < float("inf")]
        profiled = sum(min(max(_PROFILE_CALLS * call_s, _PROFILE_S), _PROFILE_MOST_S) for call_s in own)
        files, ways = self.space or (self.num_made, len(own))
        return files * self.made_s / self.num_made + ways * (self.swept_s + profiled) / len(own)


def latency_table(results: Sequence[Result], threads: int) -> str:
    shown = [c for c, place in COLUMNS.items() if any(r.row(place, threads) for r in results)]
    lines = [f"| net | {' | '.join(shown)} | best of all |" + (" ours |" if threads == 1 else "")]
    lines.append("|---" * (len(shown) + 2 + (threads == 1)) + "|")
    for result in results:
        best = result.best(threads)
        cells = [_cell(result.row(COLUMNS[column], threads), best) for column in shown]
        cells.append(f"{_ms(best.p50_us)} {best.title}")
        if threads == 1:
            cells.append(_cell(result.ours, best) if result.ours else "-")
        lines.append(f"| {result.net} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row | None, best: Row) -> str:
    if row is None:
        return "-"
    text = ("~" if row.is_look else "") + _ms(row.p50_us)
    return f"**{text}**" if row.p50_us <= 1.02 * best.p50_us else text


def _ms(us: float) -> str:
    return f"{us / 1e3:.3g}"


def policy_table(results: Sequence[Result]) -> str:
    lines = ["| policy | 1 thread: geomean / worst | 2 threads | nets it has no file for |", "|---|---|---|---|"]
    for policy in POLICIES:
        cells = [_regret(results, policy, threads) for threads in THREADS]
        without = [r.net for r in results if not any(r.row(place, 1) for place in policy.places)]
        if len(without) < len(results):
            lines.append(f"| {policy.title} | {' | '.join(cells)} | {', '.join(without)} |")
    mine = {r.net: ratio(r.ours, r.best()) for r in results if r.ours is not None}
    if mine:
        worst = max(mine, key=lambda net: mine[net])
        found = f"x{geometric_mean(mine.values()):.3f} / x{mine[worst]:.3f} ({worst})"
        lines.append(f"| **edgekit optimize**, against any threads | {found} | | |")
    return "\n".join(lines)


def _regret(results: Sequence[Result], policy: Policy, threads: int) -> str:
    found = {}
    for result in results:
        taken = result.taken(policy, threads)
        if taken is not None:
            found[result.net] = taken.p50_us / result.best(threads).p50_us
    if not found:
        return "-"
    worst = max(found, key=lambda net: found[net])
    return f"x{geometric_mean(found.values()):.2f} / x{found[worst]:.1f} ({worst})"


def ours_table(results: Sequence[Result]) -> str:
    """What was shipped for each net, beside the best there was."""
    lines = [
        "| net | shipped | ms | best of our files, ms | of all, ms | ours / best of our files; of all | "
        "times as fast as ORT fp32 x1 | optimize, s | sweep of its space, s; of what is here |",
        "|---" * 9 + "|",
    ]
    for r in results:
        own, best = (f"{_ms(row.p50_us)} {row.title}" for row in (r.best(maker="edgekit"), r.best()))
        sweep = f"{r.exhaustive_s:.0f}; {r.made_s + r.swept_s:.0f}"
        if r.ours is None:
            lines.append(f"| {r.net} | none: {r.shipped} | - | {own} | {best} | - | - | - | {sweep} |")
            continue
        over = "; ".join(f"{ratio(r.ours, row):.3f}" for row in (r.best(maker="edgekit"), r.best()))
        gain = "-" if (found := _gain(r)) is None else f"x{found:.2f}"
        cells = (r.net, r.shipped, _ms(r.ours.p50_us), own, best, over, gain, f"{r.optimized_s:.0f}", sweep)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(result: Result) -> float | None:
    floats = result.row(YARDSTICK[:3], YARDSTICK[3])
    return None if floats is None or result.ours is None else 1 / ratio(result.ours, floats)


def _over_fixed(result: Result) -> tuple[float, str]:
    """How much slower ours is than the best of the policies that are one answer for all, and which that is."""
    assert result.ours is not None
    taken = [(p, row) for p in POLICIES if p.is_single for t in THREADS if (row := result.taken(p, t)) is not None]
    policy, row = min(taken, key=lambda pair: pair[1].p50_us)
    return ratio(result.ours, row), f"{policy.title} x{row.threads}"


def bars(results: Sequence[Result]) -> list[Bar]:
    """The bars, for the nets for which something was shipped."""
    shipped = [(r, r.ours) for r in results if r.ours is not None]
    lacking = [r.net for r in results if r.ours is None]
    found = [Bar("nets for which nothing was shipped", len(lacking), 0, where=", ".join(lacking))]
    if not shipped:
        return found
    near = {r.net: ratio(ours, r.best(maker="edgekit")) for r, ours in shipped}
    fixed = {r.net: _over_fixed(r) for r, _ in shipped}
    gains = [gain for r, _ in shipped if (gain := _gain(r)) is not None]
    spent = sum(r.optimized_s or 0.0 for r, _ in shipped)
    swept = sum(r.exhaustive_s for r, _ in shipped)
    here = spent / sum(r.made_s + r.swept_s for r, _ in shipped)
    worst, over = max(near, key=lambda n: near[n]), max(fixed, key=lambda n: fixed[n][0])
    policy = f"{over}: {fixed[over][1]}"
    return [
        *(found if lacking else []),
        Bar("ours over the best measured of our files, worst net", near[worst], NEAR_BEST, where=worst),
        Bar("ours over the best fixed policy, worst net", fixed[over][0], OVER_FIXED, where=policy),
        Bar("times as fast as ONNX Runtime fp32 x1, geomean", geometric_mean(gains), OVER_FLOATS, is_least=True),
        Bar("time of optimize over that of a sweep", spent / swept, SWEEP_SHARE, f"of what is here {here:.2f}"),
    ]


def slower_than_peers(results: Sequence[Result]) -> list[str]:
    """Nets where a peer's file beats all of ours by more than 2 %, each with both."""
    found = []
    for result in results:
        mine, best = result.best(maker="edgekit"), result.best()
        if best.maker != "edgekit" and mine.p50_us > OVER_FIXED * best.p50_us:
            found.append(
                f"{result.net}: {_ms(best.p50_us)} ms {best.title}; of ours {_ms(mine.p50_us)} ms {mine.title}"
            )
    return found


def reasons(results: Sequence[Result], missing: Collection[tuple[str, str]]) -> list[str]:
    """What has no figure though there is a file, and why, each once; `missing` are nets and files there are not."""
    said: dict[str, list[str]] = {}
    for result in results:
        for row in result.rows:
            if row.reason and (result.net, row.file) not in missing:
                said.setdefault(f"{row.file} in {row.runtime or 'its engine'}: {row.reason}", []).append(result.net)
    return [f"{what} ({', '.join(dict.fromkeys(nets))})" for what, nets in said.items()]
