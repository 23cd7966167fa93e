r"""How far RLD strays from its expectation where the labels say nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import array_module
from clorg_scale.rld.points import ClassOrderedPoints

__all__ = ["affinity_spread", "shuffled_labels_deviation"]

Floats = npt.NDArray[np.float64]

SAMPLED_ROWS = 64
"""Rows of the affinity matrix on which B is compared with A."""

BLOCK_ROWS = 8192


def shuffled_labels_deviation(spread: Floats, codes: npt.NDArray[np.int64], n_classes: int) -> Floats:
    r"""Standard deviation of RLD over shufflings of the labels.

    With B_ij = A_ij / 2m - k_i k_j / (2m)^2, whose rows sum to zero, RLD = sum of B_ij over pairs of one class. For
    labels drawn at random with class shares f this is a degenerate quadratic form, of variance

        2 (sum_ij B_ij^2) (sum_c f_c^2 - 2 sum_c f_c^3 + (sum_c f_c^2)^2)

    to leading order in 1/n.

    Parameters
    ----------
    spread
        (t,) sum of B^2 over all pairs.
    codes
        (n,) class codes, -1 where unlabelled.
    n_classes
        C.

    Returns
    -------
    (t,)
    """
    f = np.bincount(codes[codes >= 0], minlength=n_classes) / len(codes)
    of_labels = (f**2).sum() - 2 * (f**3).sum() + (f**2).sum() ** 2
    return np.asarray(np.sqrt(2 * spread * of_labels))


def affinity_spread(
    points: ClassOrderedPoints,
    temperatures: Floats,
    mean_distance: float,
    log_r: Floats,
    k: Floats,
    sum_of_squares: Floats,
    *,
    seed: int = 0,
) -> Floats:
    r"""Sum of B^2 over all pairs: how much smaller it is than that of (A / 2m)^2 is found on a sample of rows.

    Parameters
    ----------
    points, temperatures, mean_distance
        As for the sums.
    log_r, k
        (t, n) natural logarithm of r, and affinities in units of A / n^2, in the order of the embeddings.
    sum_of_squares
        (t,) sum of A^2 / n^4 over all pairs.
    seed
        Of the sample.

    Returns
    -------
    (t,)
    """
    n = points.n_points
    rows = np.random.default_rng([seed, n]).permutation(n)[:SAMPLED_ROWS]
    X, xp = points.rows(rows), array_module(points.embeddings)
    norms = xp.einsum("ij,ij->i", X, X)
    logs, shares = (xp.asarray(of_points, dtype=X.dtype) for of_points in (log_r, k / k.sum(axis=1, keepdims=True)))
    chosen = xp.asarray(rows)
    totals, rates = k.sum(axis=1), -2 / (mean_distance * temperatures)
    of_A, of_B = np.zeros((2, len(temperatures)))
    space = np.empty((min(n, BLOCK_ROWS), points.n_features), dtype=points.dtype)
    for start in range(0, n, BLOCK_ROWS):
        columns = np.arange(start, min(start + BLOCK_ROWS, n))
        Y = points.rows(columns, space=space)
        distances = xp.sqrt(xp.maximum(norms[:, None] + xp.einsum("ij,ij->i", Y, Y) - 2 * (X @ Y.T), 0))
        itself = np.flatnonzero((rows >= start) & (rows < start + len(columns)))
        distances[xp.asarray(itself), xp.asarray(rows[itself] - start)] = np.inf
        for t, rate in enumerate(rates.astype(X.dtype)):
            part = slice(start, start + len(columns))
            B = xp.exp(rate * distances - logs[t, chosen, None] - logs[t, part]) / X.dtype.type(totals[t])
            of_A[t] += float(xp.einsum("ij,ij->", B, B, dtype=np.float64))
            B -= shares[t, chosen, None] * shares[t, part]
            of_B[t] += float(xp.einsum("ij,ij->", B, B, dtype=np.float64))
    return np.asarray(sum_of_squares / totals**2 * of_B / of_A)
