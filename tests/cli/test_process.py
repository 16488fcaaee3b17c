"""The command line as a real process: what it imports, its streams, terminals, pipes and signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.runtimes.null import write_null
from tests.cli.conftest import SIGNATURE, write_bundle

TYPE = [sys.executable, "-c", "from edgekit.cli import main; main()"]
ENGINES = ("onnxruntime", "openvino", "ai_edge_litert", "tensorflow", "keras", "onnx", "rich", "numpy")


def _run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*TYPE, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
        **options,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["profile", "--help"], ["--version"]])
def test_help_imports_no_engine_and_not_even_numpy(arguments: list[str]) -> None:
    code = (
        "import sys; from edgekit.cli import run; run(sys.argv[1:]); "
        f"print([name for name in {ENGINES!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_help_is_there_at_once() -> None:
    """CPU time, not wall time: other tests may run beside this one."""
    took = []
    for _ in range(5):
        before = os.times()
        subprocess.run([*TYPE, "--help"], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        took.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert statistics.median(took) < 0.2


def test_the_installed_command_is_this_one() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("edgekit"), "list", "recipes"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("recipes\n")
    assert done.stderr == ""


def test_answers_go_to_stdout_and_errors_to_stderr(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "n.edge")
    good, bad = _run("inspect", bundle, "--json"), _run("inspect", tmp_path / "none.edge")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["schema"] == "edgekit.inspection"
    assert (bad.returncode, bad.stdout) == (3, "")
    assert bad.stderr.count("\n") == 2


def test_a_reader_that_goes_away_is_no_bug() -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "{TYPE[2]}" list targets --json | head -c 1; echo "${{PIPESTATUS[0]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout in ("{141\n", "{0\n")  # 0 when all of it fitted into the pipe before the reader went


def test_an_interrupt_ends_children_too(tmp_path: Path) -> None:
    path = write_null(tmp_path / "slow.null.json", SIGNATURE, delay_ms=300)
    process = subprocess.Popen(
        [*TYPE, "profile", str(path), "-v"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` has it ignored
    )
    assert process.stderr is not None
    while "round 1" not in process.stderr.readline():
        assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "edgekit: interrupted"
    assert children
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def _on_terminal(*arguments: object, stderr_too: bool, **environment: str) -> tuple[str, str, int]:
    """Runs with stdout, or stdout and stderr, on a terminal; gives what the terminal and the pipe got."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "160", **environment}
    process = subprocess.Popen(
        [*TYPE, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if stderr_too else theirs,
        stderr=theirs if stderr_too else subprocess.PIPE,
        env=variables,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        seen += part
    out, err = process.communicate(timeout=60)
    os.close(ours)
    return seen.decode(), ((out if stderr_too else err) or b"").decode(), process.returncode


def test_tables_are_drawn_on_a_terminal_and_no_color_is_honored(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "n.edge")
    shown, err, code = _on_terminal("inspect", bundle, stderr_too=False)
    assert (code, err) == (0, "")
    assert "\x1b[" in shown
    assert "null-fp32" in shown
    plain, _, _ = _on_terminal("inspect", bundle, stderr_too=False, NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert "null-fp32" in plain


def test_a_bar_is_drawn_on_a_terminal_only_and_never_on_stdout(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "n.edge")
    bar, out, code = _on_terminal("profile", bundle, "--rounds", 1, "--json", stderr_too=True)
    assert code == 0
    assert "100%" in bar
    assert json.loads(out)["schema"] == "edgekit.profile"
    assert _on_terminal("profile", bundle, "--rounds", 1, "-q", stderr_too=True)[0] == ""
    assert _run("profile", bundle, "--rounds", 1).stderr == ""
