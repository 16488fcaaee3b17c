"""A deep autoencoder that hears what is unusual: it repeats a few frames of sound, and badly those it never heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.family import Batch, Family, Paper, Size, Training
from edgekit.network import Network
from edgekit.processing import ANY_INPUT, Processing

__all__ = ["FAMILY", "build"]

_RATE_HZ = 16000
_FRAMES = 5


def build(name: str, *, features: int, widths: Sequence[int]) -> Network:
    """[batch, features] -> the same, through dense layers of `widths`, each normalized and rectified.

    Layers are named as in the reference implementation of MLPerf Tiny's anomaly detection.
    """
    net = Network(name)
    x = net.input("frames", ["batch", features])
    for number, width in enumerate(widths, start=1):
        x = net.dense(x, f"dense_{number}", width, start="he")
        x = net.relu(net.batch_norm(x, f"batch_normalization_{number}", epsilon=1e-3))
    net.output(net.dense(x, f"dense_{len(widths) + 1}", features), "reconstruction")
    return net


def _loss(outputs: Batch, targets: Batch) -> Any:
    from torch.nn.functional import mse_loss

    return mse_loss(outputs["reconstruction"], targets["frames"])


def _processing(bins: int, mean: float = 0.0, std: float = 1.0) -> Processing:
    """Sound as windows of 5 frames, of 64 ms and 32 ms apart, of the logarithm of energy in so many bins."""
    spectrum = {"op": "log_mel", "rate_hz": _RATE_HZ, "window_ms": 64.0, "hop_ms": 32.0, "bins": bins}
    return Processing(
        {
            ANY_INPUT: (
                {"op": "decode_wav", "rate_hz": _RATE_HZ},
                {"op": "mono"},
                {"op": "resample", "rate_hz": _RATE_HZ},
                spectrum,
                {"op": "normalize", "mean": mean, "std": std},
                {"op": "window_context", "frames": _FRAMES},
            )
        },
        ({"op": "reconstruction_error"},),
        ("normal", "anomaly"),
    )


_PAPER = Paper(
    "MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597), benchmark/training/anomaly_detection/keras_model.py of "
    "mlcommons/tiny; the paper says 270 KB at 8 bits",
    parameters=270_000,
)

FAMILY = Family(
    name="autoencoder",
    title="deep autoencoder for sound",
    task="anomaly detection",
    paper="Banbury et al. 2021, arXiv:2106.07597",
    frameworks=("torch", "keras", "onnx"),
    build=build,
    sizes={
        "tiny": Size({"features": _FRAMES * 48, "widths": (56, 56, 56, 16, 56, 56, 56)}),
        "mlperf-tiny": Size(
            {"features": _FRAMES * 128, "widths": (*(128,) * 4, 8, *(128,) * 4)},
            _processing(128),
            _PAPER,
        ),
    },
    published="mlperf-tiny",
    processing=_processing(48, mean=-0.7, std=3.2),
    data="hum",
    metric="auc",
    score=0.931,
    tolerance=0.02,
    training=Training(_loss, None, epochs=120, batch_size=256, learning_rate=2e-3),
)
