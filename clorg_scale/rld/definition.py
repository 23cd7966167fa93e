r"""RLD by its definition (arXiv 2305.10229), in float64 with full n x n matrices: the oracle of everything faster.

For points x_i with class labels c_i, Euclidean distances d_ij and their mean mu over pairs i != j, at temperature T

    E_ij = exp(-d_ij / (mu T)),  E_ii = 0            r_i = sum_j E_ij
    A_ij = n^2 E_ij^2 / (r_i r_j)                    k_i = sum_j A_ij,   2m = sum_i k_i
    W_c  = sum of A_ij over pairs within class c     K_c = sum of k_i over class c
    RLD(T) = sum_c [ W_c / 2m - (K_c / 2m)^2 ]

the Newman modularity of the labels on the affinity graph A. The factor n^2 cancels out and is left out here. Points
with a negative label count in 2m and in no class.

Memory: some six n x n matrices of 8 bytes. Distances come from differences of the coordinates, sums of exponentials
from a log-sum-exp: no digit is lost to cancellation or underflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from clorg_scale.rld.types import Floats

__all__ = ["dense_affinities", "dense_rld", "dense_sums", "modularity_of_sums"]


class DenseAffinities(NamedTuple):
    """(n, n) A / n^2 and (n,) log r at a temperature, and mu."""

    A: Floats
    log_r: Floats
    mean_distance: float


class DenseSums(NamedTuple):
    """(t, n) k, w (the part of k within the point's class) and log r, in units of A / n^2; mu."""

    k: Floats
    w: Floats
    log_r: Floats
    mean_distance: float


class DenseRLD(NamedTuple):
    """(t,) values, (t, C) their terms by class, (t, n) w / k (NaN where unlabelled), and mu."""

    values: Floats
    per_class: Floats
    local_density: Floats
    mean_distance: float


def dense_rld(X: Any, codes: Any, temperatures: Any) -> DenseRLD:
    """RLD of (n, d) points with class codes 0..C - 1, negative where unlabelled."""
    codes = np.asarray(codes)
    k, w, _, mu = dense_sums(X, codes, temperatures)
    values, per_class = modularity_of_sums(k, w, codes)
    with np.errstate(invalid="ignore"):  # k of an outlier may be 0 in float64; its share is then undefined
        return DenseRLD(values, per_class, np.where(codes >= 0, w / k, np.nan), mu)


def dense_sums(X: Any, codes: Any, temperatures: Any) -> DenseSums:
    """Sums that RLD consists of."""
    codes, mu = np.asarray(codes), np.nan
    same = (codes[:, None] == codes[None]) & (codes >= 0)[:, None]
    k, w, log_r = (np.empty((len(temperatures), len(codes))) for _ in range(3))
    for t, (A, of_rows, mean_distance) in enumerate(dense_affinities(X, temperatures)):
        k[t], w[t], log_r[t], mu = A.sum(1), (A * same).sum(1), of_rows, mean_distance
    return DenseSums(k, w, log_r, mu)


def dense_affinities(X: Any, temperatures: Any) -> Iterator[DenseAffinities]:
    """Affinities between all points, one temperature after another."""
    X = np.asarray(X, np.float64)
    n = len(X)
    distance = cdist(X, X)
    mu = float(distance.sum() / (n * (n - 1)))
    for temperature in temperatures:
        exponents = -distance / (mu * temperature)
        np.fill_diagonal(exponents, -np.inf)
        log_r = logsumexp(exponents, axis=1)
        yield DenseAffinities(np.exp(2 * exponents - log_r[:, None] - log_r), log_r, mu)


def modularity_of_sums(k: Any, w: Any, codes: Any) -> tuple[Floats, Floats]:
    """(t,) modularity of the classes and (t, C) its terms, from (t, n) sums over points."""
    two_m = k.sum(1, keepdims=True)
    classes = [codes == c for c in range(codes.max() + 1)]
    W, K = (np.stack([sums[:, c].sum(1) for c in classes], axis=1) / two_m for sums in (w, k))
    per_class = W - K**2
    return per_class.sum(1), per_class
