"""What every pass must hold that takes a hub graph and gives one.

    class TestFoldPads(PassContract):
        change = staticmethod(fold_pads)
        sample = staticmethod(a_graph_with_pads)

The sample must be one the pass has something to do on, and small enough for the reference runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from edgekit.feeds import random_feeds
from edgekit.graph.files import save, weight_bytes
from edgekit.graph.shapes import signature
from edgekit.graph.walking import copy_of, walk
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.spec import Signature
from edgekit.testing.gaps import Battery

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["PassContract"]


class PassContract(Battery):
    """What holds for all passes.

    Attributes:
        change: The pass; it may work in place.
        sample: Makes a graph.
        tolerance: Largest difference of an output, as a share of its largest magnitude.
        added_bytes: How much larger the weights may be for each node that went.
        oracle: The runtime that says what a graph computes.
    """

    change: ClassVar[Callable[[ir.Model], ir.Model]]
    sample: ClassVar[Callable[[], ir.Model]]
    tolerance: ClassVar[float] = 1e-6
    added_bytes: ClassVar[int] = 4096
    oracle: ClassVar[str] = "reference"

    @pytest.fixture(scope="class")
    @classmethod
    def before(cls) -> ir.Model:
        return cls.sample()

    @pytest.fixture(scope="class")
    @classmethod
    def after(cls, before: ir.Model) -> ir.Model:
        return cls.change(copy_of(before))

    def test_it_does_something_on_its_sample(self, before: ir.Model, after: ir.Model, tmp_path: Path) -> None:
        assert _written(before, tmp_path) != _written(after, tmp_path)

    def test_the_graph_stays_valid(self, after: ir.Model, tmp_path: Path) -> None:
        import onnx

        save(copy_of(after), tmp_path / "after.onnx")
        onnx.checker.check_model(tmp_path / "after.onnx", full_check=True)

    def test_twice_is_as_once(self, after: ir.Model, tmp_path: Path) -> None:
        assert _written(type(self).change(copy_of(after)), tmp_path) == _written(after, tmp_path)

    def test_inputs_and_outputs_keep_names_and_types(self, before: ir.Model, after: ir.Model) -> None:
        assert _described(signature(before)) == _described(signature(after))

    def test_the_answers_stay(self, before: ir.Model, after: ir.Model, tmp_path: Path) -> None:
        for feeds in random_feeds(signature(before), count=2, seed=11):
            expected, got = (self._run(model, feeds, tmp_path) for model in (before, after))
            for name, array in expected.items():
                assert got[name].shape == array.shape
                limit = self.tolerance * max(1e-30, float(np.abs(array).max(initial=0)))
                assert float(np.abs(got[name].astype("float64") - array).max(initial=0)) <= limit

    def test_the_graph_is_never_larger(self, before: ir.Model, after: ir.Model) -> None:
        nodes = [sum(1 for _ in walk(model.graph)) for model in (before, after)]
        assert nodes[1] <= nodes[0]
        assert weight_bytes(after) <= weight_bytes(before) + self.added_bytes * (nodes[0] - nodes[1])

    def _run(self, model: ir.Model, feeds: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
        path = folder / "run.onnx"
        save(copy_of(model), path)
        with Session(RUNTIMES.get(self.oracle).open(path, EngineOptions(threads=1)), runtime=self.oracle) as session:
            return session.run(feeds)


def _written(model: ir.Model, folder: Path) -> bytes:
    (path,) = save(copy_of(model), folder / "written.onnx")
    return path.read_bytes()


def _described(promised: Signature) -> list[tuple[str, str]]:
    """Names and dtypes; a pass may find out more of the shapes."""
    return [(spec.name, spec.dtype) for spec in (*promised.inputs, *promised.outputs)]
