"""A map of the points: landmarks laid out together in two dimensions, all other points among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import column_range, on_host, row_block
from clorg_scale.arrays.scale import MOST_EXPONENT, spread_exponent
from clorg_scale.errors import InputError
from clorg_scale.neighbors import knn
from clorg_scale.progress import progress_bar
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = [
    "PERPLEXITY",
    "PointLayout",
    "all_equal",
    "lay_out",
    "memory_needed",
    "neighbor_affinities",
    "one_position",
]

PCA_FEATURES = 50
"""Principal components that t-SNE starts from, as in the reference implementations."""

FEWEST_FOR_TSNE = 10
"""Fewer points are laid out by their first two principal components."""

FEWEST_FOR_THREADS = 2_000
"""Fewer points take longer on several threads than on one."""

PERPLEXITY = 30.0
"""The reference implementations' own."""

PLACED_AT_ONCE, PLACED_BYTES = 20_000, 64 << 20
"""Points placed among the landmarks at a time, at most, and bytes of their coordinates."""

TSNE_BYTES = 320
"""Memory of t-SNE for each landmark and unit of perplexity: three neighbors, their affinities from either end, and what
sorting and building these takes (240 to 270 measured at 5,000 and 10,000 landmarks)."""

EXAGGERATION_STEPS, STEPS = 125, 250
"""openTSNE's own defaults, 250 and 500, take three times as long, as a step costs more the larger the map has grown.
On 10,000 images (128 features), 250 steps of exaggeration lead to the same divergence as 125 (1.587 after 150 more
steps). The second 250 of the ordinary steps lower it from 1.504 to 1.430 while the map grows; the share of the ten
nearest neighbors that are kept is .541 after 150 steps and .551 after 500. Wider boxes of the grid
(`ints_in_interval`) cost more: at 1.5, 250 steps lead to 1.570."""

LEAST_BYTES = 32 << 20
"""Memory of the pass that finds the means, and of the grid of forces."""

COORDINATE_BYTES = 16
"""Memory of one coordinate of a point that is read: in float64 and float32, and in the projection."""


def memory_needed(n: int, d: int, n_points: int, *, perplexity: float = PERPLEXITY) -> int:
    """Least memory in bytes that `lay_out` takes beside the embeddings, of shape (n, d)."""
    m = min(n, n_points)
    landmarks = m * int(COORDINATE_BYTES * d + 16 * PCA_FEATURES + TSNE_BYTES * min(perplexity, m / 3))
    others = 0 if m == n else 2 * min(PLACED_BYTES, n * COORDINATE_BYTES * d)
    return 16 * n + max(landmarks, others) + LEAST_BYTES


class PointLayout(NamedTuple):
    """Positions on a map.

    Attributes
    ----------
    rows
        (m,) int64, ascending rows of the landmarks: the points laid out together.
    xy
        (m, 2) positions of these.
    method
        One sentence on how they were found.
    placed
        (n, 2) float32 positions of all points.
    """

    rows: npt.NDArray[np.int64]
    xy: npt.NDArray[np.float64]
    method: str
    placed: npt.NDArray[np.float32]


def lay_out(
    embeddings: Any,
    codes: npt.NDArray[np.int64],
    *,
    n_points: int = 10_000,
    perplexity: float = PERPLEXITY,
    seed: int = 0,
    progress: bool = False,
) -> PointLayout:
    """Lay out points in the plane, near neighbors near each other (t-SNE): landmarks together, the others among these.

    Distances between groups, and their sizes, mean little on such a map; no number of a report comes from it.

    Parameters
    ----------
    embeddings
        (n, d) as `clorg_scale.arrays.as_embeddings` returns; read block by block.
    codes
        (n,) class codes; every class is sampled in proportion.
    n_points
        Landmarks, at most; all points where there are no more.
    perplexity
        Number of neighbors for which t-SNE balances each point's distances; at most a third of the landmarks.
    seed
        Seed of the sample and the layout.
    progress
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        If `n_points` or `seed` is not a whole number, or a number is out of range.
    """
    n_points, seed = whole_number("n_points", n_points, 1), whole_number("seed", seed, 0, MOST_SEED)
    if not 1 <= perplexity < np.inf:
        raise InputError(f"perplexity must be a number of at least 1, not {perplexity}.")
    index = _stratified_sample(codes, n_points, np.random.default_rng(seed))
    read = _Reader(embeddings)
    block = read(index)
    if read.all_equal(block):
        return PointLayout(
            index, np.zeros((len(index), 2)), one_position(len(index)), np.zeros((len(codes), 2), np.float32)
        )
    pca, components = _principal_components(block, seed)
    del block
    if len(index) < FEWEST_FOR_TSNE:
        xy, method = _first_two(components), f"First two principal components of {len(index):,} points."
        placed = _placed(read, pca, len(codes), lambda some: _first_two(some), progress=progress)
        return PointLayout(index, xy, method, placed)
    used = min(float(perplexity), (len(index) - 1) / 3)
    landmarks = _tsne(components, used, seed, progress=progress)
    xy = np.asarray(landmarks, np.float64)
    method = f"t-SNE (openTSNE, perplexity {used:.3g}) of"
    if len(index) == len(codes):
        return PointLayout(index, xy, f"{method} all {len(index):,} points.", xy.astype(np.float32))
    from clorg_scale.placement import Placement

    placement = Placement(landmarks, components.astype(np.float32))
    placed = _placed(read, pca, len(codes), placement, progress=progress)
    placed[index] = xy
    kept = placement.kept_neighbors(read, pca, np.setdiff1d(np.arange(len(codes)), index), placed, seed)
    method = (
        f"{method} a stratified sample of {len(index):,} points; the {len(codes) - len(index):,} others are placed "
        f"among these, each by itself. Of the {kept.k} sample points nearest to a point, {kept.of_landmarks:.0%} are "
        f"among the {kept.k} nearest on the map if it is in the sample, {kept.of_placed:.0%} if it was placed."
    )
    return PointLayout(index, xy, method, placed)


def all_equal(ranges: npt.NDArray[np.floating[Any]], largest: npt.NDArray[np.floating[Any]], dtype: Any) -> bool:
    """Whether points are equal up to rounding in every feature.

    Parameters
    ----------
    ranges, largest
        (d,) range of each feature, and its largest absolute value.
    dtype
        That the points are stored in. Values that differ in float16 differ: what is computed from them is more precise.
    """
    short = str(dtype).removeprefix("torch.") in ("float16", "float32", "bfloat16")
    epsilon = np.finfo(np.float32 if short else np.float64).eps
    return bool(np.all(ranges <= 4 * float(epsilon) * largest))


def one_position(n: int) -> str:
    """Sentence on a map of equal points: t-SNE would spread them, and show an arrangement that is none."""
    return f"The {n:,} points laid out are equal, so that the map has a single position."


def _stratified_sample(codes: npt.NDArray[np.int64], n_points: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows at even steps through the points sorted by class, in random order within a class."""
    n = len(codes)
    if n <= n_points:
        return np.arange(n)
    shuffled = rng.permutation(n)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    steps = (np.arange(n_points) + 0.5) * n / n_points
    return np.sort(by_class[steps.astype(np.int64)])


class _Reader:
    """Rows of embeddings, centered in float64, in main memory; scaled where float32 would not hold their squares."""

    def __init__(self, embeddings: Any) -> None:
        self._embeddings, found = embeddings, column_range(embeddings)
        self._mean, exponent = found.mean, spread_exponent(found)
        self._exponent = exponent if abs(exponent) > MOST_EXPONENT else 0
        largest = np.maximum(np.abs(on_host(found.low)), np.abs(on_host(found.high)))
        self._largest = np.ldexp(largest, -self._exponent)

    def all_equal(self, block: npt.NDArray[np.float32]) -> bool:
        """Whether rows that have been read are equal up to rounding."""
        return all_equal(np.ptp(block, axis=0), self._largest, self._embeddings.dtype)

    def __call__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        block = on_host(row_block(self._embeddings, rows, dtype=np.float64, mean=self._mean))
        block = np.ldexp(block, -self._exponent) if self._exponent else block
        return np.ascontiguousarray(block, dtype=np.float32)


def _principal_components(points: npt.NDArray[np.float32], seed: int) -> tuple[Any, npt.NDArray[np.float64]]:
    """Fitted PCA, and coordinates on the first principal components, in float64 for t-SNE."""
    from sklearn.decomposition import PCA

    solver = "full" if max(points.shape) <= 500 else "randomized"
    pca = PCA(min(PCA_FEATURES, *points.shape), svd_solver=solver, random_state=seed)
    return pca, np.asarray(pca.fit_transform(points), np.float64)


def _first_two(components: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(n, 2) first two components, zero where there is only one."""
    xy = np.zeros((len(components), 2))
    xy[:, : components.shape[1]] = components[:, :2]
    return xy


def _placed(
    read: _Reader, pca: Any, n: int, place: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]], *, progress: bool
) -> npt.NDArray[np.float32]:
    """(n, 2) positions of all points, found a block at a time from their principal components."""
    placed = np.empty((n, 2), np.float32)
    with progress_bar("map, other points", n, unit="points", enabled=progress) as advance:
        step = min(PLACED_AT_ONCE, max(1, PLACED_BYTES // (COORDINATE_BYTES * pca.n_features_in_)))
        for start in range(0, n, step):
            rows = np.arange(start, min(start + step, n))
            placed[rows] = place(np.asarray(pca.transform(read(rows)), np.float32))
            advance(len(rows))
    return placed


def neighbor_affinities(components: npt.NDArray[np.float64], perplexity: float) -> tuple[Any, int]:
    """`openTSNE.affinity.Affinities` of points, and the threads that t-SNE of these works with best.

    Of our own exact neighbors: openTSNE's search is approximate from 1,000 points on, and imports PyNNDescent wherever
    that is installed, used or not, which takes each process seconds, and half a minute where its code is not yet
    compiled.
    """
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    n_jobs = 1 if len(components) < FEWEST_FOR_THREADS else os.cpu_count() or 1
    table = knn(components, min(len(components) - 1, int(3 * perplexity)), index="flat", device="cpu")
    neighbors = PrecomputedNeighbors(table.indices.astype(np.int64), table.distances.astype(np.float64))
    return PerplexityBasedNN(perplexity=perplexity, knn_index=neighbors, n_jobs=n_jobs), n_jobs


def _tsne(components: npt.NDArray[np.float64], perplexity: float, seed: int, *, progress: bool) -> Any:
    """`openTSNE.TSNEEmbedding` (m, 2): started from principal components, it keeps some of the global arrangement."""
    from openTSNE import TSNE
    from openTSNE.initialization import rescale

    affinities, n_jobs = neighbor_affinities(components, perplexity)
    with progress_bar("map", EXAGGERATION_STEPS + STEPS, unit="steps", enabled=progress) as advance:

        def step(iteration: int, error: float, embedding: Any) -> None:
            advance(50)

        model = TSNE(
            initialization=rescale(_first_two(components)),
            early_exaggeration_iter=EXAGGERATION_STEPS,
            n_iter=STEPS,
            negative_gradient_method="fft" if len(components) > 5_000 else "bh",
            callbacks=step,
            callbacks_every_iters=50,
            n_jobs=n_jobs,
            random_state=seed,
        )
        return model.fit(affinities=affinities)
