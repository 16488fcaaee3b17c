"""Profiling and verifying on a device by SSH: a real server on the loopback, a Python with numpy and one engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.bundle import BundleWriter, Golden
from edgekit.errors import (
    ArtifactError,
    ConversionError,
    EdgekitError,
    InputError,
    UnavailableError,
    UnsupportedError,
)
from edgekit.measuring.reading import read_profile
from edgekit.report.profile_view import view
from edgekit.report.text import render
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec
from edgekit.verification import verify
from tests import sshd
from tests.contract.sample_models import DENSE_BIAS, DENSE_WEIGHTS, dense

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 6)),), (TensorSpec("y", "float32", ("batch", 5)),))
QUICK: dict[str, Any] = {"rounds": 2, "min_samples": 4, "min_time_s": 0.0, "warmup_s": 0.0, "cold_starts": 0}


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Device]:
    folder = tmp_path_factory.mktemp("device")
    with sshd.serving(folder) as device, pytest.MonkeyPatch.context() as patch:
        sshd.install_client(patch, folder / "client", device.config)
        yield device


@pytest.fixture
def fresh(device: sshd.Device) -> sshd.Device:
    """The device as it is before anything was copied to it, with no login script."""
    shutil.rmtree(device.store, ignore_errors=True)
    device.bashrc("")
    return device


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(tmp_path_factory.mktemp("bundle") / "dense.edge", 0.0)


def _bundle(path: Path, off: float) -> Path:
    """A dense layer for ONNX Runtime whose golden answers are off by so much."""
    feeds = tuple({"x": np.full((1, 6), i + 1, "float32")} for i in range(2))
    answers = tuple({"y": feed["x"] @ DENSE_WEIGHTS + DENSE_BIAS + np.float32(off)} for feed in feeds)
    model = path.parent / "dense.onnx"
    onnx.save(dense(), model)
    with BundleWriter(path) as writer:
        writer.add(name="onnx-fp32", format="onnx", precision="fp32", files=[model], facts={"tolerance": {"y": 1e-4}})
        writer.commit(
            name="dense", signature=SIGNATURE, processing={}, target="host", golden=Golden(feeds, answers),
            statistics={}, provenance={},
        )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes long enough for something to happen meanwhile."""
    return write_null(tmp_path_factory.mktemp("slow") / "slow.null.json", SIGNATURE, delay_ms=50)


def _profile_slowly(device: sshd.Device, model: Path, meanwhile: Callable[[], None]) -> None:
    """Profiles for a minute, and does something once the rounds have begun."""
    begun = threading.Event()

    def progress(done: int, total: int, what: str) -> None:
        if what.startswith("round"):
            begun.set()

    def act() -> None:
        if begun.wait(60):
            meanwhile()

    actor = threading.Thread(target=act)
    actor.start()
    try:
        edgekit.profile(
            model, runtime="null", rounds=100, min_samples=2000, max_time_s=60, device=device.uri, progress=progress
        )
    finally:
        actor.join()


# -- what a user does --------------------------------------------------------------------------------------------


def test_the_device_has_numpy_and_an_engine_and_nothing_else(device: sshd.Device) -> None:
    """Otherwise the tests below would not show that the agent brings all it needs."""
    for module in ("edgekit", "click", "rich", "onnx", "ai_edge_litert", "openvino"):
        command = [device.python, "-P", "-c", f"import {module}"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "ModuleNotFoundError" in found.stderr, module
    subprocess.run([device.python, "-c", "import numpy, onnxruntime"], check=True)


def test_profile_measures_on_the_device_and_copies_only_once(
    fresh: sshd.Device, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sshd.install_client(monkeypatch, tmp_path / "client", fresh.config, "-v", "-E", tmp_path / "ssh.log")
    seen: list[str] = []
    first = edgekit.profile(bundle, device=fresh.uri, **QUICK, progress=lambda done, total, what: seen.append(what))
    assert (first.device, first.source, first.target) == (fresh.uri, str(bundle), "host")
    assert first.environment.packages.keys() == {"numpy", "onnxruntime"}
    assert [(m.candidate.variant, m.candidate.runtime, m.status) for m in first.measurements] == [
        ("onnx-fp32", "onnx", "measured")
    ]
    assert first.measured[0].output_difference == 0
    assert len(first.measured[0].latency.rounds_us) == 2  # type: ignore[union-attr]
    assert any(what.startswith("copying dense.edge") for what in seen)
    assert any(what.endswith("onnx-fp32 on onnx") for what in seen)
    there = fresh.received()
    assert any(path.endswith("edgekit/profiling.py") for path in there)

    second = edgekit.profile(bundle, device=fresh.uri, **QUICK)
    assert second.measured
    assert fresh.received() == there
    sent = [int(count) for count in re.findall(r"Transferred: sent (\d+)", (tmp_path / "ssh.log").read_text())]
    assert len(sent) == 2
    code = sum((fresh.store / path).stat().st_size for path in there)
    assert sent[0] > code / 5  # compressed
    assert sent[1] < 50_000  # what there is, named with its hash, and the requests
    assert fresh.wait_until_idle() == {}


def test_the_command_line_profiles_on_a_device(device: sshd.Device, bundle: Path, tmp_path: Path) -> None:
    device.bashrc("")
    output = tmp_path / "there.json"
    run = _edgekit("profile", bundle, "--device", device.uri, "--rounds", "2", "-o", output)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"Profile of {bundle} on {device.uri}\n")
    assert read_profile(output).device == device.uri
    run = _edgekit("verify", bundle, "--device", device.uri, "--device-python", "~/bin/python3", "--json")
    record = json.loads(run.stdout)
    assert (run.returncode, record["device"], record["bundle"], record["passed"]) == (0, device.uri, str(bundle), True)


def _edgekit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_profile_of_a_device_reads_like_one_of_this_machine(device: sshd.Device, slow_model: Path) -> None:
    there = edgekit.profile(slow_model, runtime="null", device=device.uri, **QUICK)
    here = edgekit.profile(slow_model, runtime="null", **QUICK)
    assert there.to_json().keys() == here.to_json().keys()
    assert there.to_json()["measurements"][0].keys() == here.to_json()["measurements"][0].keys()
    assert there.environment.cpu == here.environment.cpu
    assert replace(there.settings, feeds="") == replace(here.settings, feeds="")
    assert render(view(there)).startswith(f"Profile of {slow_model} on {device.uri}\n")


def test_given_inputs_are_run_on_the_device(device: sshd.Device, bundle: Path) -> None:
    feeds = [{"x": np.full((3, 6), value, "float32")} for value in (1, 2)]
    found = edgekit.profile(bundle, device=device.uri, inputs=feeds, **QUICK)
    assert (found.settings.feeds, found.settings.feed_shapes) == ("2 given", {"x": [3, 6]})
    with pytest.raises(InputError, match=rf"{re.escape(device.uri)}: .*missing \['x'\]"):
        edgekit.profile(bundle, device=device.uri, inputs=[{"z": np.zeros(3, "float32")}], **QUICK)


def test_wrong_answers_on_the_device_are_found_before_anything_is_timed(device: sshd.Device, tmp_path: Path) -> None:
    wrong = _bundle(tmp_path / "wrong.edge", off=1.0)
    checked = verify(wrong, device=device.uri)
    assert [(row.status, row.runtime) for row in checked.rows] == [("failed", "onnx")]
    assert not checked.passed
    with pytest.raises(ArtifactError, match="golden"):
        edgekit.profile(wrong, device=device.uri, **QUICK)


def test_a_damaged_bundle_is_refused_by_the_path_the_user_knows(device: sshd.Device, tmp_path: Path) -> None:
    damaged = _bundle(tmp_path / "damaged.edge", off=0.0)
    file = next(damaged.glob("model-*.onnx"))
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=re.escape(f"{device.uri}: the bundle {damaged} is damaged")):
        edgekit.profile(damaged, device=device.uri, **QUICK)


def test_a_talkative_login_script_does_no_harm(fresh: sshd.Device, bundle: Path) -> None:
    fresh.bashrc(
        'echo "Welcome to the board"; echo "~0123.{}"; printf "no end"; echo oops >&2\n'
        "(for i in 1 2 3 4 5 6 7 8 9; do echo still here $i; sleep 0.2; done) &\n"
    )
    assert verify(bundle, device=fresh.uri).passed
    fresh.bashrc("")


# -- what can go wrong -------------------------------------------------------------------------------------------


def _refused(kind: type[EdgekitError], device: sshd.Device, bundle: Path, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        verify(bundle, device=more.pop("uri", device.uri), **more)
    assert type(caught.value) is kind
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("pi@host", InputError),
        ("ssh://", InputError),
        ("ssh://-oProxyCommand=touch x", InputError),
        ("ssh://-x@host", InputError),
        ("ssh://host:0", InputError),
        ("ssh://host:70000", InputError),
        ("ssh://a@b@host", InputError),
        ("telnet://host", UnsupportedError),
    ],
)
def test_what_is_no_device_is_refused(bundle: Path, uri: str, kind: type[EdgekitError]) -> None:
    with pytest.raises(kind):
        verify(bundle, device=uri)


def test_a_device_that_is_not_there_or_not_known_is_refused_with_what_to_do(
    device: sshd.Device, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _refused(UnavailableError, device, bundle, uri="ssh://127.0.0.1:1")
    assert "nothing answers at that port" in said
    config = device.config.read_text(encoding="utf-8")
    stranger = tmp_path / "known"
    for known, words in (("", "host key is not known"), (_other_key(tmp_path, device.port), "another host key")):
        stranger.write_text(known, encoding="utf-8")
        changed = tmp_path / "config"
        changed.write_text(config.replace(f"{device.folder}/known", str(stranger)), encoding="utf-8")
        sshd.install_client(monkeypatch, tmp_path / "client", changed)
        assert words in _refused(UnavailableError, device, bundle)
    changed.write_text(config.replace(f"{device.folder}/user", str(tmp_path / "other")), encoding="utf-8")
    assert "ssh-copy-id" in _refused(UnavailableError, device, bundle)


def _other_key(folder: Path, port: int) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "other")], check=True)
    return f"[127.0.0.1]:{port} {(folder / 'other.pub').read_text(encoding='utf-8')}"


def test_a_host_without_ssh_says_so(
    device: sshd.Device, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install openssh-client" in _refused(UnavailableError, device, bundle)


def test_a_python_that_is_absent_old_or_bare_is_refused_by_name(
    device: sshd.Device, bundle: Path, tmp_path: Path
) -> None:
    assert "has no program /no/python" in _refused(UnavailableError, device, bundle, device_python="/no/python")
    text = device.home / "bin" / "text"
    text.write_text("", encoding="utf-8")
    assert "Permission denied" in _refused(UnavailableError, device, bundle, device_python="~/bin/text")
    old = device.program("old", f'exec {device.python} -c "import sys;sys.version_info=(3, 9, 2, 0, 0);$2"\n')
    assert "has Python 3.9.2" in _refused(UnavailableError, device, bundle, device_python=str(old))
    bare = sshd.make_python(tmp_path / "bare", ())
    assert f"{bare} -m pip install numpy" in _refused(UnavailableError, device, bundle, device_python=str(bare))
    empty = sshd.make_python(tmp_path / "empty", ("numpy",))
    said = _refused(UnavailableError, device, bundle, device_python=str(empty))
    assert "has no engine" in said
    assert "pip install ai-edge-litert" in said


def test_a_full_device_is_left_as_it_was(fresh: sshd.Device, bundle: Path) -> None:
    """The limit on a file's size ends a write in the middle, as a full disk does."""
    small = fresh.program("small", f'ulimit -f 8; exec {fresh.python} "$@"\n')
    said = _refused(ArtifactError, fresh, bundle, device_python=str(small))
    assert "File too large" in said
    assert "make room" in said
    assert fresh.received() == {}
    assert verify(bundle, device=fresh.uri).passed


def test_a_session_that_is_cut_ends_both_sides(device: sshd.Device, slow_model: Path) -> None:
    with pytest.raises(ConversionError, match=r"the connection to ssh://.* broke") as caught:
        _profile_slowly(device, slow_model, lambda: _kill(device.sessions(), signal.SIGKILL))
    assert "run it again" in caught.value.hint
    assert device.wait_until_idle() == {}


def test_an_agent_that_is_killed_takes_its_children_along(device: sshd.Device, slow_model: Path) -> None:
    with pytest.raises(ConversionError, match="the agent was killed there"):
        _profile_slowly(device, slow_model, lambda: _kill(device.agents(), signal.SIGKILL))
    assert device.wait_until_idle() == {}


def _kill(pids: list[int], number: int) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_worse_leave_nothing_running_on_the_device(
    device: sshd.Device, slow_model: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "edgekit", "profile", str(slow_model), "-v", "--runtime", "null"]
    with subprocess.Popen(
        [*command, "--rounds", "1000", "--device", device.uri],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` has it ignored
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "round" in line:
                break
        assert device.processes()
        process.send_signal(number)
        process.stderr.read()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert device.wait_until_idle(limit_s=1.0 if number == signal.SIGINT else 15.0) == {}
