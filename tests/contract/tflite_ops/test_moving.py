"""What moves, picks and reduces, where ONNX's node tests have no case: the written file against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit import graph as hub
from edgekit.converters.tflite import CONVERTER
from edgekit.converters.tflite.lowering import lower
from edgekit.errors import UnsupportedError
from edgekit.graph.walking import dtype_name
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions
from tests.unit.networks import from_text

I64, I32 = np.int64, np.int32


def _ints(*values: int) -> np.ndarray:
    return np.array(values, I64)


def _numbers(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(7).integers(-9, 9, shape)
    if dtype == "float32":
        return (values + np.random.default_rng(8).normal(0, 0.1, shape)).astype(dtype)
    return values % 2 == 0 if dtype == "bool" else (values % 256 if dtype == "uint8" else values).astype(dtype)


def _model(body: str, inputs: str, outputs: str, opset: int, weights: dict[str, np.ndarray]) -> ir.Model:
    return hub.infer_shapes(from_text(body, inputs=inputs, outputs=outputs, opset=opset, **weights))


def _agrees(
    folder: Path, body: str, inputs: str, outputs: str, opset: int = 18,
    feeds: dict[str, np.ndarray] | None = None, **weights: np.ndarray,
) -> None:  # fmt: skip
    model = _model(body, inputs, outputs, opset, weights)
    given = {
        value.name: _numbers(dtype_name(value), tuple(int(n) for n in value.shape))  # type: ignore[union-attr]
        for value in model.graph.inputs
        if value.name not in (feeds or {}) and value.const_value is None
    } | (feeds or {})
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    want = dict(zip((value.name for value in session.get_outputs()), session.run(None, given), strict=True))
    CONVERTER.write(hub.clean(model), folder / "m.tflite", precision="fp32", plan=None)
    opened = RUNTIMES.get("tflite").open(folder / "m.tflite", EngineOptions(threads=1))
    for _ in range(2):  # a second run finds the sizes of the first
        results = opened.run([np.require(given[spec.name], requirements="C") for spec in opened.inputs])
        got = dict(zip((spec.name for spec in opened.outputs), map(np.array, results), strict=True))
        for name, array in want.items():
            assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
            np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    opened.close()


SHAPES = {
    "reshape copies a dimension": ("y = Reshape(x, s)", "float[2,3,4] x", "float[a,b] y", {"s": _ints(0, -1)}),
    "reshape by a tensor": ("y = Reshape(x, s)", "float[2,3,4] x, int64[3] s", "float[a,b,c] y", {}),
    "squeeze to a scalar and on": ("s = Squeeze(x)\ny = Add(s, z)", "float[1,1] x, float[3] z", "float[3] y", {}),
    "expand by a tensor": ("y = Expand(x, s)", "float[3,1] x, int64[3] s", "float[a,b,c] y", {}),
    "expand keeps the larger": ("y = Expand(x, s)", "float[3,4] x", "float[2,3,4] y", {"s": _ints(2, 1, 1)}),
    "expand of bytes": ("y = Expand(x, s)", "uint8[3,1] x", "uint8[3,4] y", {"s": _ints(3, 4)}),
    "tile by a tensor": ("y = Tile(x, s)", "float[3,1] x, int64[2] s", "float[a,b] y", {}),
    "transpose of six": ("y = Transpose<perm=[0,3,1,4,2,5]>(x)", "float[1,2,3,2,2,3] x", "float[1,2,2,2,3,3] y", {}),
    "unsqueeze at both ends": ("y = Unsqueeze(x, a)", "float[2,3] x", "float[1,2,3,1] y", {"a": _ints(0, -1)}),
    "a large constant is filled": ("c = ConstantOfShape<value=float[1]{2.0}>(s)\ny = Add(c, x)", "float[60] x",
                                   "float[50,60] y", {"s": _ints(50, 60)}),
    "constant of a run-time shape": ("y = ConstantOfShape<value=int64[1]{3}>(s)", "int64[2] s", "int64[a,b] y", {}),
    "eye like": ("e = EyeLike<k=-1>(x)\ny = Mul(e, x)", "float[3,4] x", "float[3,4] y", {}),
}  # fmt: skip
RUNTIME_SHAPES = {
    "reshape by a tensor": {"s": _ints(4, 0, -1)}, "expand by a tensor": {"s": _ints(2, 1, 4)},
    "tile by a tensor": {"s": _ints(2, 3)}, "constant of a run-time shape": {"s": _ints(2, 3)},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_what_onnx_makes_of_it(name: str, tmp_path: Path) -> None:
    body, inputs, outputs, weights = SHAPES[name]
    _agrees(tmp_path, body, inputs, outputs, feeds=RUNTIME_SHAPES.get(name), **weights)


@pytest.mark.parametrize(
    ("start", "limit", "delta"), [(0, 5, 1), (5, 0, -2), (3, 3, 1), (4, 1, 1), (1, 4, -1)], ids=str
)
def test_a_range_known_when_the_model_runs_may_be_empty(start: int, limit: int, delta: int, tmp_path: Path) -> None:
    feeds = {name: np.array(value, I64) for name, value in zip("abc", (start, limit, delta), strict=True)}
    _agrees(tmp_path, "y = Range(a, b, c)", "int64 a, int64 b, int64 c", "int64[n] y", feeds=feeds)
    step = {"c": feeds.pop("c")}
    _agrees(tmp_path, "y = Range(a, b, c)", "int64 a, int64 b", "int64[n] y", feeds=feeds, **step)


SLICES = [
    ([1], [3], [1], [1]),
    ([0, 0], [2**62, 2**62], [2, 3], [2, 2]),  # YOLO's focus
    ([-1], [-(2**62)], [3], [-1]),
    ([-1, -1], [-(2**62), -(2**31)], [1, 2], [-1, -1]),
    ([-1], [0], [2], [-2]),
    ([3, 1], [-9, 3], [2, 0], [-2, 1]),
    ([2], [1], [1], [1]),
    ([-100], [100], [-1], [3]),
]


@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_a_slice_counts_as_python_does(kind: str, tmp_path: Path) -> None:
    known, limits, nodes, given = {}, {}, [], [f"{kind}[2,3,5,6] x"]
    for i, (starts, ends, axes, steps) in enumerate(SLICES):
        nodes.append(f"y{i} = Slice(x, s{i}, e{i}, a{i}, t{i})")
        known |= {f"a{i}": _ints(*axes), f"t{i}": _ints(*steps)}
        limits |= {f"s{i}": _ints(*starts), f"e{i}": _ints(*ends)}
        given += [f"int64[{len(axes)}] s{i}", f"int64[{len(axes)}] e{i}"]
    outputs = ", ".join(f"{kind}[a{i},b{i},c{i},d{i}] y{i}" for i in range(len(SLICES)))
    _agrees(tmp_path, "\n".join(nodes), given[0], outputs, **known, **limits)
    _agrees(tmp_path, "\n".join(nodes), ", ".join(given), outputs, feeds=limits, **known)


@pytest.mark.parametrize("kind", ["float", "bool", "int8"])
def test_a_split_has_parts_of_any_size(kind: str, tmp_path: Path) -> None:
    nodes, outputs, weights = [], [], {}
    for i, sizes in enumerate([[2, 2, 2], [1, 5], [0, 6], [3, 1, 2]]):
        names = [f"y{i}{k}" for k in range(len(sizes))]
        nodes.append(f"{', '.join(names)} = Split<axis=-2>(x, s{i})")
        outputs += [f"{kind}[2,{size},3] {name}" for name, size in zip(names, sizes, strict=True)]
        weights[f"s{i}"] = _ints(*sizes)
    _agrees(tmp_path, "\n".join(nodes), f"{kind}[2,6,3] x", ", ".join(outputs), **weights)


def test_a_split_that_does_not_divide_leaves_the_last_part_smaller(tmp_path: Path) -> None:
    outputs = "float[3,2] a, float[3,2] b, float[1,2] c"
    _agrees(tmp_path, "a, b, c = Split<num_outputs=3>(x)", "float[7,2] x", outputs)


@pytest.mark.parametrize("kind", ["float", "int8", "bool"])
@pytest.mark.parametrize("amounts", [(0, 1, 2, 0, 3, 1), (0, -1, 0, 0, 0, -2), (0, -1, 3, 1, 2, -1)], ids=str)
def test_constant_pads_may_be_negative(kind: str, amounts: tuple[int, ...], tmp_path: Path) -> None:
    value = np.array(1, {"float": "float32"}.get(kind, kind))
    for body in ("y = Pad(x, p)", "y = Pad(x, p, v)"):
        _agrees(tmp_path, body, f"{kind}[2,4,5] x", f"{kind}[a,b,c] y", p=_ints(*amounts), v=value)


@pytest.mark.parametrize(
    "amounts", [(0, 0, 1, 1, 0, 0, 1, 1), (0, 1, 2, 0, 1, 1, 0, 3), (0, 0, 1, 0, 0, 0, 0, 0)], ids=str
)
@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pads_of_its_own_elements(mode: str, amounts: tuple[int, ...], tmp_path: Path) -> None:
    _agrees(tmp_path, f'y = Pad<mode="{mode}">(x, p)', "float[2,3,4,5] x", "float[a,b,c,d] y", 19, p=_ints(*amounts))


def test_pads_of_six_dimensions_join_those_without(tmp_path: Path) -> None:
    amounts = _ints(0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 0)
    _agrees(tmp_path, "y = Pad(x, p)", "int32[2,1,2,2,3,2] x", "int32[a,b,c,d,e,f] y", p=amounts)


def test_pads_of_some_axes_known_when_the_model_runs(tmp_path: Path) -> None:
    feeds = {"p": _ints(1, 0, 2, 3)}
    inputs, weights = "float[2,3,4] x, int64[4] p", {"v": np.float32(7), "a": _ints(2, 0)}
    _agrees(tmp_path, "y = Pad(x, p, v, a)", inputs, "float[a,b,c] y", feeds=feeds, **weights)


@pytest.mark.parametrize("indices", [[2], [0, 1, 2], [1, 3], [-1, 0], [[0, -2], [1, 1]]], ids=str)
def test_gather_takes_negative_indices_known_or_not(indices: list[int], tmp_path: Path) -> None:
    letters = "abcd"[: 2 + np.ndim(indices)]
    outputs = ", ".join(f"float[{','.join(letter + str(i) for letter in letters)}] y{i}" for i in range(3))
    body = "y0 = Gather<axis=0>(x, i)  y1 = Gather<axis=1>(x, i)  y2 = Gather<axis=-1>(x, i)"
    _agrees(tmp_path, body, "float[4,5,6] x", outputs, i=np.array(indices, I64))
    inputs = f"float[4,5,6] x, int32[{','.join(map(str, np.shape(indices)))}] i"
    _agrees(tmp_path, body, inputs, outputs, feeds={"i": np.array(indices, I32)})


def test_gather_of_one_element_drops_the_axis(tmp_path: Path) -> None:
    _agrees(tmp_path, "y = Gather<axis=1>(x, i)", "float[2,5,3] x", "float[a,b] y", i=np.array(-1, I64))
    _agrees(
        tmp_path, "y = Gather<axis=1>(x, i)", "float[2,5,3] x, int64 i", "float[a,b] y", feeds={"i": np.array(-1, I64)}
    )


def test_an_embedding_is_looked_up_by_int64_identifiers(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(50, 8)).astype("float32")
    feeds = {"ids": np.array([[3, 49, 0]], I64)}
    _agrees(tmp_path, "y = Gather(table, ids)", "int64[1,3] ids", "float[1,3,8] y", feeds=feeds, table=table)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("is_known", [True, False])
def test_gather_elements_of_a_part(axis: int, is_known: bool, tmp_path: Path) -> None:
    indices = np.random.default_rng(1).integers(-2, 2, (2, 2, 3))
    inputs = "float[2,3,4] x" + ("" if is_known else ", int64[2,2,3] i")
    kinds = ({}, {"i": indices}) if is_known else ({"i": indices}, {})
    body = f"y = GatherElements<axis={axis}>(x, i)"
    _agrees(tmp_path, body, inputs, "float[2,2,3] y", feeds=kinds[0], **kinds[1])


def test_gather_elements_along_whole_rows_is_one_operation() -> None:
    model = _model("y = GatherElements<axis=2>(x, i)", "float[2,3,4] x", "float[2,3,5] y", 18,
                   {"i": np.random.default_rng(1).integers(0, 4, (2, 3, 5))})  # fmt: skip
    assert [op.code for op in lower(hub.clean(model)).graph.ops] == ["GATHER"]


@pytest.mark.parametrize(("batches", "shape"), [(0, "[3,2]"), (1, "[2,3,1]"), (1, "[2,3,2]"), (2, "[2,3,1]")])
def test_gather_nd_counts_from_the_end_too(batches: int, shape: str, tmp_path: Path) -> None:
    indices = np.random.default_rng(2).integers(-2, 2, [int(n) for n in shape[1:-1].split(",")])
    rank = indices.ndim - 1 + 4 - batches - indices.shape[-1]
    outputs = f"float[{','.join('abcdef'[:rank])}] y"
    body = f"y = GatherND<batch_dims={batches}>(x, i)"
    _agrees(tmp_path, body, f"float[2,3,4,2] x, int64{shape} i", outputs, feeds={"i": indices})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("kind", ["float", "int64"])
def test_scatters_combine_in_every_way(reduction: str, kind: str, tmp_path: Path) -> None:
    rows = np.array([[1], [-1]] if reduction == "none" else [[1], [1]], I64)
    body = f'y = ScatterND<reduction="{reduction}">(x, i, u)'
    _agrees(tmp_path, body, f"{kind}[4,3] x, int64[2,1] i, {kind}[2,3] u", f"{kind}[4,3] y", feeds={"i": rows})
    places = np.array([[0, -1, 2]] if reduction == "none" else [[1, 1, -1]], I64)
    for axis, shape in ((1, "[1,3]"), (0, "[3,1]")):
        at = places.reshape([int(n) for n in shape[1:-1].split(",")])
        body = f'y = ScatterElements<reduction="{reduction}", axis={axis}>(x, i, u)'
        inputs = f"{kind}[4,3] x, int64{shape} i, {kind}{shape} u"
        _agrees(tmp_path, body, inputs, f"{kind}[4,3] y", feeds={"i": at})


def test_a_block_is_written_by_one_operation(tmp_path: Path) -> None:
    rows = np.stack(np.meshgrid([0, 1], [2, 3], indexing="ij"), -1).astype(I64)
    case = ("y = ScatterND(x, i, u)", "float[2,5,3] x, float[2,2,3] u", "float[2,5,3] y")
    _agrees(tmp_path, *case, i=rows)
    lowered = lower(hub.clean(_model(*case, 18, {"i": rows})))
    assert [op.code for op in lowered.graph.ops] == ["DYNAMIC_UPDATE_SLICE"]


def test_one_hot_has_empty_rows_for_what_is_out_of_bounds(tmp_path: Path) -> None:
    feeds, values = {"x": np.array([[0, -1, 7], [-4, 2, -9]], I64)}, np.float32([-1, 3])
    body = "y = OneHot<axis=1>(x, d, v)"
    _agrees(tmp_path, body, "int64[2,3] x", "float[2,4,3] y", feeds=feeds, d=np.array(4, I64), v=values)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("diagonal", [-2, 0, 3])
def test_a_triangle_of_a_large_or_run_time_diagonal(upper: int, diagonal: int, tmp_path: Path) -> None:
    body, k = f"y = Trilu<upper={upper}>(x, k)", np.array(diagonal, I64)
    _agrees(tmp_path, body, "float[2,3,5] x, int64 k", "float[2,3,5] y", feeds={"k": k})
    _agrees(tmp_path, body, "float[300,301] x", "float[300,301] y", k=k)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("kind", ["float", "int8", "bool"])
def test_sequences_are_reversed_each_by_its_length(batch: int, kind: str, tmp_path: Path) -> None:
    body = f"y = ReverseSequence<batch_axis={batch}, time_axis={1 - batch}>(x, n)"
    feeds = {"n": _ints(1, 4, 2, 3)}
    _agrees(tmp_path, body, f"{kind}[4,4,2] x, int64[4] n", f"{kind}[4,4,2] y", feeds=feeds)


@pytest.mark.parametrize("kind", ["float", "int32", "int64", "uint8", "int8"])
def test_top_k_keeps_the_order_of_equal_ones(kind: str, tmp_path: Path) -> None:
    options = ["axis=0, largest=0", "axis=0", "largest=0", "sorted=1"]
    body = "\n".join(f"y{i}, i{i} = TopK<{words}>(x, k)" for i, words in enumerate(options))
    outputs = ", ".join(f"{kind}[a{i},b{i}] y{i}, int64[c{i},d{i}] i{i}" for i in range(len(options)))
    _agrees(tmp_path, body, f"{kind}[6,6] x", outputs, k=_ints(4))
    _agrees(tmp_path, body, f"{kind}[6,6] x, int64[1] k", outputs, feeds={"k": _ints(3)})


def test_the_smallest_int64_has_no_opposite_but_an_order(tmp_path: Path) -> None:
    feeds = {"x": np.array([5, -(2**63), 2**63 - 1, 0], I64)}
    body = "y, i = TopK<largest=0>(x, k)\na = ArgMax<axis=0>(x)\nb = ArgMin<axis=0>(x)"
    _agrees(tmp_path, body, "int64[4] x", "int64[2] y, int64[2] i, int64[1] a, int64[1] b", feeds=feeds, k=_ints(2))


@pytest.mark.parametrize("kind", ["float", "int8", "int32", "int64"])
def test_the_first_or_last_of_equal_extremes(kind: str, tmp_path: Path) -> None:
    nodes = []
    for op in ("ArgMax", "ArgMin"):
        for last in (0, 1):
            for axis in (0, 1, -1):
                options = f"axis={axis}, keepdims=0, select_last_index={last}"
                nodes.append(f"y{len(nodes)} = {op}<{options}>(x)")
    outputs = ", ".join(f"int64[a{i},b{i}] y{i}" for i in range(len(nodes)))
    _agrees(tmp_path, "\n".join([*nodes, "k = ArgMax<axis=1>(x)"]), f"{kind}[5,4,7] x", f"{outputs}, int64[5,1,7] k")


def test_what_is_not_zero_may_be_nothing(tmp_path: Path) -> None:
    for x in (np.zeros((2, 3), bool), np.array([[True, False, True], [False, True, False]])):
        _agrees(tmp_path, "y = NonZero(x)", "bool[2,3] x", "int64[2,n] y", feeds={"x": x})


def test_selected_rows_go_on_through_shapes_of_unknown_size(tmp_path: Path) -> None:
    body = """c = Compress<axis=0>(x, m)  t = Transpose(c)  q = Reshape(t, s)  e = Unsqueeze(q, z)
              l = Slice(e, b, n, w)  y = ReduceSum<keepdims=0>(l, w)  k = Shape(e)"""
    weights = {"s": _ints(0, -1, 2), "z": _ints(1), "b": _ints(-2), "n": _ints(2**62), "w": _ints(2)}
    for chosen in ([True, False, True, False], [True, True, True, True]):
        feeds = {"m": np.array(chosen)}
        _agrees(tmp_path, body, "float[4,6] x, bool[4] m", "float[a,b,2] y, int64[4] k", feeds=feeds, **weights)


@pytest.mark.parametrize("kind", ["float", "int64", "int8"])
@pytest.mark.parametrize("is_sorted", [0, 1])
@pytest.mark.parametrize("axis", ["", ", axis=0", ", axis=-1"])
def test_unique_gives_all_it_is_asked_for(kind: str, is_sorted: int, axis: str, tmp_path: Path) -> None:
    x = np.array([[2, 1, 1, 2], [0, -3, -3, 0], [2, 1, 1, 2], [-5, 1, 1, -5]], {"float": "float32"}.get(kind, kind))
    shape = "[a,b]" if axis else "[a]"
    for outputs in (f"{kind}{shape} y, int64[n] i, int64[m] v, int64[o] c", f"{kind}{shape} y"):
        names = ", ".join(word.split()[-1] for word in outputs.split(", "))
        _agrees(tmp_path, f"{names} = Unique<sorted={is_sorted}{axis}>(x)", f"{kind}[4,4] x", outputs, feeds={"x": x})


def _boxes(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 60, (2, count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 25, (2, count, 2))], -1)
    boxes[0, 3, 2:] = boxes[0, 3, :2]  # without area, where others are
    boxes[0, 4] = boxes[0, 3]
    boxes[1, 5] = boxes[1, 5, [2, 3, 0, 1]]
    return boxes.astype("float32")


@pytest.mark.parametrize(("overlap", "center"), [(0.0, 0), (0.3, 0), (0.3, 1), (1.0, 0)])
@pytest.mark.parametrize("limit", [7, 2**62])
def test_suppression_in_several_pictures_and_classes(overlap: float, center: int, limit: int, tmp_path: Path) -> None:
    boxes = _boxes(30)
    if center:
        boxes = np.concatenate([boxes[..., :2], np.abs(boxes[..., 2:] - boxes[..., :2])], -1)
    scores = np.random.default_rng(4).uniform(0, 1, (2, 3, 30)).astype("float32")
    body = f"y = NonMaxSuppression<center_point_box={center}>(b, s, m, o, t)"
    weights = {"o": np.float32([overlap]), "t": np.float32([0.2])}
    feeds = {"b": boxes, "s": scores}
    inputs = "float[2,30,4] b, float[2,3,30] s"
    _agrees(tmp_path, body, inputs, "int64[n,3] y", feeds=feeds, m=_ints(limit), **weights)
    _agrees(tmp_path, body, f"{inputs}, int64[1] m", "int64[n,3] y", feeds=feeds | {"m": _ints(limit)}, **weights)


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"])
def test_reductions_of_some_all_and_no_axes(op: str, tmp_path: Path) -> None:
    x = np.random.default_rng(5).uniform(0.5, 2, (2, 3, 4)).astype("float32")
    body = f"""k = Reduce{op}(x, a)  y = Reduce{op}<keepdims=0>(x, a)  n = Reduce{op}<noop_with_empty_axes=1>(x)
               s = Reduce{op}<keepdims=0>(x)"""
    outputs = "float[1,3,1] k, float[3] y, float[2,3,4] n, float s"
    _agrees(tmp_path, body, "float[2,3,4] x", outputs, feeds={"x": x}, a=_ints(-1, 0))


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_reductions_of_integers(kind: str, tmp_path: Path) -> None:
    # ONNX Runtime has no others of int64.
    ops = ["Sum", "Mean", "Max", "Min", "Prod", *(["L1", "SumSquare"] if kind == "int32" else [])]
    body = "\n".join(f"y{i} = Reduce{op}(x, a)" for i, op in enumerate(ops))
    outputs = ", ".join(f"{kind}[3,1] y{i}" for i in range(len(ops)))
    _agrees(tmp_path, body, f"{kind}[3,4] x", outputs, a=_ints(1))


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_extremes_of_bytes_and_truths(op: str, tmp_path: Path) -> None:
    for kind in ("int8", "uint8", "bool"):
        _agrees(tmp_path, f"y = Reduce{op}<keepdims=0>(x, a)", f"{kind}[3,4,2] x", f"{kind}[3] y", 20, a=_ints(1, 2))


def test_a_sum_of_exponentials_does_not_overflow(tmp_path: Path) -> None:
    x = np.float32([[1000, 999], [-1000, -1001], [-np.inf, -np.inf], [np.inf, 0], [-np.inf, 3]])
    _agrees(tmp_path, "y = ReduceLogSumExp(x, a)", "float[5,2] x", "float[5,1] y", feeds={"x": x}, a=_ints(1))


@pytest.mark.parametrize("options", ["", "exclusive=1", "reverse=1", "exclusive=1, reverse=1"])
@pytest.mark.parametrize("kind", ["float", "int64"])
def test_running_sums_in_both_directions(options: str, kind: str, tmp_path: Path) -> None:
    body = f"y = CumSum<{options}>(x, a)" if options else "y = CumSum(x, a)"
    _agrees(tmp_path, body, f"{kind}[3,4] x", f"{kind}[3,4] y", a=np.array(-1, I64))
    _agrees(tmp_path, body, f"{kind}[3,4] x, int64 a", f"{kind}[3,4] y", feeds={"a": np.array(0, I64)})


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_determinants_even_with_a_zero_in_the_corner(size: int, tmp_path: Path) -> None:
    x = np.random.default_rng(6).normal(0, 1, (3, size, size)).astype("float32")
    x[0, 0, 0] = 0
    _agrees(tmp_path, "y = Det(x)", f"float[3,{size},{size}] x", "float[3] y", feeds={"x": x})


REFUSED = {
    "y = RandomNormalLike(x)": ("float[4] x", {}, "random numbers"),
    "y = Slice(x, s, e, a, t)": ("float[4] x, int64[1] t", {"s": _ints(0), "e": _ints(3), "a": _ints(0)}, "steps"),
    "y = Det(x)": ("float[20,20] x", {}, "matrix of shape"),
    'y = Pad<mode="reflect">(x, p)': ("float[2,4] x, int64[4] p", {}, "only known when the model runs"),
    'y = Pad<mode="edge">(x, p) ': ("float[2,4] x", {"p": _ints(0, -1, 0, 1)}, "negative pads"),
    "y = NonMaxSuppression(b, s, m, o)": ("float[1,9,4] b, float[1,1,9] s, float[1] o", {"m": _ints(3)}, "the overlap"),
    'y = ScatterND<reduction="mean">(x, i, u)': ("float[4] x, int64[2,1] i, float[2] u", {}, "reduction mean"),
}  # fmt: skip


@pytest.mark.parametrize("body", REFUSED)
def test_what_has_no_form_is_refused_with_its_reason(body: str) -> None:
    inputs, weights, reason = REFUSED[body]
    kind = "int64[n,3] y" if "NonMax" in body else "float y" if "Det" in body else "float[a] y"
    kind = "float[a,b] y" if "Pad" in body else kind
    with pytest.raises(UnsupportedError) as error:
        lower(_model(body, inputs, kind, 18, weights))
    assert reason in str(error.value.offenders)
