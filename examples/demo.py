"""A trained model on its way to a device: what ``make demo`` runs, command by command, on real data.

The model reads facial expressions (mini-Xception, Keras HDF5, 58,423 parameters). It is converted for this machine in
every format and three precisions, looked at, verified, asked about an astronaut's face, and measured.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from assets import put_examples  # beside this script

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "demo"

COMMANDS = [
    "edgekit convert emotion_model.hdf5 -o emotion.edge --target host --precision fp32,fp16,int8"
    " --calibration-data faces --force",
    "edgekit inspect emotion.edge",
    "edgekit verify emotion.edge",
    "edgekit predict emotion.edge face.png",
    "edgekit profile emotion.edge",
]


def main() -> int:
    start = time.monotonic()
    put_examples(FOLDER)
    edgekit = shutil.which("edgekit", path=Path(sys.executable).parent)
    if edgekit is None:
        print("edgekit is not installed in this environment; run: make setup", file=sys.stderr)
        return 1
    for command in COMMANDS:
        print(f"\n$ {command}", flush=True)
        status = subprocess.run([edgekit, *shlex.split(command)[1:]], cwd=FOLDER, check=False).returncode
        if status:
            print(f"demo stopped: exit code {status}", file=sys.stderr)
            return status
    print(f"\nAll of it took {time.monotonic() - start:.0f} s. The bundle is {FOLDER / 'emotion.edge'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
