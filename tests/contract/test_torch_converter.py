"""PyTorch's archives through the shipped battery, and what is particular to them; known gaps are beside each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.conversion import convert
from edgekit.converter import SourceModel, SourceOptions, parse_input_shape
from edgekit.errors import ArtifactError, ConversionError, InputError, UnsupportedError
from edgekit.registry import CONVERTERS
from edgekit.testing.converter_contract import SourceContract
from tests.contract.seven_nets import NETS, save_script

TORCH = CONVERTERS.get("torch")
FRAMEWORKS = ("torch", "onnxscript")
DYNAMIC = torch.export.Dim.DYNAMIC


class Odd(nn.Module):
    """Three operations that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i1e(x) + torch.special.bessel_j0(x) + torch.igamma(x.abs(), x.abs()) + torch.relu(x)


class TestExportedProgram(SourceContract):
    converter = "torch"
    frameworks = FRAMEWORKS

    @staticmethod
    def sample(folder: Path) -> Path:
        module, inputs = NETS["bert"]()
        shapes = {"input_ids": {0: DYNAMIC}, "attention_mask": {0: DYNAMIC}}
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), folder / "bert.pt2")
        return folder / "bert.pt2"

    @staticmethod
    def unsupported(folder: Path) -> tuple[Path, Sequence[str]]:
        torch.export.save(torch.export.export(Odd(), (torch.ones(2, 3),)), folder / "odd.pt2")
        return folder / "odd.pt2", ("bessel_i1e", "bessel_j0", "igamma")


class TestTorchScript(SourceContract):
    converter = "torch"
    frameworks = FRAMEWORKS

    @staticmethod
    def sample(folder: Path) -> Path:
        module, inputs = NETS["rnn"]()
        return save_script(module, folder / "rnn.pt", inputs)

    @staticmethod
    def unsupported(folder: Path) -> tuple[Path, Sequence[str]]:
        return save_script(Odd(), folder / "odd.pt", (torch.ones(2, 3),)), ("i1e", "bessel_j0", "igamma")


# --- what a program takes and gives ----------------------------------------------------------------------------------


class Many(nn.Module):
    """Inputs of several kinds, and an answer in layers, with one tensor twice and an input among it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor, unused: Tensor, flag: bool = True, *, mask: Tensor) -> dict[str, Any]:
        y = self.linear(x) * mask
        return {"same": x, "y": [y, (y + 1,)], "none": None, "left side": y}


class Points(NamedTuple):
    left: Tensor
    right: Tensor


class GivesPoints(nn.Module):
    def forward(self, image: Tensor, *more: Tensor) -> Points:
        return Points(image + 1, image.sum(1))


def read(path: Path, folder: Path, *shapes: str) -> SourceModel:
    options = SourceOptions(tuple(map(parse_input_shape, shapes)))
    source: SourceModel = TORCH.with_options(options).read(path, folder / "stage")
    return source


def in_memory(module: nn.Module, folder: Path, example: Any, shapes: Any = None) -> tuple[Path, list[str]]:
    path = folder / "module.pt2"
    return path, TORCH.save_module(module, path, example_inputs=example, dynamic_shapes=shapes)


def check_hub(source: SourceModel, feeds: dict[str, np.ndarray], expected: Sequence[Tensor]) -> None:
    """ONNX Runtime, on the hub, and the source's own run give what the module gives."""
    engine = CONVERTERS.get("onnx").read(source.exports["hub"], source.exports["hub"].parent / "again")
    for answer in (source.run(feeds), engine.run(feeds)):
        assert list(answer) == [spec.name for spec in source.signature.outputs]
        for got, want in zip(answer.values(), expected, strict=True):
            assert got.dtype == want.numpy().dtype
            np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-5 * max(1.0, float(np.ptp(want.numpy()))))


def test_names_are_those_of_parameters_and_of_keys(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Many().eval()
    x, unused, mask = torch.randn(2, 3), torch.zeros(2, 4, dtype=torch.int64), torch.randn(2, 3)
    with torch.no_grad():
        program = torch.export.export(module, (x, unused, True), {"mask": mask})
        y = module(x, unused, mask=mask)["left side"]
    torch.export.save(program, tmp_path / "many.pt2")
    source = read(tmp_path / "many.pt2", tmp_path)
    try:
        assert [str(spec) for spec in source.signature.inputs] == [
            "x: float32[2x3]", "unused: int64[2x4]", "mask: float32[2x3]",
        ]  # fmt: skip
        assert [spec.name for spec in source.signature.outputs] == ["same", "y_0", "y_1_0", "left_side"]
        check_hub(source, {"x": x.numpy(), "unused": unused.numpy(), "mask": mask.numpy()}, [x, y, y + 1, y])
    finally:
        source.close()


def test_an_answer_of_a_class_is_taken_apart_by_name(tmp_path: Path) -> None:
    path, notes = in_memory(GivesPoints(), tmp_path, (torch.ones(1, 3),))
    source = read(path, tmp_path)
    try:
        assert notes == []
        assert [str(spec) for spec in source.signature.outputs] == ["left: float32[batchx3]", "right: float32[batch]"]
        image = torch.arange(9.0).reshape(3, 3)
        check_hub(source, {"image": image.numpy()}, [image + 1, image.sum(1)])
    finally:
        source.close()


def test_a_program_of_training_is_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    torch.export.save(torch.export.export(module, (torch.randn(4, 3),)), tmp_path / "training.pt2")
    with pytest.raises(UnsupportedError, match="batch_norm learns") as caught:
        read(tmp_path / "training.pt2", tmp_path)
    assert any("drops values" in offender for offender in caught.value.offenders)
    assert "eval()" in caught.value.hint


def test_a_program_says_its_own_shapes_and_what_it_leaves_open_can_be_fixed(tmp_path: Path) -> None:
    steps = torch.export.Dim("steps")
    torch.export.save(
        torch.export.export(nn.ReLU(), (torch.ones(2, 5),), dynamic_shapes=({1: steps},)), tmp_path / "net.pt2"
    )
    report = convert(tmp_path / "net.pt2", tmp_path / "net.edge", format="onnx", input_shape="2,7")
    assert report.bundle is not None
    assert report.bundle.signature.inputs[0].shape == (2, 7)
    with pytest.raises(InputError, match="does not fit"):
        convert(tmp_path / "net.pt2", tmp_path / "other.edge", format="onnx", input_shape="3,7")


# --- modules in memory -----------------------------------------------------------------------------------------------


def test_a_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    module[1].eval()
    in_memory(module, tmp_path, torch.ones(2, 3))
    assert [part.training for part in module.modules()] == [True, True, False, False]


def test_sizes_that_are_declared_keep_their_names(tmp_path: Path) -> None:
    shapes = {"input": {0: torch.export.Dim("rows"), 1: torch.export.Dim("columns", max=99)}}
    path, notes = in_memory(nn.ReLU(), tmp_path, (torch.ones(4, 5),), shapes)
    source = read(path, tmp_path)
    source.close()
    assert notes == []
    assert [spec.shape for spec in (*source.signature.inputs, *source.signature.outputs)] == [("rows", "columns")] * 2


class FixedRows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 3) + 1


def test_a_batch_that_cannot_be_open_is_fixed_and_said(tmp_path: Path) -> None:
    path, notes = in_memory(FixedRows(), tmp_path, (torch.ones(2, 3),))
    source = read(path, tmp_path)
    source.close()
    assert source.signature.inputs[0].shape == (2, 3)
    assert len(notes) == 1
    assert notes[0].startswith("the batch is fixed at 2")


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(x.shape)


class Choosy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else x + 1


@pytest.mark.parametrize(
    ("module", "example", "error", "says"),
    [
        (nn.ReLU(), None, InputError, "example_inputs"),
        (Noisy(), (torch.ones(2, 3),), ConversionError, "otherwise"),
        (Choosy(), (torch.ones(2, 3),), ConversionError, "torch.export"),
        (nn.Linear(4, 2), (torch.ones(2, 3),), ConversionError, "mat1 and mat2"),
        (nn.Linear(4, 2, device="meta"), (torch.ones(2, 3),), InputError, "meta"),
        (nn.Identity(), ("text",), UnsupportedError, "str"),
    ],
)
def test_what_cannot_be_exported_says_why(
    module: nn.Module, example: Any, error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        in_memory(module, tmp_path, example)
    assert says in f"{caught.value} {getattr(caught.value, 'hint', '')}"


# --- TorchScript -----------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    """Control flow, which only scripting keeps; the archive does not say how large its inputs are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        y = self.linear(left)
        if int(right.shape[1]) > 4:
            y = y + 1
        return y, right.float().mean(1)


def test_a_script_without_shapes_asks_for_them_by_name(tmp_path: Path) -> None:
    path = save_script(Branches(), tmp_path / "branches.pt")
    with pytest.raises(InputError, match="left, right") as caught:
        read(path, tmp_path)
    assert "--input-shape left=" in caught.value.hint
    with pytest.raises(InputError, match="left, right"):
        read(path, tmp_path, "left=batch,3", "wrong=batch,5")
    with pytest.raises(ConversionError, match="left: float32"):
        read(path, tmp_path, "batch,7", "batch,5")


@pytest.mark.parametrize("shapes", [("batch,3", "batch,wide:int64"), ("right=batch,wide:int64", "left=batch,3")])
def test_a_script_takes_the_shapes_it_is_given(shapes: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Branches().eval()
    source = read(save_script(module, tmp_path / "branches.pt"), tmp_path, *shapes)
    try:
        assert [str(spec) for spec in source.signature.inputs] == [
            "left: float32[batchx3]", "right: int64[batchxwide]",
        ]  # fmt: skip
        assert [spec.shape for spec in source.signature.outputs] == [("batch", 2), ("batch",)]
        for wide in (3, 9):
            left, right = torch.randn(5, 3), torch.arange(5 * wide).reshape(5, wide)
            with torch.no_grad():
                check_hub(source, {"left": left.numpy(), "right": right.numpy()}, module(left, right))
    finally:
        source.close()


class Pooled(nn.Module):
    """Rows that depend on one another."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def test_a_trace_of_rows_that_depend_on_one_another_keeps_its_sizes(tmp_path: Path) -> None:
    source = read(save_script(Pooled(), tmp_path / "pooled.pt", (torch.randn(4, 3),)), tmp_path)
    source.close()
    assert source.signature.inputs[0].shape == source.signature.outputs[0].shape == (4, 3)
    assert "depend on one another" in source.notes[0]


class GivesDict(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": x + 1}


def test_a_script_that_gives_a_dict_is_refused(tmp_path: Path) -> None:
    path = save_script(GivesDict(), tmp_path / "dict.pt")
    with pytest.raises(UnsupportedError, match="dict") as caught:
        read(path, tmp_path, "batch,3")
    assert "model.pt2" in caught.value.hint


# --- what is no model ------------------------------------------------------------------------------------------------


def _weights(module: nn.Module, path: Path) -> None:
    torch.save(module.state_dict(), path)


def _legacy(module: nn.Module, path: Path) -> None:
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("save", "says"), [(_weights, "without the module"), (_legacy, "without the module"), (torch.save, "__main__")]
)
def test_checkpoints_are_refused_with_the_way_to_give_them(
    save: Callable[[nn.Module, Path], None], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import __main__

    monkeypatch.setattr(Branches, "__module__", "__main__")
    monkeypatch.setattr(__main__, "Branches", Branches, raising=False)
    path = tmp_path / "model.pth"
    save(Branches(), path)
    assert TORCH.accepts(path)
    with pytest.raises(UnsupportedError, match=says) as caught:
        TORCH.read(path, tmp_path / "stage")
    assert re.search(r"edgekit convert FILE.py:FUNCTION --weights (model|weights).pth", caught.value.hint)
    assert not (tmp_path / "stage").exists()


# --- modules of a function -------------------------------------------------------------------------------------------

FILE = """
import torch
from beside import WIDTH

class Net(torch.nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.embed = torch.nn.Embedding(9, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.head = torch.nn.Linear(width, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids, scale):
        return {"scores": self.head(self.norm(self.embed(ids).mean(1))) * scale}

def build():
    return Net()

def build_of(width):
    return Net(width)

def number():
    return 3
"""


@pytest.fixture
def built(tmp_path: Path) -> Callable[..., Path]:
    """Saves what a function of a file builds, as the child does."""
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")

    def save(function: str, *shapes: str, weights: str = "") -> Path:
        TORCH.save_built(
            tmp_path / "net.py",
            function,
            tmp_path / "net.pt2",
            weights=tmp_path / weights if weights else None,
            shapes=[parse_input_shape(shape) for shape in shapes],
        )
        return tmp_path / "net.pt2"

    return save


def state() -> dict[str, Tensor]:
    """Under a wrapping as of a training script, the shared weight once, and no counter of batches."""
    generator = torch.Generator().manual_seed(1)
    drawn = {name: torch.randn(4, generator=generator) for name in ("norm.weight", "norm.bias", "norm.running_mean")}
    drawn["norm.running_var"] = torch.rand(4, generator=generator) + 0.5
    drawn["embed.weight"] = torch.randn(9, 4, generator=generator)
    return {f"module.{name}": tensor for name, tensor in drawn.items()}


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_a_built_module_gets_its_weights(form: str, built: Callable[..., Path], tmp_path: Path) -> None:
    weights = state()
    if form == "pth":
        torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "w.pth")
    else:
        from safetensors.torch import save_file

        save_file(weights, tmp_path / "w.safetensors")
    source = read(built("build", "ids=batch,steps:int64", "scale=batch,1", weights=f"w.{form}"), tmp_path)
    try:
        assert [str(spec) for spec in (*source.signature.inputs, *source.signature.outputs)] == [
            "ids: int64[batchxsteps]", "scale: float32[batchx1]", "scores: float32[batchx9]",
        ]  # fmt: skip
        ids, scale = torch.arange(15).reshape(3, 5) % 9, torch.tensor([[1.0], [2.0], [-1.0]])
        embed, norm = weights["module.embed.weight"], [weights[f"module.norm.{n}"] for n in ("running_mean", "weight")]
        x = (embed[ids].mean(1) - norm[0]) / torch.sqrt(weights["module.norm.running_var"] + 1e-5) * norm[1]
        expected = (x + weights["module.norm.bias"]) @ embed.T * scale
        check_hub(source, {"ids": ids.numpy(), "scale": scale.numpy()}, [expected])
    finally:
        source.close()


def test_weights_that_do_not_fit_are_listed_all_at_once(built: Callable[..., Path], tmp_path: Path) -> None:
    weights = state()
    del weights["module.norm.bias"]
    weights["module.embed.weight"] = torch.zeros(9, 5)
    weights["module.extra"] = torch.zeros(2)
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(ArtifactError) as caught:
        built("build", "ids=batch,3:int64", "scale=batch,1", weights="w.pth")
    for wrong in ("norm.bias [4] is missing", "embed.weight is [9, 5], not [9, 4]", "extra [2] is left over"):
        assert wrong in str(caught.value)


@pytest.mark.parametrize(
    ("function", "shapes", "error", "says"),
    [
        ("absent", ("1,3",), InputError, "no function or class 'absent'"),
        ("build_of", ("1,3",), InputError, "without arguments"),
        ("number", ("1,3",), UnsupportedError, "gives a int"),
        ("build", ("wrong=1,3",), InputError, "ids, scale"),
        ("build", ("1,3", "scale=1,1"), InputError, "ids, scale"),
        ("build", ("ids=batch,3", "scale=batch,1"), ConversionError, "ids: float32"),
        ("Net", ("batch,3:int64", "batch,2"), ConversionError, "scale: float32"),
    ],
)
def test_a_function_that_does_not_build_says_why(
    function: str, shapes: tuple[str, ...], error: type[Exception], says: str, built: Callable[..., Path]
) -> None:
    with pytest.raises(error) as caught:
        built(function, *shapes)
    assert says in str(caught.value)


def test_the_hub_answers_in_onnx_runtime_at_any_batch(tmp_path: Path) -> None:
    """A trace of recurrent layers is where the older exporter is known to fix the batch."""
    module, (steps,) = NETS["rnn"]()
    source = read(save_script(module, tmp_path / "rnn.pt", (steps,)), tmp_path)
    try:
        more = torch.cat([steps, steps.flip(1), -steps])
        with torch.no_grad():
            check_hub(source, {"steps": more.numpy()}, [module(more)])
    finally:
        source.close()
