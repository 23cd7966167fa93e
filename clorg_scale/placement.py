"""Placement of points on the map of others: openTSNE's `transform`, in blocks of points.

Each point is moved by its own forces alone: drawn by its nearest landmarks, weighted by a Gaussian of fixed perplexity,
and repelled by all landmarks. So a block's size changes nothing, and memory does not grow with the number of points.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.neighbors import knn_between

__all__ = ["KeptNeighbors", "Placement"]

PERPLEXITY, NEIGHBORS = 5.0, 15
"""openTSNE's own for new points: perplexity, and three times as many landmarks."""

STEPS = 30
"""Steps of each point, where `transform` takes 250 from the median of its ten nearest landmarks. That lies between the
clusters wherever the nearest landmarks are in several: of 4,000 points among 8,000 in 1,000 classes 9.8 % of the ten
nearest landmarks stayed so after 250 steps, 19.5 % after 30 from the landmark in the middle, 19.9 % after 100."""

COMPARED = 10
"""Neighbors on the map that are compared with those in space."""

JUDGED = 1_000
"""Points, at most, whose neighbors on the map are compared with those in space."""


class KeptNeighbors(NamedTuple):
    """Share of the k nearest landmarks in space that are among the k nearest on the map, for two kinds of points."""

    k: int
    of_landmarks: float
    of_placed: float


class Placement:
    """Places points on the map of landmarks.

    Parameters
    ----------
    landmarks
        `openTSNE.TSNEEmbedding` (m, 2).
    components
        (m, c) float32 principal components of the landmarks.
    """

    def __init__(self, landmarks: Any, components: npt.NDArray[np.float32]) -> None:
        self._landmarks, self._components = landmarks, components
        self._k = min(NEIGHBORS, len(components))

    def __call__(self, components: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(b, 2) positions of points with these principal components (b, c)."""
        from openTSNE import PartialTSNEEmbedding
        from openTSNE.affinity import joint_probabilities_nn

        indices, distances = self._nearest(components, self._k)
        affinities = joint_probabilities_nn(
            indices,
            distances.astype(np.float64),
            [min(PERPLEXITY, self._k / 3)],
            symmetrize=False,
            normalization="point-wise",
            n_reference_samples=len(self._components),
            n_jobs=os.cpu_count() or 1,
        )
        start = _in_the_middle(np.asarray(self._landmarks), indices, affinities)
        settings = self._landmarks.gradient_descent_params | {"callbacks": None, "max_step_norm": None}
        placed = PartialTSNEEmbedding(start, self._landmarks, P=affinities, **settings)
        placed.optimize(STEPS, learning_rate=0.1, exaggeration=1.5, momentum=0.8, max_grad_norm=0.25, inplace=True)
        return np.asarray(placed, np.float64)

    def kept_neighbors(
        self,
        read: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]],
        pca: Any,
        others: npt.NDArray[np.int64],
        placed: npt.NDArray[np.float32],
        seed: int,
    ) -> KeptNeighbors:
        """Measure on a sample how well neighbors in space are neighbors on the map.

        Parameters
        ----------
        read, pca
            Coordinates of rows of the embeddings, and their principal components.
        others
            Rows that are no landmarks.
        placed
            (n, 2) positions of all points.
        seed
            Seed of the sample.
        """
        rng, m = np.random.default_rng(seed), len(self._components)
        rows = np.sort(rng.choice(others, min(JUDGED, len(others)), replace=False))
        own = np.sort(rng.choice(m, min(JUDGED, m), replace=False))
        k = min(COMPARED, m - 1)
        of_placed = self._kept(np.asarray(pca.transform(read(rows)), np.float32), placed[rows], k, None)
        of_landmarks = self._kept(self._components[own], np.asarray(self._landmarks, np.float32)[own], k, own)
        return KeptNeighbors(k, of_landmarks, of_placed)

    def _kept(
        self, components: npt.NDArray[Any], xy: npt.NDArray[Any], k: int, own: npt.NDArray[np.int64] | None
    ) -> float:
        """Share kept by some points; these are the landmarks `own`, not counted as their own neighbors, or others."""
        width = k if own is None else k + 1
        in_space, _ = self._nearest(components, width)
        on_map, _ = _between(xy, np.asarray(self._landmarks, np.float32), width)
        same = in_space[:, :, None] == on_map[:, None, :]
        if own is not None:
            same &= (in_space != own[:, None])[:, :, None]
        return float(same.sum() / (len(xy) * k))

    def _nearest(self, components: npt.NDArray[Any], k: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return _between(components, self._components, k)


def _in_the_middle(landmarks: npt.NDArray[Any], indices: npt.NDArray[Any], affinities: Any) -> npt.NDArray[np.float64]:
    """(b, 2) position of each point's landmark that has the least mean distance, on the map, to all its landmarks.

    Distances are weighted by the point's affinities: the medoid of its neighbors, which lies in the cluster of most.
    """
    of = landmarks[indices]
    x, y = (of[:, :, axis].astype(np.float32) for axis in (0, 1))
    distances = np.hypot(x[:, :, None] - x[:, None], y[:, :, None] - y[:, None])
    weights = affinities[np.arange(len(indices))[:, None], indices].toarray().astype(np.float32)
    middle = np.einsum("bij,bj->bi", distances, weights).argmin(axis=1)
    return np.array(of[np.arange(len(of)), middle], np.float64)


def _between(queries: npt.NDArray[Any], points: npt.NDArray[Any], k: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Indices and distances (b, k) of the nearest points; a search starts from three queries."""
    n = len(queries)
    table = knn_between(np.resize(queries, (max(3, n), queries.shape[1])), points, k, device="cpu")
    return table.indices[:n], table.distances[:n]
