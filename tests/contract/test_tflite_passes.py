"""What the passes of the TFLite writer leave as it was, the answers, and what they make better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from edgekit import graph as hub
from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.lowering import lower
from edgekit.converters.tflite.model import Graph, LiteModel, Op, Tensor
from edgekit.converters.tflite.passes import optimize
from edgekit.converters.tflite.writing import write_model
from edgekit.making import make_model
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions
from tests.contract.random_lite_graphs import random_graph


def answers(model: LiteModel, path: Path) -> list[np.ndarray]:
    """What LiteRT gives for random inputs, in the order of the model's outputs."""
    write_model(model, path)
    rng = np.random.default_rng(0)
    session = RUNTIMES.get("tflite").open(path, EngineOptions(threads=1))
    given = {name: rng.normal(size=tensor.shape).astype(tensor.dtype)
             for name, tensor in zip(model.input_names, model.graph.inputs, strict=True)}  # fmt: skip
    found = session.run([given[spec.name] for spec in session.inputs])
    named = dict(zip((spec.name for spec in session.outputs), (np.array(array) for array in found), strict=True))
    session.close()
    return [named[name] for name in model.output_names]


def same_answers(model: LiteModel, folder: Path) -> Counter[str]:
    """Optimizes the model and asserts that its answers stay; returns how often each operation is left."""
    expected = answers(model, folder / "naive.tflite")
    optimize(model.graph)
    found = answers(model, folder / "better.tflite")
    for want, got in zip(expected, found, strict=True):
        scale = max(1.0, float(np.abs(want).max(initial=0)))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * scale)
    return Counter(op.code for graph in model.graph.graphs() for op in graph.ops)


def transposed(graph: Graph) -> int:
    return sum(op.output.size for op in graph.ops if op.code == "TRANSPOSE")


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_give_the_same_answers_and_transpose_no_more(seed: int, tmp_path: Path) -> None:
    model = random_graph(seed)
    before = transposed(model.graph)
    same_answers(model, tmp_path)
    assert transposed(model.graph) <= before


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_graph_gives_the_same_bytes_and_a_second_time_changes_nothing(seed: int, tmp_path: Path) -> None:
    files = []
    for number in range(2):
        model = random_graph(seed, steps=30)
        optimize(model.graph)
        write_model(model, tmp_path / f"{number}.tflite")
        files.append((tmp_path / f"{number}.tflite").read_bytes())
    assert files[0] == files[1]
    codes = [op.code for op in model.graph.ops]
    optimize(model.graph)
    assert [op.code for op in model.graph.ops] == codes


LEFT = {
    "resnet": (0, 1), "mobilenet-v2": (0, 1), "efficientnet-lite": (1, 0), "unet": (2, 0), "pix2pix": (2, 0),
    "ds-cnn": (0, 1), "wavenet": (0, 2),
}  # fmt: skip
"""TRANSPOSEs and RESHAPEs left in the tiny models: those at the border; RESHAPE where a picture has one channel."""


@pytest.mark.parametrize("family", LEFT)
def test_the_families_are_only_rearranged_at_the_border(family: str, tmp_path: Path) -> None:
    import onnx_ir as ir

    make_model(family, output=tmp_path / "model.onnx")
    graph = hub.clean(hub.infer_shapes(ir.load(tmp_path / "model.onnx")))
    left = same_answers(lower(graph, optimize=False), tmp_path)
    assert (left["TRANSPOSE"], left["RESHAPE"]) == LEFT[family]
    assert family == "pix2pix" or not {"RELU", "RELU6"} & {*left}  # there they stand behind CONCATENATION


# --- one rule at a time ----------------------------------------------------------------------------------------------


def _numbers(b: Builder, *shape: int) -> Tensor:
    return b.const(np.random.default_rng(7).normal(0, 0.7, shape).astype("float32"))


def _window(b: Builder, x: Tensor, code: str = "CONV_2D", taps: int = 3, stride: int = 1) -> Tensor:
    sizes = [(n - taps) // stride + 1 for n in x.shape[1:3]]
    options = {"strideH": stride, "strideW": stride, "dilationHFactor": 1, "dilationWFactor": 1}
    weight = _numbers(b, 4, taps, taps, x.shape[3]) if code == "CONV_2D" else _numbers(b, 1, taps, taps, x.shape[3])
    channels = 4 if code == "CONV_2D" else x.shape[3]
    if code == "DEPTHWISE_CONV_2D":
        options["depthMultiplier"] = 1
    return b.op(code, [x, weight, _numbers(b, channels)], [x.shape[0], *sizes, channels], padding="VALID",
                fusedActivationFunction="NONE", **options)  # fmt: skip


def _dense(b: Builder, x: Tensor, outs: int = 4, bias: bool = True) -> Tensor:
    inputs = [x, _numbers(b, outs, x.shape[-1]), _numbers(b, outs) if bias else None]
    return b.op("FULLY_CONNECTED", inputs, [*x.shape[:-1], outs], fusedActivationFunction="NONE",
                weightsFormat="DEFAULT", keepNumDims=True)  # fmt: skip


def _transposed_window(b: Builder, x: Tensor) -> Tensor:
    shape = [x.shape[0], 2 * x.shape[1], 2 * x.shape[2], 3]
    inputs = [b.ints(shape), _numbers(b, 3, 2, 2, x.shape[3]), x]
    return b.op("TRANSPOSE_CONV", inputs, shape, "float32", padding="SAME", strideH=2, strideW=2,
                fusedActivationFunction="NONE")  # fmt: skip


def _pool(b: Builder, x: Tensor, code: str) -> Tensor:
    shape = [x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3]]
    return b.op(code, [x], shape, padding="VALID", strideH=2, strideW=2, filterHeight=2, filterWidth=2,
                fusedActivationFunction="NONE")  # fmt: skip


def _padded(b: Builder, x: Tensor, before: int, after: int, stride: int = 1) -> Tensor:
    return _window(b, b.pad(x, [0, before, before, 0], [0, after, after, 0]), stride=stride)


def _swish(b: Builder, x: Tensor, last: Callable[[Builder, Tensor, Tensor], Tensor]) -> Tensor:
    return last(b, x, b.unary("RELU6", b.add(x, 3.0)))


def _grouped(b: Builder, x: Tensor) -> Tensor:
    return b.matmul(x, b.transpose(b.unary("TANH", x), [0, 1, 3, 2]))


RULES: dict[str, tuple[Callable[[Builder, Tensor], Tensor], dict[str, int]]] = {
    "RELU behind CONV_2D": (lambda b, x: b.unary("RELU", _window(b, x)), {"CONV_2D": 1}),
    "RELU6 behind DEPTHWISE_CONV_2D": (
        lambda b, x: b.unary("RELU6", _window(b, x, "DEPTHWISE_CONV_2D")), {"DEPTHWISE_CONV_2D": 1}),
    "RELU_N1_TO_1 behind ADD": (lambda b, x: b.unary("RELU_N1_TO_1", b.add(x, x)), {"ADD": 1}),
    "RELU behind SUB": (lambda b, x: b.unary("RELU", b.sub(x, _numbers(b, 6, 6, 3))), {"SUB": 1}),
    "RELU6 behind MUL": (lambda b, x: b.unary("RELU6", b.mul(x, x)), {"MUL": 1}),
    "RELU behind DIV": (lambda b, x: b.unary("RELU", b.div(x, _numbers(b, 3))), {"DIV": 1}),
    "RELU behind FULLY_CONNECTED": (lambda b, x: b.unary("RELU", _dense(b, x)), {"FULLY_CONNECTED": 1}),
    "RELU behind TRANSPOSE_CONV": (lambda b, x: b.unary("RELU", _transposed_window(b, x)), {"TRANSPOSE_CONV": 1}),
    "RELU6 behind AVERAGE_POOL_2D": (
        lambda b, x: b.unary("RELU6", _pool(b, x, "AVERAGE_POOL_2D")), {"AVERAGE_POOL_2D": 1}),
    "RELU behind MAX_POOL_2D": (lambda b, x: b.unary("RELU", _pool(b, x, "MAX_POOL_2D")), {"MAX_POOL_2D": 1}),
    "RELU behind CONCATENATION": (
        lambda b, x: b.unary("RELU", b.concat([x, b.unary("ABS", x)], 3)), {"CONCATENATION": 1, "ABS": 1, "RELU": 1}),
    "RELU behind a layout": (
        lambda b, x: b.unary("RELU", b.channels_first(_window(b, x))), {"CONV_2D": 1, "TRANSPOSE": 1}),
    "MAXIMUM with 0": (lambda b, x: b.binary("MAXIMUM", _window(b, x), 0.0), {"CONV_2D": 1}),
    "SAME of stride 1": (lambda b, x: _padded(b, x, 1, 1), {"CONV_2D": 1}),
    "SAME of stride 2": (lambda b, x: _padded(b, x, 0, 1, 2), {"CONV_2D": 1}),
    "not SAME of stride 2": (lambda b, x: _padded(b, x, 1, 1, 2), {"PAD": 1, "CONV_2D": 1}),
    "causal": (lambda b, x: _padded(b, x, 2, 0), {"PAD": 1, "CONV_2D": 1}),
    "a number for each channel added": (lambda b, x: b.add(_window(b, x), _numbers(b, 4)), {"CONV_2D": 1}),
    "a number added to what has no bias": (lambda b, x: b.sub(_dense(b, x, bias=False), 2.0), {"FULLY_CONNECTED": 1}),
    "a bias for TRANSPOSE_CONV": (lambda b, x: b.add(_transposed_window(b, x), _numbers(b, 3)), {"TRANSPOSE_CONV": 1}),
    "a factor for each channel": (
        lambda b, x: b.unary("RELU", b.mul(_window(b, x, "DEPTHWISE_CONV_2D"), _numbers(b, 1, 1, 1, 3))),
        {"DEPTHWISE_CONV_2D": 1}),
    "a divisor": (lambda b, x: b.div(_dense(b, x, bias=False), _numbers(b, 4)), {"FULLY_CONNECTED": 1}),
    "a number divided": (lambda b, x: b.div(2.0, _dense(b, x)), {"FULLY_CONNECTED": 1, "DIV": 1}),
    "a number for each place": (lambda b, x: b.mul(_window(b, x, taps=1), _numbers(b, 6, 1)), {"CONV_2D": 1, "MUL": 1}),
    "x * (gate / 6)": (lambda b, x: _swish(b, x, lambda b, x, g: b.mul(x, b.div(g, 6.0))), {"HARD_SWISH": 1}),
    "(x * gate) / 6": (lambda b, x: _swish(b, x, lambda b, x, g: b.div(b.mul(x, g), 6.0)), {"HARD_SWISH": 1}),
    "(x / 6) * gate": (lambda b, x: _swish(b, x, lambda b, x, g: b.mul(b.mul(x, 1 / 6), g)), {"HARD_SWISH": 1}),
    "(x * gate) / 5": (
        lambda b, x: _swish(b, x, lambda b, x, g: b.div(b.mul(x, g), 5.0)), {"ADD": 1, "MUL": 1, "DIV": 1}),
    "RESHAPE of RESHAPE": (lambda b, x: b.reshape(b.reshape(x, [2, 3, 36]), [2, 9, 12]), {"RESHAPE": 1}),
    "rows for FULLY_CONNECTED": (lambda b, x: _dense(b, b.reshape(x, [2, 108])), {"FULLY_CONNECTED": 1}),
    "rows and back": (
        lambda b, x: b.reshape(_dense(b, b.reshape(x, [72, 3])), [2, 6, 6, 4]), {"FULLY_CONNECTED": 1}),
    "CAST and back": (
        lambda b, x: b.cast(b.cast(b.cast(x, "int32"), "int64"), "float32"), {"CAST": 2}),
    "axes dropped": (lambda b, x: b.reshape(b.mean(x, [1, 2]), [2, 3]), {"MEAN": 1}),
    "the right operand swapped": (_grouped, {"TANH": 1, "BATCH_MATMUL": 1}),
    "computed twice": (
        lambda b, x: b.add(b.unary("EXP", x), b.mul(b.unary("EXP", x), x)), {"EXP": 1, "MUL": 1, "ADD": 1}),
    "constants": (
        lambda b, x: b.mul(x, b.op("ADD", [_numbers(b, 3), _numbers(b, 6, 1)], (6, 3), fusedActivationFunction="NONE")),
        {"MUL": 1}),
    "not read": (lambda b, x: (b.unary("EXP", b.unary("ABS", x)), b.unary("TANH", x))[1], {"TANH": 1}),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_what_is_left_of(rule: str, tmp_path: Path) -> None:
    build, expected = RULES[rule]
    b = Builder()
    b.source = "node"
    b.graph.inputs.append(Tensor("x", (2, 6, 6, 3), "float32"))
    b.graph.outputs.append(build(b, b.graph.inputs[0]))
    assert same_answers(LiteModel(b.graph, ["x"], ["y"]), tmp_path) == expected


def test_what_is_read_twice_keeps_its_activation_apart(tmp_path: Path) -> None:
    b = Builder()
    b.source = "node"
    b.graph.inputs.append(Tensor("x", (2, 6, 6, 3), "float32"))
    y = _window(b, b.graph.inputs[0])
    b.graph.outputs += [b.unary("RELU", y), b.add(y, _numbers(b, 4))]
    left = same_answers(LiteModel(b.graph, ["x"], ["y", "z"]), tmp_path)
    assert left == {"CONV_2D": 1, "RELU": 1, "ADD": 1}


def test_the_bodies_of_control_flow_are_optimized_too() -> None:
    bodies = []
    for _ in range(2):
        b = Builder("body")
        b.graph.inputs.append(Tensor("x", (2, 6, 6, 3), "float32"))
        b.graph.outputs.append(b.channels_last(b.unary("ABS", b.channels_first(b.graph.inputs[0]))))
        bodies.append(b.graph)
    main = Builder()
    main.graph.inputs += [Tensor("c", (), "bool"), Tensor("x", (2, 6, 6, 3), "float32")]
    found = Tensor("y", (2, 6, 6, 3), "float32")
    main.graph.ops.append(Op("IF", [*main.graph.inputs], [found], {"thenSubgraphIndex": bodies[0],
                                                                   "elseSubgraphIndex": bodies[1]}))  # fmt: skip
    main.graph.outputs.append(found)
    optimize(main.graph)
    assert [[op.code for op in body.ops] for body in bodies] == [["ABS"], ["ABS"]]


def test_the_naive_graph_is_there_for_who_asks(tmp_path: Path) -> None:
    import onnx_ir as ir

    make_model("ds-cnn", output=tmp_path / "model.onnx")
    graph = hub.clean(hub.infer_shapes(ir.load(tmp_path / "model.onnx")))
    naive, better = (lower(deepcopy(graph), optimize=flag).graph for flag in (False, True))
    assert transposed(naive) > 0
    assert transposed(better) == 0
