"""What a search keeps on the disk: files by content and finished work, whatever a kill or a full disk leaves of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ArtifactError
from edgekit.feeds import load_feeds
from edgekit.optimizing import store as stores
from edgekit.optimizing import timing
from edgekit.optimizing.crew import Crew, Unit, execute
from edgekit.optimizing.journal import Journal
from edgekit.optimizing.store import MissingBlobsError, Store
from edgekit.spec import Signature, TensorSpec


def test_a_store_gives_back_what_it_was_given_and_misses_what_was_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.put(b"weights")
    assert store.read(digest) == b"weights"
    assert store.missing([digest, "0" * 64]) == ["0" * 64]
    path = store.open_files([("model.onnx", digest)])
    assert path.read_bytes() == b"weights"
    (blob,) = (tmp_path / "blobs").glob("*/*")
    blob.unlink()
    blob.write_bytes(b"damaged")
    with pytest.raises(MissingBlobsError):
        store.read(digest)
    assert store.put(b"weights") == digest


def test_a_store_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = store.put(b"a" * 100), store.put(b"b" * 100)
    (place,) = (tmp_path / "blobs").glob(f"*/{old}")
    os.utime(place, (0, 0))
    store.prune(most_bytes=150)
    assert store.missing([old, new]) == [old]


def test_a_journal_survives_a_torn_line_and_counts_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path) as journal:
        journal.keep("a", {"value": 1})
        journal.keep("b", {"value": 0.1 + 0.2})
        journal.finish()
    with path.open("ab") as file:
        file.write(b'{"key": "c", "outc')
    with Journal(path) as journal:
        assert (len(journal), journal.runs) == (2, 1)
        assert journal.find("b") == {"value": 0.1 + 0.2}
        assert journal.find("c") is None
        journal.keep("c", {})
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "b", "finished", "c"]


def test_a_journal_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.jsonl"), pytest.raises(ArtifactError, match="another optimize"):
        Journal(tmp_path / "run.jsonl")


def test_a_file_that_was_cut_short_or_changed_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    digest = store.put(b"weights")
    path = store.open_files([("model.onnx", digest)])
    (blob,) = (tmp_path / "blobs").glob("*/*")
    os.truncate(blob, 3)
    with pytest.raises(MissingBlobsError, match="the cache has lost"):
        store.open_files([("model.onnx", digest)])
    assert not blob.exists()
    assert store.put(b"weights") == digest
    assert store.open_files([("model.onnx", digest)]).read_bytes() == b"weights"
    path.write_bytes(b"changed")  # through a link of it, and as long: what a new process sees
    monkeypatch.setattr(stores, "_SOUND", set())
    assert store.missing([digest]) == [digest]


def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"blobs": [store.put(b"weights")]}

    store = Store(tmp_path / "store")
    with Journal(tmp_path / "run.jsonl") as journal:
        crew = Crew(None, journal, store)  # type: ignore[arg-type]
        for _ in range(2):
            crew.remember("key", "a file", make)
        assert len(made) == 1
        os.truncate(next((tmp_path / "store" / "blobs").glob("*/*")), 3)
        crew.remember("key", "a file", make)
        assert len(made) == 2


def test_links_of_a_run_at_work_are_not_swept_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = store.put(b"a" * 100), store.put(b"b" * 100)
    unused, used = store.open_files([("old", old)]), store.open_files([("new", new)])
    (place,) = (tmp_path / "blobs").glob(f"*/{old}")
    os.utime(place, (0, 0))
    os.utime(unused.parent, (0, 0))
    store.prune(most_bytes=150)
    assert used.exists()
    assert not unused.exists()


def full(store: Store) -> dict[str, Any]:
    raise ArtifactError("no space left on the disk") from OSError(28, "no space left on device")


def refused(store: Store) -> dict[str, Any]:
    raise ArtifactError("it cannot be written so")


def test_what_a_disk_refused_is_tried_again(tmp_path: Path) -> None:
    class Here:
        def submit(self, fn: Any, /, **arguments: Any) -> Any:
            from concurrent.futures import Future

            future: Future[Any] = Future()
            future.set_result(execute(**arguments))
            return future

    with Journal(tmp_path / "run.jsonl") as journal:
        crew = Crew(Here(), journal, Store(tmp_path / "store"))  # type: ignore[arg-type]
        units = [Unit(name, f"tests.unit.test_optimizing_cache:{name}", {}) for name in ("full", "refused")]
        assert all(one is not None and one["failure"] for one in crew.run(units))
        assert [crew.knows(unit.key) for unit in units] == [False, True]


def test_each_is_timed_with_feeds_by_its_own_names_in_every_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = [{"x": np.ones((1, 2), "float32")}]
    kit = SimpleNamespace(reference=SimpleNamespace(feeds=feeds))
    monkeypatch.setattr(timing, "open_kit", lambda store, names: kit)
    monkeypatch.setattr(timing, "Runner", lambda candidate, path, options: SimpleNamespace(name=candidate.variant))
    store = Store(tmp_path / "store")
    files = store.put_files([_written(tmp_path / "model.onnx")])

    def contender(name: str) -> dict[str, Any]:
        takes = Signature((TensorSpec(name, "float32", (1, 2)),), ()).to_json()
        return {"title": name, "format": "onnx", "files": files, "runtime": "onnx", "precision": "fp32", "threads": 1,
                "input_names": {"x": name}, "takes": takes}  # fmt: skip

    both = [contender("first"), contender("second")]
    kept = []  # no two runners may have one identity by chance
    for order in (both, both[::-1]):
        runners, feeds_of, _ = timing._runners(store, [], order)
        kept += runners
        for runner in runners:
            assert [list(feed) for feed in load_feeds(feeds_of(runner, tmp_path))] == [[runner.name]]  # type: ignore[attr-defined]


def _written(path: Path) -> Path:
    path.write_bytes(b"model")
    return path
