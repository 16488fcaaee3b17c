"""What every runtime must do, as a test class: subclass it, name the engine and a sample, and declare the gaps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.runtime import Engine, EngineOptions, Session
from edgekit.spec import DTYPES
from edgekit.testing.bad_inputs import DAMAGES, FEEDS, MEMORY, NOT_FINITE, WRONG, damage
from edgekit.testing.runtime_fixtures import Sample
from edgekit.testing.threads_contract import ThreadsContract

__all__ = ["RuntimeContract", "Sample"]

Arrays = dict[str, np.ndarray]


class RuntimeContract(ThreadsContract):
    """The battery of a runtime.

    Attributes:
        engine: The runtime's name in the registry.
        samples: Models to try it on; more than one input, an open batch and every dtype claimed belong among them.
    """

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

    def test_an_input_left_out_is_not_that_of_the_call_before(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path
    ) -> None:
        session = start(sample.write(tmp_path))
        feeds = self.feeds(session)
        right = session.run(feeds)
        for name in feeds:
            with pytest.raises(InputError, match=name):
                session.run({other: x for other, x in feeds.items() if other != name})
        assert self.same(session.run(feeds), right)

    @pytest.mark.parametrize("value", NOT_FINITE)
    def test_refuses_what_is_not_finite_only_on_request(
        self, start: Callable[..., Session], sample: Sample, tmp_path: Path, value: float
    ) -> None:
        path = sample.write(tmp_path)
        session, other = start(path, check_finite=True), start(path)
        feeds = self.feeds(session)
        for name, array in feeds.items():
            if array.dtype.kind == "f":
                bad = array.copy()
                bad.flat[-1] = value
                with pytest.raises(InputError, match=name):
                    session.run({**feeds, name: bad})
                if np.isnan(value) and sample.is_quantized:
                    continue  # no integer stands for it
                shapes = {k: y.shape for k, y in other.run({**feeds, name: bad}).items()}
                assert shapes == {k: y.shape for k, y in session.run(feeds).items()}
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
