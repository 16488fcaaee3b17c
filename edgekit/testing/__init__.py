"""The batteries edgekit tests itself with, for those who add a runtime, a converter or a pass. They need pytest."""

from __future__ import annotations

import pytest

# Before they are imported: without it a failed assertion of a battery says nothing of the values.
pytest.register_assert_rewrite(
    *(f"edgekit.testing.{name}_contract" for name in ("converter", "pass", "runtime", "threads", "writing")),
    "edgekit.testing.runtime_fixtures",
)

from edgekit.testing.converter_contract import ConverterContract, SourceContract  # noqa: E402
from edgekit.testing.gaps import Battery  # noqa: E402
from edgekit.testing.pass_contract import PassContract  # noqa: E402
from edgekit.testing.runtime_contract import RuntimeContract, Sample  # noqa: E402
from edgekit.testing.writing_contract import RoadContract, WriterContract  # noqa: E402

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
