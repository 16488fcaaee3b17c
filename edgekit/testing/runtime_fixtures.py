"""What the tests of a runtime stand on: samples, sessions opened for one test, and comparing answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgekit.feeds import random_feeds
from edgekit.registry import RUNTIMES
from edgekit.runtime import Engine, EngineOptions, OpenModel, Session
from edgekit.testing.gaps import Battery

__all__ = ["Arrays", "RuntimeFixtures", "Sample"]

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
    """An opened model that counts its calls, and has as many lanes as it says."""

    def __init__(self, model: OpenModel) -> None:
        self.inputs, self.outputs = model.inputs, model.outputs
        self.precision, self.lends_outputs = model.precision, model.lends_outputs
        self.lanes: int = getattr(model, "lanes", 1)
        self.another: Callable[[], OpenModel | None] = getattr(model, "another", lambda: None)
        self.close = model.close
        self.calls = 0
        self._model = model

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self.calls += 1
        return self._model.run(arrays)


class RuntimeFixtures(Battery):
    """An engine, and sessions of its samples. A test that takes `sample` is run for each of them."""

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

        def opened(path: Path, *, threads: int | None = 1, lanes: int | None = None, **session_args: Any) -> Session:
            model = _Counted(runtime.open(path, EngineOptions(threads=threads, lanes=lanes)))
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

    @staticmethod
    def assert_close(answer: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray], tolerance: float) -> None:
        assert sorted(answer) == sorted(right)
        for name, array in right.items():
            assert answer[name].shape == array.shape
            largest = float(np.abs(array.astype("float64")).max(initial=0)) or 1.0
            difference = np.abs(answer[name].astype("float64") - array.astype("float64")).max(initial=0)
            assert difference <= tolerance * largest, f"{name} is off by {difference / largest:.2e} of its range"
