"""What every converter must hold, and those that read; for those that write see `edgekit.testing.writing_contract`.

    class TestKeras(SourceContract):
        converter = "keras"
        frameworks = ("tensorflow", "keras")
        sample = staticmethod(lambda folder: build_a_small_model(folder))

A subclass names the converter, makes a sample small enough for the reference runtime, and declares its gaps.
Samples are made once for each class, in a folder of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgekit.converter import Converter, Feeds, Reader, SourceModel, Written
from edgekit.errors import ArtifactError, ConversionError, InputError, UnsupportedError
from edgekit.feeds import random_feeds
from edgekit.parity import compare
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.spec import Signature
from edgekit.testing.gaps import Battery

__all__ = ["ConverterContract", "Make", "SourceContract", "answers", "digest_of", "feeds_for", "open_file"]

Make = Callable[[Path], Path]
Unsupported = Callable[[Path], tuple[Path, Sequence[str]]]


def answers(run: Callable[[Feeds], dict[str, np.ndarray]], feeds: Iterable[Feeds]) -> list[dict[str, np.ndarray]]:
    """What `run` gives to each feed."""
    return [run(feed) for feed in feeds]


def feeds_for(signature: Signature, batch: int = 1) -> list[dict[str, np.ndarray]]:
    """Two random feeds, of two sizes where a size is open, and a constant one."""
    drawn = random_feeds(signature, count=2, seed=7, batch=batch)
    return [*drawn, {name: np.full_like(array, 1) for name, array in drawn[0].items()}]


def digest_of(path: Path) -> str:
    """A hash of a file, or of all files in a folder with their names."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()


@contextlib.contextmanager
def _blocked(frameworks: Iterable[str]) -> Iterator[None]:
    """Makes importing any of these an error in this process, also when a test before has loaded it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in frameworks:
            patch.setitem(sys.modules, name, None)
        yield


def open_file(path: Path, runtime: str, signature: Signature, written: Written | None = None) -> Session:
    """A session on the file that has the source's signature."""
    model = RUNTIMES.get(runtime).open(path, EngineOptions(threads=1))
    inputs, outputs = (written.input_names, written.output_names) if written else ({}, {})
    return Session(model, runtime=runtime, signature=signature, input_names=inputs, output_names=outputs)


class ConverterContract(Battery):
    """What holds for all converters.

    Attributes:
        converter: Its registered name.
        tolerance: Largest difference to the source in fp32, as a share of each output's range.
    """

    converter: ClassVar[str]
    tolerance: ClassVar[float] = 1e-4

    @property
    def it(self) -> Converter:
        found: Converter = CONVERTERS.get(self.converter)
        return found

    def test_it_is_what_the_registry_says(self) -> None:
        assert self.it.name == self.converter
        assert isinstance(self.it.exports, tuple)
        assert bool(self.it.exports) == self.it.reads
        assert all(road.format == self.it.format for road in self.it.roads)

    def test_the_probe_names_versions(self) -> None:
        probe = self.it.probe()
        assert probe.available, f"{self.converter} cannot be tested here: {probe.reason}"
        assert any(character.isdigit() for character in probe.version)
        assert probe.extra


class SourceContract(ConverterContract):
    """For converters that read.

    Attributes:
        sample: Makes a source in the folder it is given.
        unsupported: Makes a source that must be refused, and gives what the refusal must name.
        frameworks: Modules that must stay out of the caller's process.
        oracle: The runtime that answers for the hub.
    """

    sample: ClassVar[Make]
    unsupported: ClassVar[Unsupported | None] = None
    frameworks: ClassVar[tuple[str, ...]] = ()
    oracle: ClassVar[str] = "reference"

    @property
    def it(self) -> Reader:
        found: Reader = CONVERTERS.get(self.converter)
        return found

    def test_it_accepts_no_other_content(self, tmp_path: Path) -> None:
        for name, content in {"text": b"not a model", "empty": b"", "zip": b"PK\x03\x04 but no more"}.items():
            (tmp_path / name).write_bytes(content)
            assert not self.it.accepts(tmp_path / name)
        assert not self.it.accepts(tmp_path)
        assert not self.it.accepts(tmp_path / "missing")

    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return cls.sample(tmp_path_factory.mktemp("sample"))

    @pytest.fixture(scope="class")
    @classmethod
    def digest(cls, path: Path) -> str:
        """Of the sample, before anything read it."""
        return digest_of(path)

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, path: Path, digest: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceModel]:
        with _blocked(cls.frameworks):
            opened = CONVERTERS.get(cls.converter).read(path, tmp_path_factory.mktemp("stage"))
        yield opened
        opened.close()

    @pytest.fixture(scope="class")
    @classmethod
    def again(cls, path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceModel]:
        """The same source, read a second time."""
        opened = CONVERTERS.get(cls.converter).read(path, tmp_path_factory.mktemp("again"))
        yield opened
        opened.close()

    def test_its_sample_is_accepted_whatever_its_name(self, path: Path, tmp_path: Path) -> None:
        copy = tmp_path / "renamed.bin"
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
        assert self.it.accepts(path)
        assert self.it.accepts(copy)

    def test_the_source_says_what_it_is(self, source: SourceModel, path: Path) -> None:
        assert source.kind == self.converter
        assert source.path == path
        assert source.versions
        assert set(source.exports) <= set(self.it.exports)
        assert all(place.exists() for place in source.exports.values())
        assert ("hub" in source.exports) != bool(source.hub_error)

    def test_the_signature_is_named_and_true(self, source: SourceModel) -> None:
        names = [spec.name for spec in (*source.signature.inputs, *source.signature.outputs)]
        assert all(names)
        assert len(set(names)) == len(names)
        for feed in feeds_for(source.signature):
            answer = source.run(feed)
            assert list(answer) == [spec.name for spec in source.signature.outputs]
            for spec in source.signature.outputs:
                assert answer[spec.name].dtype == spec.dtype
                assert spec.accepts_shape(answer[spec.name].shape)

    def test_wrong_names_are_an_input_error(self, source: SourceModel) -> None:
        with pytest.raises(InputError, match="no_such_input"):
            source.run({"no_such_input": np.zeros(1, "float32")})

    def test_the_same_feed_gives_the_same_answer(self, source: SourceModel) -> None:
        feed = feeds_for(source.signature)[0]
        before = {name: array.copy() for name, array in feed.items()}
        first, second = source.run(feed), source.run(feed)
        assert all(np.array_equal(first[name], second[name]) for name in first)
        assert all(np.array_equal(feed[name], before[name]) for name in feed)

    def test_the_hub_has_the_sources_signature(self, source: SourceModel) -> None:
        import onnx

        graph = onnx.load(source.exports["hub"]).graph
        for ends, specs in ((graph.input, source.signature.inputs), (graph.output, source.signature.outputs)):
            found = [_described(end) for end in ends]
            assert found == [(spec.name, np.dtype(spec.dtype), spec.shape) for spec in specs]

    def test_the_hub_agrees_with_the_source(self, source: SourceModel) -> None:
        with open_file(source.exports["hub"], self.oracle, source.signature) as hub:
            has_batch = any(spec.shape[:1] == ("batch",) for spec in source.signature.inputs)
            for batch in (1, 3) if has_batch else (1,):
                feeds = feeds_for(source.signature, batch)
                parity = compare(answers(source.run, feeds), answers(hub.run, feeds), data="fixed and random feeds")
                assert parity.relative <= self.tolerance

    def test_reading_twice_gives_the_same_bytes(self, source: SourceModel, again: SourceModel) -> None:
        assert again.signature == source.signature
        assert digest_of(again.exports["hub"]) == digest_of(source.exports["hub"])

    def test_the_sample_is_left_as_it_was(self, source: SourceModel, path: Path, digest: str) -> None:
        assert digest_of(path) == digest

    @pytest.mark.parametrize("kind", ["missing", "empty", "folder", "text", "cut"])
    def test_what_is_no_model_is_an_artifact_error(self, kind: str, path: Path, tmp_path: Path) -> None:
        wrong, stage = _damaged(kind, path, tmp_path), tmp_path / "stage"
        with pytest.raises(ArtifactError) as caught:
            self.it.read(wrong, stage)
        assert caught.value.hint
        assert "Traceback" not in str(caught.value)
        assert not stage.exists() or not any(p.is_file() for p in stage.rglob("*"))

    def test_what_cannot_be_converted_is_named_in_full(self, tmp_path: Path) -> None:
        if (make := type(self).unsupported) is None:
            pytest.skip("no unsupported sample is declared")
        wrong, named = make(tmp_path)
        try:
            source = self.it.read(wrong, tmp_path / "stage")
        except UnsupportedError as error:
            said = " ".join([*error.offenders, error.hint])
        else:
            said = source.hub_error
            source.close()
        assert [name for name in named if name not in said] == []

    def test_the_frameworks_stay_in_the_child(self, source: SourceModel) -> None:
        with _blocked(self.frameworks):
            assert source.run(feeds_for(source.signature)[0])

    def test_a_dead_child_is_a_conversion_error(self, again: SourceModel) -> None:
        if again.worker is None:
            pytest.skip(f"{self.converter} has no child process")
        again.worker.kill()
        with pytest.raises(ConversionError) as caught:
            again.run(feeds_for(again.signature)[0])
        assert "SIGKILL" in str(caught.value)


def _described(end: Any) -> tuple[str, np.dtype[Any], tuple[int | str, ...]]:
    import onnx

    tensor = end.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    return end.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape


def _damaged(kind: str, path: Path, folder: Path) -> Path:
    """Something at a path that is no model: `kind` says how."""
    wrong = folder / f"wrong{path.suffix}"
    if kind == "folder":
        wrong.mkdir()
    if kind in ("empty", "text"):
        wrong.write_bytes(b"" if kind == "empty" else b"just some words\n" * 99)
    if kind == "cut":
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, wrong)
        largest = max(wrong.rglob("*") if wrong.is_dir() else [wrong], key=lambda p: p.stat().st_size * p.is_file())
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    return wrong
