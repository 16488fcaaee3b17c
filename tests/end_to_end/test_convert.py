"""Real trained models, converted to every format their road allows, and held against the source and the catalogue."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.bundle import Bundle, BundleWriter
from edgekit.converter import SourceModel
from edgekit.errors import InputError, UnsupportedError
from edgekit.registry import CONVERTERS
from edgekit.samples import feeds_of, read_samples
from edgekit.verification import verify
from tests.assets import asset
from tests.signals import chord

FORMATS = ("openvino", "tflite", "onnx")


@pytest.fixture(scope="module")
def source(emotion_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceModel]:
    """The emotion model in its own framework."""
    opened = CONVERTERS.get("keras").read(emotion_model, tmp_path_factory.mktemp("source"))
    yield opened
    opened.close()


def variants_of(report: Any) -> dict[str, Any]:
    return {variant.name: variant for variant in report.variants}


@pytest.fixture(scope="module")
def agreement(emotion_conversion: Any, source: SourceModel, faces: Path) -> dict[str, float]:
    """For each int8 variant, the share of the 101 faces on which it says what the HDF5 model says."""
    bundle = emotion_conversion.bundle
    samples = read_samples(faces)
    assert len(samples) == 101
    with edgekit.load(bundle.root) as model:
        assert model.processing is not None
        feeds = list(feeds_of(samples, model.processing, source.signature))
    (output,) = (spec.name for spec in source.signature.outputs)
    wanted = [source.run(feed)[output].argmax() for feed in feeds]
    shares = {}
    for name in [v.name for v in bundle.variants if v.precision == "w8a8"]:
        with edgekit.load(bundle.root, variant=name) as model:
            got = [model.run(feed)[output].argmax() for feed in feeds]
        shares[name] = float(np.mean(np.equal(wanted, got)))
    return shares


class TestEmotion:
    """D11: a Keras CNN in HDF5, with processing and labels from its card."""

    def test_every_format_and_precision_is_written(self, emotion_conversion: Any) -> None:
        written = {name for name, v in variants_of(emotion_conversion).items() if v.status == "written"}
        assert written >= {f"{f}-{p}" for f in FORMATS for p in ("fp32", "fp16")}
        refused = [v for v in emotion_conversion.variants if v.status == "refused"]
        assert all(v.precision == "w8a8" and v.reason for v in refused)
        assert "tflite-w8a8" in written

    @pytest.mark.parametrize("format", FORMATS)
    def test_fp32_is_the_source(self, emotion_conversion: Any, format: str) -> None:
        facts = emotion_conversion.bundle.variant(f"{format}-fp32").facts
        for parity in (facts["parity"], facts["parity_random"]):
            assert parity["relative"] <= 1e-4
        assert facts["int8_macs_share"] == 0

    @pytest.mark.parametrize("format", FORMATS)
    def test_the_catalogue_figure_is_reproduced(self, emotion_bundle: Path, face_image: Path, format: str) -> None:
        with edgekit.load(emotion_bundle, variant=f"{format}-fp32") as model:
            best = model.predict(face_image)[0]
        assert best["label"] == "happy"
        assert best["score"] == pytest.approx(0.99903, abs=2e-4)

    def test_int8_keeps_nearly_all_answers_of_the_source(self, agreement: dict[str, float]) -> None:
        assert min(agreement.values()) >= 0.93, agreement

    def test_int8_is_really_int8(self, emotion_conversion: Any) -> None:
        """Its four convolutions of 8 channels and fewer stay float in TFLite, and the notes say so."""
        for artifact in emotion_conversion.bundle.variants:
            if artifact.precision == "w8a8":
                is_narrow = any("so narrow a convolution" in note for note in artifact.facts["notes"])
                assert is_narrow == (artifact.format == "tflite")
                assert artifact.facts["int8_macs_share"] > (0.65 if is_narrow else 0.9), artifact.name

    def test_smaller_precisions_are_smaller(self, emotion_conversion: Any) -> None:
        size = {v.name: v.size_bytes for v in emotion_conversion.variants}
        assert size["tflite-w8a8"] < size["tflite-fp16"] < size["tflite-fp32"]
        assert size["onnx-fp16"] < 0.7 * size["onnx-fp32"]

    def test_the_bundle_verifies_and_survives_a_zip(self, emotion_bundle: Path) -> None:
        result = verify(emotion_bundle)
        assert result.passed
        assert {row.status for row in result.rows} == {"passed"}

    def test_the_same_input_gives_the_same_bytes(
        self, emotion_model: Path, emotion_bundle: Path, faces: Path, tmp_path: Path
    ) -> None:
        arguments: dict[str, Any] = {
            "precision": ("fp32", "fp16", "w8a8"), "calibration_data": faces, "target": "generic-x86",
        }  # fmt: skip
        again = edgekit.convert(emotion_model, tmp_path / "emotion.edge", **arguments).bundle
        assert again is not None
        ours = sorted(p.name for p in emotion_bundle.iterdir() if p.is_file())
        assert ours == sorted(p.name for p in again.root.iterdir() if p.is_file())
        for name in ours:
            if not name.startswith("."):
                assert (emotion_bundle / name).read_bytes() == (again.root / name).read_bytes(), name


@pytest.fixture(scope="module")
def sleep_report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sleep")
    with zipfile.ZipFile(asset("sleepecg", "sleepecg/classifiers/ws-gru-mesa.zip")) as archive:
        model = Path(archive.extract("classifier.keras", folder))
    rng = np.random.default_rng(1)
    np.save(folder / "features.npy", rng.standard_normal((40, 60, 36)).astype("float32"))
    return edgekit.convert(
        model,
        folder / "sleep.edge",
        precision=("fp32", "fp16", "int8"),
        calibration_data=folder / "features.npy",
        processing="none",
    )


class TestSleepStages:
    """D10: a bidirectional GRU behind a mask, of any length."""

    def test_floats_reach_every_format(self, sleep_report: Any) -> None:
        made = variants_of(sleep_report)
        for format in FORMATS:
            assert made[f"{format}-fp32"].status == "written", made[f"{format}-fp32"].reason
        assert made["tflite-fp16"].status == "written", made["tflite-fp16"].reason

    def test_half_precision_that_makes_the_file_larger_is_refused(self, sleep_report: Any) -> None:
        """OpenVINO adds a node for every halved weight, and this net has more nodes than weights."""
        refused = variants_of(sleep_report)["openvino-fp16"]
        assert refused.status == "refused"
        assert "no smaller than fp32" in refused.reason

    def test_the_catalogue_figure_is_reproduced_at_any_length(self, sleep_report: Any) -> None:
        x = np.random.RandomState(0).randn(1, 60, 36).astype("float32")
        seen = {}
        for format in FORMATS:
            with edgekit.load(sleep_report.bundle.root, variant=f"{format}-fp32") as model:
                (name,) = (spec.name for spec in model.signature.inputs)
                (answer,) = model.run({name: x}).values()
                np.testing.assert_allclose(answer[0, 0], [0.01076, 0.47105, 0.51819], atol=2e-5)
                (seen[format],) = model.run({name: x[:, :37]}).values()
                assert seen[format].shape == (1, 37, 3)
        for format in FORMATS[1:]:
            np.testing.assert_allclose(seen[format], seen["openvino"], atol=1e-4)

    def test_int8_is_written_where_it_means_something_or_refused_with_the_reason(self, sleep_report: Any) -> None:
        for name, variant in variants_of(sleep_report).items():
            if variant.precision == "w8a8":
                assert variant.status == "refused" or variant.int8_macs_share > 0, name
                assert variant.status == "written" or variant.reason, name
        assert variants_of(sleep_report)["tflite-w8a8"].status == "refused"


class TestBasicPitch:
    """D2: one audio CNN as ONNX and as a SavedModel that only the old loader opens."""

    @pytest.mark.parametrize("source", ["nmp.onnx", "nmp", "nmp.tflite"])
    def test_every_format_reproduces_the_catalogue(self, tmp_path: Path, source: str) -> None:
        path = asset("basic-pitch", f"basic_pitch/saved_models/icassp_2022/{source}")
        report = edgekit.convert(path, tmp_path / "pitch.edge", precision="fp32")
        status = {v.format: v.status for v in report.variants}
        assert {f for f, s in status.items() if s == "written"} == set(FORMATS), report.variants
        if source == "nmp":
            assert any("loader" in note for note in report.notes), "the fall-back is said"
        assert report.bundle is not None
        for format in FORMATS:
            with edgekit.load(report.bundle.root, variant=f"{format}-fp32") as model:
                (name,) = (spec.name for spec in model.signature.inputs)
                answer = model.run({name: chord()[None, :, None]})
            means = sorted(float(value.mean()) for value in answer.values())
            np.testing.assert_allclose(means, sorted([0.113652, 0.095368, 0.104035]), atol=5e-4)
            notes = max((v for v in answer.values() if v.shape[-1] == 88), key=lambda v: v.mean())
            assert set((notes[0] > 0.5).any(0).nonzero()[0] + 21) == {60, 64, 67, 76}


class TestRefusals:
    def test_int8_without_data_says_what_to_give(self, emotion_model: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="calibration"):
            edgekit.convert(emotion_model, tmp_path / "x.edge", precision="int8")
        assert not list(tmp_path.iterdir())

    def test_an_existing_bundle_is_not_replaced_unasked(self, emotion_model: Path, emotion_bundle: Path) -> None:
        before = (emotion_bundle / "edgekit.json").read_bytes()
        with pytest.raises(InputError, match="force"):
            edgekit.convert(emotion_model, emotion_bundle)
        assert (emotion_bundle / "edgekit.json").read_bytes() == before

    def test_a_dry_run_writes_nothing(self, emotion_model: Path, tmp_path: Path) -> None:
        report = edgekit.convert(emotion_model, tmp_path / "x.edge", precision="fp32", dry_run=True)
        assert report.bundle is None
        assert {v.status for v in report.variants} == {"planned"}
        assert not list(tmp_path.iterdir())

    def test_string_models_are_refused_by_name(self, tmp_path: Path) -> None:
        model = asset("guesslang", "guesslang/data/model")
        with pytest.raises(UnsupportedError, match="string"):
            edgekit.convert(model, tmp_path / "x.edge")
        assert not list(tmp_path.iterdir())

    def test_a_wrong_answer_fails_the_golden_test_at_load(self, emotion_bundle: Path, tmp_path: Path) -> None:
        """Files whose hashes are right, but which do not answer as the source did within what is allowed."""
        good = Bundle.open(emotion_bundle)
        with BundleWriter(tmp_path / "emotion.edge") as writer:
            for artifact in good.variants:
                files = [shutil.copy(good.root / file.path, writer.stage) for file in artifact.files]
                facts = {**artifact.facts, "tolerance": dict.fromkeys(artifact.facts["tolerance"], 1e-12)}
                fields = {
                    n: getattr(artifact, n) for n in ("name", "format", "precision", "input_names", "output_names")
                }
                writer.add(files=[Path(f) for f in files], engine_options={}, facts=facts, **fields)
            fields = {
                n: getattr(good, n) for n in ("name", "signature", "processing", "target", "provenance", "statistics")
            }
            writer.commit(golden=good.golden(), **fields)
        with pytest.raises(edgekit.errors.ArtifactError, match="golden"):
            edgekit.load(tmp_path / "emotion.edge")
        assert not verify(tmp_path / "emotion.edge").passed


def test_a_bundle_opens_the_same_from_its_zip(emotion_model: Path, face_image: Path, tmp_path: Path) -> None:
    report = edgekit.convert(emotion_model, tmp_path / "emotion.edge.zip", precision="fp32", format="tflite")
    assert report.bundle is not None
    assert Bundle.open(tmp_path / "emotion.edge.zip").variants
    with edgekit.load(tmp_path / "emotion.edge.zip") as model:
        assert model.predict(face_image)[0]["label"] == "happy"
