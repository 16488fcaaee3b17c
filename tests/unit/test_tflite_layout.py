"""Where TRANSPOSE is left in graphs a naive lowering has filled with it; nothing is run here but the passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.passes import optimize
from edgekit.converters.tflite.passes.cutting import Decisions
from edgekit.converters.tflite.passes.rewriting import Rewriter


class Net(Builder):
    """A graph that grows from one input; weights are random."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)
        self.x = Tensor("x", shape, "float32")
        self.graph.inputs.append(self.x)

    def numbers(self, *shape: int) -> Tensor:
        return self.const(self.rng.normal(size=shape).astype("float32"))

    def conv(self, x: Tensor, channels: int, taps: int = 1, edge: int = 0) -> Tensor:
        picture = self.pad(self.channels_last(x), [0, edge, edge, 0], [0, edge, edge, 0])
        inputs = [picture, self.numbers(channels, taps, taps, picture.shape[3]), self.numbers(channels)]
        shape = [x.shape[0], *(n - taps + 1 for n in picture.shape[1:3]), channels]
        found = self.op(
            "CONV_2D", inputs, shape, padding="VALID", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1,
            fusedActivationFunction="NONE",
        )  # fmt: skip
        return self.channels_first(found)

    def dense(self, x: Tensor, outs: int) -> Tensor:
        return self.op(
            "FULLY_CONNECTED", [x, self.numbers(outs, x.shape[-1]), None], [*x.shape[:-1], outs], keepNumDims=True,
            fusedActivationFunction="NONE", weightsFormat="DEFAULT",
        )  # fmt: skip

    def optimized(self, *outputs: Tensor) -> list[str]:
        """What is left of it."""
        self.graph.outputs += outputs
        optimize(self.graph)
        return [op.code for op in self.graph.ops]


def test_between_convolutions_nothing_is_transposed() -> None:
    net = Net(1, 3, 8, 8)
    x = net.unary("RELU", net.conv(net.x, 4, 3, 1))
    y = net.add(net.conv(x, 4), net.mul(x, net.numbers(4, 1, 1)))
    codes = net.optimized(net.conv(y, 2))
    assert sorted(codes) == ["ADD", "CONV_2D", "CONV_2D", "CONV_2D", "MUL", "TRANSPOSE", "TRANSPOSE"]
    assert (codes[0], codes[-1]) == ("TRANSPOSE", "TRANSPOSE")


def test_a_squeeze_and_excitation_block_is_not_transposed() -> None:
    net = Net(1, 3, 8, 8)
    x = net.conv(net.x, 8)
    gate = net.unary("LOGISTIC", net.conv(net.unary("RELU", net.conv(net.mean(x, [2, 3]), 2)), 8))
    codes = net.optimized(net.mean(net.conv(net.mul(x, gate), 4), [2, 3], keep=False))
    assert codes.count("TRANSPOSE") == 1
    assert "RESHAPE" not in codes


def test_what_is_concatenated_and_cropped_stays_channels_last() -> None:
    net = Net(2, 3, 8, 8)
    skip = net.conv(net.x, 4)
    deep = net.conv(net.slice(skip, [0, 0, 2, 2], [2, 4, 4, 4]), 4)
    both = net.concat([deep, net.slice(skip, [0, 0, 4, 4], [2, 4, 4, 4])], 1)
    net.optimized(net.mean(net.conv(both, 1), [1, 2, 3], keep=False))
    assert [op.options["axis"] for op in net.graph.ops if op.code == "CONCATENATION"] == [3]
    assert [op.code for op in net.graph.ops].count("TRANSPOSE") == 1


def test_patches_of_a_vision_transformer_are_only_reshaped() -> None:
    net = Net(1, 3, 8, 8)
    patches = net.conv(net.x, 16, 2)
    tokens = net.transpose(net.reshape(patches, [1, 16, 49]), [0, 2, 1])
    assert net.optimized(net.dense(tokens, 5)).count("TRANSPOSE") == 1


def test_a_flattened_picture_is_put_in_order_by_the_weights() -> None:
    net = Net(2, 3, 8, 8)
    codes = net.optimized(net.dense(net.reshape(net.conv(net.x, 4), [2, 256]), 5))
    assert codes == ["TRANSPOSE", "CONV_2D", "FULLY_CONNECTED"]


def test_a_shuffle_of_channels_costs_one_transpose() -> None:
    net = Net(1, 3, 8, 8)
    x = net.reshape(net.conv(net.x, 6), [1, 2, 3, 8, 8])
    y = net.conv(net.reshape(net.transpose(x, [0, 2, 1, 3, 4]), [1, 6, 8, 8]), 2)
    codes = net.optimized(net.mean(y, [2, 3], keep=False))
    assert codes.count("TRANSPOSE") == 2  # the input's and the shuffle's


def test_a_shuffle_of_pixels_costs_one_transpose() -> None:
    net = Net(1, 3, 8, 8)
    x = net.reshape(net.conv(net.x, 12), [1, 3, 2, 2, 8, 8])
    y = net.conv(net.reshape(net.transpose(x, [0, 1, 4, 2, 5, 3]), [1, 3, 16, 16]), 2)
    assert net.optimized(net.mean(y, [2, 3], keep=False)).count("TRANSPOSE") == 2


def test_a_detection_head_that_ends_channels_last_is_only_reshaped() -> None:
    net = Net(1, 3, 8, 8)
    head = net.reshape(net.conv(net.x, 10), [1, 2, 5, 8, 8])
    boxes = net.unary("LOGISTIC", net.transpose(head, [0, 3, 4, 1, 2]))
    assert net.optimized(net.reshape(boxes, [1, 128, 5])).count("TRANSPOSE") == 1


def test_dilated_convolutions_of_a_row_are_not_reshaped_in_between() -> None:
    net = Net(1, 4, 9)

    def conv(x: Tensor) -> Tensor:
        return net.reshape(net.conv(net.reshape(x, [1, 4, 1, x.shape[2]]), 4), x.shape)

    x, skips = net.x, net.x
    for _ in range(3):
        gated = net.mul(net.unary("TANH", conv(x)), net.unary("LOGISTIC", conv(x)))
        x, skips = net.add(x, conv(gated)), net.add(skips, conv(gated))
    codes = net.optimized(conv(net.unary("RELU", skips)))
    assert (codes.count("TRANSPOSE"), codes.count("RESHAPE")) == (2, 2)


def test_three_spatial_dimensions_are_rearranged_too() -> None:
    net = Net(1, 3, 4, 4, 4)

    def conv(x: Tensor) -> Tensor:
        inputs = [net.channels_last(x), net.numbers(1, 1, 1, x.shape[1], 4), net.numbers(4)]
        options = {f"{name}{axis}": 1 for name in ("stride",) for axis in "DHW"}
        shape = [*inputs[0].shape[:4], 4]
        return net.channels_first(
            net.op("CONV_3D", inputs, shape, padding="VALID", fusedActivationFunction="NONE", **options)
        )

    codes = net.optimized(net.mean(conv(net.unary("RELU", conv(net.x))), [2, 3, 4], keep=False))
    assert codes.count("TRANSPOSE") == 1


def test_a_transpose_that_only_moves_axes_of_size_1_is_a_reshape() -> None:
    net = Net(1, 1, 5, 6)
    assert net.optimized(net.conv(net.x, 1)) == ["RESHAPE", "CONV_2D", "RESHAPE"]


def test_softmax_keeps_the_axis_it_works_on_last() -> None:
    net = Net(2, 3, 4, 4)
    x = net.op("SOFTMAX", [net.conv(net.x, 4)], (2, 4, 4, 4), beta=1.0)
    net.optimized(net.conv(x, 4))
    made = net.graph.producers()
    softmax = next(op for op in net.graph.ops if op.code == "SOFTMAX")
    before = softmax.inputs[0]
    assert before is not None
    assert made[before].code == "TRANSPOSE"


def test_the_smaller_side_is_transposed() -> None:
    net = Net(2, 3, 4, 4)
    wide = net.conv(net.x, 64)
    narrow = net.reduce("REDUCE_MAX", wide, [1], keep=True)
    net.optimized(net.op("SOFTMAX", [narrow], narrow.shape, beta=1.0))
    sizes = [op.output.size for op in net.graph.ops if op.code == "TRANSPOSE"]
    assert max(sizes) == 2 * 3 * 4 * 4


def test_an_output_keeps_its_name_and_its_layout() -> None:
    net = Net(2, 3, 4, 4)
    y = net.unary("TANH", net.conv(net.x, 5))
    y.name = "answer"
    again = net.channels_last(net.conv(y, 4))
    again.name = "turned"
    assert net.optimized(y, again).count("TRANSPOSE") == 2
    assert [(t.name, t.shape) for t in net.graph.outputs] == [("answer", (2, 5, 4, 4)), ("turned", (2, 4, 4, 4))]
    assert net.graph.producers()[net.graph.outputs[1]].code == "CONV_2D"


def test_the_same_transpose_is_not_done_twice() -> None:
    net = Net(2, 3, 4, 4)
    assert net.optimized(net.conv(net.x, 5), net.conv(net.x, 4, 3)).count("TRANSPOSE") == 3


def test_a_dimension_known_only_when_the_model_runs_is_rearranged_like_the_others() -> None:
    net = Net(-1, 3, 4, 4)
    assert net.optimized(net.conv(net.unary("RELU", net.conv(net.x, 5)), 2)).count("TRANSPOSE") == 2


def test_decisions_cost_least() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        terms = [(int(rng.integers(4)), rng.permutation(5)[:3].tolist(), int(rng.integers(1, 9))) for _ in range(8)]
        decisions = Decisions()
        for kind, (a, b, c), cost in terms:
            if kind == 0:
                decisions.left(a, cost)
            elif kind == 1:
                decisions.changed(a, cost)
            elif kind == 2:
                decisions.any_left([a, b], cost, beside=c)
            else:
                decisions.any_changed([a, b], cost)
        found, changed = decisions.cheapest()
        assert found == _cost(terms, changed)
        assert found == min(_cost(terms, {i for i in range(5) if mask >> i & 1}) for mask in range(32))


def _cost(terms: Sequence[tuple[int, list[int], int]], changed: set[object]) -> int:
    total = 0
    for kind, (a, b, c), cost in terms:
        paid = [
            a not in changed,
            a in changed,
            c in changed and not {a, b} <= changed,
            bool({a, b} & changed),
        ]
        total += cost * paid[kind]
    return total


def test_an_operation_put_in_late_stands_before_its_readers() -> None:
    x, y, z = (Tensor(name, (2,), "float32") for name in "xyz")
    graph = Graph("main", [x], [z], [Op("TANH", [x], [z])])
    rewriter = Rewriter(graph)
    rewriter.set_inputs(graph.ops[0], [y])
    rewriter.add(Op("ABS", [x], [y]))
    rewriter.finish()
    assert [op.code for op in graph.ops] == ["ABS", "TANH"]


def test_operations_that_wait_for_one_another_are_refused() -> None:
    x, y = (Tensor(name, (2,), "float32") for name in "xy")
    graph = Graph("main", [], [y], [Op("ABS", [y], [x]), Op("TANH", [x], [y])])
    with pytest.raises(RuntimeError, match="wait for one another"):
        Rewriter(graph).finish()
