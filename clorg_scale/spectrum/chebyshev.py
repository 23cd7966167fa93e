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

from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.threads import over_rows

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
        last = np.ascontiguousarray(vector.reshape(-1))
        rows = matrix.indptr, matrix.indices, matrix.data
        n, row_length = len(last), len(matrix.data) // max(1, len(last))
        following: npt.NDArray[np.float64] = np.zeros(n)
        over_rows(_step, n, row_length, rows, last, following, (slope, shift, 0.0))
        # Two arrays take turns: each number of the older one is read before its successor replaces it.
        before, last = last.copy(), following
        for _ in range(self.degree - 1):
            over_rows(_step, n, row_length, rows, last, before, (2 * slope, 2 * shift, 1.0))
            before, last = last, before
        return last


def step_reference(matrix: Any, last: npt.NDArray[Any], before: npt.NDArray[Any], factors: Any) -> npt.NDArray[Any]:
    """Compute slope S v + shift v - decrease w for a SciPy matrix S: the definition of `_step`."""
    slope, shift, decrease = factors
    return np.asarray(slope * (matrix @ last) + shift * last - decrease * before)


@njit(cache=True, nogil=True)
def _step(rows, matrix, last, before, factors):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Replace rows of `before` by what `step_reference` computes."""
    indptr, indices, data = matrix
    slope, shift, decrease = factors
    for row in range(rows[0], rows[1]):
        total = 0.0
        for entry in range(np.uintp(indptr[row]), np.uintp(indptr[row + np.uintp(1)])):
            total += data[entry] * last[np.uintp(indices[entry])]
        before[row] = slope * total + shift * last[row] - decrease * before[row]


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
