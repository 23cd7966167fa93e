"""Plain references of the tile kernels of exact RLD: NumPy, float64; `rld_tiles` and `rld_hopper` must equal them.

Distances come from differences of the coordinates, so near pairs are in the sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Sums", "affinity_sums", "kernel_sums"]


class Sums(NamedTuple):
    """(s, n) sums over rows and (s, m) over columns: R then D of each temperature (pass 1), or B then W (pass 2)."""

    over_rows: Any
    over_columns: Any


def kernel_sums(X: Any, Y: Any, rates: Any, *, diagonal: bool) -> tuple[Sums, Any]:
    """R, D and S of two panels (pass 1).

    Parameters
    ----------
    X, Y
        (n, d) and (m, d) points of the two panels.
    rates
        (t,) c_t; e = 2^(c_t d).
    diagonal
        The panels are the same one: only pairs i < j count.
    """
    distance, counted = _distances(X, Y, diagonal=diagonal)
    e = np.exp2(np.asarray(rates, np.float64)[:, None, None] * distance) * counted
    return _sums(e, e * distance), (distance * counted).sum()


def affinity_sums(X: Any, Y: Any, rates: Any, logs: tuple[Any, Any], codes: tuple[Any, Any], *, diagonal: bool) -> Sums:
    """B and W of two panels (pass 2), the weights of both points included.

    `logs`: (t, n) and (t, m) log2 r; `codes`: class codes, negative where unlabelled; the others as in `kernel_sums`.
    """
    distance, counted = _distances(X, Y, diagonal=diagonal)
    exponent = 2 * np.asarray(rates, np.float64)[:, None, None] * distance
    a = np.exp2(exponent - logs[0][:, :, None] - logs[1][:, None, :]) * counted
    same = (codes[0][:, None] == codes[1][None, :]) & (codes[0] >= 0)[:, None]
    return _sums(a * ~same, a * same)


def _sums(first: Any, second: Any) -> Sums:
    return Sums(*(np.concatenate([first.sum(axis), second.sum(axis)]) for axis in (2, 1)))


def _distances(X: Any, Y: Any, *, diagonal: bool) -> tuple[Any, Any]:
    X, Y = np.asarray(X, np.float64), np.asarray(Y, np.float64)
    distance = np.sqrt(((X[:, None, :] - Y[None, :, :]) ** 2).sum(2))
    counted = np.triu(np.ones(distance.shape, bool), 1) if diagonal else np.ones(distance.shape, bool)
    return distance, counted
