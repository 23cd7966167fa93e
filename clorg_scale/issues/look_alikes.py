"""Look-alikes: the most similar points of different classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import on_host
from clorg_scale.neighbors import KNN

__all__ = ["nearest_strangers"]


def nearest_strangers(
    table: KNN, codes: npt.NDArray[np.int64], n_pairs: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs of points of different classes with the smallest distance, each point in one pair at most.

    Pairs are taken from the k-NN table, nearest first, and skipped where a point of theirs is in a pair already: a
    single odd point would fill the list otherwise.

    Parameters
    ----------
    table
        k-NN table of all points.
    codes
        (n,) class codes; points without a class (-1) are in no pair.
    n_pairs
        Pairs at most.

    Returns
    -------
    pairs
        (p, 2) points i < j, nearest pair first.
    distances
        (p,) theirs.
    """
    indices, distances = on_host(table.indices), on_host(table.distances)
    strange = (codes[indices] != codes[:, None]) & (codes[indices] >= 0) & (codes >= 0)[:, None]
    rows, columns = np.nonzero(strange)
    apart = distances[rows, columns].astype(np.float64)
    ends = np.sort(np.column_stack([rows, indices[rows, columns].astype(np.int64)]), axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0], apart))
    taken: set[int] = set()
    chosen: list[int] = []
    for at in order:
        if len(chosen) == n_pairs:
            break
        i, j = ends[at].tolist()
        if i not in taken and j not in taken:
            taken |= {i, j}
            chosen.append(int(at))
    return ends[chosen].reshape(-1, 2), apart[chosen]
