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
import torch

from clorg_scale.arrays import within_device_memory
from clorg_scale.numerics.products import float32_products
from clorg_scale.rld.exact.device_points import on_device
from clorg_scale.rld.sampled.landmarks import GROUPS
from clorg_scale.rld.sampled.tile_order import ROWS
from clorg_scale.rld.sampled.tiles_numba import LogsAndClasses, Scales, TileArguments
from clorg_scale.rld.types import Floats

__all__ = [
    "OUT_OF_MEMORY",
    "Batch",
    "TilePoints",
    "affinity_terms",
    "by_group",
    "by_tile",
    "kernel_terms",
    "landmark_affinities",
    "landmark_sums",
    "tile_distances",
]

BATCH_BYTES = {"cuda": 512 << 20, "cpu": 8 << 20}
"""Bytes of the distances and landmarks of one batch of tiles; about five times as much is in use at once."""

NEAR_BYTES = 64 << 20
"""Bytes of coordinates of near pairs taken at once."""

OUT_OF_MEMORY = "sampled RLD, which takes about 3 GB there beside the embeddings"


class Batch(NamedTuple):
    """Some tiles: b of them, with m landmarks each.

    `rows`: their points, fewer than b ROWS where the last tile is not full; `columns`: (b, m) positions of the
    landmarks in the pool, arbitrary where there is none; `distance`: (b, ROWS, m), infinite where a pair does not
    count; `weights`: (b, m, 17) of each landmark in the column of its group.
    """

    rows: slice
    columns: Any
    distance: Any
    weights: Any

    def by_tile(self, array: Any) -> Any:
        """(b, ROWS, ...) from (p, ...) of its points."""
        return by_tile(array, len(self.columns))

    def of_points(self, sums: Any, axis: int = 0) -> Any:
        """(p, ...) of its points from (b, ROWS, ...); the tiles are counted by `axis`."""
        return sums.flatten(axis, axis + 1).narrow(axis, 0, self.rows.stop - self.rows.start)


@within_device_memory(OUT_OF_MEMORY)
@float32_products("ieee")
def landmark_sums(tiles: TileArguments, scales: Scales, shifts: Any, gain: Any) -> Floats:
    """Pass 1 of a block of points, as `clorg_scale.rld.sampled.tiles_numba.landmark_sums`."""
    shift = on_device(tiles.L.device, shifts).T
    sums = np.empty((len(tiles.X), len(scales.rates), GROUPS + 1))
    for batch in _batches(tiles):
        sums[batch.rows] = kernel_terms(batch, scales, shift[batch.rows], gain).cpu().numpy()
    return sums


@within_device_memory(OUT_OF_MEMORY)
@float32_products("ieee")
def landmark_affinities(
    tiles: TileArguments, scales: Scales, points: LogsAndClasses, pool: LogsAndClasses
) -> tuple[Floats, Floats]:
    """Pass 2 of a block of points, as `clorg_scale.rld.sampled.tiles_numba.landmark_affinities`."""
    points, pool = (
        LogsAndClasses(on_device(tiles.L.device, logs).T.contiguous(), on_device(tiles.L.device, classes))
        for logs, classes in (points, pool)
    )
    sums = np.empty((2, len(tiles.X), len(scales.rates), GROUPS + 1))
    of_squares = np.zeros(len(scales.rates))
    for batch in _batches(tiles):
        of_batch, squares = affinity_terms(batch, scales, points, pool)
        sums[:, batch.rows] = of_batch.cpu().numpy()
        of_squares += squares.cpu().numpy()
    return sums, of_squares


def kernel_terms(batch: Batch, scales: Scales, shift: Any, gain: Any) -> Any:
    """Pass 1 of some tiles: (p, t, 17) float64 sums of the landmarks' e by groups.

    `shift`: (p, t) of their points; `scales`, `gain`: as for `clorg_scale.rld.sampled.tiles_numba.landmark_sums`.
    """
    raised: dict[int, Any] = {}
    distance, shift = batch.distance, batch.by_tile(shift.to(batch.distance.dtype))
    nothing = distance.new_zeros(())
    sums = distance.new_empty((*shift.shape, GROUPS + 1), dtype=torch.float64)
    for t, (rate, root) in enumerate(zip(scales.rates.tolist(), scales.square_of.tolist(), strict=True)):
        if root < 0:
            e = torch.add(-shift[:, :, t, None], distance, alpha=rate).exp2_()
        else:
            e = torch.addcmul(nothing, raised[root], raised[root], value=float(gain))  # one pass through memory
        if t in scales.square_of:
            raised[t] = e
        sums[:, :, t] = e @ batch.weights
    return batch.of_points(sums)


def affinity_terms(batch: Batch, scales: Scales, points: LogsAndClasses, pool: LogsAndClasses) -> tuple[Any, Any]:
    """Pass 2 of some tiles; arguments as for `clorg_scale.rld.sampled.tiles_numba.landmark_affinities`, logs (n, t).

    Returns
    -------
    (2, p, t, 17) float64 sums of the landmarks' a by groups, of all and of those of the point's class, and (t,) float64
    sum of v a^2.
    """
    x_log, l_log = batch.by_tile(points.logs[batch.rows]), pool.logs[batch.columns]
    same = batch.by_tile(points.classes[batch.rows])[:, :, None] == pool.classes[batch.columns][:, None, :]
    distance, of_all = batch.distance, batch.weights.sum(2)[:, :, None]
    squares_of: dict[int, Any] = {}
    sums = distance.new_empty((2, *x_log.shape, GROUPS + 1), dtype=torch.float64)
    of_squares = torch.empty_like(x_log, dtype=torch.float64)
    for t, (rate, root) in enumerate(zip(scales.rates.tolist(), scales.square_of.tolist(), strict=True)):
        own, others = x_log[:, :, t, None], l_log[:, None, :, t]
        v, v_squares = batch.weights, of_all
        if root < 0:
            a = torch.add(-(own + others), distance, alpha=rate).exp2_()
        elif t in scales.square_of:
            a = squares_of[root] * (own * others)
        else:  # no other temperature needs it: the landmarks' factors go to their weights
            a, factors = squares_of[root] * own, l_log[:, :, t, None]
            v, v_squares = v * factors, of_all * factors.square()
        square = a.square()
        sums[0, :, :, t] = a @ v
        sums[1, :, :, t] = torch.where(same, a, 0) @ v
        of_squares[:, :, t] = (square @ v_squares)[:, :, 0]
        if t in scales.square_of:
            squares_of[t] = square
    return batch.of_points(sums, 1), batch.of_points(of_squares).sum(0)


class TilePoints(NamedTuple):
    """Points or landmarks, of b tiles or without the first axis of all.

    `x`: (b, p, d) coordinates, float64, float32, or float16, whose products are then summed in float32; `norms`: (b, p)
    their squared norms; `reach`: (b, p) distances below which pairs do not count.
    """

    x: Any
    norms: Any
    reach: Any


def tile_distances(points: TilePoints, landmarks: TilePoints, near: Any, *, tf32: bool = False) -> Any:
    """(b, ROWS, m) distances of b tiles to their landmarks, of the dtype of the norms, infinite within either's reach.

    Pairs below the share `near` of the sum of their squared norms are recomputed from their coordinates. With `tf32`
    these are float32 numbers rounded to tf32, whose products tensor cores compute exactly.
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


def _batches(tiles: TileArguments) -> Iterator[Batch]:
    """All tiles of a block, several at a time."""
    device, starts = tiles.L.device, tiles.skip_starts
    x, pool = (TilePoints(*(on_device(device, array) for array in some)) for some in (tiles[:3], tiles[3:6]))
    n_tiles, m = tiles.columns.shape
    step = max(1, BATCH_BYTES[device.type] // (pool.x.element_size() * m * (ROWS + pool.x.shape[1])))
    for first in range(0, n_tiles, step):
        last = min(n_tiles, first + step)
        rows = slice(first * ROWS, min(len(tiles.X), last * ROWS))
        landmarks = tiles.columns[first:last], tiles.weights[first:last, :, :m]
        listed, weights = (on_device(device, array) for array in landmarks)
        batch = batch_of(rows, TilePoints(*(array[rows] for array in x)), (listed, weights), pool, tiles.near)
        counts = np.diff(starts[rows.start : rows.stop + 1])
        owners = on_device(device, np.repeat(np.arange(len(counts)), counts))
        skipped = on_device(device, tiles.skip_columns[starts[rows.start] : starts[rows.stop]])
        batch.distance.view(-1, m)[owners, skipped] = torch.inf
        yield batch


def batch_of(
    rows: slice, points: TilePoints, landmarks: tuple[Any, Any], pool: TilePoints, near: Any, *, tf32: bool = False
) -> Batch:
    """Tiles of some points against landmarks, (b, m) positions in the pool and (b, 2, m) weights: `tile_distances`."""
    listed, weights = landmarks
    columns, (b, m) = listed.clamp(min=0), listed.shape
    of_tiles = TilePoints(
        pool.x.index_select(0, columns.view(-1)).view(b, m, -1),
        pool.norms[columns],
        torch.where(listed < 0, torch.inf, pool.reach[columns]),
    )
    distance = tile_distances(TilePoints(*(by_tile(array, b) for array in points)), of_tiles, near, tf32=tf32)
    return Batch(rows, columns, distance, by_group(weights.to(distance.dtype)))


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
