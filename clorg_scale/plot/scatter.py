"""The map of the points."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from clorg_scale.errors import InputError
from clorg_scale.plot.models import one_analysis
from clorg_scale.plot.spots import number_at, outlines, spots
from clorg_scale.plot.style import MOST_TOLD_APART, clipped, drawing, group_colors, group_markers

__all__ = ["point_map"]

UNLABELLED_COLOR = "#C8C8C8"

MAP_HEIGHT = 85 / 25.4
"""Height of a map with its legend, in inches."""

NUMBERED_FROM = 11
"""Groups from which their numbers are written on the map: as many colors are hard to find again in a legend."""


def point_map(result: Any, ax: Any = None, *, by: Literal["class", "community", "density"] = "class") -> Any:
    """Draw the map of the points; distances between groups on it mean little.

    From 11 groups on, their numbers in the legend stand on the map too, and from the eleventh on the points are
    triangles, so that readers who do not see all colors tell them apart. More than 20 groups have no legend.

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
            _draw_groups(axes, xy[order], codes[order], names, style)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return axes


def _draw_groups(axes: Any, xy: Any, codes: Any, names: list[str], style: dict[str, Any]) -> None:
    """Draw points in the color and with the marker of their group; name the groups where they are few."""
    colors, markers = np.array([*group_colors(len(names)), UNLABELLED_COLOR]), [*group_markers(len(names)), "o"]
    drawn = axes.scatter(*xy.T, c=colors[codes], **style)
    if len(set(markers)) > 1:
        paths = outlines(markers)
        drawn.set_paths([paths[code] for code in codes.tolist()])
    if len(names) > MOST_TOLD_APART:
        axes.set_title(f"{len(names):,} groups")
        return
    numbered = len(names) >= NUMBERED_FROM
    shown = [f"{code + 1} {name}" for code, name in enumerate(names)] if numbered else names
    if numbered and names == [str(code) for code in range(len(names))]:
        shown = names  # communities are numbers already
    if numbered:
        for code, (x, y) in spots(xy, codes, len(names)).items():
            number_at(axes, x, y, shown[code].split()[0])
    _name_groups(axes, shown, colors, markers, has_unlabelled=bool((codes < 0).any()))


def _name_groups(axes: Any, names: list[str], colors: Any, markers: list[str], *, has_unlabelled: bool) -> None:
    """Legend below the map."""
    shown = [*names, "unlabelled"] if has_unlabelled else names
    handles = [
        axes.scatter([], [], s=14, color=color, marker=marker, label=clipped(name, 16), linewidths=0)
        for name, color, marker in zip(
            shown, [*colors[: len(names)], colors[-1]], [*markers[: len(names)], markers[-1]], strict=False
        )
    ]
    columns = 4 if max(map(len, shown)) <= 9 else 3
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
    axes.legend(handles=handles, ncols=columns, columnspacing=0.8, handletextpad=0.1, **below)
