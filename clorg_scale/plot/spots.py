"""Numbers of groups on a map, each where its group is densest."""

from __future__ import annotations

from typing import Any

import numpy as np

from clorg_scale.errors import require

__all__ = ["number_at", "outlines", "spots"]

BINS = 16
"""Cells along each side of the map that the points of a group are counted in."""

APART = 0.055
"""Least distance of two numbers, as a share of the map's side: the height of a digit."""


def outlines(markers: list[str]) -> list[Any]:
    """Paths of markers as matplotlib's collections take them."""
    styles = require("matplotlib.markers", extra="plot", purpose="A figure")
    found = [styles.MarkerStyle(marker) for marker in markers]
    return [style.get_path().transformed(style.get_transform()) for style in found]


def spots(xy: Any, codes: Any, n_groups: int) -> dict[int, tuple[float, float]]:
    """Return the position of each group's number: amid the points of its densest free cell.

    Parameters
    ----------
    xy
        (n, 2) points of the map.
    codes
        (n,) groups; -1: none.
    n_groups
        Groups; those without a point get no spot.
    """
    low, side = xy.min(axis=0), max(float(np.ptp(xy, axis=0).max()), 1e-30)
    cells = np.minimum((xy - low) / side * BINS, BINS - 1).astype(np.int64) @ np.array([BINS, 1])
    counts = np.bincount(codes[codes >= 0], minlength=n_groups)
    found: dict[int, tuple[float, float]] = {}
    for code in np.argsort(counts, kind="stable"):  # small groups first: they have the least choice
        own = np.flatnonzero(codes == code)
        if not len(own):
            continue
        numbers, sizes = np.unique(cells[own], return_counts=True)
        candidates = [np.median(xy[own[cells[own] == cell]], axis=0) for cell in numbers[np.argsort(-sizes)]]
        taken = np.array(list(found.values())).reshape(-1, 2)
        free = [at for at in candidates if (np.hypot(*(taken - at).T) >= APART * side).all()]
        x, y = (free or candidates)[0]
        found[int(code)] = float(x), float(y)
    return found


def number_at(axes: Any, x: float, y: float, text: str) -> None:
    """Write black on a white rim, legible on every color."""
    effects = require("matplotlib.patheffects", extra="plot", purpose="A figure")
    rim = [effects.withStroke(linewidth=1.8, foreground="white")]
    axes.text(x, y, text, ha="center", va="center", fontsize=7, fontweight="bold", path_effects=rim)
