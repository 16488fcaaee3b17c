"""The connection to a device: one process of `ssh` or its like, requests into it, marked lines out of it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import tempfile
import threading
import time
import zlib
from collections import deque
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edgekit.devices.access import Access, start_command
from edgekit.errors import ConversionError, EdgekitError, UnavailableError

__all__ = ["Channel"]

QUIET_S = 60.0
"""Silence after which a device is taken for lost; its agent says something more often."""

_PING_S = 10.0
_CHUNK_BYTES = 128 << 10
_ENDING_S = 15.0
_TAIL_BYTES = 8 << 10
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # exit codes of every shell
_SSH_FAILED = 255

_HELLO = (
    "import sys;sys.path[:]=[p for p in sys.path if p];import json;"
    'sys.stdout.write("\\n~%s."+json.dumps({"python":list(sys.version_info[:3]),"program":sys.executable})+"\\n");'
    'sys.stdout.flush();n=int(s.readline() or 0);g={"__name__":"edgekit.devices.boot"};'
    'n and exec(compile(s.read(n),"edgekit.devices.boot","exec"),g);n and g["serve"](s,"%s",%r)\n'
)
"""The line that the device's Python runs first. It is understood by every Python 3, to tell the version of any."""


class Channel:
    """Close it, or use it as a context manager: then nothing runs on the device any more.

    Args:
        access: How the device is reached.
        python: The interpreter there.

    Attributes:
        sent_bytes: What has been sent, all in all.
        python: Version of the device's Python, once `open` has been called.
    """

    def __init__(self, access: Access, python: str) -> None:
        self._access = access
        self._interpreter = python
        self._nonce = secrets.token_hex(6)
        self._mark = f"~{self._nonce}".encode()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the channel
        self._noise: deque[bytes] = deque(maxlen=12)
        self._rest = b""
        self._turn = threading.Lock()
        self._done = threading.Event()
        self.sent_bytes = 0
        self.python: tuple[int, ...] = ()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = self._access.command(start_command(self._interpreter))
        try:
            # A session of its own: Ctrl-C is for us, who then end it in good order.
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True
            )
        except OSError as error:
            self._log.close()
            package = {"ssh": "openssh-client", "adb": "adb"}.get(command[0], command[0])
            raise UnavailableError(
                f"{self._access.uri} needs the program {command[0]}: {error.strerror}", hint=f"apt install {package}"
            ) from error

    def open(self) -> str:
        """Starts the device's Python and returns its path; the version is then known.

        Raises:
            UnavailableError: The device cannot be reached or has no such Python.
        """
        self._write((_HELLO % (self._nonce, self._nonce, self._access.cache)).encode())
        hello = self.receive()
        self.python = tuple(hello["python"])
        return str(hello["program"])

    def boot(self) -> dict[str, Any]:
        """Sends the first part of the agent and returns what it says when it runs."""
        source = (Path(__file__).parent / "boot.py").read_bytes()
        self._write(f"{len(source)}\n".encode() + source)
        self.keep_alive()
        return self.receive()

    def keep_alive(self) -> None:
        """From now on the agent, which passes over empty lines, hears now and then that somebody is here."""
        threading.Thread(target=self._ping, daemon=True).start()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and returns the answer."""
        self._write(json.dumps(request).encode() + b"\n")
        return self.receive()

    def send_files(self, request: dict[str, Any], sources: Sequence[Path | bytes]) -> dict[str, Any]:
        """Sends a request with the content of files and returns the answer."""
        with self._turn:
            self._put(json.dumps(request).encode() + b"\n")
            for source in sources:
                with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        packed = zlib.compress(chunk, 1)
                        self._put(f"{len(packed)}\n".encode() + packed)
                self._put(b"0\n")
        return self.receive()

    def receive(self) -> dict[str, Any]:
        """The next message but beats.

        Raises:
            UnavailableError: There is no connection, for a reason the user can change.
            ConversionError: It broke, the process at its other end died, or it has said nothing for long.
        """
        text = b""
        while True:
            line = self._line()
            before, mark, piece = line.partition(self._mark)
            if before or not mark:
                self._noise.append(before)
            if not mark:
                continue
            text += piece[1:]
            if piece[:1] == b".":
                message: dict[str, Any] = json.loads(text)
                text = b""
                if "beat" not in message:
                    return message

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            if not select.select([self._process.stdout], [], [], QUIET_S)[0]:
                self.kill()
                raise self._silence()
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise self._death()
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _write(self, data: bytes) -> None:
        with self._turn:
            self._put(data)

    def _put(self, data: bytes) -> None:
        assert self._process.stdin is not None
        # Who is gone has perhaps said why: that is read next, and else that there is nothing more to read.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()
        self.sent_bytes += len(data)

    def _ping(self) -> None:
        while not self._done.wait(_PING_S):
            if self._turn.acquire(blocking=False):  # else something is being sent, which does as well
                try:
                    self._put(b"\n")
                finally:
                    self._turn.release()

    def _silence(self) -> EdgekitError:
        uri = self._access.uri
        if not self.python:
            return UnavailableError(
                f"{uri}: its Python does not answer; it last said: {self._last()}",
                hint="does a login script there wait for something?",
            )
        return ConversionError(f"{uri} has said nothing for {QUIET_S:.0f} s", vendor_message=self._tail(), hint=_AGAIN)

    def _death(self) -> EdgekitError:
        """Why there is nothing more to read."""
        uri, code = self._access.uri, self._wait()
        said, last = self._tail(), self._last()
        if self.python:
            # ssh has the same exit code for a line that broke and a program that was killed, but not the same words.
            if code == _SSH_FAILED and not _is_cut(said):
                message, hint = f"{uri}: the agent was killed there; it last said: {last}", _KILLED
            elif code in (0, _SSH_FAILED):
                message, hint = f"the connection to {uri} broke: {last}", _AGAIN
            else:
                message, hint = f"{uri}: the agent ended with exit code {code}; it last said: {last}", _KILLED
            return ConversionError(message, vendor_message=said, hint=hint)
        if code == _NOT_FOUND:
            return UnavailableError(
                f"{uri} has no program {self._interpreter}", hint="install Python there, or name it: --device-python"
            )
        if code == _NOT_EXECUTABLE:
            return UnavailableError(f"{uri}: {last}", hint="name a Python that this user may run: --device-python")
        return self._access.explain(said) or UnavailableError(
            f"{uri} cannot be used: exit code {code}, and it last said: {last}",
            hint="try by hand: " + " ".join(self._access.command("python3 --version")),
        )

    def _wait(self) -> int:
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it has closed its stdout, but lives
            self.kill()
            return self._process.wait()

    def _tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        end = os.pread(self._log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return b"\n".join([*self._noise, end]).decode(errors="replace")

    def _last(self) -> str:
        lines = [line.strip() for line in self._tail().splitlines() if line.strip()]
        return lines[-1] if lines else "nothing"

    def kill(self) -> None:
        """Ends the process here at once; the agent then ends by itself."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Lets the agent end what it has started, waits until it has, and frees the pipes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._done.set()
        if not self._turn.acquire(timeout=5):  # a write that does not end
            self.kill()
        with contextlib.suppress(BrokenPipeError):  # it is already gone, which is what is wanted
            self._process.stdin.close()
        try:
            end_s = time.monotonic() + _ENDING_S
            while self._process.poll() is None and time.monotonic() < end_s:
                # What it still says is read, or it could not end.
                has_more = select.select([self._process.stdout], [], [], 0.05)[0]
                if has_more and not os.read(self._process.stdout.fileno(), 1 << 16):
                    break
        finally:
            self._wait()
            self._process.stdout.close()
            self._log.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_AGAIN = "run it again: what has been copied is kept there"
_KILLED = "it may have run out of memory (dmesg there tells): try fewer candidates by --runtime, or --threads 1"


def _is_cut(said: str) -> bool:
    return any(words in said for words in ("closed by", "Broken pipe", "not responding", "Connection reset", "lost"))
