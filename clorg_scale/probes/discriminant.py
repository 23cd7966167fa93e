"""Linear discriminant analysis in closed form, from one pass over the points."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import on_host
from clorg_scale.probes.softmax import LabeledBlocks

__all__ = ["Moments", "class_moments", "discriminant_weights"]

Floats = npt.NDArray[np.float64]


class Moments(NamedTuple):
    """Sums over standardized points that closed-form classifiers need."""

    counts: Floats
    """(C,) points of each class."""
    means: Floats
    """(C, d) mean of each class."""
    second: Floats
    """(d, d) mean of x x^T."""


def class_moments(blocks: LabeledBlocks, n_classes: int) -> Moments:
    """Class means and the mean of x x^T, in one pass."""
    xp, d = blocks.reader.xp, blocks.n_features
    sums, second = xp.zeros((n_classes, d)), xp.zeros((d, d))
    for x, y in blocks:
        second += x.T @ x
        order = xp.argsort(y)
        present, first = xp.unique(y[order], return_index=True)
        sums[present] += _run_sums(x[order], first, xp)
    counts = np.bincount(on_host(blocks.codes), minlength=n_classes).astype(np.float64)
    return Moments(counts, on_host(sums) / np.maximum(counts, 1)[:, None], on_host(second) / len(blocks))


def _run_sums(x: Any, first: Any, xp: Any) -> Any:
    """Sums over the runs of rows that begin at the rows `first`."""
    if xp is np:
        return np.add.reduceat(x, first, axis=0, dtype=np.float64)
    total = xp.cumsum(x, axis=0, dtype=np.float64)
    total = xp.concatenate([xp.zeros_like(total[:1]), total])
    return total[xp.concatenate([first[1:], xp.asarray([len(x)])])] - total[first]


def discriminant_weights(moments: Moments, *, shrinkage: float, scale: float) -> Floats:
    """(d + 1, C) weights of linear discriminant analysis, the last row the intercept.

    Parameters
    ----------
    moments
        Of the training points.
    shrinkage
        Share of the mean variance in the pooled covariance within classes, 0 to 1.
    scale
        Factor of the logits; below 1 for features that are less normal than the method takes them for.
    """
    counts, means, second = moments
    priors = np.maximum(counts, 0.5) / counts.sum()
    within = second - (means * priors[:, None]).T @ means
    d = len(within)
    within = (1 - shrinkage) * within + (shrinkage * np.trace(within) / d + 1e-9) * np.eye(d)
    weights = np.linalg.solve(within, means.T)
    intercept = np.log(priors) - 0.5 * scale * (means.T * weights).sum(axis=0)
    return np.vstack([scale * weights, intercept])
