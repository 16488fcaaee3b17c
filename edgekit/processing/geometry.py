"""Where the pixels a net looked at lie in the picture they were cut, resized and padded from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.record import Record

__all__ = ["Feeds", "Geometry", "Track", "place"]


class Geometry(Record):
    """A view of a picture: pixel (x, y) of the view is ``x * scale_x + left, y * scale_y + top`` of the picture.

    Attributes:
        width: Of the picture, in pixels.
        height: Of the picture.
        view_width: Of the view, in pixels of its own.
        view_height: Of the view.
        scale_x: Pixels of the picture in one of the view.
        scale_y: The same downwards.
        left: Where in the picture the view begins; negative where the view was padded.
        top: The same downwards.
    """

    width: int
    height: int
    view_width: int
    view_height: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0
    top: float = 0.0

    @classmethod
    def whole(cls, width: int, height: int) -> Geometry:
        return cls(width, height, width, height)

    def cut(self, left: float, top: float, width: int, height: int) -> Geometry:
        """The view of `width` x `height` from (left, top) of this one on; what is outside is padding."""
        left, top = self.left + left * self.scale_x, self.top + top * self.scale_y
        return Geometry(self.width, self.height, width, height, self.scale_x, self.scale_y, left, top)

    def resized(self, width: int, height: int) -> Geometry:
        across, down = self.scale_x * self.view_width / width, self.scale_y * self.view_height / height
        return Geometry(self.width, self.height, width, height, across, down, self.left, self.top)

    @property
    def is_whole(self) -> bool:
        """Whether the view shows all of the picture and nothing else, so that shares of both are the same."""
        corner = self.view_width * self.scale_x, self.view_height * self.scale_y
        return self.left == self.top == 0.0 and bool(np.allclose(corner, (self.width, self.height), rtol=1e-9, atol=0))

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] from shares of the view to shares of the picture; float64 [..., 2]."""
        if self.is_whole:
            return points
        size = np.array([self.width, self.height], np.float64)
        stretch = np.array([self.view_width * self.scale_x, self.view_height * self.scale_y]) / size
        moved: np.ndarray = points * stretch + np.array([self.left, self.top]) / size
        return moved

    def inside(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the picture in pixels of the view."""
        left, top = -self.left / self.scale_x, -self.top / self.scale_y
        return left, top, left + self.width / self.scale_x, top + self.height / self.scale_y


class Track:
    """What the steps before a model leave for those after it.

    Attributes:
        geometry: Of the picture, once there is one.
    """

    def __init__(self, geometry: Geometry | None = None) -> None:
        self.geometry = geometry

    def begin(self, width: int, height: int) -> None:
        self.geometry = Geometry.whole(width, height)

    def cut(self, left: float, top: float, width: int, height: int) -> None:
        self.geometry = self.geometry and self.geometry.cut(left, top, width, height)

    def resized(self, width: int, height: int) -> None:
        self.geometry = self.geometry and self.geometry.resized(width, height)


class Feeds(dict[str, np.ndarray]):
    """Feeds that know of which picture they are; otherwise an ordinary dict.

    Attributes:
        geometry: Of the one picture in them; None where there is none, or several that lie differently.
    """

    geometry: Geometry | None

    def __init__(self, arrays: Mapping[str, np.ndarray], geometry: Geometry | None) -> None:
        super().__init__(arrays)
        self.geometry = geometry


def place(values: np.ndarray, geometry: Geometry, filter: str) -> np.ndarray:
    """An output [height, width, channels] over the view, as it lies over the picture: [picture height, width, ...].

    What the view does not show is zero. Sizes of output and view may differ: both cover the same.
    """
    from edgekit.processing.resampling import resize_image

    rows, columns = values.shape[:2]
    left, top, right, bottom = geometry.inside()
    across, down = columns / geometry.view_width, rows / geometry.view_height
    x0, x1 = round(left * across), max(round(right * across), round(left * across) + 1)
    y0, y1 = round(top * down), max(round(bottom * down), round(top * down) + 1)
    held = np.zeros((y1 - y0, x1 - x0, values.shape[2]), values.dtype)
    seen = values[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    at_y, at_x = max(-y0, 0), max(-x0, 0)
    held[at_y : at_y + seen.shape[0], at_x : at_x + seen.shape[1]] = seen
    return resize_image(held, geometry.height, geometry.width, filter)
