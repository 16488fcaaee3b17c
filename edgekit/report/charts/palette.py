"""The page's colors, by daylight and by night. A test computes that every pair is told apart by weak eyes.

WCAG 2.2 asks for a contrast of 4.5 of letters (1.4.3) and of 3 of what a chart is made of (1.4.11).
"""

from __future__ import annotations

__all__ = ["COLORS", "DARK", "LIGHT", "contrast", "variables"]

LIGHT = {
    "page": "#ffffff", "card": "#f5f7fa", "line": "#d5dbe3", "text": "#18202b", "quiet": "#525d6b", "accent": "#0a58a8",
    "good": "#17703f", "bad": "#b3261e", "warn": "#8a5300", "warn-card": "#fff6e5",
    "c1": "#1f6fc4", "c2": "#c2570c", "c3": "#1b8057", "c4": "#8a4fd0", "c5": "#c22f74", "c6": "#0d7d8c",
    "c7": "#8c6d10", "c8": "#737d8a",
}  # fmt: skip
DARK = {
    "page": "#0f141b", "card": "#181f29", "line": "#333d4b", "text": "#e7ecf2", "quiet": "#a3aebb", "accent": "#7ab8ff",
    "good": "#5fd38d", "bad": "#ff8a80", "warn": "#f2b24c", "warn-card": "#2a2213",
    "c1": "#5aa7f7", "c2": "#f58b4c", "c3": "#45bf8a", "c4": "#b78cf5", "c5": "#f06aa3", "c6": "#3cc3d3",
    "c7": "#d5b23f", "c8": "#8d98a6",
}  # fmt: skip

COLORS = 8
"""Colors of groups; the last, grey, is for all others."""


def variables(colors: dict[str, str]) -> str:
    """As custom properties of CSS."""
    return "".join(f"--{name}:{value};" for name, value in colors.items())


def contrast(first: str, second: str) -> float:
    """The contrast of two colors, 1 to 21: WCAG 2.2, "contrast ratio" and "relative luminance"."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    parts = (int(color[turn : turn + 2], 16) / 255 for turn in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
