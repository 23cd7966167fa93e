r"""Exact RLD on a GPU: a tile of distances becomes kernel sums without leaving the chip (Triton).

`kernel_sums_kernel` and `affinity_sums_kernel`, launched by `rld_launch`, must equal `rld_reference.kernel_sums` and
`rld_reference.affinity_sums`. For one pair of panels (rows i, columns j, each pair i < j once); g = x_i . x_j, n =
|x|^2 of the rounded points, c_t = -log2(e) / (mu T_t):

    d_ij = sqrt(max(0, n_i + n_j - 2 g_ij))
    pass 1:   R_i = sum_j e_ij,  D_i = sum_j d_ij e_ij,  S = sum d_ij        e_ij = 2^(c_t d_ij)
    pass 2:   B_i = sum_{j of another class} a_ij,  W_i = sum_{j of the same class} a_ij
              a_ij = q_ij w_i w_j, q = e^2, w = 1 / r
              a_ij = 2^(2 c_t d_ij - l_i - l_j), l = log2 r                     (LOG_SPACE at any temperature)

Every sum is taken over rows and over columns of the same tile, so half of the tiles suffice. A temperature half of the
one before it takes the square of its exponentials (`square_of`: two of T = 1, .5, .2, .1, .05 pay for a 2^x of their
own). In pass 2 the tile sums q_ij w_j over its rows and q_ij w_i over its columns; the other factor is applied to the
sums, in float64. `clorg_scale.rld.temperatures` decides on squares and on LOG_SPACE.

FLOPs: 2 d a pair and pass, n^2 / 2 pairs, two passes: 2 n^2 d in all; 1.28M x 2048: 6.7e15, 8.5 s at 790 TFLOP/s.
What the epilogue costs beside the product, in clocks of one Hopper SM an element (4096 matrix FLOP, 128 fp32
operations, 16 special functions and 32 shuffles a clock), at five temperatures:

    matrix product                                                       0.25 at d = 512, 1.00 at d = 2048
    sqrt and three 2^x (five in LOG_SPACE: 0.38)                         0.25
    fp32 operations, about 40 in pass 1, 30 in pass 2                    0.31, 0.23
    column sums: 3 shuffles of each of a thread's columns, of 4 rows     0.26 (pass 1), 0.12 (pass 2)

So at d = 512 the epilogue costs more than the product, at d = 2048 about 0.7 of it if nothing overlaps. Two programs on
an SM hide one's epilogue behind the other's product: 128 x 128 tiles, 4 warps, 3 stages of 32 KiB, at most 255
registers a thread (128 of them the accumulator). A 128 x 256 tile with 8 warps takes a quarter less from L2 (48 instead
of 64 bytes a clock and SM) and overlaps nothing; `CONFIGS` holds both. The tile is cut along its columns into PIECES
before the temperatures pass over it, so that an exponential takes 128 / PIECES registers and not 128; the loop over
temperatures is not unrolled, which keeps a tile's code (8,400 instructions instead of 15,000) nearer to the instruction
cache. Loads through tensor descriptors (TMA) hold no addresses in registers: with them 8 bytes are spilled, none that
the temperatures wait for (compiled for sm_90; 48 bytes without). An exchange between warps through shared memory costs
two barriers, so two sums go together: 12 barriers a piece and temperature instead of 16 in pass 1, 14 instead of 18
within classes.

Bytes: a program takes one block of rows through RUN consecutive tiles. Operands: 2 (BLOCK_M + BLOCK_N) d bytes a tile
from L2 in fp16; programs are numbered in groups of GROUP row blocks, so that those that run together share blocks (16 +
16 blocks of 512 KiB at d = 2048, of 50 MB). Partial sums: 8 t bytes per tile column, written once and read once, 0.6
bytes a pair at t = 5 in pass 1; rows add into the program's own 8 t PIECES bytes each. No n x n value reaches memory.
Each program writes its own place, added up afterward in a fixed order in float64 (`totals_kernel`; torch's own sum
would first write all of them as float64): results do not depend on scheduling, and there are no atomics but one per
tile that holds near pairs.

Near pairs: where d^2 < NEAR (n_i + n_j), cancellation has eaten digits. One minimum per tile tells whether it holds
any. If so they are left out of the tile's sums and marked in a list of tiles (16 KiB each); the caller adds them from
differences of the coordinates. A pass marks exactly what it left out, so no pair is lost or counted twice, whatever
the rounding. The diagonal, the lower half and ragged edges are left out by index.

These costs are counted from the source and the compiled code. Measured on an H100 (Triton 3.6, both passes, 65,536
points): two_per_sm 36 ms at d = 512 and 55 ms at d = 2048, tall 42 and 61, wide 51 and 67; beside matrix products at
their measured rate 0.17 and 0.45. Two warps on a scheduler issue an instruction in 38 % of the clocks: latencies bind,
of barriers and of exponentials whose result is wanted at once, not slots. `rld_hopper.cu` is the answer to that.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

__all__ = ["CONFIGS", "TileConfig", "affinity_sums_kernel", "kernel_sums_kernel", "totals_kernel"]


class TileConfig(NamedTuple):
    """Shape of one program of the tile kernels.

    `m`, `n`, `k`: rows, columns and features of a tile; `pieces` of the epilogue; `warps`; `stages` of the pipeline
    over features; `run`: tiles of one program; `group`: row blocks that programs are numbered in.
    """

    m: int
    n: int
    k: int
    pieces: int
    warps: int
    stages: int
    run: int = 8
    group: int = 16


CONFIGS = {
    "two_per_sm": TileConfig(128, 128, 64, pieces=4, warps=4, stages=3),
    "wide": TileConfig(128, 256, 64, pieces=4, warps=8, stages=3),
    "tall": TileConfig(256, 128, 64, pieces=4, warps=8, stages=3),
    "float32": TileConfig(128, 128, 32, pieces=4, warps=4, stages=3),
    "emulated": TileConfig(64, 128, 32, pieces=4, warps=4, stages=2),
}
"""Shapes by name; `rld_launch.PRECISIONS` says which serves which precision."""

_FAR = tl.constexpr(1e15)
"""Distance of pairs that do not count."""


@triton.jit(do_not_specialize=["capacity", "n_rows", "n_columns", "n_temperatures"])
def kernel_sums_kernel(
    x, y, x_norm, y_norm, rates, square_of, row_sums, column_sums, distance_sums,
    near_masks, near_places, near_count, capacity, n_rows, n_columns, d, n_temperatures,
    NEAR: tl.constexpr, DIAGONAL: tl.constexpr, TMA: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    PIECES: tl.constexpr, RUN: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Pass 1 of a pair of panels; `clorg_scale.kernels.rld_launch` has the shapes."""
    row_block, strip = _place(n_rows, n_columns, BLOCK_M, BLOCK_N, RUN, GROUP)
    if TMA:
        x = tl.make_tensor_descriptor(x, [n_rows, d], [d, 1], [BLOCK_M, BLOCK_K])
        y = tl.make_tensor_descriptor(y, [n_columns, d], [d, 1], [BLOCK_N, BLOCK_K])
    rows = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
    ni = tl.load(x_norm + rows, mask=rows < n_rows, other=0.0)
    total = 0.0
    for turn in range(RUN):
        block = strip * RUN + turn
        first = block * BLOCK_N
        if _wanted(row_block, first, n_columns, DIAGONAL, BLOCK_M, BLOCK_N):
            columns = first + tl.arange(0, BLOCK_N)
            nj = tl.load(y_norm + columns, mask=columns < n_columns, other=0.0)
            product = _product(x, y, row_block * BLOCK_M, first, n_rows, n_columns, d,
                               TMA, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
            distance, special, slot = _distances(product, ni, nj, row_block * BLOCK_M, first, row_block, block,
                                                 near_places, near_count, capacity, n_rows, n_columns,
                                                 NEAR, DIAGONAL, BLOCK_M, BLOCK_N)  # fmt: skip
            if not special:
                total += tl.sum(distance)
            width: tl.constexpr = BLOCK_N // PIECES
            parts = _split(distance, PIECES)
            for p in tl.static_range(PIECES):
                cols = first + p * width + tl.arange(0, width)
                part = parts[p]
                if special:
                    part, sum_d = _leave_out(part, rows, cols, ni, y_norm, slot, p * width, near_masks, capacity,
                                             n_rows, n_columns, NEAR, DIAGONAL, BLOCK_M, BLOCK_N)  # fmt: skip
                    total += sum_d
                into_rows = row_sums + ((strip * PIECES + p) * 2 * n_temperatures).to(tl.int64) * n_rows
                into_columns = column_sums + (row_block * 2 * n_temperatures).to(tl.int64) * n_columns
                _exponentials(part, rows, cols, n_rows, n_columns, n_temperatures, rates, square_of,
                              into_rows, into_columns)  # fmt: skip
    strips = tl.cdiv(tl.cdiv(n_columns, BLOCK_N), RUN)
    tl.store(distance_sums + row_block * strips + strip, total)


@triton.jit
def _exponentials(dist, rows, cols, n_rows, n_columns, n_temperatures, rates, square_of, into_rows, into_columns):
    """R and D of one piece at every temperature, over rows and over columns."""
    e = tl.zeros_like(dist)
    for t in range(n_temperatures):
        e = _exponential(e, dist, tl.load(rates + t), tl.load(square_of + t))
        _add_both_to(into_rows, rows, n_rows, _two_sums(e, e * dist, 1), n_temperatures * n_rows)
        _store_both(into_columns, cols, n_columns, _two_sums(e, e * dist, 0), n_temperatures * n_columns)
        into_rows += n_rows
        into_columns += n_columns


@triton.jit(do_not_specialize=["capacity", "n_rows", "n_columns", "n_temperatures"])
def affinity_sums_kernel(
    x, y, x_norm, y_norm, x_weight, y_weight, x_code, y_code, rates, square_of, row_sums, column_sums,
    near_masks, near_places, near_count, capacity, n_rows, n_columns, d, n_temperatures,
    NEAR: tl.constexpr, LOG_SPACE: tl.constexpr, DIAGONAL: tl.constexpr, LABELS: tl.constexpr, TMA: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    PIECES: tl.constexpr, RUN: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Pass 2 of a pair of panels; LABELS is False where the panels have no class in common."""
    row_block, strip = _place(n_rows, n_columns, BLOCK_M, BLOCK_N, RUN, GROUP)
    if TMA:
        x = tl.make_tensor_descriptor(x, [n_rows, d], [d, 1], [BLOCK_M, BLOCK_K])
        y = tl.make_tensor_descriptor(y, [n_columns, d], [d, 1], [BLOCK_N, BLOCK_K])
    rows = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
    ni = tl.load(x_norm + rows, mask=rows < n_rows, other=0.0)
    n_sums = 2 * n_temperatures if LABELS else n_temperatures
    for turn in range(RUN):
        block = strip * RUN + turn
        first = block * BLOCK_N
        if _wanted(row_block, first, n_columns, DIAGONAL, BLOCK_M, BLOCK_N):
            columns = first + tl.arange(0, BLOCK_N)
            nj = tl.load(y_norm + columns, mask=columns < n_columns, other=0.0)
            product = _product(x, y, row_block * BLOCK_M, first, n_rows, n_columns, d,
                               TMA, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K)  # fmt: skip
            distance, special, slot = _distances(product, ni, nj, row_block * BLOCK_M, first, row_block, block,
                                                 near_places, near_count, capacity, n_rows, n_columns,
                                                 NEAR, DIAGONAL, BLOCK_M, BLOCK_N)  # fmt: skip
            width: tl.constexpr = BLOCK_N // PIECES
            parts = _split(distance, PIECES)
            for p in tl.static_range(PIECES):
                cols = first + p * width + tl.arange(0, width)
                part = parts[p]
                if special:
                    part, _ = _leave_out(part, rows, cols, ni, y_norm, slot, p * width, near_masks, capacity,
                                             n_rows, n_columns, NEAR, DIAGONAL, BLOCK_M, BLOCK_N)  # fmt: skip
                into_rows = row_sums + ((strip * PIECES + p) * n_sums).to(tl.int64) * n_rows
                into_columns = column_sums + (row_block * n_sums).to(tl.int64) * n_columns
                if LABELS:
                    if _class_in_common(x_code, y_code, row_block * BLOCK_M, first, n_rows, n_columns,
                                        BLOCK_M, BLOCK_N):  # fmt: skip
                        _affinities(part, rows, cols, n_rows, n_columns, n_temperatures, rates, square_of,
                                    x_weight, y_weight, x_code, y_code,
                                    into_rows, into_columns, True, LOG_SPACE)  # fmt: skip
                    else:
                        _affinities(part, rows, cols, n_rows, n_columns, n_temperatures, rates, square_of,
                                    x_weight, y_weight, x_code, y_code,
                                    into_rows, into_columns, False, LOG_SPACE)  # fmt: skip
                else:
                    _affinities(part, rows, cols, n_rows, n_columns, n_temperatures, rates, square_of, x_weight,
                                y_weight, x_code, y_code, into_rows, into_columns, False, LOG_SPACE)  # fmt: skip


@triton.jit
def _affinities(dist, rows, cols, n_rows, n_columns, n_temperatures, rates, square_of, x_weight, y_weight,
                x_code, y_code, into_rows, into_columns, SAME: tl.constexpr, LOG_SPACE: tl.constexpr):  # fmt: skip
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
def _place(n_rows, n_columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, RUN: tl.constexpr, GROUP: tl.constexpr):
    """Choose this program's block of rows and strip of columns: GROUP row blocks go through all strips together."""
    row_blocks = tl.cdiv(n_rows, BLOCK_M)
    strips = tl.cdiv(tl.cdiv(n_columns, BLOCK_N), RUN)
    number = tl.program_id(0)
    start = number // (GROUP * strips) * GROUP
    size = tl.minimum(row_blocks - start, GROUP)
    within = number % (GROUP * strips)
    return start + within % size, within // size


@triton.jit
def _wanted(row_block, first, n_columns, DIAGONAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Whether a tile holds any pair i < j."""
    wanted = first < n_columns
    if DIAGONAL:
        wanted = wanted & (first + BLOCK_N - 1 > row_block * BLOCK_M)
    return wanted


@triton.jit
def _product(x, y, first_row, first_column, n_rows, n_columns, d, TMA: tl.constexpr, PRECISION: tl.constexpr,
             BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
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
        a_place = x + rows.to(tl.int64)[:, None] * d + features[None, :]
        b_place = y + columns.to(tl.int64)[None, :] * d + features[:, None]
        for _k in range(0, d, BLOCK_K):
            a = tl.load(a_place)
            b = tl.load(b_place)
            product = tl.dot(a, b, product, input_precision=PRECISION)
            a_place += BLOCK_K
            b_place += BLOCK_K
    return product


@triton.jit
def _distances(product, ni, nj, first_row, first, row_block, block, near_places, near_count, capacity,
               n_rows, n_columns, NEAR: tl.constexpr, DIAGONAL: tl.constexpr,
               BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """Distances, whether any pair of the tile must be left out, and the tile's place in the list of near pairs."""
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
def _leave_out(distance, rows, cols, ni, y_norm, slot, shift, near_masks, capacity, n_rows, n_columns,
               NEAR: tl.constexpr, DIAGONAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
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
def _split(tile, PIECES: tl.constexpr):
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
def _add_to(place, rows, n_rows, values):
    """Add to this program's own sums: the barriers of the next tile's product order the accesses."""
    tl.store(place + rows, tl.load(place + rows, mask=rows < n_rows, other=0.0) + values, mask=rows < n_rows)


@triton.jit
def _add_both_to(place, rows, n_rows, values, second):
    """As `_add_to`, two sums a row; the others are `second` numbers behind the first ones."""
    places = place + (rows[:, None] + tl.arange(0, 2)[None, :] * second)
    inside = (rows < n_rows)[:, None]
    tl.store(places, tl.load(places, mask=inside, other=0.0) + values, mask=inside)


@triton.jit
def _store_both(place, columns, n_columns, values, second):
    places = place + (columns[:, None] + tl.arange(0, 2)[None, :] * second)
    tl.store(places, values, mask=(columns < n_columns)[:, None])


@triton.jit
def _class_in_common(x_code, y_code, first_row, first_column, n_rows, n_columns,
                     BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """Whether the ranges of class codes overlap (points are sorted by code)."""
    last_row = tl.minimum(first_row + BLOCK_M, n_rows) - 1
    last_column = tl.minimum(first_column + BLOCK_N, n_columns) - 1
    rows_meet = tl.load(x_code + first_row) <= tl.load(y_code + last_column)
    columns_meet = tl.load(y_code + first_column) <= tl.load(x_code + last_row)
    return rows_meet & columns_meet


@triton.jit(do_not_specialize=["n_parts"])
def totals_kernel(parts, totals, n_parts, n_sums, BLOCK: tl.constexpr):
    """Add up (n_parts, n_sums) float32 over the parts, in order and in float64: 4 bytes a number, none kept."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float64)
    for _part in range(n_parts):
        total += tl.load(parts + places, mask=places < n_sums, other=0.0).to(tl.float64)
        parts += n_sums
    tl.store(totals + places, total, mask=places < n_sums)
