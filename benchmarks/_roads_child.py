"""One conversion in a process of its own: what it costs in time and memory.

    python _roads_child.py ROAD SOURCE TARGET SIZES

Runs in the environment of the road, which need not have edgekit. Prints one JSON line: seconds of CPU time and of the
clock, for the imports and for the conversion after them, and the peak resident memory of the process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

Sizes = dict[str, int]
"""A number for each size that a net leaves open."""


@dataclass(frozen=True)
class Road:
    """How a conversion is done.

    Attributes:
        modules: Imported beforehand, timed by themselves.
        drive: Converts the file given first to the one given second.
    """

    modules: tuple[str, ...]
    drive: Callable[[Path, Path, Sizes], None]


def hub(source: Path, sizes: Sizes) -> Any:
    """The cleaned graph of an .onnx file, its sizes fixed."""
    from edgekit.graph import bind_dimensions, clean, load, signature

    graph = clean(load(source))
    found = {}
    for spec in signature(graph).inputs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str):
                found[dim] = sizes.get(dim, other_size(sizes) if axis else 1)
    return bind_dimensions(graph, found)


def other_size(sizes: Sizes) -> int:
    """That of the one open dimension that is not the batch, which sources name as they like."""
    return next((size for dim, size in sizes.items() if dim != "batch"), 1)


def write_hub(format_name: str) -> Callable[[Path, Path, Sizes], None]:
    def drive(source: Path, target: Path, sizes: Sizes) -> None:
        converter = import_module(f"edgekit.converters.{format_name}").CONVERTER
        converter.write(hub(source, sizes), target, precision="fp32", plan=None)

    return drive


def write_openvino(source: Path, target: Path, sizes: Sizes) -> None:
    from edgekit.converters._openvino_child import convert
    from edgekit.converters.openvino import OpenVINOConverter

    OpenVINOConverter(convert).write(hub(source, sizes), target, precision="fp32", plan=None)


def read_tflite(source: Path, target: Path, sizes: Sizes) -> None:
    from edgekit.converters.tflite.raising import raise_model
    from edgekit.converters.tflite.reading import read_model
    from edgekit.graph import clean, save

    save(clean(raise_model(read_model(source))), target)


def read_keras(source: Path, target: Path, sizes: Sizes) -> None:
    from edgekit.converters._tensorflow_child import open_keras

    stage = target.with_suffix(".stage")
    stage.mkdir()
    answer = open_keras(str(source), str(stage))
    if answer["hub_error"]:
        raise RuntimeError(answer["hub_error"])
    write_hub("onnx")(Path(answer["exports"]["hub"]), target, sizes)


def keras_model(source: Path, sizes: Sizes) -> tuple[Any, list[Any]]:
    """The model, and what it is called with: batch 1, the other open size as given."""
    import keras
    import tensorflow as tf

    model = keras.models.load_model(source, compile=False)
    other = other_size(sizes)
    shapes = [(1, *[other if dim is None else dim for dim in value.shape[1:]]) for value in model.inputs]
    specs = [
        tf.TensorSpec(shape, value.dtype, name=value.name) for shape, value in zip(shapes, model.inputs, strict=True)
    ]
    return model, specs


def tensorflow(source: Path, target: Path, sizes: Sizes) -> None:
    """Keras -> SavedModel of batch 1 -> TFLite: of TensorFlow's ways the one that gives the fewest operations."""
    import tensorflow as tf
    from keras.export import ExportArchive

    model, specs = keras_model(source, sizes)
    archive = ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", lambda *x: model(list(x) if len(x) > 1 else x[0], training=False), input_signature=specs
    )
    folder = target.with_suffix(".savedmodel")
    archive.write_out(str(folder), verbose=False)
    target.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert())


def tf2onnx_keras(source: Path, target: Path, sizes: Sizes) -> None:
    import tf2onnx

    model, specs = keras_model(source, sizes)
    tf2onnx.convert.from_keras(model, input_signature=specs, opset=18, output_path=str(target))


def tf2onnx_tflite(source: Path, target: Path, sizes: Sizes) -> None:
    import tf2onnx

    tf2onnx.convert.from_tflite(str(source), opset=18, output_path=str(target))


def litert_torch(source: Path, target: Path, sizes: Sizes) -> None:
    """The exported program, taken again with the sizes fixed: open ones make it fail."""
    import litert_torch as litert
    import torch

    program = torch.export.load(source)
    shown = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    other, feeds = other_size(sizes), []
    for name in program.graph_signature.user_inputs:
        first, *rest = shown[name].shape
        shape = [first if isinstance(first, int) else 1, *[dim if isinstance(dim, int) else other for dim in rest]]
        feeds.append(torch.ones(shape, dtype=shown[name].dtype))
    litert.convert(program.module(), tuple(feeds)).export(str(target))


def onnx2tf(source: Path, target: Path, sizes: Sizes) -> None:
    """Its default road, without TensorFlow; the source has its sizes fixed."""
    import onnx2tf as tool

    folder = target.with_suffix(".folder")
    tool.convert(
        input_onnx_file_path=str(source), output_folder_path=str(folder), batch_size=sizes.get("batch", 1),
        copy_onnx_input_output_names_to_tflite=True, non_verbose=True,
    )  # fmt: skip
    (folder / f"{source.stem}_float32.tflite").rename(target)


def ovc(source: Path, target: Path, sizes: Sizes) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(source), target, compress_to_fp16=False)


_HUB = ("numpy", "onnx", "onnx_ir", "edgekit.graph")
_LITE = ("flatbuffers", "ai_edge_litert.schema_py_generated", "edgekit.converters.tflite")
_KERAS = ("tensorflow", "keras", "tf2onnx")
ROADS = {
    "ours": Road((*_HUB, *_LITE, "edgekit.converters.tflite.lowering"), write_hub("tflite")),
    "tensorflow": Road(("tensorflow", "keras"), tensorflow),
    "litert-torch": Road(("torch", "litert_torch"), litert_torch),
    "onnx2tf": Road(("onnx2tf.onnx2tf",), onnx2tf),
    "ours-to-openvino": Road((*_HUB, "openvino", "edgekit.converters.openvino"), write_openvino),
    "ovc": Road(("openvino",), ovc),
    "ours-from-keras": Road((*_HUB, *_KERAS, "edgekit.converters.onnx"), read_keras),
    "tf2onnx-from-keras": Road(_KERAS, tf2onnx_keras),
    "ours-from-tflite": Road((*_HUB, *_LITE, "edgekit.converters.tflite.raising"), read_tflite),
    "tf2onnx-from-tflite": Road(("tensorflow", "tf2onnx"), tf2onnx_tflite),
}


def peak_mb() -> float:
    """Of this program alone: what `getrusage` says begins with the process that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of CPU time and of the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - clock


def main() -> None:
    name, source, target, sizes = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
    road = ROADS[name]
    import_cpu_s, import_s = timed(lambda: [import_module(module) for module in road.modules])
    cpu_s, clock_s = timed(lambda: road.drive(source, target, sizes))
    found = {"import_cpu_s": import_cpu_s, "import_s": import_s, "cpu_s": cpu_s, "clock_s": clock_s}
    print("\n" + json.dumps({**found, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
