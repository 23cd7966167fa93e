"""Random points with class codes, for the tests of RLD's engines, and RLD of many labelings of the same points."""

from __future__ import annotations

import numpy as np


def clustered_points(seed, n, d, *, offset=0.0):
    """Points of five classes and some without; an exact and a near duplicate, within and across classes."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 5, n)
    X = rng.normal(size=(6, d))[codes + 1] + rng.normal(size=(n, d)) + offset
    X[1], X[n // 2], X[3] = X[0], X[n // 3], X[2] + 1e-4
    return X.astype(np.float32), codes.astype(np.int64)


def dense_modularity(affinities, codes):
    """(t,) modularity of class codes 0..C - 1 on (t, n, n) affinities."""
    indicator = np.eye(codes.max() + 1)[codes]
    by_class = indicator.T @ affinities @ indicator
    two_m = by_class.sum(axis=(1, 2))
    W, K = np.diagonal(by_class, axis1=1, axis2=2), by_class.sum(axis=2)
    return (W / two_m[:, None] - (K / two_m[:, None]) ** 2).sum(axis=1)
