"""PyTorch's seven kinds of network as modules, programs and TorchScript, by the library and the command line."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import edgekit
from edgekit.cli.group import GROUP
from edgekit.errors import InputError, UnsupportedError
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions, Session
from tests.contract.seven_nets import NETS, save_script

TORCH = CONVERTERS.get("torch")
INPUTS = {
    "cnn": ["image: float32[batchx3x32x32]"],
    "resnet": ["image: float32[batchx3x32x32]"],
    "rnn": ["steps: float32[batchx20x16]"],
    "bert": ["input_ids: int64[batchx12]", "attention_mask: int64[batchx12]"],
    "unet": ["image: float32[batchx3x32x32]"],
    "wave": ["wave: float32[batchx1x96]"],
    "yolo": ["image: float32[batchx3x32x32]"],
}
OUTPUTS = {
    "cnn": ["output: float32[batchx10]"],
    "resnet": ["output: float32[batchx10]"],
    "rnn": ["output: float32[batchx5]"],
    "bert": ["output_0: float32[batchx3]", "output_1: float32[batchx12x32]"],
    "unet": ["output: float32[batchx2x32x32]"],
    "wave": ["output: float32[batchx4x96]"],
    "yolo": ["output: float32[batchx160x8]"],
}


def write(form: str, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path) -> Path:
    if form == "script":
        return save_script(module, folder / "net.pt", inputs)
    path = folder / "net.pt2"
    if form == "module":
        assert TORCH.save_module(module, path, example_inputs=inputs, dynamic_shapes=None) == []
        return path
    open_batch = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of recurrent layers, about how they keep their weights
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=open_batch), path)
    return path


@pytest.mark.parametrize("form", ["module", pytest.param("program", marks=pytest.mark.slow), "script"])
@pytest.mark.parametrize("name", list(NETS))
def test_the_hub_gives_what_pytorch_gives(name: str, form: str, tmp_path: Path) -> None:
    module, inputs = NETS[name]()
    source = TORCH.read(write(form, module, inputs, tmp_path), tmp_path / "stage")
    try:
        assert [str(spec) for spec in source.signature.inputs] == INPUTS[name]
        assert [str(spec) for spec in source.signature.outputs] == OUTPUTS[name]
        hub = RUNTIMES.get("onnx").open(source.exports["hub"], EngineOptions(threads=1))
        with Session(hub, runtime="onnx", signature=source.signature) as session:
            for batch in (inputs, tuple(x[:1] for x in inputs), tuple(torch.cat([x, x.flip(0)])[:3] for x in inputs)):
                with torch.no_grad():
                    answer = module(*batch)
                expected = [tensor.numpy() for tensor in (answer if isinstance(answer, tuple) else (answer,))]
                feeds = {spec.name: x.numpy() for spec, x in zip(source.signature.inputs, batch, strict=True)}
                for got in (source.run(feeds), session.run(feeds)):
                    for spec, want in zip(source.signature.outputs, expected, strict=True):
                        assert got[spec.name].dtype == want.dtype
                        assert np.abs(got[spec.name] - want).max() <= 1e-5 * max(1.0, np.ptp(want))
    finally:
        source.close()


# --- through `convert` -----------------------------------------------------------------------------------------------

BUILD = """
import torch

def build():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
"""


def test_a_module_becomes_a_bundle_that_answers_as_it_does(tmp_path: Path) -> None:
    module, (image,) = NETS["cnn"]()
    report = edgekit.convert(
        module, tmp_path / "cnn.edge", format=("onnx", "openvino"), example_inputs=(image[:1],), precision="fp32"
    )
    assert {variant.status for variant in report.variants} == {"written"}
    assert report.plan.source == "Cnn"
    for variant in report.variants:
        with edgekit.load(tmp_path / "cnn.edge", variant=variant.name) as model, torch.no_grad():
            got = model.run({"image": image[:1].numpy()})["output"]
            np.testing.assert_allclose(got, module(image[:1]).numpy(), atol=1e-4)


def test_a_function_of_a_file_becomes_a_bundle_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(BUILD)
    scope: dict[str, Any] = {}
    exec(BUILD, scope)
    torch.manual_seed(5)
    module = scope["build"]()
    torch.save(module.state_dict(), "net.pth")
    words = ["convert", "net.py:build", "--weights", "net.pth", "--input-shape", "batch,3,16,16", "--format", "onnx"]
    done = CliRunner().invoke(GROUP, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    image = torch.randn(1, 3, 16, 16)
    with edgekit.load("net.edge") as model, torch.no_grad():
        got = model.run({"input": image.numpy()})["output"]
        np.testing.assert_allclose(got, module(image).numpy(), atol=1e-5)


def test_a_keras_model_in_memory_goes_the_way_of_its_file(tmp_path: Path) -> None:
    """In a process of its own, where Keras is the user's import and not ours."""
    from edgekit.worker import Worker

    with Worker("keras", env={"TF_CPP_MIN_LOG_LEVEL": "3"}) as worker:
        written = worker.call("tests.end_to_end.test_torch_sources:convert_keras", output=str(tmp_path / "k.edge"))
    assert written == ["onnx-fp32", "written"]


def convert_keras(output: str) -> list[str]:
    import keras

    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Dense(3, name="y")(x), name="dense")
    (variant,) = edgekit.convert(model, output, format="onnx").variants
    return [variant.name, variant.status]


@pytest.mark.parametrize(
    ("source", "settings", "says"),
    [
        (3, {}, "a int is no source"),
        ("net.py:build", {}, "--input-shape"),
        ("net.py:build", {"example_inputs": (1,)}, "not in memory"),
        ("resnet:tiny", {"input_shape": "1,3"}, "does not fit"),
        ("net.onnx", {"weights": "w.pth"}, "is a file"),
        (torch.nn.ReLU(), {"input_shape": "1,3"}, "in memory"),
        ("net.py:build", {"input_shape": "1,x y"}, "no shape"),
        ("net.py:build", {"input_shape": "1,3:float31"}, "no dtype 'float31'"),
    ],
)
def test_what_is_said_and_not_needed_or_needed_and_not_said_is_an_input_error(
    source: Any, settings: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(BUILD)
    with pytest.raises(InputError) as caught:
        edgekit.convert(source, tmp_path / "x.edge", **settings)
    assert says in f"{caught.value} {caught.value.hint}"
    assert not (tmp_path / "x.edge").exists()


def test_a_dry_run_neither_builds_nor_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("raise SystemExit('it ran')")
    report = edgekit.convert("net.py:build", "x.edge", input_shape="1,3", format="onnx", dry_run=True)
    assert [variant.status for variant in report.variants] == ["planned"]


def test_a_pickled_module_is_refused_by_convert(tmp_path: Path) -> None:
    torch.save(NETS["cnn"]()[0], tmp_path / "cnn.pth")
    with pytest.raises(UnsupportedError, match=r"seven_nets\.Cnn") as caught:
        edgekit.convert(tmp_path / "cnn.pth", tmp_path / "x.edge", format="onnx")
    assert "state_dict" in caught.value.hint
