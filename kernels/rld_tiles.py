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
sums, in float64. `clorg_scale.rld.temperatures` decides on squares and on LOG_SPACE; `rld_tile_steps` has the steps.

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
Each program writes memory of its own, added up afterward in a fixed order in float64 (`totals_kernel`; torch's own sum
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
from clorg_scale.kernels.rld_tile_steps import (
    affinity_piece,
    block_and_strip,
    class_in_common,
    holds_pairs,
    inner_products,
    kernel_piece,
    leave_out,
    split_columns,
    tile_distances,
)

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


@triton.jit(do_not_specialize=["capacity", "n_rows", "n_columns", "n_temperatures"])
def kernel_sums_kernel(
    x,
    y,
    x_norm,
    y_norm,
    rates,
    square_of,
    row_sums,
    column_sums,
    distance_sums,
    near_masks,
    near_places,
    near_count,
    capacity,
    n_rows,
    n_columns,
    d,
    n_temperatures,
    NEAR: tl.constexpr,
    DIAGONAL: tl.constexpr,
    TMA: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PIECES: tl.constexpr,
    RUN: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Pass 1 of a pair of panels; `clorg_scale.kernels.rld_launch` has the shapes."""
    row_block, strip = block_and_strip(n_rows, n_columns, BLOCK_M, BLOCK_N, RUN, GROUP)
    if TMA:
        x = tl.make_tensor_descriptor(x, [n_rows, d], [d, 1], [BLOCK_M, BLOCK_K])
        y = tl.make_tensor_descriptor(y, [n_columns, d], [d, 1], [BLOCK_N, BLOCK_K])
    rows = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
    ni = tl.load(x_norm + rows, mask=rows < n_rows, other=0.0)
    total = 0.0
    for turn in range(RUN):
        block = strip * RUN + turn
        first = block * BLOCK_N
        if holds_pairs(row_block, first, n_columns, DIAGONAL, BLOCK_M, BLOCK_N):
            columns = first + tl.arange(0, BLOCK_N)
            nj = tl.load(y_norm + columns, mask=columns < n_columns, other=0.0)
            product = inner_products(
                x, y, row_block * BLOCK_M, first, n_rows, n_columns, d, TMA, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K
            )
            distance, special, slot = tile_distances(
                product,
                ni,
                nj,
                row_block * BLOCK_M,
                first,
                row_block,
                block,
                near_places,
                near_count,
                capacity,
                n_rows,
                n_columns,
                NEAR,
                DIAGONAL,
                BLOCK_M,
                BLOCK_N,
            )
            if not special:
                total += tl.sum(distance)
            width: tl.constexpr = BLOCK_N // PIECES
            parts = split_columns(distance, PIECES)
            for p in tl.static_range(PIECES):
                cols = first + p * width + tl.arange(0, width)
                part = parts[p]
                if special:
                    part, sum_d = leave_out(
                        part,
                        rows,
                        cols,
                        ni,
                        y_norm,
                        slot,
                        p * width,
                        near_masks,
                        capacity,
                        n_rows,
                        n_columns,
                        NEAR,
                        DIAGONAL,
                        BLOCK_M,
                        BLOCK_N,
                    )
                    total += sum_d
                into_rows = row_sums + ((strip * PIECES + p) * 2 * n_temperatures).to(tl.int64) * n_rows
                into_columns = column_sums + (row_block * 2 * n_temperatures).to(tl.int64) * n_columns
                kernel_piece(
                    part, rows, cols, n_rows, n_columns, n_temperatures, rates, square_of, into_rows, into_columns
                )
    strips = tl.cdiv(tl.cdiv(n_columns, BLOCK_N), RUN)
    tl.store(distance_sums + row_block * strips + strip, total)


@triton.jit(do_not_specialize=["capacity", "n_rows", "n_columns", "n_temperatures"])
def affinity_sums_kernel(
    x,
    y,
    x_norm,
    y_norm,
    x_weight,
    y_weight,
    x_code,
    y_code,
    rates,
    square_of,
    row_sums,
    column_sums,
    near_masks,
    near_places,
    near_count,
    capacity,
    n_rows,
    n_columns,
    d,
    n_temperatures,
    NEAR: tl.constexpr,
    LOG_SPACE: tl.constexpr,
    DIAGONAL: tl.constexpr,
    LABELS: tl.constexpr,
    TMA: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PIECES: tl.constexpr,
    RUN: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Pass 2 of a pair of panels; LABELS is False where the panels have no class in common."""
    row_block, strip = block_and_strip(n_rows, n_columns, BLOCK_M, BLOCK_N, RUN, GROUP)
    if TMA:
        x = tl.make_tensor_descriptor(x, [n_rows, d], [d, 1], [BLOCK_M, BLOCK_K])
        y = tl.make_tensor_descriptor(y, [n_columns, d], [d, 1], [BLOCK_N, BLOCK_K])
    rows = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
    ni = tl.load(x_norm + rows, mask=rows < n_rows, other=0.0)
    n_sums = 2 * n_temperatures if LABELS else n_temperatures
    for turn in range(RUN):
        block = strip * RUN + turn
        first = block * BLOCK_N
        if holds_pairs(row_block, first, n_columns, DIAGONAL, BLOCK_M, BLOCK_N):
            columns = first + tl.arange(0, BLOCK_N)
            nj = tl.load(y_norm + columns, mask=columns < n_columns, other=0.0)
            product = inner_products(
                x, y, row_block * BLOCK_M, first, n_rows, n_columns, d, TMA, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K
            )
            distance, special, slot = tile_distances(
                product,
                ni,
                nj,
                row_block * BLOCK_M,
                first,
                row_block,
                block,
                near_places,
                near_count,
                capacity,
                n_rows,
                n_columns,
                NEAR,
                DIAGONAL,
                BLOCK_M,
                BLOCK_N,
            )
            width: tl.constexpr = BLOCK_N // PIECES
            parts = split_columns(distance, PIECES)
            for p in tl.static_range(PIECES):
                cols = first + p * width + tl.arange(0, width)
                part = parts[p]
                if special:
                    part, _ = leave_out(
                        part,
                        rows,
                        cols,
                        ni,
                        y_norm,
                        slot,
                        p * width,
                        near_masks,
                        capacity,
                        n_rows,
                        n_columns,
                        NEAR,
                        DIAGONAL,
                        BLOCK_M,
                        BLOCK_N,
                    )
                into_rows = row_sums + ((strip * PIECES + p) * n_sums).to(tl.int64) * n_rows
                into_columns = column_sums + (row_block * n_sums).to(tl.int64) * n_columns
                if LABELS:
                    if class_in_common(x_code, y_code, row_block * BLOCK_M, first, n_rows, n_columns, BLOCK_M, BLOCK_N):
                        affinity_piece(
                            part,
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
                            True,
                            LOG_SPACE,
                        )
                    else:
                        affinity_piece(
                            part,
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
                            False,
                            LOG_SPACE,
                        )
                else:
                    affinity_piece(
                        part,
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
                        False,
                        LOG_SPACE,
                    )


@triton.jit(do_not_specialize=["n_parts"])
def totals_kernel(parts, totals, n_parts, n_sums, BLOCK: tl.constexpr):
    """Add up (n_parts, n_sums) float32 over the parts, in order and in float64: 4 bytes a number, none kept."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float64)
    for _part in range(n_parts):
        total += tl.load(parts + offsets, mask=offsets < n_sums, other=0.0).to(tl.float64)
        parts += n_sums
    tl.store(totals + offsets, total, mask=offsets < n_sums)
