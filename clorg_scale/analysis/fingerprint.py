"""What an array holds, in 32 hexadecimal digits: the name under which results are kept for it."""

from __future__ import annotations

import hashlib

import numpy as np

from clorg_scale.arrays import Array, on_host, row_slices

__all__ = ["fingerprint"]


def fingerprint(array: Array) -> str:
    """BLAKE2 digest of an array's dtype, shape and contents, read block by block."""
    digest = hashlib.blake2b(f"{array.dtype.str}{tuple(array.shape)}".encode(), digest_size=16)
    n_columns = int(np.prod(array.shape[1:], dtype=np.int64))
    for rows in row_slices(len(array), n_columns, itemsize=array.dtype.itemsize):
        digest.update(np.ascontiguousarray(on_host(array[rows])).data)
    return digest.hexdigest()
