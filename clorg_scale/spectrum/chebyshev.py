r"""A Chebyshev polynomial of the normalized affinity matrix that draws its largest eigenvalues apart.

With c below the k largest eigenvalues, :math:`p(x) = T_d((2 x + 1 - c) / (1 + c))` is within -1 .. 1 for x in -1 .. c
and rises from 1 for x above: p(S) has the eigenvectors of S, and its k largest eigenvalues in the same order. Near c
the slope of p is about :math:`d^2`. A Lanczos method on p(S) needs about d times fewer vectors than on S, each of d
products with S (Saad, Numerical methods for large eigenvalue problems, 2011, chapter 8).

c is the k-th largest Ritz value of S in a space of some vectors, which cannot exceed the k-th largest eigenvalue
(Cauchy), whatever the space is. It is the Krylov space of another such polynomial, which rises from `FIRST_EDGE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Filter", "filter_for"]

SMALLEST = 4000
"""Nodes from which a polynomial is sought; smaller matrices are solved in tenths of a second without."""

MOST_DEGREE = 16
"""Degree at most: products then take as long as keeping the vectors orthogonal."""

FIRST_DEGREE, FIRST_EDGE = 12, 0.5
"""Polynomial whose Krylov space the k-th eigenvalue is estimated in."""

LARGEST_RISE = 4.0
"""Logarithm of 2 p(1), at most: the eigenvalues next to c must not drown in the rounding of the largest."""


@dataclass(frozen=True)
class Filter:
    """p(x) = T_degree, moved so that -1 .. `edge` becomes -1 .. 1."""

    degree: int
    edge: float

    def of(self, matrix: Any) -> Any:
        """p(S) as a linear operator."""
        from scipy.sparse.linalg import LinearOperator

        return LinearOperator(matrix.shape, matvec=lambda vector: self.product(matrix, vector), dtype=np.float64)

    def product(self, matrix: Any, vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """p(S) v by the recurrence T_j+1(x) = 2 x T_j(x) - T_j-1(x)."""
        slope, shift = 2 / (1 + self.edge), (1 - self.edge) / (1 + self.edge)
        before = vector.reshape(-1)
        last: npt.NDArray[np.float64] = slope * (matrix @ before) + shift * before
        for _ in range(self.degree - 1):
            following = matrix @ last
            following *= 2 * slope
            following += (2 * shift) * last
            following -= before
            before, last = last, following
        return last


def filter_for(matrix: Any, k: int, rng: np.random.Generator) -> Filter | None:
    """A polynomial for the k largest eigenvalues of a symmetric matrix with those in -1 .. 1, if one is worth it."""
    n = matrix.shape[0]
    n_vectors = 2 * k + 1
    if n < max(SMALLEST, 4 * n_vectors):
        return None
    edge = float(_ritz_values(matrix, n_vectors, rng)[-k:][0])
    if not -0.5 < edge < 1 - 1e-12:
        return None
    degree = min(MOST_DEGREE, int(LARGEST_RISE / np.arccosh(1 + 2 * (1 - edge) / (1 + edge))))
    return Filter(degree, edge) if degree > 1 else None


def _ritz_values(matrix: Any, n_vectors: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Eigenvalues of the matrix, ascending, in the Krylov space of a polynomial of it and a random vector."""
    first = Filter(FIRST_DEGREE, FIRST_EDGE)
    vectors = np.zeros((n_vectors, matrix.shape[0]))
    vector = rng.standard_normal(matrix.shape[0])
    n_found = 0
    for j in range(n_vectors):
        before = np.linalg.norm(vector)
        for _ in range(2):  # once more: the first time loses digits
            vector -= (vectors[:j] @ vector) @ vectors[:j]
        length = np.linalg.norm(vector)
        if length < 1e-10 * before:  # the space is invariant
            break
        vectors[j] = vector / length
        n_found = j + 1
        vector = first.product(matrix, vectors[j])
    found = vectors[:n_found]
    return np.linalg.eigvalsh(found @ (matrix @ found.T))
