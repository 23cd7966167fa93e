"""Eigenpairs on the CPU: dense for small matrices, ARPACK's restarted Lanczos method, LOBPCG where it fails.

On large graphs many eigenvalues are close to 1, and most of the time goes into keeping the Lanczos vectors orthogonal.
So the method runs on a polynomial of the matrix, which draws these eigenvalues apart (`chebyshev`): a few products
more, several times fewer Lanczos vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.spectrum.chebyshev import filter_for
from clorg_scale.spectrum.normalized import NotConvergedError, check_pairs, deflated

__all__ = ["dense_pairs", "lanczos_pairs"]

TOLERANCE = 1e-8
"""Tolerance of ARPACK and LOBPCG: weights are float32."""

FILTERED_TOLERANCE = 1e-7
"""The same for a polynomial, whose slope at the eigenvalues sought is 10 and more: a residual of the matrix is smaller
by that factor."""

RESTARTS = 500
COPIES = 4
"""Searches for copies of eigenvalues."""

LOBPCG_STEPS = 300


def dense_pairs(matrix: Any, k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(k,) largest eigenvalues and (n, k) eigenvectors, from the dense matrix."""
    from scipy.linalg import eigh

    n = matrix.shape[0]
    values, vectors = eigh(matrix.toarray(), subset_by_index=[n - k, n - 1])
    return values, vectors


def lanczos_pairs(matrix: Any, k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], str]:
    """(k,) largest eigenvalues and (n, k) eigenvectors of a sparse symmetric matrix, and the name of the solver.

    Raises
    ------
    NotConvergedError
        If neither method finds them all.
    """
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence

    rng = np.random.default_rng(0)
    found = np.empty((matrix.shape[0], 0))
    try:
        values, vectors = _filtered(matrix, k, rng)
        for _ in range(COPIES):
            try:
                check_pairs(matrix, values, vectors, "SciPy's Lanczos method")
                return values, vectors, "SciPy, Lanczos (ARPACK) on the CPU"
            except NotConvergedError:
                # One start vector meets one copy of an eigenvalue: others are orthogonal to the vectors found.
                found = vectors
                more, others = _arpack(deflated(matrix, values, vectors), k, rng)
                values, vectors = _largest(np.concatenate([values, more]), np.hstack([vectors, others]), k)
    except ArpackNoConvergence as error:
        found = error.eigenvectors if error.eigenvectors.shape[1] > found.shape[1] else found
    except ArpackError:
        pass
    values, vectors = _lobpcg(matrix, k, found, rng)
    check_pairs(matrix, values, vectors, "SciPy, after its Lanczos method did not converge, by LOBPCG,")
    return values, vectors, "SciPy, LOBPCG on the CPU"


def _filtered(matrix: Any, k: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The restarted Lanczos method on a polynomial of the matrix, where one is worth it."""
    chosen = filter_for(matrix, k, rng)
    if chosen is None:
        return _arpack(matrix, k, rng)
    _, vectors = _arpack(chosen.of(matrix), k, rng, FILTERED_TOLERANCE)
    values = np.einsum("ij,ij->j", vectors, matrix @ vectors)
    return values, vectors


def _arpack(
    matrix: Any, k: int, rng: np.random.Generator, tolerance: float = TOLERANCE
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The restarted Lanczos method from a random vector."""
    from scipy.sparse.linalg import eigsh

    values, vectors = eigsh(
        matrix, k, which="LA", v0=rng.standard_normal(matrix.shape[0]), tol=tolerance, maxiter=RESTARTS
    )
    return values, vectors


def _largest(
    values: npt.NDArray[np.float64], vectors: npt.NDArray[np.float64], k: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The k largest pairs."""
    order = np.argsort(-values, kind="stable")[:k]
    return values[order], vectors[:, order]


def _lobpcg(
    matrix: Any, k: int, found: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The block method, which finds copies of an eigenvalue, from the vectors found so far and random ones."""
    import warnings

    from scipy.sparse.linalg import lobpcg

    spare = max(4, k // 8)  # the last ones of a block converge slowest
    n = matrix.shape[0]
    start = np.hstack([found[:, :k], rng.standard_normal((n, k + spare - min(k, found.shape[1])))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what `check_pairs` decides
        values, vectors = lobpcg(matrix, np.linalg.qr(start)[0], largest=True, tol=TOLERANCE, maxiter=LOBPCG_STEPS)
    return _largest(values, vectors, k)
