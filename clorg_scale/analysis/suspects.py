"""Points that disagree with their neighbors: perhaps mislabeled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.analysis.summaries import Suspect
from clorg_scale.arrays import on_host

__all__ = ["find_suspects"]


def find_suspects(
    graph: AffinityGraph,
    codes: npt.NDArray[np.int64],
    classes: list[str],
    local_density: npt.NDArray[np.float32],
    *,
    n_most: int = 100,
) -> list[Suspect]:
    """Find the points of lowest local density whose neighbors mostly have one other class.

    Parameters
    ----------
    graph
        Affinity graph of the points.
    codes
        (n,) class codes, -1 where unlabelled.
    classes
        (C,) names.
    local_density
        (n,) share of each point's affinity that stays in its class; NaN where unlabelled.
    n_most
        Largest number of them; points with a local density of 1/2 or more are never among them.

    Returns
    -------
    Lowest local density first.
    """
    starts = on_host(graph.indptr)
    order = np.argsort(np.where(np.isnan(local_density), np.inf, local_density), kind="stable")
    found: list[Suspect] = []
    for point in order:
        if len(found) == n_most or not local_density[point] < 0.5:
            break
        entries = slice(int(starts[point]), int(starts[point + 1]))
        around, weights = codes[on_host(graph.indices[entries])], on_host(graph.weights[entries])
        suggested = _majority_class(around, weights, len(classes))
        if suggested not in (-1, codes[point]):
            density = float(local_density[point])
            found.append(Suspect(int(point), classes[codes[point]], classes[suggested], density))
    return found


def _majority_class(around: npt.NDArray[np.int64], weights: npt.NDArray[np.float32], n_classes: int) -> int:
    """Class with the largest weight among neighbors of these classes, -1 if no weight is positive."""
    labeled = around >= 0
    shares = np.bincount(around[labeled], weights[labeled], n_classes)
    return int(shares.argmax()) if shares.any() else -1
