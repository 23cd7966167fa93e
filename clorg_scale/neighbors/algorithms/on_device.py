"""Helpers of the GPU indexes: prepared points on the GPU, and queries in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, free_device_memory, row_slices
from clorg_scale.errors import InputError
from clorg_scale.neighbors.points import Points
from clorg_scale.progress import Advance

__all__ = ["float32_copy", "search_in_chunks"]

QUERY_CHUNK = 1 << 15
"""Queries of one call: more than 65,535 at once have crashed GPU indexes."""


def float32_copy(points: Points) -> Array:
    """(n, d) float32 on the GPU, prepared for the metric.

    Raises
    ------
    InputError
        If it does not fit, with what it needs.
    """
    import cupy

    if points.cached is not None and not isinstance(points.cached, np.ndarray):
        return points.cached
    needed = 4 * points.n * points.d
    free = free_device_memory()
    if needed > 0.9 * free:
        raise InputError(
            f"The index needs {needed / 1e9:.1f} GB on the GPU, where {free / 1e9:.1f} GB are free; "
            "use index='flat' or 'ivf', which stream, or device='cpu'."
        )
    data = cupy.empty((points.n, points.d), dtype=np.float32)
    for rows in row_slices(points.n, points.d):
        data[rows] = cupy.asarray(points.block(rows))
    return data


def search_in_chunks(
    search: Callable[[Array], tuple[Any, Any]], data: Array, rows: Array, k: int, advance: Advance
) -> Array:
    """(b, k) int64 on the GPU: ids that `search` (queries -> distances, ids) finds for rows of `data`."""
    import cupy

    ids = cupy.empty((len(rows), k), dtype=np.int64)
    rows = cupy.asarray(rows)
    for start in range(0, len(rows), QUERY_CHUNK):
        chunk = slice(start, start + QUERY_CHUNK)
        _, found = search(data[rows[chunk]])
        ids[chunk] = cupy.asarray(found).astype(np.int64)
        advance(len(ids[chunk]))
    return ids
