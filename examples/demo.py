"""A trained model on its way to a device: what ``make demo`` and ``make demo-photos`` run, command by command.

    python examples/demo.py            a small ResNet that reads handwritten digits, trained here, on MNIST
    python examples/demo.py photos     EfficientNet-Lite0 with its published ImageNet weights, on 20 labeled photos

It is converted for this machine in every format and precision, looked at, verified, judged by labeled data, asked about
a picture, and measured.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from assets import LITE0, put_photos  # beside this script

CACHE = Path(__file__).resolve().parent.parent / ".cache"

DIGITS = [
    "edgekit convert resnet:tiny -o resnet.edge --target host --precision fp32,fp16,int8 --force",
    "edgekit inspect resnet.edge",
    "edgekit verify resnet.edge",
    "edgekit models data mnist -o mnist --force",
    "edgekit evaluate resnet.edge --data mnist",
    "edgekit predict resnet.edge mnist/test/7/0700.png",
    "edgekit profile resnet.edge",
]

PHOTOS = [
    f"edgekit convert efficientnet-lite:lite0 --weights {LITE0} -o photos.edge --target host --precision fp32,int8"
    " --calibration-data crops --force",
    "edgekit inspect photos.edge",
    "edgekit verify photos.edge",
    "edgekit evaluate photos.edge --data photos",
    "edgekit predict photos.edge 'photos/class 243/00.jpg'",
    "edgekit profile photos.edge",
]


def main(arguments: list[str]) -> int:
    start = time.monotonic()
    folder = CACHE / ("demo-photos" if arguments else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    if arguments:
        put_photos(folder)
    edgekit = shutil.which("edgekit", path=Path(sys.executable).parent)
    if edgekit is None:
        print("edgekit is not installed in this environment; run: make setup", file=sys.stderr)
        return 1
    for command in PHOTOS if arguments else DIGITS:
        print(f"\n$ {command}", flush=True)
        status = subprocess.run([edgekit, *shlex.split(command)[1:]], cwd=folder, check=False).returncode
        if status:
            print(f"demo stopped: exit code {status}", file=sys.stderr)
            return status
    print(f"\nAll of it took {time.monotonic() - start:.0f} s. The bundle is in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
