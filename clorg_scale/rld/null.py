r"""Standard deviation of RLD over shufflings of the labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from clorg_scale.arrays import array_module
from clorg_scale.rld.modularity import PairSums
from clorg_scale.rld.points import ClassOrderedPoints, ColumnDistances, distances_to_all
from clorg_scale.rld.types import Floats, Integers

__all__ = [
    "SAMPLED_ROWS",
    "RowSample",
    "affinity_spread",
    "relative_affinities",
    "sample_rows",
    "shuffled_labels_deviation",
    "spread_on_rows",
]

SAMPLED_ROWS = 64
"""Rows of the affinity matrix on which B is compared with A."""

BLOCK_ROWS = 8192


def shuffled_labels_deviation(spread: Floats, codes: Integers, n_classes: int) -> Floats:
    r"""Standard deviation of RLD over shufflings of the labels.

    With B_ij = A_ij / 2m - k_i k_j / (2m)^2, whose rows sum to zero, RLD = sum of B_ij over pairs of one class. For
    labels drawn at random with class shares f this is a degenerate quadratic form, of variance

        2 (sum_ij B_ij^2) (sum_c f_c^2 - 2 sum_c f_c^3 + (sum_c f_c^2)^2)

    to leading order in 1/n. `spread`: (t,) sum of B^2 over all pairs.
    """
    f = np.bincount(codes[codes >= 0], minlength=n_classes) / len(codes)
    label_factor = (f**2).sum() - 2 * (f**3).sum() + (f**2).sum() ** 2
    return np.asarray(np.sqrt(2 * spread * label_factor))


def affinity_spread(points: ClassOrderedPoints, temperatures: Floats, sums: PairSums, *, seed: int = 0) -> Floats:
    """(t,) sum of B^2 over all pairs: how much smaller it is than that of (A / 2m)^2 is found on a sample of rows."""
    assert sums.squares is not None
    n, xp = points.n_points, array_module(points.embeddings)
    rows = sample_rows(n, seed)
    X, two_m = points.rows(rows), sums.k.sum(axis=1)
    log_r, shares = (xp.asarray(array, dtype=X.dtype) for array in (sums.log_r, sums.k / two_m[:, None]))
    sample = RowSample(rows, log_r, shares, two_m, -2 / (sums.mean_distance * temperatures))
    space = np.empty((min(n, BLOCK_ROWS), points.n_features), dtype=points.dtype)
    starts = range(0, n, BLOCK_ROWS)
    blocks = ((start, points.rows(np.arange(start, min(start + BLOCK_ROWS, n)), space=space)) for start in starts)
    return spread_on_rows(sample, distances_to_all(rows, X, blocks, xp), sums.squares, xp)


class RowSample(NamedTuple):
    """Rows of the affinity matrix, and what A and B are made of.

    `rows`: (b,) positions; `log_r`, `shares`: (t, n) log r and k / 2m, in the library of the distances; `two_m`,
    `rates`: (t,) 2m and -2 / (mu T).
    """

    rows: Integers
    log_r: Any
    shares: Any
    two_m: Floats
    rates: Floats


def sample_rows(n: int, seed: int, size: int = SAMPLED_ROWS) -> Integers:
    """Positions of random rows, the same for a seed and n."""
    return np.random.default_rng([seed, n]).permutation(n)[:size]


def relative_affinities(
    sample: RowSample, distances: Iterable[ColumnDistances], xp: Any
) -> Iterator[tuple[int, Any, Any, Any]]:
    """Number of the temperature, near pairs, A / 2m and B (b, p) of some rows and consecutive blocks of columns."""
    log_r, shares, chosen = sample.log_r, sample.shares, xp.asarray(sample.rows)
    for block in distances:
        for t, (rate, two_m) in enumerate(zip(sample.rates.tolist(), sample.two_m.tolist(), strict=True)):
            exponents = rate * block.distances - log_r[t, chosen, None] - log_r[t, block.columns]
            A = xp.exp(exponents) / two_m
            yield t, block.near, A, A - shares[t, chosen, None] * shares[t, block.columns]


def spread_on_rows(sample: RowSample, distances: Iterable[ColumnDistances], squares: Floats, xp: Any) -> Floats:
    """(t,) sum of B^2 over all pairs from that of A^2, `squares`, and the ratio of the two on some rows."""
    of_A, of_B = np.zeros((2, len(squares)))
    for t, _, A, B in relative_affinities(sample, distances, xp):
        of_A[t] += float((A * A).sum(dtype=xp.float64))
        of_B[t] += float((B * B).sum(dtype=xp.float64))
    return np.asarray(squares / sample.two_m**2 * of_B / of_A)
