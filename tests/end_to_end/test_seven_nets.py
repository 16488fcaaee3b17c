"""The seven kinds of network from PyTorch to TFLite, where every other road fails at least one of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from edgekit.conversion import convert
from edgekit.converters.tflite.reading import read_model
from tests.contract.seven_nets import NETS, save_script

BORDER = {"cnn": 1, "resnet": 1, "rnn": 2, "bert": 8, "unet": 2, "wave": 1, "yolo": 3}
"""Transposes that may be left: pictures turned at the border, heads of attention, anchors of a detector, steps."""


@pytest.mark.parametrize("form", ["module", pytest.param("script", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(NETS))
def test_a_net_of_pytorch_becomes_a_tflite_file(name: str, form: str, tmp_path: Path) -> None:
    module, inputs = NETS[name]()
    source = save_script(module, tmp_path / "net.pt", inputs) if form == "script" else module
    report = convert(
        source, tmp_path / "net.edge", format="tflite", target="generic-x86",
        example_inputs=None if form == "script" else inputs,
    )  # fmt: skip
    (made,) = report.variants
    assert made.status == "written", made.reason
    assert made.parity is not None
    assert made.parity["relative"] <= 1e-5
    ops = Counter(op.code for op in read_model(tmp_path / "net.edge" / "model-fp32.tflite").graph.ops)
    assert ops["TRANSPOSE"] <= BORDER[name], ops
