"""Maps of the checkpoints of a training, each started from the one before and aligned with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from clorg_scale.analysis.result import Analysis
from clorg_scale.analysis.stages import stage
from clorg_scale.analysis.summaries import PointMap
from clorg_scale.arrays import Array, on_host, row_block
from clorg_scale.layout import PERPLEXITY, all_equal, neighbor_affinities, one_position

__all__ = ["AlignedMap", "align", "aligned_map", "turned", "with_map"]

FEATURES = 50
"""Principal components that t-SNE starts from."""

SINGLE_POSITION = 1e-9
"""Deviation, in units of the largest coordinate, that rounding leaves on a map with a single position."""


@dataclass(frozen=True)
class AlignedMap:
    """Positions (m, 2) of the mapped points, and a sentence on how they were found."""

    xy: npt.NDArray[np.float64]
    how: str


@stage("aligned map", attrgetter("how"))
def aligned_map(
    points: Array, rows: npt.NDArray[np.int64], start: npt.NDArray[np.float64], *, seed: int, normalize: bool
) -> AlignedMap:
    """Lay out rows of the points by t-SNE, started from the positions of an earlier map of the same rows.

    Parameters
    ----------
    points
        (n, d) embeddings.
    rows
        (m,) rows on the map.
    start
        (m, 2) positions of these on the earlier map.
    seed
        Seed of the principal components and of t-SNE.
    normalize
        Divide each embedding by its length.
    """
    from openTSNE import TSNE
    from openTSNE.initialization import rescale
    from sklearn.decomposition import PCA

    block = on_host(row_block(points, rows, dtype=np.float64))
    if normalize:
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    if all_equal(np.ptp(block, axis=0), np.abs(block).max(axis=0), points.dtype):
        return AlignedMap(np.tile(start.mean(axis=0), (len(rows), 1)), one_position(len(rows)))
    n_components = min(FEATURES, *block.shape)
    components = PCA(n_components, svd_solver="auto", random_state=seed).fit_transform(block - block.mean(axis=0))
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    # openTSNE divides by the deviation of the first column, which is zero on a map with a single position.
    spread = np.std(start[:, 0]) > SINGLE_POSITION * np.abs(start).max()
    begin = start if spread else np.pad(components, ((0, 0), (0, 1)))[:, :2]
    affinities, n_jobs = neighbor_affinities(components, perplexity)
    model = TSNE(
        initialization=rescale(begin),
        negative_gradient_method="fft" if len(rows) > 5_000 else "bh",
        n_jobs=n_jobs,
        random_state=seed,
    )
    xy = turned(np.asarray(model.fit(affinities=affinities), np.float64), start)
    how = (
        f"t-SNE of {len(rows):,} points, started from the previous checkpoint's map, rotated and reflected to match it."
    )
    return AlignedMap(xy, how)


def turned(
    xy: npt.NDArray[np.float64], like: npt.NDArray[np.float64], all_points: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """Rotate, reflect and shift a map to be as near to another map of the same points as it can be (Procrustes).

    Parameters
    ----------
    xy, like
        (m, 2) positions on the map and on the other one.
    all_points
        (n, 2) positions of more points on the map, which are turned with it and returned; default: `xy`.
    """
    center, own_center = like.mean(axis=0), xy.mean(axis=0)
    left, _, right = np.linalg.svd((xy - own_center).T @ (like - center))
    moved = xy if all_points is None else all_points
    return np.asarray((moved - own_center) @ (left @ right) + center)


def align(analyses: Sequence[Analysis]) -> list[Analysis]:
    """Turn the map of each analysis like that of the one before, where both show the same points."""
    aligned: list[Analysis] = []
    for analysis in analyses:
        before, own = aligned[-1].point_map if aligned else None, analysis.point_map
        if before is None or not own.index or before.index != own.index:
            aligned.append(analysis)
            continue
        xy, like = np.column_stack([own.x, own.y]), np.column_stack([before.x, before.y])
        shown, points = turned(xy, like), analysis.points
        moved = replace(own, x=np.round(shown[:, 0], 4).tolist(), y=np.round(shown[:, 1], 4).tolist())
        if "map_x" in points:
            placed = turned(xy, like, np.column_stack([points["map_x"], points["map_y"]]).astype(np.float64))
            points = points | _columns(placed)
        aligned.append(analysis.with_changes(point_map=moved, points=points))
    return aligned


def _columns(xy: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float32]]:
    return {"map_x": xy[:, 0].astype(np.float32), "map_y": xy[:, 1].astype(np.float32)}


def with_map(
    analysis: Analysis, rows: npt.NDArray[np.int64], xy: npt.NDArray[np.float64], how: str, temperature: float
) -> Analysis:
    """Give an analysis another map; class, community and local density are those of its points.

    In `points`, positions of those that are not on the map are NaN.
    """
    local = np.round(analysis.points["local_density"][rows].astype(np.float64), 4)
    points = PointMap(
        method=how,
        index=rows.tolist(),
        x=np.round(xy[:, 0], 4).tolist(),
        y=np.round(xy[:, 1], 4).tolist(),
        class_code=analysis.points["class_code"][rows].tolist(),
        community=analysis.points["community"][rows].tolist(),
        local_density=[None if np.isnan(value) else float(value) for value in local],
        local_density_temperature=temperature,
    )
    placed = np.full((analysis.n_points, 2), np.nan)
    placed[rows] = xy
    return analysis.with_changes(point_map=points, points=analysis.points | _columns(placed))
