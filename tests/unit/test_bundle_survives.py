"""The bundle under kills, full disks, forbidden folders and other writers: the old one whole or the new one whole."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.bundle import Bundle, BundleWriter
from edgekit.errors import ArtifactError
from tests.unit import bundles

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.unit.bundles", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("suffix", [".edge", ".edge.zip"])
@pytest.mark.parametrize("before", ["create", "replace"])
def test_a_kill_at_every_step_leaves_old_or_new(tmp_path: Path, suffix: str, before: str) -> None:
    """Every call to the file system of one write is once the last thing the writer does."""
    with start("points", tmp_path, suffix, before) as driver:
        points = json.loads(driver.communicate()[0])
    states = [point["state"] for point in points]
    old = "none" if before == "create" else "generation 1"
    assert len(points) > 40
    assert set(states) == {old, "generation 2"}
    assert states == sorted(states, key=["none", "generation 1", "generation 2"].index), "the new one came to stay"
    assert {point["after"] for point in points} == {"generation 3"}
    assert [point for point in points if point["leftovers"]] == []


def kill_at_random(path: Path, times: int) -> None:
    rng = random.Random(2024)
    bundles.write(path, 1, size_bytes=2 << 20)
    for round_number in range(times):
        first = 1000 * (round_number + 1)
        with start("loop", path, first, 1000) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.06))
            writer.kill()
        assert bundles.read(path) >= 1
    bundles.write(path, 7, force=True)
    assert bundles.read(path) == 7
    assert bundles.leftovers(path) == []


def test_kills_at_random_moments(tmp_path: Path) -> None:
    kill_at_random(tmp_path / "home" / "sample.edge", 20)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".edge", ".edge.zip"])
def test_many_kills_at_random_moments(tmp_path: Path, suffix: str) -> None:
    kill_at_random(tmp_path / "home" / f"sample{suffix}", 200)


@pytest.mark.parametrize("suffix", [".edge", ".edge.zip"])
def test_several_writers_and_a_reader(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "home" / f"sample{suffix}"
    bundles.write(path, 1)
    writers = [start("loop", path, 1000 * (number + 1), 12) for number in range(3)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        bundle = Bundle.open(path)
        try:
            bundle.verify()
            bundle.golden()
        except ArtifactError:
            assert not bundle.is_current(), "a bundle that is in place is whole"
            continue
        seen.add(bundle.provenance["generation"])
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert len(seen) > 3
    assert bundles.read(path) in {1011, 2011, 3011}
    assert bundles.leftovers(path) == []


def test_two_that_create_at_once_get_one_bundle(tmp_path: Path) -> None:
    path = tmp_path / "home" / "sample.edge"
    writers = [start("loop", path, generation, 1) for generation in (1, 2)]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert bundles.read(path) in {1, 2}
    assert bundles.leftovers(path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root; test_no_space_at_any_step needs none")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("suffix", [".edge", ".edge.zip"])
@pytest.mark.parametrize("size_bytes", [1_300_000, 3_000_000], ids=["in the zip", "in the block"])
def test_a_full_disk_leaves_the_old_bundle(small_disk: Path, suffix: str, size_bytes: int) -> None:
    path = small_disk / f"sample{suffix}"
    bundles.write(path, 1, size_bytes=500_000)
    (small_disk / "ballast").write_bytes(bytes(1_000_000 if suffix == ".edge.zip" else 1_800_000))
    with pytest.raises(ArtifactError, match="no space left") as caught:
        bundles.write(path, 2, force=True, size_bytes=size_bytes)
    assert caught.value.hint
    (small_disk / "ballast").unlink()
    assert bundles.read(path) == 1
    assert bundles.leftovers(path) == []


def test_too_little_space_is_said_before_work(small_disk: Path) -> None:
    with pytest.raises(ArtifactError, match="9 MB, but the disk has 4 MB free"):
        BundleWriter(small_disk / "new" / "sample.edge", needs_bytes=9_000_000)
    assert bundles.names(small_disk) == []


def test_a_disk_mounted_at_the_bundle_itself(small_disk: Path, tmp_path: Path) -> None:
    """No rename leads into it from beside it, so the stage must be inside."""
    path = tmp_path / "sample.edge"
    path.mkdir()
    subprocess.run(["mount", "--bind", small_disk, path], check=True)
    try:
        bundles.write(path, 1)
        bundles.write(path, 2, force=True)
        assert bundles.read(path) == 2
        assert not [name for name in bundles.names(path) if name.startswith(".")]
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("suffix", [".edge", ".edge.zip"])
def test_a_disk_that_may_only_be_read(small_disk: Path, suffix: str) -> None:
    path = small_disk / f"sample{suffix}"
    bundles.write(path, 1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(ArtifactError, match="not allowed to write") as caught:
        bundles.write(path, 2, force=True)
    assert caught.value.hint
    assert bundles.read(path) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder; the read-only disk stands for it")
def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    path = tmp_path / "home" / "sample.edge"
    bundles.write(path, 1)
    path.parent.chmod(0o555)
    with pytest.raises(ArtifactError, match="not allowed to write"):
        bundles.write(path, 2, force=True)
    path.parent.chmod(0o755)
    assert bundles.read(path) == 1


@pytest.mark.parametrize("suffix", [".edge", ".edge.zip"])
@pytest.mark.parametrize(
    "interrupt", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "dying disk"), KeyboardInterrupt()]
)
def test_no_space_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, interrupt: BaseException
) -> None:
    """Every rename, link and sync of a write fails once, before or after it was done."""
    path = tmp_path / "home" / f"sample{suffix}"
    bundles.write(path, 1)
    generation = 1
    failed = step = 0
    while True:
        step += 1
        with monkeypatch.context() as patch:
            was_hit = fail_at(patch, step, interrupt)
            try:
                bundles.write(path, step + 1, force=True)
            except (ArtifactError, KeyboardInterrupt):
                failed += 1
            if not was_hit:
                break
        found = bundles.read(path)
        assert found in {generation, step + 1}
        generation = found
        assert bundles.names(path.parent) == [path.name]
    assert failed > 10
    assert bundles.read(path) == step + 1
    assert bundles.leftovers(path) == []


def fail_at(patch: pytest.MonkeyPatch, step: int, error: BaseException) -> list[int]:
    """Makes the `step`-th of these calls fail: odd ones before they act, even ones after."""
    calls = 0
    hit: list[int] = []
    for name in ("replace", "rename", "fsync"):
        original = getattr(os, name)

        def failing(*arguments: object, original: object = original) -> object:
            nonlocal calls
            calls += 1
            if calls == (step + 1) // 2:
                hit.append(step)
                if step % 2 == 0:
                    original(*arguments)  # type: ignore[operator]
                raise error
            return original(*arguments)  # type: ignore[operator]

        patch.setattr(os, name, failing)
    return hit


def test_all_is_on_the_disk_before_the_manifest_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a loss of power a manifest must not refer to files the disk never got."""
    path = bundles.write(tmp_path / "sample.edge", 1).root
    synced: set[str] = set()
    moved: dict[str, bool] = {}
    sync, replace = os.fsync, os.replace

    def recorded_sync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def recorded_replace(source: Path, destination: Path) -> None:
        if Path(destination).parent == path:
            moved[Path(destination).name] = Path(source).name in synced
            if Path(destination).name == "edgekit.json":
                assert path.name in synced, "the folder's new names are on the disk first"
            else:
                synced.discard(path.name)
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    bundle = bundles.write(path, 2, force=True)
    content = [file.path for variant in bundle.variants for file in variant.files]
    assert all(moved[name] for name in [*content, bundle.golden_file.path, "edgekit.json"])
