"""Embeddings brought to mean 0 and standard deviation 1, block by block."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, column_means, on_host, row_block, row_slices

__all__ = ["StandardisedReader", "standardisation"]


def standardisation(X: Array, chosen: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and inverse standard deviation of the chosen rows, in float64; 0 for a constant feature.

    Raises
    ------
    InputError
        If any row holds NaN or infinite values.
    """
    shift = column_means(X)
    sums, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for rows in row_slices(*X.shape, itemsize=8):
        shifted = row_block(X, rows, dtype=np.float64, mean=shift)
        if not chosen[rows].all():
            shifted = shifted[array_module(X).asarray(np.flatnonzero(chosen[rows]))]
        sums += on_host(shifted.sum(axis=0))
        squares += on_host((shifted * shifted).sum(axis=0))
    offset = sums / np.count_nonzero(chosen)
    mean = on_host(shift) + offset
    std = np.sqrt(np.maximum(squares / np.count_nonzero(chosen) - offset**2, 0))
    constant = std <= 1e-12 * np.abs(mean)
    return mean, np.divide(1.0, std, out=np.zeros_like(std), where=~constant)


class StandardisedReader:
    """Reads rows of the embeddings as standardised float32 on the computing device."""

    def __init__(self, X: Array, mean: npt.NDArray[np.float64], scale: npt.NDArray[np.float64], xp: ModuleType) -> None:
        self.X = X
        self.xp = xp
        self.mean = array_module(X).asarray(mean)
        self.scale = xp.asarray(scale, dtype=np.float32)

    def __call__(self, rows: slice | npt.NDArray[np.int64]) -> Array:
        """(b, d) float32, C-contiguous."""
        if not isinstance(rows, slice):
            rows = array_module(self.X).asarray(rows)
        block = row_block(self.X, rows, mean=self.mean)
        block = on_host(block) if self.xp is np else self.xp.asarray(block)
        block *= self.scale
        return block
