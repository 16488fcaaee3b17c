"""The first part of the agent on a device: takes in what is copied, then runs edgekit's own code from there.

It is sent as source and run by the device's bare Python, so nothing but the standard library may be imported at the
top. The host writes lines of JSON, and after some of them bytes; empty lines say that it is still there. Answers go
back as marked lines, see `Channel`. When the host falls silent or closes the connection, all that was started ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Channel", "Store", "serve"]

LOST_S = 60.0
"""Silence after which the host is taken for gone; it says something every few seconds."""

BEAT_S = 10.0
_PIECE = 2000
"""Characters of one line: one write of less than a pipe takes at once, which another program's cannot split."""

_KEPT_S = {"agents": 30 * 86400.0, "received": 7 * 86400.0}
_PART = ".part-"
_PART_KEPT_S = 86400.0
_ENDING_S = 10.0


class Channel:
    """Lines to the host, each behind a mark no login script prints. What else prints goes to stderr from now on."""

    def __init__(self, source: BinaryIO, nonce: str) -> None:
        self._source = source
        self._mark = f"~{nonce}".encode()
        self._turn = threading.Lock()
        self._out = os.dup(1)
        os.dup2(2, 1)
        self.is_lost = False
        self.heard_s = time.monotonic()

    def send(self, **message: Any) -> None:
        text = json.dumps(message, default=_plain).encode()
        pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
        with self._turn:
            for piece in pieces[:-1]:
                self._write(b"+" + piece)
            self._write(b"." + pieces[-1])

    def beat(self) -> None:
        """Says that this process lives, unless something else is being said, perhaps to nobody."""
        if self._turn.acquire(timeout=1):
            try:
                self._write(b'.{"beat": 1}')
            finally:
                self._turn.release()

    def _write(self, piece: bytes) -> None:
        try:
            os.write(self._out, b"\n" + self._mark + piece + b"\n")
        except ConnectionError:
            self.is_lost = True

    def line(self) -> bytes:
        """The next line; b"" when the host is gone."""
        line = self._source.readline()
        self.heard_s = time.monotonic()
        return line

    def exactly(self, count: int) -> bytes:
        data = self._source.read(count)
        self.heard_s = time.monotonic()
        if len(data) < count:
            raise EOFError("the host is gone")
        return data

    def chunks(self) -> Any:
        """The content of one file as it was sent: in pieces with their length before each, 0 after the last."""
        while count := int(self.line() or b"0"):
            yield zlib.decompress(self.exactly(count))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


class Store:
    """Folders named by the hash of what is in them, put there whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, kind: str, sha256: str) -> Path:
        return self.root / kind / sha256

    def has(self, kind: str, sha256: str, files: list[list[Any]]) -> bool:
        """Whether it is there with every byte right; what is not goes."""
        folder = self.place(kind, sha256)
        if not folder.is_dir():
            return False
        try:
            right = all(_sha256(folder / path) == digest for path, _, digest in files)
        except OSError:
            right = False
        if right:
            os.utime(folder)
        else:
            shutil.rmtree(folder)
        return right

    def put(self, kind: str, sha256: str, files: list[list[Any]], channel: Channel) -> list[str]:
        """Takes the files in, and gives the paths of those that did not arrive as they were sent."""
        fresh = self.root / kind / f"{_PART}{os.getpid()}-{sha256}"
        try:
            wrong = [path for path, size, digest in files if _take(fresh / path, channel) != (size, digest)]
            if not wrong:
                _settle(fresh, self.place(kind, sha256))
            return wrong
        finally:
            shutil.rmtree(fresh, ignore_errors=True)  # nothing there when it was put in place

    def sweep(self) -> None:
        """Removes what was not used for long, and what a connection that broke left behind."""
        for kind, kept_s in _KEPT_S.items():
            folder = self.root / kind
            for entry in folder.iterdir() if folder.is_dir() else ():
                limit_s = _PART_KEPT_S if entry.name.startswith(_PART) else kept_s
                with contextlib.suppress(FileNotFoundError):  # another agent was faster
                    if entry.stat().st_mtime < time.time() - limit_s:
                        shutil.rmtree(entry)

    def free_bytes(self) -> int:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        space = os.statvfs(self.root)
        return space.f_bavail * space.f_frsize


def _take(path: Path, channel: Channel) -> tuple[int, str]:
    """Writes one file and gives its size and hash."""
    digest, size = hashlib.sha256(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for chunk in channel.chunks():
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def _settle(fresh: Path, place: Path) -> None:
    try:
        fresh.rename(place)
    except OSError:
        if not place.is_dir():  # else another agent was faster with the same content
            raise


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class _Agent:
    """The requests the host makes, one method each."""

    def __init__(self, channel: Channel, store: Store) -> None:
        self.channel = channel
        self.store = store
        self.job: threading.Thread | None = None

    def want(self, kind: str, sha256: str, files: list[list[Any]]) -> dict[str, Any]:
        has = self.store.has(kind, sha256, files)
        return {"has": has, "free_bytes": self.store.free_bytes(), "folder": str(self.store.place(kind, sha256))}

    def put(self, kind: str, sha256: str, files: list[list[Any]]) -> dict[str, Any]:
        return {"wrong": self.store.put(kind, sha256, files, self.channel)}

    def start(self, sha256: str) -> dict[str, Any]:
        """Takes edgekit's code of that hash, whatever else of that name is installed here."""
        try:
            numpy = import_module("numpy").__version__
        except ImportError as error:
            return {"numpy": None, "said": str(error)}
        sys.path.insert(0, str(self.store.place("agents", sha256)))
        return {"numpy": numpy}

    def call(self, verb: str, arguments: dict[str, Any]) -> None:
        """Beside the reading of requests, so that the end of the connection is seen at once."""
        run: Callable[..., None] = import_module("edgekit.devices.agent").run
        self.job = threading.Thread(target=run, args=(verb, arguments, self.channel))
        self.job.start()

    def end(self) -> None:
        """Ends the job and whatever it started."""
        self.channel.is_lost = True
        end_s = time.monotonic() + _ENDING_S
        while self.job is not None and self.job.is_alive() and time.monotonic() < end_s:
            _kill_children()
            self.job.join(0.1)
        _kill_children()
        os._exit(0)


def _kill_children() -> None:
    """Kills this process's children with their groups, by proc(5): field 4 after the name is the parent."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            if parent == os.getpid():
                pid = int(entry.name)
                (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)
        except (OSError, IndexError):  # it ended while it was looked at
            continue


def _watch(agent: _Agent) -> None:
    """Tells the host now and then that this process lives, and ends all when the host does not say so itself."""
    while time.monotonic() - agent.channel.heard_s < LOST_S and not agent.channel.is_lost:
        time.sleep(BEAT_S)
        agent.channel.beat()
    agent.end()


def serve(source: BinaryIO, nonce: str, cache: str) -> None:
    """Answers requests until the host is gone. `cache` is the folder to keep things in; empty for the user's own."""
    root = Path(cache or os.environ.get("EDGEKIT_CACHE") or _user_cache()).expanduser()
    os.environ["EDGEKIT_CACHE"] = str(root)
    if cache:  # a device with no folder for caches has none for temporary files either
        os.environ["TMPDIR"] = str(root / "tmp")
    agent = _Agent(Channel(source, nonce), Store(root))
    threading.Thread(target=_watch, args=(agent,), daemon=True).start()
    try:
        if cache:
            (root / "tmp").mkdir(parents=True, exist_ok=True)
        agent.store.sweep()
        agent.channel.send(ready=1)
        while line := agent.channel.line():
            if line.strip():
                _answer(agent, json.loads(line))
    except OSError as error:
        agent.channel.send(failed=error.strerror or str(error), path=str(error.filename or root), errno=error.errno)
    except (zlib.error, ValueError) as error:
        agent.channel.send(garbled=str(error))
    except EOFError:
        pass  # the host is gone, as when `line` gives nothing
    finally:
        agent.end()


def _user_cache() -> str:
    return str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "edgekit")


def _answer(agent: _Agent, request: dict[str, Any]) -> None:
    answer = getattr(agent, request.pop("do"))(**request)
    if answer is not None:
        agent.channel.send(**answer)
