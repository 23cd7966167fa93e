"""Probes with their intervals, and classes against classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from clorg_scale.errors import InputError
from clorg_scale.plot.models import analyses_of, one_analysis
from clorg_scale.plot.style import clipped, drawing, legend_above, model_colors
from clorg_scale.probes.result import ProbeResult
from clorg_scale.report.findings import probe_title

__all__ = ["MOST_CLASSES", "mixing", "probes"]

MOST_CLASSES = 20
"""Classes whose names of 6 pt have room; of more, the least homogeneous are drawn, and the title says so."""

MOST_NUMBERS = 10
"""Classes up to which the shares are printed in the matrix."""


def probes(result: Any, ax: Any = None) -> Any:
    """Draw the accuracy of each probe with its 95 % interval.

    Parameters
    ----------
    result
        `Analysis`, `Comparison`, or a list of `ProbeResult`.
    ax
        Axes of matplotlib to draw on; default: those of a new figure.

    Returns
    -------
    The axes.

    Raises
    ------
    InputError
        If the result is of another kind, or holds no probe.
    MissingDependencyError
        If matplotlib is not installed.
    """
    if isinstance(result, (list, tuple)) and all(isinstance(probe, ProbeResult) for probe in result):
        found = {"": list(result)}
    else:
        found = {name: a.probes for name, a in analyses_of(result, "Accuracy of probes").items()}
    names = list(dict.fromkeys(probe.name for results in found.values() for probe in results))
    if not names:
        raise InputError("There is nothing to draw: the result has no probes.")
    with drawing(ax) as axes:
        step = 0.7 / len(found)
        for i, ((model, results), color) in enumerate(zip(found.items(), model_colors(len(found)), strict=True)):
            ys = [names.index(probe.name) + (i - (len(found) - 1) / 2) * step for probe in results]
            values = np.array([probe.accuracy for probe in results])
            low, high = np.array([probe.accuracy_interval for probe in results]).reshape(-1, 2).T
            errors = np.abs([values - low, high - values])
            axes.errorbar(values, ys, xerr=errors, fmt="o", color=color, elinewidth=1, label=clipped(model) or None)
        axes.set_yticks(range(len(names)), [probe_title(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("Accuracy")
        if len(found) > 1:
            legend_above(axes, 4)
    return axes


def mixing(result: Any, ax: Any = None) -> Any:
    """Draw classes against classes: the share of each class's affinity that goes to each class; rows sum to one.

    Parameters
    ----------
    result
        `Analysis`. Of more than 20 classes those with the smallest share of their own are drawn.
    ax
        Axes of matplotlib to draw on; default: those of a new figure.

    Returns
    -------
    The axes.

    Raises
    ------
    InputError
        If the result is of another kind, or an analysis of before, which has no such shares.
    MissingDependencyError
        If matplotlib is not installed.
    """
    analysis = one_analysis(result, "Mixing of classes")
    if analysis.class_mixing is None:
        raise InputError(
            f"The analysis {analysis.name!r} is of an earlier version and has no mixing; analyze it again."
        )
    shares = analysis.class_mixing
    order = np.argsort(np.diag(shares), kind="stable")
    kept = np.sort(order[:MOST_CLASSES]) if len(shares) > MOST_CLASSES else np.arange(len(shares))
    names = [clipped(analysis.classes[c], 14) for c in kept]
    n = len(kept)
    with drawing(ax, height=COLUMN_HEIGHT) as axes:
        image = axes.imshow(shares[np.ix_(kept, kept)], cmap="Blues", vmin=0, vmax=1)
        size = 7 if n <= 12 else 6
        axes.set_xticks(range(n), names, rotation=90, fontsize=size)
        axes.set_yticks(range(n), names, fontsize=size)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if n <= MOST_NUMBERS:
            for i in range(n):
                for j in range(n):
                    share = shares[kept[i], kept[j]]
                    if share >= 0.005:
                        text, color = f"{share:.2f}".removeprefix("0"), "white" if share > 0.5 else "black"
                        axes.text(j, i, text, ha="center", va="center", color=color, fontsize=6)
        axes.figure.colorbar(image, ax=axes, shrink=0.7, label="Share of the affinity", pad=0.02)
        axes.set(xlabel="Class of the neighbors", ylabel="Class")
        if n < len(shares):
            axes.set_title(f"The {n} least homogeneous of {len(shares):,} classes")
    return axes


COLUMN_HEIGHT = 78 / 25.4
"""Height in inches of a square matrix with its labels."""
