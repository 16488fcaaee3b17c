"""Cases for single operations of TFLite, with what numpy makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["CODES", "DTYPES", "Case", "cases"]

DTYPES = ("float32", "float16", "bool", "int8", "uint8", "int16", "int32", "uint32", "int64")
_SHAPES: tuple[tuple[int, ...], ...] = ((7,), (2, 3), (2, 3, 4, 5), (1, 2, 3, 2, 2), (2, 1, 3, 2, 2, 2))
_PAIRS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((5,), (5,)), ((2, 3, 4), ()), ((2, 3, 4, 5), (2, 3, 4, 5)), ((2, 1, 4, 5), (3, 1, 5)), ((4, 5), (2, 3, 4, 5)),
    ((2, 3, 1, 2, 3), (1, 3, 2, 1, 3)), ((2, 1, 3, 1, 2, 2), (1, 2, 3, 2, 1, 2)),
)  # fmt: skip


@dataclass
class Case:
    """One operation: its inputs (numbers of `constants` are in the file), options and what should come out."""

    inputs: list[np.ndarray]
    expected: list[np.ndarray]
    options: dict[str, Any] = field(default_factory=dict)
    constants: tuple[int, ...] = ()


def _draw(dtype: str, shape: Sequence[int], seed: int = 0, *, low: float = -9, high: float = 10) -> np.ndarray:
    """Numbers in `low`...`high`, none below 0 for unsigned types; for bool a coin."""
    rng = np.random.default_rng(seed + len(shape))
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float"):
        return rng.uniform(low, high, shape).astype(dtype)
    least = max(low, 0) if dtype.startswith("u") else low
    return rng.integers(int(least), int(high), shape).astype(dtype)


def _wide(dtype: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Numbers from the whole of an integer type, which no float32 could hold."""
    if dtype == "bool" or dtype.startswith("float"):
        return _draw(dtype, shape, seed)
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed + len(shape))
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def _unary(
    reference: Callable[[np.ndarray], np.ndarray], low: float = -9, high: float = 10, **options: Any
) -> Callable[[str], Iterator[Case]]:
    def make(dtype: str) -> Iterator[Case]:
        for shape in _SHAPES:
            x = _draw(dtype, shape, low=low, high=high)
            yield Case([x], [np.asarray(reference(x)).astype(dtype)], options)

    return make


def _floats(make: Callable[[str], Iterator[Case]]) -> Callable[[str], Iterator[Case]]:
    return lambda dtype: make(dtype) if dtype.startswith("float") else iter(())


def _binary(
    reference: Callable[..., np.ndarray],
    *,
    low: float = -9,
    high: float = 10,
    least: float | None = None,
    most: float | None = None,
    wide: bool = False,
    gives: str = "",
    broadcasts: bool = True,
    **options: Any,
) -> Callable[[str], Iterator[Case]]:
    """The second operand is drawn from `least`...`most`; a constant in every second case."""

    def make(dtype: str) -> Iterator[Case]:
        pairs = _PAIRS if broadcasts else [(shape, shape) for shape in _SHAPES]
        for index, (one, other) in enumerate(pairs):
            second = (low if least is None else least, high if most is None else most)
            x = _wide(dtype, one) if wide else _draw(dtype, one, low=low, high=high)
            y = _wide(dtype, other, 1) if wide else _draw(dtype, other, 1, low=second[0], high=second[1])
            if gives == "bool" and index == 0:
                y = x.copy()
            expected = np.asarray(reference(x, y)).astype(gives or dtype)
            yield Case([x, y], [expected], options, (1,) if index % 2 else ())

    return make


def _reduce(reference: Callable[..., np.ndarray], *, high: float = 10) -> Callable[[str], Iterator[Case]]:
    def make(dtype: str) -> Iterator[Case]:
        for shape, axes in (((6,), (0,)), ((2, 3, 4, 5), (2, 3)), ((2, 3, 4, 5), (1,)), ((1, 2, 3, 2, 2), (1, 3, 4)),
                            ((2, 1, 3, 2, 2, 2), (2, 5)), ((3, 4), (0, 1))):  # fmt: skip
            x = _draw(dtype, shape, high=high)
            for keep in (True, False):
                expected = np.asarray(reference(x, axis=axes, keepdims=keep)).astype(dtype)
                yield Case([x, np.asarray(axes, "int32")], [expected], {"keepDims": keep}, (1,))

    return make


def _move(
    arguments: Callable[[np.ndarray], Iterable[tuple[list[np.ndarray], np.ndarray | list[np.ndarray], dict[str, Any]]]],
    shapes: Sequence[tuple[int, ...]] = _SHAPES,
) -> Callable[[str], Iterator[Case]]:
    """Operations that move data: further inputs are constants."""

    def make(dtype: str) -> Iterator[Case]:
        for shape in shapes:
            x = _wide(dtype, shape)
            for inputs, expected, options in arguments(x):
                outputs = expected if isinstance(expected, list) else [expected]
                constants = tuple(i for i, array in enumerate(inputs) if array is not x and array.dtype == "int32")
                yield Case(inputs, outputs, options, constants if x.dtype != "int32" else tuple(range(1, len(inputs))))

    return make


def _i(*values: Any) -> np.ndarray:
    return np.asarray(values if len(values) != 1 else values[0], "int32")


def _gelu(x: np.ndarray) -> np.ndarray:
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x.astype("float64") / np.sqrt(2)))


def _softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def _rounds(dtype: str) -> Iterator[Case]:
    for shape in _SHAPES:
        x = _draw(dtype, shape)
        halves = (np.round(x) + 0.5).astype(dtype)
        yield from (Case([array], [np.round(array)]) for array in (x, halves))


def _where(dtype: str) -> Iterator[Case]:
    for shapes in (((4,),) * 3, ((2, 3, 4, 5),) * 3, ((3, 1), (2, 1, 4), (3, 4)), ((), (2, 3), (2, 3)),
                   ((2, 1, 1, 2, 1), (2, 3, 1, 2, 2), ()), ((2, 1, 3, 1, 2, 2), (1, 2, 3, 2, 1, 2), (2,))):  # fmt: skip
        c, x, y = _draw("bool", shapes[0]), _wide(dtype, shapes[1], 1), _wide(dtype, shapes[2], 2)
        yield Case([c, x, y], [np.where(c, x, y)])


def _prelu(dtype: str) -> Iterator[Case]:
    for shape, slope in (((2, 3, 4, 5), (1, 1, 5)), ((2, 3, 4, 5), (3, 4, 5)), ((2, 6), (6,))):
        x, a = _draw(dtype, shape), _draw(dtype, slope, low=0, high=3)
        yield Case([x, a], [np.where(x < 0, x * a, x).astype(dtype)], {}, (1,))


def _cumsum(dtype: str) -> Iterator[Case]:
    for shape, axis in (((6,), 0), ((2, 3, 4), 1), ((2, 3, 4, 5), 3), ((1, 2, 3, 2, 2), 2)):
        x = _draw(dtype, shape)
        plain = np.cumsum(x, axis, dtype=dtype)
        yield Case([x, _i(axis)], [plain], {"exclusive": False, "reverse": False}, (1,))
        yield Case([x, _i(axis)], [plain - x], {"exclusive": True, "reverse": False}, (1,))
        back = np.flip(np.cumsum(np.flip(x, axis), axis, dtype=dtype), axis)
        yield Case([x, _i(axis)], [back], {"exclusive": False, "reverse": True}, (1,))


def _pads(x: np.ndarray) -> np.ndarray:
    return _i([[1, 2]] + [[0, 1]] * (x.ndim - 1))


def _mirror(x: np.ndarray) -> Iterator[Any]:
    amounts = _i([[1, 0]] * x.ndim)
    yield [x, amounts], np.pad(x, amounts, "reflect"), {"mode": "REFLECT"}
    yield [x, amounts], np.pad(x, amounts, "symmetric"), {"mode": "SYMMETRIC"}


def _fill(dtype: str) -> Iterator[Case]:
    value = _wide(dtype, ())
    yield from (Case([_i(shape), value], [np.full(shape, value)], {}, (0,)) for shape in _SHAPES)


def _range(dtype: str) -> Iterator[Case]:
    yield Case([np.asarray(v, dtype) for v in (1, 9, 2)], [np.arange(1, 9, 2).astype(dtype)], {}, (0, 1, 2))


def _one_hot(dtype: str) -> Iterator[Case]:
    on, off = np.asarray(1, dtype), np.asarray(0, dtype)
    for shape in ((4,), (2, 3), (2, 2, 3, 2)):
        at = _draw("int32", shape, low=0, high=5)
        yield Case([at, _i(5), on, off], [np.eye(5, dtype=dtype)[at]], {"axis": -1}, (1, 2, 3))


def _scatter(dtype: str) -> Iterator[Case]:
    updates, expected = _wide(dtype, (3, 4)), np.zeros((5, 4), dtype)
    expected[[4, 0, 2]] = updates
    yield Case([_i([[4], [0], [2]]), updates, _i([5, 4])], [expected], {}, (2,))


def _top(dtype: str) -> Iterator[Case]:
    x = np.random.default_rng(0).permutation(np.arange(12)).reshape(2, 6).astype(dtype)
    order = np.argsort(-x.astype("float64"), -1)[:, :3]
    yield Case([x, _i(3)], [np.take_along_axis(x, order, -1), order.astype("int32")], {}, (1,))


def _arg(reference: Callable[..., np.ndarray]) -> Callable[[str], Iterator[Case]]:
    def make(dtype: str) -> Iterator[Case]:
        for shape, axis in (((7,), 0), ((2, 3, 4, 5), 2), ((2, 3), 1), ((1, 2, 3, 2, 2), 2)):
            x = np.round(_draw(dtype, shape)) if dtype != "bool" else _draw(dtype, shape)  # with ties
            yield Case([x, _i(axis)], [reference(x, axis).astype("int64")], {"outputType": "int64"}, (1,))

    return make


def _casts(dtype: str) -> Iterator[Case]:
    for to in ("float32", "float16", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"):
        x = _draw(dtype, (3, 4), low=0 if to.startswith("u") else -9)
        x.flat[0] = 0
        yield Case([x], [x.astype(to)], {"inDataType": dtype, "outDataType": to})


def _update(dtype: str) -> Iterator[Case]:
    x, part = _wide(dtype, (3, 4, 5)), _wide(dtype, (1, 2, 5), 1)
    expected = x.copy()
    expected[1:2, 2:4] = part
    yield Case([x, part, _i([1, 2, 0])], [expected])


def _uniques(dtype: str) -> Iterator[Case]:
    x = np.asarray([1, 0, 1, 1, 0, 1], dtype)
    yield Case([x], [x[:2], _i([0, 1, 0, 0, 1, 0])], {"idxOutType": "int32"})


def _nonzero(dtype: str) -> Iterator[Case]:
    yield Case([x := np.asarray([[1, 0, 1], [0, 0, 1]], dtype)], [np.argwhere(x).astype("int64")])


def _diag(dtype: str) -> Iterator[Case]:
    x = _wide(dtype, (2, 3))
    yield Case([x], [np.stack([np.diag(row) for row in x])])


def _set_diag(dtype: str) -> Iterator[Case]:
    x, line = _wide(dtype, (2, 3, 3)), _wide(dtype, (2, 3), 1)
    expected = x.copy()
    for matrix, row in zip(expected, line, strict=True):
        np.fill_diagonal(matrix, row)
    yield Case([x, line], [expected])


def _mean(x: np.ndarray, **keys: Any) -> np.ndarray:
    return np.asarray(np.trunc(np.mean(x.astype("float64"), **keys)) if x.dtype.kind in "iu" else np.mean(x, **keys))


def _blocks(x: np.ndarray, *, back: bool) -> np.ndarray:
    n, h, w, c = x.shape
    if back:
        return x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * 2, w * 2, c // 4)
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, c * 4)


def _space_to_batch(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 4, 0, 1, 3, 5).reshape(n * 4, h // 2, w // 2, c)


def _matmul(dtype: str) -> Iterator[Case]:
    for one, other in (
        ((2, 3), (3, 4)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
        ((2, 1, 2, 3, 4), (1, 3, 1, 4, 5)),
    ):
        x, y = _draw(dtype, one), _draw(dtype, other, 1)
        yield Case([x, y], [np.matmul(x, y)], {"adjX": False, "adjY": False})


_NONE: dict[str, Any] = {"fusedActivationFunction": "NONE"}
_EVEN = ((2, 4, 6, 4),)

CODES: dict[str, Callable[[str], Iterator[Case]]] = {
    "ABS": _unary(np.abs),
    "ADD": _binary(np.add, **_NONE),
    "ADD_N": _binary(np.add, broadcasts=False),
    "ARG_MAX": _arg(np.argmax),
    "ARG_MIN": _arg(np.argmin),
    "ATAN2": _binary(np.arctan2, broadcasts=False),
    "BATCH_MATMUL": _matmul,
    "BATCH_TO_SPACE_ND": _move(lambda x: [([_space_to_batch(x), _i(2, 2), _i([[0, 0], [0, 0]])], x, {})], _EVEN),
    "BITCAST": _move(lambda x: [([x], x.view(f"uint{8 * x.itemsize}"), {})]),
    "BITWISE_XOR": _binary(np.bitwise_xor, wide=True),
    "BROADCAST_TO": _move(lambda x: [([x[:1], _i(x.shape)], np.broadcast_to(x[:1], x.shape), {})]),
    "CAST": _casts,
    "CEIL": _unary(np.ceil),
    "CONCATENATION": _move(lambda x: [([x, x], np.concatenate([x, x], -1), {"axis": x.ndim - 1, **_NONE})]),
    "COS": _unary(np.cos),
    "CUMSUM": _cumsum,
    "DEPTH_TO_SPACE": _move(lambda x: [([x], _blocks(x, back=True), {"blockSize": 2})], _EVEN),
    "DIV": _binary(lambda x, y: np.trunc(x / y) if x.dtype.kind in "iu" else x / y, least=1, most=5, **_NONE),
    "DYNAMIC_UPDATE_SLICE": _update,
    "ELU": _unary(lambda x: np.where(x > 0, x, np.expm1(x))),
    "EQUAL": _binary(np.equal, high=2, gives="bool"),
    "EXP": _unary(np.exp, high=4),
    "EXPAND_DIMS": _move(lambda x: [([x, _i(1)], x[:, None], {})]),
    "FILL": _fill,
    "FLOOR": _unary(np.floor),
    "FLOOR_DIV": _binary(lambda x, y: x // y, least=1, most=5),
    "FLOOR_MOD": _binary(lambda x, y: x % y, least=1, most=5),
    "GATHER": _move(lambda x: [([x, _i(0, x.shape[0] - 1)], x[[0, -1]], {"axis": 0})]),
    "GATHER_ND": _move(lambda x: [([x, _i([[1, 0], [0, 1]])], x[[1, 0], [0, 1]], {})], ((2, 3), (2, 3, 4, 5))),
    "GELU": _unary(_gelu, approximate=False),
    "GREATER": _binary(np.greater, wide=True, gives="bool"),
    "GREATER_EQUAL": _binary(np.greater_equal, wide=True, gives="bool"),
    "HARD_SWISH": _unary(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "LEAKY_RELU": _unary(lambda x: np.where(x < 0, x * 0.5, x), alpha=0.5),
    "LESS": _binary(np.less, wide=True, gives="bool"),
    "LESS_EQUAL": _binary(np.less_equal, wide=True, gives="bool"),
    "LOG": _unary(np.log, low=1),
    "LOGICAL_AND": _binary(np.logical_and, gives="bool"),
    "LOGICAL_NOT": _unary(np.logical_not),
    "LOGICAL_OR": _binary(np.logical_or, gives="bool"),
    "LOGISTIC": _unary(lambda x: 1 / (1 + np.exp(-x))),
    "LOG_SOFTMAX": _floats(_unary(lambda x: np.log(_softmax(x)))),
    "MATRIX_DIAG": _diag,
    "MATRIX_SET_DIAG": _set_diag,
    "MAXIMUM": _binary(np.maximum, wide=True),
    "MEAN": _reduce(_mean),
    "MINIMUM": _binary(np.minimum, wide=True),
    "MIRROR_PAD": _move(_mirror, ((7,), (2, 3), (2, 3, 4, 5), (2, 2, 3, 2, 2))),
    "MUL": _binary(np.multiply, **_NONE),
    "NEG": _unary(np.negative),
    "NOT_EQUAL": _binary(np.not_equal, high=2, gives="bool"),
    "ONE_HOT": _one_hot,
    "PACK": _move(lambda x: [([x, x], np.stack([x, x], 1), {"axis": 1, "valuesCount": 2})]),
    "PAD": _move(lambda x: [([x, _pads(x)], np.pad(x, _pads(x)), {})], _SHAPES[:4]),
    "PADV2": _move(lambda x: [([x, _pads(x), x.reshape(-1)[:1].reshape(())],
                               np.pad(x, _pads(x), constant_values=x.flat[0]), {})], _SHAPES[:4]),
    "POW": _binary(np.power, low=1, high=4, least=0, most=3),
    "PRELU": _prelu,
    "RANGE": _range,
    "REDUCE_ALL": _reduce(np.all),
    "REDUCE_ANY": _reduce(np.any),
    "REDUCE_MAX": _reduce(np.max, high=100),
    "REDUCE_MIN": _reduce(np.min, high=100),
    "REDUCE_PROD": _reduce(np.prod, high=2),
    "RELU": _unary(lambda x: np.maximum(x, 0)),
    "RELU6": _unary(lambda x: np.clip(x, 0, 6)),
    "RELU_0_TO_1": _unary(lambda x: np.clip(x, 0, 1)),
    "RELU_N1_TO_1": _unary(lambda x: np.clip(x, -1, 1)),
    "RESHAPE": _move(lambda x: [([x, _i([x.size])], x.reshape(-1), {"newShape": [x.size]})]),
    "REVERSE_V2": _move(lambda x: [([x, _i([x.ndim - 1])], np.flip(x, -1), {}), ([x, _i([0])], np.flip(x, 0), {})]),
    "RIGHT_SHIFT": _binary(np.right_shift, low=0, high=100, least=0, most=5),
    "ROUND": _rounds,
    "RSQRT": _unary(lambda x: 1 / np.sqrt(x), low=1),
    "SCATTER_ND": _scatter,
    "SELECT_V2": _where,
    "SIGN": _unary(np.sign),
    "SIN": _unary(np.sin),
    "SLICE": _move(lambda x: [([x, _i([1] + [0] * (x.ndim - 1)), _i([-1] * x.ndim)], x[1:], {})],
                   [s for s in _SHAPES if s[0] > 1] + [(2, 2, 3, 2, 2)]),
    "SOFTMAX": _floats(_unary(_softmax, beta=1.0)),
    "SPACE_TO_BATCH_ND": _move(lambda x: [([x, _i(2, 2), _i([[0, 0], [0, 0]])], _space_to_batch(x), {})], _EVEN),
    "SPACE_TO_DEPTH": _move(lambda x: [([x], _blocks(x, back=False), {"blockSize": 2})], _EVEN),
    "SPLIT": _move(lambda x: [([_i(0), x], np.split(x, 2, 0), {"numSplits": 2})],
                   ((6,), (2, 3), (2, 3, 4, 5), (2, 2, 3, 2, 2))),
    "SPLIT_V": _move(lambda x: [([x, _i(1, x.shape[0] - 1), _i(0)], np.split(x, [1], 0), {"numSplits": 2})],
                     ((6,), (2, 3), (2, 3, 4, 5), (2, 2, 3, 2, 2))),
    "SQRT": _unary(np.sqrt, low=0),
    "SQUARE": _unary(np.square),
    "SQUARED_DIFFERENCE": _binary(lambda x, y: (x - y) ** 2),
    "SQUEEZE": _move(lambda x: [([x[:1]], x[0], {"squeezeDims": [0]})]),
    "STABLEHLO_ADD": _binary(np.add, broadcasts=False),
    "STABLEHLO_AND": _binary(np.bitwise_and, broadcasts=False, wide=True),
    "STABLEHLO_MAXIMUM": _binary(np.maximum, broadcasts=False, wide=True),
    "STABLEHLO_MINIMUM": _binary(np.minimum, broadcasts=False, wide=True),
    "STABLEHLO_MULTIPLY": _binary(np.multiply, broadcasts=False),
    "STABLEHLO_SHIFT_LEFT": _binary(np.left_shift, broadcasts=False, low=0, high=5, least=0, most=4),
    "STRIDED_SLICE": _move(lambda x: [([x, _i([0] * x.ndim), _i(x.shape), _i([2] + [1] * (x.ndim - 1))], x[::2], {})],
                           _SHAPES),
    "SUB": _binary(np.subtract, low=5, high=10, least=0, most=5, **_NONE),
    "SUM": _reduce(np.sum),
    "TANH": _unary(np.tanh),
    "TILE": _move(lambda x: [([x, _i([2] + [1] * (x.ndim - 1))], np.concatenate([x, x]), {})]),
    "TOPK_V2": _top,
    "TRANSPOSE": _move(lambda x: [([x, _i(list(range(x.ndim))[::-1])], x.T, {})]),
    "UNIQUE": _uniques,
    "UNPACK": _move(lambda x: [([x], list(x), {"num": x.shape[0], "axis": 0})]),
    "WHERE": _nonzero,
    "ZEROS_LIKE": _unary(np.zeros_like),
}  # fmt: skip
"""For each operation what makes its cases for a type."""


def cases(code: str, dtype: str) -> list[Case]:
    """Cases of an operation, or none where numpy itself has no meaning for the type."""
    with np.errstate(all="ignore"):
        try:
            return list(CODES[code](dtype))
        except TypeError:  # numpy has none either
            return []
