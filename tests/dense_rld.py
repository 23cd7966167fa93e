"""RLD's sums from the dense definition in float64: the oracle of the engines' tests."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp


def dense_sums(X, codes, temperatures):
    """k (t, n), w (t, n), log r (t, n) and mu of A = E^2 / (r_i r_j), E = exp(-d / (mu T)), E_ii = 0."""
    X = np.asarray(X, np.float64)
    n = len(X)
    distance = cdist(X, X)  # from differences of the coordinates
    mu = distance.sum() / (n * (n - 1))
    same = (codes[:, None] == codes[None]) & (codes >= 0)[:, None]
    k, w, log_r = (np.empty((len(temperatures), n)) for _ in range(3))
    for t, temperature in enumerate(temperatures):
        exponents = -distance / (mu * temperature)
        np.fill_diagonal(exponents, -np.inf)
        log_r[t] = logsumexp(exponents, axis=1)
        A = np.exp(2 * exponents - log_r[t][:, None] - log_r[t])
        k[t], w[t] = A.sum(1), (A * same).sum(1)
    return k, w, log_r, mu


def rld_values(k, w, codes):
    """(t,) modularity of the classes."""
    two_m = k.sum(1)
    classes = [codes == c for c in range(codes.max() + 1)]
    return sum(w[:, c].sum(1) / two_m - (k[:, c].sum(1) / two_m) ** 2 for c in classes)


def dense_rld(X, codes, temperatures):
    """Values (t,), per-class shares (t, C), local density (t, n; NaN where unlabelled) and mu."""
    codes = np.asarray(codes)
    k, w, _, mu = dense_sums(X, codes, temperatures)
    two_m = k.sum(1, keepdims=True)
    classes = [codes == c for c in range(codes.max() + 1)]
    W, K = (np.stack([sums[:, c].sum(1) for c in classes], axis=1) / two_m for sums in (w, k))
    return (W - K**2).sum(1), W - K**2, np.where(codes >= 0, w / k, np.nan), mu


def clustered_points(seed, n, d, *, offset=0.0):
    """Points of five classes and some without; an exact and a near duplicate, within and across classes."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 5, n)
    X = rng.normal(size=(6, d))[codes + 1] + rng.normal(size=(n, d)) + offset
    X[1], X[n // 2], X[3] = X[0], X[n // 3], X[2] + 1e-4
    return X.astype(np.float32), codes.astype(np.int64)
