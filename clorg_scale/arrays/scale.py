"""Scaling of embeddings by a power of two where their squares would leave the range of floating-point numbers.

Most measures (RLD, Calinski-Harabasz, the map) are invariant under multiplication of all embeddings by a common factor,
and a power of two causes no rounding error. So very large or very small embeddings are scaled before anything is
squared, and distances that are returned to the user are scaled back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from clorg_scale.arrays.blocks import row_slices
from clorg_scale.arrays.device import Array, array_module
from clorg_scale.arrays.embeddings import ColumnRange, column_range
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.errors import InputError

__all__ = ["MOST_EXPONENT", "UnitRange", "computing_dtype", "spread_exponent", "to_unit_range"]

MOST_EXPONENT = 30
"""Spreads between 2^-30 and 2^30 are not scaled: squares of distances, and their ratios, fit float32."""

LARGEST_OFFSET = 2.0**60
"""Largest offset, in units of the spread, that is not subtracted; float32 holds it after scaling."""


class UnitRange(NamedTuple):
    """Embeddings whose spread is in the range of float32 arithmetic.

    Attributes
    ----------
    embeddings
        (n, d) as passed, or a copy multiplied by 2^-exponent.
    mean
        (d,) float64 mean of the features of `embeddings`; None where they are a copy.
    exponent
        A distance between two of them, times 2^exponent, is the distance in the user's units.
    """

    embeddings: Array
    mean: Array | None
    exponent: int

    def in_user_units(self, distance: float, what: str) -> float:
        """Convert a distance to the units of the user's embeddings.

        Raises
        ------
        InputError
            If it exceeds the range of float64.
        """
        try:
            return math.ldexp(distance, self.exponent)
        except OverflowError:
            raise InputError(
                f"{what} exceeds the range of float64 ({np.finfo(np.float64).max:.1e}); divide all embeddings by a "
                "common factor."
            ) from None


def to_unit_range(embeddings: Array, *, name: str = "embeddings") -> UnitRange:
    """Scale embeddings by a power of two where their spread is outside 2^-30 .. 2^30; otherwise return them.

    Parameters
    ----------
    embeddings
        (n, d) as `as_embeddings` returns; read once.
    name
        Name used in error messages.

    Raises
    ------
    InputError
        If values are NaN or infinite.
    """
    found = column_range(embeddings, name=name)
    exponent = spread_exponent(found)
    if abs(exponent) <= MOST_EXPONENT:
        return UnitRange(embeddings, found.mean, 0)
    xp = array_module(embeddings)
    largest = float(xp.maximum(xp.abs(found.low), xp.abs(found.high)).max())
    # Only a feature that hardly varies beside others that do is offset so far; there the offset is no information.
    offset = found.mean if largest > math.ldexp(LARGEST_OFFSET, min(exponent, 900)) else None
    dtype = computing_dtype(embeddings.dtype)
    blocks = _scaled_blocks(embeddings, offset, exponent)
    if xp is np:
        return UnitRange(gather_blocks(blocks, embeddings.shape, dtype), None, exponent)
    scaled, start = xp.empty(embeddings.shape, dtype=dtype), 0
    for block in blocks:
        scaled[start : start + len(block)] = block
        start += len(block)
    return UnitRange(scaled, None, exponent)


def spread_exponent(found: ColumnRange) -> int:
    """Exponent e of the widest range of a feature, 2^(e - 1) <= range < 2^e; 0 where no feature varies."""
    # The difference of two numbers of float64 may exceed its range, that of their halves not.
    half = float((found.high / 2 - found.low / 2).max())
    return math.frexp(half)[1] + 1 if half >= 1 else math.frexp(float((found.high - found.low).max()))[1]


def computing_dtype(dtype: Any) -> np.dtype[Any]:
    """Return float64 for embeddings that float32 does not hold exactly (float64, wide integers), else float32."""
    return np.dtype(np.float64 if dtype.itemsize > (4 if dtype.kind == "f" else 2) else np.float32)


def _scaled_blocks(embeddings: Array, offset: Array | None, exponent: int) -> Iterator[Array]:
    xp = array_module(embeddings)
    for rows in row_slices(*embeddings.shape, itemsize=24):
        block = embeddings[rows].astype(np.float64)
        yield xp.ldexp(block if offset is None else block - offset, -exponent)
