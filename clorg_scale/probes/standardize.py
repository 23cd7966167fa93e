"""Embeddings brought to mean 0 and standard deviation 1, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, column_range, on_host, row_block, row_slices

__all__ = ["Standardization", "StandardizedReader", "standardization"]

Floats = npt.NDArray[np.float64]

DEAD = 2.0**-100
"""Spread of a feature, in units of the widest one, below which it is no feature but what arithmetic left over."""

ORDINARY = 1e-15, 1e15
"""Factors between these keep standardized values and their squares within float32 at every step."""

FARTHEST = 1e18
"""Standard deviations from the mean at which a value is cut off; float32 holds sums of the squares of such values."""


@dataclass(frozen=True)
class Standardization:
    """Map of features to mean 0 and standard deviation 1: (x - mean) unit factor.

    Attributes
    ----------
    mean
        (d,) float64.
    unit
        (d,) float64 power of two near the inverse standard deviation, so that no square leaves the range of float64.
    factor
        (d,) float64 between 2^-60 and 2^60, or 0 for a feature that does not vary.
    """

    mean: Floats
    unit: Floats
    factor: Floats

    @property
    def scale(self) -> Floats:
        """(d,) float64 inverse standard deviation; infinite where float64 does not hold it."""
        with np.errstate(over="ignore"):
            return np.asarray(self.unit * self.factor)

    @property
    def ordinary(self) -> bool:
        """Whether float32 holds every step."""
        scale = self.scale[self.factor > 0]
        return bool(((ORDINARY[0] < scale) & (scale < ORDINARY[1])).all())


def standardization(X: Array, chosen: npt.NDArray[np.bool_]) -> Standardization:
    """Mean and standard deviation of the chosen rows, in float64.

    A feature counts as constant where its spread is lost in the rounding of its mean, or is less than 2^-100 of that of
    the widest feature: a unit that never fires, but for one subnormal number, is not blown up to their size.

    Raises
    ------
    InputError
        If any row holds NaN or infinite values.
    """
    found = column_range(X)
    xp, n_chosen = array_module(X), np.count_nonzero(chosen)
    unit = _unit(on_host(found.low), on_host(found.high))
    factors = xp.asarray(unit)
    sums, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for rows in row_slices(*X.shape, itemsize=8):
        shifted = row_block(X, rows, dtype=np.float64, mean=found.mean) * factors
        if not chosen[rows].all():
            shifted = shifted[xp.asarray(np.flatnonzero(chosen[rows]))]
        sums += on_host(shifted.sum(axis=0))
        squares += on_host((shifted * shifted).sum(axis=0))
    offset = sums / n_chosen
    shift = on_host(found.mean)
    std = np.sqrt(np.maximum(squares / n_chosen - offset**2, 0))
    with np.errstate(over="ignore"):
        constant = std <= 1e-12 * np.abs(shift * unit + offset)
    wide = np.log2(std, out=np.full_like(std, -np.inf), where=~constant) - np.log2(unit)
    constant |= wide < wide.max() + np.log2(DEAD)
    return Standardization(shift + offset / unit, unit, np.divide(1.0, std, out=np.zeros_like(std), where=~constant))


def _unit(low: Floats, high: Floats) -> Floats:
    """(d,) powers of two that bring the range of each feature near 1; 1 for a constant one."""
    half = high / 2 - low / 2  # the difference of the whole numbers may exceed float64
    exponents = np.where(half > 0, np.clip(np.frexp(half)[1], -1020, 1020), 0)
    return np.asarray(np.ldexp(1.0, -exponents))


class StandardizedReader:
    """Reads rows of the embeddings as standardized float32 on the computing device."""

    def __init__(self, X: Array, how: Standardization, xp: ModuleType) -> None:
        self.X = X
        self.xp = xp
        home = array_module(X)
        self.mean = home.asarray(how.mean)
        self.unit, self.factor = (home.asarray(part) for part in (how.unit, how.factor))
        self.scale = xp.asarray(how.scale, dtype=np.float32) if how.ordinary else None

    def __call__(self, rows: slice | npt.NDArray[np.int64]) -> Array:
        """(b, d) float32, C-contiguous."""
        if not isinstance(rows, slice):
            rows = array_module(self.X).asarray(rows)
        if self.scale is None:
            block = row_block(self.X, rows, dtype=np.float64, mean=self.mean) * self.unit * self.factor
            block = array_module(self.X).clip(block, -FARTHEST, FARTHEST).astype(np.float32)
            return on_host(block) if self.xp is np else self.xp.asarray(block)
        block = row_block(self.X, rows, mean=self.mean)
        block = on_host(block) if self.xp is np else self.xp.asarray(block)
        block *= self.scale
        return block
