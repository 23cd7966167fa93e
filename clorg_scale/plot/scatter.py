"""The map of the points."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from clorg_scale.errors import InputError
from clorg_scale.plot.models import one_analysis
from clorg_scale.plot.style import clipped, drawing, group_colors

__all__ = ["point_map"]

MAP_HEIGHT = 85 / 25.4
"""Height of a map with its legend, in inches."""

MOST_NAMES = 20
"""Groups that a legend names; more are drawn without one."""


def point_map(result: Any, ax: Any = None, *, by: Literal["class", "community", "density"] = "class") -> Any:
    """Draw the map of the points; distances between groups on it mean little.

    Parameters
    ----------
    result
        `Analysis` with a map.
    ax
        Axes of matplotlib to draw on; default: those of a new figure.
    by
        Color of the points: "class", "community", or "density", the local density.

    Returns
    -------
    The axes.

    Raises
    ------
    InputError
        If the result is of another kind or has no map, or the color is unknown.
    MissingDependencyError
        If matplotlib is not installed.
    """
    analysis = one_analysis(result, "A map")
    points = analysis.point_map
    if not points.index:
        raise InputError(f"The analysis {analysis.name!r} has no map; analyze with map_points.")
    if by not in ("class", "community", "density"):
        raise InputError(f"by must be 'class', 'community' or 'density', not {by!r}.")
    xy = np.column_stack([points.x, points.y])
    order = np.random.default_rng(0).permutation(len(xy))  # no class always on top
    size = float(np.clip(3000 / len(xy), 0.5, 12))
    with drawing(ax, height=MAP_HEIGHT) as axes:
        style: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": len(xy) > 2_000}
        if by == "density":
            values = np.array(points.local_density, dtype=float)
            shown = axes.scatter(*xy[order].T, c=values[order], cmap="RdYlBu", vmin=0, vmax=1, **style)
            axes.figure.colorbar(shown, ax=axes, shrink=0.6, label="Local density")
        else:
            codes = np.array(points.class_code if by == "class" else points.community)
            names = analysis.classes if by == "class" else [f"{c}" for c in range(analysis.communities.n_communities)]
            colors = np.array([*group_colors(len(names)), "#BBBBBB"])  # -1: unlabelled
            axes.scatter(*xy[order].T, c=colors[codes[order]], **style)
            _name_groups(axes, names, colors, has_unlabelled=bool((codes < 0).any()))
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return axes


def _name_groups(axes: Any, names: list[str], colors: Any, *, has_unlabelled: bool) -> None:
    """Legend below the map, where the groups are few."""
    if len(names) > MOST_NAMES:
        axes.set_title(f"{len(names):,} groups")
        return
    shown = [*names, "unlabelled"] if has_unlabelled else names
    handles = [
        axes.scatter([], [], s=14, color=color, label=clipped(name, 16), linewidths=0)
        for name, color in zip(shown, [*colors[: len(names)], colors[-1]], strict=False)
    ]
    columns = 4 if max(map(len, shown)) <= 9 else 3
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
    axes.legend(handles=handles, ncols=columns, columnspacing=0.8, handletextpad=0.1, **below)
