"""The normalized affinity matrix, its components, and checks of its eigenpairs; NumPy or CuPy alike."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.arrays import Array, array_module

__all__ = [
    "NotConvergedError",
    "check_pairs",
    "check_residuals",
    "connected_components",
    "normalized_affinity",
    "residuals_of",
]

LARGEST_RESIDUAL = 1e-5
"""Length of S u - lambda u that is accepted: an eigenvalue is then within 1e-5, in practice within its square."""

SEARCH_VECTORS, SEARCH_RESTARTS, SEARCH_TOLERANCE = 32, 5, 1e-3
"""Settings of the search for eigenvalues that were missed: those of a cluster's size are met at once."""


class NotConvergedError(RuntimeError):
    """A solver did not find the eigenpairs; the message says which and how many."""


def connected_components(graph: AffinityGraph) -> tuple[npt.NDArray[np.int64], int]:
    """(n,) component of each node, largest first, -1 where it has no edge of positive weight; and their number."""
    from scipy.sparse.csgraph import connected_components as components_of

    matrix = graph.to_scipy()
    if not (matrix.data > 0).all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    _, labels = components_of(matrix, directed=False)
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    several = int((sizes > 1).sum())
    rank = np.full(len(sizes), -1, dtype=np.int64)
    rank[order[:several]] = np.arange(several)
    return rank[labels], several


def normalized_affinity(graph: AffinityGraph) -> tuple[Any, Array]:
    """D^-1/2 A D^-1/2 of a graph without isolated nodes, float64 sparse rows, and (n,) the roots of the degrees."""
    if array_module(graph.weights) is np:
        matrix = graph.to_scipy().astype(np.float64)
    else:
        matrix = graph.to_cupy().astype(np.float64)
    roots = array_module(graph.weights).sqrt(graph.degrees)
    matrix.data /= roots[graph.rows()] * roots[graph.indices]
    return matrix, roots


def residuals_of(matrix: Any, values: Array, vectors: Array) -> Array:
    """(k,) lengths of S u - lambda u."""
    xp = array_module(vectors)
    return xp.sqrt(((matrix @ vectors - vectors * values) ** 2).sum(axis=0))


def check_residuals(matrix: Any, values: Array, vectors: Array, solver: str) -> None:
    """Check that these are eigenpairs.

    Raises
    ------
    NotConvergedError
        If a residual is too large.
    """
    xp = array_module(vectors)
    finite = bool(xp.isfinite(values).all()) and bool(xp.isfinite(vectors).all())
    good = int((residuals_of(matrix, values, vectors) <= LARGEST_RESIDUAL).sum()) if finite else 0
    if good < len(values):
        raise NotConvergedError(f"{solver} found {good} of {len(values)} eigenvectors of the graph.")


def check_pairs(matrix: Any, values: Array, vectors: Array, solver: str) -> None:
    """Check that these are eigenpairs, and that no larger eigenvalue is left.

    Raises
    ------
    NotConvergedError
        If a residual is too large, or a search in the orthogonal space meets a larger eigenvalue.
    """
    check_residuals(matrix, values, vectors, solver)
    left = _largest_left(matrix, values, vectors)
    if left > float(values.min()) + LARGEST_RESIDUAL:
        raise NotConvergedError(
            f"{solver} missed an eigenvalue of {left:.6f} or more, above the smallest of the {len(values)} it found."
        )


def _largest_left(matrix: Any, values: Array, vectors: Array) -> float:
    """Lower bound of the largest eigenvalue in the space orthogonal to (n, k) `vectors`, by a few Lanczos restarts."""
    from scipy.sparse.linalg import ArpackNoConvergence

    xp = array_module(vectors)
    n, k = vectors.shape
    if n - k < 3:
        return -1.0
    sparse = importlib.import_module("scipy.sparse.linalg" if xp is np else "cupyx.scipy.sparse.linalg")
    start = apart(xp.asarray(np.random.default_rng(1).standard_normal(n)), vectors)
    limit = SEARCH_RESTARTS if xp is np else SEARCH_RESTARTS * SEARCH_VECTORS  # CuPy counts products
    try:
        _, found = sparse.eigsh(
            _deflated(matrix, values, vectors),
            1,
            which="LA",
            v0=start,
            ncv=min(n, SEARCH_VECTORS),
            maxiter=limit,
            tol=SEARCH_TOLERANCE,
        )
        last = found[:, 0]
    except ArpackNoConvergence as error:  # SciPy only: CuPy returns what it found
        last = error.eigenvectors[:, 0] if error.eigenvectors.shape[1] else start
    last = apart(last, vectors)
    return float((last @ (matrix @ last)) / (last @ last))


def _deflated(matrix: Any, values: Array, vectors: Array) -> Any:
    """S as a linear operator that has the eigenvalue -1 for each of `vectors`, its eigenvectors."""
    xp = array_module(vectors)
    shift = xp.asarray(values) + 1.0
    sparse = importlib.import_module("scipy.sparse.linalg" if xp is np else "cupyx.scipy.sparse.linalg")

    def product(vector: Array) -> Array:
        vector = vector.reshape(-1)
        return matrix @ vector - vectors @ (shift * (vectors.T @ vector))

    return sparse.LinearOperator(matrix.shape, matvec=product, dtype=np.float64)


def apart(vector: Array, vectors: Array) -> Array:
    """Component of a vector that is orthogonal to `vectors`."""
    return vector - vectors @ (vectors.T @ vector)
