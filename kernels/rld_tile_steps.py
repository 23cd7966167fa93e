"""Steps of the Triton tiles of exact RLD (`rld_tiles` has the mathematics, the costs and the reference)."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "affinity_piece",
    "block_and_strip",
    "class_in_common",
    "holds_pairs",
    "inner_products",
    "kernel_piece",
    "leave_out",
    "split_columns",
    "tile_distances",
]

_FAR = tl.constexpr(1e15)
"""Distance of pairs that do not count."""


@triton.jit
def kernel_piece(dist, rows, cols, n_rows, n_columns, n_temperatures, rates, square_of, into_rows, into_columns):
    """R and D of one piece at every temperature, over rows and over columns."""
    e = tl.zeros_like(dist)
    for t in range(n_temperatures):
        e = _exponential(e, dist, tl.load(rates + t), tl.load(square_of + t))
        _add_both_to(into_rows, rows, n_rows, _two_sums(e, e * dist, 1), n_temperatures * n_rows)
        _store_both(into_columns, cols, n_columns, _two_sums(e, e * dist, 0), n_temperatures * n_columns)
        into_rows += n_rows
        into_columns += n_columns


@triton.jit
def affinity_piece(
    dist,
    rows,
    cols,
    n_rows,
    n_columns,
    n_temperatures,
    rates,
    square_of,
    x_weight,
    y_weight,
    x_code,
    y_code,
    into_rows,
    into_columns,
    SAME: tl.constexpr,
    LOG_SPACE: tl.constexpr,
):
    """B (and W where a class may be shared) of one piece at every temperature, over rows and over columns."""
    q = tl.zeros_like(dist)
    if SAME:
        code_i = tl.load(x_code + rows, mask=rows < n_rows, other=-1)
        code_j = tl.load(y_code + cols, mask=cols < n_columns, other=-1)
        same = (code_i[:, None] == code_j[None, :]) & (code_i >= 0)[:, None]
    for t in range(n_temperatures):
        rate = 2.0 * tl.load(rates + t)
        wi = tl.load(x_weight + rows, mask=rows < n_rows, other=0.0)
        wj = tl.load(y_weight + cols, mask=cols < n_columns, other=0.0)
        if LOG_SPACE:
            q = tl.exp2(rate * dist - (wi[:, None] + wj[None, :]))
            a_rows = q
            a_columns = q
        else:
            q = _exponential(q, dist, rate, tl.load(square_of + t))
            a_rows = q * wj[None, :]
            a_columns = q * wi[:, None]
        if SAME:
            b_and_w = _two_sums(tl.where(same, 0.0, a_rows), tl.where(same, a_rows, 0.0), 1)
            _add_both_to(into_rows, rows, n_rows, b_and_w, n_temperatures * n_rows)
            b_and_w = _two_sums(tl.where(same, 0.0, a_columns), tl.where(same, a_columns, 0.0), 0)
            _store_both(into_columns, cols, n_columns, b_and_w, n_temperatures * n_columns)
        else:
            _add_to(into_rows, rows, n_rows, tl.sum(a_rows, 1))
            tl.store(into_columns + cols, tl.sum(a_columns, 0), mask=cols < n_columns)
        into_rows += n_rows
        into_columns += n_columns
        x_weight += n_rows
        y_weight += n_columns


@triton.jit
def block_and_strip(
    n_rows, n_columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, RUN: tl.constexpr, GROUP: tl.constexpr
):
    """Choose this program's block of rows and strip of columns: GROUP row blocks go through all strips together."""
    row_blocks = tl.cdiv(n_rows, BLOCK_M)
    strips = tl.cdiv(tl.cdiv(n_columns, BLOCK_N), RUN)
    number = tl.program_id(0)
    start = number // (GROUP * strips) * GROUP
    size = tl.minimum(row_blocks - start, GROUP)
    within = number % (GROUP * strips)
    return start + within % size, within // size


@triton.jit
def holds_pairs(row_block, first, n_columns, DIAGONAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Whether a tile holds any pair i < j."""
    wanted = first < n_columns
    if DIAGONAL:
        wanted = wanted & (first + BLOCK_N - 1 > row_block * BLOCK_M)
    return wanted


@triton.jit
def inner_products(
    x,
    y,
    first_row,
    first_column,
    n_rows,
    n_columns,
    d,
    TMA: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """(BLOCK_M, BLOCK_N) float32 inner products; d is a multiple of BLOCK_K, rows beyond the panel repeat its last."""
    product = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    if TMA:
        for k in range(0, d, BLOCK_K):
            a = x.load([first_row, k])
            b = y.load([first_column, k])
            product = tl.dot(a, b.T, product, input_precision=PRECISION)
    else:
        rows = tl.minimum(first_row + tl.arange(0, BLOCK_M), n_rows - 1)
        columns = tl.minimum(first_column + tl.arange(0, BLOCK_N), n_columns - 1)
        features = tl.arange(0, BLOCK_K)
        a_pointers = x + rows.to(tl.int64)[:, None] * d + features[None, :]
        b_pointers = y + columns.to(tl.int64)[None, :] * d + features[:, None]
        for _k in range(0, d, BLOCK_K):
            a = tl.load(a_pointers)
            b = tl.load(b_pointers)
            product = tl.dot(a, b, product, input_precision=PRECISION)
            a_pointers += BLOCK_K
            b_pointers += BLOCK_K
    return product


@triton.jit
def tile_distances(
    product,
    ni,
    nj,
    first_row,
    first,
    row_block,
    block,
    near_places,
    near_count,
    capacity,
    n_rows,
    n_columns,
    NEAR: tl.constexpr,
    DIAGONAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Distances, whether any pair of the tile must be left out, and the tile's slot in the list of near pairs."""
    square = ni[:, None] + nj[None, :] - 2.0 * product
    margin = tl.min(square - (ni[:, None] + nj[None, :]) * (1.01 * NEAR))
    special = (margin < 0.0) | (first_row + BLOCK_M > n_rows) | (first + BLOCK_N > n_columns)
    if DIAGONAL:
        special = special | (first < first_row + BLOCK_M)
    slot = -1
    if margin < 0.0:
        slot = tl.atomic_add(near_count, 1)
        if slot < capacity:
            tl.store(near_places + 2 * slot, row_block)
            tl.store(near_places + 2 * slot + 1, block)
    return tl.sqrt(tl.maximum(square, 0.0)), special, slot


@triton.jit
def leave_out(
    distance,
    rows,
    cols,
    ni,
    y_norm,
    slot,
    shift,
    near_masks,
    capacity,
    n_rows,
    n_columns,
    NEAR: tl.constexpr,
    DIAGONAL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Put pairs that do not count here at an infinite distance, note the near ones; the others' sum beside it."""
    nj = tl.load(y_norm + cols, mask=cols < n_columns, other=0.0)
    inside = (rows < n_rows)[:, None] & (cols < n_columns)[None, :]
    if DIAGONAL:
        inside = inside & (rows[:, None] < cols[None, :])
    near = inside & (distance * distance < (ni[:, None] + nj[None, :]) * NEAR)
    if (slot >= 0) & (slot < capacity):
        width: tl.constexpr = distance.shape[1]
        within = tl.arange(0, BLOCK_M)[:, None] * BLOCK_N + (shift + tl.arange(0, width))[None, :]
        tl.store(near_masks + slot.to(tl.int64) * (BLOCK_M * BLOCK_N) + within, near.to(tl.int8))
    counted = inside & (near == 0)
    return tl.where(counted, distance, _FAR), tl.sum(tl.where(counted, distance, 0.0))


@triton.jit
def split_columns(tile, PIECES: tl.constexpr):
    """The tile cut along its columns, a matter of register names only."""
    if PIECES == 1:
        return (tile,)
    else:
        left, right = _halves(tile)
        if PIECES == 2:
            return (left, right)
        else:
            a, b = _halves(left)
            c, d = _halves(right)
            return (a, b, c, d)


@triton.jit
def _halves(tile):
    return tile.reshape(tile.shape[0], 2, tile.shape[1] // 2).permute(0, 2, 1).split()


@triton.jit
def _exponential(before, distance, rate, square_of):
    """2^(rate distance), or the square of the temperature before where that is the same."""
    if square_of >= 0:  # noqa: SIM108 (a branch of tensors, taken by all threads alike)
        e = before * before
    else:
        e = tl.exp2(rate * distance)
    return e


@triton.jit
def _two_sums(a, b, axis: tl.constexpr):
    """Two sums side by side: threads exchange both at once."""
    return tl.join(tl.sum(a, axis), tl.sum(b, axis))


@triton.jit
def _add_to(pointer, rows, n_rows, values):
    """Add to this program's own sums: the barriers of the next tile's product order the accesses."""
    tl.store(pointer + rows, tl.load(pointer + rows, mask=rows < n_rows, other=0.0) + values, mask=rows < n_rows)


@triton.jit
def _add_both_to(pointer, rows, n_rows, values, second):
    """Add two sums a row, as `add_to` does one; the second ones are `second` numbers behind the first ones."""
    pointers = pointer + (rows[:, None] + tl.arange(0, 2)[None, :] * second)
    inside = (rows < n_rows)[:, None]
    tl.store(pointers, tl.load(pointers, mask=inside, other=0.0) + values, mask=inside)


@triton.jit
def _store_both(pointer, columns, n_columns, values, second):
    pointers = pointer + (columns[:, None] + tl.arange(0, 2)[None, :] * second)
    tl.store(pointers, values, mask=(columns < n_columns)[:, None])


@triton.jit
def class_in_common(
    x_code, y_code, first_row, first_column, n_rows, n_columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """Whether the ranges of class codes overlap (points are sorted by code)."""
    last_row = tl.minimum(first_row + BLOCK_M, n_rows) - 1
    last_column = tl.minimum(first_column + BLOCK_N, n_columns) - 1
    rows_meet = tl.load(x_code + first_row) <= tl.load(y_code + last_column)
    columns_meet = tl.load(y_code + first_column) <= tl.load(x_code + last_row)
    return rows_meet & columns_meet
