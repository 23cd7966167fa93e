"""Outliers: points in a sparser neighborhood than their neighbors, and points that are far from everything.

The local outlier factor of Breunig, Kriegel, Ng and Sander (2000), computed from the k-NN table as scikit-learn's
`LocalOutlierFactor` defines it, finds the first kind. It does not see small groups far from all others, whose points
are as sparse as their neighbors; the mean distance to the k neighbors beside that of all points does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import on_host
from clorg_scale.neighbors import KNN

__all__ = ["Outliers", "find_outliers"]

FACTOR = 1.5
"""Local outlier factor from which a point is an outlier; what scikit-learn takes by default."""

FENCE = 3.0
"""Interquartile ranges above the upper quartile from which a mean distance to the neighbors is isolated: Tukey's outer
fence."""

FLOOR = 1e-3
"""Reachability distances are at least this share of their median: exact copies are infinitely dense otherwise, and all
their other neighbors outliers."""

BLOCK_ROWS = 2**16


class Outliers(NamedTuple):
    """Scores of n points."""

    factor: npt.NDArray[np.float32]
    """(n,) local outlier factor: density of the neighbors over the point's own; about 1 inside a cluster."""
    isolation: npt.NDArray[np.float32]
    """(n,) mean distance to the k neighbors over its median; 1 for half of the points."""
    is_outlier: npt.NDArray[np.bool_]
    """(n,) local outlier factor above `FACTOR`, or isolation beyond the fence."""
    fence: float
    """Isolation from which a point is an outlier."""


def find_outliers(table: KNN) -> Outliers:
    """Score every point of a k-NN table as an outlier."""
    indices, distances = on_host(table.indices), on_host(table.distances)
    n = len(indices)
    radius = np.asarray(distances[:, -1], dtype=np.float64)
    mean = np.empty(n)
    reach = np.empty(n)
    for rows in _blocks(n):
        block = np.asarray(distances[rows], dtype=np.float64)
        mean[rows] = block.mean(axis=1)
        reach[rows] = np.maximum(block, radius[indices[rows]]).mean(axis=1)
    least = FLOOR * float(np.median(reach))
    reach = np.maximum(reach, max(least, float(np.finfo(np.float32).tiny)))
    factor = np.empty(n)
    for rows in _blocks(n):
        factor[rows] = reach[rows] * (1 / reach[indices[rows]]).mean(axis=1)
    middle = float(np.median(mean))
    isolation = mean / middle if middle > 0 else np.where(mean > 0, np.inf, 1.0)
    low, high = np.quantile(isolation[np.isfinite(isolation)], [0.25, 0.75])
    fence = float(high + FENCE * (high - low))
    return Outliers(
        np.minimum(factor, np.finfo(np.float32).max).astype(np.float32),
        isolation.astype(np.float32),
        (factor > FACTOR) | (isolation > fence),
        fence,
    )


def _blocks(n: int) -> Any:
    """Slices of rows."""
    return (slice(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS))
