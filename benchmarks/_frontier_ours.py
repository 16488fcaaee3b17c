"""What `edgekit.optimize` ships for a net, in a process and with a cache of its own, so that nothing is found made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _frontier_files import Say, worker

from edgekit.errors import EdgekitError

MIN_SQNR_DB = 8.0
"""Nobody trained these nets, so that accuracy says nothing: what is kept is that a file still computes the net at all,
by the bound the recipes themselves have against collapse. With trained weights a task's metric stands here."""
_TIMEOUT_S = 1200.0


@dataclass(frozen=True)
class Shipped:
    """What came of it.

    Attributes:
        path: The bundle; None where there is none.
        seconds: From the call to its end.
        what: What was shipped, or why nothing was.
        record: What the bundle says of the search.
    """

    path: Path | None
    seconds: float | None
    what: str
    record: Mapping[str, Any]


def ship(made: Mapping[str, str], folder: Path, say: Say) -> Shipped:
    """Optimizes for this machine, by latency; a failure is a result too."""
    say("optimizing")
    output = folder / "best.edge"
    with worker("optimizing", EDGEKIT_CACHE=str(folder / "cache")) as process:
        try:
            said = process.call(
                "_frontier_ours:optimize_net",
                timeout_s=_TIMEOUT_S,
                source=made["source"],
                samples=made["samples"],
                unseen=made["unseen"],
                output=str(output),
            )
        except EdgekitError as error:
            return Shipped(None, None, str(error).splitlines()[0][:300], {})
    return Shipped(output, said["seconds"], said["what"], said["record"])


def optimize_net(source: str, samples: str, unseen: str, output: str) -> dict[str, Any]:
    """Runs in the worker; calibrates on what all other files of ours are calibrated on."""
    import edgekit

    started = time.monotonic()
    edgekit.optimize(
        source, output, target="host", data=unseen, calibration_data=samples, min_sqnr_db=MIN_SQNR_DB, force=True
    )
    seconds = time.monotonic() - started
    record = edgekit.Bundle.open(Path(output)).provenance["optimization"]
    (best,) = (trial for trial in record["trials"] if trial["status"] == "shipped")
    return {"seconds": seconds, "what": best["title"], "record": record}
