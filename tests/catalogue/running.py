"""One source through `edgekit.convert` to every format, and what came of it, as plain data."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgekit
from edgekit.errors import EdgekitError
from tests.catalogue.figures import Figure
from tests.catalogue.sources import Source

__all__ = ["FORMATS", "run_source"]

FORMATS = ("tflite", "onnx", "openvino")


def run_source(source: Source, say: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Converts to fp32 in all formats, opens each file and asks it for the source's figures.

    Returns:
        ``{"title", "formats": {format: outcome}}``. An outcome has ``"status"``: of a refusal also ``"reason"``; of a
        file ``"road"``, ``"parity"`` (largest difference from the source, of the output's range), ``"size_bytes"`` and
        ``"figures"``, each ``{"what", "want", "got", "holds"}``.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = source.give(Path(folder))
        bundle = Path(folder, "model.edge")
        try:
            report = edgekit.convert(given.source, bundle, format=FORMATS, precision="fp32", progress=say, **given.said)
        except EdgekitError as error:
            refused = {"status": "refused", "reason": _plain(str(error), folder)}
            return {"title": source.title, "formats": dict.fromkeys(FORMATS, refused)}
        outcomes: dict[str, dict[str, Any]] = {}
        for variant in report.variants:
            if variant.status != "written":
                outcomes[variant.format] = {"status": "refused", "reason": _plain(variant.reason, folder)}
                continue
            assert variant.parity is not None
            outcomes[variant.format] = {
                "status": "written",
                "road": variant.road,
                "parity": float(f"{variant.parity['relative']:.1e}"),
                "size_bytes": variant.size_bytes,
                "figures": [_told(figure) for figure in _figures(source, bundle, variant.name)],
            }
    return {"title": source.title, "formats": outcomes}


def _figures(source: Source, bundle: Path, variant: str) -> list[Figure]:
    if source.check is None:
        return []
    with edgekit.load(bundle, variant=variant, threads=1) as session:
        return source.check(session.run)


def _told(figure: Figure) -> dict[str, Any]:
    got = float(f"{figure.got:.6g}")
    return {"what": figure.what, "want": figure.want, "got": got, "holds": figure.holds}


def _plain(reason: str, folder: str) -> str:
    """Without what differs from run to run: the temporary folder, colors, clock times."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", reason).replace(folder, "FOLDER")
    return " ".join(text.split())
