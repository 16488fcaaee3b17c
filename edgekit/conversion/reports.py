"""What `convert` answers: a record of every file that was asked for, and of the whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit.bundle import Bundle
from edgekit.conversion.accuracy import Accuracy
from edgekit.conversion.gate import SpeedComparison
from edgekit.conversion.searching import Estimate
from edgekit.plan import Plan

__all__ = ["ConversionReport", "VariantReport"]


@dataclass(frozen=True)
class VariantReport:
    """What became of one file that was asked for.

    Attributes:
        recipe: Name of the recipe that was asked for.
        status: ``"written"``, ``"refused"``, or of a dry run ``"planned"``.
        reason: Why it was refused; of a written file, which roads failed before the one that was taken.
        parity: Against the source, see `edgekit.parity.Parity`.
        int8_macs_share: Share of multiply-accumulates that the engine really prepared in 8-bit integers.
        speed: How an int8 file was timed against fp32 of its engine; None where it was not.
        accuracy: Of a model by name: its metric beside the source's, see `edgekit.conversion.accuracy.Accuracy`.
        apart: Where another format of the recipe is more than 1 dB nearer to the source, what of their plans differs.
        estimate: Of a recipe that was searched for: what that was to cost at most.
    """

    name: str
    format: str
    precision: str
    recipe: str
    status: str
    reason: str = ""
    road: str = ""
    size_bytes: int | None = None
    parity: dict[str, Any] | None = None
    int8_macs_share: float | None = None
    speed: SpeedComparison | None = None
    accuracy: Accuracy | None = None
    apart: tuple[str, ...] = ()
    estimate: Estimate | None = None


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` did. `unmet` are the precisions asked for that no file has: the answer to those was no."""

    plan: Plan
    bundle: Bundle | None
    variants: tuple[VariantReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def unmet(self) -> tuple[str, ...]:
        met = {v.recipe for v in self.variants if v.status != "refused"}
        return tuple(dict.fromkeys(v.recipe for v in self.variants if v.recipe not in met))

    def to_json(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_json(),
            "bundle": str(self.bundle.root) if self.bundle else None,
            "variants": [asdict(variant) for variant in self.variants],
            "unmet": list(self.unmet),
            "notes": list(self.notes),
        }
