"""Every file in every engine that opens it, with one thread and with two, timed in turns in one run.

A process for each file in each engine and arithmetic. First all are opened and looked at, a few calls each. Then they
take turns; what is beyond `SLOW` times the best in that look has every third turn only, beyond `HOPELESS` none, and its
look stands for it. Those near the best, with the yardstick and with ours, go on for further rounds, which are the ones
that count where two are compared: being chosen as the best must not also choose the luckiest rounds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from _frontier_files import File, Say, worker

from edgekit.errors import EdgekitError
from edgekit.worker import Worker

THREADS = (1, 2)
SLOW, HOPELESS = 4.0, 20.0
NEAR = 1.3
SHARE_US, FRONT_SHARE_US = 12_000.0, 30_000.0
_OPEN_TIMEOUT_S = 180.0
_CALL_TIMEOUT_S = 60.0

YARDSTICK = ("onnx fp32", "onnx", "fp32", 1)
"""ONNX Runtime with floats and one thread."""

OURS = ("ours", "", "", 0)


@dataclass
class Row:
    """One file in one engine with a number of threads.

    Attributes:
        file: Its name.
        arithmetic: Of float operations.
        threads: 0 for what a bundle pins.
        look_us: The least of a few calls, when it was opened.
        rounds_us: Medians, round by round.
        front_us: The same of the rounds for those near the best.
        reason: Why there is nothing.
        choice: What `edgekit.load` said it took.
    """

    file: str
    maker: str
    runtime: str
    arithmetic: str
    threads: int
    look_us: float | None = None
    rounds_us: list[float] = field(default_factory=list)
    front_us: list[float] = field(default_factory=list)
    reason: str = ""
    choice: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.file, self.runtime, self.arithmetic, self.threads

    @property
    def title(self) -> str:
        return f"{self.file} in {self.runtime} {self.arithmetic} x{self.threads}"

    @property
    def p50_us(self) -> float:
        """The best figure there is; infinite for none."""
        rounds = self.front_us or self.rounds_us
        return median(rounds) if rounds else self.look_us if self.look_us is not None else float("inf")

    @property
    def is_look(self) -> bool:
        return self.look_us is not None and not self.rounds_us

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, [])}


@dataclass
class Seat:
    """A process, the rows that are timed in it, and the seconds that took."""

    path: str
    rows: list[Row]
    seconds: float = 0.0
    process: Worker | None = None

    @property
    def is_open(self) -> bool:
        return self.process is not None

    def fail(self, error: EdgekitError, rows: Sequence[Row]) -> None:
        for row in rows:
            row.reason = str(error).splitlines()[0].replace(str(Path(self.path).parent), "...")[:300]

    @contextmanager
    def clocked(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.close()
            self.process = None


@dataclass(frozen=True)
class Effort:
    """How much is timed: rounds for all, rounds for the front, and the seconds after which either ends."""

    rounds: int = 9
    front: int = 20
    seconds: float = 60.0


def seats_of(files: Sequence[File]) -> list[Seat]:
    """What is to be timed. Rows of files that do not exist say why."""
    return [
        Seat(file.path, [Row(file.name, file.maker, runtime, sums, count, reason=_why_not(file)) for count in THREADS])
        for file in files
        for runtime in file.engines
        for sums in _arithmetics(file, runtime)
    ]


def _why_not(file: File) -> str:
    return "" if file.path else file.reason or "there is no file"


def _arithmetics(file: File, runtime: str) -> tuple[str, ...]:
    """bf16 for floats in OpenVINO's own form alone: in other forms it is the same arithmetic again."""
    has_floats = file.recipe in ("fp32", "w8", "w8a8-dynamic") and file.format == "openvino"
    return ("fp32", "bf16") if runtime == "openvino" and has_floats else ("fp32",)


def time_all(seats: Sequence[Seat], ours: Path | None, samples: str, effort: Effort, say: Say) -> list[Row]:
    """Times all in turns, the bundle that `optimize` shipped among them; gives the rows."""
    say(f"timing {sum(len(seat.rows) for seat in seats)} combinations in {len(seats)} processes")
    everyone = [*seats, *([Seat(str(ours), [Row(OURS[0], "optimize", *OURS[1:])])] if ours else [])]
    try:
        for seat in everyone:
            with seat.clocked():
                _open(seat, samples)
            _drop_hopeless(everyone)
        _turns(everyone, effort.rounds, SHARE_US, effort.seconds, say)
        _turns(everyone, effort.front, FRONT_SHARE_US, effort.seconds, say, front=_front(everyone))
    finally:
        for seat in everyone:
            seat.close()
    return [row for seat in everyone for row in seat.rows]


def _open(seat: Seat, samples: str) -> None:
    first = seat.rows[0]
    if first.reason:
        return
    seat.process = worker(f"{first.file} in {first.runtime or 'its engine'}")
    try:
        said = seat.process.call(
            "_frontier_child:open_file",
            timeout_s=_OPEN_TIMEOUT_S,
            path=seat.path,
            samples=samples,
            threads=[row.threads for row in seat.rows],
            runtime=first.runtime,
            precision=first.arithmetic,
        )
    except EdgekitError as error:
        seat.fail(error, seat.rows)
        seat.close()
        return
    for row in seat.rows:
        row.look_us, row.choice = said["call_us"][str(row.threads)], said["choice"]
        if row.arithmetic and said["arithmetic"] != row.arithmetic:
            row.reason, row.look_us = f"asked for {row.arithmetic}, it computes in {said['arithmetic']}", None


def _drop_hopeless(seats: Sequence[Seat]) -> None:
    """Ends processes none of whose rows has a chance, so that their memory is free for the next."""
    best = _best_look(seats)
    for seat in seats:
        looks = [row.look_us for row in seat.rows if row.look_us is not None]
        if seat.is_open and not _always(seat.rows) and (not looks or min(looks) > HOPELESS * best):
            seat.close()


def _best_look(seats: Sequence[Seat]) -> float:
    return min((row.look_us for seat in seats for row in seat.rows if row.look_us is not None), default=0.0)


def _always(rows: Sequence[Row]) -> bool:
    """Whether these are measured to the end whatever they show."""
    return any(row.key in (YARDSTICK, OURS) for row in rows)


def _front(seats: Sequence[Seat]) -> set[int]:
    """Rows near the best, the yardstick, and ours."""
    rows = [row for seat in seats for row in seat.rows if row.rounds_us]
    best = min((row.p50_us for row in rows), default=0.0)
    return {id(row) for row in rows if row.p50_us <= NEAR * best or _always([row])}


def _turns(
    seats: Sequence[Seat], rounds: int, share_us: float, seconds: float, say: Say, *, front: set[int] | None = None
) -> None:
    """Rounds in which everyone has a turn; the first is not kept. When the time is up the round goes on to its end."""
    begun, best = time.monotonic(), _best_look(seats)

    def has_turn(row: Row, turn: int) -> bool:
        if row.reason or row.look_us is None or (front is not None and id(row) not in front):
            return False
        return front is not None or turn % 3 == 1 or row.look_us <= SLOW * best or _always([row])

    for turn in range(rounds + 1):
        if turn > 3 and time.monotonic() - begun > seconds:
            say(f"{turn - 1} rounds of {rounds} within {seconds:g} s")
            return
        for seat in seats:
            for row in seat.rows:
                if seat.is_open and has_turn(row, turn):
                    _take_turn(seat, row, share_us, row.rounds_us if front is None else row.front_us, keep=turn > 0)


def _take_turn(seat: Seat, row: Row, share_us: float, kept: list[float], *, keep: bool) -> None:
    assert seat.process is not None
    with seat.clocked():
        try:
            took: list[float] = seat.process.call(
                "_frontier_child:time_calls", timeout_s=_CALL_TIMEOUT_S, threads=row.threads, share_us=share_us
            )
        except EdgekitError as error:
            seat.fail(error, [row])
            return
    if keep:
        kept.append(median(took))


def ratio(row: Row, base: Row) -> float:
    """The row's time over the base's: the median over the rounds both had in the front, else of their figures."""
    pairs = [mine / other for mine, other in zip(row.front_us, base.front_us, strict=False)]
    return median(pairs) if pairs else row.p50_us / base.p50_us
