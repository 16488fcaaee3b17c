"""Atomic writes: whole or not at all, nothing left behind, nobody else's file touched."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit import staging
from edgekit.errors import ArtifactError, InputError
from edgekit.staging import STAGE_PREFIX, Stage, locked, sweep, write_atomically
from tests.unit.bundles import names

ROOT = Path(__file__).resolve().parents[2]


def test_bytes_and_functions_are_written(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "a.json", b"{}") == tmp_path / "a.json"
    given: list[Path] = []

    def write(path: Path) -> None:
        given.append(path)
        path.write_text("text")

    write_atomically(tmp_path / "new" / "folder" / "b.txt", write)
    assert given[0].name == "b.txt", "writers that look at the suffix see the right one"
    assert (tmp_path / "new" / "folder" / "b.txt").read_text() == "text"
    assert (tmp_path / "a.json").read_bytes() == b"{}"
    assert names(tmp_path) == ["a.json", "new"]


def test_mode_is_that_of_an_ordinary_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_atomically(path, b"old")
    with pytest.raises(InputError, match="exists already") as caught:
        write_atomically(path, b"new")
    assert "--force" in caught.value.hint
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new", force=True)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("force", [False, True])
def test_folders_devices_and_pipes_are_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("folder", "pipe", "null"):
        with pytest.raises(InputError):
            write_atomically(tmp_path / name, b"new", force=force)
    assert Path("/dev/null").is_char_device()
    assert names(tmp_path) == ["folder", "null", "pipe"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_function_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "report").write_bytes(b"old")

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ZeroDivisionError

    for name in ("report", "new/report"):
        with pytest.raises(ZeroDivisionError):
            write_atomically(tmp_path / name, fail, force=True)
    assert (tmp_path / "report").read_bytes() == b"old"
    assert names(tmp_path) == ["report"]


def test_a_function_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        write_atomically(tmp_path / "report", lambda path: None)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "no space"), (errno.EDQUOT, "no space"), (errno.EROFS, "not allowed"), (errno.EIO, "could not")],
)
def test_what_the_system_refuses_is_an_artifact_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    (tmp_path / "report").write_bytes(b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ArtifactError, match=said) as caught:
        write_atomically(tmp_path / "report", b"new", force=True)
    assert caught.value.hint
    assert (tmp_path / "report").read_bytes() == b"old"
    assert names(tmp_path) == ["report"]


def test_a_parent_that_is_a_file_is_an_artifact_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError):
        write_atomically(tmp_path / "file" / "report", b"new")


def test_without_hard_links_it_still_refuses_to_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, destination: Path) -> None:
        raise OSError(errno.EPERM, "no links on this file system")

    monkeypatch.setattr(os, "link", refuse)
    write_atomically(tmp_path / "report", b"new")
    assert (tmp_path / "report").read_bytes() == b"new"
    with Stage(tmp_path / "report") as stage:
        (stage.work / "other").write_bytes(b"other")
        with pytest.raises(InputError):
            staging.publish(stage.work / "other", tmp_path / "report", force=False)


def test_of_many_that_may_not_replace_one_wins(tmp_path: Path) -> None:
    outcomes: list[str] = []

    def write(number: int) -> None:
        try:
            write_atomically(tmp_path / "report", str(number).encode() * 10_000)
            outcomes.append(str(number))
        except InputError:
            outcomes.append("refused")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if outcome != "refused"]
    assert len(outcomes) == 8
    assert len(winners) == 1
    assert (tmp_path / "report").read_text() == winners[0] * 10_000
    assert names(tmp_path) == ["report"]


def test_stages_nobody_holds_are_swept_and_others_are_not(tmp_path: Path) -> None:
    dead = tmp_path / f"{STAGE_PREFIX}dead"
    (dead / "work" / "deep").mkdir(parents=True)
    (dead / "work" / "deep" / "model.onnx").write_bytes(b"half")
    (tmp_path / f"{STAGE_PREFIX}link").symlink_to(tmp_path / "mine")
    (tmp_path / f"{STAGE_PREFIX}file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / ".stage-of-somebody-else").mkdir()
    with Stage(tmp_path / "x") as living:
        (living.work / "model.onnx").write_bytes(b"in work")
        sweep(tmp_path)
        with Stage(tmp_path / "y"):
            pass
        assert (living.work / "model.onnx").read_bytes() == b"in work"
        assert not dead.exists()
    assert names(tmp_path) == [f"{STAGE_PREFIX}file", f"{STAGE_PREFIX}link", ".stage-of-somebody-else", "mine"]


def test_a_stage_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib\nfrom edgekit.staging import Stage\n"
        "with Stage(pathlib.Path(sys.argv[1])):\n    print('ready', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        sweep(tmp_path)
        assert len(names(tmp_path)) == 1, "it lives, so its stage does"
        child.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 1
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_making_and_sweeping_stages_at_once(tmp_path: Path) -> None:
    """A stage that was swept between being made and being locked is made again; none is lost while it is held."""
    lost: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            for _ in range(60):
                with Stage(tmp_path / "x") as stage:
                    (stage.work / "file").write_bytes(b"1")
                    time.sleep(0)
                    assert (stage.work / "file").read_bytes() == b"1"
        except BaseException as error:  # noqa: BLE001 - a thread's failure is looked at below
            lost.append(error)

    def clean() -> None:
        while not stop.is_set():
            sweep(tmp_path)

    workers = [threading.Thread(target=work) for _ in range(3)]
    cleaners = [threading.Thread(target=clean) for _ in range(2)]
    for thread in [*workers, *cleaners]:
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    for thread in cleaners:
        thread.join()
    assert lost == []
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert names(tmp_path) == []
