"""LSTM, GRU and RNN: the input's part of all gates by one product, then a loop over the steps.

TFLite's own UNIDIRECTIONAL_SEQUENCE_LSTM keeps its state from one call to the next (measured), which a call here must
not, and it is slower. Medians in us on x86-64, one thread, LiteRT 2.3.0, interleaved; T steps, I inputs, H units:

    ==========================  =====  ======  ==========  =====
    form                        T=20   T=100   T=100       T=1000
    B=1, I=64; H =              64     64      256 (I=128) 256
    ==========================  =====  ======  ==========  =====
    steps one behind the other  52     670     10057       -
    one WHILE                   44     343     2134        160488
    WHILE of blocks             -      298     -           17145
    UNIDIRECTIONAL_SEQUENCE_..  68     341     3607        25041
    ==========================  =====  ======  ==========  =====

Steps one behind the other are that slow since each packs the recurrent weights anew; they win where these are small and
the steps few (T=4, H=64: 6 against 13; T=4, H=256: 180 against 76), hence `_UNROLLED`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.loops import Take, sweep
from edgekit.converters.tflite.ops.products import dense
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_UNROLLED = (8, 1 << 19)
"""At most so many steps, and bytes of recurrent weights in all of them, are written out one behind the other."""

Activation = Callable[[Builder, Tensor], Tensor]
States = list[Tensor]


def _hard_sigmoid(b: Builder, x: Tensor, alpha: float, beta: float) -> Tensor:
    return b.binary("MINIMUM", b.binary("MAXIMUM", b.add(b.mul(x, alpha), beta), 0), 1)


def _elu(b: Builder, x: Tensor, alpha: float, _: float) -> Tensor:
    if alpha == 1:
        return b.unary("ELU", x)
    low = b.mul(b.sub(b.unary("EXP", b.binary("MINIMUM", x, 0)), 1), alpha)
    return b.add(b.binary("MAXIMUM", x, 0), low)


def _softplus(b: Builder, x: Tensor, _: float, __: float) -> Tensor:
    """log(1 + exp(x)) that does not overflow."""
    small = b.unary("EXP", b.unary("NEG", b.unary("ABS", x)))
    return b.add(b.unary("RELU", x), b.unary("LOG", b.add(small, 1)))


_ACTIVATIONS: dict[str, tuple[float | None, float | None, Callable[[Builder, Tensor, float, float], Tensor]]] = {
    "relu": (None, None, lambda b, x, _, __: b.unary("RELU", x)),
    "tanh": (None, None, lambda b, x, _, __: b.unary("TANH", x)),
    "sigmoid": (None, None, lambda b, x, _, __: b.unary("LOGISTIC", x)),
    "softsign": (None, None, lambda b, x, _, __: b.div(x, b.add(b.unary("ABS", x), 1))),
    "softplus": (None, None, _softplus),
    "affine": (1.0, 0.0, lambda b, x, alpha, beta: b.add(b.mul(x, alpha), beta)),
    "leakyrelu": (0.01, None, lambda b, x, alpha, _: b.op("LEAKY_RELU", [x], x.shape, alpha=alpha)),
    "thresholdedrelu": (1.0, None, lambda b, x, alpha, _: b.where(b.binary("GREATER", x, alpha), x, 0)),
    "scaledtanh": (1.0, 1.0, lambda b, x, alpha, beta: b.mul(b.unary("TANH", b.mul(x, beta)), alpha)),
    "hardsigmoid": (0.2, 0.5, _hard_sigmoid),
    "elu": (1.0, None, _elu),
}
"""Default alpha and beta, None where it has none, and the function."""


@dataclass(frozen=True)
class Weights:
    """Of one direction: [gates * H, I], [gates * H, H], then the two halves of the bias and the peepholes, if any."""

    inputs: Tensor
    recurrent: Tensor
    input_bias: Tensor | None
    recurrent_bias: Tensor | None
    peepholes: Sequence[Tensor]


Cell = Callable[[Builder, Take, Tensor, States], States]
"""From the input's part of the gates [B, gates * H] and the states [B, H] to the next states."""


@lowers("LSTM")
def lstm(b: Builder, node: Node) -> list[Tensor | None]:
    return _recurrent(b, node, 4, ["Sigmoid", "Tanh", "Tanh"], _lstm_cell, 2)


@lowers("GRU")
def gru(b: Builder, node: Node) -> list[Tensor | None]:
    return _recurrent(b, node, 3, ["Sigmoid", "Tanh"], _gru_cell, 1)


@lowers("RNN")
def rnn(b: Builder, node: Node) -> list[Tensor | None]:
    return _recurrent(b, node, 1, ["Tanh"], _rnn_cell, 1)


def _recurrent(
    b: Builder,
    node: Node,
    gates: int,
    defaults: list[str],
    cell: Callable[[Builder, Node, Weights, list[Activation]], tuple[Cell, Tensor | None]],
    count: int,
) -> list[Tensor | None]:
    """All directions; `cell` gives a step and the bias of the input's part, `count` is of states."""
    batch_first = bool(node.integer("layout"))
    if node.input(0).rank != 3:
        raise Unlowerable(f"a sequence of rank {node.input(0).rank}")
    x = b.transpose(node.input(0), [1, 0, 2]) if batch_first else node.input(0)
    steps, batch, _ = x.shape
    if -1 in x.shape:
        raise Unlowerable("the number of steps is only known when the model runs")
    units = node.input(2).shape[2]
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(
        node.text("direction", "forward")
    )
    if directions is None:
        raise Unlowerable(f"direction {node.text('direction')!r}")
    activations = _activations(node, defaults * len(directions))
    mask = _mask(b, node, steps, batch)
    all_given: list[list[Tensor]] = []
    all_states: list[list[Tensor]] = []
    for d, reverse in enumerate(directions):
        weights = _weights(b, node, d, gates * units)
        step, bias = cell(b, node, weights, activations[d * len(defaults) : (d + 1) * len(defaults)])
        parts = dense(b, x, weights.inputs, bias)
        states = [_initial(b, node, 5 + i, d, (batch, units), batch_first) for i in range(count)]
        unroll = steps <= _UNROLLED[0] and steps * weights.recurrent.size * 4 <= _UNROLLED[1]
        finals, given = sweep(
            b, steps, states, [parts, *mask], [((batch, units), "float32")] if node.outputs[0] else [],
            _body(step, node.outputs[0] is not None), reverse=reverse, unroll=unroll,
        )  # fmt: skip
        all_given.append(given)
        all_states.append(finals)
    return _outputs(b, node, all_given, all_states, batch_first)


def _body(cell: Cell, gives: bool) -> Callable[[Builder, Take, States, list[Tensor]], tuple[States, list[Tensor]]]:
    """A step of the sweep; behind its end, told by the mask, a sequence keeps its state and gives zeros."""

    def body(b: Builder, take: Take, old: States, elements: list[Tensor]) -> tuple[States, list[Tensor]]:
        new = cell(b, take, elements[0], old)
        given = new[0]
        if len(elements) > 1:
            given = b.where(elements[1], given, 0)
            new = [b.where(elements[1], now, before) for now, before in zip(new, old, strict=True)]
        return new, [given] if gives else []

    return body


def _outputs(
    b: Builder, node: Node, given: list[list[Tensor]], states: list[list[Tensor]], batch_first: bool
) -> list[Tensor | None]:
    """Y as [T, D, B, H] and the states as [D, B, H], or batch first."""
    found: list[Tensor | None] = [None]
    if node.outputs[0]:
        y = b.concat([b.reshape(x[0], [x[0].shape[0], 1, *x[0].shape[1:]]) for x in given], 1)
        found = [b.transpose(y, [2, 0, 1, 3]) if batch_first else y]
    for of_directions in zip(*states, strict=True):
        last = b.concat([b.reshape(x, [1, *x.shape]) for x in of_directions], 0)
        found.append(b.transpose(last, [1, 0, 2]) if batch_first else last)
    return found[: len(node.outputs)]


# --- cells -----------------------------------------------------------------------------------------------------------


def _lstm_cell(b: Builder, node: Node, weights: Weights, functions: list[Activation]) -> tuple[Cell, Tensor | None]:
    f, g, h = functions
    clip, couples = _clip(node), bool(node.integer("input_forget"))
    peepholes = weights.peepholes

    def step(b: Builder, take: Take, part: Tensor, states: States) -> States:
        hidden, cell = states
        i, o, forget, c = _split(b, b.add(dense(b, hidden, take(weights.recurrent)), part), 4)
        if peepholes:
            i = b.add(i, b.mul(cell, take(peepholes[0])))
            forget = b.add(forget, b.mul(cell, take(peepholes[2])))
        i = f(b, clip(b, i))
        kept = b.sub(1, i) if couples else f(b, clip(b, forget))
        new = b.add(b.mul(kept, cell), b.mul(i, g(b, clip(b, c))))
        if peepholes:
            o = b.add(o, b.mul(new, take(peepholes[1])))
        return [b.mul(f(b, clip(b, o)), h(b, new)), new]

    return step, _sum(b, weights.input_bias, weights.recurrent_bias)


def _gru_cell(b: Builder, node: Node, weights: Weights, functions: list[Activation]) -> tuple[Cell, Tensor | None]:
    f, g = functions
    clip, late = _clip(node), bool(node.integer("linear_before_reset"))
    units = weights.recurrent.shape[1]
    first, last = _rows(b, weights.recurrent, 0, 2 * units), _rows(b, weights.recurrent, 2 * units, 3 * units)
    bias = None if late else _sum(b, weights.input_bias, weights.recurrent_bias)

    def step(b: Builder, take: Take, part: Tensor, states: States) -> States:
        (hidden,) = states
        if late:
            back = None if weights.recurrent_bias is None else take(weights.recurrent_bias)
            zr, n = _cut(b, dense(b, hidden, take(weights.recurrent), back), units)
        else:
            zr = dense(b, hidden, take(first))
        part_zr, part_n = _cut(b, part, units)
        z, r = _split(b, f(b, clip(b, b.add(zr, part_zr))), 2)
        n = b.mul(r, n) if late else dense(b, b.mul(r, hidden), take(last))
        n = g(b, clip(b, b.add(n, part_n)))
        return [b.add(n, b.mul(z, b.sub(hidden, n)))]

    return step, weights.input_bias if late else bias


def _rnn_cell(b: Builder, node: Node, weights: Weights, functions: list[Activation]) -> tuple[Cell, Tensor | None]:
    clip = _clip(node)

    def step(b: Builder, take: Take, part: Tensor, states: States) -> States:
        return [functions[0](b, clip(b, b.add(dense(b, states[0], take(weights.recurrent)), part)))]

    return step, _sum(b, weights.input_bias, weights.recurrent_bias)


def _split(b: Builder, x: Tensor, count: int) -> list[Tensor]:
    """Equal parts along the last axis."""
    shape = [*x.shape[:-1], x.shape[-1] // count]
    return b.ops("SPLIT", [b.const(x.rank - 1, "int32"), x], [(shape, x.dtype)] * count, numSplits=count)


def _cut(b: Builder, x: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """The last `last` columns apart from those before."""
    rows, columns = x.shape
    first = columns - last
    return b.slice(x, [0, 0], [rows, first]), b.slice(x, [0, first], [rows, last])


def _clip(node: Node) -> Activation:
    limit = node.real("clip")
    if not node.has_attribute("clip") or limit <= 0:
        return lambda b, x: x
    return lambda b, x: b.binary("MAXIMUM", b.binary("MINIMUM", x, limit), -limit)


def _activations(node: Node, defaults: list[str]) -> list[Activation]:
    """For all directions; alphas and betas go to those functions that have one, in order."""
    attribute = node.node.attributes.get("activations")
    names = list(attribute.as_strings()) if attribute is not None else defaults
    alphas, betas = node.reals("activation_alpha"), node.reals("activation_beta")
    if len(names) != len(defaults) or any(name.lower() not in _ACTIVATIONS for name in names):
        raise Unlowerable(f"activations {names}")
    found: list[Activation] = []
    for name in names:
        alpha, beta, function = _ACTIVATIONS[name.lower()]
        own = [
            0.0 if default is None else given.pop(0) if given else default
            for default, given in ((alpha, alphas), (beta, betas))
        ]
        found.append(lambda b, x, function=function, own=own: function(b, x, *own))  # type: ignore[misc]
    return found


# --- inputs ----------------------------------------------------------------------------------------------------------


def _rows(b: Builder, x: Tensor, start: int, stop: int) -> Tensor:
    if x.data is not None:
        return b.const(np.ascontiguousarray(x.data[start:stop]), name=x.name)
    return b.slice(x, [start, *[0] * (x.rank - 1)], [stop - start, *x.shape[1:]])


def _of_direction(b: Builder, x: Tensor, d: int) -> Tensor:
    return b.reshape(_rows(b, x, d, d + 1), x.shape[1:])


def _weights(b: Builder, node: Node, d: int, size: int) -> Weights:
    w, r = _of_direction(b, node.input(1), d), _of_direction(b, node.input(2), d)
    biases: list[Tensor | None] = [None, None]
    if node.has(3):
        both = _of_direction(b, node.input(3), d)
        biases = [_rows(b, both, 0, size), _rows(b, both, size, 2 * size)]
    peepholes: list[Tensor] = []
    if node.op == "LSTM" and node.has(7):
        p, units = _of_direction(b, node.input(7), d), size // 4
        peepholes = [_rows(b, p, i * units, (i + 1) * units) for i in range(3)]
    return Weights(w, r, biases[0], biases[1], peepholes)


def _sum(b: Builder, x: Tensor | None, y: Tensor | None) -> Tensor | None:
    if x is None or y is None:
        return x or y
    return b.const(x.data + y.data) if x.data is not None and y.data is not None else b.add(x, y)


def _initial(b: Builder, node: Node, index: int, d: int, shape: tuple[int, int], batch_first: bool) -> Tensor:
    if not node.has(index):
        return b.const(np.zeros(shape, "float32"))
    given = node.input(index)
    return _of_direction(b, b.transpose(given, [1, 0, 2]) if batch_first else given, d)


def _mask(b: Builder, node: Node, steps: int, batch: int) -> list[Tensor]:
    """[T, B, 1]: whether a sequence has this step; nothing where all have all."""
    if not node.has(4):
        return []
    lengths, places = node.input(4), np.arange(steps, dtype="int32").reshape(steps, 1, 1)
    if lengths.data is not None:
        has = places < lengths.data.reshape(1, batch, 1)
        return [] if has.all() else [b.const(has)]
    return [b.binary("LESS", b.const(places), b.reshape(lengths, [1, batch, 1]))]
