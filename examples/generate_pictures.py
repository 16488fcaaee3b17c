"""Digits out of noise, drawn by a diffusion model on any engine, as one picture of 4 x 8:

edgekit models make diffusion -o diffusion.onnx
python generate_pictures.py diffusion.onnx digits.png
"""

import sys

import numpy as np
from PIL import Image

import edgekit
from edgekit.models.diffusion import sample


def main(path: str, picture: str) -> None:
    with edgekit.load(path) as model:
        drawn = sample(model.run, 32, steps=50, seed=0, batch=32)  # [32, 1, 8, 8] in -1..1
    rows = drawn.reshape(4, 8, 8, 8).transpose(0, 2, 1, 3).reshape(32, 64)
    pixels = np.rint((rows + 1) * 127.5).astype(np.uint8)
    Image.fromarray(pixels).resize((512, 256), Image.Resampling.NEAREST).save(picture)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
