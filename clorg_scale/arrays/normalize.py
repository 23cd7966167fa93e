"""Embeddings on the unit sphere: each row divided by its Euclidean length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clorg_scale.arrays.blocks import row_slices
from clorg_scale.arrays.device import Array, array_module
from clorg_scale.arrays.embeddings import column_means
from clorg_scale.arrays.scale import computing_dtype
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.errors import InputError

__all__ = ["normalize_rows"]

SHORTEST = 2.0**-1020
"""Length below which a vector has lost digits in float64, and its direction with them."""

_LISTED = 5
"""Rows without a direction that an error sentence names."""


def normalize_rows(embeddings: Array, *, name: str = "embeddings") -> Array:
    """Divide each row by its Euclidean length (L2 normalization).

    Parameters
    ----------
    embeddings
        (n, d) as `as_embeddings` returns; read twice, block by block.
    name
        What to call them in error sentences.

    Returns
    -------
    (n, d) copy in the same array library: float64 for embeddings that float32 does not hold exactly, else float32.
    On the host a copy that is large against the free memory lies in a temporary memory-mapped file.

    Raises
    ------
    InputError
        If values are NaN or infinite, a row is zero or too short to have a direction, or neither memory nor disk has
        room for the copy.
    """
    column_means(embeddings, name=name)  # names the rows that are not finite
    dtype = computing_dtype(embeddings.dtype)
    blocks = _unit_blocks(embeddings, name)
    if array_module(embeddings) is np:
        return gather_blocks(blocks, embeddings.shape, dtype, name=f"normalized {name}")
    normalized, start = array_module(embeddings).empty(embeddings.shape, dtype=dtype), 0
    for block in blocks:
        normalized[start : start + len(block)] = block
        start += len(block)
    return normalized


def _unit_blocks(embeddings: Array, name: str) -> Iterator[Array]:
    """Rows of length 1, float64, block by block."""
    xp = array_module(embeddings)
    for rows in row_slices(*embeddings.shape, itemsize=24):
        block = embeddings[rows].astype(np.float64)
        # Divided by its largest value first, so that no square leaves the range of float64.
        largest = xp.abs(block).max(axis=1, keepdims=True)
        short = xp.flatnonzero(largest[:, 0] < SHORTEST)
        if short.size:
            raise InputError(_without_direction(name, int(short.size), short[:_LISTED].tolist(), rows.start))
        block /= largest
        block /= xp.sqrt(xp.einsum("ij,ij->i", block, block))[:, None]
        yield block


def _without_direction(name: str, count: int, rows: list[int], first: int) -> str:
    listed = ", ".join(str(first + row) for row in rows) + (", ..." if count > len(rows) else "")
    return (
        f"The {name} hold zero vectors, or vectors too short to have a direction in float64 (rows {listed}), which "
        "cannot be normalized; remove them, or do without normalization."
    )
