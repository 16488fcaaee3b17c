"""``python -m tests.catalogue``: converts the catalogue's models to every format and prints what came of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("EDGEKIT_CACHE", str(Path(__file__).resolve().parents[2] / ".cache" / "edgekit"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.catalogue import results
from tests.catalogue.running import run_source
from tests.catalogue.sources import SOURCES


def main() -> int:
    options = _options()
    chosen = [s for s in SOURCES if options.only in (None, s.id, s.id.partition("-")[0])]
    if not chosen:
        print(f"no source is {options.only}: {', '.join(s.id for s in SOURCES)}", file=sys.stderr)
        return 2
    found: dict[str, dict[str, Any]] = {}
    for source in chosen:
        start = time.perf_counter()
        try:
            found[source.id] = run_source(source)
        except Exception:  # noqa: BLE001 - a bug is a finding, and the others are still to be run
            found[source.id] = results.broken(source.title, traceback.format_exc())
        if not options.json:
            print(_shown(source.id, found[source.id], time.perf_counter() - start), flush=True)
    if options.json:
        print(json.dumps(found, indent=1))
    worse = results.fell(results.read(), found)
    if options.update:
        results.write(found)
    if worse:
        print("worse than tests/catalogue/results.json:\n" + "\n".join(f"  {line}" for line in worse), file=sys.stderr)
    return 1 if worse else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.catalogue", description=__doc__)
    parser.add_argument("--only", metavar="ID", help="a source, or all of a number: D7-face, D7")
    parser.add_argument("--json", action="store_true", help="prints one document in place of lines")
    parser.add_argument("--update", action="store_true", help="writes what was found into results.json, better or not")
    return parser.parse_args()


def _shown(id: str, outcome: dict[str, Any], seconds: float) -> str:
    lines = [f"== {id} {outcome['title']} ({seconds:.0f} s)"]
    for format, one in outcome["formats"].items():
        if one["status"] != "written":
            lines.append(f"  {format:9} {one['status']}: {one['reason']}")
            continue
        right = sum(figure["holds"] for figure in one["figures"])
        figures = f", figures {right} of {len(one['figures'])}" if one["figures"] else ""
        size = f"{one['size_bytes'] / 1e6:.2f} MB"
        lines.append(f"  {format:9} parity {one['parity']:.1e}, {size}, {one['road']}{figures}")
        lines += [f"    {f['what']}: {f['got']} instead of {f['want']}" for f in one["figures"] if not f["holds"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
