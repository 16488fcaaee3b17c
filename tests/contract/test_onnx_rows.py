"""Products behind a Gelu in ONNX Runtime: integers by the range each row shows, for a few rows reach much farther."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.recipe import Rule
from tests.contract.test_onnx_precisions import (
    answered,
    evaluated,
    network,
    numbers,
    plan_of,
    ran,
    sqnr_db,
    with_numbers,
    written,
)

RNG = np.random.default_rng(8)
ROOT = np.sqrt(2).astype("float32").reshape(1)
HALF, ONE = np.full(1, 0.5, "float32"), np.ones(1, "float32")

GELUS = {
    "one operation": ("a = Gelu(x) y = MatMul(a, w)", {}),
    "a Gemm of it": ("a = Gelu(x) f = Flatten<axis=2>(a) y = Gemm<transB=1>(f, t)", {}),
    "spelled out": (
        "d = Div(x, root) e = Erf(d) s = Add(e, one) p = Mul(x, s) a = Mul(p, half) y = MatMul(a, w)",
        {"root": ROOT, "one": ONE, "half": HALF},
    ),
}


def uneven(*shape: int) -> dict[str, np.ndarray]:
    """Rows of which one in eight reaches fifty times as far as the others."""
    x = RNG.normal(0, 1, shape).astype("float32")
    x[..., ::8, :] *= 50
    return {"x": x}


def weights(body: str, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {**more, **({"w": numbers(40, 24)} if ", w)" in body else {"t": numbers(24, 40)})}


@pytest.mark.parametrize(("case", "opset"), [*((case, 20) for case in GELUS), ("spelled out", 13)])
def test_rows_behind_a_gelu_have_ranges_of_their_own(case: str, opset: int, tmp_path: Path) -> None:
    body, more = GELUS[case]
    rank = 2 if "Gemm" in body else 3
    model = network(body, (2, 16, 40), rank, opset, **weights(body, **more))
    plan = plan_of(model, "w8a8-dynamic")
    path = written(model, plan, tmp_path)
    feeds = uneven(2, 16, 40)
    wanted = evaluated(with_numbers(model, plan), feeds)
    assert wanted.shape == answered(path, feeds).shape
    small = np.arange(16) % 8 != 0  # the rows one range for all would round away
    mine, theirs = (array.reshape(2, 16, 24)[:, small] for array in (answered(path, feeds), wanted))
    assert sqnr_db(theirs, mine) > 35
    assert sqnr_db(evaluated(onnx.load(path), feeds), answered(path, feeds)) > 60
    assert ran(path).get("MatMulInteger") == "int8"


def test_one_range_for_all_rows_would_round_small_ones_away(tmp_path: Path) -> None:
    """The same product on what no Gelu gave, which keeps the faster kernel: what the test before holds is not free."""
    model = network("a = Tanh(x) b = Mul(a, x) y = MatMul(b, w)", (2, 16, 40), 3, w=numbers(40, 24))
    plan = plan_of(model, "w8a8-dynamic")
    path = written(model, plan, tmp_path)
    feeds = uneven(2, 16, 40)
    small = np.arange(16) % 8 != 0
    wanted = evaluated(with_numbers(model, plan), feeds)
    assert sqnr_db(wanted[:, small], answered(path, feeds)[:, small]) < 25
    assert "MatMulInteger" not in ran(path)


def test_a_single_row_keeps_the_faster_kernel(tmp_path: Path) -> None:
    model = network("a = Gelu(x) y = MatMul(a, w)", (1, 40), 2, w=numbers(40, 24))
    path = written(model, plan_of(model, "w8a8-dynamic"), tmp_path)
    assert Counter(node.op_type for node in onnx.load(path).graph.node)["DynamicQuantizeLinear"] == 1


def test_open_sizes_stay_open(tmp_path: Path) -> None:
    model = network("a = Gelu(x) y = MatMul(a, w)", ("n", "t", 40), 3, w=numbers(40, 24))  # type: ignore[arg-type]
    plan = plan_of(model, "w8a8-dynamic")
    path = written(model, plan, tmp_path)
    for shape in ((1, 3, 40), (4, 8, 40)):
        feeds = uneven(*shape)
        assert sqnr_db(evaluated(with_numbers(model, plan), feeds), answered(path, feeds)) > 35


def test_a_rule_takes_the_product_out(tmp_path: Path) -> None:
    model = network(
        "a = Gelu(x) h = MatMul(a, w) y = MatMul(h, v)", (2, 16, 40), 3, w=numbers(40, 24), v=numbers(24, 9)
    )
    first = next(node.name or "" for node in model.graph if node.op_type == "MatMul")
    path = written(model, plan_of(model, "w8a8-dynamic", Rule("w8", name=first)), tmp_path)
    assert "QuantizeLinear" not in {node.op_type for node in onnx.load(path).graph.node}
