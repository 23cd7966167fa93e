r"""Eigenpairs on the CPU: subspace iteration with a Chebyshev filter (Zhou, Saad et al., J. Comput. Phys. 219, 2006).

A block of more vectors than are sought is multiplied by a polynomial of the matrix that is within -1 .. 1 up to c and
rises steeply from there, :math:`p(x) = T_d((2 x + 1 - c) / (1 + c))`; a Rayleigh-Ritz step separates the vectors, and
c becomes the smallest of their Ritz values, which cannot exceed the eigenvalue of its rank (Cauchy).

Graphs of clusters have many eigenvalues close to 1 and to each other. Lanczos methods from one vector then restart for
minutes, and miss copies; a block meets all of them at once, and those that differ by less than the tolerance need not
be told apart. Most of the products are float32: rounding is damped by the products in float64 at the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.threads import over_rows
from clorg_scale.spectrum.normalized import check_residuals

__all__ = ["METHOD", "Filter", "Products", "filtered_pairs", "next_filter", "step_reference"]

METHOD = "Chebyshev-filtered subspace iteration on the CPU"

TOLERANCE = 1e-6
"""Largest residual |S u - lambda u| of an eigenvector sought; its eigenvalue is no farther off. Weights are float32."""

COARSE_TOLERANCE = 1e-5
"""The same while products are float32."""

ROUNDS = 60
"""Filters at most."""

FIRST_DEGREE, FIRST_EDGE = 12, 0.5
"""The first filter, of random vectors."""

RISE = 12.0
"""Logarithm of 2 p(1), about, at most: vectors next to c must not drown in what rounding leaves of the first ones."""

MOST_DEGREE = 200
"""Degree at most: with c so close to 1 that more would pay, the vectors have nearly converged."""

LEAST_INDEPENDENT = 1e-3
"""Smallest eigenvalue of the products of unit vectors that need not be made orthogonal first, which takes ten times as
long."""

ROWS_AT_A_TIME = 8192

HIGHEST_EDGE = 1 - 1e-9
"""c at most, so that p can be computed where all Ritz values are 1."""


def filtered_pairs(matrix: Any, k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(k,) largest eigenvalues, descending, and (n, k) eigenvectors of a symmetric SciPy matrix with those in -1 .. 1.

    Raises
    ------
    NotConvergedError
        If residuals stay above 1e-5. No larger eigenvalue is missed: the block's other vectors are orthogonal to those
        returned, random at first, and multiplied as often.
    """
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    n = matrix.shape[0]
    # Rows of neighbors then lie together: products take half the time.
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    matrix = matrix[order][:, order]
    values, vectors = _iterated(matrix, k, _start(n, k))
    check_residuals(matrix, values, vectors, METHOD)
    in_order = np.empty_like(vectors)
    in_order[order] = vectors
    return values, in_order


def _start(n: int, k: int) -> npt.NDArray[np.float32]:
    """Random vectors, half as many again as are sought: the convergence depends on the eigenvalues left out."""
    width = min(n, -(-(k + max(8, k // 2)) // 8) * 8)
    return np.random.default_rng(0).standard_normal((n, width), dtype=np.float32)


def _iterated(matrix: Any, k: int, block: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Filter and separate the vectors of a block until the first k have converged, or for so many rounds."""
    products = Products.of(matrix, np.float32)
    chosen = Filter(FIRST_DEGREE, FIRST_EDGE)
    active = np.arange(block.shape[1])
    for _ in range(ROUNDS):
        block[:, active] = products.filtered(np.ascontiguousarray(block[:, active]), chosen)
        values, block, residuals = _separated(products, block)
        coarse = block.dtype == np.float32
        if coarse and residuals[:k].max() <= COARSE_TOLERANCE:
            products, block = Products.of(matrix, np.float64), block.astype(np.float64)
            values, block, residuals = _separated(products, block)
            coarse = False
        if not coarse and residuals[:k].max() <= TOLERANCE:
            break
        tolerance = COARSE_TOLERANCE if coarse else TOLERANCE
        chosen = next_filter(values, residuals[:k] / tolerance)
        # The vectors beyond k matter while c is found; those that have converged are worth no product.
        active = np.flatnonzero(np.append(residuals[:k] > tolerance, np.full(block.shape[1] - k, coarse)))
    return values[:k], np.ascontiguousarray(block[:, :k], dtype=np.float64)


class Filter(NamedTuple):
    """p(x) = T_degree, moved so that -1 .. `edge` becomes -1 .. 1."""

    degree: int
    edge: float


def next_filter(values: npt.NDArray[np.float64], excess: npt.NDArray[np.float64]) -> Filter:
    """The filter that cuts off at the smallest Ritz value, of the degree that the vectors sought need to converge.

    `excess` holds the residuals of these vectors, as multiples of the tolerance.
    """
    edge = min(float(values[-1]), HIGHEST_EDGE)
    rates = np.arccosh(1 + 2 * np.maximum(values[: len(excess)] - edge, 0) / (1 + edge))
    left = excess > 1
    needed = np.log(4 * excess[left]) / np.maximum(rates[left], 1e-12)
    steepest = RISE / float(np.arccosh(1 + 2 * (1 - edge) / (1 + edge)))
    return Filter(int(np.clip(min(np.ceil(needed.max()), steepest), 2, MOST_DEGREE)), edge)


def _separated(
    products: Products, block: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Ritz values of the space of a block, descending, its Ritz vectors, and their residuals; overwrites the block."""
    from scipy.linalg import eigh

    block /= np.linalg.norm(block, axis=0)
    gram = _inner(block, block)
    if np.linalg.eigvalsh(gram)[0] < LEAST_INDEPENDENT:
        block = np.linalg.qr(block)[0]
        gram = _inner(block, block)
    image = products.of_block(block)
    values, turn = eigh(_inner(block, image), gram)
    values, turn = values[::-1], np.ascontiguousarray(turn[:, ::-1], dtype=block.dtype)
    squares = np.zeros(len(values))
    for rows in _slices(len(block)):
        block[rows] = block[rows] @ turn
        squares += ((image[rows] @ turn - block[rows] * values.astype(block.dtype)) ** 2).sum(axis=0)
    return values, block, np.sqrt(squares)


def _inner(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Products of the vectors of two blocks, summed in float64; symmetric."""
    total = np.zeros((one.shape[1], other.shape[1]))
    for rows in _slices(len(one)):
        total += one[rows].T.astype(np.float64) @ other[rows].astype(np.float64)
    return (total + total.T) / 2


def _slices(n: int) -> list[slice]:
    """Rows of arrays that are not to be copied whole."""
    return [slice(start, start + ROWS_AT_A_TIME) for start in range(0, n, ROWS_AT_A_TIME)]


class Products(NamedTuple):
    """A sparse matrix in one precision, times blocks of vectors."""

    rows: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
    n: int

    @classmethod
    def of(cls, matrix: Any, dtype: type) -> Products:
        """The rows of a SciPy matrix."""
        return cls((matrix.indptr, matrix.indices, matrix.data.astype(dtype)), matrix.shape[0])

    def of_block(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """S V."""
        product = np.zeros_like(block)
        self.step(block, product, (1.0, 0.0, 0.0))
        return product

    def filtered(self, block: npt.NDArray[Any], chosen: Filter) -> npt.NDArray[Any]:
        """p(S) V by the recurrence T_j+1(x) = 2 x T_j(x) - T_j-1(x); the block is overwritten."""
        slope, shift = 2 / (1 + chosen.edge), (1 - chosen.edge) / (1 + chosen.edge)
        before, last = block, np.zeros_like(block)
        self.step(before, last, (slope, shift, 0.0))
        for _ in range(chosen.degree - 1):
            self.step(last, before, (2 * slope, 2 * shift, 1.0))
            before, last = last, before
        return last

    def step(self, last: npt.NDArray[Any], before: npt.NDArray[Any], factors: tuple[float, float, float]) -> None:
        """Replace `before` by what `step_reference` computes."""
        row_length = len(self.rows[2]) // max(1, self.n) * last.shape[1]
        exact = tuple(last.dtype.type(factor) for factor in factors)
        over_rows(_step, self.n, row_length, self.rows, last, before, exact)


def step_reference(matrix: Any, last: npt.NDArray[Any], before: npt.NDArray[Any], factors: Any) -> npt.NDArray[Any]:
    """Compute slope S V + shift V - decrease W for a SciPy matrix S: the definition of `_step`."""
    slope, shift, decrease = factors
    return np.asarray(slope * (matrix @ last) + shift * last - decrease * before)


# Indices are unsigned: of signed ones Numba must allow for negative numbers, and LLVM no longer vectorizes. Entries are
# taken by four, so that a row of the result is read and written a quarter as often.
@njit(cache=True, nogil=True, fastmath={"contract"})
def _step(rows, matrix, last, before, factors):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Replace rows of `before` by what `step_reference` computes."""
    indptr, indices, data = matrix
    slope, shift, decrease = factors
    width = np.uintp(last.shape[1])
    for row in range(rows[0], rows[1]):
        for column in range(width):
            before[row, column] = shift * last[row, column] - decrease * before[row, column]
        entry, end = np.uintp(indptr[row]), np.uintp(indptr[row + np.uintp(1)])
        while entry + np.uintp(3) < end:
            a, b, c, d = entry, entry + np.uintp(1), entry + np.uintp(2), entry + np.uintp(3)
            i, j = np.uintp(indices[a]), np.uintp(indices[b])
            k, m = np.uintp(indices[c]), np.uintp(indices[d])
            first, second, third, fourth = slope * data[a], slope * data[b], slope * data[c], slope * data[d]
            for column in range(width):
                before[row, column] += (first * last[i, column] + second * last[j, column]) + (
                    third * last[k, column] + fourth * last[m, column]
                )
            entry += np.uintp(4)
        while entry < end:
            i, first = np.uintp(indices[entry]), slope * data[entry]
            for column in range(width):
                before[row, column] += first * last[i, column]
            entry += np.uintp(1)
