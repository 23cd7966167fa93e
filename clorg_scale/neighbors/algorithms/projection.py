"""Embeddings on their principal axes: a few coordinates that propose neighbours as well as all of them."""

from __future__ import annotations

import numpy as np

from clorg_scale.neighbors.points import Points

__all__ = ["principal_axes"]

SAMPLE = 8192
"""Points whose covariance gives the axes."""

EXPLAINED = 0.92
"""Share of the variance to keep; the rest blurs the order of neighbours, which more candidates make up for."""

LEAST_AXES, AXES_STEP = 32, 16
LARGEST_SHARE = 1 / 3
"""Of the features; beyond, nothing would be gained."""


def principal_axes(points: Points, seed: int) -> np.ndarray | None:
    """(d, p) float32 orthonormal axes, or None where few axes do not hold most of the variance."""
    most = int(points.d * LARGEST_SHARE)
    if points.inner_product or most < LEAST_AXES:
        return None
    rng = np.random.default_rng(seed)
    sample = points.block(np.sort(rng.choice(points.n, size=min(points.n, SAMPLE), replace=False)))
    sample = sample - sample.mean(axis=0)
    variances, axes = np.linalg.eigh(sample.T @ sample)
    held = np.cumsum(variances[::-1].astype(np.float64))
    needed = int(np.searchsorted(held, EXPLAINED * held[-1])) + 1
    needed = max(LEAST_AXES, -(-needed // AXES_STEP) * AXES_STEP)
    return np.ascontiguousarray(axes[:, ::-1][:, :needed], dtype=np.float32) if needed <= most else None
