r"""Kernel sums of all points against landmarks, with several columns of weights (Triton): the sampled RLD.

For rows i, landmarks s, temperatures t, columns g (the estimate itself and its 16 group-deleted repetitions):

    F_ist = 2^(c_t d_is + a_it + b_st)    0 where i is s, and at pairs that the near field holds exactly
    total_itg = sum_s F_ist v_stg         own_itg = the same over s of i's class (pass 2)

Pass 1 has c_t = -log2(e) / (mu T_t), a = b = 0 and v the weights n_c / m_c; pass 2 has 2 c_t, a = -log2 r_i,
b = -log2 r_s, so that nothing under- or overflows, and v the weights times r_s / r_sg. Distances are those of
`rld_tiles`: norms of the rounded points, n_i + n_s - 2 x_i . x_s.

FLOPs: 2 d a pair for the distances and 2 G a temperature (G = 17, padded to 32) for F v, in three tf32 products
that keep float32: 192 t FLOP at half of the fp16 rate, i.e. as much as 384 t = 1920 FLOP in fp16 beside 2 d = 4096
at d = 2048; six special functions an element (0.38 clocks of an SM; the product takes 1.0 at d = 2048).
1.28M points x 3000 landmarks x 2048: 1.6e13 FLOP a pass for the distances.

Tile: 128 rows x 128 landmarks, 8 warps (64 accumulators a thread: F in three tf32 parts needs the rest); F is made
a quarter of the columns at a time and used from registers, so a tile of it is never written. One program owns 128
rows and goes through all landmarks: it adds to its own 4 t G bytes a row in L2 (5 x 32 x 4 = 640 bytes a row and
tile against 2 x 128 x d / 128 = 4 KiB of operands); no atomics, a fixed order. Landmarks (m x d: 12 MB at 3000 x
2048 in fp16) stay in L2, rows are read once from memory: 2 n d bytes.

Pairs to leave out come sorted by tile (rarely more than one in a tile: 30 neighbours a point of which m / n are
landmarks), each costs one comparison an element of its tile. Near pairs beyond these keep the rounding of the
product: |error of d^2| <= 6e-8 (n_i + n_s).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton
import triton.language as tl

__all__ = ["landmark_sums_kernel", "landmark_sums_reference"]

_FAR = tl.constexpr(1e15)


@triton.jit(do_not_specialize=["n_rows", "n_landmarks", "n_temperatures"])
def landmark_sums_kernel(
    x, y, x_norm, y_norm, x_shift, y_shift, x_code, y_code, rates, weights, weights_stride,
    skip_starts, skip_rows, skip_columns, total, own, n_rows, n_landmarks, d, n_temperatures,
    SAME: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    PIECES: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """All landmarks for BLOCK_M rows; `clorg_scale.kernels.landmark_launch` has the shapes."""
    row_block = tl.program_id(0).to(tl.int64)
    rows = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
    ni = tl.load(x_norm + rows, mask=rows < n_rows, other=0.0)
    blocks = tl.cdiv(n_landmarks, BLOCK_N)
    for block in range(blocks):
        columns = block * BLOCK_N + tl.arange(0, BLOCK_N)
        nj = tl.load(y_norm + columns, mask=columns < n_landmarks, other=0.0)
        product = _product(x, y, rows, columns, n_rows, n_landmarks, d, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K)
        distance = tl.sqrt(tl.maximum(ni[:, None] + nj[None, :] - 2.0 * product, 0.0))
        place = row_block * blocks + block
        for skip in range(tl.load(skip_starts + place), tl.load(skip_starts + place + 1)):
            here = (rows == tl.load(skip_rows + skip))[:, None] & (columns == tl.load(skip_columns + skip))[None, :]
            distance = tl.where(here, _FAR, distance)
        width: tl.constexpr = BLOCK_N // PIECES
        parts = _split(distance, PIECES)
        for t in range(n_temperatures):
            rate = tl.load(rates + t)
            shift_i = tl.load(x_shift + t * n_rows.to(tl.int64) + rows, mask=rows < n_rows, other=0.0)
            all_classes = tl.zeros((BLOCK_M, G), tl.float32)
            same_class = tl.zeros((BLOCK_M, G), tl.float32)
            for p in tl.static_range(PIECES):
                part = parts[p]
                cols = block * BLOCK_N + p * width + tl.arange(0, width)
                inside = cols < n_landmarks
                shift_j = tl.load(y_shift + t * n_landmarks.to(tl.int64) + cols, mask=inside, other=0.0)
                F = tl.exp2(rate * part + (shift_i[:, None] + shift_j[None, :]))
                at = weights + t * weights_stride + cols[:, None] * G + tl.arange(0, G)[None, :]
                v = tl.load(at, mask=inside[:, None], other=0.0)
                all_classes = tl.dot(F, v, all_classes, input_precision="tf32x3")
                if SAME:
                    code_i = tl.load(x_code + rows, mask=rows < n_rows, other=-1)
                    code_j = tl.load(y_code + cols, mask=inside, other=-2)
                    same = (code_i[:, None] == code_j[None, :]) & (code_i >= 0)[:, None]
                    same_class = tl.dot(tl.where(same, F, 0.0), v, same_class, input_precision="tf32x3")
            into = (t * n_rows.to(tl.int64) + rows)[:, None] * G + tl.arange(0, G)[None, :]
            mask = (rows < n_rows)[:, None]
            tl.store(total + into, tl.load(total + into, mask=mask, other=0.0) + all_classes, mask=mask)
            if SAME:
                tl.store(own + into, tl.load(own + into, mask=mask, other=0.0) + same_class, mask=mask)


@triton.jit
def _product(x, y, rows, columns, n_rows, n_columns, d, PRECISION: tl.constexpr,
             BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """(BLOCK_M, BLOCK_N) float32 inner products; d is a multiple of BLOCK_K."""
    product = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    features = tl.arange(0, BLOCK_K)
    a_place = x + tl.minimum(rows, n_rows - 1).to(tl.int64)[:, None] * d + features[None, :]
    b_place = y + tl.minimum(columns, n_columns - 1).to(tl.int64)[None, :] * d + features[:, None]
    for _k in range(0, d, BLOCK_K):
        product = tl.dot(tl.load(a_place), tl.load(b_place), product, input_precision=PRECISION)
        a_place += BLOCK_K
        b_place += BLOCK_K
    return product


@triton.jit
def _split(tile, PIECES: tl.constexpr):
    """The tile cut along its columns into two or four."""
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


def landmark_sums_reference(
    X: Any, Y: Any, rates: Any, shifts: tuple[Any, Any], codes: tuple[Any, Any], weights: Any, skip: Any
) -> tuple[Any, Any]:
    """`total` and `own`, (t, n, g) in float64.

    Parameters
    ----------
    X, Y
        (n, d) points and (m, d) landmarks.
    rates, shifts
        (t,) c_t; (t, n) a and (t, m) b.
    codes
        (n,) and (m,) class codes, negative where unlabelled.
    weights
        (t, m, g) v.
    skip
        (s, 2) pairs (row, landmark) to leave out.
    """
    X, Y = np.asarray(X, np.float64), np.asarray(Y, np.float64)
    distance = np.sqrt(((X[:, None, :] - Y[None, :, :]) ** 2).sum(2))
    distance[skip[:, 0], skip[:, 1]] = np.inf
    exponent = np.asarray(rates, np.float64)[:, None, None] * distance + shifts[0][:, :, None] + shifts[1][:, None, :]
    F = np.exp2(exponent)
    same = (codes[0][:, None] == codes[1][None, :]) & (codes[0] >= 0)[:, None]
    return F @ weights, (F * same) @ weights
