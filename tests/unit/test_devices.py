"""Devices: addresses and command lines, what is copied, the connection and the agent's first part, all on this machine.

A real server is met in tests/end_to_end/test_remote_device.py. What is tested of adb is the contract: that its command
lines are right and that all works over a program which runs them. No phone takes part.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.devices import adb, channel
from edgekit.devices.access import Access, reach, start_command
from edgekit.devices.agent import VERBS
from edgekit.devices.boot import Store
from edgekit.devices.channel import Channel
from edgekit.devices.parcel import Parcel, agent_parcel, file_parcel, model_parcel
from edgekit.devices.remote import Device, ask_device
from edgekit.errors import ArtifactError, ConversionError, InputError, UnavailableError
from edgekit.profiling import profile
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec
from tests.contract.sample_models import dense
from tests.sshd import make_python, script

SIGNATURE = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))


# -- addresses and command lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "end"),
    [
        ("ssh://pi", ["--", "pi", "echo"]),
        ("ssh://pi@board.local/", ["-l", "pi", "--", "board.local", "echo"]),
        ("ssh://pi@10.0.0.7:2222", ["-p", "2222", "-l", "pi", "--", "10.0.0.7", "echo"]),
        ("ssh://pi@[fe80::1%eth0]:22", ["-p", "22", "-l", "pi", "--", "fe80::1%eth0", "echo"]),
    ],
)
def test_ssh_is_given_the_address_and_never_asks(uri: str, end: list[str]) -> None:
    command = list(reach(uri).command("echo"))
    assert command[0] == "ssh"
    assert command[-len(end) :] == end
    assert "BatchMode=yes" in command
    assert "ServerAliveInterval=5" in command


def test_adb_is_given_the_serial_and_root_goes_through_su() -> None:
    plain, root = reach("adb://R5CT10"), reach("adb://root@192.168.1.5:5555")
    assert list(plain.command("exec python3 -c 'x'")) == ["adb", "-s", "R5CT10", "shell", "-T", "exec python3 -c 'x'"]
    assert list(root.command("echo 'a b'"))[1:] == [
        "-s", "192.168.1.5:5555", "shell", "-T", """su -c 'echo '"'"'a b'"'"''""",
    ]  # fmt: skip
    assert plain.cache == "/data/local/tmp/edgekit"
    for uri in ("adb://", "adb://-a", "adb://pi@x", "adb://a b"):
        with pytest.raises(InputError):
            reach(uri)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("ssh: Could not resolve hostname pi: Name or service not known", "check the name"),
        ("ssh: connect to host pi port 22: Connection timed out", "systemctl"),
        ("ssh: connect to host pi port 22: No route to host", "systemctl"),
        ("pi@pi: Permission denied (publickey,password).", "ssh-copy-id -p 22 pi@pi"),
        ("No ED25519 host key is known for pi\nHost key verification failed.", "ssh -p 22 pi@pi"),
        ("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.", "ssh-keygen -R '[pi]:22'"),
    ],
)
def test_what_ssh_says_is_told_with_what_to_do(said: str, hint: str) -> None:
    error = reach("ssh://pi@pi:22").explain(said)
    assert isinstance(error, UnavailableError)
    assert hint in error.hint


def test_what_ssh_did_not_cause_it_does_not_explain() -> None:
    assert reach("ssh://pi").explain("Traceback (most recent call last):") is None


def test_a_home_folder_is_that_of_the_device() -> None:
    assert start_command("~/my venv/bin/python").startswith("exec \"$HOME\"/'my venv/bin/python' -c '")
    assert start_command("/opt/x;y").startswith("exec '/opt/x;y' -c '")


# -- what is copied ----------------------------------------------------------------------------------------------


def test_the_agent_is_what_profiling_can_come_to_and_no_more() -> None:
    parcel = agent_parcel()
    paths = {piece.path for piece in parcel.pieces}
    assert {"edgekit/__init__.py", "edgekit/profiling.py", "edgekit/verification.py", "edgekit/worker.py"} <= paths
    assert {"edgekit/measuring/child.py", "edgekit/runtimes/onnx.py", "edgekit/processing/steps.py"} <= paths
    rooms = {path.split("/")[1] for path in paths}
    assert not rooms & {"cli", "report", "models", "making", "conversion", "compress", "training", "testing",
                         "converters", "quantize"}  # fmt: skip
    assert parcel.sha256 == agent_parcel.__wrapped__().sha256
    assert len(parcel.sha256) == 64
    assert parcel.size_bytes < 1_200_000


def test_a_parcel_is_named_by_names_and_content(tmp_path: Path) -> None:
    def parcel(content: bytes, name: str = "a.bin") -> str:
        (tmp_path / name).write_bytes(content)
        return file_parcel(tmp_path / name).sha256

    assert parcel(b"1") == parcel(b"1")
    assert len({parcel(b"1"), parcel(b"2"), parcel(b"1", "b.bin")}) == 3


def test_a_model_file_brings_its_weights_along(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text("<net/>", encoding="utf-8")
    (tmp_path / "m.bin").write_bytes(b"1")
    (tmp_path / "other.bin").write_bytes(b"2")
    assert _names(model_parcel(tmp_path / "m.xml")) == ["m.xml", "m.bin"]
    long = "w" * 150
    for place in ("inner/weights.data", long):
        (tmp_path / "inner").mkdir(exist_ok=True)
        model = dense()
        onnx.save(model, tmp_path / "d.onnx", save_as_external_data=True, location=place, size_threshold=0)
        assert _names(model_parcel(tmp_path / "d.onnx")) == ["d.onnx", place]


def _names(parcel: Parcel) -> list[str]:
    return [piece.path for piece in parcel.pieces]


def test_a_model_that_is_not_there_is_refused_before_anything_is_reached(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no file"):
        ask_device("ssh://nowhere.invalid", "verify", tmp_path / "none.onnx", {})


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"scenario": "server"}, {"bound_ms": 5.0}])
def test_wrong_use_is_refused_before_anything_is_reached(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        profile(tmp_path / "none.onnx", device="ssh://nowhere.invalid", **wrong)


# -- the connection ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_python(tmp_path_factory.mktemp("python") / "venv")


def _here(cache: Path, *command: str) -> Access:
    """This machine as a device."""
    return Access("here://", lambda line: command or ["/bin/sh", "-c", line], lambda said: None, str(cache))


@pytest.fixture
def started(python: Path, tmp_path: Path) -> Iterator[tuple[Device, Channel]]:
    with Channel(_here(tmp_path / "cache"), str(python)) as line:
        device = Device("here://", line, lambda done, total, what: None)
        device.start()
        yield device, line


def test_the_agent_says_what_the_device_is(started: tuple[Device, Channel], python: Path) -> None:
    said = started[0].call("probe", {})
    assert said["engines"]["onnx"]["available"]
    assert not said["engines"]["openvino"]["available"]
    assert said["environment"]["cores"] >= 1
    assert said["environment"]["packages"].keys() == {"numpy", "onnxruntime"}
    assert started[1].python == sys.version_info[:3]


def test_a_long_answer_comes_whole_between_what_others_print(python: Path, tmp_path: Path) -> None:
    noise = "(while echo '~noise.{\"beat\":'; do :; done) 2>/dev/null & "
    access = replace(_here(tmp_path), command=lambda line: ["/bin/sh", "-c", noise + line])
    with Channel(access, str(python)) as line:
        line.open()
        line.boot()
        files = [[f"f{number}", 1, "0" * 64] for number in range(50)]
        deep = "/".join(["x" * 200] * 15)
        got = line.ask(do="want", kind=deep, sha256="0", files=files)
    assert (got["has"], got["folder"]) == (False, f"{tmp_path}/{deep}/0")


def test_content_that_is_not_as_announced_is_refused(started: tuple[Device, Channel], tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    parcel = file_parcel(file)
    file.write_bytes(b"two")
    with pytest.raises(ArtifactError, match=r"model\.onnx did not arrive"):
        started[0].receive(parcel)
    assert not list((tmp_path / "cache" / "received").iterdir())
    assert Path(started[0].receive(file_parcel(file))).read_bytes() == b"two"


def test_a_copy_that_was_damaged_on_the_device_is_made_anew(started: tuple[Device, Channel], tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    there = Path(started[0].receive(file_parcel(file)))
    there.write_bytes(b"0ne")
    assert Path(started[0].receive(file_parcel(file))).read_bytes() == b"one"


def test_bytes_that_are_translated_on_the_way_are_found(started: tuple[Device, Channel], tmp_path: Path) -> None:
    _, line = started
    about = {"kind": "received", "sha256": "0" * 64, "files": [["a", 3, "0" * 64]]}
    line._write(json.dumps({"do": "put", **about}).encode() + b"\n3\nabc0\n")
    answer = line.receive()
    assert "garbled" in answer
    with pytest.raises(ConversionError, match="does not arrive"):
        started[0]._checked(answer)
    assert not list((tmp_path / "cache" / "received").iterdir())


def test_a_device_without_room_is_asked_first(tmp_path: Path) -> None:
    class Full:
        def ask(self, **request: Any) -> dict[str, Any]:
            return {"has": False, "free_bytes": 1_000_000, "folder": "/there"}

    file = tmp_path / "model.onnx"
    file.write_bytes(b"one")
    line: Any = Full()
    with pytest.raises(ArtifactError, match=r"no room for model\.onnx, 0\.0 MB: 1\.0 MB free"):
        Device("here://", line, lambda done, total, what: None).receive(file_parcel(file))


def test_a_device_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(channel, "QUIET_S", 0.2)
    with Channel(_here(tmp_path, "sleep", "600"), "python3") as line, pytest.raises(UnavailableError, match="answer"):
        line.open()


def test_the_host_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(channel, "_PING_S", 0.01)
    with Channel(_here(tmp_path, "cat"), "python3") as line:
        line.keep_alive()
        end = time.monotonic() + 30
        while line.sent_bytes < 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert line.sent_bytes >= 3


def test_an_agent_whose_host_falls_silent_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from edgekit.devices import boot; boot.LOST_S, boot.BEAT_S = 0.5, 0.05; "
        f"boot.serve(sys.stdin.buffer, 'me', {str(tmp_path)!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()  # until it ends
        assert process.wait(30) == 0
    assert b'~me.{"ready": 1}' in said
    assert said.count(b'~me.{"beat": 1}') >= 2


def test_what_was_not_used_for_long_goes(tmp_path: Path) -> None:
    day = 86400
    ages = {"agents/old": 31, "agents/new": 29, "received/old": 8, "received/new": 6, "received/.part-1-x": 2}
    for name, days in ages.items():
        (tmp_path / name).mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - days * day,) * 2)
    Store(tmp_path).sweep()
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")}
    assert left == {"agents/new", "received/new"}


def test_the_verbs_of_the_agent_are_what_a_device_is_asked() -> None:
    assert set(VERBS) == {"probe", "profile", "verify"}


# -- adb, over a stand-in ----------------------------------------------------------------------------------------


@pytest.fixture
def phone(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for `adb` that runs here what it is to run on a phone with the serial R5CT10, which has `su`."""
    tools = tmp_path / "tools"
    script(
        tools / "adb",
        f'echo "$@" >> {tmp_path}/adb.log\n'
        'if [ "$1 $2 $3 $4" != "-s R5CT10 shell -T" ]; then echo "error: device \'$2\' not found" >&2; exit 1; fi\n'
        'shift 4; unset HOME; exec /bin/sh -c "$*"\n',
    )
    script(tools / "su", '[ "$1" = -c ] && exec /bin/sh -c "$2"\n')
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setattr(adb, "_CACHE", str(tmp_path / "data"))
    return tmp_path


@pytest.mark.parametrize("login", ["", "root@"])
def test_a_profile_by_adb_comes_with_the_word_that_no_phone_was_tried(phone: Path, python: Path, login: str) -> None:
    model = write_null(phone / "m.null.json", SIGNATURE)
    uri = f"adb://{login}R5CT10"
    found = profile(
        model, runtime="null", rounds=1, min_samples=2, min_time_s=0, cold_starts=0, device=uri,
        device_python=str(python), inputs=[{"x": np.zeros((1, 4), "float32")}],
    )  # fmt: skip
    assert (found.device, len(found.measured), found.settings.feeds) == (uri, 1, "1 given")
    assert [caveat.message for caveat in found.warnings if caveat.kind == "evidence"] == [
        "it came by adb, which is tested against a stand-in for a phone only: no phone has been tried"
    ]
    assert sorted(path.name for path in (phone / "data").iterdir()) == ["agents", "received", "tmp"]
    assert not list((phone / "data" / "tmp").glob("edgekit*"))
    called = (phone / "adb.log").read_text(encoding="utf-8")
    assert called.startswith("-s R5CT10 shell -T " + ("su -c 'exec" if login else "exec"))
    assert called.count("\n") == 1


def test_a_phone_that_is_not_there_is_refused(phone: Path) -> None:
    model = write_null(phone / "m.null.json", SIGNATURE)
    with pytest.raises(UnavailableError, match="no such phone") as caught:
        profile(model, device="adb://OTHER")
    assert "adb devices" in caught.value.hint
