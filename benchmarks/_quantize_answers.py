"""What a file answers to many feeds, in a process of its own.

    python _quantize_answers.py FILE FEEDS.npz RESULTS.npz

FEEDS holds the feeds one behind the other for each input; RESULTS gets ``output_0``, ``output_1`` ... the same way.
"""

from __future__ import annotations

import sys

import numpy as np

import edgekit

if __name__ == "__main__":
    file, feeds, results = sys.argv[1:]
    with np.load(feeds) as stored:
        rows = {name: stored[name] for name in stored.files}
    with edgekit.load(file, threads=1) as session:
        names = [spec.name for spec in session.signature.inputs]
        given = dict(zip(names, rows.values(), strict=True)) if set(names) != set(rows) else rows
        answers = [session.run({n: a[i] for n, a in given.items()}) for i in range(len(next(iter(rows.values()))))]
    columns = [np.stack([answer[name] for answer in answers]) for name in answers[0]]
    np.savez(results, **{f"output_{i}": column for i, column in enumerate(columns)})  # type: ignore[arg-type]
