"""Reading of embeddings block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.device import Array, array_module

__all__ = ["BLOCK_BYTES", "row_block", "row_slices"]

BLOCK_BYTES = 32 << 20
"""Size of a block where embeddings are read once: large for a disk read, small compared with memory."""


def row_slices(n_rows: int, n_features: int, *, itemsize: int = 4, block_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Divide `n_rows` into consecutive slices of about `block_bytes` each."""
    step = max(1, block_bytes // max(1, n_features * itemsize))
    for start in range(0, n_rows, step):
        yield slice(start, min(n_rows, start + step))


def row_block(
    embeddings: Array,
    rows: slice | npt.NDArray[np.integer[Any]],
    *,
    dtype: npt.DTypeLike = np.float32,
    mean: Array | None = None,
) -> Array:
    """Rows of the embeddings as contiguous floats.

    Parameters
    ----------
    embeddings
        (n, d) as `as_embeddings` returns.
    rows
        Slice or (b,) row numbers.
    dtype
        Float type of the result.
    mean
        (d,) float64, subtracted in float64 before the cast, so that a common offset of all points costs no precision
        in the narrower type.

    Returns
    -------
    (b, d) C-contiguous, aligned array of `dtype`, in native byte order; a slice of embeddings that have these
    properties is not copied.
    """
    xp = array_module(embeddings)
    if mean is not None and xp is np:
        from clorg_scale.numerics.compiled import centered_rows, has_compiled_path

        if has_compiled_path(embeddings):
            which = np.arange(len(embeddings))[rows] if isinstance(rows, slice) else np.asarray(rows)
            out = np.empty((len(which), len(mean)), dtype=dtype)
            centered_rows(embeddings, which, mean, out)
            return out
    block = embeddings[rows]
    if mean is not None:
        block = block.astype(np.float64)
        block -= mean
    block = xp.ascontiguousarray(block, dtype=dtype)
    # A memory-mapped member of an .npz file may start at any byte.
    return block if xp is not np or block.flags.aligned else block.copy()
