"""Who does the work: units of it go through one executor, each is done once, and what came of it is written down.

A unit is a function of this package by name, arguments that JSON can hold, and hashes of the files it needs. It is
given a `Store`; what it makes it puts there. A worker on another machine that lacks a file says so, and is sent it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, EdgekitError, InputError, UnavailableError
from edgekit.optimizing.journal import Journal, key_of
from edgekit.optimizing.store import MissingBlobsError, Store
from edgekit.worker import Worker

__all__ = ["Crew", "LocalExecutor", "Unit", "execute", "open_executor"]

_SENT_AT_MOST = 4
"""Times a unit is sent again with files its worker had not; another worker each time may lack others."""


@dataclass(frozen=True)
class Unit:
    """One piece of work.

    Attributes:
        title: For people.
        function: ``"package.module:function"``, called with a `Store` and the arguments.
        arguments: As JSON can hold them.
        needs: Hashes of the files it reads.
        context: What else decides its outcome; part of its key, and not told to it.
    """

    title: str
    function: str
    arguments: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    context: str = ""

    @property
    def key(self) -> str:
        return key_of(self.context, self.function, dict(self.arguments))


def execute(
    function: str,
    arguments: Mapping[str, Any],
    needs: Sequence[str],
    folder: str | None = None,
    sent: Mapping[str, bytes] | None = None,
    is_apart: bool = False,
) -> dict[str, Any]:
    """Does a unit, wherever this runs.

    Args:
        function: Of the unit.
        arguments: Of the unit.
        needs: Of the unit.
        folder: Of the store; None is that of the machine this runs on.
        sent: Files that come with it, by hash.
        is_apart: Whether whoever asks has another store, and is to be given what is made.

    Returns:
        ``outcome``, what the function gave or ``{"failure": words}``; ``made``, content by hash; ``by``, who did it. Or
        ``missing``, hashes of what it needs and is not here.
    """
    store = Store(Path(folder) if folder is not None else None)
    store.keep(sent or {})
    if missing := store.missing(needs):
        return {"missing": missing}
    module, _, name = function.partition(":")
    started = time.monotonic()
    try:
        outcome: dict[str, Any] = getattr(import_module(module), name)(store, **arguments)
    except MissingBlobsError as error:
        return {"missing": list(error.hashes)}
    except EdgekitError as error:
        # What a disk refuses today it may not refuse tomorrow.
        outcome = {"failure": _words(error), **({"is_passing": True} if isinstance(error.__cause__, OSError) else {})}
    by = {"host": socket.gethostname(), "pid": os.getpid(), "seconds": round(time.monotonic() - started, 3)}
    made = {digest: store.read(digest) for digest in outcome.get("blobs", ())} if is_apart else {}
    return {"outcome": {**outcome, "by": by}, "made": made}


def _words(error: EdgekitError) -> str:
    """What an error says, and what a vendor's tool said where our own words do not hold it."""
    vendor = getattr(error, "vendor_message", "") or ""
    said = next((line.strip() for line in vendor.splitlines() if line.strip()), "")[:200]
    return f"{error} [{said}]" if said and said not in str(error) else str(error)


class LocalExecutor(Executor):
    """Processes of this machine, each a `Worker`: one that dies takes its own unit with it; another takes its place.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="optimize")
        self._own = threading.local()
        self._workers: set[Worker] = set()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a function of a module in one of the processes; keyword arguments only, such as JSON can hold."""
        if args:
            raise TypeError("arguments are given by name here")
        return self._pool.submit(self._call, f"{fn.__module__}:{fn.__qualname__}", kwargs)

    def _call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            worker = self._own.worker = Worker("a trial")
            with self._lock:
                self._workers.add(worker)
        try:
            return worker.call(function, **arguments)
        except ConversionError:
            self._drop(worker)
            raise

    def _drop(self, worker: Worker) -> None:
        self._own.worker = None
        with self._lock:
            self._workers.discard(worker)
        worker.kill()
        worker.close()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes; at once, whatever they do, where `cancel_futures` says that nobody waits for them."""
        with self._lock:
            workers = list(self._workers)
        if cancel_futures:
            for worker in workers:
                worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=cancel_futures)
        for worker in workers:
            worker.close()


@contextmanager
def open_executor(scheduler: str | None, count: int) -> Iterator[Executor]:
    """Processes of this machine, or with the address of a scheduler the workers of dask it knows.

    Raises:
        UnavailableError: dask is not installed, or nobody answers at the address.
    """
    if scheduler is None:
        local = LocalExecutor(count)
        try:
            yield local
        except BaseException:
            local.shutdown(cancel_futures=True)
            raise
        local.shutdown()
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise UnavailableError(f"a scheduler needs dask: {error}", hint="pip install 'edgekit-ml[cluster]'") from error
    try:
        client: Any = Client(scheduler, timeout="5s", set_as_default=False)
    except ValueError as error:
        raise InputError(f"{scheduler!r} is no address of a scheduler: {error}", hint="tcp://HOST:8786") from error
    except OSError as error:
        raise UnavailableError(
            f"no scheduler answers at {scheduler}: {error}", hint="dask scheduler, and dask worker"
        ) from error
    try:
        executor: Executor = client.get_executor(pure=False)
        yield executor
        executor.shutdown(wait=True)
    finally:
        client.close()


@dataclass
class Crew:
    """Hands out units, and keeps the books.

    Attributes:
        executor: What does them.
        journal: Of what is done.
        store: Of files, here.
        is_apart: Whether workers have other stores.
        say: Told of each unit that is done.
        deadline: On `clock`; after it nothing new is begun. None for no end.
        clock: Seconds.
        done: Units done in this run, and `known` those that the journal knew.
        seconds: Of work done in this run, added up over workers.
    """

    executor: Executor
    journal: Journal
    store: Store
    is_apart: bool = False
    say: Callable[[str], None] = lambda line: None
    deadline: float | None = None
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    known: int = 0
    seconds: float = 0.0
    _pending: dict[Future[Any], tuple[Unit, int]] = field(default_factory=dict, init=False)
    _own: set[str] = field(default_factory=set, init=False)

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and self.clock() >= self.deadline

    def run(self, units: Sequence[Unit]) -> list[dict[str, Any] | None]:
        """What comes of each, in their order; None for what was not begun for lack of time."""
        found: dict[str, dict[str, Any] | None] = {}
        waiting = []
        for unit in {unit.key: unit for unit in units}.values():
            if self.knows(unit.key):
                found[unit.key] = self.journal.find(unit.key)
                self._count_known(unit.key)
            else:
                waiting.append(unit)
        try:
            if not self.is_late:
                for unit in waiting:
                    self._send(unit, {}, 0)
            while self._pending:
                finished, _ = wait(self._pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    self._take(future, found)
                if self.is_late:
                    for future in [one for one in self._pending if one.cancel()]:
                        del self._pending[future]
        finally:
            self._pending.clear()
        return [found.get(unit.key) for unit in units]

    def remember(self, key: str, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What is done in this process, once: it needs the source's own framework, which is open here."""
        if self.knows(key):
            self._count_known(key)
            known: dict[str, Any] = self.journal.find(key)
            return known
        made = make()
        self.journal.keep(key, made, what)
        self._own.add(key)
        self.done += 1
        return made

    def knows(self, key: str) -> bool:
        """Whether what comes of it is written down, and the files of it are there and whole."""
        known = self.journal.find(key)
        return known is not None and not self.store.missing(known.get("blobs", ()))

    def _count_known(self, key: str) -> None:
        """Once each, and not what this run did itself."""
        self.known += key not in self._own
        self._own.add(key)

    def _send(self, unit: Unit, sent: Mapping[str, bytes], turn: int) -> None:
        if self.is_apart:
            place: dict[str, Any] = {"sent": dict(sent), "is_apart": True}
        else:
            place = {"folder": str(self.store.folder)}
        future = self.executor.submit(
            execute, function=unit.function, arguments=dict(unit.arguments), needs=list(unit.needs), **place
        )
        self._pending[future] = unit, turn

    def _take(self, future: Future[Any], found: dict[str, dict[str, Any] | None]) -> None:
        unit, turn = self._pending.pop(future)
        try:
            said = future.result()
        except EdgekitError as error:  # its process died: the unit has failed, and the rest goes on
            said = {"outcome": {"failure": _words(error), "by": {"host": socket.gethostname(), "pid": None}}}
        except Exception as error:  # noqa: BLE001 - of a scheduler's own kinds, such as that its worker died
            by = {"host": None, "pid": None}
            said = {"outcome": {"failure": f"{type(error).__name__}: {error}", "is_passing": True, "by": by}}
        if missing := said.get("missing"):
            if turn >= _SENT_AT_MOST:
                raise ConversionError(f"workers lose the files they are sent, for {unit.title}")
            needed = dict.fromkeys([*missing, *unit.needs]) if turn else missing
            self._send(unit, {digest: self.store.read(digest) for digest in needed}, turn + 1)
            return
        self.store.keep(said.get("made", {}))
        outcome = said["outcome"]
        if not outcome.get("is_passing"):
            self.journal.keep(unit.key, outcome, unit.title)
        self._own.add(unit.key)
        self.done += 1
        self.seconds += outcome["by"].get("seconds", 0.0)
        found[unit.key] = outcome
        self.say(f"{unit.title}: {outcome.get('failure') or 'done'}")
