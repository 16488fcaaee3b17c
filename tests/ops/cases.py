"""ONNX's node tests as a pinned wheel ships them, with those inputs frozen that real models have as constants."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.packages import PackageFiles, Say, package_files

__all__ = ["DISPUTED", "NAMES", "Case", "data_folder", "frozen_inputs", "load_case", "ops_of"]

_INSIDE = "onnx/backend/test/data/node"
_DATA = PackageFiles(
    "onnx", "1.20.1", (f"{_INSIDE}/*",), "f341e0296f3cf9b5c85ba509a6c8e74311e29ae3de24beb4e9e87188cfbab24d"
)
_LINES = [
    line.split() for line in Path(__file__).with_name("names.txt").read_text().splitlines() if not line.startswith("#")
]
NAMES = tuple(words[0] for words in _LINES)
DISPUTED = frozenset(words[0] for words in _LINES if words[1:] == ["disputed"])

_WEIGHTS = {  # learned, or derived from what is learned
    "BatchNormalization": (1, 2, 3, 4), "Conv": (1, 2), "ConvTranspose": (1, 2), "DeformConv": (1, 3), "Gemm": (1, 2),
    "GroupNormalization": (1, 2), "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2), "PRelu": (1,),
    "RMSNormalization": (1,), "RNN": (1, 2, 3), "GRU": (1, 2, 3), "LSTM": (1, 2, 3, 7), "RotaryEmbedding": (1, 2),
}  # fmt: skip
_QUANTIZATION = {  # scales and zero points, and integer weights
    "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7), "ConvInteger": (1, 2, 3), "MatMulInteger": (1, 2, 3),
}  # fmt: skip
_FORMS = {  # shapes, axes, sizes, limits: what an exporter knows
    "AffineGrid": (1,), "BlackmanWindow": (0,), "HammingWindow": (0,), "HannWindow": (0,), "CenterCropPad": (1,),
    "Clip": (1, 2), "Col2Im": (1, 2), "ConstantOfShape": (0,), "CumSum": (1,), "DFT": (1, 2), "Dropout": (1, 2),
    "Expand": (1,), "MaxUnpool": (2,), "MelWeightMatrix": (0, 1, 2, 3, 4), "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1, 2), "Pad": (1, 2, 3), "Reshape": (1,), "Resize": (1, 2, 3), "STFT": (1, 2, 3), "Slice": (1, 2, 3, 4),
    "Split": (1,), "Squeeze": (1,), "Tile": (1,), "TopK": (1,), "Trilu": (1,), "Unsqueeze": (1,), "Upsample": (1,),
    "Loop": (0,),
    **dict.fromkeys((
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
        "ReduceProd", "ReduceSum", "ReduceSumSquare",
    ), (1,)),
}  # fmt: skip
FROZEN = {**_WEIGHTS, **_QUANTIZATION, **_FORMS}
"""By op, the inputs an ahead-of-time converter may expect as constants; the tests ship them as run-time inputs."""


@dataclass(frozen=True)
class Case:
    """One node test.

    Attributes:
        name: ONNX's name of it, such as ``"test_abs"``.
        op: Type of its one node.
        model: The ``onnx.ModelProto``, with constants frozen.
        feeds: Inputs by name; those that were frozen are gone.
        expected: Outputs by name, in the order of the model.
    """

    name: str
    op: str
    model: Any
    feeds: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


def data_folder(say: Say | None = None) -> Path:
    """The folder with a folder a test, fetched once into the cache. Raises UnavailableError without a network."""
    first = next(iter(package_files(_DATA, say=say).values()))
    return next(folder for folder in first.parents if folder.as_posix().endswith(_INSIDE))


def load_case(folder: Path, name: str, *, freezes: bool = True) -> Case:
    """Reads the test `name` under `folder`, with its constants as constants, or all as inputs, as it is shipped."""
    import onnx

    model = onnx.load(folder / name / "model.onnx")
    data = folder / name / "test_data_set_0"
    feeds = {value.name: _array(data / f"input_{i}.pb") for i, value in enumerate(model.graph.input)}
    expected = {value.name: _array(data / f"output_{i}.pb") for i, value in enumerate(model.graph.output)}
    for frozen in frozen_inputs(model.graph.node[0]) if freezes else ():
        model.graph.initializer.append(onnx.numpy_helper.from_array(feeds.pop(frozen), frozen))
    left = [value for value in model.graph.input if value.name in feeds]
    del model.graph.input[:]
    model.graph.input.extend(left)
    return Case(name, model.graph.node[0].op_type, model, feeds, expected)


def frozen_inputs(node: Any) -> list[str]:
    """The names of those inputs of a node that real models have as constants."""
    indexes = FROZEN.get(node.op_type, ())
    return list(dict.fromkeys(node.input[i] for i in indexes if i < len(node.input) and node.input[i]))


def _array(path: Path) -> np.ndarray:
    import onnx

    return onnx.numpy_helper.to_array(onnx.load_tensor(path))


@functools.cache
def ops_of(folder: Path) -> dict[str, str]:
    """The op of every test, by name."""
    import onnx

    return {name: onnx.load(folder / name / "model.onnx").graph.node[0].op_type for name in NAMES}
