"""The verb behind ``edgekit report``: all that is known of a model file or bundle, gathered into one record.

What is not known stays away: every part that may be absent is None or empty, and a report says which command adds it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bundle import Bundle
from edgekit.bundle.manifest import MANIFEST
from edgekit.errors import ArtifactError, InputError
from edgekit.evaluating.records import SCHEMA as SCHEMA_OF_EVALUATIONS
from edgekit.evaluating.records import VERSION as VERSION_OF_EVALUATIONS
from edgekit.evaluating.records import Absent, Evaluation, Evaluations
from edgekit.inspection import Inspection, inspect
from edgekit.loading import is_bundle
from edgekit.measuring.reading import read_profile, record_from_json
from edgekit.measuring.records import Profile
from edgekit.named_files import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Layer", "LayerPlan", "Optimization", "Part", "Report", "Trial", "read_evaluations", "report"]

SCHEMA = "edgekit.report"
VERSION = 1


@dataclass(frozen=True)
class Part:
    """A file, what it is for, and the variants that it belongs to."""

    path: str
    role: str
    size_bytes: int
    sha256: str
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerPlan:
    """A layer in one variant, as `edgekit.quantize.layers.layers_of` says."""

    precision: str
    weights_sqnr_db: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Layer:
    """A layer in all variants that have integers, as `edgekit.quantize.layers.layers_of` says."""

    name: str
    op_type: str
    plans: dict[str, LayerPlan]
    macs_share: float | None = None
    bytes_share: float | None = None
    sensitivity_db: float | None = None
    weights_sensitivity_db: float | None = None
    activations_sensitivity_db: float | None = None


@dataclass(frozen=True)
class Trial:
    """A candidate of `optimize`, as its record in the bundle says."""

    title: str
    format: str
    precision: str
    status: str
    file: str = ""
    recipe: str | None = None
    runtime: str | None = None
    engine_precision: str | None = None
    threads: int | None = None
    reason: str = ""
    stage: str = ""
    p50_us: float | None = None
    interval_us: tuple[float, float] | None = None
    samples_us: tuple[float, ...] | None = None
    size_bytes: int | None = None
    peak_rss_bytes: int | None = None
    metric_value: float | None = None
    metric_interval: tuple[float, float] | None = None
    metric_count: int | None = None
    sqnr_db: float | None = None
    on_front: bool = False


@dataclass(frozen=True)
class Optimization:
    """The search that chose what is shipped."""

    objective: str
    trials: tuple[Trial, ...]
    metric: str | None = None
    source_value: float | None = None
    max_drop: float | None = None
    seconds: float | None = None
    is_cut: bool = False
    machine: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything there is to show.

    Attributes:
        inspection: Signature, variants and provenance.
        parts: The files of the bundle, or the one file.
        layers: Of the integer variants.
        profile: What was measured on a device, of these very files.
        evaluation: What a metric found, of these very files.
        optimization: How the choice was made, if by `optimize`.
        left_out: What a given profile or evaluation holds of other files, and so is not shown.
    """

    inspection: Inspection
    parts: tuple[Part, ...]
    layers: tuple[Layer, ...] = ()
    profile: Profile | None = None
    evaluation: Evaluations | None = None
    optimization: Optimization | None = None
    left_out: tuple[str, ...] = ()

    @property
    def shipped(self) -> str:
        """The variant that a device takes first."""
        return str(self.inspection.variants[0]["name"]) if self.inspection.variants else self.parts[0].path

    @property
    def trials(self) -> tuple[Trial, ...]:
        return self.optimization.trials if self.optimization else ()

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "shipped": self.shipped,
            "inspection": self.inspection.to_json(),
            "parts": [asdict(part) for part in self.parts],
            "profile": self.profile.to_json() if self.profile else None,
            "evaluation": self.evaluation.to_json() if self.evaluation else None,
            "optimization": asdict(self.optimization) if self.optimization else None,
            "left_out": list(self.left_out),
        }


def report(
    path: str | Path,
    *,
    profile: Profile | str | Path | None = None,
    evaluation: str | Path | None = None,
    data: str | Path | None = None,
    measure: bool = True,
    metric: str | None = None,
    num_samples: int | None = None,
    threads: int | Sequence[int] | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Gathers what is known of a bundle or a model file: from its manifest, from files of results, or measured now.

    Args:
        path: ``NAME.edge``, ``NAME.edge.zip``, a model file, or the name of a model.
        profile: What `edgekit.profile` gave, or the .json file it was written to; None measures now.
        evaluation: The .json file of ``edgekit evaluate -o``.
        data: Labeled data to evaluate every variant on now, where there is no `evaluation`.
        measure: False leaves a profile out that is not given.
        metric: Of that evaluation; by default what the data calls for.
        num_samples: Of that evaluation; None takes all.
        threads: Of a profile measured now.
        seed: Of everything that is random.
        progress: Called with steps done, steps in all, and what is next.

    Raises:
        ArtifactError: A file is missing, damaged, or no result of the kind it is given as.
        InputError: The results given are all of other files than those at `path`; or the data does not fit.
        UnavailableError: Nothing installed here can open a file that is to be measured.
    """
    file = file_of(path)
    inspection = replace(inspect(file), path=str(path))
    bundle = Bundle.open(file) if is_bundle(file) else None
    parts = _parts_of(bundle) if bundle else _single(file)
    gathered = Report(inspection, parts, _layers(inspection), optimization=_optimization(inspection))
    measured = read_profile(profile) if isinstance(profile, str | Path) else profile
    if measured is None and measure:
        from edgekit.profiling import profile as run

        measured = run(path, threads=threads, seed=seed, ops=True, progress=progress)
    judged = None
    if evaluation is not None:
        judged = read_evaluations(Path(evaluation))
    elif data is not None:
        from edgekit.evaluation import evaluate_variants

        judged = evaluate_variants(path, data, metric=metric, num_samples=num_samples, seed=seed, progress=progress)
    return _with_results(gathered, measured, judged)


def _parts_of(bundle: Bundle) -> tuple[Part, ...]:
    owners: dict[str, tuple[Part, list[str]]] = {}
    for variant in bundle.variants:
        for file in variant.files:
            part = Part(file.path, file.role, file.size_bytes, file.sha256)
            owners.setdefault(file.path, (part, []))[1].append(variant.name)
    golden = bundle.golden_file
    return (
        *(replace(part, variants=tuple(names)) for part, names in owners.values()),
        Part(golden.path, golden.role, golden.size_bytes, golden.sha256),
        Part(MANIFEST, "manifest", (bundle.root / MANIFEST).stat().st_size, bundle.sha256),
    )


def _single(path: Path) -> tuple[Part, ...]:
    import hashlib

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (Part(path.name, "model", path.stat().st_size, digest, (path.name,)),)


def _layers(inspection: Inspection) -> tuple[Layer, ...]:
    where = f"{inspection.path}: layers"
    return tuple(record_from_json(Layer, row, f"{where}[{turn}]") for turn, row in enumerate(inspection.layers))


def _optimization(inspection: Inspection) -> Optimization | None:
    found = inspection.provenance.get("optimization")
    return record_from_json(Optimization, found, f"{inspection.path}: optimization") if found is not None else None


def read_evaluations(path: Path) -> Evaluations:
    """What ``edgekit evaluate -o FILE.json`` wrote. Raises ArtifactError when it is something else."""
    hint = "edgekit evaluate -o FILE.json writes one"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}", hint=hint) from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA_OF_EVALUATIONS:
        raise ArtifactError(f"{path} is no evaluation", hint=hint)
    if data.get("version") not in range(1, VERSION_OF_EVALUATIONS + 1):
        raise ArtifactError(f"{path} is an evaluation of version {data.get('version')}", hint="update edgekit")
    rows, absent, source = data.get("variants"), data.get("absent", []), data.get("source")
    if not (isinstance(rows, list) and rows and isinstance(absent, list)):
        raise ArtifactError(f"{path} is no evaluation: it has no variants", hint=hint)
    return Evaluations(
        tuple(_evaluation(data, row, f"{path}: variants[{turn}]") for turn, row in enumerate(rows)),
        tuple(record_from_json(Absent, row, f"{path}: absent[{turn}]") for turn, row in enumerate(absent)),
        None if source is None else _evaluation(data, source, f"{path}: source"),
        str(data.get("source_note", "")),
    )


def _evaluation(shared: dict[str, Any], own: Any, where: str) -> Evaluation:
    """A variant's own figures with those that all share; its `count` may be one of those that were shared before."""
    if not isinstance(own, dict):
        raise ArtifactError(f"{where} is no object", hint="edgekit evaluate -o FILE.json writes one")
    return record_from_json(Evaluation, {**shared, **own}, where)


def _with_results(gathered: Report, profile: Profile | None, evaluation: Evaluations | None) -> Report:
    """The report with what results say of its own files. Raises InputError when they say nothing of them."""
    known, what = {part.sha256 for part in gathered.parts}, gathered.inspection.path
    left_out = []
    if profile is not None:
        kept = tuple(m for m in profile.measurements if m.candidate.artifact_sha256 in known)
        others = [m.candidate.title for m in profile.measurements if m not in kept]
        _require(
            kept, f"the profile is of {profile.source}: nothing in it is of the files of {what}", "edgekit profile"
        )
        left_out += [f"the profile's {title} is of another file than the one there is now" for title in others]
        profile = replace(profile, measurements=kept)
    if evaluation is not None:
        fitting = tuple(v for v in evaluation.evaluations if v.artifact_sha256 in (None, *known))
        _require(fitting, f"the evaluation holds nothing of the files of {what}", "edgekit evaluate")
        strange = [v.variant for v in evaluation.evaluations if v not in fitting]
        left_out += [f"the evaluation's {name} is of another file than the one there is now" for name in strange]
        evaluation = replace(evaluation, evaluations=fitting)
    return replace(gathered, profile=profile, evaluation=evaluation, left_out=tuple(left_out))


def _require(found: object, message: str, verb: str) -> None:
    if not found:
        raise InputError(message, hint=f"run {verb} again, on this bundle")
