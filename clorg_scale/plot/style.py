"""One style for all figures: an 85 mm column, 8 pt text, colors that color-blind readers tell apart."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clorg_scale.errors import require

__all__ = [
    "COLUMN",
    "MOST_TOLD_APART",
    "clipped",
    "drawing",
    "group_colors",
    "group_markers",
    "legend_above",
    "model_colors",
    "new_figure",
]

COLUMN = 85 / 25.4
"""Width of a figure in inches: a column of most journals."""

HEIGHT = 60 / 25.4

_MODELS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colors, without the yellow that is pale on paper."""

_GROUPS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#000000")
"""Paul Tol's muted colors, and black: with a gray, color-blind readers confuse the wine red."""

GROUP_MARKERS = ("o", "^")
"""Markers of the first groups, as many as there are colors, and of the next."""

MOST_TOLD_APART = len(_GROUPS) * len(GROUP_MARKERS)
"""Groups with a color and marker of their own."""

GRAY = "#777777"

_LEGEND_WIDTH, _ENTRY_WIDTH, _LETTER_WIDTH = 225, 19, 3.7
"""Points: room for a legend in a column of 85 mm, its entry without the name, a letter of 7 pt on the average."""

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "errorbar.capsize": 1.5,
    "savefig.dpi": 300,
    "figure.dpi": 150,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "clorg-scale",
}


@contextmanager
def drawing(ax: Any = None, *, height: float = HEIGHT) -> Iterator[Any]:
    """Apply the style, and give the axes to draw on: those passed, or those of a new pyplot figure."""
    matplotlib = require("matplotlib", extra="plot", purpose="A figure")
    with matplotlib.rc_context(_STYLE):
        if ax is None:
            pyplot = require("matplotlib.pyplot", extra="plot", purpose="A figure")
            _, ax = pyplot.subplots(figsize=(COLUMN, height), layout="constrained")
        yield ax


@contextmanager
def new_figure(height: float = HEIGHT) -> Iterator[tuple[Any, Any]]:
    """Figure in the style that pyplot does not keep, and its axes."""
    matplotlib = require("matplotlib", extra="plot", purpose="A figure")
    figures = require("matplotlib.figure", extra="plot", purpose="A figure")
    with matplotlib.rc_context(_STYLE):
        figure = figures.Figure(figsize=(COLUMN, height), layout="constrained")
        yield figure, figure.add_subplot()


def model_colors(n: int) -> list[str]:
    """Colors of models, of lines and the like: of many models, from dark to light in their order."""
    if n <= len(_MODELS):
        return list(_MODELS[:n])
    matplotlib = require("matplotlib", extra="plot", purpose="A figure")
    colors = require("matplotlib.colors", extra="plot", purpose="A figure")
    ramp = matplotlib.colormaps["viridis"]
    return [colors.to_hex(ramp(0.92 * i / (n - 1))) for i in range(n)]


def group_colors(n: int) -> list[str]:
    """Colors of classes or communities: ten, which come again with another marker; of very many groups, hues."""
    return [_GROUPS[i % len(_GROUPS)] if n <= MOST_TOLD_APART else _on_circle(i, n) for i in range(n)]


def group_markers(n: int) -> list[str]:
    """Markers of classes or communities."""
    return [GROUP_MARKERS[i // len(_GROUPS)] if n <= MOST_TOLD_APART else GROUP_MARKERS[0] for i in range(n)]


def legend_above(axes: Any, most_columns: int) -> None:
    """Legend above the axes, in as many columns as the names leave room for."""
    longest = max(map(len, axes.get_legend_handles_labels()[1]))
    fitting = int(_LEGEND_WIDTH / (_ENTRY_WIDTH + _LETTER_WIDTH * longest))
    axes.legend(
        ncols=max(1, min(fitting, most_columns)),
        columnspacing=0.8,
        handletextpad=0.3,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )


def _on_circle(i: int, n: int) -> str:
    """One of many hues, neighbors of different lightness."""
    red, green, blue = colorsys.hls_to_rgb(i / n, (0.38, 0.52, 0.64)[i % 3], 0.6)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def clipped(name: str, length: int = 24) -> str:
    """Name as matplotlib draws it: one line, not longer than this, and never as mathematics."""
    text = " ".join(name.split())
    text = text if len(text) <= length else text[: length - 1].rstrip() + "…"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")  # names with _ are left out of legends
