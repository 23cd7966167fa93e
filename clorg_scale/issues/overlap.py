"""Pairs of classes that overlap: how much of each class's affinity goes to the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.arrays import on_host

__all__ = ["class_affinity", "overlaps"]

BLOCK_ENTRIES = 2**20


def class_affinity(graph: AffinityGraph, codes: npt.NDArray[np.int64], n_classes: int) -> Any:
    """(C, C) `scipy.sparse.csr_array` of the affinity between classes, W_ab = sum of A_ij over i in a, j in b.

    Points without a class are left out. At most as many entries as edges, however many classes there are.
    """
    from scipy.sparse import coo_array, csr_array

    total = csr_array((n_classes, n_classes), dtype=np.float64)
    indices, weights, indptr = on_host(graph.indices), on_host(graph.weights), on_host(graph.indptr)
    for start in range(0, len(indices), BLOCK_ENTRIES):
        part = slice(start, min(start + BLOCK_ENTRIES, len(indices)))
        rows = np.searchsorted(indptr, np.arange(part.start, part.stop), side="right") - 1
        a, b = codes[rows], codes[indices[part]]
        known = (a >= 0) & (b >= 0)
        values = weights[part][known].astype(np.float64)
        total = total + coo_array((values, (a[known], b[known])), shape=total.shape).tocsr()
    return total


def overlaps(affinity: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs of classes by their overlap, largest first.

    Parameters
    ----------
    affinity
        (C, C) of `class_affinity`.

    Returns
    -------
    pairs
        (p, 2) codes a < b of all pairs with an affinity between them.
    shares
        (p, 3) overlap 2 W_ab / (K_a + K_b), the share W_ab / K_a of a's affinity that goes to b, and W_ab / K_b.
    """
    totals = np.asarray(affinity.sum(axis=1)).reshape(-1)
    between = affinity.tocoo()
    upper = between.row < between.col
    a, b, w = between.row[upper].astype(np.int64), between.col[upper].astype(np.int64), between.data[upper]
    a, b, w = a[w > 0], b[w > 0], w[w > 0]
    shares = np.column_stack([2 * w / (totals[a] + totals[b]), w / totals[a], w / totals[b]])
    order = np.lexsort((b, a, -shares[:, 0]))
    return np.column_stack([a, b])[order], shares[order]
