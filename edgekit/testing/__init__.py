"""The batteries edgekit tests itself with, for those who add a runtime, a converter or a pass. They need pytest."""

from __future__ import annotations

from edgekit.testing.converter_contract import ConverterContract, SourceContract
from edgekit.testing.gaps import Battery
from edgekit.testing.pass_contract import PassContract
from edgekit.testing.runtime_contract import RuntimeContract, Sample
from edgekit.testing.writing_contract import RoadContract, WriterContract

__all__ = [
    "Battery",
    "ConverterContract",
    "PassContract",
    "RoadContract",
    "RuntimeContract",
    "Sample",
    "SourceContract",
    "WriterContract",
]
