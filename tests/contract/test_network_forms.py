"""Twins: a record's PyTorch, Keras and ONNX forms answer alike, for every op and option that changes arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
import torch

import edgekit
from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.graph import clean, signature
from edgekit.network import Network, starting_weights
from edgekit.network.onnx_form import _OPS as ONNX_OPS
from edgekit.network.onnx_form import OPSET, save_onnx, to_onnx
from edgekit.network.torch_form import _OPS as TORCH_OPS
from edgekit.network.torch_form import to_torch, torch_weights
from edgekit.spec import StatePair
from edgekit.worker import Worker
from tests.contract.network_samples import CASES, SIZES, build, feeds_of, weights_of

TOLERANCE = 1e-5
NOT_IN_KERAS = {case for case in CASES if case.startswith("cached_attention") or case == "dense tied"}
"""What Keras has no standard layers for, so that its form refuses it."""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}


def torch_answer(network: Network, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    module = to_torch(network, weights_of(network))
    with torch.no_grad():
        given = module(*(torch.from_numpy(feeds[name]) for name in module.input_names))
    many = given if isinstance(given, tuple) else (given,)
    return {name: value.numpy() for name, value in zip(module.output_names, many, strict=True)}


def onnx_answer(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in model.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


def agree(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_onnx_answers_as_pytorch_does(case: str) -> None:
    network = build(case)
    model = to_onnx(network, weights_of(network))
    onnx.checker.check_model(model, full_check=True)
    cleaned = ir.to_proto(clean(ir.from_proto(model)))
    assert signature(ir.from_proto(model)) == network.signature()
    for sizes in SIZES:
        feeds = feeds_of(network, sizes)
        expected = torch_answer(network, feeds)
        agree(onnx_answer(model, feeds), expected)
        agree(onnx_answer(cleaned, feeds), expected)


@pytest.mark.parametrize("case", CASES)
def test_openvino_runs_the_onnx_form(case: str) -> None:
    network = build(case)
    core = openvino.Core()
    model = core.read_model(to_onnx(network, weights_of(network)).SerializeToString())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for sizes in SIZES:
        feeds = feeds_of(network, sizes)
        given = compiled(feeds)
        agree({name: given[name] for name in network.outputs}, torch_answer(network, feeds))


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of Keras's answers, and what went wrong by case: one child answers all."""
    place = tmp_path_factory.mktemp("keras")
    with Worker("keras twins", env=QUIET) as worker:
        return place, worker.call("tests.contract.network_samples:keras_answers", place=str(place))


@pytest.mark.parametrize("case", CASES)
def test_keras_answers_as_pytorch_does(case: str, keras: tuple[Path, dict[str, str]]) -> None:
    place, wrong = keras
    if case in NOT_IN_KERAS:
        assert wrong[case].startswith("edgekit.errors.UnsupportedError")
        return
    assert case not in wrong, wrong[case]
    network = build(case)
    for index, sizes in enumerate(SIZES):
        with np.load(place / f"{list(CASES).index(case)}-{index}.npz") as answers:
            got = {name: answers[name] for name in network.outputs}
        agree(got, torch_answer(network, feeds_of(network, sizes)))


def test_every_op_has_a_sample_and_every_form() -> None:
    ops = {layer.op for case in CASES for layer in build(case).layers}
    assert ops == set(ONNX_OPS) == set(TORCH_OPS)


@pytest.mark.parametrize("case", ["inverted residual", "lstm both ways", "cached_attention", "dense tied"])
def test_pytorch_gives_back_the_weights_it_was_given(case: str) -> None:
    network = build(case)
    weights = weights_of(network)
    back = torch_weights(to_torch(network, weights), network)
    assert list(back) == list(network.params)
    for name, array in weights.items():
        np.testing.assert_array_equal(back[name], array)


def test_initializers_have_the_weights_names_and_layouts() -> None:
    network = build("inverted residual")
    weights = weights_of(network)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in to_onnx(network, weights).graph.initializer}
    for name, array in weights.items():
        np.testing.assert_array_equal(stored[name], array)


def test_a_tied_weight_is_stored_once() -> None:
    network = build("dense tied")
    model = to_onnx(network, weights_of(network))
    assert [tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2] == ["table.weight"]


def test_nodes_are_named_after_layers_and_outputs_need_no_copies() -> None:
    network = build("inverted residual")
    model = to_onnx(network, weights_of(network))
    assert {"expand", "bn1", "depth", "gate"} <= {node.name for node in model.graph.node}
    assert not [node for node in model.graph.node if node.op_type == "Identity"]
    assert model.graph.node[-1].output == ["y"]
    assert (model.ir_version, model.opset_import[0].version) == (10, OPSET)


def test_only_what_has_two_names_is_copied() -> None:
    network = build("several outputs")
    model = to_onnx(network, weights_of(network))
    assert sum(node.op_type == "Identity" for node in model.graph.node) == 2  # `same` is an input, `twice` is `inner`


def test_what_neither_scales_nor_moves_leaves_no_node() -> None:
    ops = [node.op_type for node in to_onnx(build("affine scale"), {}).graph.node]
    assert ops == ["Mul"]
    assert [node.op_type for node in to_onnx(build("affine offset"), {}).graph.node] == ["Add"]


def test_state_and_metadata_travel_in_the_file(tmp_path: Path) -> None:
    network = build("cached_attention")
    pairs = (StatePair("old_keys", "keys"), StatePair("old_values", "values"))
    path = save_onnx(network, weights_of(network), tmp_path / "x.onnx", {"made.by": "a test"})
    graph = ir.load(path)
    assert graph.metadata_props["made.by"] == "a test"
    assert signature(graph).state == signature(clean(graph)).state == pairs
    with edgekit.load(path) as session:
        assert session.signature.state == pairs


def test_state_that_is_no_list_of_pairs_is_a_damaged_file(tmp_path: Path) -> None:
    model = to_onnx(build("dense"), weights_of(build("dense")), metadata={"edgekit.state": '{"a": 1}'})
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ArtifactError, match="state"):
        edgekit.load(tmp_path / "x.onnx")
    with pytest.raises(ArtifactError, match="state"):
        signature(ir.from_proto(model))


def test_a_file_is_written_whole_and_the_same_each_time(tmp_path: Path) -> None:
    network = build("inverted residual")
    weights = weights_of(network)
    first = save_onnx(network, weights, tmp_path / "a.onnx", {"b": "1", "a": "2"})
    second = save_onnx(network, dict(reversed(weights.items())), tmp_path / "b.onnx", {"a": "2", "b": "1"})
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(edgekit.errors.InputError, match="force"):
        save_onnx(network, weights, first)
    save_onnx(network, starting_weights(network), first, force=True)
    assert first.read_bytes() != second.read_bytes()


def test_weights_too_large_for_one_message_go_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.network.onnx_form._MAX_INLINE_BYTES", 100)
    network = Network("large")
    network.output(network.dense(network.input("x", ("batch", 64)), "d", 64), "y")
    path = save_onnx(network, weights_of(network), tmp_path / "x.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.onnx", "x.onnx.data"]
    feeds = feeds_of(network, SIZES[1])
    with edgekit.load(path) as session:
        agree(session.run(feeds), torch_answer(network, feeds))


def test_all_weights_that_do_not_fit_are_named() -> None:
    network = build("inverted residual")
    weights = weights_of(network)
    del weights["gate.bias"]
    weights["bn1.weight"] = np.zeros(3, "float32")
    with pytest.raises(ArtifactError, match=r"bn1\.weight is \[3\], not \[16\]; gate\.bias is missing"):
        to_onnx(network, weights)


def test_an_output_named_as_an_input_is_refused() -> None:
    network = Network("loop")
    network.output(network.relu(network.input("x", ("batch", 4))), "x")
    with pytest.raises(UnsupportedError, match="x"):
        to_onnx(network, {})
