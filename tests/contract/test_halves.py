"""Operations a recipe stores in half precision: they compute in float, in all three formats, beside integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.quantize import QuantPlan, make_quant_plan, observe
from edgekit.quantize.layers import layers_of
from edgekit.recipe import Recipe, Rule
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions
from edgekit.target import Target
from tests.unit.networks import from_text

TARGET = Target.named("generic-x86")
RNG = np.random.default_rng(4)
RECIPE = Recipe.named("w8a8").with_rule(Rule("fp16", name="front", reason="raw sound"))
FORMATS = ("onnx", "openvino", "tflite")


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.2, shape).astype("float32")


def net(front: np.ndarray) -> ir.Model:
    body = "a = Conv<pads=[1,1,1,1]>(x, f) b = Relu(a) y = Conv<pads=[1,1,1,1]>(b, w)"
    model = hub.clean(from_text(body, inputs="float[1,16,12,12] x", outputs="float[a,b,c,d] y", opset=17, f=front,
                                w=numbers(16, 32, 3, 3)))  # fmt: skip
    next(node for node in model.graph if node.inputs[1] is not None and node.inputs[1].name == "f").name = "front"
    return model


def feeds() -> dict[str, np.ndarray]:
    return {"x": RNG.normal(0, 1, (1, 16, 12, 12)).astype("float32")}


def plan_for(model: ir.Model, format: str, recipe: Recipe = RECIPE) -> QuantPlan:
    samples = [feeds() for _ in range(8)]
    return make_quant_plan(model, TARGET.placements[format], recipe, observe(model, samples))


def written(model: ir.Model, format: str, plan: QuantPlan, folder: Path, precision: str = "w8a8") -> tuple[Path, int]:
    writer = next(converter for _, converter in CONVERTERS if converter.format == format)
    folder.mkdir(parents=True, exist_ok=True)
    files = writer.write(model, folder / f"model{writer.suffix}", precision=precision, plan=plan).files
    return files[0], sum(file.stat().st_size for file in files if file.suffix != ".xml")


def answered(path: Path, format: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    runtime = {"onnx": "onnx", "openvino": "openvino", "tflite": "tflite"}[format]
    return np.array(RUNTIMES.get(runtime).open(path, EngineOptions(threads=1)).run([feed["x"]])[0])


def sqnr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(wanted - got).sum() / np.square(wanted).sum()))


@pytest.mark.parametrize("format", FORMATS)
def test_halves_take_half_the_place_of_floats_and_answer_like_them(format: str, tmp_path: Path) -> None:
    model = net(numbers(32, 16, 3, 3))
    whole = replace(RECIPE, rules=(Rule("fp32", name="front"),))
    files = {name: written(model, format, plan_for(model, format, recipe), tmp_path / name)
             for name, recipe in (("halves", RECIPE), ("floats", whole))}  # fmt: skip
    saved = files["floats"][1] - files["halves"][1]
    assert saved == pytest.approx(2 * 32 * 16 * 9, abs=900), "two bytes a number, but for names and a conversion"
    feed = feeds()
    assert sqnr_db(*(answered(file, format, feed) for file, _ in files.values())) > 30


@pytest.mark.parametrize("format", FORMATS)
def test_the_record_says_which_are_halves(format: str) -> None:
    model = net(numbers(32, 16, 3, 3))
    plan = plan_for(model, format)
    assert plan.halves == ("f",)
    assert plan.float_ops["front"] == "its weights stored as fp16"
    assert plan.to_json()["halves"] == ["f"]
    row = next(row for row in layers_of(model, {format: plan}) if row["name"] == "front")
    assert row["plans"][format]["precision"] == "fp16"


@pytest.mark.parametrize("size", [1e6, 1e-7])
def test_numbers_half_precision_does_not_hold_stay_whole(size: float) -> None:
    plan = plan_for(net(numbers(32, 16, 3, 3) * np.float32(size)), "onnx")
    assert plan.halves == ()
    assert plan.float_ops["front"] == "raw sound"


def test_a_weight_an_integer_kernel_reads_too_is_no_half() -> None:
    body = "a = Conv<pads=[1,1,1,1]>(x, f) b = Relu(a) y = Conv<pads=[1,1,1,1]>(b, f)"
    model = hub.clean(from_text(body, inputs="float[1,16,12,12] x", outputs="float[a,b,c,d] y", opset=17,
                                f=numbers(16, 16, 3, 3)))  # fmt: skip
    first = next(node for node in model.graph if node.op_type == "Conv")
    first.name = "front"
    plan = plan_for(model, "onnx")
    assert plan.halves == ()
    assert "f" in plan.weights
