"""What runs inside the TensorFlow child: opens a Keras or TensorFlow model once, answers feeds, and exports it.

Every public function here is called by name through `edgekit.worker.Worker` and takes and gives JSON; arrays travel as
.npz files. TensorFlow is imported inside functions only, so importing this module is cheap. One child holds one model.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters import _tensorflow_scan as scan
from edgekit.errors import ArtifactError, ConversionError, EdgekitError, UnsupportedError
from edgekit.graph.naming import distinct
from edgekit.registry import installed
from edgekit.spec import DTYPES, Signature, TensorSpec

__all__ = ["open_keras", "open_saved_model", "run", "to_tflite"]

SIGNATURE = "serving_default"
_PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "tf2onnx", "h5py")


@dataclass
class _Model:
    """The one model of this process.

    Attributes:
        answer: The source's own computation: tensors in the order of the signature to tensors by output name.
        signature: Names, dtypes and shapes.
        save: Writes a SavedModel of `answer` for the given input specifications.
    """

    answer: Callable[[Sequence[Any]], Mapping[str, Any]]
    signature: Signature
    save: Callable[[Sequence[Any], Path], None]


_OPEN: list[_Model] = []


def open_keras(path: str, stage: str) -> dict[str, Any]:
    """Opens a .keras or HDF5 file and exports it under the folder `stage`.

    Raises:
        UnsupportedError: It carries Python code, or layers that are not Keras's own.
        ArtifactError: It is damaged.
    """
    scan.refuse_code(Path(path))
    return _register(_keras_model(_load_keras(Path(path), Path(stage))), Path(stage), notes=[])


def open_saved_model(path: str, stage: str) -> dict[str, Any]:
    """Opens a SavedModel folder by the modern loader, or by TensorFlow 1's where that one refuses, and exports it.

    Raises:
        UnsupportedError: It reads or gives strings, touches files, or has no single signature to serve.
        ArtifactError: It is damaged.
    """
    key = scan.serving_signature(Path(path))
    model, notes = _saved_model(Path(path), key)
    return _register(model, Path(stage), notes)


def run(feeds: str, results: str) -> None:
    """Answers the arrays of the .npz file `feeds` by name and writes the outputs as the .npz file `results`."""
    import tensorflow as tf

    model = _OPEN[0]
    with np.load(feeds) as given:
        tensors = [tf.constant(given[spec.name], dtype=spec.dtype) for spec in model.signature.inputs]
    answer = model.answer(tensors)
    arrays = {spec.name: np.asarray(answer[spec.name]) for spec in model.signature.outputs}
    np.savez(results, **arrays)  # type: ignore[arg-type]


def to_tflite(path: str, precision: str) -> None:
    """Writes the model at batch 1 as a .tflite file in ``"fp32"`` or ``"fp16"`` (weights) by TensorFlow's converter.

    Raises:
        UnsupportedError: Some operations have no TFLite built-in; lists them all.
        ConversionError: The converter failed otherwise.
    """
    import tensorflow as tf

    model = _OPEN[0]
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        model.save(_tensor_specs(model.signature, 1), Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if precision == "fp16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
        except Exception as error:
            raise _explain(str(error)) from error
    Path(path).write_bytes(content)


def _explain(message: str) -> EdgekitError:
    """TensorFlow's converter says everything in one long text; what was missing stands in it by name."""
    missing = set(re.findall(r"'(tf\.\w+)' op is neither a custom op nor a flex op", message))
    for listed in re.findall(r"(?:Flex|Custom) ops: ([\w, ]+)", message):
        missing |= {f"tf.{name.strip().removeprefix('Flex')}" for name in listed.split(",")}
    if missing:
        return UnsupportedError("operations without a TFLite built-in", offenders=sorted(missing))
    errors = re.findall(r"error: (.+)", message)
    said = errors[-1] if errors else (message.strip().splitlines() or ["no message"])[0]
    return ConversionError(f"TensorFlow's TFLite converter refused: {said[:300]}", vendor_message=message[-4000:])


def _register(model: _Model, stage: Path, notes: list[str]) -> dict[str, Any]:
    from edgekit.converters import _tensorflow_hub as hub

    _OPEN[:] = [model]
    folder = stage / "saved_model"
    model.save(_tensor_specs(model.signature, None), folder)
    exports = {"saved_model": str(folder)}
    hub_error = hub.write(folder, model.signature, stage / "hub.onnx")
    if not hub_error:
        exports["hub"] = str(stage / "hub.onnx")
    return {
        "signature": model.signature.to_json(),
        "exports": exports,
        "hub_error": hub_error,
        "notes": notes,
        "versions": installed(*_PACKAGES),
    }


def _tensor_specs(signature: Signature, batch: int | None) -> list[Any]:
    import tensorflow as tf

    def size(dim: int | str) -> int | None:
        return dim if isinstance(dim, int) else batch if dim == "batch" else None

    return [tf.TensorSpec([size(d) for d in s.shape], s.dtype, name=s.name) for s in signature.inputs]


# --- Keras ---------------------------------------------------------------------------------------------------------


def _load_keras(path: Path, stage: Path) -> Any:
    import keras

    # Keras chooses its loader by the name's ending; the content has already said which it is.
    link = stage / ("source.keras" if scan.is_keras_zip(path) else "source.h5")
    link.symlink_to(path.resolve())
    try:
        return keras.saving.load_model(link, compile=False, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        if unknown := re.findall(r"(?:Could not locate (?:class|function) |Unknown \w+: )'?([\w.>]+)", str(error)):
            raise UnsupportedError(
                "made of classes that are not Keras's own",
                offenders=sorted(set(unknown)),
                hint="export it as a SavedModel where its code is at hand: model.export(folder)",
            ) from error
        raise ArtifactError(f"Keras cannot load it: {said}", hint="is it damaged, or not a whole model?") from error
    finally:
        link.unlink()


def _keras_model(model: Any) -> _Model:
    import keras

    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise UnsupportedError(
            f"a {type(model).__name__} without declared inputs and outputs",
            hint="export it as a SavedModel where its code is at hand: model.export(folder)",
        )
    inputs = distinct([tensor.name for tensor in model.inputs], taken=())
    outputs = distinct(_keras_output_names(model), taken=inputs)
    # The same layers and weights, taking a flat list and giving outputs by name, whatever structure the source has.
    flat = keras.Model(list(model.inputs), dict(zip(outputs, model.outputs, strict=True)))
    signature = _symbolic(
        [(n, str(t.dtype), t.shape) for n, t in zip(inputs, model.inputs, strict=True)],
        [(n, str(t.dtype), t.shape) for n, t in zip(outputs, model.outputs, strict=True)],
    )
    if keras.config.image_data_format() == "channels_last":
        signature = replace(signature, inputs=_with_layout(signature.inputs, model))

    def answer(tensors: Sequence[Any]) -> Mapping[str, Any]:
        return flat(list(tensors), training=False)

    def save(specs: Sequence[Any], folder: Path) -> None:
        archive = keras.export.ExportArchive()
        archive.track(flat)
        archive.add_endpoint(SIGNATURE, lambda *tensors: answer(tensors), input_signature=list(specs))
        archive.write_out(folder, verbose=False)

    return _Model(answer, signature, save)


def _keras_output_names(model: Any) -> list[str]:
    """The keys of a dict of outputs; else the names of the layers that give them, as Keras itself calls outputs."""
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, dict) and len(structure) == len(model.outputs):
        return sorted(structure)  # Keras flattens dicts in the order of their keys
    if names := getattr(model, "output_names", None):
        return list(names)
    return [tensor._keras_history.operation.name for tensor in model.outputs]


def _with_layout(inputs: Iterable[TensorSpec], model: Any) -> tuple[TensorSpec, ...]:
    """Marks images: inputs of rank 4 of a model whose own layers say that channels come last."""
    formats = {getattr(layer, "data_format", None) for layer in model._flatten_layers()} - {None}
    is_known = formats == {"channels_last"}
    return tuple(replace(spec, layout="NHWC") if is_known and len(spec.shape) == 4 else spec for spec in inputs)


# --- SavedModel ------------------------------------------------------------------------------------------------------


def _saved_model(path: Path, key: str) -> tuple[_Model, list[str]]:
    import tensorflow as tf

    try:
        holder = tf.saved_model.load(str(path), tags=["serve"])
        function, notes = holder.signatures[key], []
    except MemoryError:
        raise
    except Exception as modern:  # noqa: BLE001 - what it raises is an accident of the object graph; both are reported
        said = f"{type(modern).__name__}: {str(modern)[:120]}"
        try:
            holder, function = None, _load_by_tensorflow1(path, key)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ArtifactError(
                f"TensorFlow cannot load it: {lines[0][:300]}", hint=f"its modern loader said {said}"
            ) from error
        notes = [f"read by TensorFlow 1's loader and frozen: the modern one refuses it ({said})"]
    return _served(holder, function, scan.signature_tensors(path, key)), notes


def _load_by_tensorflow1(path: Path, key: str) -> Callable[..., Mapping[str, Any]]:
    """The signature as a function without variables, for folders whose object graph today's loader cannot rebuild."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        definition = v1.saved_model.loader.load(session, ["serve"], str(path)).signature_def[key]
        ends = sorted({tensor.name.partition(":")[0] for tensor in definition.outputs.values()})
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ends)
    whole = v1.wrap_function(lambda: tf.import_graph_def(frozen, name=""), [])
    names = sorted(definition.inputs)
    pruned = whole.prune(
        [definition.inputs[name].name for name in names],
        {name: definition.outputs[name].name for name in sorted(definition.outputs)},
    )
    return lambda **given: pruned(*[given[name] for name in names])


def _served(holder: Any, function: Callable[..., Mapping[str, Any]], declared: scan.Tensors) -> _Model:
    """A model of `function`, which takes inputs by name; `holder` keeps its variables alive."""
    import tensorflow as tf

    inputs = distinct([name for name, _, _ in declared.inputs], taken=())
    outputs = distinct([name for name, _, _ in declared.outputs], taken=inputs)
    signature = _symbolic(
        [(ours, dtype, shape) for ours, (_, dtype, shape) in zip(inputs, declared.inputs, strict=True)],
        [(ours, dtype, shape) for ours, (_, dtype, shape) in zip(outputs, declared.outputs, strict=True)],
    )
    theirs_in, theirs_out = [name for name, _, _ in declared.inputs], [name for name, _, _ in declared.outputs]

    def answer(tensors: Sequence[Any]) -> Mapping[str, Any]:
        got = function(**dict(zip(theirs_in, tensors, strict=True)))
        return {ours: got[theirs] for ours, theirs in zip(outputs, theirs_out, strict=True)}

    def save(specs: Sequence[Any], folder: Path) -> None:
        batch = next((spec.shape[0] for spec in specs if spec.shape.rank), None)

        def serve(*tensors: Any) -> Mapping[str, Any]:
            results = answer(tensors)
            for spec in signature.outputs:
                known = [d if isinstance(d, int) else batch if d == "batch" else None for d in spec.shape]
                results[spec.name].set_shape(known)
            return results

        module = tf.Module()
        module.source = holder
        module.serve = tf.function(serve, input_signature=list(specs))
        tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.serve.get_concrete_function()})

    return _Model(answer, signature, save)


# --- names and shapes ------------------------------------------------------------------------------------------------


_Described = tuple[str, str, Sequence[int | None]]


def _symbolic(inputs: Sequence[_Described], outputs: Sequence[_Described]) -> Signature:
    """A signature with a name for each size that is open: "batch" first of all, "time" or the axis for the others.

    Open sizes of different tensors get different names but for the batch: nothing says that they are equal.
    """
    if wrong := [f"{name}: {dtype}" for name, dtype, _ in [*inputs, *outputs] if dtype not in DTYPES]:
        raise UnsupportedError("tensors of a type no format has", offenders=wrong)
    free = [name for name, _, shape in inputs if any(d is None for d in shape[1:])]

    def spec(described: _Described, only: bool) -> TensorSpec:
        name, dtype, shape = described
        dims: list[int | str] = []
        for axis, size in enumerate(shape):
            word = "time" if axis == 1 and len(shape) == 3 else f"dim{axis}"
            symbol = "batch" if axis == 0 else word if only else f"{name}_{word}"
            dims.append(symbol if size is None else int(size))
        return TensorSpec(name, dtype, tuple(dims))

    return Signature(tuple(spec(i, free == [i[0]]) for i in inputs), tuple(spec(o, False) for o in outputs))
