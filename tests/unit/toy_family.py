"""A family small enough to be trained in a test: rows of four numbers, sorted into three classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.family import Batch, Family, Size, Training
from edgekit.network import Network
from edgekit.processing import Processing

LABELS = ("low", "middle", "high")


def build(name: str, *, classes: int, hidden: int) -> Network:
    net = Network(name)
    x = net.input("x", ("batch", 4))
    x = net.dropout(net.relu(net.batch_norm(net.dense(x, "fc1", hidden, start="he"), "norm")), 0.1)
    net.output(net.softmax(net.dense(x, "fc2", classes)), "probabilities")
    return net


def loss(outputs: Batch, targets: Batch) -> Any:
    import torch

    return torch.nn.functional.nll_loss(torch.log(outputs["probabilities"] + 1e-9), targets["class"])


def targets(truth: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {"class": np.array(labels.index(truth["label"]))}


def jitter(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    return {"x": feeds["x"] + generator.normal(0, 0.01, feeds["x"].shape).astype("float32")}, targets


def family(**changes: Any) -> Family:
    """The family; `changes` replace what it is trained with."""
    recipe = {"loss": loss, "targets": targets, "epochs": 4, "batch_size": 8, "learning_rate": 3e-2} | changes
    return Family(
        name="toy",
        title="Toy: three classes of four numbers",
        task="classification",
        paper="none",
        frameworks=("keras", "torch", "onnx"),
        build=build,
        sizes={"tiny": Size({"classes": 3, "hidden": 8}), "wide": Size({"classes": 3, "hidden": 16})},
        published="wide",
        processing=Processing(outputs=({"op": "top_k", "k": 1},), labels=LABELS),
        data="none",
        metric="top1",
        score=0.9,
        tolerance=0.1,
        training=Training(**recipe),
    )


def write_table(
    folder: Path, labels: tuple[str, ...] = LABELS, *, rows: int = 200, width: int = 4, seen: int | None = None
) -> Path:
    """A data set: the class of a row is which third (or half, ...) its mean is in; only the first `seen` occur."""
    generator = np.random.default_rng(3)
    folder.mkdir(parents=True)
    for split, count in (("train", rows), ("test", 90)):
        index = np.arange(count) % (seen or len(labels))
        x = generator.uniform(-0.2, 0.2, (count, width)) + (index[:, None] + 0.5) / len(labels) * 2
        np.savez(folder / f"{split}.npz", x=x.astype("float32"), labels=np.array(labels)[index])
    lines = ["schema: edgekit.dataset", "version: 1", "name: table", f"labels: [{', '.join(labels)}]"]
    lines += ["train: train.npz", "test: test.npz"]
    (folder / "dataset.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
