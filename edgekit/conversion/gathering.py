"""What a run begins with: the source opened, the samples to calibrate on, and what is said of both later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.card import Card
from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.fixing import fix_sizes
from edgekit.conversion.given import Given, OwnData
from edgekit.conversion.offered import read_offered
from edgekit.conversion.remembering import declare_state
from edgekit.converter import SourceModel, SourceOptions
from edgekit.errors import EdgekitError, InputError
from edgekit.processing import Processing
from edgekit.samples import Samples
from edgekit.sources import source_sha256

__all__ = ["gather_data", "open_source", "provenance_of", "take_samples"]


def open_source(given: Given, path: Path, options: SourceOptions, stage: Path, card: Card | None) -> SourceModel:
    """The source read, with the sizes that it leaves open and the user gives, and the state that its card knows."""
    source = given.reader.read(path, stage / "source")
    try:
        sized = fix_sizes(source, options.input_shapes, stage)
        return declare_state(sized, card.state if card else (), stage)
    except EdgekitError:
        source.close()
        raise


def take_samples(given: Given, offered: Any, limit: int | None, seed: int) -> tuple[Samples | None, OwnData]:
    """What is calibrated on: the user's samples, else those of the family's data; and these data themselves."""
    needs = given.plan.needs_calibration and offered is None
    own = OwnData.of(given, is_needed=needs)
    samples = own.calibration(limit) if offered is None else read_offered(offered, limit=limit, seed=seed)
    if needs and samples is None:
        raise InputError("int8 needs calibration data", hint="--calibration-data FOLDER with 100 or so typical inputs")
    return samples, own


def gather_data(
    given: Given,
    opened: SourceModel,
    card: Card | None,
    processing: Processing | str | None,
    samples: Samples | None,
    own: OwnData,
    counting: Callable[[int, int], None] | None,
    *,
    is_own: bool,
) -> CalibrationData:
    make_feeds = given.model.family.feeds if is_own and given.model is not None else None
    data = CalibrationData.gather(opened.signature, card, processing, samples, make_feeds, counting)
    data.notes += [*given.notes, *([own.note] if own.note else [])]
    return data


def provenance_of(given: Given, path: Path, opened: SourceModel, data: CalibrationData, seed: int) -> dict[str, Any]:
    return {
        "source": {"name": given.plan.source, "kind": opened.kind, "sha256": source_sha256(path)},
        "card": data.card.name if data.card else None,
        "weights": given.model.weights.about if given.model else None,
        "tools": {"edgekit": __version__, **opened.versions},
        "calibration": data.provenance(),
        "seed": seed,
        "notes": [*opened.notes, *data.notes],
    }
