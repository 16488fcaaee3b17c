"""From a trained model to a bundle in Python. Run it in a folder with emotion_model.hdf5, faces/ and face.png:

python examples/assets.py FOLDER && cd FOLDER
"""

import numpy as np

import edgekit


def main() -> None:
    report = edgekit.convert(
        "emotion_model.hdf5",
        "quick.edge",
        target="raspberry-pi-5",
        precision=("fp32", "int8"),
        calibration_data="faces",
    )
    for variant in report.variants:
        print(f"{variant.name:16} {variant.status:8} {variant.size_bytes or 0:>9} bytes  {variant.reason}")

    with edgekit.load("quick.edge") as model:  # the best variant this machine can run
        print(model.runtime, model.precision, *map(str, model.signature.inputs))
        print(model.predict("face.png"))  # processing, engine, labels

        raw = model.run({spec.name: np.zeros([1, 64, 64, 1], "float32") for spec in model.signature.inputs})
        print({name: array.shape for name, array in raw.items()})


if __name__ == "__main__":  # convert starts child processes
    main()
