"""Products of the propagation matrix on the CPU that read only what a step of training on the whole graph needs.

The first layer's input takes as many values as there are labels: the rows that it reads are those of a small table,
which stays in cache. Of the last layer, few rows are wanted, and the gradient of as few is not zero. PyTorch's product
reads a row of memory for every entry of the matrix instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.threads import on_threads, over_rows, shares_of

__all__ = ["LabelPropagation", "RowPropagation", "SparseRows", "kept_threads"]

Floats = npt.NDArray[np.float32]

LEAST_ENTRIES = 1 << 16
"""Entries of the matrix of a thread's share."""


class SparseRows(NamedTuple):
    """A square CSR matrix, for compiled code."""

    indptr: npt.NDArray[Any]
    indices: npt.NDArray[Any]
    values: Floats

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def row_length(self) -> int:
        """Numbers that are read of a row, about."""
        return 16 * len(self.indices) // max(1, self.n)


class LabelPropagation:
    """The matrix over nodes that are known by their label alone: M H for H (n, width), where H = table[labels].

    Parameters
    ----------
    matrix
        The matrix, all its rows.
    labels
        (n,) int64 row of the table of each node.
    """

    def __init__(self, matrix: SparseRows, labels: Tensor) -> None:
        self.matrix, self.labels = matrix, labels
        self.codes = labels.numpy().astype(np.int32)
        self._own: tuple[Tensor, Tensor] | None = None

    def __matmul__(self, table: Tensor) -> Tensor:
        """(n, width) from the table (labels, width)."""
        return _LabelProduct.apply(self, table)

    def own(self, table: Tensor) -> Tensor:
        """(n, width) rows of the nodes themselves; kept, so that the gradients of all uses are summed by label once."""
        if self._own is None or self._own[0] is not table:
            self._own = table, functional.embedding(self.labels, table)
        return self._own[1]


class RowPropagation:
    """Some rows of the matrix over all nodes.

    Parameters
    ----------
    matrix, transposed
        All rows of the matrix, and of its transpose.
    rows
        (b,) distinct nodes whose rows are wanted.
    """

    def __init__(self, matrix: SparseRows, transposed: SparseRows, rows: Tensor) -> None:
        self.matrix, self.transposed, self.rows = matrix, transposed, rows

    def __matmul__(self, h: Tensor) -> Tensor:
        """(b, width) from h (n, width)."""
        return _RowProduct.apply(self, h)

    def own(self, h: Tensor) -> Tensor:
        """(b, width) rows of the nodes themselves."""
        return _OwnRows.apply(h, self.rows)


class _LabelProduct(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, propagation: LabelPropagation, table: Tensor) -> Tensor:
        ctx.propagation, ctx.n_labels = propagation, len(table)
        matrix, dense = propagation.matrix, _dense(table)
        product = _empty(matrix.n, dense)
        with kept_threads():
            over_rows(_label_product, matrix.n, matrix.row_length, matrix, propagation.codes, dense, product.numpy())
        return product

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        matrix, codes, dense = ctx.propagation.matrix, ctx.propagation.codes, _dense(gradient)
        with kept_threads():
            n_shares = shares_of(max(1, len(matrix.indices) // LEAST_ENTRIES))
        bounds = [np.uintp(matrix.n * share // n_shares) for share in range(n_shares + 1)]
        sums = np.zeros((n_shares, ctx.n_labels, dense.shape[1]), dtype=np.float32)

        def work(share: int) -> None:
            _label_gradient((bounds[share], bounds[share + 1]), matrix, codes, dense, sums[share])

        with kept_threads():
            on_threads(work, n_shares)
        return None, torch.from_numpy(sums).sum(dim=0)


class _RowProduct(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, propagation: RowPropagation, h: Tensor) -> Tensor:
        ctx.propagation = propagation
        matrix, dense, rows = propagation.matrix, _dense(h), propagation.rows.numpy()
        product = _empty(len(rows), dense)
        with kept_threads():
            over_rows(_row_product, len(rows), matrix.row_length, matrix, rows, dense, product.numpy())
        return product

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        transposed, dense, rows = ctx.propagation.transposed, _dense(gradient), ctx.propagation.rows.numpy()
        position = np.full(transposed.n, -1, dtype=np.int32)
        position[rows] = np.arange(len(rows), dtype=np.int32)
        product = _empty(transposed.n, dense)
        with kept_threads():
            over_rows(_row_gradient, transposed.n, transposed.row_length, transposed, position, dense, product.numpy())
        return None, product


class _OwnRows(torch.autograd.Function):  # type: ignore[misc]
    """Distinct rows of a tensor, whose gradients need no sums."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.n = rows, len(h)
        return h[rows]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        of_all = gradient.new_zeros((ctx.n, gradient.shape[1]))
        of_all[ctx.rows] = gradient
        return of_all, None


@contextmanager
def kept_threads() -> Iterator[None]:
    """Leave PyTorch's number of threads as it is.

    Numba's OpenMP layer sets it for the whole process, and the order of PyTorch's sums depends on it.
    """
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _empty(n: int, dense: Floats) -> Tensor:
    """(n, width) of PyTorch's memory: the rounding of a product of MKL's depends on how its operands are aligned."""
    return torch.empty((n, dense.shape[1]))


def _dense(h: Tensor) -> Floats:
    """A tensor as a C-contiguous array."""
    array: Floats = h.detach().contiguous().numpy()
    return array


_FAST = {"contract"}


# Indices are unsigned: of signed ones Numba must allow for negative numbers, and LLVM no longer vectorizes. Loops over
# the width are left to run to a bound that the compiler does not know: those of a known bound it unrolls instead.
@njit(cache=True, nogil=True, fastmath=_FAST)
def _label_product(rows, matrix, codes, table, product):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Rows of M table[codes]."""
    indptr, indices, values = matrix
    width = np.uintp(table.shape[1])
    for row in range(rows[0], rows[1]):
        for column in range(width):
            product[row, column] = 0
        entry, end = np.uintp(indptr[row]), np.uintp(indptr[row + np.uintp(1)])
        while entry + np.uintp(3) < end:
            a, b, c, d = entry, entry + np.uintp(1), entry + np.uintp(2), entry + np.uintp(3)
            i, j = np.uintp(codes[np.uintp(indices[a])]), np.uintp(codes[np.uintp(indices[b])])
            k, m = np.uintp(codes[np.uintp(indices[c])]), np.uintp(codes[np.uintp(indices[d])])
            for column in range(width):
                first = values[a] * table[i, column] + values[b] * table[j, column]
                product[row, column] += first + (values[c] * table[k, column] + values[d] * table[m, column])
            entry += np.uintp(4)
        while entry < end:
            i = np.uintp(codes[np.uintp(indices[entry])])
            for column in range(width):
                product[row, column] += values[entry] * table[i, column]
            entry += np.uintp(1)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _label_gradient(rows, matrix, codes, gradient, sums):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Share of some rows of M in the gradient of the table."""
    indptr, indices, values = matrix
    width = np.uintp(gradient.shape[1])
    for row in range(rows[0], rows[1]):
        for entry in range(np.uintp(indptr[row]), np.uintp(indptr[row + np.uintp(1)])):
            i, value = np.uintp(codes[np.uintp(indices[entry])]), values[entry]
            for column in range(width):
                sums[i, column] += value * gradient[row, column]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _row_product(rows, matrix, wanted, h, product):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Rows of M h that are wanted."""
    indptr, indices, values = matrix
    width = np.uintp(h.shape[1])
    for number in range(rows[0], rows[1]):
        row = np.uintp(wanted[number])
        for column in range(width):
            product[number, column] = 0
        for entry in range(np.uintp(indptr[row]), np.uintp(indptr[row + np.uintp(1)])):
            i, value = np.uintp(indices[entry]), values[entry]
            for column in range(width):
                product[number, column] += value * h[i, column]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _row_gradient(rows, transposed, position, gradient, product):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Rows of M^T g, where g is zero but at the nodes that have a position in the gradient."""
    indptr, indices, values = transposed
    width = np.uintp(gradient.shape[1])
    for row in range(rows[0], rows[1]):
        for column in range(width):
            product[row, column] = 0
        for entry in range(np.uintp(indptr[row]), np.uintp(indptr[row + np.uintp(1)])):
            where = position[np.uintp(indices[entry])]
            if where >= 0:
                i, value = np.uintp(where), values[entry]
                for column in range(width):
                    product[row, column] += value * gradient[i, column]
