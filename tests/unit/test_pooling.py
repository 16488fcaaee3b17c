"""Several callers, one model: their answers, errors, cancellations, and what is left after it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import InputError, PredictTimeout
from edgekit.pooling import Pool
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session
from tests.contract import sample_models

SOON_S = 10.0


class Door:
    """A prediction that waits until it is let through, and counts who is in."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.most = self.inside = 0
        self.open = threading.Event()
        self._lock = threading.Lock()

    def predict(self, value: Any, timeout: float | None = None) -> Any:
        with self._lock:
            self.began.append(value)
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.open.wait(SOON_S)
        with self._lock:
            self.inside -= 1
        if value == "bad":
            raise InputError("bad")
        return f"{value}!"

    async def until_began(self, count: int) -> None:
        end = time.monotonic() + SOON_S
        while len(self.began) < count and time.monotonic() < end:
            await asyncio.sleep(0.005)
        assert len(self.began) == count


def test_as_many_at_a_time_as_the_pool_is_large_and_each_gets_its_own() -> None:
    door = Door()

    async def main() -> list[Any]:
        async with Pool(door.predict, 3) as pool:
            tasks = [asyncio.create_task(pool.predict(index)) for index in range(10)]
            await door.until_began(3)
            await asyncio.sleep(0.05)
            assert len(door.began) == 3
            door.open.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [f"{index}!" for index in range(10)]
    assert door.most == 3
    assert door.began == list(range(10))


def test_an_error_goes_to_the_caller_whose_it_is() -> None:
    door = Door()
    door.open.set()

    async def main() -> list[Any]:
        async with Pool(door.predict, 2) as pool:
            return await asyncio.gather(*(pool.predict(v) for v in ("a", "bad", "b")), return_exceptions=True)

    first, error, last = asyncio.run(main())
    assert (first, last) == ("a!", "b!")
    assert isinstance(error, InputError)


def test_who_waits_and_is_canceled_is_never_begun() -> None:
    door = Door()

    async def main() -> None:
        async with Pool(door.predict, 1) as pool:
            first = asyncio.create_task(pool.predict("first"))
            await door.until_began(1)
            waiting = [asyncio.create_task(pool.predict(name)) for name in ("gone", "second")]
            await asyncio.sleep(0.02)
            waiting[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[0]
            door.open.set()
            assert [await first, await waiting[1]] == ["first!", "second!"]

    asyncio.run(main())
    assert door.began == ["first", "second"]


def test_who_is_canceled_while_predicting_leaves_and_the_place_is_free_again_later() -> None:
    door = Door()

    async def main() -> None:
        async with Pool(door.predict, 1) as pool:
            first = asyncio.create_task(pool.predict("first"))
            await door.until_began(1)
            began = time.monotonic()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert time.monotonic() - began < 1
            second = asyncio.create_task(pool.predict("second"))
            await asyncio.sleep(0.05)
            assert door.began == ["first"]
            door.open.set()
            assert await second == "second!"

    asyncio.run(main())


def test_places_are_not_lost_however_callers_leave() -> None:
    door = Door()
    door.open.set()

    async def main() -> None:
        rng = np.random.default_rng(0)
        async with Pool(door.predict, 2) as pool:
            tasks = [asyncio.create_task(pool.predict(index)) for index in range(200)]
            for index in rng.permutation(200)[:120]:
                tasks[index].cancel()
                if index % 7 == 0:
                    await asyncio.sleep(0)
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(one == f"{i}!" or isinstance(one, asyncio.CancelledError) for i, one in enumerate(found))
            door.open.clear()
            more = [asyncio.create_task(pool.predict(index)) for index in range(2)]
            await door.until_began(len(door.began) + 2 - door.inside)
            assert door.inside == 2  # both places are there still
            door.open.set()
            assert await asyncio.gather(*more) == ["0!", "1!"]

    asyncio.run(main())
    assert door.most == 2


def test_several_event_loops_and_threads_share_one_pool() -> None:
    door = Door()
    door.open.set()

    async def ask(pool: Pool, name: str) -> list[Any]:
        return list(await asyncio.gather(*(pool.predict(f"{name}{i}") for i in range(20))))

    with Pool(door.predict, 3) as pool, ThreadPoolExecutor(4) as threads:
        loops = [threads.submit(lambda n=name: asyncio.run(ask(pool, n))) for name in "abc"]
        mapped = threads.submit(lambda: list(pool.map(f"m{i}" for i in range(20))))
        for name, future in zip("abcm", (*loops, mapped), strict=True):
            assert future.result(SOON_S) == [f"{name}{i}!" for i in range(20)]
    assert door.most <= 3


def test_waiting_too_long_is_a_timeout() -> None:
    door = Door()

    async def main() -> None:
        async with Pool(door.predict, 1) as pool:
            first = asyncio.create_task(pool.predict("first"))
            await door.until_began(1)
            with pytest.raises(PredictTimeout, match=r"not begun within 0\.05 s"):
                await pool.predict("second", timeout=0.05)
            with pytest.raises(PredictTimeout):
                next(pool.map(["third"], timeout=0.05))
            door.open.set()
            await first
            assert await pool.predict("fourth", timeout=5) == "fourth!"

    asyncio.run(main())
    assert door.began == ["first", "fourth"]


def test_the_rest_of_the_time_is_the_models() -> None:
    seen: list[float] = []

    def predict(value: Any, timeout: float) -> Any:
        seen.append(timeout)
        return value

    async def main() -> None:
        async with Pool(predict, 1) as pool:
            await pool.predict(1, timeout=5)

    asyncio.run(main())
    assert 4 < seen[0] <= 5


def test_closing_finishes_what_has_begun_and_sends_the_others_away() -> None:
    door = Door()

    async def main() -> None:
        pool = Pool(door.predict, 1)
        first, second = (asyncio.create_task(pool.predict(name)) for name in ("first", "second"))
        await door.until_began(1)
        closing = asyncio.create_task(pool.__aexit__(None, None, None))
        with pytest.raises(InputError, match="closed"):
            await second
        door.open.set()
        await closing
        assert await first == "first!"
        with pytest.raises(InputError, match="closed"):
            await pool.predict("third")
        with pytest.raises(InputError, match="closed"):
            next(pool.map(["fourth"]))

    asyncio.run(main())
    assert door.began == ["first"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgekit-pool")]


def test_map_reads_no_further_ahead_than_it_says_and_keeps_the_order() -> None:
    read = 0

    def values() -> Iterator[int]:
        nonlocal read
        for index in range(50):
            read += 1
            yield index

    def predict(value: int) -> int:
        time.sleep(0.002 * (value % 3))
        return value * value

    with Pool(predict, 2) as pool:
        for index, answer in enumerate(pool.map(values())):
            assert answer == index * index
            assert read - index <= 5
    assert read == 50


def test_an_error_in_a_map_comes_at_its_place_and_ends_it() -> None:
    read: list[int] = []

    def values() -> Iterator[int]:
        for index in range(100):
            read.append(index)
            yield index
            if index == 2:
                raise OSError("the camera is gone")

    def predict(value: int) -> int:
        if value == 5:
            raise ZeroDivisionError("five")
        return value * value

    with Pool(predict, 4) as pool:
        answers = pool.map(values())
        assert [next(answers) for _ in range(3)] == [0, 1, 4]
        with pytest.raises(OSError, match="camera"):
            next(answers)
        answers = pool.map(range(100))
        assert [next(answers) for _ in range(5)] == [0, 1, 4, 9, 16]
        with pytest.raises(ZeroDivisionError, match="five"):
            next(answers)
        assert list(answers) == []
    assert read == [0, 1, 2]


@pytest.mark.parametrize("timeout", [0, -1, "1"])
def test_a_timeout_is_a_time(timeout: Any) -> None:
    async def main() -> None:
        async with Pool(lambda value: value, 1) as pool:
            with pytest.raises(InputError, match="above 0"):
                await pool.predict(1, timeout=timeout)
            assert await pool.predict(1) == 1

    asyncio.run(main())


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2"])
def test_a_size_is_a_whole_number(size: Any) -> None:
    with pytest.raises(InputError, match="size of a pool"):
        Pool(lambda value: value, size)


SAMPLES = {
    "onnx": sample_models.onnx_samples,
    "openvino": sample_models.openvino_samples,
    "tflite": sample_models.tflite_samples,
}


def opened(runtime: str, folder: Path) -> Session:
    """A dense layer."""
    path = SAMPLES[runtime]()[1].write(folder)
    return Session(RUNTIMES.get(runtime).open(path, EngineOptions(threads=1)), runtime=runtime)


@pytest.mark.parametrize("runtime", list(SAMPLES))
def test_a_model_answers_many_callers(runtime: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((1, 6)).astype("float32") for _ in range(60)]

    async def main(model: Session) -> list[Any]:
        async with model.pool(4) as pool:
            return list(await asyncio.gather(*(pool.predict(value) for value in values)))

    with opened(runtime, tmp_path) as model:
        right = [model.predict(value) for value in values]
        for found in (asyncio.run(main(model)), list(model.stream(values))):
            for got, want in zip(found, right, strict=True):
                np.testing.assert_array_equal(got["y"], want["y"])


@pytest.mark.parametrize("runtime", list(SAMPLES))
def test_a_model_closed_while_others_run_answers_right_or_says_that_it_is_closed(runtime: str, tmp_path: Path) -> None:
    value = np.ones((1, 6), "float32")
    for turn in range(5):
        model = opened(runtime, tmp_path)
        right = model.predict(value)["y"]
        going = threading.Barrier(5, timeout=SOON_S)

        def ask(model: Session = model, right: np.ndarray = right, going: threading.Barrier = going) -> str:
            going.wait()
            try:
                while True:
                    np.testing.assert_array_equal(model.predict(value)["y"], right)
            except InputError as error:
                return error.message

        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask) for _ in range(4)]
            going.wait()
            time.sleep(0.01 * turn)
            model.close()
            model.close()
            assert [future.result(SOON_S) for future in asking] == ["the session is closed"] * 4
