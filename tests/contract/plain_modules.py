"""U-Net, pix2pix and YOLOX as plain PyTorch modules, written anew to hold the records against."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

# U-Net


class Doubled(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, given: int, made: int, padding: int, has_norm: bool) -> None:
        super().__init__()
        layers: list[Any] = []
        for channels in (given, made):
            layers.append(nn.Conv2d(channels, made, 3, padding=padding, bias=not has_norm))
            layers += [nn.BatchNorm2d(made), nn.ReLU()] if has_norm else [nn.ReLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        return self.double_conv(x)


class Down(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, *settings: Any) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), Doubled(*settings))

    def forward(self, x: Any) -> Any:
        return self.maxpool_conv(x)


class Up(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, made: int, *settings: Any) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * made, made, 2, stride=2)
        self.conv = Doubled(2 * made, made, *settings)

    def forward(self, x: Any, across: Any) -> Any:
        x = self.up(x)
        rows, columns = ((across.shape[axis] - x.shape[axis]) // 2 for axis in (2, 3))
        across = across[:, :, rows : rows + x.shape[2], columns : columns + x.shape[3]]
        return self.conv(torch.cat([across, x], 1))


class UNet(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, channels: int, classes: int, width: int, depth: int, padding: int, has_norm: bool) -> None:
        super().__init__()
        self.depth = depth
        self.inc = Doubled(channels, width, padding, has_norm)
        for level in range(1, depth + 1):
            made = width * 2**level
            self.add_module(f"down{level}", Down(made // 2, made, padding, has_norm))
            self.add_module(f"up{level}", Up(width * 2 ** (depth - level), padding, has_norm))
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(width, classes, 1)

    def forward(self, x: Any) -> Any:
        levels = [self.inc(x)]
        for level in range(1, self.depth + 1):
            levels.append(self.get_submodule(f"down{level}")(levels[-1]))
        x = levels.pop()
        for level in range(1, self.depth + 1):
            x = self.get_submodule(f"up{level}")(x, levels.pop())
        return self.outc.conv(x)


# Pix2pix


class Level(nn.Module):  # type: ignore[misc, name-defined]
    """A level of the generator with all that is within it; `filters` are those of this level and of the inner ones."""

    def __init__(self, outside: int, filters: list[int], colors: int | None = None) -> None:
        super().__init__()
        mine, is_inner, is_outer = filters[0], len(filters) == 1, colors is not None
        down = nn.Conv2d(outside, mine, 4, 2, 1, bias=False)
        within = [] if is_inner else [Level(mine, filters[1:])]
        up = nn.ConvTranspose2d(mine if is_inner else 2 * mine, colors or outside, 4, 2, 1, bias=is_outer)
        self.is_outer = is_outer
        if is_outer:
            layers = [down, *within, nn.ReLU(), up, nn.Tanh()]
        else:
            norm = [] if is_inner else [nn.BatchNorm2d(mine)]
            layers = [nn.LeakyReLU(0.2), down, *norm, *within, nn.ReLU(), up, nn.BatchNorm2d(outside)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Any) -> Any:
        return self.model(x) if self.is_outer else torch.cat([x, self.model(x)], 1)


def generator(filters: list[int]) -> Any:
    whole = nn.Module()
    whole.model = Level(3, filters, colors=3)
    whole.forward = whole.model.forward
    return whole


def discriminator(filters: list[int]) -> Any:
    layers = [nn.Conv2d(6, filters[0], 4, 2, 1), nn.LeakyReLU(0.2)]
    for given, made in pairwise(filters):
        stride = 1 if made == filters[-1] else 2
        layers += [nn.Conv2d(given, made, 4, stride, 1, bias=False), nn.BatchNorm2d(made), nn.LeakyReLU(0.2)]
    whole = nn.Module()
    whole.model = nn.Sequential(*layers, nn.Conv2d(filters[-1], 1, 4, 1, 1))
    whole.forward = whole.model.forward
    return whole


# YOLOX


class Conv(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, given: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(made, eps=1e-3)

    def forward(self, x: Any) -> Any:
        return nn.functional.silu(self.bn(self.conv(x)))


class Pair(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, given: int, made: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = Conv(given, given, kernel, stride, groups=given)
        self.pconv = Conv(given, made, 1)

    def forward(self, x: Any) -> Any:
        return self.pconv(self.dconv(x))


class Bottleneck(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, width: int, wide: Callable[..., Any], has_shortcut: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.has_shortcut = Conv(width, width, 1), wide(width, width, 3), has_shortcut

    def forward(self, x: Any) -> Any:
        return self.conv2(self.conv1(x)) + (x if self.has_shortcut else 0)


class Partial(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, given: int, made: int, count: int, wide: Callable[..., Any], has_shortcut: bool = True) -> None:
        super().__init__()
        half = made // 2
        self.conv1, self.conv2 = Conv(given, half, 1), Conv(given, half, 1)
        self.conv3 = Conv(2 * half, made, 1)
        self.m = nn.Sequential(*(Bottleneck(half, wide, has_shortcut) for _ in range(count)))

    def forward(self, x: Any) -> Any:
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


class Pooling(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(width, width // 2, 1), Conv(2 * width, width, 1)

    def forward(self, x: Any) -> Any:
        x = self.conv1(x)
        pools = [nn.functional.max_pool2d(x, size, 1, size // 2) for size in (5, 9, 13)]
        return self.conv2(torch.cat([x, *pools], 1))


class Stem(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, made: int) -> None:
        super().__init__()
        self.conv = Conv(12, made, 3)

    def forward(self, x: Any) -> Any:
        rows = x[:, :, 0::2], x[:, :, 1::2]
        return self.conv(torch.cat([row[..., start::2] for start in (0, 1) for row in rows], 1))


class Yolo(nn.Module):  # type: ignore[misc, name-defined]
    """YOLOX with `width` channels after its stem, and its boxes as pixels: centers and sizes."""

    def __init__(self, width: int, depth: int, classes: int, wide: Callable[..., Any]) -> None:
        super().__init__()
        w = width
        self.backbone = nn.Module()
        self.backbone.backbone = dark = nn.Module()
        dark.stem = Stem(w)
        dark.dark2 = nn.Sequential(wide(w, 2 * w, 3, 2), Partial(2 * w, 2 * w, depth, wide))
        dark.dark3 = nn.Sequential(wide(2 * w, 4 * w, 3, 2), Partial(4 * w, 4 * w, 3 * depth, wide))
        dark.dark4 = nn.Sequential(wide(4 * w, 8 * w, 3, 2), Partial(8 * w, 8 * w, 3 * depth, wide))
        last = Partial(16 * w, 16 * w, depth, wide, has_shortcut=False)
        dark.dark5 = nn.Sequential(wide(8 * w, 16 * w, 3, 2), Pooling(16 * w), last)
        neck = self.backbone
        neck.lateral_conv0, neck.C3_p4 = Conv(16 * w, 8 * w, 1), Partial(16 * w, 8 * w, depth, wide, False)
        neck.reduce_conv1, neck.C3_p3 = Conv(8 * w, 4 * w, 1), Partial(8 * w, 4 * w, depth, wide, False)
        neck.bu_conv2, neck.C3_n3 = wide(4 * w, 4 * w, 3, 2), Partial(8 * w, 8 * w, depth, wide, False)
        neck.bu_conv1, neck.C3_n4 = wide(8 * w, 8 * w, 3, 2), Partial(16 * w, 16 * w, depth, wide, False)
        self.head = head = nn.Module()
        many = nn.ModuleList
        head.stems = many([Conv(count * w, 4 * w, 1) for count in (4, 8, 16)])
        for name, made in (("cls", classes), ("reg", 4)):
            pairs = [nn.Sequential(wide(4 * w, 4 * w, 3), wide(4 * w, 4 * w, 3)) for _ in range(3)]
            head.add_module(f"{name}_convs", many(pairs))
            head.add_module(f"{name}_preds", many([nn.Conv2d(4 * w, made, 1) for _ in range(3)]))
        head.obj_preds = many([nn.Conv2d(4 * w, 1, 1) for _ in range(3)])

    def levels(self, x: Any) -> list[Any]:
        dark, neck = self.backbone.backbone, self.backbone
        fine = dark.dark3(dark.dark2(dark.stem(x)))
        middle = dark.dark4(fine)
        deep = neck.lateral_conv0(dark.dark5(middle))
        double = nn.Upsample(scale_factor=2)
        across = neck.reduce_conv1(neck.C3_p4(torch.cat([double(deep), middle], 1)))
        fine = neck.C3_p3(torch.cat([double(across), fine], 1))
        middle = neck.C3_n3(torch.cat([neck.bu_conv2(fine), across], 1))
        return [fine, middle, neck.C3_n4(torch.cat([neck.bu_conv1(middle), deep], 1))]

    def forward(self, image: Any) -> Any:
        head, boxes, scores = self.head, [], []
        for index, level in enumerate(self.levels(image)):
            x, stride = head.stems[index](level), 8 * 2**index
            kinds = head.cls_preds[index](head.cls_convs[index](x)).sigmoid()
            x = head.reg_convs[index](x)
            raw, likely = head.reg_preds[index](x), head.obj_preds[index](x).sigmoid()
            rows, columns = torch.meshgrid(*(torch.arange(size) for size in raw.shape[2:]), indexing="ij")
            center = (raw[:, :2] + torch.stack([columns, rows])) * stride
            boxes.append(torch.cat([center, raw[:, 2:].exp() * stride], 1).flatten(2))
            scores.append((kinds * likely).flatten(2))
        return torch.cat(boxes, 2).mT, torch.cat(scores, 2).mT


class RelativeYolo(Yolo):
    """The same, with boxes as corners relative to the picture."""

    def forward(self, image: Any) -> Any:
        boxes, scores = super().forward(image)
        center, half = boxes[..., :2], boxes[..., 2:] / 2
        height, width = image.shape[2:]
        corners = torch.cat([center - half, center + half], 2)
        return corners / torch.tensor([width, height, width, height]), scores
