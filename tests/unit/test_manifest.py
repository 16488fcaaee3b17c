"""The manifest: the same bytes for the same content, strict when read, and any change of it is found."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.bundle import Artifact, Bundle
from edgekit.bundle.manifest import Manifest, StoredFile, _canonical, _checksum
from edgekit.errors import ArtifactError
from edgekit.spec import Signature, StatePair, TensorSpec
from tests.unit import bundles


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write(tmp_path_factory.mktemp("home") / "sample.edge", 1, size_bytes=300)


def signed(data: dict[str, Any]) -> bytes:
    """The bytes of a manifest whose checksum is right, whatever it says."""
    return _canonical({**data, "checksum": _checksum(data)})


def change(data: Any, place: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    *way, last = [int(step) if step.isdigit() else step for step in place.split(".")]
    at: Any = changed
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return changed


WRONG = {
    "schema": ["edgekit.recipe", 1, ...],
    "version": [2, "1", True, ...],
    "name": ["", "a\nb", "\x1b[2J", 5, "x" * 300, ...],
    "target": [None, ...],
    "signature": [[], {}, {"inputs": 5, "outputs": []}, {"inputs": [{}], "outputs": []}, ...],
    "signature.inputs.0.dtype": ["float31", [], None],
    "signature.inputs.0.shape": [5, [-1], [True], [1.5], [""], [None], None],
    "signature.inputs.0.name": [5, None],
    "signature.inputs.0.quant": [{"dtype": "int8", "scale": [-1.0], "zero_point": [0]}, {"dtype": "int8"}, [1]],
    "signature.outputs.1.name": ["y"],
    "signature.state": [[{"input": "serving/x:0", "output": "none"}], 3],
    "processing": [[], "x", ...],
    "variants": [[], {}, None, [3], ...],
    "variants.0": [None, []],
    "variants.0.name": ["openvino-fp32", "", ...],
    "variants.0.more": [1],
    "variants.0.file": ["golden.npz", "../x", ""],
    "variants.0.files": [[], {}, [1]],
    "variants.0.files.0.path": ["../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "", "a\0b", "x" * 300, "ü", "a b", 5],
    "variants.0.files.0.sha256": ["0" * 63, "G" * 64, "A" * 64, 5],
    "variants.0.files.0.size_bytes": [-1, 1 << 60, 1.0, True, "1"],
    "variants.0.input_names": [{"nobody": "x"}, {"serving/x:0": 5}, []],
    "variants.1.files.0.path": ["edgekit.json"],
    "golden": [None, {}],
    "golden.path": ["../golden.npz", "edgekit.json"],
    "statistics": [[], None],
    "provenance": [5, ...],
    "extra": [1],
}


@pytest.mark.parametrize("place", list(WRONG))
def test_a_manifest_is_refused_for_any_wrong_field(sample: Bundle, place: str) -> None:
    data = json.loads((sample.root / "edgekit.json").read_bytes())
    assert Manifest.decode(signed(data), sample.root).variants == sample.variants
    for value in WRONG[place]:
        with pytest.raises(ArtifactError) as caught:
            Manifest.decode(signed(change(data, place, value)), sample.root)
        assert "checksum" not in str(caught.value)
        assert caught.value.hint


def test_two_meanings_of_one_file_are_refused(sample: Bundle) -> None:
    data = json.loads((sample.root / "edgekit.json").read_bytes())
    data["golden"]["path"] = data["variants"][0]["files"][0]["path"]
    with pytest.raises(ArtifactError, match="two meanings"):
        Manifest.decode(signed(data), sample.root)


def test_a_newer_version_says_what_to_do(sample: Bundle) -> None:
    data = json.loads((sample.root / "edgekit.json").read_bytes())
    with pytest.raises(ArtifactError, match="version 2") as caught:
        Manifest.decode(signed({**data, "version": 2, "unknown": 1}), sample.root)
    assert "newer edgekit" in caught.value.hint


def test_every_changed_byte_of_a_manifest_is_found(sample: Bundle) -> None:
    raw = (sample.root / "edgekit.json").read_bytes()
    for position in range(len(raw)):
        for flip in (1, 0x20):
            damaged = bytearray(raw)
            damaged[position] ^= flip
            with pytest.raises(ArtifactError):
                Manifest.decode(bytes(damaged), sample.root)
        with pytest.raises(ArtifactError):
            Manifest.decode(raw[:position], sample.root)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schema": "edgekit.bundle", "version": 1, "facts": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"schema": "edgekit.bundle", "schema": "edgekit.bundle", "version": 1}',
        b'{"schema": "edgekit.bundle", "version": NaN}',
        b'{"schema": "edgekit.bundle", "version": 1e999}',
        b'{"schema": "edgekit.bundle", "version": ' + b"9" * 5000 + b"}",
        b'"' + b"x" * (5 << 20) + b'"',
        b"\xff\xfe{}",
        b'\xef\xbb\xbf{"schema": "edgekit.bundle"}',
        b"null",
        b"[]",
        b"",
        b"\0" * 50,
    ],
)
def test_json_made_to_do_harm_is_refused(raw: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        Manifest.decode(raw, tmp_path)


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=3)
tensors = st.builds(
    TensorSpec,
    name=words,
    dtype=st.sampled_from(["float32", "int8", "bfloat16"]),
    shape=st.lists(st.integers(0, 9) | words, max_size=4).map(tuple),
    layout=st.none() | words,
)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)


def files(path: str) -> st.SearchStrategy[StoredFile]:
    return st.builds(StoredFile, st.just(path), hashes, st.integers(0, 1 << 40), words)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    inputs, outputs = (tuple(draw(st.lists(tensors, max_size=3, unique_by=lambda t: t.name))) for _ in range(2))
    state = (StatePair(inputs[0].name, outputs[0].name),) if inputs and outputs and draw(st.booleans()) else ()
    variants = tuple(
        Artifact(
            name=name,
            format=draw(words),
            precision=draw(words),
            path=Path("/bundle") / f"model-{number}.bin",
            files=(draw(files(f"model-{number}.bin")),),
            input_names={spec.name: draw(st.text(max_size=5)) for spec in inputs},
            engine_options=draw(objects),
            facts=draw(objects),
        )
        for number, name in enumerate(draw(st.lists(words, min_size=1, max_size=3, unique=True)))
    )
    return Manifest(
        draw(words), draw(words), Signature(inputs, outputs, state), draw(objects), variants,
        draw(files("golden.npz")), draw(objects), draw(objects),
    )  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(manifests())
def test_a_manifest_survives_the_round_trip(manifest: Manifest) -> None:
    raw = manifest.encode()
    again = Manifest.decode(raw, Path("/bundle"))
    assert again == manifest
    assert again.encode() == raw
