"""Sizes of windows that slide: what is padded, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from edgekit.errors import UnsupportedError
from edgekit.spec import Dim

__all__ = ["Padding", "each", "pads_of", "same_pads", "strided"]

Padding: TypeAlias = Literal["same", "causal"] | int
"""``"same"`` as TensorFlow has it (an odd one goes to the end), ``"causal"`` (all before), or so many at each side."""


def each(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """One value for each of `rank` axes."""
    return (value,) * rank if isinstance(value, int) else tuple(value)


def pads_of(size: Dim, kernel: int, stride: int, dilation: int, padding: Padding) -> tuple[int, int]:
    """What `padding` puts before and after an axis."""
    if isinstance(padding, int):
        return padding, padding
    if padding == "causal":
        return (kernel - 1) * dilation, 0
    return same_pads(size, kernel, stride, dilation)


def same_pads(size: Dim, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """What TensorFlow's "same" puts before and after an axis. Raises UnsupportedError if that depends on the input."""
    reach = (kernel - 1) * dilation
    if stride == 1:
        return reach // 2, reach - reach // 2
    if not isinstance(size, int):
        raise UnsupportedError('a strided window with padding "same" needs a fixed size')
    total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    return total // 2, total - total // 2


def strided(size: Dim, change: int, stride: int) -> Dim:
    """Places a window has on an axis that padding, less the window, makes longer by `change`."""
    if isinstance(size, int):
        return (size + change) // stride + 1
    if stride == 1 and change == -1:
        return size
    raise UnsupportedError(f"the size {size!r} must be fixed to be changed by a layer")
