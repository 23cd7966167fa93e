"""Eigenpairs of small matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["dense_pairs"]


def dense_pairs(matrix: Any, k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(k,) largest eigenvalues and (n, k) eigenvectors of a sparse symmetric matrix, from the dense one."""
    from scipy.linalg import eigh

    n = matrix.shape[0]
    values, vectors = eigh(matrix.toarray(), subset_by_index=[n - k, n - 1])
    return values, vectors
