"""How fast this machine can multiply and read at most, measured: the roof over every operation.

Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures", 2009;
with the bandwidth of the memory that holds what an operation touches, as in Ilic, Pratas and Sousa, "Cache-aware
Roofline Model: Upgrading the Loft", 2014.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from edgekit.cache import cache_folder
from edgekit.environment import Environment, read_environment
from edgekit.errors import EdgekitError
from edgekit.hashing import sha256_hex
from edgekit.measuring.operation_records import Bandwidth, Roofline
from edgekit.measuring.products import write_products
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, OpenModel
from edgekit.worker import Worker

__all__ = ["find_roofline", "measure_peaks"]

Key = TypeVar("Key")

_VERSION = 2
_FEW_THREADS = 4
_SIZES = {True: (256, 512), False: (512, 1024)}
"""Of the matrices, for few threads and for more: whichever is faster counts.

As small as keeps all threads busy: on a busy machine a product longer than the scheduler's time slice never runs
undisturbed. One of 23 ms was seen at 46 GMAC/s where one of 0.2 ms, and convolutions, reached 85.
"""

_BURST_S, _IDLE_S, _MAX_S, _LEAST_TURNS = 0.005, 0.7, 4.0, 5
_WORTH = 0.02
"""Of a time: what must be gained for the search to go on."""

_KIB = (64, 256, 1024, 4096, 16384, 65536, 262144)
_COPIED_BYTES = 8 << 20
_TIMEOUT_S = 600.0
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Without one of these the arithmetic is not the processor's own."""


def find_roofline(threads: int, environment: Environment | None = None, *, again: bool = False) -> Roofline:
    """That of this machine with so many threads, measured in some seconds the first time and then remembered.

    What was remembered holds for one processor, and for the engines' versions.

    Args:
        threads: As many as the calls have that are held against it.
        environment: Of this machine.
        again: Measure it again: what was remembered stays where it is higher, as each was seen.

    Raises:
        ConversionError: An engine died on it.
    """
    machine = environment or read_environment()
    known = [_VERSION, machine.cpu, machine.architecture, machine.features, machine.cores, machine.packages, threads]
    path = cache_folder() / "rooflines" / f"{sha256_hex(json.dumps(known).encode())[:16]}.json"
    before = _remembered(path)
    if before is not None and not again:
        return before
    libraries = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    with Worker("measuring the roofline", env=dict.fromkeys(libraries, str(threads))) as worker:
        said = worker.call("edgekit.measuring.roofline:measure_peaks", timeout_s=_TIMEOUT_S, threads=threads)
    found = Roofline.from_json(said)
    found = found if before is None else before.raised(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(found.to_json()), encoding="utf-8")
    beside.replace(path)  # whole or not at all, whoever else is at it
    return found


def _remembered(path: Path) -> Roofline | None:
    try:
        return Roofline.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or what is there is damaged: it is made anew
        return None


def measure_peaks(threads: int) -> dict[str, Any]:
    """Runs in a child: the best of many turns of each product and each copy, which come one after the other."""
    calls: dict[tuple[str, str, int], Callable[[], object]] = {}
    with TemporaryDirectory(prefix="edgekit-") as folder, ExitStack() as opened:
        for size in _SIZES[threads <= _FEW_THREADS]:
            x = np.random.default_rng(1).standard_normal((size, size)).astype("float32")
            for (precision, engine), model in _open_products(Path(folder), size, threads).items():
                opened.callback(model.close)
                calls[precision, engine, size] = partial(model.run, [_as_taken(x, model)])
            calls["fp32", "numpy", size] = partial(np.matmul, x, np.ascontiguousarray(x.T))
        best = _least_seconds(calls)
    macs, engines = dict[str, float](), dict[str, str]()
    for (precision, engine, size), took in best.items():
        if (rate := size**3 / took) > macs.get(precision, 0.0):
            macs[precision], engines[precision] = rate, engine
    return Roofline(threads, macs, engines, _bandwidths(threads)).to_json()


def _open_products(folder: Path, size: int, threads: int) -> dict[tuple[str, str], OpenModel]:
    """By precision and engine; those an engine refuses are left out, as it then runs no such operation either."""
    files = write_products(folder, size)
    has_bf16 = bool(_BF16 & set(read_environment().features))
    wanted = [("onnx", "onnx", ""), ("openvino", "onnx", ""), ("tflite", "tflite", "")]
    wanted += [("openvino", "onnx", "bf16")] if has_bf16 else []
    found: dict[tuple[str, str], OpenModel] = {}
    for name, format, arithmetic in wanted:
        for (kind, precision), path in files.items():
            if kind != format or not RUNTIMES.get(name).probe().available or (arithmetic and precision != "fp32"):
                continue
            try:
                options = EngineOptions(threads=threads, precision=arithmetic or "fp32", lanes=1)
                found[arithmetic or precision, name] = RUNTIMES.get(name).open(path, options)
            except EdgekitError:
                continue
    return found


def _as_taken(x: np.ndarray, model: OpenModel) -> np.ndarray:
    quant = model.inputs[0].quant
    return x if quant is None else quant.quantize(x)


def _least_seconds(calls: Mapping[Key, Callable[[], object]]) -> dict[Key, float]:
    """The shortest time each was seen to take, in turns, until for a while no shorter was found.

    The least, as other programs can only lengthen it; in bursts, as a call behind another's finds its data gone.
    """
    best = dict.fromkeys(calls, float("inf"))
    begin = gained = now = time.perf_counter()
    turn = 0
    while turn < _LEAST_TURNS or (now - gained < _IDLE_S and now - begin < _MAX_S):
        turn += 1
        for key, call in calls.items():
            took, end = 0.0, time.perf_counter() + _BURST_S
            while took == 0 or now < end:
                start = time.perf_counter()
                call()
                took = (now := time.perf_counter()) - start
                gained = now if took < (1 - _WORTH) * best[key] else gained
                best[key] = min(best[key], took)
    return best


def _bandwidths(threads: int) -> tuple[Bandwidth, ...]:
    """Of copies that touch so many bytes in all, shared out among the threads."""
    repeats = {kib: max(1, _COPIED_BYTES // (kib * 1024)) for kib in _KIB}
    with ThreadPoolExecutor(threads) as pool:
        pairs = {kib: _halves(kib * 1024, threads) for kib in _KIB}
        calls = {kib: partial(_copy_all, pool, pairs[kib], repeats[kib]) for kib in _KIB}
        took = _least_seconds(calls)
    rates = {kib * 1024: repeats[kib] * kib * 1024 / took[kib] for kib in _KIB}
    # What a large memory was seen to give, a smaller one gives too.
    return tuple(Bandwidth(size, max(rate for other, rate in rates.items() if other >= size)) for size in rates)


def _copy_all(pool: ThreadPoolExecutor, pairs: Sequence[tuple[np.ndarray, np.ndarray]], repeats: int) -> None:
    list(pool.map(lambda pair: _copy(pair[0], pair[1], repeats), pairs))


def _halves(size_bytes: int, threads: int) -> list[tuple[np.ndarray, np.ndarray]]:
    count = size_bytes // (2 * threads)
    return [(np.ones(count, "uint8"), np.zeros(count, "uint8")) for _ in range(threads)]


def _copy(source: np.ndarray, target: np.ndarray, repeats: int) -> None:
    for _ in range(repeats):
        np.copyto(target, source)
