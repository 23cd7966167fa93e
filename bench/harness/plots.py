"""SVG plots of records: log-log scatters and lines, colors that print, a legend beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Series", "plot"]

COLORS = ("#0b68a8", "#c2410c", "#15803d", "#7e22ce", "#b45309", "#0e7490", "#be185d", "#4d7c0f", "#475569", "#1d4ed8")

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 400, 70, 16, 330, 48


class Series(NamedTuple):
    """Points of one color; `line` joins them in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]
    line: bool = False


class _Axis(NamedTuple):
    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (math.log10(value) - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Powers of ten, with 2 and 5 between where there are few."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        steps = (1, 2, 5) if self.high - self.low < 2.2 else (1,)
        found = [step * 10.0**power for power in powers for step in steps]
        inside = [tick for tick in found if self.low - 1e-9 <= math.log10(tick) <= self.high + 1e-9]
        if len(inside) > 1:
            return inside
        low, high = 10**self.low, 10**self.high
        step = 10 ** math.floor(math.log10((high - low) / 2))
        return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def plot(series: Sequence[Series], x_label: str, y_label: str, *, reverse_share: bool = False) -> str:
    """A log-log plot as an SVG element.

    Parameters
    ----------
    series
        What is drawn; points that are not positive are left out.
    x_label, y_label
        What the axes show.
    reverse_share
        x is a share below 1, such as a recall, drawn by what it lacks: .9, .99, .999 are equally far apart.
    """
    drawn = [
        Series(s.name, [(max(1 - x, 1e-4) if reverse_share else x, y) for x, y in s.points if y > 0 and x > 0], s.line)
        for s in series
    ]
    drawn = [s for s in drawn if s.points]
    if not drawn:
        return ""
    xs, ys = zip(*(point for s in drawn for point in s.points), strict=True)
    x_axis, y_axis = _axis(xs, LEFT, WIDTH - RIGHT), _axis(ys, HEIGHT - BOTTOM, TOP)
    if reverse_share:
        x_axis = _Axis(x_axis.low, x_axis.high, x_axis.stop, x_axis.start)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(y_label)} against {escape(x_label)}">'
    ]
    for tick in x_axis.ticks():
        label = f"{1 - tick:.4g}" if reverse_share else _number(tick)
        parts.append(f'<path d="M{x_axis(tick):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#e4e4e0"/>')
        parts.append(f'<text x="{x_axis(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>')
    for tick in y_axis.ticks():
        parts.append(f'<path d="M{LEFT} {y_axis(tick):.1f}H{WIDTH - RIGHT}" stroke="#e4e4e0"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y_axis(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for number, s in enumerate(drawn):
        parts += _drawn(s, COLORS[number % len(COLORS)], number, x_axis, y_axis)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text></svg>"
    )
    return "\n".join(parts)


def _drawn(series: Series, color: str, number: int, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    """Points, their line, and the entry of the legend."""
    drawn = sorted((x_axis(x), y_axis(y)) for x, y in series.points)
    parts = []
    if series.line and len(drawn) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
    title = f"<title>{escape(series.name)}</title>"
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}">{title}</circle>' for x, y in drawn]
    top = TOP + 10 + 17 * number
    name = series.name if len(series.name) <= 46 else series.name[:45] + "…"
    if top < HEIGHT - 8:
        parts.append(f'<circle cx="{WIDTH - RIGHT + 16}" cy="{top}" r="4" fill="{color}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 26}" y="{top + 4}" font-size="11">{escape(name)}</text>')
    return parts


def _axis(values: Sequence[float], start: float, stop: float) -> _Axis:
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.08 * (high - low), 0.08)
    return _Axis(low - margin, high + margin, start, stop)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
