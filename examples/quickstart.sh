#!/usr/bin/env bash
# From a trained model to a bundle on the command line. Run it in a folder with emotion_model.hdf5, faces/ and face.png:
#   python examples/assets.py FOLDER && cd FOLDER
set -euo pipefail

edgekit doctor
edgekit convert emotion_model.hdf5 -o emotion.edge --target raspberry-pi-5 --precision fp32,fp16,int8 --calibration-data faces/
edgekit inspect emotion.edge
edgekit verify emotion.edge
edgekit predict emotion.edge face.png
edgekit profile emotion.edge --runtime tflite    # without --runtime: every engine, which takes longer
