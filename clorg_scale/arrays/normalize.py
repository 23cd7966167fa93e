"""Embeddings on the unit sphere: each row divided by its Euclidean length."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from clorg_scale.arrays.blocks import row_slices
from clorg_scale.arrays.device import Array, array_module
from clorg_scale.arrays.embeddings import column_means
from clorg_scale.arrays.memory import at_least, in_bytes, parse_memory
from clorg_scale.arrays.scale import computing_dtype
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.counted import numbered
from clorg_scale.errors import InputError

__all__ = ["Normalized", "normalize_rows", "normalize_within"]

SHORTEST = 2.0**-1020
"""Length below which a vector has lost digits in float64, and its direction with them."""

_LISTED = 5
"""Rows without a direction that an error sentence names."""


class Normalized(NamedTuple):
    """Normalized embeddings, and what is left of a memory limit beside them (None: there is none)."""

    embeddings: Array
    memory_limit: int | None


def normalize_within(
    embeddings: Array, memory_limit: str | int | None, *, needed: int, name: str = "embeddings"
) -> Normalized:
    """Normalize embeddings so that a later computation still fits a memory limit.

    Parameters
    ----------
    embeddings
        As for `normalize_rows`.
    memory_limit
        For the copy and the computation together; None for none.
    needed
        Bytes that the computation takes at least. A copy for which these leave no room lies in a temporary file, where
        it does not count; on a GPU it is refused.
    name
        As for `normalize_rows`.

    Raises
    ------
    InputError
        As `normalize_rows`; if a GPU has no room within the limit (says how much would do).
    """
    limit = parse_memory(memory_limit)
    embeddings = normalize_rows(embeddings, name=name, most=None if limit is None else max(0, limit - needed))
    if limit is not None and not isinstance(embeddings, np.memmap):
        limit -= embeddings.nbytes
    return Normalized(embeddings, limit)


def normalize_rows(embeddings: Array, *, name: str = "embeddings", most: int | None = None) -> Array:
    """Divide each row by its Euclidean length (L2 normalization).

    Parameters
    ----------
    embeddings
        (n, d) as `as_embeddings` returns; read twice, block by block.
    name
        What to call them in error sentences.
    most
        Bytes of memory that the copy may take; default: a quarter of what is free in main memory, all of a GPU's.

    Returns
    -------
    (n, d) copy in the same array library: float64 for embeddings that float32 does not hold exactly, else float32.
    On the host a copy that may not take that much memory lies in a temporary memory-mapped file.

    Raises
    ------
    InputError
        If values are NaN or infinite, a row is zero or too short to have a direction, or neither memory nor disk has
        room for the copy.
    """
    column_means(embeddings, name=name)  # names the rows that are not finite
    xp, dtype = array_module(embeddings), computing_dtype(embeddings.dtype)
    if xp is not np:
        _check_gpu_room(prod(embeddings.shape) * dtype.itemsize, most, name)
    blocks = _unit_blocks(embeddings, xp, name)
    if xp is np:
        return gather_blocks(blocks, embeddings.shape, dtype, name=f"normalized {name}", most=most)
    unit, start = xp.empty(embeddings.shape, dtype), 0
    for block in blocks:
        unit[start : start + len(block)] = block
        start += len(block)
    return unit


def _check_gpu_room(n_bytes: int, most: int | None, name: str) -> None:
    """Refuse a copy on a GPU that takes more memory than it may."""
    if most is not None and n_bytes > most:
        raise InputError(
            f"Normalizing the {name} takes a copy of {in_bytes(n_bytes)} on the GPU, where the memory limit leaves "
            f"{in_bytes(most)} beside the computation; raise the limit by {at_least(n_bytes - most)}, or pass "
            "normalized embeddings."
        )


def _unit_blocks(embeddings: Array, xp: Any, name: str) -> Iterator[Array]:
    """Rows of length 1, float64, block by block, in the array library of the embeddings."""
    for rows in row_slices(*embeddings.shape, itemsize=24):
        block = embeddings[rows].astype(np.float64)
        # Divided by its largest value first, so that no square leaves the range of float64.
        largest = xp.abs(block).max(axis=1, keepdims=True)
        short = xp.flatnonzero(largest[:, 0] < SHORTEST)
        if short.size:
            raise InputError(_without_direction(name, int(short.size), (short[:_LISTED] + rows.start).tolist()))
        block /= largest
        block /= xp.sqrt(xp.einsum("ij,ij->i", block, block))[:, None]
        yield block


def _without_direction(name: str, count: int, rows: list[int]) -> str:
    return (
        f"The {name} hold zero vectors, or vectors too short to have a direction in float64 "
        f"({numbered('row', rows, count)}), which cannot be normalized; remove them, or do without normalization."
    )
