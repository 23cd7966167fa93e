"""True neighbors of a sample, and the recall of a table against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Truth", "true_neighbors"]

TIES = 1e-5
"""Relative tolerance of distances: as far as the k-th true neighbor is as good, and float32 rounds."""


@dataclass(frozen=True)
class Truth:
    """Rows of a sample and the distance to the k-th nearest neighbor of each.

    Attributes
    ----------
    X
        (n, d) points.
    rows
        (s,) rows of the sample, ascending.
    k
        Neighbors.
    bounds
        (s,) float64 squared distances to the k-th neighbor.
    """

    X: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    k: int
    bounds: npt.NDArray[np.float64]

    def recall(self, neighbors: Any) -> float:
        """Recall of a table of all points, or of the sampled rows alone; a neighbor found twice counts once."""
        neighbors = np.asarray(neighbors)
        found = neighbors[self.rows] if len(neighbors) == len(self.X) else neighbors
        right = 0
        for row, bound, ids in zip(self.rows, self.bounds, found, strict=True):
            others = np.unique(ids[(ids >= 0) & (ids != row)])
            apart = self.X[others].astype(np.float64) - self.X[row]
            right += min(self.k, int(np.count_nonzero(np.einsum("kd,kd->k", apart, apart) <= bound * (1 + TIES))))
        return right / (self.k * len(self.rows))


def true_neighbors(X: npt.NDArray[np.float32], k: int, *, sample: int = 1000, seed: int = 0) -> Truth:
    """Search a random sample exactly, ranked again in float64."""
    import faiss

    rows = np.sort(np.random.default_rng(seed).choice(len(X), size=min(sample, len(X)), replace=False))
    ids = faiss.knn(X[rows], X, min(len(X), k + 9))[1]
    bounds = np.empty(len(rows))
    for i, (row, candidates) in enumerate(zip(rows, ids, strict=True)):
        others = candidates[candidates != row]
        apart = X[others].astype(np.float64) - X[row]
        bounds[i] = np.sort(np.einsum("kd,kd->k", apart, apart))[k - 1]
    return Truth(X, rows, k, bounds)
