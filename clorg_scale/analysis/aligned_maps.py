"""Maps of the checkpoints of a training, each begun where the one before ended and turned like it."""

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

__all__ = ["AlignedMap", "align", "aligned_map", "turned", "with_map"]

FEATURES = 50
"""Principal components that t-SNE starts from."""

PERPLEXITY = 30.0

FEWEST_FOR_THREADS = 2_000
"""Fewer points take longer on several threads than on one."""


@dataclass(frozen=True)
class AlignedMap:
    """Positions (m, 2) of the mapped points, and a sentence on how they were found."""

    xy: npt.NDArray[np.float64]
    how: str


@stage("aligned map", attrgetter("how"))
def aligned_map(
    points: Array, rows: npt.NDArray[np.int64], start: npt.NDArray[np.float64], *, seed: int, normalize: bool
) -> AlignedMap:
    """Lay out rows of the points by t-SNE, begun at the positions of an earlier map of the same rows.

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
    n_components = min(FEATURES, *block.shape)
    components = PCA(n_components, svd_solver="auto", random_state=seed).fit_transform(block - block.mean(axis=0))
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    begin = start if np.ptp(start) else np.pad(components, ((0, 0), (0, 1)))[:, :2]
    model = TSNE(
        perplexity=perplexity,
        initialization=rescale(begin),
        negative_gradient_method="fft" if len(rows) > 5_000 else "bh",
        n_jobs=1 if len(rows) < FEWEST_FOR_THREADS else -1,
        random_state=seed,
    )
    xy = turned(np.asarray(model.fit(components), np.float64), start)
    how = f"t-SNE of {len(rows):,} points, begun at the map of the checkpoint before, turned and reflected to match it."
    return AlignedMap(xy, how)


def turned(xy: npt.NDArray[np.float64], like: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotate, reflect and shift a map to be as near to another map of the same points as it can be (Procrustes)."""
    center = like.mean(axis=0)
    moved = xy - xy.mean(axis=0)
    left, _, right = np.linalg.svd(moved.T @ (like - center))
    return np.asarray(moved @ (left @ right) + center)


def align(analyses: Sequence[Analysis]) -> list[Analysis]:
    """Turn the map of each analysis like that of the one before, where both show the same points."""
    aligned: list[Analysis] = []
    for analysis in analyses:
        before, own = aligned[-1].point_map if aligned else None, analysis.point_map
        if before is None or not own.index or before.index != own.index:
            aligned.append(analysis)
            continue
        xy = turned(np.column_stack([own.x, own.y]), np.column_stack([before.x, before.y]))
        moved = replace(own, x=np.round(xy[:, 0], 4).tolist(), y=np.round(xy[:, 1], 4).tolist())
        aligned.append(replace(analysis, point_map=moved))
    return aligned


def with_map(
    analysis: Analysis, rows: npt.NDArray[np.int64], xy: npt.NDArray[np.float64], how: str, temperature: float
) -> Analysis:
    """Give an analysis another map; class, community and local density are those of its points."""
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
    return replace(analysis, point_map=points)
