"""Random points with class codes, for the tests of RLD's engines."""

from __future__ import annotations

import numpy as np


def clustered_points(seed, n, d, *, offset=0.0):
    """Points of five classes and some without; an exact and a near duplicate, within and across classes."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 5, n)
    X = rng.normal(size=(6, d))[codes + 1] + rng.normal(size=(n, d)) + offset
    X[1], X[n // 2], X[3] = X[0], X[n // 3], X[2] + 1e-4
    return X.astype(np.float32), codes.astype(np.int64)
