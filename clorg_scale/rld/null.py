r"""Standard deviation of RLD over shufflings of the labels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import array_module
from clorg_scale.rld.points import ClassOrderedPoints, distances_to_all

__all__ = ["affinity_spread", "shuffled_labels_deviation"]

Floats = npt.NDArray[np.float64]

SAMPLED_ROWS = 64
"""Rows of the affinity matrix on which B is compared with A."""

BLOCK_ROWS = 8192


class PairSums(Protocol):
    """Sums over all pairs of points, exact or sampled."""

    @property
    def k(self) -> Floats:
        """(t, n) affinity of each point to all others."""

    @property
    def log_r(self) -> Floats:
        """(t, n) natural logarithm of r."""

    @property
    def mean_distance(self) -> float:
        """Mean distance mu."""

    @property
    def squares(self) -> Floats | None:
        """(t,) sum of the squares of all affinities."""


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
    label_factor = (f**2).sum() - 2 * (f**3).sum() + (f**2).sum() ** 2
    return np.asarray(np.sqrt(2 * spread * label_factor))


def affinity_spread(points: ClassOrderedPoints, temperatures: Floats, sums: PairSums, *, seed: int = 0) -> Floats:
    r"""Sum of B^2 over all pairs: how much smaller it is than that of (A / 2m)^2 is found on a sample of rows.

    Parameters
    ----------
    points, temperatures
        As for the sums.
    sums
        Sums over all pairs, among them that of the squares of all affinities.
    seed
        Seed of the sample.

    Returns
    -------
    (t,)
    """
    assert sums.squares is not None
    n, k = points.n_points, sums.k
    rows = np.random.default_rng([seed, n]).permutation(n)[:SAMPLED_ROWS]
    X, xp = points.rows(rows), array_module(points.embeddings)
    logs, shares = (
        xp.asarray(of_points, dtype=X.dtype) for of_points in (sums.log_r, k / k.sum(axis=1, keepdims=True))
    )
    chosen = xp.asarray(rows)
    totals, rates = k.sum(axis=1), -2 / (sums.mean_distance * temperatures)
    of_A, of_B = np.zeros((2, len(temperatures)))
    space = np.empty((min(n, BLOCK_ROWS), points.n_features), dtype=points.dtype)
    starts = range(0, n, BLOCK_ROWS)
    blocks = ((start, points.rows(np.arange(start, min(start + BLOCK_ROWS, n)), space=space)) for start in starts)
    for span, distances, _ in distances_to_all(rows, X, blocks, xp):
        for t, rate in enumerate(rates.astype(X.dtype)):
            B = xp.exp(rate * distances - logs[t, chosen, None] - logs[t, span]) / X.dtype.type(totals[t])
            of_A[t] += float(xp.einsum("ij,ij->", B, B, dtype=np.float64))
            B -= shares[t, chosen, None] * shares[t, span]
            of_B[t] += float(xp.einsum("ij,ij->", B, B, dtype=np.float64))
    return np.asarray(sums.squares / totals**2 * of_B / of_A)
