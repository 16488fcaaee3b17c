"""Roads are chosen from data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from edgekit.converter import DirectRoad
from edgekit.errors import UnsupportedError
from edgekit.plan import make_plan
from edgekit.recipe import Recipe, Rule
from edgekit.target import Target


@dataclass
class Fake:
    name: str
    format: str = ""
    writes: bool = False
    exports: tuple[str, ...] = ()
    roads: tuple[DirectRoad, ...] = ()


def never(*args: Any) -> Any:
    raise AssertionError("a plan drives nothing")


TFLITE_ROAD = DirectRoad("keras -> tflite", "saved_model", "tflite", ("fp32", "w8a8"), "no hub writer", never)
OPENVINO_ROAD = DirectRoad(
    "saved model -> openvino", "saved_model", "openvino", ("fp32",), "when the hub cannot", never
)
CONVERTERS: list[Any] = [
    Fake("tflite", "tflite", roads=(TFLITE_ROAD,)),
    Fake("onnx", "onnx", writes=True, exports=("hub",)),
    Fake("openvino", "openvino", writes=True, roads=(OPENVINO_ROAD,)),
]
KERAS: Any = Fake("keras", exports=("hub", "saved_model"))
ONNX: Any = CONVERTERS[1]
FP32, W8A8 = Recipe.named("fp32"), Recipe.named("w8a8")


def plan(reader: Any, target: str, *recipes: Recipe, formats: tuple[str, ...] = ()) -> Any:
    return make_plan("model", reader, Target.named(target), recipes, formats, CONVERTERS)


def test_the_hub_comes_before_a_direct_road() -> None:
    (variant,) = plan(KERAS, "generic-x86", FP32, formats=("openvino",)).variants
    assert [road.name for road in variant.roads] == ["keras -> hub -> openvino", "saved model -> openvino"]


def test_a_road_needs_what_the_source_exports() -> None:
    made = {v.name: v for v in plan(ONNX, "generic-x86", FP32).variants}
    assert made["onnx-fp32"].roads
    assert "no road from onnx to tflite" in made["tflite-fp32"].refusal


def test_a_direct_road_is_not_taken_for_rules_it_cannot_honor() -> None:
    recipe = W8A8.with_rule(Rule("fp32", name="head*"))
    with pytest.raises(UnsupportedError, match="no road"):
        plan(KERAS, "generic-x86", recipe, formats=("tflite",))


def test_a_target_refuses_with_its_reason_and_the_rest_goes_on() -> None:
    made = {v.name: v for v in plan(KERAS, "raspberry-pi-5", FP32, W8A8).variants}
    assert "depthwise" in made["openvino-w8a8"].refusal
    assert made["openvino-fp32"].roads
    assert made["tflite-w8a8"].roads


def test_every_reason_is_listed_when_nothing_is_possible() -> None:
    with pytest.raises(UnsupportedError) as caught:
        plan(KERAS, "web", FP32, W8A8, formats=("openvino",))
    assert len(caught.value.offenders) == 2


def test_integers_come_first_then_fp32_then_fp16() -> None:
    names = [
        v.precision for v in plan(KERAS, "web", Recipe.named("fp16"), FP32, W8A8, formats=("tflite", "onnx")).variants
    ]
    assert names == ["w8a8", "w8a8", "fp32", "fp32", "fp16", "fp16"]


def test_what_is_quantized_has_a_float_twin_to_be_held_against() -> None:
    made = plan(KERAS, "generic-x86", W8A8)
    assert {v.name for v in made.yardsticks} == {"openvino-fp32", "tflite-fp32", "onnx-fp32"}
    assert not plan(KERAS, "generic-x86", W8A8, FP32).yardsticks
