"""Predictions that end in time, on every engine. The net doubles a number until it is large: zero never is."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.converters.tflite.lowering import lower
from edgekit.converters.tflite.writing import write_model
from edgekit.deadline import Deadline
from edgekit.errors import ArtifactError, InputError, PredictTimeout, UnsupportedError
from edgekit.isolation import IsolatedModel, OverTimeError
from edgekit.isolation.exchange import Exchange
from edgekit.opening import detect_format, open_session
from edgekit.runtime import EngineOptions, Session
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec
from tests.contract.tflite_ops.against import text_model

ONE = EngineOptions(threads=1)
QUICK, ENDLESS = np.float32([3]), np.float32([0])
PATIENCE_S = 30.0

_DOUBLING = """(float[1] x) => (float[1] y) {
    less = Less(x, top)
    go = Squeeze(less, zeroth)
    y = Loop("", go, x) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w) {
        w = Mul(v, two) less_again = Less(w, top) d = Squeeze(less_again, zeroth) }>
}"""


@pytest.fixture(scope="module")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The net as a file for each runtime."""
    folder = tmp_path_factory.mktemp("doubling")
    model = text_model(_DOUBLING, two=np.float32([2]), top=np.float32([100]), zeroth=np.array([0]))
    ir.save(model, folder / "net.onnx")
    write_model(lower(hub.infer_shapes(model)), folder / "net.tflite")
    return {"onnx": folder / "net.onnx", "openvino": folder / "net.onnx", "tflite": folder / "net.tflite"}


def opened(path: Path, runtime: str) -> Session:
    return open_session(path, detect_format(path), runtime, ONE)[1]


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "tflite"])
def test_an_endless_model_is_given_up_and_the_session_answers_still(runtime: str, doubling: dict[str, Path]) -> None:
    with opened(doubling[runtime], runtime) as model:
        assert model.predict(QUICK, timeout=PATIENCE_S)["y"] == 192
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(PredictTimeout, match=r"within 0\.2 s") as given_up:
                model.predict(ENDLESS, timeout=0.2)
            assert 0.2 <= time.monotonic() - began < 1.2
            assert given_up.value.timeout_s == 0.2
            assert "more time" in given_up.value.hint
            assert isinstance(given_up.value, TimeoutError)
            assert model.predict(QUICK)["y"] == 192
            assert model.predict(QUICK, timeout=PATIENCE_S)["y"] == 192
    assert not alive()
    with pytest.raises(InputError, match="closed"):
        model.predict(QUICK, timeout=1)


def alive() -> list[str]:
    """The threads of timed calls there are, those that are about to end given their time."""
    found = [thread for thread in threading.enumerate() if thread.name.startswith("edgekit-timed")]
    for thread in found:
        thread.join(5)
    return [thread.name for thread in found if thread.is_alive()]


def test_waiting_for_the_process_is_limited_too(doubling: dict[str, Path]) -> None:
    """Another caller's endless call holds the one process; the second one's time counts all the same."""
    with opened(doubling["tflite"], "tflite") as model, ThreadPoolExecutor(1) as threads:
        model.predict(QUICK, timeout=PATIENCE_S)
        first = threads.submit(model.predict, ENDLESS, timeout=2)
        time.sleep(0.2)
        began = time.monotonic()
        with pytest.raises(PredictTimeout):
            model.predict(QUICK, timeout=0.3)
        assert time.monotonic() - began < 1.3
        assert isinstance(first.exception(PATIENCE_S), PredictTimeout)


def test_several_timed_calls_and_plain_ones_do_not_mix(doubling: dict[str, Path]) -> None:
    numbers = np.arange(1, 40, dtype="float32")
    right = [float(n * 2 ** np.ceil(np.log2(100 / n))) for n in numbers]
    for runtime in ("onnx", "tflite"):
        with opened(doubling[runtime], runtime) as model, ThreadPoolExecutor(6) as threads:

            def ask(number: float, model: Session = model) -> float:
                timeout = PATIENCE_S if number % 3 else None
                return float(model.predict(np.float32([number]), timeout=timeout)["y"][0])

            assert list(threads.map(ask, numbers)) == right


def test_what_is_before_the_engine_counts(tmp_path: Path) -> None:
    deadline = Deadline(0.05)
    time.sleep(0.06)
    assert deadline.remaining_s() == 0
    deadline.postpone(10)
    assert 9 < deadline.remaining_s() <= 10


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1"])
def test_a_timeout_is_a_time(timeout: float, doubling: dict[str, Path]) -> None:
    with opened(doubling["onnx"], "onnx") as model, pytest.raises(InputError, match="above 0"):
        model.predict(QUICK, timeout=timeout)


def test_errors_are_those_of_a_plain_call(doubling: dict[str, Path]) -> None:
    for runtime in ("onnx", "tflite"):
        with opened(doubling[runtime], runtime) as model:
            with pytest.raises(InputError, match=r"wants shape \[1\], got \[2\]"):
                model.predict(np.float32([1, 2]), timeout=5)
            with pytest.raises(InputError, match="wants float32"):
                model.predict(np.float64([1]), timeout=5)


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_an_interrupted_call_is_over_and_the_next_one_gets_its_own_answer(
    runtime: str, doubling: dict[str, Path]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with opened(doubling[runtime], runtime) as model:
        model.predict(QUICK, timeout=PATIENCE_S)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                model.predict(ENDLESS, timeout=PATIENCE_S)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert model.predict(QUICK, timeout=10)["y"] == 192
    assert not alive()


def test_an_answer_that_an_interrupt_left_is_nobody_elses(tmp_path: Path) -> None:
    """What the process says late of one call must not be read by the next."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with opened(_null(tmp_path, delay_ms=600), "null") as model:
        model.predict(np.ones((1, 4), "float32"), timeout=PATIENCE_S)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                model.predict(np.ones((3, 4), "float32"), timeout=PATIENCE_S)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        for rows in (1, 2):
            assert model.predict(np.ones((rows, 4), "float32"), timeout=PATIENCE_S)["y"].shape == (rows, 2)


# --- an engine that can be stopped ---


def test_onnx_runtime_is_stopped_where_it_is(doubling: dict[str, Path]) -> None:
    with opened(doubling["onnx"], "onnx") as model:
        with pytest.raises(PredictTimeout):
            model.predict(ENDLESS, timeout=0.1)
        assert model._timed is not None
        assert model._timed._child is None  # no process was needed


class Stoppable:
    """An engine that goes on until it is told to stop."""

    precision, lends_outputs = "fp32", False

    def __init__(self, *, is_deaf: bool = False) -> None:
        self.inputs, self.outputs = (TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),)
        self.stopped = threading.Event()
        self._is_deaf = is_deaf

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return [arrays[0] * 2]

    def stoppable(self) -> tuple[Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]], Callable[[], None]]:
        stop = threading.Event()

        def run(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            if arrays[0][0] < 0:
                raise TimeoutError("the engine's own")
            if not arrays[0][0]:
                stop.wait(3 if self._is_deaf else PATIENCE_S)
                time.sleep(2 if self._is_deaf else 0)
                self.stopped.set()
            return self.run(arrays)

        return run, stop.set

    def close(self) -> None:
        return None


def test_an_engine_that_can_be_stopped_is() -> None:
    engine = Stoppable()
    with Session(engine, runtime="made-up") as model:
        assert model.predict(QUICK, timeout=1)["y"] == 6
        with pytest.raises(PredictTimeout):
            model.predict(ENDLESS, timeout=0.1)
        assert engine.stopped.is_set()


def test_an_engine_that_is_slow_to_stop_is_not_waited_for() -> None:
    engine = Stoppable(is_deaf=True)
    with Session(engine, runtime="made-up") as model:
        began = time.monotonic()
        with pytest.raises(PredictTimeout):
            model.predict(ENDLESS, timeout=0.1)
        assert time.monotonic() - began < 1.1
        assert not engine.stopped.is_set()
        assert model.predict(QUICK, timeout=1)["y"] == 6


def test_a_timeout_the_engine_raises_is_the_engines() -> None:
    with Session(Stoppable(), runtime="made-up") as model, pytest.raises(ArtifactError, match="the engine's own"):
        model.predict(np.float32([-1]), timeout=1)


# --- the process ---


def _null(folder: Path, delay_ms: float = 0.0) -> Path:
    inputs, outputs = ((TensorSpec(name, "float32", ("n", size)),) for name, size in (("x", 4), ("y", 2)))
    return write_null(folder / "net.json", Signature(inputs, outputs), delay_ms=delay_ms)


def test_a_process_answers_arrays_of_any_size(tmp_path: Path) -> None:
    model = IsolatedModel(_null(tmp_path), "null", {"threads": 1})
    try:
        assert (model.inputs, model.outputs) == (["x: float32[nx4]"], ["y: float32[nx2]"])
        for rows in (1, 0, 300_000, 2):
            (answer,) = model.run([np.ones((rows, 4), "float32")], PATIENCE_S)
            assert answer.shape == (rows, 2)
    finally:
        model.kill()


def test_a_process_that_is_too_slow_is_ended(tmp_path: Path) -> None:
    model = IsolatedModel(_null(tmp_path, delay_ms=60_000), "null", {})
    began = time.monotonic()
    with pytest.raises(OverTimeError):
        model.run([np.ones((1, 4), "float32")], 0.1)
    assert time.monotonic() - began < 1
    model.kill()


def test_a_process_that_dies_says_so_and_the_next_call_has_another(doubling: dict[str, Path]) -> None:
    with opened(doubling["tflite"], "tflite") as model:
        model.predict(QUICK, timeout=PATIENCE_S)
        assert model._timed is not None
        assert model._timed._child is not None
        os.kill(model._timed._child.result()._worker.pid, signal.SIGKILL)
        with pytest.raises(ArtifactError, match="SIGKILL"):
            model.predict(QUICK, timeout=PATIENCE_S)
        assert model.predict(QUICK, timeout=PATIENCE_S)["y"] == 192


def test_nothing_is_left_behind(doubling: dict[str, Path]) -> None:
    def left() -> tuple[int, int]:
        """Open files, and names in the folder that is memory."""
        names = list(Path("/dev/shm").glob(f"edgekit-{os.getpid()}-*"))
        return len(list(Path("/proc/self/fd").iterdir())), len(names)

    def once() -> None:
        with opened(doubling["tflite"], "tflite") as model:
            model.predict(QUICK, timeout=PATIENCE_S)
            with pytest.raises(PredictTimeout):
                model.predict(ENDLESS, timeout=0.1)

    once()
    assert not alive()
    before = left()
    once()
    assert not alive()
    assert left() == (before[0], 0)


def test_a_file_that_has_changed_is_not_taken_for_the_model(tmp_path: Path) -> None:
    path = _null(tmp_path)
    with opened(path, "null") as model:
        write_null(path, Signature((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),)))
        with pytest.raises(ArtifactError, match="has changed"):
            model.predict(np.ones((1, 4), "float32"), timeout=PATIENCE_S)


def test_a_model_from_nowhere_cannot_be_timed(tmp_path: Path) -> None:
    path = _null(tmp_path)
    with open_session(path, "null", "null", ONE)[1] as model:
        model.origin = None
        with pytest.raises(UnsupportedError, match="cannot be stopped"):
            model.predict(np.ones((1, 4), "float32"), timeout=PATIENCE_S)


def test_shared_memory_is_there_before_it_is_written_to() -> None:
    """Where there is not enough of it, as in a container, writing would kill the process."""
    here = Exchange.create()
    here.unlink()
    here._reach(1 << 20)
    assert os.fstat(here._fd).st_blocks * 512 >= 1 << 20
    here.close()
    here.close()  # nobody else's file


def test_what_is_forgotten_gives_its_file_back() -> None:
    here = Exchange.create()
    here.unlink()
    fd = here._fd
    del here
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_arrays_go_through_shared_memory_as_they_are() -> None:
    here = Exchange.create()
    there = Exchange(here.path)
    here.unlink()
    arrays = [
        np.arange(24, dtype="int64").reshape(2, 3, 4)[:, ::2],
        np.array(5, "uint8"),
        np.zeros((0, 3), "float32"),
        np.random.default_rng(0).random((300, 300)),
        np.array([True, False]),
        np.float16([1.5]),
    ]
    for _ in range(2):
        found = there.get(here.put(arrays))
        for want, got in zip(arrays, found, strict=True):
            assert (got.dtype, got.shape) == (want.dtype, want.shape)
            np.testing.assert_array_equal(got, want)
    with pytest.raises(UnsupportedError, match="strings"):
        here.put([np.array(["a"], object)])
    here.close()
    there.close()
