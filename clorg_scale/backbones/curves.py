"""Curves over epochs as an SVG picture: small panels side by side, each curve labeled at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

__all__ = ["Panel", "draw_curves"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 306, 220, 52, 64, 34, 34
"""Size and margins of a panel in pixels; the right margin grows with the names of the curves."""

LETTER = 6.5
"""Average width of a letter in pixels."""

COLORS = ("#1f5fa8", "#c4511d", "#2b8a5a", "#7a4fa3", "#8a6d1c")


@dataclass(frozen=True)
class Panel:
    """Curves that share an axis; `curves` holds the values of each by name, one for each epoch."""

    title: str
    curves: dict[str, list[float]]


def draw_curves(xs: Sequence[float], panels: Sequence[Panel], *, x_title: str, logarithmic: bool = False) -> str:
    """Draw panels side by side, over x or its logarithm; returns the text of an SVG file."""
    longest = max(len(name) for panel in panels for name in panel.curves)
    space = max(0, round(LETTER * longest) + 12 - RIGHT)
    drawn = "".join(
        f'<g transform="translate({(WIDTH + space) * position},0)">'
        f"{_panel(xs, panel, x_title, logarithmic=logarithmic)}</g>"
        for position, panel in enumerate(panels)
    )
    width = (WIDTH + space) * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>{drawn}'
        "</svg>\n"
    )


def _panel(xs: Sequence[float], panel: Panel, x_title: str, *, logarithmic: bool) -> str:
    values = np.array(list(panel.curves.values()), dtype=float)
    low, high = _span(float(values.min()), float(values.max()))
    first, last = _span(min(xs), max(xs))
    share = (
        np.log(np.array(xs) / first) / np.log(last / first) if logarithmic else (np.array(xs) - first) / (last - first)
    )
    x = LEFT + share * (WIDTH - LEFT - RIGHT)
    y = HEIGHT - BOTTOM - (values - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="600">{escape(panel.title)}</text>']
    for up in (0.0, 0.5, 1.0):
        at = HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        label = f"{low + up * (high - low):.3g}"
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#555">{label}</text>')
    for at, anchor, value in ((LEFT, "start", first), (WIDTH - RIGHT, "end", last)):
        parts.append(f'<text x="{at}" y="{HEIGHT - 16}" text-anchor="{anchor}" fill="#555">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 16}" text-anchor="middle" fill="#555">{escape(x_title)}</text>')
    end = int(np.argmax(x))
    label_heights = _spread(y[:, end])
    for name, heights, label_height, color in zip(panel.curves, y, label_heights, COLORS, strict=False):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, heights, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x[end]:.1f}" cy="{heights[end]:.1f}" r="3" fill="{color}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{label_height + 4:.1f}" fill="{color}">{escape(name)}</text>')
    return "".join(parts)


def _span(low: float, high: float) -> tuple[float, float]:
    """Range of an axis, never empty."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _spread(heights: npt.NDArray[np.float64], least: float = 13) -> npt.NDArray[np.float64]:
    """Spread heights of labels so that none overlap, keeping their order."""
    order = np.argsort(heights)
    spread = heights[order].copy()
    for i in range(1, len(spread)):
        spread[i] = max(spread[i], spread[i - 1] + least)
    spread -= max(0.0, float(spread[-1]) - (HEIGHT - BOTTOM))
    result = np.empty_like(spread)
    result[order] = spread
    return result
