"""YOLOv8 as a plain PyTorch module, written anew from its published diagram to hold the record against."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

__all__ = ["YoloV8"]


class Unit(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, given: int, made: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(made, eps=1e-3)

    def forward(self, x: Any) -> Any:
        return nn.functional.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, width: int, adds: bool) -> None:
        super().__init__()
        self.cv1, self.cv2 = Unit(width, width, 3), Unit(width, width, 3)
        self.adds = adds

    def forward(self, x: Any) -> Any:
        made = self.cv2(self.cv1(x))
        return x + made if self.adds else made


class TwoWay(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, given: int, made: int, count: int, adds: bool) -> None:
        super().__init__()
        half = made // 2
        self.cv1, self.cv2 = Unit(given, 2 * half), Unit((2 + count) * half, made)
        self.m = nn.ModuleList([Bottleneck(half, adds) for _ in range(count)])

    def forward(self, x: Any) -> Any:
        parts = [*self.cv1(x).chunk(2, 1)]
        for bottleneck in self.m:
            parts.append(bottleneck(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class Pooled(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Unit(width, width // 2), Unit(2 * width, width)

    def forward(self, x: Any) -> Any:
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(nn.functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.cv2(torch.cat(parts, 1))


class Detect(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, widths: list[int], classes: int) -> None:
        super().__init__()
        box, kind = max(16, widths[0] // 4, 64), max(widths[0], min(classes, 100))
        self.cv2, self.cv3 = (
            nn.ModuleList(
                nn.Sequential(Unit(w, inner, 3), Unit(inner, inner, 3), nn.Conv2d(inner, outer, 1)) for w in widths
            )
            for inner, outer in ((box, 64), (kind, classes))
        )
        self.dfl = nn.Linear(16, 1, bias=False)

    def forward(self, levels: list[Any], side: int) -> tuple[Any, Any]:
        boxes, scores = [], []
        for level, box, kind in zip(levels, self.cv2, self.cv3, strict=True):
            count = level.shape[-1]
            row, column = torch.meshgrid(torch.arange(count) + 0.5, torch.arange(count) + 0.5, indexing="ij")
            center = torch.stack([column.flatten(), row.flatten()], 1)
            bins = box(level).flatten(2).transpose(1, 2).unflatten(-1, (4, 16))
            far = self.dfl(bins.softmax(-1))[..., 0]
            corners = torch.cat([center - far[..., :2], center + far[..., 2:]], -1) * (side // count)
            boxes.append(corners / side)
            scores.append(kind(level).flatten(2).transpose(1, 2).sigmoid())
        return torch.cat(boxes, 1), torch.cat(scores, 1)


class YoloV8(nn.Module):  # type: ignore[misc, name-defined]
    """Layers by their number in the published configuration; those without weights are not modules here."""

    def __init__(self, widths: list[int], counts: list[int], classes: int) -> None:
        super().__init__()
        a, b, c, d, e = widths
        once = counts[0]
        layers = {0: Unit(3, a, 3, 2), 1: Unit(a, b, 3, 2), 2: TwoWay(b, b, counts[0], True)}
        layers |= {3: Unit(b, c, 3, 2), 4: TwoWay(c, c, counts[1], True), 5: Unit(c, d, 3, 2)}
        layers |= {6: TwoWay(d, d, counts[2], True), 7: Unit(d, e, 3, 2), 8: TwoWay(e, e, counts[3], True)}
        layers |= {9: Pooled(e), 12: TwoWay(e + d, d, once, False), 15: TwoWay(d + c, c, once, False)}
        layers |= {16: Unit(c, c, 3, 2), 18: TwoWay(c + d, d, once, False), 19: Unit(d, d, 3, 2)}
        layers |= {21: TwoWay(d + e, e, once, False), 22: Detect([c, d, e], classes)}
        self.model = nn.ModuleDict({str(number): layer for number, layer in layers.items()})

    def forward(self, image: Any) -> tuple[Any, Any]:
        layer = self.model
        x = layer["2"](layer["1"](layer["0"](image)))
        fine = layer["4"](layer["3"](x))
        middle = layer["6"](layer["5"](fine))
        deep = layer["9"](layer["8"](layer["7"](middle)))
        twice = nn.Upsample(scale_factor=2)
        middle = layer["12"](torch.cat([twice(deep), middle], 1))
        fine = layer["15"](torch.cat([twice(middle), fine], 1))
        middle = layer["18"](torch.cat([layer["16"](fine), middle], 1))
        deep = layer["21"](torch.cat([layer["19"](middle), deep], 1))
        return layer["22"]([fine, middle, deep], image.shape[-1])
