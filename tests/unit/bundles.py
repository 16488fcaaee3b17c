"""Small bundles of random bytes for tests of the writing and reading, and the writers that get killed.

Run as a module it is such a writer: ``python -m tests.unit.bundles loop|points PATH ...``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import Bundle, BundleWriter, Golden
from edgekit.errors import EdgekitError
from edgekit.spec import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("serving/x:0", "float32", ("N", 3)),),
    outputs=(TensorSpec("y", "float32", ("N", 2)), TensorSpec("label", "int64", ("N",))),
)


def golden(generation: int) -> Golden:
    feeds = {"serving/x:0": np.full((1, 3), generation, "float32")}
    outputs = {"y": np.full((1, 2), -generation, "float32"), "label": np.array([generation], "int64")}
    return Golden((feeds, feeds), (outputs, outputs))


def write(path: Path, generation: int, *, force: bool = False, size_bytes: int = 20_000) -> Bundle:
    """A bundle of one .tflite file and one .xml/.bin pair whose bytes are decided by `generation`."""
    rng = np.random.default_rng(generation)
    with BundleWriter(path, force=force) as writer:
        single = writer.stage / "model.tflite"
        single.write_bytes(rng.bytes(size_bytes))
        writer.add(
            name="tflite-w8a8", format="tflite", precision="w8a8", files=[single], facts={"tolerance": {"y": 0.5}}
        )
        pair = [writer.stage / "net.xml", writer.stage / "net.bin"]
        pair[0].write_text(f"<net generation='{generation}'/>")
        pair[1].write_bytes(rng.bytes(size_bytes // 2))
        writer.add(name="openvino-fp32", format="openvino", precision="fp32", files=pair, output_names={"y": "out"})
        return writer.commit(
            name="sample",
            signature=SIGNATURE,
            processing={"input": ["image"]},
            target="host",
            golden=golden(generation),
            statistics={"inputs": {}},
            provenance={"generation": generation},
        )


def read(path: Path) -> int:
    """The generation of the bundle at `path`, everything of it verified."""
    bundle = Bundle.open(path)
    bundle.verify()
    generation: int = bundle.provenance["generation"]
    assert bundle.golden().outputs[1]["label"].tolist() == [generation]
    return generation


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def leftovers(path: Path) -> list[str]:
    """Names beside the bundle, and in its folder, that a finished bundle does not have."""
    extra = [name for name in names(path.parent) if name != path.name]
    if path.is_dir():
        files = [file.path for variant in Bundle.open(path).variants for file in variant.files]
        friendly = ["model-w8a8.tflite", "model-fp32.xml", "model-fp32.bin"]
        known = {"edgekit.json", Bundle.open(path).golden_file.path, *files, *friendly}
        extra += [f"{path.name}/{name}" for name in set(names(path)) ^ known]
    return sorted(extra)


_STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.listdir", "os.scandir"}


def _die_at_step(number: int) -> None:
    """Makes this process kill itself just before the `number`-th thing it does to the file system."""
    count = 0

    def step(event: str, _: object) -> None:
        nonlocal count
        if event in _STEPS:
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sync = os.fsync

    def counted_sync(descriptor: int) -> None:
        step("open", None)
        sync(descriptor)

    os.fsync = counted_sync
    sys.addaudithook(step)


def _state(path: Path) -> str:
    if not os.path.lexists(path):
        return "none"
    try:
        return f"generation {read(path)}"
    except EdgekitError as error:
        return f"broken: {error}"


def _kill_at(path: Path, number: int, force: bool) -> bool:
    """Whether the writer was killed before it was done."""
    child = os.fork()
    if child == 0:
        _die_at_step(number)
        write(path, 2, force=force)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"the writer failed at step {number}")
    return os.WIFSIGNALED(status)


def _points(home: Path, suffix: str, had_one: bool) -> list[dict[str, Any]]:
    """What is found after a kill at every step of writing, and after the next writer."""
    found = []
    number = 0
    was_killed = True
    while was_killed:
        number += 1
        folder = home / str(number)
        folder.mkdir()
        path = folder / f"sample{suffix}"
        if had_one:
            write(path, 1)
        was_killed = _kill_at(path, number, force=had_one)
        state = _state(path)
        write(path, 3, force=had_one or state != "none")
        found.append({"state": state, "after": _state(path), "leftovers": leftovers(path)})
    return found


def _loop(path: Path, first: int, count: int) -> None:
    print("ready", flush=True)
    for generation in range(first, first + count):
        write(path, generation, force=True)


if __name__ == "__main__":
    if sys.argv[1] == "loop":
        _loop(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        print(json.dumps(_points(Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "replace")))
