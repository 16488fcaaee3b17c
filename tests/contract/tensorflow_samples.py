"""Small TensorFlow and Keras sources, built in a child process so that no test needs the frameworks in its own."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from edgekit.worker import Worker

__all__ = ["build", "folder"]


@functools.cache
def folder() -> Path:
    """A folder with all of them, built once a session: what is in it is said in `build`."""
    place = Path(tempfile.mkdtemp(prefix="edgekit-samples-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    with Worker("samples", env=quiet) as worker:
        worker.call("tests.contract.tensorflow_samples:build", place=str(place))
    return place


def build(place: str) -> None:
    """In the child: two_inputs/, no_onnx/, strings/ and reads_files/ are SavedModels, the rest are Keras files."""
    root = Path(place)
    for make in (_two_inputs, _no_onnx, _strings, _reads_files):
        make(root)
    _keras_models(root)


def _save(root: Path, name: str, function: Any, specs: list[Any]) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(root / name), signatures={"serving_default": module.serve})


def _two_inputs(root: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.matrix = tf.Variable(tf.random.stateless_normal([6, 4], seed=[1, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None, 6], name="left"), tf.TensorSpec([None, 6], name="right")])
    def serve(left: Any, right: Any) -> dict[str, Any]:
        product = tf.matmul(tf.nn.relu(left - right), module.matrix)
        return {"z_first": tf.nn.softmax(product), "a_second": tf.math.erfc(product)}

    tf.saved_model.save(module, str(root / "two_inputs"), signatures={"serving_default": serve})


def _no_onnx(root: Path) -> None:
    import tensorflow as tf

    def serve(x: Any) -> dict[str, Any]:
        return {"y": tf.raw_ops.BesselI0e(x=x) + tf.math.igamma(tf.ones_like(x), tf.abs(x))}

    _save(root, "no_onnx", serve, [tf.TensorSpec([None, 4], name="x")])


def _strings(root: Path) -> None:
    import tensorflow as tf

    def serve(text: Any) -> dict[str, Any]:
        return {"upper": tf.strings.upper(text), "length": tf.strings.length(text)}

    _save(root, "strings", serve, [tf.TensorSpec([None], tf.string, name="text")])


def _reads_files(root: Path) -> None:
    import tensorflow as tf

    def serve(x: Any) -> dict[str, Any]:
        length = tf.strings.length(tf.io.read_file("/etc/hostname"))
        return {"y": x + tf.cast(length, tf.float32)}

    _save(root, "reads_files", serve, [tf.TensorSpec([None, 4], name="x")])


def _keras_models(root: Path) -> None:
    """awkward.keras: a dict of inputs, twice the same output layer, gelu; lambdas.keras and .h5: two Lambda layers."""
    import keras

    keras.utils.set_random_seed(3)
    left, right = keras.Input((5,), name="left side"), keras.Input((7, 3), name="right")
    shared = keras.layers.Dense(4, activation="gelu", name="shared")
    pooled = keras.layers.GlobalAveragePooling1D()(right)
    first, second = shared(keras.layers.Dense(6)(left)), shared(keras.layers.Dense(6)(pooled))
    keras.Model({"left side": left, "right": right}, [first, second]).save(root / "awkward.keras")

    x = keras.Input((4,))
    y = keras.layers.Lambda(lambda t: t + 1, name="plus_one", output_shape=(4,))(x)
    model = keras.Model(x, keras.layers.Lambda(lambda t: t * 2, name="doubled", output_shape=(4,))(y))
    model.save(root / "lambdas.keras")
    model.save(root / "lambdas.h5")
