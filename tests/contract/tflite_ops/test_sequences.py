"""Recurrent layers, attention and signals: what the node tests leave out, against ONNX Runtime or numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from edgekit.errors import UnsupportedError
from tests.contract.tflite_ops.against import agree, codes, normal, text_model
from tests.contract.tflite_ops.single import graph_of, run_model, run_op

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _layer(
    op: str, steps: int, units: int, *, lengths: Any = None, states: bool = True, bias: bool = True,
    peepholes: bool = False, frozen: bool = True, batch: int = 2, **attributes: Any,
) -> tuple[ir.Model, dict[str, np.ndarray]]:  # fmt: skip
    """One recurrent layer with all its outputs, and inputs for it."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows, scale = _GATES[op] * units, min(0.6, units**-0.5)
    given: dict[str, np.ndarray | None] = {
        "x": normal(steps, batch, 3),
        "w": normal(directions, rows, 3, seed=1, scale=0.6),
        "r": normal(directions, rows, units, seed=2, scale=scale),
        "b": normal(directions, 2 * rows, seed=3) if bias else None,
        "lengths": None if lengths is None else np.asarray(lengths, "int32"),
        "h": normal(directions, batch, units, seed=4) if states else None,
        "c": normal(directions, batch, units, seed=5) if states and op == "LSTM" else None,
        "p": normal(directions, 3 * units, seed=6) if peepholes else None,
    }
    names = [name if array is not None else "" for name, array in given.items()]
    while not names[-1]:
        names.pop()
    outputs = {"y": [steps, directions, batch, units], "yh": [directions, batch, units]}
    if op == "LSTM":
        outputs["yc"] = [directions, batch, units]
    node = helper.make_node(op, names, list(outputs), "layer", hidden_size=units, **attributes)
    weights = {name: array for name in ("w", "r", "b", "p") if frozen and (array := given[name]) is not None}
    feeds = {name: array for name, array in given.items() if array is not None and name not in weights}
    return graph_of([node], feeds, {n: ("float32", s) for n, s in outputs.items()}, 17, weights), feeds


@pytest.mark.parametrize("op", _GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("steps", "units"), [(1, 4), (5, 4), (12, 150), (131, 4)])
def test_layers_agree_written_out_looped_and_in_blocks(
    op: str, direction: str, steps: int, units: int, tmp_path: Path
) -> None:
    agree(tmp_path, *_layer(op, steps, units, direction=direction), tolerance=2e-5)


@pytest.mark.parametrize("op", _GATES)
@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        (6, {"lengths": [6, 2], "direction": "bidirectional"}),
        (70, {"lengths": [1, 69], "direction": "reverse"}),
        (6, {"bias": False, "states": False}),
        (6, {"clip": 0.3}),
        (12, {"frozen": False, "direction": "bidirectional"}),
    ],
)
def test_layers_agree_in_what_they_may_be_told(op: str, steps: int, settings: Any, tmp_path: Path) -> None:
    agree(tmp_path, *_layer(op, steps, 5, **settings), tolerance=2e-5)


@pytest.mark.parametrize(
    ("op", "settings"),
    [
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"linear_before_reset": 1, "frozen": False, "direction": "bidirectional"}),
        ("GRU", {"activations": ["Sigmoid", "Softplus"]}),
        ("LSTM", {"peepholes": True, "clip": 0.5}),
        ("LSTM", {"input_forget": 1}),
        (
            "LSTM",
            {
                "activations": ["Sigmoid", "LeakyRelu", "ScaledTanh", "HardSigmoid", "Elu", "Affine"],
                "direction": "bidirectional", "activation_alpha": [0.2, 1.5, 0.3, 1.2, 0.9],
                "activation_beta": [0.7, 0.4, 0.1],
            },
        ),
        ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.3]}),
        ("RNN", {"activations": ["Softsign"]}),
    ],
)  # fmt: skip
def test_layers_agree_in_their_variants(op: str, settings: Any, tmp_path: Path) -> None:
    agree(tmp_path, *_layer(op, 9, 5, **settings), tolerance=2e-5)


def test_a_layer_forgets_what_it_saw_in_the_call_before(tmp_path: Path) -> None:
    model, feeds = _layer("LSTM", 20, 40, states=False)
    from edgekit.registry import RUNTIMES
    from edgekit.runtime import EngineOptions

    run_model(tmp_path, model, *feeds.values())
    opened = RUNTIMES.get("tflite").open(tmp_path / "op.tflite", EngineOptions(threads=1))
    first, second = (np.array(opened.run([feeds["x"]])[0]) for _ in range(2))
    opened.close()
    np.testing.assert_array_equal(first, second)


def test_many_steps_are_a_loop_and_few_are_not() -> None:
    assert codes(_layer("GRU", 20, 8)[0]).count("WHILE") == 1
    assert codes(_layer("GRU", 200, 8)[0]).count("WHILE") == 2
    assert "WHILE" not in codes(_layer("GRU", 4, 8)[0])


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="cannot hold") as caught:
        codes(_layer("RNN", 3, 2, activations=["Cosine"])[0])
    assert "Cosine" in str(caught.value.offenders)


# --- attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "settings"),
    [
        ("float[6,7]", {"q_num_heads": 4, "kv_num_heads": 2}),
        ("bool[2,1,6,7]", {"q_num_heads": 4, "kv_num_heads": 4, "softcap": 2.0}),
        ("bool[6,7]", {"q_num_heads": 4, "kv_num_heads": 1, "is_causal": 1}),
        ("bool[6,5]", {"q_num_heads": 4, "kv_num_heads": 2, "scale": 0.3}),
    ],
)
def test_attention_is_the_reference_evaluators(mask: str, settings: dict[str, Any], tmp_path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    words = ", ".join(f"{name}={value}" for name, value in settings.items())
    width = 5 * settings["kv_num_heads"]
    model = text_model(
        f"(float[2,6,20] q, float[2,7,{width}] k, float[2,7,{width}] v, {mask} m) => (float[2,6,20] y)"
        f" {{ y = Attention<{words}>(q, k, v, m) }}",
        24,
    )
    shape = [int(n) for n in mask[mask.index("[") + 1 : -1].split(",")]
    given = normal(*shape, seed=3)
    feeds = {"q": normal(2, 6, 20), "k": normal(2, 7, width, seed=1), "v": normal(2, 7, width, seed=2),
             "m": given if mask.startswith("float") else given > 0}  # fmt: skip
    if mask.startswith("bool"):
        feeds["m"][..., 3, :] = False  # a query that may look at nothing gives zeros, not NaN
    expected = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)[0]
    (got,) = run_model(tmp_path, model, *feeds.values())
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_shared_keys_are_not_repeated() -> None:
    model = text_model(
        "(float[1,8,6,4] q, float[1,2,7,4] k, float[1,2,7,4] v) => (float[1,8,6,4] y) { y = Attention(q, k, v) }", 23
    )
    found = codes(model)
    assert found.count("BATCH_MATMUL") == 2
    assert not {"TILE", "BROADCAST_TO", "GATHER", "CONCATENATION", "SELECT_V2"} & set(found)


def test_encoders_of_exporters_agree(tmp_path: Path) -> None:
    """Multi-head attention as PyTorch writes it: 3-D products by constants, products of two tensors, a softmax."""
    text = (
        "(float[1,10,32] x) => (float[1,10,32] y) {"
        " qm = MatMul(x, wq) km = MatMul(x, wk) vm = MatMul(x, wv) qb = Add(qm, bq)"
        " q4 = Reshape(qb, heads) k4 = Reshape(km, heads) v4 = Reshape(vm, heads)"
        " q = Transpose<perm=[0,2,1,3]>(q4) k = Transpose<perm=[0,2,3,1]>(k4) v = Transpose<perm=[0,2,1,3]>(v4)"
        " s = MatMul(q, k) d = Div(s, root) p = Softmax<axis=-1>(d) o = MatMul(p, v)"
        " t = Transpose<perm=[0,2,1,3]>(o) f = Reshape(t, flat) y = MatMul(f, wo) }"
    )
    weights = {name: normal(32, 32, seed=i, scale=0.2) for i, name in enumerate(("wq", "wk", "wv", "wo"))}
    model = text_model(text, 17, bq=normal(32), heads=np.array([0, 0, 4, 8]), flat=np.array([0, 0, 32]),
                       root=np.float32(8**0.5), **weights)  # fmt: skip
    agree(tmp_path, model, {"x": normal(1, 10, 32)})
    assert codes(model).count("FULLY_CONNECTED") == 4
    assert codes(model).count("BATCH_MATMUL") == 2


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -2])
@pytest.mark.parametrize("length", [None, 5, 12, 7])
@pytest.mark.parametrize("parts", [1, 2])
def test_transforms_are_numpys(axis: int, length: int | None, parts: int, tmp_path: Path) -> None:
    x = normal(7, 6, 9, parts)
    values = x[..., 0] if parts == 1 else x[..., 0] + 1j * x[..., 1]
    along = axis if axis >= 0 else axis + 4
    spectrum = np.fft.fft(values, length, along)
    expected = np.stack([spectrum.real, spectrum.imag], -1)
    feeds = [x, None if length is None else np.array(length), np.array(axis)]
    constants = [i for i in (1, 2) if feeds[i] is not None]
    got = run_op(tmp_path, "DFT", *feeds, shape=expected.shape, constants=constants)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)
    if parts == 1:
        half = np.fft.rfft(values, length, along)
        expected = np.stack([half.real, half.imag], -1)
        got = run_op(tmp_path, "DFT", *feeds, shape=expected.shape, constants=constants, onesided=1)
    else:
        back = np.fft.ifft(values, length, along)
        expected = np.stack([back.real, back.imag], -1)
        got = run_op(tmp_path, "DFT", *feeds, shape=expected.shape, constants=constants, inverse=1)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("constants", [(1, 2), (1,)])
@pytest.mark.parametrize("onesided", [0, 1])
def test_short_time_transforms_are_numpys(constants: Any, onesided: int, tmp_path: Path) -> None:
    x, window = normal(2, 100, 1), np.hanning(24).astype("float32")
    frames = np.lib.stride_tricks.sliding_window_view(x[..., 0], 24, 1)[:, ::10] * window
    spectrum = np.fft.fft(frames)[..., : 13 if onesided else 24]
    expected = np.stack([spectrum.real, spectrum.imag], -1)
    got = run_op(
        tmp_path, "STFT", x, np.array(10), window, shape=expected.shape, constants=constants, onesided=onesided
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


def test_a_transform_whose_matrix_would_fill_the_file_is_refused() -> None:
    model = text_model("(float[1,40000,1] x) => (float[1,40000,2] y) { y = DFT(x) }")
    with pytest.raises(UnsupportedError, match="cannot hold") as caught:
        codes(model)
    assert "a transform of length 40000" in str(caught.value.offenders)
