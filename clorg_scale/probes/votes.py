"""Votes of training points that a k-NN table over training and test points has already found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import on_host, row_slices
from clorg_scale.neighbors import KNN

__all__ = ["majority", "table_votes"]


def table_votes(
    table: KNN, codes: npt.NDArray[np.int64], asked: npt.NDArray[np.int64], *, k: int
) -> tuple[npt.NDArray[np.int64], float]:
    """Class with the most votes of the labeled training points among the neighbors of some points.

    Parameters
    ----------
    table
        Neighbors of all points, nearest first.
    codes
        (n,) class codes of the training points; -1 for every other point, which has no vote.
    asked
        (m,) rows of the table.
    k
        Votes of a point, at most: those of the nearest.

    Returns
    -------
    (m,) codes, the commonest where nobody votes; and the mean number of votes.
    """
    commonest = int(np.bincount(codes[codes >= 0]).argmax())
    found, n_votes = np.empty(len(asked), dtype=np.int64), 0
    for rows in row_slices(len(asked), table.k**2, itemsize=8):
        voters = codes[on_host(table.indices[asked[rows]])]
        voters[np.cumsum(voters >= 0, axis=1) > k] = -1
        found[rows] = majority(voters, otherwise=commonest)
        n_votes += int(np.count_nonzero(voters >= 0))
    return found, n_votes / max(len(asked), 1)


def majority(codes: npt.NDArray[np.int64], *, otherwise: int) -> npt.NDArray[np.int64]:
    """(m,) most frequent code of each row of (m, k), the lowest of equally frequent ones; -1 does not count."""
    counts = (codes[:, :, None] == codes[:, None, :]).sum(axis=2)
    counts[codes < 0] = 0
    # By count, then by the lowest code.
    most = int(codes.max(initial=0)) + 1
    best = (counts * most + (most - 1 - codes)).argmax(axis=1)
    chosen = codes[np.arange(len(codes)), best]
    return np.where(counts.max(axis=1) > 0, chosen, otherwise)
