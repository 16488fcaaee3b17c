"""Numbers as people read them. An absent number is a dash."""

from __future__ import annotations

__all__ = ["dash", "mebibytes", "megabytes", "milliseconds", "percent", "ratio"]

dash = "-"


def milliseconds(value_us: float | None) -> str:
    """Microseconds as milliseconds with three significant digits."""
    if value_us is None:
        return dash
    value = value_us / 1000
    digits = 1 if value >= 100 else 2 if value >= 10 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def megabytes(value_bytes: int | None) -> str:
    """Size of a file, in units of 10^6 bytes; small ones in kB."""
    if value_bytes is None:
        return dash
    return f"{value_bytes / 1e6:.2f} MB" if value_bytes >= 1e6 else f"{value_bytes / 1e3:.1f} kB"


def mebibytes(value_bytes: int | None) -> str:
    """Memory, in units of 2^20 bytes."""
    return dash if value_bytes is None else f"{value_bytes / 2**20:.0f}"


def percent(share: float | None, digits: int = 0) -> str:
    return dash if share is None else f"{share:.{digits}%}"


def ratio(value: float | None) -> str:
    return dash if value is None else f"{value:.2f}x"
