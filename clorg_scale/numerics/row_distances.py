"""Euclidean distances of a row of a tile from the matrix product of its points: compiled, for the innermost loops.

Squares expanded as |x|^2 + |y|^2 - 2 x y lose digits where they are small against the norms; those pairs are computed
again from the coordinates' differences.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.numerics.compiler import callee
from clorg_scale.numerics.simd import use_wide_vectors

__all__ = ["Tile", "row_distances"]

Floats = npt.NDArray[Any]
"""float32 or float64; a tile and all that goes with it have one precision."""


class Tile(NamedTuple):
    """Products G (p, q) of two blocks of points X and Y, and their squared norms."""

    G: Floats
    X: Floats
    Y: Floats
    x_norms: Floats
    y_norms: Floats


# The loops below count from 0 and add an unsigned offset: with a signed one Numba must allow for negative indices,
# and LLVM no longer vectorizes. Whole arrays and offsets are handed over, for a slice a row costs as much as the row.


@callee(fastmath=True)
def row_distances(tile: Tile, i: int, first: int, near: Any, d: Floats) -> None:
    """Distances of row i of a tile to its columns from `first` on, into d."""
    use_wide_vectors()
    G, _, Y, x_norms, y_norms = tile
    offset, n_near, x_norm = np.uintp(first), 0, x_norms[i]
    zero = x_norm - x_norm
    for step in range(len(Y) - first):
        j = offset + np.uintp(step)
        total = x_norm + y_norms[j]
        square = total - (G[i, j] + G[i, j])
        n_near += square < near * total
        d[j] = np.sqrt(max(square, zero))
    if n_near:
        _recompute_near(tile, i, first, near, d)


@callee(fastmath=True)
def _recompute_near(tile: Tile, i: int, first: int, near: Any, d: Floats) -> None:
    """Replace the distances that are small against the norms by those of the coordinates' differences."""
    X, Y, x_norm, y_norms = tile.X, tile.Y, tile.x_norms[i], tile.y_norms
    for j in range(first, len(Y)):
        if d[j] * d[j] < near * (x_norm + y_norms[j]):
            square = x_norm - x_norm
            for f in range(X.shape[1]):
                difference = X[i, f] - Y[j, f]
                square += difference * difference
            d[j] = np.sqrt(square)
