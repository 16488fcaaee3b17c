"""Digits by a ResNet that learns to live with int8, and is written for this machine:

python finetune.py resnet.edge
"""

import sys

import numpy as np
import torch

import edgekit
from edgekit.compress import finetune
from edgekit.datasets import open_dataset
from edgekit.making import find_model
from edgekit.network.torch_form import to_torch


def main(output: str) -> None:
    model = find_model("resnet:tiny")
    module = to_torch(model.network, model.weights.arrays)  # any torch.nn.Module will do
    samples = open_dataset("mnist").samples("calibration")
    signature = model.network.signature()
    data = np.concatenate([model.processing.before(sample.value, signature)["image"] for sample in samples])
    tuned = finetune(module, np.split(data, 8), recipe="w8a8", steps=40, say=print)  # data: [200, 1, 28, 28]
    report = edgekit.convert(
        tuned,
        output,
        example_inputs=(torch.from_numpy(data[:1]),),
        precision=("fp32", "int8"),
        calibration_data=samples.path,
        processing=model.processing,
    )
    print(*(f"{variant.format} {variant.precision} {variant.status}" for variant in report.variants), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
