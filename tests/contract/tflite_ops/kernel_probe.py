"""Single operations run by LiteRT's kernels against numpy, in a process that may be aborted.

``python -m tests.contract.tflite_ops.kernel_probe [JOBS]`` prints as JSON what is wrong with each operation in each
type, or with each version of an operation; JOBS is a JSON list of pairs of an operation and a type or a version.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.contract.tflite_ops.kernel_cases import CODES, DTYPES, Case, cases

__all__ = ["probe", "refused_version", "run"]


def run(code: str, case: Case) -> str:
    """Empty when the kernel gives what numpy gives, else what is wrong; may take the process with it."""
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.converters.tflite.model import Graph, LiteModel, Op, Tensor
    from edgekit.converters.tflite.writing import write_model

    tensors = [
        Tensor(f"i{i}", array.shape, array.dtype.name, array.copy() if i in case.constants else None)
        for i, array in enumerate(case.inputs)
    ]
    outputs = [Tensor(f"o{i}", array.shape, array.dtype.name) for i, array in enumerate(case.expected)]
    fed = [tensor for tensor in tensors if tensor.data is None]
    graph = Graph("main", fed, outputs, [Op(code, list(tensors), outputs, case.options)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "op.tflite"
        write_model(LiteModel(graph, [t.name for t in fed], [t.name for t in outputs]), path)
        content = path.read_bytes()
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], case.inputs[int(detail["name"][1:])].copy())
        interpreter.invoke()
        found = {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
    except (RuntimeError, ValueError) as error:
        return str(error).strip().split("\n")[0][:90] or "refused"
    for tensor, expected in zip(outputs, case.expected, strict=True):
        got = found[tensor.name]
        if got.shape != expected.shape or got.dtype != expected.dtype:
            return f"gives {got.dtype}{got.shape}"
        rough = expected.dtype == "float16"
        if not np.allclose(got, expected, 5e-3 if rough else 1e-5, 5e-3 if rough else 1e-6):
            return f"wrong on {[array.shape for array in case.inputs]}"
    return ""


def refused_version(code: str, version: int) -> str:
    """What LiteRT says to a file with this version of an operation when it does not know it."""
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.converters.tflite import writing
    from edgekit.converters.tflite.model import Graph, LiteModel, Op, Tensor

    x, y = Tensor("x", (1,), "float32"), Tensor("y", (1,), "float32")
    known = vars(writing)["version_of"]
    vars(writing)["version_of"] = lambda op: version
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "op.tflite"
            writing.write_model(LiteModel(Graph("main", [x], [y], [Op(code, [x], [y])]), ["x"], ["y"]), path)
            Interpreter(model_path=str(path))
    except (RuntimeError, ValueError) as error:
        return str(error) if "Didn't find op" in str(error) else ""
    finally:
        vars(writing)["version_of"] = known
    return ""


def probe(jobs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What is wrong with each operation in each type (or each version); "" for right, the signal for an abort.

    A fork of this process, which must run no threads, works through the jobs; when it dies another goes on.
    """
    import ai_edge_litert.interpreter  # noqa: F401 - before the fork: once for all

    import edgekit.converters.tflite.writing  # noqa: F401

    found: dict[tuple[str, str], str] = {}
    while len(found) < len(jobs):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            with contextlib.suppress(BaseException), os.fdopen(writing, "w") as pipe:
                _work(jobs[len(found) :], pipe)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            for line in pipe:
                found[jobs[len(found)]] = json.loads(line)
        signal = os.waitpid(child, 0)[1] & 127
        if len(found) < len(jobs):
            found[jobs[len(found)]] = f"signal {signal}"
    return found


def _work(jobs: Sequence[tuple[str, str]], pipe: Any) -> None:
    for code, dtype in jobs:
        if dtype.isdigit():
            wrong = refused_version(code, int(dtype))
        else:
            made = cases(code, dtype)
            wrong = next(filter(None, (run(code, case) for case in made)), "") if made else "no meaning"
        pipe.write(json.dumps(wrong) + "\n")
        pipe.flush()


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1]) if sys.argv[1:] else [(code, dtype) for code in CODES for dtype in DTYPES]
    results = probe([(code, dtype) for code, dtype in chosen])
    sys.stdout.write(json.dumps([[*job, wrong] for job, wrong in results.items()]))
