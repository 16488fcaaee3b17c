"""The worker: whatever happens to the child, the parent hears of it as one of our errors."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ArtifactError, ConversionError, EdgekitError, UnavailableError, UnsupportedError
from edgekit.worker import Worker

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker("testing") as worker:
        yield worker


def call(worker: Worker, function: str, /, timeout_s: float | None = 30, **arguments: Any) -> Any:
    return worker.call(f"tests.unit.in_worker:{function}", timeout_s=timeout_s, **arguments)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(is_so: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


def test_arguments_and_results_travel(worker: Worker) -> None:
    arguments = {"text": "é\n\0 \u2028", "nested": {"list": [1, 2.5, None, True]}, "long": "x" * 1_000_000}
    assert call(worker, "echo", **arguments) == arguments
    assert call(worker, "pid") == call(worker, "pid") == worker.pid != os.getpid()


def test_what_vendors_print_is_no_answer(worker: Worker) -> None:
    assert call(worker, "chatter", lines=5000) == "answer"
    assert call(worker, "echo", a=1) == {"a": 1}
    assert call(worker, "close_stdio") == "still here"
    assert call(worker, "stdin") == ""


def test_nothing_of_the_child_reaches_our_own_streams(capfd: pytest.CaptureFixture[str]) -> None:
    with Worker("testing") as worker:
        call(worker, "chatter", lines=3)
        with pytest.raises(ConversionError):
            call(worker, "abort")
    assert capfd.readouterr() == ("", "")


def test_a_crash_is_named_with_the_last_words(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="SIGABRT") as caught:
        call(worker, "abort")
    assert "rank >= 0" in str(caught.value)
    assert "rank >= 0" in caught.value.vendor_message
    assert caught.value.step == "testing (abort)"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGRTMIN + 3])
def test_any_signal_is_named(worker: Worker, number: int) -> None:
    with pytest.raises(ConversionError, match=r"died of (SIG|signal 37)"):
        call(worker, "die_of", number=int(number))


def test_leaving_is_a_death_too(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="exit code 3"):
        call(worker, "leave", code=3)


def test_a_dead_worker_says_so_again(worker: Worker) -> None:
    for _ in range(3):
        with pytest.raises(ConversionError, match="SIGKILL"):
            call(worker, "die_of", number=int(signal.SIGKILL))


def test_an_answer_broken_off_is_a_death(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="SIGKILL"):
        call(worker, "half_an_answer")


def test_a_child_that_lost_its_pipes_is_ended(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="SIGKILL"):
        call(worker, "close_all", timeout_s=None)
    assert not is_alive(worker.pid)


@pytest.mark.parametrize(("function", "arguments"), [("sleep", {"seconds": 60}), ("hold_the_interpreter", {})])
def test_out_of_time_ends_the_child(worker: Worker, function: str, arguments: dict[str, Any]) -> None:
    call(worker, "pid")
    start = time.monotonic()
    with pytest.raises(ConversionError, match=r"not done within 0\.3 s"):
        call(worker, function, timeout_s=0.3, **arguments)
    assert time.monotonic() - start < 5
    assert not is_alive(worker.pid)


def test_out_of_time_ends_what_the_child_started(worker: Worker, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(ConversionError, match="not done within"):
        call(worker, "sleep_beside_a_child", timeout_s=3, note=str(note))
    assert wait_until(lambda: not is_alive(int(note.read_text())))


def test_in_time_is_not_too_late(worker: Worker) -> None:
    assert call(worker, "sleep", timeout_s=30, seconds=0.05) == "slept"


def test_offenders_and_hint_come_through(worker: Worker) -> None:
    with pytest.raises(UnsupportedError) as caught:
        call(worker, "refuse_ops")
    assert caught.value.offenders == ("Conv at a", "Loop at b: c")
    assert caught.value.hint == "another format"
    assert str(caught.value) == "2 operations: Conv at a; Loop at b: c (another format)"


def test_step_and_vendor_message_come_through(worker: Worker) -> None:
    with pytest.raises(ConversionError) as caught:
        call(worker, "fail_with_step")
    assert str(caught.value) == "keras -> hub: no luck (try another)"
    assert (caught.value.step, caught.value.vendor_message) == ("keras -> hub", "line 1\nline 2")
    with pytest.raises(ConversionError, match=r"^testing \(fail_without_step\): no luck$"):
        call(worker, "fail_without_step")


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("own", ArtifactError, r"^special \(look\)$"),
        ("unavailable", UnavailableError, r"^no engine \(pip install it\)$"),
        ("key", ConversionError, "KeyError: 'name'"),
        ("foreign", ConversionError, "Foreign: vendor words"),
        ("memory", ConversionError, "out of memory"),
        ("unicode", ConversionError, "UnicodeDecodeError: .* bad name"),
        ("surrogate", ConversionError, "ValueError: name"),
        ("empty", ConversionError, "RuntimeError"),
    ],
)
def test_errors_are_raised_again_as_ours(worker: Worker, kind: str, error: type[EdgekitError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        call(worker, "fail_as", kind=kind)
    assert type(caught.value) is error
    assert call(worker, "echo", a=1) == {"a": 1}, "the child outlives an error"


def test_a_foreign_error_brings_its_traceback(worker: Worker) -> None:
    with pytest.raises(ConversionError) as caught:
        call(worker, "fail_as", kind="key")
    assert "in fail_as" in caught.value.vendor_message


@pytest.mark.parametrize("function", ["tests.unit.in_worker:missing", "no.such.module:f", "os:"])
def test_a_function_that_is_not_there(worker: Worker, function: str) -> None:
    with pytest.raises(ConversionError, match=r"(Attribute|ModuleNotFound)Error"):
        worker.call(function)


def test_a_result_that_is_no_json_is_an_error_not_a_death(worker: Worker) -> None:
    with pytest.raises(ConversionError, match="not JSON serializable"):
        call(worker, "an_object")
    assert call(worker, "echo", a=1) == {"a": 1}


def test_a_closed_worker_says_so() -> None:
    worker = Worker("testing")
    worker.close()
    worker.close()
    with pytest.raises(ConversionError, match="ended before"):
        call(worker, "pid")
    assert not is_alive(worker.pid)


def test_closing_gives_back_files_and_processes() -> None:
    def open_files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    for _ in range(3):
        with Worker("testing") as worker:
            call(worker, "pid")
        with pytest.raises(UnavailableError, match="cannot start"):
            Worker("testing", python="/no/such/python")
    assert open_files() == before


def test_an_error_in_the_block_ends_the_child() -> None:
    worker = Worker("testing")
    with pytest.raises(ZeroDivisionError), worker:
        raise ZeroDivisionError
    assert not is_alive(worker.pid)


def test_environment_is_added_to(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_TEST", "ours")
    with Worker("testing", env={"EDGEKIT_MORE": "more"}) as other:
        assert call(other, "environment", name="EDGEKIT_TEST") == "ours"
        assert call(other, "environment", name="EDGEKIT_MORE") == "more"
    assert call(worker, "environment", name="EDGEKIT_MORE") is None


def test_modules_of_the_current_folder_are_not_taken_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's own json.py, or a hostile one in a downloaded folder, must not run."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    with Worker("testing") as worker:
        assert call(worker, "echo", a=1) == {"a": 1}


def test_it_reads_the_tail_without_moving_where_the_child_writes(worker: Worker) -> None:
    call(worker, "chatter", lines=2000)
    for _ in range(3):
        with pytest.raises(ConversionError) as caught:
            call(worker, "fail_as", kind="key")
        assert "written past Python" in caught.value.vendor_message  # the last it wrote; how streams mix is chance
        assert len(caught.value.vendor_message) < 20_000
    with pytest.raises(ConversionError, match="rank >= 0"):
        call(worker, "abort")


@pytest.mark.parametrize("when", ["at work", "at rest"])
def test_a_killed_parent_takes_the_child_with_it(when: str) -> None:
    program = (
        "import sys\nfrom edgekit.worker import Worker\n"
        "worker = Worker('orphan')\n"
        "worker.call('tests.unit.in_worker:pid')\n"
        "print(worker.pid, flush=True)\n"
        + ("worker.call('tests.unit.in_worker:sleep', seconds=60)" if when == "at work" else "sys.stdin.read()")
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, text=True, **pipes) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not is_alive(child), 5)


def test_a_child_started_by_a_parent_already_gone_ends(tmp_path: Path) -> None:
    """The parent may be killed before the child has looked who that is."""
    request_read, request_write = os.pipe()
    answer_read, answer_write = os.pipe()
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    os.write(request_write, b'{"function": "tests.unit.in_worker:sleep", "arguments": {"seconds": 60}}\n')
    command = [sys.executable, "-m", "edgekit.worker", str(request_read), str(answer_write), str(gone.pid)]
    start = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, pass_fds=(request_read, answer_write)) as child:
        assert child.wait(timeout=20) == 1
    assert time.monotonic() - start < 20
    for descriptor in (request_read, request_write, answer_read, answer_write):
        os.close(descriptor)
