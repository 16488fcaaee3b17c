"""What ``import edgekit`` costs over ``import numpy``: medians of fresh processes, the two interleaved."""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 20
LIMIT_MS = 30.0
CLOCK = "import time; start = time.perf_counter(); import {}; print((time.perf_counter() - start) * 1e3)"


def import_ms(modules: str) -> float:
    """Milliseconds the statement takes in a process of its own."""
    run = subprocess.run([sys.executable, "-c", CLOCK.format(modules)], capture_output=True, text=True, check=True)
    return float(run.stdout)


def main() -> int:
    names = ("numpy", "numpy, edgekit", "numpy, edgekit, edgekit.loading, edgekit.runtime")
    for modules in names:
        import_ms(modules)  # warms the file cache
    rounds = [[import_ms(modules) for modules in names] for _ in range(ROUNDS)]
    for modules, samples in zip(names, zip(*rounds, strict=True), strict=True):
        print(f"import {modules:<50} median {statistics.median(samples):6.1f} ms   min {min(samples):6.1f} ms")
    over = statistics.median(with_edgekit - bare for bare, with_edgekit, _ in rounds)
    is_within = over <= LIMIT_MS
    print(
        f"import edgekit over import numpy: {over:.1f} ms (limit {LIMIT_MS:.0f} ms: {'met' if is_within else 'missed'})"
    )
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
