"""The table of kernels and the versions, re-measured with LiteRT itself in a process that may be aborted."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from edgekit.converters.tflite import versions
from edgekit.converters.tflite.kernels import KERNELS, computing_type
from edgekit.converters.tflite.model import Op, Tensor
from edgekit.converters.tflite.table import Unlowerable
from edgekit.converters.tflite.versions import version_of
from edgekit.spec import QuantParams
from tests.contract.tflite_ops.kernel_cases import CODES


def _probe(jobs: list[tuple[str, str]] | None = None) -> list[list[str]]:
    words = [] if jobs is None else [json.dumps(jobs)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.tflite_ops.kernel_probe", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))


def test_the_table_says_in_which_types_each_kernel_computes() -> None:
    measured: dict[str, set[str]] = {code: set() for code in CODES}
    for code, dtype, wrong in _probe():
        assert "Didn't find op" not in wrong, (code, dtype)
        if not wrong:
            measured[code].add(dtype)
    assert {code: set(KERNELS[code]) for code in CODES} == measured


_BY_OPTIONS = {
    (code, version)
    for code, found in {
        "BATCH_MATMUL": (4,), "CONV_2D": (2, 5, 6, 7, 8), "DEPTHWISE_CONV_2D": (2, 4, 6, 7), "DEQUANTIZE": (5,),
        "FULLY_CONNECTED": (3, 5, 6, 9, 10, 11, 12, 13), "GATHER": (5, 6), "MUL": (3, 7), "STRIDED_SLICE": (6, 8),
        "TRANSPOSE_CONV": (3, 4, 5), "WHERE": (2,),
    }.items()
    for version in found
}  # fmt: skip


def test_every_version_that_a_rule_can_ask_for_is_one_litert_has() -> None:
    asked = {(code, 1) for code in KERNELS if code != "BROADCAST_TO"} | _BY_OPTIONS
    asked |= {(code, version) for code, rule in versions._TYPES.items() for version in rule.values()}
    asked |= {(code, version) for code, rule in versions._RANKS.items() for _, version in rule}
    asked |= set(versions._BROADCASTS.items()) | set(versions._FIRST.items())
    jobs = [(code, str(version)) for code, version in sorted(asked)]
    assert [(code, version) for code, version, wrong in _probe(jobs) if wrong] == []


def test_a_version_litert_does_not_have_is_found_out() -> None:
    assert all(wrong for *_, wrong in _probe([("BROADCAST_TO", "1"), ("ABS", "6")]))


def test_a_type_without_a_kernel_is_computed_in_the_next_that_holds_it() -> None:
    assert [computing_type("ADD", dtype) for dtype in ("int8", "uint8", "int64")] == ["int32", "int32", "int64"]
    assert computing_type("RELU", "int8") == "float32"
    with pytest.raises(Unlowerable, match="no POW for int64"):
        computing_type("POW", "int64")


_SCALED = QuantParams("int8", (0.1,), (0,))
_PER_CHANNEL = QuantParams("int8", (0.1, 0.2), (0, 0), 0)


def _op(code: str, *inputs: tuple[tuple[int, ...], str] | None, gives: str = "", **options: object) -> Op:
    tensors = [None if one is None else Tensor("", *one) for one in inputs]
    return Op(code, list(tensors), [Tensor("", (1,), gives or (inputs[0] or ((), "float32"))[1])], dict(options))


_IMAGE, _KERNEL, _WEIGHT = ((1, 8, 8, 4), "float32"), ((2, 3, 3, 4), "float32"), ((2, 4), "float32")
_FIVE, _INDEX = ((1, 2, 3, 4, 5), "float32"), ((2,), "int32")


@pytest.mark.parametrize(
    ("op", "version"),
    [
        (_op("CONV_2D", _IMAGE, _KERNEL, _WEIGHT), 1),
        (_op("CONV_2D", _IMAGE, ((2, 3, 3, 2), "float32"), _WEIGHT), 6),
        (_op("CONV_2D", _IMAGE, ((2, 3, 3, 4), "int8"), _WEIGHT), 2),
        (_op("CONV_2D", ((1, 8, 8, 4), "int8"), ((2, 3, 3, 4), "int8"), _WEIGHT), 3),
        (_op("CONV_2D", ((1, 8, 8, 4), "int8"), ((2, 3, 3, 4), "int4"), _WEIGHT), 7),
        (_op("DEPTHWISE_CONV_2D", _IMAGE, _KERNEL, dilationHFactor=1, dilationWFactor=1), 1),
        (_op("DEPTHWISE_CONV_2D", _IMAGE, _KERNEL, dilationHFactor=2, dilationWFactor=1), 2),
        (_op("FULLY_CONNECTED", _IMAGE, _WEIGHT, ((2,), "float32")), 1),
        (_op("FULLY_CONNECTED", _IMAGE, _WEIGHT, None), 6),
        (_op("FULLY_CONNECTED", _IMAGE, _WEIGHT, ((2,), "float32"), keepNumDims=True), 5),
        (_op("FULLY_CONNECTED", ((1, 4), "int8"), ((2, 4), "int8"), ((2,), "int32")), 4),
        (_op("FULLY_CONNECTED", ((1, 4), "int16"), ((2, 4), "int8"), ((2,), "int64")), 7),
        (_op("TRANSPOSE_CONV", _INDEX, _KERNEL, _IMAGE), 1),
        (_op("TRANSPOSE_CONV", _INDEX, _KERNEL, _IMAGE, ((2,), "float32")), 3),
        (_op("TRANSPOSE_CONV", _INDEX, _KERNEL, _IMAGE, fusedActivationFunction="RELU"), 4),
        (_op("GATHER", _IMAGE, _INDEX), 1),
        (_op("GATHER", _IMAGE, _INDEX, batchDims=1), 5),
        (_op("GATHER_ND", ((3,), "bool"), _INDEX), 5),
        (_op("RESIZE_BILINEAR", _IMAGE, _INDEX, halfPixelCenters=True), 3),
        (_op("RESIZE_NEAREST_NEIGHBOR", _IMAGE, _INDEX, alignCorners=True), 3),
        (_op("RESIZE_NEAREST_NEIGHBOR", _IMAGE, _INDEX, alignCorners=False, halfPixelCenters=False), 1),
        (_op("STRIDED_SLICE", _IMAGE, _INDEX, _INDEX, _INDEX, newAxisMask=2), 6),
        (_op("TRANSPOSE", _FIVE, _INDEX), 4),
        (_op("TRANSPOSE", ((1,) * 6, "float32"), _INDEX), 6),
        (_op("SLICE", _FIVE, _INDEX, _INDEX), 5),
        (_op("PAD", _FIVE, _INDEX), 4),
        (_op("MAXIMUM", _FIVE, _FIVE), 1),
        (_op("MAXIMUM", _FIVE, ((), "float32")), 3),
        (_op("DIV", _FIVE, ((), "float32")), 2),
        (_op("DIV", _IMAGE, ((), "float32")), 1),
        (_op("SPACE_TO_BATCH_ND", _IMAGE, _INDEX, _INDEX), 1),
        (_op("SPACE_TO_BATCH_ND", ((1, 8, 4), "float32"), _INDEX, _INDEX), 3),
        (_op("SPLIT", ((), "int32"), ((4,), "int32")), 3),
        (_op("SPLIT", ((), "int32"), ((4,), "float32")), 1),
        (_op("FILL", _INDEX, ((), "bool")), 2),
        (_op("CAST", ((4,), "float32"), gives="uint16"), 4),
        (_op("CAST", ((4,), "float16"), gives="float32"), 5),
        (_op("CAST", ((4,), "int64"), gives="bool"), 1),
        (_op("QUANTIZE", ((4,), "float32"), gives="int16"), 2),
        (_op("DEQUANTIZE", ((4,), "float16"), gives="float32"), 3),
        (_op("BROADCAST_TO", ((4,), "float32"), _INDEX), 2),
        (_op("WHERE", ((4,), "bool"), gives="int64"), 1),
        (_op("WHERE", ((4,), "int32"), gives="int64"), 2),
        (_op("ADD", ((4,), "int16"), ((4,), "int16")), 5),
        (_op("MUL", ((4,), "int64"), ((4,), "int64")), 5),
        (_op("RESHAPE", ((4,), "int64"), _INDEX), 1),
        (_op("RANGE", ((), "int64")), 2),
    ],
)
def test_the_version_is_the_first_that_knows_types_ranks_and_options(op: Op, version: int) -> None:
    assert version_of(op) == version


def test_quantization_asks_for_versions_of_its_own() -> None:
    weight = Tensor("", (2, 3, 3, 4), "int8", np.zeros((2, 3, 3, 4), "int8"), _PER_CHANNEL)
    x, y = Tensor("", (1, 8, 8, 4), "float32"), Tensor("", (1, 8, 8, 2), "float32")
    assert version_of(Op("CONV_2D", [x, weight, None], [y])) == 5
    assert version_of(Op("DEPTHWISE_CONV_2D", [x, weight, None], [y])) == 6
    assert version_of(Op("FULLY_CONNECTED", [x, weight, None], [y])) == 12
    assert version_of(Op("DEQUANTIZE", [weight], [y])) == 5
    small = QuantParams("int8", (0.001,), (0,))
    a, b = (Tensor("", (4,), "int8", quant=_SCALED) for _ in range(2))
    assert version_of(Op("MUL", [a, b], [Tensor("", (4,), "int8", quant=small)])) == 3
    assert version_of(Op("MUL", [a, b], [Tensor("", (4,), "int8", quant=_SCALED)])) == 2
