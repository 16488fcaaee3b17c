"""What TFLite has and our writer does not write, read into the hub: ONNX Runtime gives what LiteRT does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.converters.tflite.model import Graph, LiteModel, Op, Tensor
from edgekit.converters.tflite.raising import raise_model
from edgekit.converters.tflite.reading import read_model
from edgekit.converters.tflite.writing import write_model
from edgekit.errors import UnsupportedError
from edgekit.graph.cleaning import clean
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions
from tests.contract.tflite_ops.against import normal

NONE = {"fusedActivationFunction": "NONE"}
STRIDES = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0, "offset": False}
CASES: dict[str, tuple[str, list[Any], set[int], tuple[int, ...], str, dict[str, Any]]] = {
    # code, inputs, which of them are constant, shape and dtype of the result, options
    "rows chosen by a vector": ("SELECT", [np.array([True, False, True]), normal(3, 4), normal(3, 4, seed=1)],
                                set(), (3, 4), "float32", {}),
    "the last one": ("STRIDED_SLICE", [normal(3, 4), *np.int32([[-1, 1], [0, 4], [1, 2]])], {1, 2, 3}, (2,), "float32",
                     {**STRIDES, "shrinkAxisMask": 1}),
    "backward from the end": ("STRIDED_SLICE", [normal(5, 4), *np.int32([[0, 0], [0, 0], [-2, 1]])], {1, 2, 3}, (3, 4),
                              "float32", {**STRIDES, "beginMask": 1, "endMask": 3}),
    "a slice known later": ("STRIDED_SLICE", [normal(5, 4), np.int32([1, 0]), np.int32([3, 4]), np.int32([1, 1])], {3},
                            (-1, -1), "float32", STRIDES),
    "a size known later": ("SLICE", [normal(5, 4), np.int32([1, 2]), np.int32([-1, 1])], set(), (-1, -1), "float32",
                           {}),
    "each of a batch its own": ("GATHER", [normal(2, 3, 5), np.int32([[4, 0], [1, 1]])], set(), (2, 3, 2), "float32",
                                {"axis": 2, "batchDims": 1}),
    "each of a batch one": ("GATHER", [normal(2, 3, 5), np.int32([[4, 0, 2], [1, 1, 3]])], set(), (2, 3), "float32",
                            {"axis": 2, "batchDims": 2}),
    "a place out of bounds": ("ONE_HOT", [np.int32([-1, 0, 3, 9]), np.int32(4), np.float32(2), np.float32(-1)],
                              {1, 2, 3}, (4, 4), "float32", {"axis": -1}),
    "a block too far back": ("DYNAMIC_UPDATE_SLICE", [normal(4, 5), normal(2, 3, seed=1), np.int32([3, -7])], set(),
                             (4, 5), "float32", {}),
    "a constant block": ("DYNAMIC_UPDATE_SLICE", [normal(4, 5), normal(2, 5, seed=1), np.int32([1, 0])], {2}, (4, 5),
                         "float32", {}),
    "shifted with the sign": ("RIGHT_SHIFT", [np.int32([-8, 9, -1, 2**31 - 1]), np.int32([1, 2, 31, 30])], set(), (4,),
                              "int32", {}),
    "sums by group": ("UNSORTED_SEGMENT_SUM", [normal(4, 3), np.int32([2, 0, 2, 0]), np.int32(4)], {2}, (4, 3),
                      "float32", {}),
    "shapes": ("BROADCAST_ARGS", [np.int32([4, 1, 3]), np.int32([5, 1])], set(), (3,), "int32", {}),
}  # fmt: skip


def one(code: str, feeds: list[Any], constants: set[int], shape: Any, dtype: str, options: dict[str, Any]) -> LiteModel:
    arrays = [np.asarray(feed) for feed in feeds]
    tensors = [
        Tensor(f"i{index}", array.shape, array.dtype.name, array if index in constants else None)
        for index, array in enumerate(arrays)
    ]
    result = Tensor("y", tuple(shape), dtype)
    inputs = [tensor for tensor in tensors if tensor.data is None]
    graph = Graph("main", inputs, [result], [Op(code, [*tensors], [result], options, "one")])
    return LiteModel(graph, [tensor.name for tensor in inputs], ["y"])


@pytest.mark.parametrize("case", CASES)
def test_the_hub_gives_what_litert_gives(case: str, tmp_path: Path) -> None:
    import onnxruntime

    code, feeds, constants, *rest = CASES[case]
    path = tmp_path / "one.tflite"
    write_model(one(code, feeds, constants, *rest), path)
    opened = RUNTIMES.get("tflite").open(path, EngineOptions(threads=1))
    given = {f"i{i}": np.asarray(feed) for i, feed in enumerate(feeds) if i not in constants}
    want = np.array(opened.run(list(given.values()))[0])
    hub = clean(raise_model(read_model(path)))
    session = onnxruntime.InferenceSession(ir.to_proto(hub).SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, given)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_all_that_have_no_form_are_named_with_their_reasons() -> None:
    x, y, z = (Tensor(name, (4,), "float32") for name in "xyz")
    ops = [Op("FAKE_QUANT", [x], [y], {}, "first"), Op("BITCAST", [y], [z], {}, "second")]
    with pytest.raises(UnsupportedError) as caught:
        raise_model(LiteModel(Graph("main", [x], [z], ops), ["x"], ["z"]))
    assert [offender.split(":")[0] for offender in caught.value.offenders] == ["FAKE_QUANT (first)", "BITCAST (second)"]
