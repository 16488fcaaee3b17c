"""A real SSH server on the loopback as the device, whose Python has numpy, one engine, and nothing else."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER = shutil.which("sshd") or "/usr/sbin/sshd"
CLIENT = shutil.which("ssh") or "/usr/bin/ssh"
ENGINE = "onnxruntime"
_START_S = 10.0


def require_sshd() -> None:
    """Skips a test where there is no server, with the command that adds it."""
    missing = [name for name in (SERVER, CLIENT, "ssh-keygen") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install openssh-server openssh-client")


def make_python(folder: Path, packages: Sequence[str] = ("numpy", ENGINE)) -> Path:
    """An environment of its own with links to these installed packages: no edgekit, click, rich or onnx in it."""
    venv.create(folder, symlinks=True)
    here = Path(sysconfig.get_paths()["purelib"])
    there = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for package in packages:
        for pattern in (package, f"{package}.libs", f"{package}-*.dist-info"):
            for place in here.glob(pattern):
                (there / place.name).symlink_to(place)
    return folder / "bin" / "python"


@dataclass
class Device:
    """A server, the home folder its logins get, and a client set up to reach it.

    Attributes:
        home: What logins have for home; its ``.bashrc`` is read as on any device.
        python: The Python the device's command ``python3`` is.
        config: The client's.
        log: What the server said.
        server: The server's process.
    """

    folder: Path
    home: Path
    python: Path
    port: int
    config: Path
    log: Path
    server: int

    @property
    def store(self) -> Path:
        return self.home / ".cache" / "edgekit"

    @property
    def uri(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def program(self, name: str, text: str) -> Path:
        """A shell script in the folder of programs that logins have first in their path."""
        return script(self.home / "bin" / name, text)

    def bashrc(self, text: str) -> None:
        (self.home / ".bashrc").write_text(text, encoding="utf-8")

    def received(self) -> dict[str, int]:
        """Every file in the store by its path, with the number of the very file: a copy made anew has another."""
        kinds = [self.store / kind for kind in ("agents", "received")]
        files = [path for kind in kinds for path in kind.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        return {path.relative_to(self.store).as_posix(): path.stat().st_ino for path in files}

    def processes(self) -> dict[int, str]:
        """Command lines of what logins have started, by process."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended, or is another user's
                continue
            if line and f"HOME={self.home}".encode() in environment:
                found[int(entry.name)] = line
        return found

    def agents(self) -> list[int]:
        """The processes whose stdin is the connection."""
        return [pid for pid, line in self.processes().items() if "s.readline" in line]

    def sessions(self) -> list[int]:
        """The server's processes that hold a connection."""
        lines = [entry.read_text(errors="replace") for entry in Path("/proc").glob("[0-9]*/stat")]
        fields = [line.rpartition(")")[2].split() for line in lines]
        pids = [int(line.split()[0]) for line in lines]
        return [pid for pid, field in zip(pids, fields, strict=True) if int(field[1]) == self.server]

    def wait_until_idle(self, limit_s: float = 15.0) -> dict[int, str]:
        """What still runs there after so long."""
        end = time.monotonic() + limit_s
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
        return left


def script(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
    path.chmod(0o755)
    return path


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text(encoding="utf-8")


def _configure(folder: Path, home: Path, port: int) -> tuple[Path, Path]:
    """Keys and configuration of both sides."""
    host_key, user_key = _key(folder / "host"), _key(folder / "user")
    (folder / "authorized").write_text(user_key, encoding="utf-8")
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}", encoding="utf-8")
    # bash reads .bashrc under sshd, and takes its home from HOME; the server would give it the real one.
    login = script(
        folder / "login",
        f'export HOME={home} PATH={home}/bin:/usr/bin:/bin\ncd; exec /bin/bash -c "$SSH_ORIGINAL_COMMAND"\n',
    )
    server = folder / "sshd_config"
    server.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nForceCommand {login}\nLogLevel VERBOSE\n",
        encoding="utf-8",
    )
    client = folder / "ssh_config"
    client.write_text(
        f"Host *\n  UserKnownHostsFile {folder}/known\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
        f"  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  IdentityAgent none\n  UpdateHostKeys no\n",
        encoding="utf-8",
    )
    return server, client


@contextmanager
def serving(folder: Path) -> Iterator[Device]:
    """The server with a device's home in `folder`, until the block ends."""
    require_sshd()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a server of root's keeps its children; init makes it
    home, port = folder / "home", _free_port()
    home.mkdir()
    python = make_python(folder / "python")
    server, client = _configure(folder, home, port)
    log = folder / "sshd.log"
    with log.open("wb") as sink:
        process = subprocess.Popen([SERVER, "-D", "-e", "-f", str(server)], stderr=sink, stdin=subprocess.DEVNULL)
        try:
            device = Device(folder, home, python, port, client, log, process.pid)
            device.program("python3", f'exec {python} "$@"\n')
            _wait_until_it_listens(process, port, log)
            yield device
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"sshd does not listen: {log.read_text(encoding='utf-8', errors='replace')}")


def install_client(patch: pytest.MonkeyPatch, folder: Path, config: Path, *options: object) -> None:
    """Has the command ``ssh`` read `config` in place of the user's, whose own is never touched."""
    script(folder / "ssh", f'exec {CLIENT} -F {config} {" ".join(map(str, options))} "$@"\n')
    patch.setenv("PATH", str(folder), prepend=os.pathsep)
