"""Eigenpairs on the GPU with pylibraft's thick-restart Lanczos method."""

from __future__ import annotations

from typing import Any

import numpy as np

from clorg_scale.arrays import Array
from clorg_scale.arrays.handles import raft_handle
from clorg_scale.errors import require
from clorg_scale.spectrum.normalized import NotConvergedError, check_pairs

__all__ = ["lanczos_pairs_on_gpu"]

TOLERANCE = 1e-8
"""Residual at which it ends; it does not report when it fails to reach it, so residuals are computed again."""

MOST_PRODUCTS = 50_000
"""Matrix-vector products before it gives up: some ten seconds for a graph of 10^6 nodes on one H100."""


def lanczos_pairs_on_gpu(matrix: Any, k: int) -> tuple[Array, Array, str]:
    """(k,) largest eigenvalues and (n, k) eigenvectors of a CuPy sparse matrix, on the GPU, and the name of the solver.

    Raises
    ------
    NotConvergedError
        If they are not eigenpairs, or not the largest.
    """
    cupy = require("cupy", extra="cuda13", purpose="The spectrum of a graph on the GPU")
    library = require("pylibraft", extra="cuda13", purpose="The spectrum of a graph on the GPU")
    solver = require("pylibraft.sparse.linalg", extra="cuda13", purpose="The spectrum of a graph on the GPU")
    n = matrix.shape[0]
    start = cupy.asarray(np.random.default_rng(0).standard_normal(n))
    start /= cupy.sqrt((start**2).sum())
    name = f"pylibraft {library.__version__}, Lanczos on the GPU"
    try:
        with raft_handle("The spectrum of a graph on the GPU") as handle:
            values, vectors = solver.eigsh(
                matrix,
                k=k,
                which="LA",
                v0=start,
                ncv=min(n - 1, max(2 * k + 1, 20)),
                maxiter=MOST_PRODUCTS,
                tol=TOLERANCE,
                seed=0,
                handle=handle,
            )
    except RuntimeError as error:
        raise NotConvergedError(f"{name} failed ({str(error).partition(chr(10))[0]}).") from error
    check_pairs(matrix, values, vectors, name)
    return values, vectors, name
