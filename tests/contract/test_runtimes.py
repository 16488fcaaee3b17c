"""Every built-in runtime against the battery, and what each promises beyond it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import flatbuffers
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.opening import detect_format, open_session
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.runtimes._tflite_state import keeps_state
from edgekit.testing import RuntimeContract
from edgekit.testing.bad_inputs import FEEDS, WRONG
from edgekit.testing.tflite_writer import TfliteWriter
from tests.contract import sample_models as models

ONE = EngineOptions(threads=1)


class TestTflite(RuntimeContract):
    engine = "tflite"
    samples = models.tflite_samples()


class TestOnnx(RuntimeContract):
    engine = "onnx"
    samples = models.onnx_samples()


class TestOpenvino(RuntimeContract):
    engine = "openvino"
    samples = models.openvino_samples()


class TestReference(RuntimeContract):
    engine = "reference"
    samples = models.onnx_samples()


class TestNull(RuntimeContract):
    engine = "null"
    samples = models.null_samples()


def opened(runtime: str, path: Path, **session_args: bool) -> Session:
    return open_session(path, detect_format(path), runtime, ONE, **session_args)[1]


# --- names ---


def test_tflite_names_are_those_of_the_only_signature(tmp_path: Path) -> None:
    path = models.tflite_samples()[1].write(tmp_path)
    signature = opened("tflite", path).signature
    assert [str(spec) for spec in (*signature.inputs, *signature.outputs)] == [
        "x: float32[batchx6]",
        "y: float32[batchx5]",
    ]


def test_tflite_names_are_the_tensors_without_a_signature(tmp_path: Path) -> None:
    path = models.tflite_samples()[0].write(tmp_path)
    signature = opened("tflite", path).signature
    assert [spec.name for spec in signature.outputs] == ["features", "mean"]


def test_onnx_keeps_symbolic_names_and_numbers_the_unnamed(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", None, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None, 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    path = tmp_path / "open.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    for runtime in ("onnx", "reference"):
        assert opened(runtime, path).signature.inputs[0].shape == ("N", "dim1", 3)
    assert opened("openvino", path).signature.inputs[0].shape == ("batch", "dim1", 3)


def test_openvino_names_outputs_that_have_no_name(tmp_path: Path) -> None:
    import openvino

    source = models.onnx_samples()[0].write(tmp_path)
    model = openvino.Core().read_model(source)
    for port in (*model.inputs, *model.outputs):
        port.set_names(set())
    openvino.save_model(model, tmp_path / "unnamed.xml", compress_to_fp16=False)
    signatures = [opened("openvino", tmp_path / "unnamed.xml").signature for _ in range(2)]
    assert signatures[0] == signatures[1]
    assert [spec.name for spec in signatures[0].inputs] == ["image", "gain"]
    assert [spec.name for spec in signatures[0].outputs] == ["features", "mean"]


def test_openvino_takes_the_shortest_of_several_names(tmp_path: Path) -> None:
    import openvino

    source = models.onnx_samples()[0].write(tmp_path)
    model = openvino.Core().read_model(source)
    model.outputs[0].add_names({"features:0", "a_longer_name/of/it:0"})
    openvino.save_model(model, tmp_path / "named.xml", compress_to_fp16=False)
    assert opened("openvino", tmp_path / "named.xml").signature.outputs[0].name == "features"


# --- what they compute ---


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads_are_taken(tmp_path: Path, threads: int | None) -> None:
    for runtime, samples in (("tflite", models.tflite_samples()), ("onnx", models.onnx_samples())):
        path = samples[0].write(tmp_path)
        with Session(RUNTIMES.get(runtime).open(path, EngineOptions(threads=threads)), runtime=runtime) as session:
            assert session.run(RuntimeContract.feeds(session))


def test_openvino_runs_in_the_precision_asked_for(tmp_path: Path) -> None:
    path = models.openvino_samples()[0].write(tmp_path)
    engine = RUNTIMES.get("openvino")
    assert engine.open(path, ONE).precision == "fp32"
    said = engine.open(path, EngineOptions(threads=1, precision="bf16")).precision
    # Processors without bf16 kernels stay in fp32, and it says so.
    import openvino

    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert said == ("bf16" if has_bf16 else "fp32")


@pytest.mark.parametrize("runtime", ["tflite", "onnx", "reference"])
def test_precisions_there_are_not_are_refused(tmp_path: Path, runtime: str) -> None:
    samples = models.tflite_samples() if runtime == "tflite" else models.onnx_samples()
    with pytest.raises(UnsupportedError, match="bf16"):
        RUNTIMES.get(runtime).open(samples[0].write(tmp_path), EngineOptions(precision="bf16"))


@pytest.mark.parametrize("runtime", ["onnx", "reference", "openvino"])
def test_widest_values_survive_or_are_refused(tmp_path: Path, runtime: str) -> None:
    path = (models.openvino_samples() if runtime == "openvino" else models.onnx_samples())[2].write(tmp_path)
    session = opened(runtime, path)
    feeds = RuntimeContract.feeds(session)
    narrow = {"int64", "uint64", "float64"} if runtime == "openvino" else set()
    for spec in session.signature.inputs:
        if spec.dtype == "bool":
            continue
        info = np.iinfo(spec.dtype) if "int" in spec.dtype else np.finfo(spec.dtype)
        wide = np.array([[info.min, info.max, 1, 2]], spec.dtype)
        if spec.dtype in ("int64", "uint64") and spec.dtype in narrow:
            with pytest.raises(InputError, match="32 bits"):
                session.run({**feeds, spec.name: wide})
        elif spec.dtype not in narrow:
            answer = session.run({**feeds, spec.name: wide})[f"{spec.name}_twice"]
            np.testing.assert_array_equal(answer, np.concatenate([wide, wide]))


def test_onnx_strings(tmp_path: Path) -> None:
    kind = TensorProto.STRING
    graph = helper.make_graph(
        [helper.make_node("Concat", ["words", "words"], ["twice"], axis=0)],
        "g",
        [helper.make_tensor_value_info("words", kind, [2])],
        [helper.make_tensor_value_info("twice", kind, [4])],
    )
    path = tmp_path / "words.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    with opened("onnx", path) as session:
        words = np.array(["a", "bc"], dtype=object)
        assert session.run({"words": words})["twice"].tolist() == ["a", "bc", "a", "bc"]
        with pytest.raises(InputError, match="words"):
            session.run({"words": np.array(["a", "bc"])})


def test_onnx_with_a_wrong_output_shape_still_runs(tmp_path: Path) -> None:
    """The declared output is one size, the real one another: buffers bound at load must not be insisted on."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    out = helper.make_tensor_value_info("y", TensorProto.INT64, [1, 4])
    graph = helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "g", [value], [out])
    path = tmp_path / "nonzero.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    with opened("onnx", path) as session:
        for x in ([0, 1, 0, 2], [1, 1, 1, 1], [0, 1, 0, 0]):
            answer = session.run({"x": np.array(x, "float32")})
            assert answer["y"].tolist() == [np.flatnonzero(x).tolist()]


@pytest.mark.parametrize("runtime", ["tflite", "onnx", "openvino"])
def test_sizes_the_engine_cannot_run_are_an_input_error(tmp_path: Path, runtime: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "y"], ["z"])],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3]) for n in ("x", "y")],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 3])],
    )
    path = tmp_path / "sum.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    if runtime == "tflite":
        writer = TfliteWriter()
        tensors = [writer.tensor(name, (-1, 3)) for name in "xyz"]
        writer.op("ADD", tensors[:2], tensors[2:], options="AddOptions")
        path = tmp_path / "sum.tflite"
        path.write_bytes(writer.finish(tensors[:2], tensors[2:]))
    with opened(runtime, path) as session:
        ok = {"x": np.ones((2, 3), "float32"), "y": np.ones((2, 3), "float32")}
        right = session.run(ok)["z"]
        with pytest.raises(InputError, match=r"x \[2, 3\], y \[5, 3\]"):
            session.run({**ok, "y": np.ones((5, 3), "float32")})
        np.testing.assert_array_equal(session.run(ok)["z"], right)


# --- what they are not to run on ---


def test_a_bad_feed_meets_the_same_words_whatever_the_engine(tmp_path: Path) -> None:
    files = {"tflite": models.tflite_samples()[1], "onnx": models.onnx_samples()[1]}
    files |= {"openvino": models.openvino_samples()[1], "reference": models.onnx_samples()[1]}
    sessions = {}
    for runtime, sample in files.items():
        (tmp_path / runtime).mkdir()
        sessions[runtime] = opened(runtime, sample.write(tmp_path / runtime))
    x = np.random.default_rng(0).standard_normal((3, 6)).astype("float32")
    bad = {name: {"x": make(x)} for name, make in WRONG.items()} | {n: make({"x": x}) for n, make in FEEDS.items()}
    for name, feeds in bad.items():
        said = {runtime: _outcome(session, feeds) for runtime, session in sessions.items()}
        assert len(set(said.values())) == 1, (name, said)
    assert {_outcome(session, bad["float64"]) for session in sessions.values()} == {
        "InputError: input 'x' wants float32, got float64 (x.astype('float32'))"
    }


def _outcome(session: Session, feeds: dict[str, np.ndarray]) -> str:
    try:
        return ", ".join(f"{name} {array.shape}" for name, array in session.run(feeds).items())
    except InputError as error:
        return f"InputError: {error}"


# --- several calls at the same time ---


def test_a_tflite_model_that_remembers_has_one_lane(tmp_path: Path) -> None:
    writer = TfliteWriter()
    x, state, y = (writer.tensor(name, (1, 4)) for name in ("x", "state", "y"))
    writer.op("ADD", [x, state], [y], options="AddOptions")
    plain = writer.finish([x, state], [y])
    assert not keeps_state(plain)
    assert not keeps_state(models.tflite_two_inputs())
    assert keeps_state(_with_variable(plain, "state"))


def _with_variable(content: bytes, name: str) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for tensor in model.subgraphs[0].tensors:
        tensor.isVariable = tensor.name == name.encode()
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_an_openvino_model_that_remembers_has_one_lane(tmp_path: Path) -> None:
    import openvino
    from openvino import opset13 as ops
    from openvino.op.util import Variable, VariableInfo

    info = VariableInfo()
    info.data_shape, info.data_type, info.variable_id = openvino.PartialShape([1, 3]), openvino.Type.f32, "sum"
    variable = Variable(info)
    x = ops.parameter([1, 3], np.float32, name="x")
    total = ops.add(ops.read_value(ops.constant(np.zeros((1, 3), "float32")), variable), x)
    total.output(0).set_names({"y"})
    model = openvino.Model([ops.result(total)], [ops.assign(total, variable)], [x], "sum")
    openvino.save_model(model, tmp_path / "sum.xml", compress_to_fp16=False)
    open_model = RUNTIMES.get("openvino").open(tmp_path / "sum.xml", EngineOptions(threads=1, lanes=4))
    assert open_model.another() is None
    with Session(open_model, runtime="openvino") as session:
        feeds = {session.signature.inputs[0].name: np.ones((1, 3), "float32")}
        sums = [float(next(iter(session.run(feeds).values()))[0, 0]) for _ in range(3)]
    assert sums == [1, 2, 3]


@pytest.mark.parametrize("runtime", ["tflite", "onnx", "openvino", "null"])
def test_lanes_are_as_many_as_asked(tmp_path: Path, runtime: str) -> None:
    samples = {"tflite": models.tflite_samples, "onnx": models.onnx_samples, "openvino": models.openvino_samples}
    path = samples.get(runtime, models.null_samples)()[0].write(tmp_path)
    engine = RUNTIMES.get(runtime)
    assert engine.open(path, EngineOptions(threads=1, lanes=5)).lanes == 5
    assert engine.open(path, EngineOptions(threads=1)).lanes >= 1
    with pytest.raises(InputError, match="one lane at least"):
        engine.open(path, EngineOptions(lanes=0))


# --- files they refuse ---


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "reference"])
def test_every_unknown_operation_is_named(tmp_path: Path, runtime: str) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    nodes = [
        helper.make_node("Foo", ["x"], ["y"], domain="my.ops"),
        helper.make_node("Bar", ["y"], ["z"], domain="my.ops"),
    ]
    graph = helper.make_graph(nodes, "g", [value], [out])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my.ops", 1)]
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    with pytest.raises(UnsupportedError) as refusal:
        RUNTIMES.get(runtime).open(path, ONE)
    assert sorted(refusal.value.offenders) == ["my.ops.Bar", "my.ops.Foo"]


def test_every_unknown_custom_operation_of_tflite_is_named(tmp_path: Path) -> None:
    writer = TfliteWriter()
    tensors = [writer.tensor(name, (1, 2)) for name in "xyz"]
    writer.op("custom:Foo", tensors[:1], tensors[1:2])
    writer.op("custom:Bar", tensors[1:2], tensors[2:])
    path = tmp_path / "odd.tflite"
    path.write_bytes(writer.finish(tensors[:1], tensors[2:]))
    with pytest.raises(UnsupportedError) as refusal:
        RUNTIMES.get("tflite").open(path, ONE)
    assert sorted(refusal.value.offenders) == ["Bar", "Foo"]


def test_newer_opset_is_unsupported_not_damaged(tmp_path: Path) -> None:
    model = models.dense()
    model.opset_import[0].version = 99
    path = tmp_path / "new.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="99"):
        RUNTIMES.get("onnx").open(path, ONE)


def test_openvino_without_its_weights(tmp_path: Path) -> None:
    path = models.openvino_samples()[0].write(tmp_path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ArtifactError, match=r"sample\.bin"):
        RUNTIMES.get("openvino").open(path, ONE)


def test_openvino_with_weights_cut_off(tmp_path: Path) -> None:
    path = models.openvino_samples()[0].write(tmp_path)
    os.truncate(path.with_suffix(".bin"), 10)
    with pytest.raises(ArtifactError, match=r"sample\.xml"):
        RUNTIMES.get("openvino").open(path, ONE)


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "reference"])
def test_a_name_that_is_no_text_is_a_damaged_file(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "named.onnx"
    path.write_bytes(models.dense().SerializeToString().replace(b"MatMul", b"\xff\xfe\xff\xfe\xff\xfe"))
    with pytest.raises((ArtifactError, UnsupportedError), match=r"named\.onnx"):
        RUNTIMES.get(runtime).open(path, ONE)


@pytest.mark.parametrize(("runtime", "format"), [("onnx", "tflite"), ("tflite", "onnx"), ("reference", "tflite")])
def test_a_runtime_refuses_formats_it_does_not_open(tmp_path: Path, runtime: str, format: str) -> None:
    path = (models.tflite_samples() if format == "tflite" else models.onnx_samples())[0].write(tmp_path)
    with pytest.raises(UnsupportedError, match=f"does not open {format}"):
        open_session(path, format, runtime, ONE)
    with pytest.raises(ArtifactError, match=format):
        RUNTIMES.get(runtime).open(path, ONE)


def test_external_weights_are_found_beside_the_file_only(tmp_path: Path) -> None:
    onnx.save(
        models.dense(), tmp_path / "dense.onnx", save_as_external_data=True, location="dense.bin", size_threshold=0
    )
    session = opened("onnx", tmp_path / "dense.onnx")
    feeds = RuntimeContract.feeds(session)
    RuntimeContract.assert_close(session.run(feeds), models.oracle(models.dense())(feeds), 1e-5)
    session.close()
    (tmp_path / "dense.bin").rename(tmp_path / "elsewhere.bin")
    with pytest.raises(ArtifactError, match=r"dense\.onnx"):
        RUNTIMES.get("onnx").open(tmp_path / "dense.onnx", ONE)


# --- which package computes TFLite ---


class TestResolver:
    """In children, as the choice is made once a process."""

    blocked: ClassVar[str] = (
        "import sys, importlib.util as u\n"
        "real = u.find_spec\n"
        "gone = set(sys.argv[1].split(','))\n"
        "u.find_spec = lambda name, *a: None if name.partition('.')[0] in gone else real(name, *a)\n"
        "from edgekit.registry import RUNTIMES\n"
        "probe = RUNTIMES.get('tflite').probe()\n"
        "print(probe.available, '|', probe.version, '|', probe.reason)\n"
    )

    def probe(self, without: str) -> str:
        ran = subprocess.run([sys.executable, "-c", self.blocked, without], capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    def test_litert_is_first(self) -> None:
        assert self.probe("none").startswith("True | ai-edge-litert 2.")

    def test_tensorflow_is_last(self) -> None:
        assert self.probe("ai_edge_litert,tflite_runtime").startswith("True | tensorflow")

    def test_none_is_said(self) -> None:
        said = self.probe("ai_edge_litert,tflite_runtime,tensorflow")
        assert said == "False |  | none of ai-edge-litert, tflite-runtime and tensorflow is installed"
