"""What every runtime must do, as a test class: subclass it, name the engine and a sample, and declare the gaps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.feeds import random_feeds
from edgekit.registry import RUNTIMES
from edgekit.runtime import Engine, EngineOptions, OpenModel, Session
from edgekit.spec import DTYPES
from edgekit.testing.bad_inputs import DAMAGES, FEEDS, MEMORY, WRONG, damage
from edgekit.testing.gaps import Battery

__all__ = ["RuntimeContract", "Sample"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """A small model to try a runtime on.

    Attributes:
        name: Shown in the names of tests.
        write: Writes the model's files into a folder and gives the one to open.
        oracle: The right answer to feeds, by something other than the engine under test.
        tolerance: Largest difference from the oracle, as a share of the oracle's largest value.
        is_dynamic: Its inputs have an open batch in front, and each row is answered by itself.
        is_quantized: Its inputs and outputs are integers that stand for real numbers.
    """

    name: str
    write: Callable[[Path], Path]
    oracle: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    tolerance: float = 1e-5
    is_dynamic: bool = False
    is_quantized: bool = False


class _Counted:
    """An opened model that counts its calls."""

    def __init__(self, model: OpenModel) -> None:
        self.inputs, self.outputs = model.inputs, model.outputs
        self.precision, self.lends_outputs = model.precision, model.lends_outputs
        self.close = model.close
        self.calls = 0
        self._model = model

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self.calls += 1
        return self._model.run(arrays)


class RuntimeContract(Battery):
    """The battery of a runtime.

    Attributes:
        engine: The runtime's name in the registry.
        samples: Models to try it on; more than one input, an open batch and every dtype claimed belong among them.
    """

    engine: ClassVar[str]
    samples: ClassVar[Sequence[Sample]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        chosen = {
            "sample": list(self.samples),
            "dynamic_sample": [s for s in self.samples if s.is_dynamic],
            "quantized_sample": [s for s in self.samples if s.is_quantized],
        }
        for fixture, samples in chosen.items():
            if fixture in metafunc.fixturenames:
                absent = pytest.param(
                    None, marks=pytest.mark.skip(f"{self.engine} has no sample of this kind"), id="none"
                )
                metafunc.parametrize(fixture, [pytest.param(s, id=s.name) for s in samples] or [absent])

    @pytest.fixture
    def runtime(self) -> Engine:
        """The engine; a test is skipped by its name where it does not work, unless EDGEKIT_ALL_RUNTIMES=1."""
        engine: Engine = RUNTIMES.get(self.engine)
        probe = engine.probe()
        if not probe.available:
            stop = pytest.fail if os.environ.get("EDGEKIT_ALL_RUNTIMES") == "1" else pytest.skip
            stop(f"the {self.engine} runtime is not available: {probe.reason}")
        return engine

    @pytest.fixture
    def start(self, runtime: Engine) -> Iterator[Callable[..., Session]]:
        """Opens a file; closes it when the test is over."""
        sessions: list[Session] = []

        def opened(path: Path, *, threads: int | None = 1, **session_args: Any) -> Session:
            model = _Counted(runtime.open(path, EngineOptions(threads=threads)))
            sessions.append(Session(model, runtime=self.engine, **session_args))
            return sessions[-1]

        yield opened
        for session in sessions:
            session.close()

    @staticmethod
    def feeds(session: Session, *, seed: int = 0, batch: int = 1) -> Arrays:
        return random_feeds(session.signature, count=1, seed=seed, batch=batch)[0]

    @staticmethod
    def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
        return list(one) == list(other) and all(np.array_equal(one[k], other[k], equal_nan=True) for k in one)

    # --- what it says of itself ---

    def test_probe_is_honest(self, runtime: Engine, sample: Sample, tmp_path: Path) -> None:
        probe = runtime.probe()
        assert runtime.probe() is probe
        assert probe.version
        assert not probe.reason
        assert runtime.name == self.engine
        with Session(runtime.open(sample.write(tmp_path), EngineOptions()), runtime=self.engine) as session:
            assert session.run(self.feeds(session))

    def test_signature_is_named_and_typed(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        signature = start(sample.write(tmp_path)).signature
        for side in (signature.inputs, signature.outputs):
            names = [spec.name for spec in side]
            assert names
            assert all(names)
            assert len(set(names)) == len(names)
            assert all(spec.dtype in DTYPES for spec in side)
        assert start(tmp_path / sample.write(tmp_path).name).signature == signature

    def test_outputs_match_the_signature(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        session = start(sample.write(tmp_path))
        answer = session.run(self.feeds(session))
        assert list(answer) == [spec.name for spec in session.signature.outputs]
        for spec in session.signature.outputs:
            assert answer[spec.name].dtype.name == spec.dtype
            assert spec.accepts_shape(answer[spec.name].shape)

    def test_precision_is_reported(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        assert start(sample.write(tmp_path)).precision == "fp32"

    def test_prints_nothing(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        session = start(sample.write(tmp_path))
        session.run(self.feeds(session))
        session.close()
        assert capfd.readouterr().out == ""

    # --- what it computes ---

    def test_agrees_with_the_oracle(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        session = start(sample.write(tmp_path))
        for seed in range(3):
            feeds = self.feeds(session, seed=seed)
            self.assert_close(session.run(feeds), sample.oracle(feeds), sample.tolerance)

    @staticmethod
    def assert_close(answer: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray], tolerance: float) -> None:
        assert sorted(answer) == sorted(right)
        for name, array in right.items():
            assert answer[name].shape == array.shape
            largest = float(np.abs(array.astype("float64")).max(initial=0)) or 1.0
            difference = np.abs(answer[name].astype("float64") - array.astype("float64")).max(initial=0)
            assert difference <= tolerance * largest, f"{name} is off by {difference / largest:.2e} of its range"

    def test_repeats_itself(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        first = session.run(feeds)
        session.run(self.feeds(session, seed=1))
        assert self.same(session.run(feeds), first)
        assert self.same(session.run(dict(reversed(feeds.items()))), first)

    def test_threads_change_nothing(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        path = sample.write(tmp_path)
        one, two = start(path, threads=1), start(path, threads=2)
        feeds = self.feeds(one)
        self.assert_close(two.run(feeds), one.run(feeds), max(sample.tolerance, 1e-5))

    def test_takes_any_batch(self, start: Callable[..., Session], dynamic_sample: Sample, tmp_path: Path) -> None:
        session = start(dynamic_sample.write(tmp_path))
        for batch in (1, 3, 2, 3):
            feeds = self.feeds(session, seed=batch, batch=batch)
            self.assert_close(session.run(feeds), dynamic_sample.oracle(feeds), dynamic_sample.tolerance)

    def test_takes_an_empty_batch(self, start: Callable[..., Session], dynamic_sample: Sample, tmp_path: Path) -> None:
        session = start(dynamic_sample.write(tmp_path))
        answer = session.run(self.feeds(session, batch=0))
        assert all(array.shape[0] == 0 for array in answer.values())
        feeds = self.feeds(session, batch=2)
        self.assert_close(session.run(feeds), dynamic_sample.oracle(feeds), dynamic_sample.tolerance)

    def test_integers_on_request(self, start: Callable[..., Session], quantized_sample: Sample, tmp_path: Path) -> None:
        path = quantized_sample.write(tmp_path)
        real, whole = start(path), start(path, integer_io=True)
        feeds = self.feeds(real)
        quants = {spec.name: spec.quant for spec in (*whole.signature.inputs, *whole.signature.outputs) if spec.quant}
        assert quants
        answer = whole.run({n: quants[n].quantize(x) if n in quants else x for n, x in feeds.items()})
        assert all(answer[spec.name].dtype.name == spec.dtype for spec in whole.signature.outputs)
        back = {n: quants[n].dequantize(y) if n in quants else y for n, y in answer.items()}
        assert self.same(back, real.run(feeds))

    # --- whose memory it is ---

    @pytest.mark.parametrize("memory", MEMORY)
    def test_takes_any_memory(self, start: Callable[..., Session], sample: Sample, tmp_path: Path, memory: str) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        right = session.run(feeds)
        session.run(self.feeds(session, seed=1))
        assert self.same(session.run({name: MEMORY[memory](x) for name, x in feeds.items()}), right)

    def test_leaves_feeds_alone(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        before = {name: x.copy() for name, x in feeds.items()}
        answer = session.run(feeds)
        assert self.same(feeds, before)
        for array in answer.values():
            array[...] = 0
        assert self.same(feeds, before)

    def test_results_are_the_callers(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        held = session.run(feeds)
        right = {name: array.copy() for name, array in held.items()}
        session.run(self.feeds(session, seed=1))
        assert self.same(held, right)
        for array in held.values():
            array[...] = 1
        assert self.same(session.run(feeds), right)
        assert self.same(session.run(feeds, copy=False), right)

    # --- what it refuses ---

    @pytest.mark.parametrize("wrong", WRONG)
    def test_refuses_wrong_arrays(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path, wrong: str
    ) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        for name, array in feeds.items():
            bad = WRONG[wrong](array)
            spec = session.signature.input(name)
            if type(bad) is np.ndarray and bad.dtype.name == spec.dtype and spec.accepts_shape(bad.shape):
                continue  # right for this input
            with pytest.raises(InputError, match=name):
                session.run({**feeds, name: bad})
        assert session._model.calls == 0  # type: ignore[attr-defined]
        self.assert_close(session.run(feeds), sample.oracle(feeds), sample.tolerance)

    @pytest.mark.parametrize("wrong", FEEDS)
    def test_refuses_wrong_names(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path, wrong: str
    ) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        with pytest.raises(InputError) as refusal:
            session.run(FEEDS[wrong](feeds))
        assert all(name in str(refusal.value) for name in feeds)
        assert session._model.calls == 0  # type: ignore[attr-defined]

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_refuses_what_is_not_finite(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path, value: float
    ) -> None:
        session = start(sample.write(tmp_path), check_finite=True)
        feeds = self.feeds(session)
        for name, array in feeds.items():
            if array.dtype.kind == "f":
                bad = array.copy()
                bad.flat[-1] = value
                with pytest.raises(InputError, match=name):
                    session.run({**feeds, name: bad})
        assert session.run(feeds)

    @pytest.mark.parametrize("kind", DAMAGES)
    def test_refuses_damaged_files(self, runtime: Engine, sample: Sample, tmp_path: Path, kind: str) -> None:
        path = damage(sample.write(tmp_path), kind)
        with pytest.raises(ArtifactError, match=path.name) as refusal:
            runtime.open(path, EngineOptions(threads=1))
        assert refusal.value.hint

    def test_refuses_other_devices(self, runtime: Engine, sample: Sample, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedError, match="tpu"):
            runtime.open(sample.write(tmp_path), EngineOptions(device="tpu"))

    # --- sessions, threads, files ---

    def test_sessions_are_independent(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        path = sample.write(tmp_path)
        one, two = start(path), start(path)
        mine, others = self.feeds(one), self.feeds(two, seed=1)
        right = one.run(mine)
        lent = one.run(mine, copy=False)
        two.run(others)
        assert self.same(lent, right)
        two.close()
        assert self.same(one.run(mine), right)

    def test_threads_share_a_session(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        session = start(sample.write(tmp_path))
        feeds = [self.feeds(session, seed=seed) for seed in range(2)]
        right = [session.run(f) for f in feeds]
        wrong: list[object] = []

        def work(mine: int) -> None:
            try:
                wrong.extend(i for i in range(60) if not self.same(session.run(feeds[mine]), right[mine]))
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_closes_twice(self, start: Callable[..., Session], sample: Sample, tmp_path: Path) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        held = session.run(feeds)
        right = {name: array.copy() for name, array in held.items()}
        session.close()
        session.close()
        with pytest.raises(InputError, match="closed"):
            session.run(feeds)
        assert self.same(held, right)

    def test_file_may_change_under_a_session(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path
    ) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        right = session.run(feeds)
        for file in tmp_path.iterdir():
            os.truncate(file, 0)
        assert self.same(session.run(feeds), right)
