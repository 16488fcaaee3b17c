"""The bundle: what it is made of, and that reading one believes nothing."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import Artifact, Bundle, BundleWriter, Golden
from edgekit.bundle.golden import Golden as GoldenSamples
from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.spec import Signature, TensorSpec
from tests.unit import bundles


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(params=[".edge", ".edge.zip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "home" / f"sample{request.param}"


def content(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def test_what_is_written_is_read_back(path: Path) -> None:
    written = bundles.write(path, 7)
    bundle = Bundle.open(path)
    assert bundle == written
    assert (bundle.name, bundle.target, bundle.signature) == ("sample", "host", bundles.SIGNATURE)
    assert bundle.processing == {"input": ["image"]}
    assert bundle.sha256 == hashlib.sha256((bundle.root / "edgekit.json").read_bytes()).hexdigest()
    assert [variant.name for variant in bundle.variants] == ["tflite-w8a8", "openvino-fp32"]
    pair = bundle.variant("openvino-fp32")
    assert pair.path.suffix == ".xml"
    assert pair.path.is_absolute()
    assert [file.role for file in pair.files] == ["model", "weights"]
    assert pair.size_bytes == sum((bundle.root / file.path).stat().st_size for file in pair.files)
    assert pair.output_names == {"y": "out"}
    assert bundles.read(path) == 7


def test_a_pair_shares_stem_and_hash(tmp_path: Path) -> None:
    """OpenVINO looks for the weights under the stem of the .xml file."""
    bundle = bundles.write(tmp_path / "sample.edge", 1)
    assert len({Path(file.path).stem for file in bundle.variant("openvino-fp32").files}) == 1


def test_plain_names_are_the_files_themselves(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "sample.edge", 1)
    assert (bundle.root / "model-w8a8.tflite").samefile(bundle.variant("tflite-w8a8").path)
    assert (bundle.root / "model-fp32.bin").samefile(bundle.variant("openvino-fp32").path.with_suffix(".bin"))


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (bundles.write(tmp_path / name / "sample.edge", 5) for name in "ab")
    assert content(first.root) == content(second.root)
    for name in "ab":
        bundles.write(tmp_path / name / "sample.edge.zip", 5)
    zips = [(tmp_path / name / "sample.edge.zip").read_bytes() for name in "ab"]
    assert zips[0] == zips[1]
    assert bundles.write(tmp_path / "c" / "sample.edge", 6).sha256 != first.sha256


def test_nothing_of_the_clock_is_in_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bundles.write(path, 5)
    files = content(path) if path.is_dir() else {path.name: path.read_bytes()}
    monkeypatch.setattr(time, "time", lambda: 2e9)
    os.utime(path, (1, 1))
    after = bundles.write(path, 5, force=True)
    assert after.sha256 == before.sha256
    assert (content(path) if path.is_dir() else {path.name: path.read_bytes()}) == files


def test_golden_arrays_survive_bit_by_bit(tmp_path: Path) -> None:
    signature = Signature(
        (TensorSpec("a:0/é", "float32", ("N",)), TensorSpec("b", "bool", ())), (TensorSpec("c", "float16", (2, 0)),)
    )
    values = np.array([np.nan, np.inf, -0.0, 1e-45], ">f4")
    sample = {"a:0/é": values, "b": np.array(True)}
    path = tmp_path / "golden.npz"
    Golden((sample,), ({"c": np.zeros((2, 0), "float16")},)).encode(path, signature)
    got = Golden.decode(path.read_bytes(), signature)
    assert got.feeds[0]["a:0/é"].tobytes() == values.astype("<f4").tobytes()
    assert got.feeds[0]["a:0/é"].dtype.isnative
    assert got.feeds[0]["a:0/é"].flags.writeable
    assert got.feeds[0]["b"].shape == ()
    assert got.outputs[0]["c"].shape == (2, 0)
    with np.load(path, allow_pickle=False) as archive:
        assert len(archive.files) == 3


@pytest.mark.parametrize(
    "samples",
    [
        Golden(({"x": np.zeros(1, "float32")},), ()),
        Golden(({"x": np.zeros(1, "float32"), "z": np.zeros(1)},), ({"y": np.zeros(1)},)),
        Golden(({"x": np.array(["text"], object)},), ({"y": np.zeros(1)},)),
    ],
    ids=["counts", "names", "objects"],
)
def test_golden_refuses_what_is_not_of_the_signature(samples: Golden, tmp_path: Path) -> None:
    signature = Signature((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))
    with pytest.raises(ArtifactError):
        samples.encode(tmp_path / "golden.npz", signature)


def test_golden_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    from edgekit.bundle.archive import write_zip

    header = str({"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}).encode().ljust(117) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 4
    pickled = npy.replace(b"<f4", b"|O8")
    signature = Signature((TensorSpec("x", "float32", (1,)),), ())
    for member in (npy, pickled, b"", npy[:9], b"\x93NUMPY\x09\x00" + npy[8:]):
        write_zip(tmp_path / "golden.npz", [("input-000-00.npy", member)])
        with pytest.raises(ArtifactError, match="golden"):
            GoldenSamples.decode((tmp_path / "golden.npz").read_bytes(), signature)


def test_an_unknown_variant_is_answered_with_those_there_are(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "sample.edge", 1)
    with pytest.raises(UnsupportedError) as caught:
        bundle.variant("onnx-fp32")
    assert "tflite-w8a8, openvino-fp32" in caught.value.hint


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.unlink()
    file.write_bytes(raw)


def link_to_a_copy(file: Path) -> None:
    file.rename(file.parent.parent / "copy")
    file.symlink_to(file.parent.parent / "copy")


def make_a_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def make_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink, link_to_a_copy, make_a_fifo, make_a_folder])
@pytest.mark.parametrize("which", ["*.tflite", "*.xml", "*.bin", "*.npz", "edgekit.json"])
def test_damage_to_any_file_is_found_and_named(tmp_path: Path, which: str, damage: Callable[[Path], None]) -> None:
    bundle = bundles.write(tmp_path / "home" / "sample.edge", 1)
    names = ["edgekit.json", bundle.golden_file.path, *(f.path for v in bundle.variants for f in v.files)]
    file = bundle.root / next(name for name in names if Path(name).match(which))
    damage(file)
    with pytest.raises(ArtifactError) as caught:
        Bundle.open(bundle.root).verify()
    assert file.name in str(caught.value) or file.name == "edgekit.json"
    assert caught.value.hint


def test_golden_samples_are_checked_when_they_are_read(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "sample.edge", 1)
    flip_a_bit(bundle.root / bundle.golden_file.path)
    with pytest.raises(ArtifactError, match="SHA-256"):
        bundle.golden()


def test_every_bad_file_is_named_at_once(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "sample.edge", 1)
    bad = [file.path for variant in bundle.variants for file in variant.files]
    for name in bad:
        flip_a_bit(bundle.root / name)
    with pytest.raises(ArtifactError) as caught:
        bundle.verify()
    assert all(name in str(caught.value) for name in bad)
    assert bundle.golden_file.path not in str(caught.value)


def test_verifying_one_variant_leaves_the_others_alone(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "sample.edge", 1)
    flip_a_bit(bundle.variant("tflite-w8a8").path)
    bundle.verify(bundle.variant("openvino-fp32"))
    with pytest.raises(ArtifactError):
        bundle.verify(bundle.variant("tflite-w8a8"))


def test_what_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        Bundle.open(tmp_path / "none.edge")
    (tmp_path / "folder.edge").mkdir()
    (tmp_path / "folder.edge" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="not a bundle"):
        Bundle.open(tmp_path / "folder.edge")
    (tmp_path / "empty.edge.zip").touch()
    (tmp_path / "text.edge.zip").write_text("text" * 20)
    for name in ("empty.edge.zip", "text.edge.zip"):
        with pytest.raises(ArtifactError, match="damaged"):
            Bundle.open(tmp_path / name)


def test_an_unfinished_folder_is_told_apart_and_finished_without_force(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "sample.edge", 1)
    (bundle.root / "edgekit.json").unlink()
    with pytest.raises(ArtifactError, match="unfinished"):
        Bundle.open(bundle.root)
    bundles.write(bundle.root, 2)
    assert bundles.read(bundle.root) == 2
    assert bundles.leftovers(bundle.root) == []


def test_nothing_is_replaced_unless_asked(path: Path) -> None:
    bundles.write(path, 1)
    with pytest.raises(InputError) as caught:
        bundles.write(path, 2)
    assert "--force" in caught.value.hint
    assert bundles.read(path) == 1
    bundles.write(path, 2, force=True)
    assert bundles.read(path) == 2
    assert bundles.leftovers(path) == []


def test_one_that_appeared_meanwhile_is_not_replaced(path: Path) -> None:
    with BundleWriter(path) as writer:
        file = writer.stage / "model.onnx"
        file.write_bytes(b"1")
        writer.add(name="onnx-fp32", format="onnx", precision="fp32", files=[file])
        bundles.write(path, 1)
        with pytest.raises(InputError):
            writer.commit(
                name="x",
                signature=bundles.SIGNATURE,
                processing={},
                target="host",
                golden=bundles.golden(2),
                statistics={},
                provenance={},
            )
    assert bundles.read(path) == 1
    assert bundles.leftovers(path) == []


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, force: bool) -> None:
    folder = tmp_path / "mine.edge"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    (tmp_path / "mine.edge.zip").write_bytes(b"PK\x03\x04 something else" * 9)
    (tmp_path / "file.edge").write_text("years")
    for name in ("mine.edge", "mine.edge.zip", "file.edge"):
        with pytest.raises(InputError) as caught:
            bundles.write(tmp_path / name, 1, force=force)
        assert caught.value.hint
    assert (folder / "thesis.txt").read_text() == "years"
    assert bundles.names(tmp_path) == ["file.edge", "mine.edge", "mine.edge.zip"]


@pytest.mark.parametrize("name", ["model.tflite", "edge", "x.edge.tar", "x.zip"])
def test_a_name_for_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name for a bundle"):
        BundleWriter(tmp_path / name)


def test_a_damaged_bundle_can_be_replaced(path: Path) -> None:
    bundle = bundles.write(path, 1)
    truncate(path if path.is_file() else bundle.root / "edgekit.json")
    bundles.write(path, 2, force=True)
    assert bundles.read(path) == 2


def test_files_of_users_in_the_folder_stay(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "sample.edge", 1)
    (bundle.root / "README").write_text("mine")
    bundles.write(bundle.root, 2, force=True)
    assert bundles.leftovers(bundle.root) == ["sample.edge/README"]


def test_a_link_to_a_bundle_is_written_through(tmp_path: Path) -> None:
    real = bundles.write(tmp_path / "real" / "sample.edge", 1).root
    (tmp_path / "link.edge").symlink_to(real)
    bundles.write(tmp_path / "link.edge", 2, force=True)
    assert (tmp_path / "link.edge").is_symlink()
    assert bundles.read(real) == 2


def test_files_outside_the_stage_are_copied_not_moved(tmp_path: Path) -> None:
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(b"weights")
    with BundleWriter(tmp_path / "sample.edge") as writer:
        artifact = writer.add(name="onnx-fp32", format="onnx", precision="fp32", files=[mine])
        assert artifact.path.read_bytes() == b"weights"
    assert mine.read_bytes() == b"weights"
    assert bundles.names(tmp_path) == ["mine.onnx"]


def test_an_error_in_the_block_leaves_nothing(path: Path) -> None:
    def fail() -> None:
        with BundleWriter(path) as writer:
            (writer.stage / "model.onnx").write_bytes(b"half")
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        fail()
    assert not path.parent.exists()
    assert bundles.names(path.parent.parent) == []


def test_facts_that_no_manifest_holds_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"1")
    with BundleWriter(tmp_path / "sample.edge") as writer:
        for facts in ({"a": {"sqnr_db": float("inf")}}, {"a": {"sqnr_db": np.float32("nan")}}, {"a": {"sqnr_db": {1}}}):
            with pytest.raises(ArtifactError, match=r"onnx-fp32\.facts\.a\.sqnr_db"):
                writer.add(name="onnx-fp32", format="onnx", precision="fp32", files=[file], facts=facts)
        artifact = writer.add(
            name="onnx-fp32", format="onnx", precision="fp32", files=[file], facts={"n": np.int64(3), "t": (1, 2)}
        )
    assert artifact.facts == {"n": 3, "t": [1, 2]}


def test_a_bundle_without_variants_is_none(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "sample.edge") as writer, pytest.raises(ArtifactError, match="variants"):
        writer.commit(
            name="x",
            signature=bundles.SIGNATURE,
            processing={},
            target="host",
            golden=bundles.golden(1),
            statistics={},
            provenance={},
        )
    assert bundles.names(tmp_path) == []


def test_a_bare_file_is_an_artifact_too(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"12345")
    assert Artifact("model", "tflite", "fp32", tmp_path / "model.tflite").size_bytes == 5


def test_a_reader_that_was_overtaken_is_told_to_open_again(tmp_path: Path) -> None:
    old = bundles.write(tmp_path / "sample.edge", 1)
    bundles.write(tmp_path / "sample.edge", 2, force=True)
    assert not old.is_current()
    with pytest.raises(ArtifactError) as caught:
        old.verify()
    assert caught.value.hint == "open it again"


def test_opening_reads_again_when_a_writer_comes_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundles.write(tmp_path / "sample.edge", 1).root
    files = Bundle._files
    generations = []

    def overtaken(self: Bundle) -> object:
        generations.append(self.provenance["generation"])
        if len(generations) == 1:
            monkeypatch.setattr(Bundle, "_files", files)
            bundles.write(path, 2, force=True)
            monkeypatch.setattr(Bundle, "_files", overtaken)
        return files(self)

    monkeypatch.setattr(Bundle, "_files", overtaken)
    assert Bundle.open(path).provenance["generation"] == 2
    assert generations[0] == 1


def test_verifying_costs_little_more_than_hashing(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "sample.edge", 1, size_bytes=24 << 20)
    raw = b"".join(file.read_bytes() for file in bundle.root.iterdir() if file.stat().st_nlink > 1)

    def cpu_s(work: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    hashing = cpu_s(lambda: hashlib.sha256(raw[: len(raw) // 2]))
    assert cpu_s(bundle.verify) < 2 * hashing + 0.01
