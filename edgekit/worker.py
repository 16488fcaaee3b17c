"""A child Python process that runs named functions, so that what a vendor's code does to a process is done to that one.

Used for heavy frameworks (their imports never reach the user's process), for vendor tools that may abort, and for
measurements that need a fresh process. One worker stays alive for many calls, so a framework is imported once.
Arguments and results are JSON; arrays travel as .npz files named in the arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgekit import errors

__all__ = ["Worker"]

_TAIL_LINES = 12


class Worker:
    """One child process. Close it, or use it as a context manager.

    Args:
        name: What it is for, in words; appears in errors.
        python: The interpreter to run; by default the one running now.
        env: Environment variables to set in the child.
    """

    def __init__(self, name: str, *, python: str | None = None, env: dict[str, str] | None = None) -> None:
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", "edgekit.worker", str(request_read), str(answer_write)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            pass_fds=(request_read, answer_write),
            start_new_session=True,
        )
        os.close(request_read)
        os.close(answer_write)
        self._requests = os.fdopen(request_write, "w", encoding="utf-8")
        self._answers = os.fdopen(answer_read, "r", encoding="utf-8")

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, function: str, /, timeout_s: float | None = None, **arguments: Any) -> Any:
        """Runs ``"package.module:function"`` in the child with keyword `arguments` and returns its result.

        Raises:
            EdgekitError: The one the function raised, as it was.
            ConversionError: The function failed otherwise, or the child died or ran over `timeout_s`.
        """
        step = f"{self.name} ({function.rpartition(':')[2]})"
        try:
            self._requests.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
            self._requests.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._death(step) from error
        if timeout_s is not None and not select.select([self._answers], [], [], timeout_s)[0]:
            self.kill()
            raise errors.ConversionError(f"not done within {timeout_s:g} s", step=step, vendor_message=self._tail())
        line = self._answers.readline()
        if not line:
            raise self._death(step)
        answer = json.loads(line)
        if "error" in answer:
            raise self._rebuild(answer["error"], step)
        return answer["result"]

    def _rebuild(self, error: dict[str, Any], step: str) -> errors.EdgekitError:
        kind = getattr(errors, error["kind"], None)
        if isinstance(kind, type) and issubclass(kind, errors.UnsupportedError):
            return kind(error["message"], offenders=error["offenders"], hint=error["hint"])
        if isinstance(kind, type) and issubclass(kind, errors.ConversionError):
            return kind(error["message"], step=error["step"], vendor_message=error["vendor"], hint=error["hint"])
        if isinstance(kind, type) and issubclass(kind, errors.EdgekitError):
            return kind(error["message"], hint=error["hint"])
        return errors.ConversionError(
            f"{error['kind']}: {error['message']}", step=step, vendor_message=error["traceback"] + self._tail()
        )

    def _death(self, step: str) -> errors.ConversionError:
        code = self._process.wait()
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        tail = self._tail()
        last = tail.strip().splitlines()[-1:] or [""]
        return errors.ConversionError(f"its process {how}; it last said: {last[0]}", step=step, vendor_message=tail)

    def _tail(self) -> str:
        self._log.seek(0)
        return b"\n".join(self._log.read().splitlines()[-_TAIL_LINES:]).decode(errors="replace")

    def kill(self) -> None:
        """Ends the child and whatever it started, at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Lets the child end, waits for it, and frees its pipes."""
        if not self._requests.closed:
            with contextlib.suppress(BrokenPipeError):  # the child is already gone, which is what is wanted
                self._requests.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._answers.close()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.close()


def _run(request: dict[str, Any]) -> dict[str, Any]:
    module, _, name = request["function"].partition(":")
    try:
        return {"result": getattr(import_module(module), name)(**request["arguments"])}
    except MemoryError:
        return {"error": _describe(errors.ConversionError("out of memory"))}
    except Exception as error:  # noqa: BLE001 - the parent raises it again, typed
        return {"error": _describe(error)}


def _describe(error: Exception) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        # `.message` has neither hint, step nor offenders in it; they are added again by the parent's constructor.
        "message": _bare_message(error),
        "hint": getattr(error, "hint", ""),
        "step": getattr(error, "step", ""),
        "vendor": getattr(error, "vendor_message", ""),
        "offenders": list(getattr(error, "offenders", ())),
        "traceback": traceback.format_exc(),
    }


def _bare_message(error: Exception) -> str:
    message = str(getattr(error, "message", "") or error)
    step = getattr(error, "step", "")
    if step:
        return message.removeprefix(f"{step}: ")
    offenders = getattr(error, "offenders", ())
    return message.removesuffix(": " + "; ".join(offenders)) if offenders else message


def _watch_parent(parent: int) -> None:
    """Ends this process soon after its parent is gone, also when it was killed and could not say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _serve(requests_fd: int, answers_fd: int) -> None:
    import threading

    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    with os.fdopen(requests_fd, encoding="utf-8") as requests, os.fdopen(answers_fd, "w", encoding="utf-8") as answers:
        for line in requests:
            answers.write(json.dumps(_run(json.loads(line))) + "\n")
            answers.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
