"""What the tests of the worker run in its child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from edgekit.errors import ArtifactError, ConversionError, UnavailableError, UnsupportedError


class OwnKindError(ArtifactError):
    """A subclass that only this module knows."""


class Foreign(Exception):  # noqa: N818 - named as a vendor might
    """An exception whose attributes are called as ours are and mean something else."""

    message = 5
    hint = object()
    step = ("a", "b")
    offenders = 7


def echo(**arguments: Any) -> dict[str, Any]:
    return arguments


def pid() -> int:
    return os.getpid()


def abort() -> None:
    os.write(2, b"vendor: assertion failed: rank >= 0\n")
    os.abort()


def die_of(number: int) -> None:
    os.kill(os.getpid(), number)


def leave(code: int) -> None:
    sys.exit(code)


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def sleep_beside_a_child(note: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(note, "w") as file:  # noqa: PTH123 - a plain file name
        file.write(str(child.pid))
    time.sleep(60)


def hold_the_interpreter() -> None:
    """Runs C code that lets no other Python thread run."""
    sum(range(1 << 40))


def chatter(lines: int) -> str:
    for number in range(lines):
        print(f'{{"result": "not the answer {number}"}}')
        print("progress \r" * 3, file=sys.stderr)
    sys.stdout.flush()
    os.write(1, b'{"result": "written past Python"}\n\xff\xfe\n')
    return "answer"


def close_stdio() -> str:
    os.close(1)
    os.close(2)
    return "still here"


def close_all() -> None:
    os.closerange(3, 256)
    time.sleep(60)


def half_an_answer() -> None:
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b'{"resu')
        except OSError:  # not open, or not for writing
            continue
        os.kill(os.getpid(), signal.SIGKILL)


def refuse_ops() -> None:
    raise UnsupportedError("2 operations", offenders=["Conv at a", "Loop at b: c"], hint="another format")


def fail_with_step() -> None:
    raise ConversionError("no luck", step="keras -> hub", vendor_message="line 1\nline 2", hint="try another")


def fail_without_step() -> None:
    raise ConversionError("no luck")


def fail_as(kind: str) -> None:
    raise {
        "own": OwnKindError("special", hint="look"),
        "unavailable": UnavailableError("no engine", hint="pip install it"),
        "key": KeyError("name"),
        "foreign": Foreign("vendor words"),
        "memory": MemoryError(),
        "unicode": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad name"),
        "surrogate": ValueError("name \udcff"),
        "empty": RuntimeError(),
    }[kind]


def an_object() -> object:
    return object()


def stdin() -> str:
    return sys.stdin.read()


def environment(name: str) -> str | None:
    return os.environ.get(name)
