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

__all__ = ["Worker", "describe_error", "rebuild_error"]

_TAIL_LINES = 12
_TAIL_BYTES = 16 << 10


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
        ours = [str(number) for number in (request_read, answer_write, os.getpid())]
        try:
            self._process = subprocess.Popen(
                # -P: a module in the folder the user happens to be in must not be taken for a framework's.
                [python or sys.executable, "-P", "-m", "edgekit.worker", *ours],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, "PYTHONPATH": path, **(env or {})},
                pass_fds=(request_read, answer_write),
                start_new_session=True,
            )
        except OSError as error:
            os.close(request_write)
            os.close(answer_read)
            self._log.close()
            raise errors.UnavailableError(f"{name}: cannot start {python or sys.executable}: {error}") from error
        finally:
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
        if self._requests.closed:
            raise errors.ConversionError("its process was ended before", step=step)
        try:
            self._requests.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._death(step) from error
        if timeout_s is not None and not select.select([self._answers], [], [], timeout_s)[0]:
            self.kill()
            raise errors.ConversionError(f"not done within {timeout_s:g} s", step=step, vendor_message=self._tail())
        line = self._answers.readline()
        if not line.endswith("\n"):  # nothing, or an answer broken off in the middle
            raise self._death(step)
        answer = json.loads(line)
        if "error" in answer:
            raise rebuild_error(answer["error"], step, self._tail())
        return answer["result"]

    def _death(self, step: str) -> errors.ConversionError:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it lost its pipes, as by closing every file it had, but lives
            self.kill()
            code = self._process.wait()
        how = f"died of {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        tail = self._tail()
        last = tail.strip().splitlines()[-1:] or [""]
        return errors.ConversionError(f"its process {how}; it last said: {last[0]}", step=step, vendor_message=tail)

    def _tail(self) -> str:
        # Not by seek and read: the child writes at the same file position, which must not move under it.
        size = os.fstat(self._log.fileno()).st_size
        end = os.pread(self._log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return b"\n".join(end.splitlines()[-_TAIL_LINES:]).decode(errors="replace")

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


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _run(request: dict[str, Any]) -> str:
    """The answer to one request, as a line of JSON without its end."""
    module, _, name = request["function"].partition(":")
    try:
        return json.dumps({"result": getattr(import_module(module), name)(**request["arguments"])})
    except MemoryError:
        return json.dumps({"error": describe_error(errors.ConversionError("out of memory"))})
    except Exception as error:  # noqa: BLE001 - the parent raises it again, typed
        return json.dumps({"error": describe_error(error)})


def rebuild_error(error: dict[str, Any], step: str, tail: str = "") -> errors.EdgekitError:
    """The error `describe_error` described; a foreign one as ConversionError at `step`, with `tail` at its end."""
    kind = getattr(errors, error["ours"], None)
    if kind is errors.UnsupportedError:
        return errors.UnsupportedError(error["message"], offenders=error["offenders"], hint=error["hint"])
    if kind is errors.ConversionError:
        return errors.ConversionError(
            error["message"], step=error["step"] or step, vendor_message=error["vendor"], hint=error["hint"]
        )
    if kind is not None:
        rebuilt: errors.EdgekitError = kind(error["message"], hint=error["hint"])
        return rebuilt
    return errors.ConversionError(
        f"{error['kind']}: {error['message']}", step=step, vendor_message=error["traceback"] + tail
    )


def describe_error(error: Exception) -> dict[str, Any]:
    """What the parent needs to raise `error` again; of foreign errors no attribute is believed to be what we mean."""
    return {
        "kind": type(error).__name__,
        "ours": _our_kind(error),
        # `.message` has neither hint, step nor offenders in it; they are added again by the parent's constructor.
        "message": _bare_message(error) if isinstance(error, errors.EdgekitError) else str(error),
        "hint": error.hint if isinstance(error, errors.EdgekitError) else "",
        "step": error.step if isinstance(error, errors.ConversionError) else "",
        "vendor": error.vendor_message if isinstance(error, errors.ConversionError) else "",
        "offenders": list(error.offenders) if isinstance(error, errors.UnsupportedError) else [],
        "traceback": traceback.format_exc(),
    }


def _our_kind(error: Exception) -> str:
    """The nearest class of `edgekit.errors` that `error` is one of; empty for foreign ones."""
    kinds = (kind for kind in type(error).__mro__ if issubclass(kind, errors.EdgekitError))
    return next((kind.__name__ for kind in kinds if kind.__module__ == errors.__name__), "")


def _bare_message(error: errors.EdgekitError) -> str:
    if isinstance(error, errors.ConversionError) and error.step:
        return error.message.removeprefix(f"{error.step}: ")
    if isinstance(error, errors.UnsupportedError) and error.offenders:
        return error.message.removesuffix(": " + "; ".join(error.offenders))
    return error.message


def _watch_parent(parent: int) -> None:
    """Ends this process soon after its parent is gone, also when it was killed and could not say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _serve(requests_fd: int, answers_fd: int, parent: int) -> None:
    import threading

    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    with os.fdopen(requests_fd, encoding="utf-8") as requests, os.fdopen(answers_fd, "w", encoding="utf-8") as answers:
        for line in requests:
            answers.write(_run(json.loads(line)) + "\n")
            answers.flush()


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:4]))
