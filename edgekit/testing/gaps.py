"""Batteries whose known failures are declared beside the thing tested, and noticed when they close."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

__all__ = ["Battery"]


class Battery:
    """A base for shipped test classes.

    A subclass names what is tested and, in `gaps`, which tests it fails and why. A gap is a strict expected failure: a
    test that starts to pass fails the run until its gap is removed, and a gap for a test that does not exist stops
    collection.

    Attributes:
        gaps: The reason for each failing test, by the test's name, or by ``name[id]`` for one of its parameters.
    """

    gaps: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for gap, reason in cls.gaps.items():
            if not callable(getattr(cls, gap.partition("[")[0], None)) or not gap.startswith("test_"):
                raise TypeError(f"{cls.__name__}.gaps names {gap!r}, which is no test of this battery")
            if not reason.strip():
                raise TypeError(f"{cls.__name__}.gaps gives no reason for {gap!r}")

    @pytest.fixture(autouse=True)
    def _declared_gap(self, request: pytest.FixtureRequest) -> None:
        node = request.node
        reason = self.gaps.get(node.name) or self.gaps.get(node.originalname)
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
