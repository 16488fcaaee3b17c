"""Zipped bundles: unpacked once, and those made to do harm refused, cheaply, before anything of them is unpacked."""

from __future__ import annotations

import io
import stat
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.bundle.archive import Archive, write_zip
from edgekit.errors import ArtifactError, UnsupportedError
from tests.unit import bundles


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgekit" / "bundles"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write(tmp_path_factory.mktemp("home") / "sample.edge", 1, size_bytes=300)


def zipped(sample: Bundle, extra: Callable[[zipfile.ZipFile], None], leave_out: str = "") -> bytes:
    """The sample as a zip file, and what `extra` adds."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for entry in sorted(sample.root.iterdir()):
            if not entry.match(leave_out or "none"):
                archive.write(entry, entry.name)
        extra(archive)
    return sink.getvalue()


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def device(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("device")
    info.external_attr = (stat.S_IFCHR | 0o666) << 16
    archive.writestr(info, "")


def twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("edgekit.json", b"{}")


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("zeros", bytes(64 << 20), zipfile.ZIP_DEFLATED, 9)


def many_small_bombs(archive: zipfile.ZipFile) -> None:
    for number in range(400):
        archive.writestr(f"zeros{number}", bytes(60_000), zipfile.ZIP_DEFLATED, 9)


def crowd(archive: zipfile.ZipFile) -> None:
    for number in range(5000):
        archive.writestr(str(number), b"")


def squeezed(archive: zipfile.ZipFile) -> None:
    archive.writestr("squeezed", b"x" * 99, zipfile.ZIP_LZMA)


def comment(archive: zipfile.ZipFile) -> None:
    archive.comment = b"PK\x05\x06" + bytes(18)


def named(name: str) -> Callable[[zipfile.ZipFile], None]:
    return lambda archive: archive.writestr(zipfile.ZipInfo(name), b"out")


HOSTILE: dict[str, Callable[[zipfile.ZipFile], None]] = {
    **{f"name {n!r}": named(n) for n in ("../out", "/out", "a/out", "a\\out", "C:out", "..", ".out", "o" * 250)},
    **{f.__name__: f for f in (link, device, twice, bomb, many_small_bombs, crowd, squeezed, comment)},
}  # fmt: skip


@pytest.mark.parametrize("case", list(HOSTILE))
def test_a_hostile_zip_is_refused_before_anything_is_unpacked(
    sample: Bundle, tmp_path: Path, cache: Path, case: str
) -> None:
    path = tmp_path / "sample.edge.zip"
    path.write_bytes(zipped(sample, HOSTILE[case]))
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(ArtifactError, match="not safe to unpack") as caught:
        Bundle.open(path)
    cpu_s = time.process_time() - start
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.hint
    assert cpu_s < 0.1
    assert peak_bytes < 20e6
    assert not cache.exists()
    assert bundles.names(tmp_path) == ["sample.edge.zip"]


def set_byte(raw: bytes, position: int, value: int) -> bytes:
    return raw[:position] + bytes([value]) + raw[position + 1 :]


def test_zip_directories_that_lie_are_refused(sample: Bundle, tmp_path: Path, cache: Path) -> None:
    raw = zipped(sample, lambda archive: None)
    end = raw.rindex(b"PK\x05\x06")
    central = int.from_bytes(raw[end + 16 : end + 20], "little")
    wide = raw[:end] + b"PK\x06\x07" + bytes(16) + raw[end:]
    null = zipped(sample, named("out#.txt")).replace(b"out#.txt", b"out\0.txt")
    lies = [
        null,
        set_byte(raw, end + 8, 1),  # members on this disk
        set_byte(raw, end + 16, raw[end + 16] ^ 1),  # where the directory is
        set_byte(raw, end + 13, 0x7F),  # how large it is
        set_byte(raw, central + 8, 1),  # encrypted
        set_byte(raw, central + 10, 99),  # unknown compression
        set_byte(raw, central + 24, raw[central + 24] ^ 1),  # size of a member
        wide,
        b"MZ" + bytes(510) + raw,
        raw + b"\0",
        raw[end:],
    ]
    for number, lie in enumerate(lies):
        path = tmp_path / f"{number}.edge.zip"
        path.write_bytes(lie)
        with pytest.raises(ArtifactError):
            Bundle.open(path)
        assert not cache.exists(), number


def test_every_damage_to_a_zip_is_found(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "sample.edge.zip"
    bundles.write(path, 1, size_bytes=200)
    raw = path.read_bytes()
    for position in range(0, len(raw), 17):
        for damaged in (raw[:position], set_byte(raw, position, raw[position] ^ 0x10)):
            path.write_bytes(damaged)
            try:
                bundle = Bundle.open(path)
                bundle.verify()
            except ArtifactError:
                continue
            # Dates and the like may change without a change of what is in the files.
            assert bundle.provenance == {"generation": 1}
            assert bundle.golden().feeds
    assert not [name for name in bundles.names(cache) if name.startswith(".")]


@pytest.mark.parametrize("leave_out", ["edgekit.json", "*.npz", "model-????????????.tflite"])
def test_a_zip_that_lacks_a_file_is_refused(sample: Bundle, tmp_path: Path, cache: Path, leave_out: str) -> None:
    path = tmp_path / "sample.edge.zip"
    path.write_bytes(zipped(sample, lambda archive: None, leave_out))
    with pytest.raises(ArtifactError):
        Bundle.open(path)
    assert not cache.exists()


def test_a_folder_zipped_by_other_means_opens(sample: Bundle, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "sample.edge.zip"
    path.write_bytes(zipped(sample, lambda archive: archive.writestr("README", b"hello")))
    bundle = Bundle.open(path)
    bundle.verify()
    assert bundle.sha256 == sample.sha256
    assert "README" not in bundles.names(bundle.root)


def test_a_zip_whose_content_does_not_match_its_manifest_is_not_unpacked(
    sample: Bundle, tmp_path: Path, cache: Path
) -> None:
    other = sample.variant("tflite-w8a8").path
    path = tmp_path / "sample.edge.zip"
    changed = bytes(other.stat().st_size)
    path.write_bytes(zipped(sample, lambda archive: archive.writestr(other.name, changed), other.name))
    with pytest.raises(ArtifactError, match="does not match its hash"):
        Bundle.open(path)
    assert bundles.names(cache) == []


def test_a_damaged_copy_in_the_cache_is_made_again(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "sample.edge.zip"
    bundle = bundles.write(path, 1)
    assert bundle.root.parent == cache
    inode = bundle.root.stat().st_ino
    assert Bundle.open(path).root.stat().st_ino == inode, "unpacked once"
    for damage in (Path.unlink, Path.touch):
        bundle.variants[0].path.unlink(missing_ok=True)
        if damage is Path.touch:
            bundle.variants[0].path.touch()
        Bundle.open(path).verify()
    (bundle.root / "edgekit.json").write_text("{}")
    Bundle.open(path).verify()
    assert bundles.names(cache) == [bundle.root.name]
    assert stat.S_IMODE(cache.stat().st_mode) & 0o077 == 0


def test_the_cache_forgets_what_was_not_used_for_longest(tmp_path: Path, cache: Path) -> None:
    import os

    path = tmp_path / "sample.edge.zip"
    roots = []
    for generation in range(10):
        root = bundles.write(path, generation, force=True, size_bytes=100).root
        os.utime(root, (generation, generation))
        roots.append(root.name)
    assert set(roots[2:]) <= set(bundles.names(cache))
    assert roots[0] not in bundles.names(cache)


def test_without_a_place_to_unpack_the_way_out_is_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sample.edge.zip"
    bundles.write(path, 1)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ArtifactError, match="cannot be unpacked") as caught:
        Bundle.open(path)
    assert "EDGEKIT_CACHE" in caught.value.hint


def test_zip_files_are_written_within_what_is_read(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(UnsupportedError) as caught:
        write_zip(tmp_path / "out.zip", [("large", large)])
    assert ".edge" in caught.value.hint
    write_zip(tmp_path / "out.zip", [("a", b"1"), ("b", tmp_path / "out.zip")][:1])
    with (tmp_path / "out.zip").open("rb") as file:
        assert Archive(file, "out.zip").sizes_bytes == {"a": 1}
