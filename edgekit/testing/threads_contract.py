"""What every runtime must hold when several threads share one session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from edgekit.errors import InputError
from edgekit.runtime import Session
from edgekit.testing.runtime_fixtures import Arrays, RuntimeFixtures, Sample

__all__ = ["ThreadsContract"]

_THREADS = 8
_CALLS = 40


class ThreadsContract(RuntimeFixtures):
    """Whether an engine runs in one lane or in several, every thread gets its own answers, and keeps them."""

    @pytest.mark.parametrize("lanes", [None, 1, 3])
    def test_threads_share_a_session(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path, lanes: int | None
    ) -> None:
        session = start(sample.write(tmp_path), lanes=lanes)
        feeds = [self.feeds(session, seed=seed) for seed in range(_THREADS)]
        right = [session.run(f) for f in feeds]
        wrong: list[object] = []
        kept: list[tuple[int, Arrays]] = []

        def work(mine: int) -> None:
            try:
                for _ in range(_CALLS):
                    answer = session.run(feeds[mine])
                    wrong.extend([] if self.same(answer, right[mine]) else [mine])
                kept.append((mine, answer))
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
                wrong.append(error)

        self._all(work, range(_THREADS))
        assert not wrong
        assert len(kept) == _THREADS
        assert all(self.same(answer, right[mine]) for mine, answer in kept)

    def test_threads_may_each_bring_sizes_of_their_own(
        self, start: Callable[..., Session], dynamic_sample: Sample, tmp_path: Path
    ) -> None:
        session = start(dynamic_sample.write(tmp_path), lanes=2)
        feeds = [self.feeds(session, seed=batch, batch=batch) for batch in (1, 2, 3, 4)]
        wrong: list[object] = []

        def work(mine: int) -> None:
            try:
                for _ in range(_CALLS):
                    right = dynamic_sample.oracle(feeds[mine])
                    self.assert_close(session.run(feeds[mine]), right, dynamic_sample.tolerance)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
                wrong.append(error)

        self._all(work, range(4))
        assert not wrong

    @staticmethod
    def _all(work: Callable[[int], None], arguments: Iterable[int]) -> None:
        threads = [threading.Thread(target=work, args=(i,)) for i in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_closing_waits_for_other_threads(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path
    ) -> None:
        session = start(sample.write(tmp_path), lanes=2)
        feeds = self.feeds(session)
        right = session.run(feeds)
        ends: list[object] = []

        def work(_: int) -> None:
            try:
                while True:
                    if not self.same(session.run(feeds), right):
                        ends.append("wrong")
            except Exception as error:  # noqa: BLE001 - which one it is is the question
                ends.append(error)

        closer = threading.Timer(0.05, session.close)
        closer.start()
        self._all(work, range(4))
        closer.join()
        assert [type(end) for end in ends] == [InputError] * 4
        assert all("closed" in str(end) for end in ends)
