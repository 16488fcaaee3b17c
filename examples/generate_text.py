"""Text out of a small language model, byte by byte, on any engine:

edgekit models make llm -o llm.onnx
python generate_text.py llm.onnx "The number of"
"""

import sys

import edgekit
from edgekit.models.llm import generate


def main(path: str, prompt: str) -> None:
    with edgekit.load(path) as model:
        sys.stdout.write(prompt)
        sys.stdout.flush()
        for byte in generate(model.run, model.signature, prompt, 200, temperature=0.5):
            sys.stdout.buffer.write(byte)
            sys.stdout.buffer.flush()
    print()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
