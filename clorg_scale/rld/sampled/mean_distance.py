"""The mean distance of all pairs of points, from those of a random sample of pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clorg_scale.arrays import array_module, row_slices
from clorg_scale.numerics.compiled import has_compiled_path, row_lengths
from clorg_scale.rld.points import ClassOrderedPoints, positive_mean
from clorg_scale.rld.types import Floats

__all__ = ["mean_distance", "sum_of_squares"]


def mean_distance(lengths: Floats, n: int, sum_of_squares: Callable[[float], float]) -> tuple[float, float]:
    """Mu from the distances of random pairs, and its relative standard error.

    The mean of the squares is known, 2 / (n - 1) sum |x - mean|^2, and distances are nearly linear in their squares:
    the sample's error in the squares corrects that in the distances (a control variate), which leaves a fifth of it or
    less. `lengths`: distances of random pairs of n points, refused if all are 0; `sum_of_squares`: function from a unit
    of length to sum |x - mean|^2 in its squares.
    """
    unit = positive_mean(float(lengths.max()))
    d, squared = lengths / unit, (lengths / unit) ** 2
    spread = squared.var()
    slope = np.mean((d - d.mean()) * squared) / spread if spread > 0 else 0.0
    mu = float(d.mean() + slope * (2 * sum_of_squares(unit) / (n - 1) - squared.mean()))
    return mu * unit, float((d - slope * squared).std() / mu / np.sqrt(len(d)))


def sum_of_squares(points: ClassOrderedPoints, unit: float) -> float:
    """Sum of the squared distances of all points from their mean, in squares of `unit`."""
    n, total = points.n_points, 0.0
    if not points.on_gpu and has_compiled_path(points.embeddings):
        return float(((row_lengths(points.embeddings, points.mean) / unit) ** 2).sum())
    for rows in row_slices(n, points.n_features, itemsize=16):
        block = points.rows(np.arange(rows.start, rows.stop), dtype=np.float64) / unit
        total += float(array_module(block).einsum("ij,ij->i", block, block).sum())
    return total
