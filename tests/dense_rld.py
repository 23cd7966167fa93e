"""The dense float64 definition of RLD (arXiv 2305.10229), the oracle of every engine; O(n^2) memory."""

import numpy as np


def dense_affinity(X, temperature):
    X = np.asarray(X, np.float64)
    d = np.sqrt(((X[:, None, :] - X[None, :, :]) ** 2).sum(-1)) if len(X) * X.shape[1] < 40_000 else _by_rows(X)
    n = len(X)
    mu = d.sum() / (n * (n - 1))
    x = d / (mu * temperature)
    np.fill_diagonal(x, np.inf)
    smallest = x.min(axis=1, keepdims=True)
    log_r = -smallest[:, 0] + np.log(np.exp(smallest - x).sum(axis=1))
    return np.exp(2 * np.log(n) - 2 * x - log_r[:, None] - log_r[None, :]), mu


def _by_rows(X):
    return np.stack([np.sqrt(((X - x) ** 2).sum(1)) for x in X])


def dense_rld(X, codes, temperatures):
    """Values (t,), per-class shares (t, C), local density (t, n), mu."""
    codes = np.asarray(codes)
    n_classes = codes.max() + 1
    values, per_class, local = [], [], []
    for temperature in temperatures:
        A, mu = dense_affinity(X, temperature)
        k, two_m = A.sum(1), A.sum()
        same = (codes[:, None] == codes[None, :]) & (codes >= 0)[:, None]
        w = (A * same).sum(1)
        shares = [w[codes == c].sum() / two_m - (k[codes == c].sum() / two_m) ** 2 for c in range(n_classes)]
        values.append(sum(shares))
        per_class.append(shares)
        local.append(np.where(codes >= 0, w / k, np.nan))
    return np.array(values), np.array(per_class), np.array(local), mu
