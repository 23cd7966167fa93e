r"""Tiles of all points against landmarks with torch: sampled RLD on a GPU.

`landmark_sums` and `landmark_affinities` are the two functions of `clorg_scale.rld.sampled.tiles_numba`, with the same
arguments and results, for a pool of landmarks that is a tensor on the device, to which other arrays are copied. They
serve the workers of a cluster. On one device `clorg_scale.rld.sampled.gpu` calls what they are made of:
`tile_distances`, `kernel_terms`, `affinity_terms`.

Several tiles make one batched product each for the distances and, against a matrix that has each landmark's weight in
the column of its group, for the sums. Every step of a tile goes through memory: at five temperatures some 150 bytes a
pair in pass 1, 290 in pass 2, and 6 bytes a coordinate of each tile's landmarks, which are gathered.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from clorg_scale.arrays import array_module, within_device_memory
from clorg_scale.numerics.products import float32_products
from clorg_scale.rld.sampled.landmarks import GROUPS
from clorg_scale.rld.sampled.tile_order import ROWS
from clorg_scale.rld.sampled.tiles_numba import LogsAndClasses, Scales, TileArguments

__all__ = [
    "TilePoints",
    "affinity_terms",
    "by_group",
    "by_tile",
    "kernel_terms",
    "landmark_affinities",
    "landmark_sums",
    "on_device",
    "tile_distances",
]

Floats = npt.NDArray[np.float64]

BATCH_BYTES = {"cuda": 512 << 20, "cpu": 8 << 20}
"""Bytes of the distances and landmarks of one batch of tiles; about five times as much is in use at once."""

NEAR_BYTES = 64 << 20
"""Bytes of coordinates of near pairs taken at once."""

OUT_OF_MEMORY = "sampled RLD, which takes about 3 GB there beside the embeddings"


def on_device(device: Any, array: Any) -> Any:
    """The array as a tensor on the device; a CuPy array, or a tensor that is on it already, is not copied."""
    if array_module(array) is np:
        return torch.as_tensor(array, device=device)
    return torch.from_dlpack(array)  # unlike `as_tensor`, waits for CuPy's stream


class _Batch(NamedTuple):
    """Some tiles of a block: b of them, with m landmarks each.

    `rows`: its points in the block, fewer than b ROWS where the last tile is not full; `columns`: (b, m) positions in
    the pool, arbitrary where there is no landmark; `distance`: (b, ROWS, m), infinite where a pair does not count;
    `weights`: (b, m, 17).
    """

    rows: slice
    columns: Any
    distance: Any
    weights: Any


@within_device_memory(OUT_OF_MEMORY)
@float32_products("ieee")
def landmark_sums(tiles: TileArguments, scales: Scales, shifts: Any, gain: Any) -> Floats:
    """Pass 1 of a block of points, as `clorg_scale.rld.sampled.tiles_numba.landmark_sums`."""
    shift = on_device(tiles.L.device, shifts).T
    sums = np.empty((len(tiles.X), len(scales.rates), GROUPS + 1))
    for batch in _batches(tiles):
        shift_of_batch = by_tile(shift[batch.rows], len(batch.columns))
        of_batch = kernel_terms(batch.distance, batch.weights, scales, shift_of_batch, gain)
        sums[batch.rows] = _of_points(of_batch, batch).cpu().numpy()
    return sums


@within_device_memory(OUT_OF_MEMORY)
@float32_products("ieee")
def landmark_affinities(
    tiles: TileArguments, scales: Scales, points: LogsAndClasses, pool: LogsAndClasses
) -> tuple[Floats, Floats]:
    """Pass 2 of a block of points, as `clorg_scale.rld.sampled.tiles_numba.landmark_affinities`."""
    x_log, x_class, l_log, l_class = (on_device(tiles.L.device, array) for array in (*points, *pool))
    x_log, l_log = x_log.T, l_log.T.contiguous()
    sums = np.empty((2, len(tiles.X), len(scales.rates), GROUPS + 1))
    of_squares = np.zeros(len(scales.rates))
    for batch in _batches(tiles):
        b = len(batch.columns)
        same = by_tile(x_class[batch.rows], b)[:, :, None] == l_class[batch.columns][:, None, :]
        logs = by_tile(x_log[batch.rows], b), l_log[batch.columns]
        of_batch, squares = affinity_terms(batch.distance, batch.weights, scales, logs, same)
        for kind in range(2):
            sums[kind, batch.rows] = _of_points(of_batch[kind], batch).cpu().numpy()
        of_squares += _of_points(squares, batch).sum(0).cpu().numpy()
    return sums, of_squares


def kernel_terms(distance: Any, weights: Any, scales: Scales, shift: Any, gain: Any) -> Any:
    """Pass 1 of b tiles.

    Parameters
    ----------
    distance, weights
        (b, ROWS, m), infinite where a pair does not count; (b, m, 17).
    scales, gain
        As for `clorg_scale.rld.sampled.tiles_numba.landmark_sums`.
    shift
        (b, ROWS, t).

    Returns
    -------
    (b, ROWS, t, 17) float64 sums of the landmarks' e by groups.
    """
    raised: dict[int, Any] = {}
    nothing = distance.new_zeros(())
    sums = distance.new_empty((*shift.shape, GROUPS + 1), dtype=torch.float64)
    for t, (rate, root) in enumerate(zip(scales.rates.tolist(), scales.square_of.tolist(), strict=True)):
        if root < 0:
            e = torch.add(-shift[:, :, t, None], distance, alpha=rate).exp2_()
        else:
            e = torch.addcmul(nothing, raised[root], raised[root], value=float(gain))  # one pass through memory
        if t in scales.square_of:
            raised[t] = e
        sums[:, :, t] = e @ weights
    return sums


def affinity_terms(distance: Any, weights: Any, scales: Scales, logs: tuple[Any, Any], same: Any) -> tuple[Any, Any]:
    """Pass 2 of b tiles.

    Parameters
    ----------
    distance, weights
        As for `kernel_terms`.
    scales
        As for `clorg_scale.rld.sampled.tiles_numba.landmark_affinities`.
    logs
        (b, ROWS, t) of the points and (b, m, t) of the landmarks: logarithms of r, or the factors of the squares of
        another temperature's affinities.
    same
        (b, ROWS, m) whether the landmark is of the point's class.

    Returns
    -------
    (2, b, ROWS, t, 17) float64 sums of the landmarks' a by groups, of all and of those of the point's class, and
    (b, ROWS, t) float64 sums of v a^2.
    """
    x_log, l_log = logs
    of_all = weights.sum(2)[:, :, None]
    squares_of: dict[int, Any] = {}
    sums = distance.new_empty((2, *x_log.shape, GROUPS + 1), dtype=torch.float64)
    of_squares = torch.empty_like(x_log, dtype=torch.float64)
    for t, (rate, root) in enumerate(zip(scales.rates.tolist(), scales.square_of.tolist(), strict=True)):
        own, others = x_log[:, :, t, None], l_log[:, None, :, t]
        v, v_squares = weights, of_all
        if root < 0:
            a = torch.add(-(own + others), distance, alpha=rate).exp2_()
        elif t in scales.square_of:
            a = squares_of[root] * (own * others)
        else:  # no other temperature needs it: the landmarks' factors go to their weights
            a, factors = squares_of[root] * own, l_log[:, :, t, None]
            v, v_squares = weights * factors, of_all * factors.square()
        square = a.square()
        sums[0, :, :, t] = a @ v
        sums[1, :, :, t] = torch.where(same, a, 0) @ v
        of_squares[:, :, t] = (square @ v_squares)[:, :, 0]
        if t in scales.square_of:
            squares_of[t] = square
    return sums, of_squares


class TilePoints(NamedTuple):
    """Points or landmarks of b tiles.

    `x`: (b, p, d) coordinates, float64, float32, or float16, whose products are then summed in float32; `norms`: (b, p)
    their squared norms; `reach`: (b, p) distances below which pairs do not count.
    """

    x: Any
    norms: Any
    reach: Any


def tile_distances(points: TilePoints, landmarks: TilePoints, near: Any, *, tf32: bool = False) -> Any:
    """Distances of b tiles to their landmarks, infinite within the reach of either end.

    Parameters
    ----------
    points, landmarks
        ROWS points of each tile, and m landmarks.
    near
        Pairs below this share of the sum of their squared norms are recomputed from their coordinates.
    tf32
        Whether the coordinates are float32 numbers rounded to tf32, whose products tensor cores compute exactly.

    Returns
    -------
    (b, ROWS, m) of the dtype of the norms.
    """
    x, y = points.x, landmarks.x
    total = points.norms[:, :, None] + landmarks.norms[:, None, :]
    if x.dtype == torch.float16:
        products = _products_of_halves(x, y)
        square = torch.add(total, products, alpha=-2, out=products)
    else:
        with float32_products("tf32" if tf32 else "ieee"):
            square = torch.baddbmm(total, x, y.mT, alpha=-2)
    _recompute(square, torch.nonzero(square < total.mul_(float(near))), x, y)
    distance = square.clamp_min_(0).sqrt_()
    reach = torch.maximum(points.reach[:, :, None], landmarks.reach[:, None, :])
    return distance.masked_fill_(distance < reach, torch.inf)


@cache
def _multiplies_halves(device: Any) -> bool:
    """Whether torch gives float32 products of halves on the device."""
    try:
        one = torch.ones((1, 16, 16), dtype=torch.float16, device=device)
        return bool((torch.bmm(one, one, out_dtype=torch.float32) == 16).all())
    except (NotImplementedError, TypeError):
        return False


def _products_of_halves(x: Any, y: Any) -> Any:
    """(b, p, m) float32 of x (b, p, d) and y (b, m, d) float16."""
    if _multiplies_halves(x.device):
        return torch.bmm(x, y.mT, out_dtype=torch.float32)
    with float32_products("tf32"):  # halves are numbers of tf32
        return torch.bmm(x.float(), y.float().mT)


def _batches(tiles: TileArguments) -> Iterator[_Batch]:
    """All tiles of a block, several at a time."""
    L, starts = tiles.L, tiles.skip_starts
    x_all, x_norm, x_reach, l_norm, l_reach = (
        on_device(L.device, array) for array in (tiles.X, tiles.x_norms, tiles.x_reach, tiles.l_norms, tiles.l_reach)
    )
    n_tiles, m = tiles.columns.shape
    step = max(1, BATCH_BYTES[L.device.type] // (L.element_size() * m * (ROWS + L.shape[1])))
    for first in range(0, n_tiles, step):
        last = min(n_tiles, first + step)
        rows = slice(first * ROWS, min(len(tiles.X), last * ROWS))
        listed = on_device(L.device, tiles.columns[first:last])
        columns, b = listed.clamp(min=0), len(listed)
        points = TilePoints(*(by_tile(array[rows], b) for array in (x_all, x_norm, x_reach)))
        reach = torch.where(listed < 0, torch.inf, l_reach[columns])
        distance = tile_distances(points, TilePoints(L[columns], l_norm[columns], reach), tiles.near)
        counts = np.diff(starts[rows.start : rows.stop + 1])
        owners = on_device(L.device, np.repeat(np.arange(len(counts)), counts))
        skipped = on_device(L.device, tiles.skip_columns[starts[rows.start] : starts[rows.stop]])
        distance.view(-1, m)[owners, skipped] = torch.inf
        yield _Batch(rows, columns, distance, by_group(on_device(L.device, tiles.weights[first:last, :, :m])))


def _recompute(square: Any, near: Any, x: Any, y: Any) -> None:
    """Squared distances of pairs (tile, row, column), small against the norms, from the coordinates' differences."""
    for pairs in near.split(max(1, NEAR_BYTES // (x.shape[2] * square.element_size()))):
        tile, i, j = pairs.unbind(1)
        square[tile, i, j] = (x[tile, i].to(square.dtype) - y[tile, j]).square_().sum(1)


def by_group(weights: Any) -> Any:
    """(b, m, 17): the weight of each landmark in the column of its group, or in the last."""
    b, _, m = weights.shape
    columns = weights.new_zeros((b, m, GROUPS + 1))
    groups = torch.arange(m, device=weights.device) % GROUPS
    columns[:, torch.arange(m, device=weights.device), groups] = weights[:, 0]
    columns[:, :, GROUPS] = weights[:, 1]
    return columns


def by_tile(array: Any, b: int) -> Any:
    """(b, ROWS, ...) from (p, ...), zeros where the last tile is not full."""
    missing = b * ROWS - len(array)
    if missing:
        array = torch.cat([array, array.new_zeros((missing, *array.shape[1:]))])
    return array.reshape(b, ROWS, *array.shape[1:])


def _of_points(sums: Any, batch: _Batch) -> Any:
    """(p, ...) from (b, ROWS, ...)."""
    return sums.flatten(0, 1)[: batch.rows.stop - batch.rows.start]
