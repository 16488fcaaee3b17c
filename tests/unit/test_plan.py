"""Roads are chosen from data alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    reading: str = "read somehow"
    writing: str = "written somehow"


def never(*args: Any) -> Any:
    raise AssertionError("a plan drives nothing")


TFLITE_ROAD = DirectRoad("keras -> tflite", "vendor", "saved_model", "tflite", ("fp32", "w8a8"), "no hub writer", never)
OPENVINO_ROAD = DirectRoad(
    "saved model -> openvino", "native", "saved_model", "openvino", ("fp32",), "when the hub cannot", never
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


def test_a_road_that_was_measured_better_comes_before_the_hub() -> None:
    better = replace(OPENVINO_ROAD, better_at=("fp32",))
    converters = [CONVERTERS[1], replace(CONVERTERS[2], roads=(better,))]
    (variant,) = make_plan("m", KERAS, Target.named("generic-x86"), [FP32], ["openvino"], converters).variants
    assert [road.word for road in variant.roads] == ["native", "hub"]


def test_one_road_can_be_asked_for() -> None:
    made = make_plan("m", KERAS, Target.named("generic-x86"), [FP32], [], CONVERTERS, "native")
    assert {v.format: [road.word for road in v.roads] for v in made.variants} == {
        "openvino": ["native"], "tflite": [], "onnx": []
    }  # fmt: skip
    assert "no road 'native' from keras to tflite" in next(v.refusal for v in made.variants if v.format == "tflite")


def test_a_road_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnsupportedError, match="hub, vendor, native"):
        make_plan("m", KERAS, Target.named("generic-x86"), [FP32], [], CONVERTERS, "motorway")


def test_the_way_through_the_hub_is_told_hop_by_hop() -> None:
    (variant,) = plan(KERAS, "generic-x86", W8A8, formats=("onnx",)).variants
    assert [hop.name for hop in variant.roads[0].hops] == ["keras -> hub", "hub -> integers", "hub -> onnx"]
