"""Seven small networks in plain PyTorch that between them use what trained models are made of, with fixed weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["NETS", "Net", "save_script"]

Net: TypeAlias = "tuple[nn.Module, tuple[Tensor, ...]]"
"""A module in evaluation mode and a batch of two of what it takes."""


def _settled(module: nn.Module, seed: int, *shapes: tuple[int, ...]) -> Net:
    """With weights and statistics of batch norms drawn anew, and float inputs of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 0.2 if parameter.dim() < 2 else (2.0 / parameter[0].numel()) ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.copy_(torch.rand(part.weight.shape, generator=generator) + 0.5)
                part.running_mean.copy_(torch.randn(part.running_mean.shape, generator=generator) * 0.3)
                part.running_var.copy_(torch.rand(part.running_var.shape, generator=generator) + 0.5)
    return module.eval(), tuple(torch.randn(shape, generator=generator) for shape in shapes)


def _conv(given: int, made: int, size: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(given, made, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(made)]


class Cnn(nn.Module):
    """Convolution, batch norm, depthwise convolution, hard swish."""

    def __init__(self) -> None:
        super().__init__()
        layers = [*_conv(3, 16, stride=2), nn.Hardswish(), *_conv(16, 16, groups=16), nn.Hardswish()]
        layers += [*_conv(16, 24, size=1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Residual(nn.Module):
    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(*_conv(given, made, stride=stride), nn.ReLU(), *_conv(made, made))
        is_same = stride == 1 and given == made
        self.across = nn.Identity() if is_same else nn.Sequential(*_conv(given, made, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.across(x))


class ResNet(nn.Module):
    """Residual blocks behind a pooled stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, 8, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 16, 1))
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class Rnn(nn.Module):
    """An LSTM, a GRU behind it, and its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.gru = nn.GRU(24, 20, batch_first=True)
        self.head = nn.Linear(20, 5)

    def forward(self, steps: Tensor) -> Tensor:
        steps, _ = self.lstm(steps)
        steps, _ = self.gru(steps)
        return self.head(steps[:, -1])


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, steps, width = x.shape
        parts = self.qkv(x).view(batch, steps, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(-1, -2) / (width // self.heads) ** 0.5 + bias
        return self.out((scores.softmax(-1) @ parts[2]).transpose(1, 2).reshape(batch, steps, width))


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.norms[0](x + self.attention(x, bias))
        return self.norms[1](x + self.feed_forward(x))


class Bert(nn.Module):
    """Embeddings, two encoder layers with a mask, and a head on the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(64, 32), nn.Embedding(12, 32)
        self.norm = nn.LayerNorm(32)
        self.layers = nn.ModuleList([Encoder(32, 4), Encoder(32, 4)])
        self.head = nn.Linear(32, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.words(input_ids) + self.positions.weight[: input_ids.shape[1]])
        bias = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        for layer in self.layers:
            x = layer(x, bias)
        return torch.tanh(self.head(x[:, 0])), x


class UNet(nn.Module):
    """Down twice and up twice, by a transposed convolution of 2 and by one of 3 with padding on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(*_conv(3, 8), nn.ReLU())
        self.second = nn.Sequential(nn.MaxPool2d(2), *_conv(8, 12), nn.ReLU())
        self.third = nn.Sequential(nn.MaxPool2d(2), *_conv(12, 16), nn.ReLU())
        self.up2 = nn.ConvTranspose2d(16, 12, 2, stride=2)
        self.up1 = nn.ConvTranspose2d(24, 8, 3, stride=2, padding=1, output_padding=1)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = self.first(image)
        second = self.second(first)
        x = torch.cat([self.up2(self.third(second)), second], 1)
        return torch.sigmoid(self.head(torch.cat([torch.relu(self.up1(x)), first], 1)))


class WaveNet(nn.Module):
    """Six causal convolutions, each twice as wide apart as the one before, gated, with skips."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, width, 1)
        self.gates = nn.ModuleList([nn.Conv1d(width, 2 * width, 2, dilation=2**level) for level in range(6)])
        self.mixes = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(6)])
        self.leave = nn.Conv1d(width, 4, 1)

    def forward(self, wave: Tensor) -> Tensor:
        x = self.enter(wave)
        skips = torch.zeros_like(x)
        for gate, mix in zip(self.gates, self.mixes, strict=True):
            value, control = gate(nn.functional.pad(x, (gate.dilation[0], 0))).chunk(2, 1)
            own = mix(torch.tanh(value) * torch.sigmoid(control))
            x, skips = x + own, skips + own
        return self.leave(torch.relu(skips))


class Yolo(nn.Module):
    """A head at two scales whose boxes are decoded by their place in the grid."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.outputs = 5 + classes
        self.early = nn.Sequential(*_conv(3, 12, stride=2), nn.SiLU(), *_conv(12, 16, stride=2), nn.SiLU())
        self.late = nn.Sequential(*_conv(16, 24, stride=2), nn.SiLU())
        self.heads = nn.ModuleList([nn.Conv2d(16, 2 * self.outputs, 1), nn.Conv2d(24, 2 * self.outputs, 1)])
        self.register_buffer("anchors", torch.tensor([[[4.0, 6.0], [8.0, 5.0]], [[14.0, 20.0], [25.0, 12.0]]]))

    def _decoded(self, x: Tensor, anchors: Tensor, stride: int) -> Tensor:
        batch, _, rows, columns = x.shape
        x = x.view(batch, 2, self.outputs, rows, columns).permute(0, 1, 3, 4, 2).sigmoid()
        y_at, x_at = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        grid = torch.stack((x_at, y_at), 2).float()
        center = (x[..., :2] * 2 - 0.5 + grid) * stride
        size = (x[..., 2:4] * 2) ** 2 * anchors[:, None, None, :]
        return torch.cat([center, size, x[..., 4:]], -1).reshape(batch, -1, self.outputs)

    def forward(self, image: Tensor) -> Tensor:
        early = self.early(image)
        fine = self._decoded(self.heads[0](early), self.anchors[0], 4)
        coarse = self._decoded(self.heads[1](self.late(early)), self.anchors[1], 8)
        return torch.cat([fine, coarse], 1)


def _bert() -> Net:
    module, _ = _settled(Bert(), 4)
    generator = torch.Generator().manual_seed(40)
    ids = torch.randint(64, (2, 12), generator=generator)
    mask = (torch.arange(12) < torch.tensor([[12], [7]])).long()
    return module, (ids, mask)


NETS: dict[str, Callable[[], Net]] = {
    "cnn": lambda: _settled(Cnn(), 1, (2, 3, 32, 32)),
    "resnet": lambda: _settled(ResNet(), 2, (2, 3, 32, 32)),
    "rnn": lambda: _settled(Rnn(), 3, (2, 20, 16)),
    "bert": _bert,
    "unet": lambda: _settled(UNet(), 5, (2, 3, 32, 32)),
    "wave": lambda: _settled(WaveNet(), 6, (2, 1, 96)),
    "yolo": lambda: _settled(Yolo(), 7, (2, 3, 32, 32)),
}
"""Name -> what makes it. Weights and inputs are the same each time."""


def save_script(module: nn.Module, path: Path, example: tuple[Tensor, ...] = ()) -> Path:
    """Writes TorchScript, traced with an example, or else scripted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and tracing warns of every shape it looks at
        script = torch.jit.trace(module, example) if example else torch.jit.script(module)
        torch.jit.save(script, path)
    return path
