"""Embeddings on their principal axes: a few coordinates that propose neighbors almost as well as all features."""

from __future__ import annotations

import numpy as np

from clorg_scale.neighbors.algorithms.clustering import search_precisely
from clorg_scale.neighbors.points import Points

__all__ = ["principal_axes"]

SAMPLE = 8192
"""Points whose covariance gives the axes."""

EXPLAINED = 0.92
"""Share of the variance to keep; more candidates make up for what the rest changes in the order of neighbors."""

FEW_AXES = 16
"""Number of axes up to which their variance may be that between groups of points, not that between neighbors."""

NEAR_PAIRS = 512
"""Points of the sample whose nearest neighbors in it are found."""

LEFT_OUT = 0.6
"""Share of the squared distance of near points that axes may leave out."""

LEAST_AXES, AXES_STEP = 32, 16
LARGEST_SHARE = 1 / 3
"""Largest number of axes, as a share of the features; more would save nothing."""


def principal_axes(points: Points, seed: int) -> np.ndarray | None:
    """(d, p) float32 orthonormal axes, or None where few axes do not hold most of the variance.

    They span the space of the principal axes, in random directions: so the variance of each is about the same, and few
    bits hold all of them about equally well.
    """
    most = int(points.d * LARGEST_SHARE)
    if points.inner_product or most < LEAST_AXES:
        return None
    rng = np.random.default_rng(seed)
    sample = points.block(np.sort(rng.choice(points.n, size=min(points.n, SAMPLE), replace=False)))
    sample = sample - sample.mean(axis=0)
    variances, axes = np.linalg.eigh(sample.T @ sample)
    explained = np.cumsum(variances[::-1].astype(np.float64))
    needed = int(np.searchsorted(explained, EXPLAINED * explained[-1])) + 1
    if needed <= FEW_AXES and _leaves_out_neighbors(sample, explained[-1] - explained[needed - 1]):
        return None
    needed = max(LEAST_AXES, -(-needed // AXES_STEP) * AXES_STEP)
    if needed > most:
        return None
    turned, _ = np.linalg.qr(rng.normal(size=(needed, needed)))
    return np.ascontiguousarray(axes[:, ::-1][:, :needed] @ turned, dtype=np.float32)


def _leaves_out_neighbors(sample: np.ndarray, left_out: float) -> bool:
    """Whether most of the distance between near points lies outside the axes.

    Parameters
    ----------
    sample
        (m, d) centered.
    left_out
        Sum over the sample of the squared coordinates outside the axes.
    """
    keys, _ = search_precisely(sample[:NEAR_PAIRS], sample, 2, False)
    return bool(2 * left_out / len(sample) > LEFT_OUT * np.median(keys[:, 1]))
