"""Small networks that tests of graphs, plans and writers share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

__all__ = ["custom_operations", "from_text", "old_opset", "recurrent_network", "residual_network"]


def from_text(
    body: str,
    *,
    inputs: str = 'float["batch",8,16,16] x',
    outputs: str = "float[a,b,c,d] y",
    opset: int = 17,
    **weights: np.ndarray,
) -> ir.Model:
    """A model of ONNX text, with `weights` as initializers."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> m ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return ir.from_proto(model)


def residual_network(seed: int = 0) -> ir.Model:
    """A CNN of 59,000 weights: batch norms, Relu6, depthwise and residual blocks, pools, a dense layer, softmax."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {"low": np.float32(0), "high": np.float32(6)}

    def convolve(source: str, ins: int, outs: int, size: int, groups: int = 1, after: str = "") -> str:
        name = f"conv{len(nodes)}"
        weights[f"{name}_w"] = rng.normal(0, (2 / (ins // groups * size**2)) ** 0.5, (outs, ins // groups, size, size))
        nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}_w"], [name], name, pads=[size // 2] * 4, group=groups, kernel_shape=[size] * 2
            )
        )
        statistics = {"g": rng.uniform(0.5, 1.5, outs), "b": rng.normal(0, 0.2, outs),
                      "m": rng.normal(0, 0.2, outs), "v": rng.uniform(0.5, 1.5, outs)}  # fmt: skip
        weights.update({f"{name}_{key}": array for key, array in statistics.items()})
        nodes.append(helper.make_node("BatchNormalization", [name, *(f"{name}_{k}" for k in "gbmv")], [f"{name}_n"]))
        limits = ["low", "high"] if after == "Clip" else []
        if after:
            nodes.append(helper.make_node(after, [f"{name}_n", *limits], [f"{name}_a"]))
        return f"{name}_a" if after else f"{name}_n"

    stem = convolve("image", 3, 32, 3, after="Relu")
    nodes.append(helper.make_node("MaxPool", [stem], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]))
    wide = convolve("pool", 32, 96, 1, after="Clip")
    deep = convolve(wide, 96, 96, 3, groups=96, after="Clip")
    narrow = convolve(deep, 96, 32, 1)
    nodes.append(helper.make_node("Add", ["pool", narrow], ["sum"], "residual"))
    nodes.append(helper.make_node("Relu", ["sum"], ["sum_a"], "residual_relu"))
    last = convolve("sum_a", 32, 128, 3, after="Relu")
    weights |= {"matrix": rng.normal(0, 0.15, (128, 10)), "offset": rng.normal(0, 0.1, 10)}
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "matrix"], ["product"], "dense"),
        helper.make_node("Add", ["product", "offset"], ["logits"], "dense_bias"),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", 1, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("scores", 1, ["batch", 10])],
        [numpy_helper.from_array(np.asarray(array, "float32"), name) for name, array in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def recurrent_network() -> ir.Model:
    """An LSTM and nothing else with weights."""
    rng = np.random.default_rng(1)
    return from_text(
        "a, h, c = LSTM<hidden_size=4>(x, w, r) y = Squeeze(a, one)",
        inputs='float["steps","batch",3] x',
        outputs="float[s,b,h] y",
        w=rng.normal(0, 1, (1, 16, 3)).astype("float32"),
        r=rng.normal(0, 1, (1, 16, 4)).astype("float32"),
        one=np.array([1]),
    )


def old_opset(path: Path) -> Path:
    """A convolution and a pad in opset 11, where Pad and Clip are older ones."""
    rng = np.random.default_rng(2)
    model = from_text(
        "p = Pad(x, amounts) c = Conv(p, w) r = Clip(c, low, high) s = Squeeze<axes=[0]>(r) y = Unsqueeze<axes=[0]>(s)",
        inputs="float[1,2,6,6] x",
        opset=11,
        w=rng.normal(0, 1, (3, 2, 3, 3)).astype("float32"),
        amounts=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        low=np.float32(0),
        high=np.float32(6),
    )
    model.graph.outputs[0].shape = ir.Shape((1, 3, 6, 6))
    ir.save(model, path)
    return path


def custom_operations(path: Path) -> Path:
    """A model with two operations of nobody's domain."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]> m (float[4] x) => (float[4] y) {'
        " a = com.example.Frobnicate(x) b = Relu(a) y = com.example.Quux(b) }"
    )
    path.write_bytes(model.SerializeToString())
    return path
