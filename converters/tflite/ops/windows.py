"""Windows that slide over a picture, as convolutions and pools have them: where they stand and what they touch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable

__all__ = ["Window", "by_planes", "padding", "picture", "surrounded", "unpicture", "windows_of"]


@dataclass(frozen=True)
class Window:
    """What a window does along one dimension.

    Attributes:
        size: Of the dimension; -1 when only known when the model runs.
        kernel: Taps.
        stride: From one window to the next.
        dilation: From one tap to the next.
        before: Places added in front.
        after: Places added behind.
        is_ceil: Whether a last window that does not fit whole counts too.
    """

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    is_ceil: bool = False

    @property
    def extent(self) -> int:
        """Places from the first tap to the last, both counted."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def count(self) -> int:
        """How many windows there are; -1 when that is only known when the model runs."""
        if self.size < 0:
            return -1
        room = self.size + self.before + self.after - self.extent
        count = (-(-room // self.stride) if self.is_ceil else room // self.stride) + 1
        # A window that would begin behind the picture and what was put in front of it is none.
        return count - 1 if self.is_ceil and (count - 1) * self.stride >= self.size + self.before else count

    @property
    def reach(self) -> int:
        """Places the last window touches behind the picture; below 0 where it ends before the picture does."""
        return (self.count - 1) * self.stride + self.extent - self.before - self.size

    @property
    def same_total(self) -> int:
        """How many places SAME adds: just as many as let every stride begin a window."""
        if self.size < 0 and self.stride > 1:
            raise Unlowerable("SAME of a size only known when the model runs")
        return max((-(-self.size // self.stride) - 1) * self.stride + self.extent - self.size, 0)

    @property
    def is_same(self) -> bool:
        """Whether TFLite's SAME puts just as many places in front and makes as many windows."""
        if self.size < 0:
            return self.stride == 1 and self.before == (self.extent - 1) // 2 and self.after == self.extent // 2
        return self.count == -(-self.size // self.stride) and self.before == self.same_total // 2

    @property
    def is_valid(self) -> bool:
        """Whether nothing but the picture is touched."""
        return self.before == 0 and (self.after == 0 and not self.is_ceil if self.size < 0 else self.reach <= 0)

    def taps(self, first: int, end: int) -> np.ndarray:
        """For each window how many taps lie from place `first` up to, not including, `end` of the picture."""
        starts = np.arange(self.count)[:, None] * self.stride - self.before
        places = starts + np.arange(self.kernel) * self.dilation
        return ((places >= first) & (places < end)).sum(1)


def windows_of(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[Window]:
    """The windows of a Conv or a pool over a picture of `sizes`, ``auto_pad`` worked out."""
    rank = len(sizes)
    strides, dilations = node.integers("strides", [1] * rank), node.integers("dilations", [1] * rank)
    pads, mode = node.integers("pads", [0] * 2 * rank), node.text("auto_pad", "NOTSET")
    is_ceil = bool(node.integer("ceil_mode")) and mode == "NOTSET"
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unlowerable(f"auto_pad {mode}")
    found = []
    for i, (size, taps) in enumerate(zip(sizes, kernel, strict=True)):
        before, after = (pads[i], pads[i + rank]) if mode == "NOTSET" else (0, 0)
        window = Window(size, taps, strides[i], dilations[i], before, after, is_ceil)
        if mode.startswith("SAME"):
            total = window.same_total
            before = total // 2 if mode == "SAME_UPPER" else total - total // 2
            window = Window(size, taps, strides[i], dilations[i], before, total - before)
        if min(before, after) < 0:
            raise Unlowerable("negative pads")
        if size >= 0 and window.count < 1:
            raise Unlowerable("a window larger than the picture")
        found.append(window)
    return found


def padding(b: Builder, x: Tensor, windows: Sequence[Window], value: float = 0) -> tuple[Tensor, str]:
    """A picture N, sizes..., C with `value` around it where needed, and the padding to name in an operation on it."""
    if all(window.is_valid for window in windows):
        return x, "VALID"
    if all(window.is_same for window in windows):
        return x, "SAME"
    return surrounded(b, x, windows, value), "VALID"


def surrounded(b: Builder, x: Tensor, windows: Sequence[Window], value: float = 0, first: int = 1) -> Tensor:
    """A tensor, whose axes from `first` on the windows slide along, with `value` wherever they go beyond it."""
    before, after = [0] * x.rank, [0] * x.rank
    for axis, window in enumerate(windows, first):
        before[axis], after[axis] = window.before, max(window.reach, 0) if window.size >= 0 else window.after
    return b.pad(x, before, after, value)


def picture(b: Builder, x: Tensor) -> Tensor:
    """Channels last, and 1-D as a picture of one row: N, C, W to N, 1, W, C."""
    last = b.channels_last(x)
    return b.reshape(last, [last.shape[0], 1, *last.shape[1:]]) if x.rank == 3 else last


def unpicture(b: Builder, x: Tensor, rank: int) -> Tensor:
    """What `picture` did to a tensor of `rank`, undone."""
    return b.channels_first(b.reshape(x, [x.shape[0], *x.shape[2:]]) if rank == 3 else x)


def by_planes(
    b: Builder, x: Tensor, over_plane: Callable[[Tensor], Tensor], over_depth: Callable[[Tensor], Tensor]
) -> Tensor:
    """What works along one axis after another, on N, C, D, H, W by operations that know two spatial dimensions.

    Args:
        b: Where to.
        x: The tensor.
        over_plane: Gets N * D, H, W, C and may change height and width.
        over_depth: Gets N, D, H * W, C and may change the depth.
    """
    if -1 in x.shape:
        raise Unlowerable("a size only known when the model runs")
    batch, channels, depth, *plane = x.shape
    rows = over_plane(b.reshape(b.channels_last(x), [batch * depth, *plane, channels]))
    height, width = rows.shape[1:3]
    found = over_depth(b.reshape(rows, [batch, depth, height * width, channels]))
    return b.channels_first(b.reshape(found, [batch, found.shape[1], height, width, channels]))
