"""The batteries edgekit tests itself with, for those who add a runtime. The only part that needs pytest."""

from __future__ import annotations

from edgekit.testing.gaps import Battery
from edgekit.testing.runtime_contract import RuntimeContract, Sample

__all__ = ["Battery", "RuntimeContract", "Sample"]
