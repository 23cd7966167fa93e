"""A map of the points: a sample of the embeddings laid out in two dimensions."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import column_range, on_host, row_block
from clorg_scale.arrays.scale import MOST_EXPONENT, spread_exponent
from clorg_scale.progress import progress_bar
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = ["lay_out"]

PCA_FEATURES = 50
"""Principal components that t-SNE starts from, as in the reference implementations."""

FEWEST_FOR_TSNE = 10
"""Fewer points are laid out by their first two principal components."""

FEWEST_FOR_THREADS = 2_000
"""Fewer points take longer on several threads than on one."""

EXAGGERATION_STEPS, STEPS = 250, 500
"""openTSNE's own defaults."""


def lay_out(
    embeddings: Any, codes: npt.NDArray[np.int64], *, n_points: int = 10_000, seed: int = 0, progress: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], str]:
    """Lay out a stratified sample of the points in the plane, near neighbors near each other (t-SNE).

    Distances between groups, and their sizes, mean little on such a map; no number of a report comes from it.

    Parameters
    ----------
    embeddings
        (n, d) as `clorg_scale.arrays.as_embeddings` returns; only the sampled rows are read.
    codes
        (n,) class codes; every class is sampled in proportion.
    n_points
        Points on the map, at most.
    seed
        Seed of the sample and the layout.
    progress
        Show a progress bar on stderr.

    Returns
    -------
    index
        (m,) int64, ascending rows of the embeddings.
    xy
        (m, 2) positions.
    method
        One sentence on how they were found.

    Raises
    ------
    InputError
        If `n_points` or `seed` is no whole number, or out of range.
    """
    n_points, seed = whole_number("n_points", n_points, 1), whole_number("seed", seed, 0, MOST_SEED)
    index = _stratified_sample(codes, n_points, np.random.default_rng(seed))
    points = _host_rows(embeddings, index)
    components = _principal_components(points, min(PCA_FEATURES, *points.shape), seed)
    if len(index) < FEWEST_FOR_TSNE:
        xy = np.zeros((len(index), 2))
        xy[:, : components.shape[1]] = components[:, :2]
        return index, xy, f"First two principal components of {len(index):,} points."
    perplexity = min(30.0, (len(index) - 1) / 3)
    xy = _tsne(components, perplexity, seed, progress=progress)
    sample = "all" if len(index) == len(codes) else "a stratified sample of"
    return index, xy, f"t-SNE (openTSNE, perplexity {perplexity:.3g}) of {sample} {len(index):,} points."


def _stratified_sample(codes: npt.NDArray[np.int64], n_points: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows at even steps through the points sorted by class, in random order within a class."""
    n = len(codes)
    if n <= n_points:
        return np.arange(n)
    shuffled = rng.permutation(n)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    steps = (np.arange(n_points) + 0.5) * n / n_points
    return np.sort(by_class[steps.astype(np.int64)])


def _host_rows(embeddings: Any, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Sampled rows, centered in float64, in main memory; scaled where float32 would not hold their squares."""
    found = column_range(embeddings)
    block = on_host(row_block(embeddings, index, dtype=np.float64, mean=found.mean))
    exponent = spread_exponent(found)
    if abs(exponent) > MOST_EXPONENT:
        block = np.ldexp(block, -exponent)
    return np.ascontiguousarray(block, dtype=np.float32)


def _principal_components(points: npt.NDArray[np.float32], n_components: int, seed: int) -> npt.NDArray[np.float64]:
    """Coordinates on the first principal components, in float64 for t-SNE."""
    from sklearn.decomposition import PCA

    solver = "full" if max(points.shape) <= 500 else "randomized"
    return np.asarray(PCA(n_components, svd_solver=solver, random_state=seed).fit_transform(points), np.float64)


def _tsne(
    components: npt.NDArray[np.float64], perplexity: float, seed: int, *, progress: bool
) -> npt.NDArray[np.float64]:
    """Run t-SNE from the principal components, which preserves some of the global arrangement."""
    from openTSNE import TSNE
    from openTSNE.initialization import rescale

    start = np.zeros((len(components), 2))
    start[:, : components.shape[1]] = components[:, :2]
    with progress_bar("map", EXAGGERATION_STEPS + STEPS, unit="steps", enabled=progress) as advance:

        def step(iteration: int, error: float, embedding: Any) -> None:
            advance(50)

        model = TSNE(
            perplexity=perplexity,
            initialization=rescale(start),
            early_exaggeration_iter=EXAGGERATION_STEPS,
            n_iter=STEPS,
            negative_gradient_method="fft" if len(components) > 5_000 else "bh",
            callbacks=step,
            callbacks_every_iters=50,
            n_jobs=1 if len(components) < FEWEST_FOR_THREADS else os.cpu_count() or 1,
            random_state=seed,
        )
        return np.asarray(model.fit(components), np.float64)
