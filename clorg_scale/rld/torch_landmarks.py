r"""Tiles of all points against landmarks with torch: sampled RLD on a GPU.

The two functions of `clorg_scale.rld.landmark_tiles`, with the same arguments and results, for a pool of landmarks
that is a tensor on the device; what is not there yet is copied. Several tiles make one batched product each for the
distances and, against a matrix that has each landmark's weight in the column of its group, for the sums.

Every step of a tile goes through memory: some 30 bytes a pair and temperature in pass 1, 60 in pass 2. At 1.28M points
and 1,000 landmarks that is 0.5 TB, far less than what the search for the near field reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from clorg_scale.arrays import array_module, within_device_memory
from clorg_scale.arrays.products import float32_products
from clorg_scale.rld.landmarks import GROUPS
from clorg_scale.rld.tile_order import ROWS

__all__ = ["landmark_affinities", "landmark_sums", "on_device"]

Floats = npt.NDArray[np.float64]

BATCH_BYTES = {"cuda": 256 << 20, "cpu": 8 << 20}
"""Bytes of the distances and landmarks of one batch of tiles; some five times as much is in use at once."""

NEAR_BYTES = 64 << 20
"""Bytes of coordinates of near pairs taken at once."""


def on_device(device: Any, array: Any) -> Any:
    """The array as a tensor there; a CuPy array, or a tensor that is there already, is not copied."""
    if array_module(array) is np:
        return torch.as_tensor(array, device=device)
    return torch.from_dlpack(array)  # unlike `as_tensor`, waits for CuPy's stream


class _Batch(NamedTuple):
    """Some tiles of a block: b of them, with m landmarks each.

    `rows`: its points in the block, fewer than b ROWS where the last tile is not full; `columns`: (b, m) places in the
    pool, any where there is no landmark; `distance`: (b, ROWS, m), infinite where a pair does not count; `weights`:
    (b, m, 17).
    """

    rows: slice
    columns: Any
    distance: Any
    weights: Any


@within_device_memory("sampled RLD, which takes about 2 GB there beside the embeddings")
@float32_products("ieee")
def landmark_sums(
    X: Any, L: Any, x_norms: Any, l_norms: Any, x_reach: Any, l_reach: Any, rates: Any, squared: Any, shifts: Any,
    gain: Any, columns: Any, weights: Any, skip_starts: Any, skip_columns: Any, near: Any, floor: Any,
) -> Floats:  # fmt: skip
    """Pass 1 of a block of points, as `clorg_scale.rld.landmark_tiles.landmark_sums`."""
    del floor  # numbers below the normal ones cost nothing here
    shift = on_device(L.device, shifts)
    sums = np.empty((len(X), len(rates), GROUPS + 1))
    tiles = (X, L, x_norms, l_norms, x_reach, l_reach, columns, weights, skip_starts, skip_columns, near)
    for batch in _batches(*tiles):
        e: dict[int, Any] = {}
        for t, (rate, root) in enumerate(zip(rates.tolist(), squared.tolist(), strict=True)):
            if root < 0:
                e[t] = torch.exp2(rate * batch.distance - _by_tile(shift[t, batch.rows], batch)[:, :, None])
            else:
                e[t] = e[root].square() * float(gain)
            sums[batch.rows, t] = _of_points(e[t] @ batch.weights, batch)
    return sums


@within_device_memory("sampled RLD, which takes about 2 GB there beside the embeddings")
@float32_products("ieee")
def landmark_affinities(
    X: Any, L: Any, x_norms: Any, l_norms: Any, x_reach: Any, l_reach: Any, rates: Any, squared: Any, x_logs: Any,
    l_logs: Any, columns: Any, weights: Any, x_classes: Any, l_classes: Any, skip_starts: Any,
    skip_columns: Any, near: Any, floor: Any,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Pass 2 of a block of points, as `clorg_scale.rld.landmark_tiles.landmark_affinities`."""
    del floor
    x_log, l_log, x_class, l_class = (on_device(L.device, array) for array in (x_logs, l_logs, x_classes, l_classes))
    sums = np.empty((2, len(X), len(rates), GROUPS + 1))
    of_squares = np.zeros(len(rates))
    tiles = (X, L, x_norms, l_norms, x_reach, l_reach, columns, weights, skip_starts, skip_columns, near)
    for batch in _batches(*tiles):
        same = _by_tile(x_class[batch.rows], batch)[:, :, None] == l_class[batch.columns][:, None, :]
        of_all = batch.weights.sum(2)[:, :, None]
        a: dict[int, Any] = {}
        for t, (rate, root) in enumerate(zip(rates.tolist(), squared.tolist(), strict=True)):
            own, others = _by_tile(x_log[t, batch.rows], batch)[:, :, None], l_log[t, batch.columns][:, None, :]
            if root < 0:
                a[t] = torch.exp2(rate * batch.distance - own - others)
            else:
                a[t] = a[root].square() * (own * others)
            sums[0, batch.rows, t] = _of_points(a[t] @ batch.weights, batch)
            sums[1, batch.rows, t] = _of_points(torch.where(same, a[t], 0) @ batch.weights, batch)
            of_squares[t] += _of_points(a[t].square() @ of_all, batch).sum()
    return sums, of_squares


def _batches(
    X: Any, L: Any, x_norms: Any, l_norms: Any, x_reach: Any, l_reach: Any, columns: Any, weights: Any,
    skip_starts: Any, skip_columns: Any, near: Any,
) -> Iterator[_Batch]:  # fmt: skip
    """All tiles of a block, several at a time."""
    x_all, x_norm, x_far = (on_device(L.device, array) for array in (X, x_norms, x_reach))
    l_norm, l_far = on_device(L.device, l_norms), on_device(L.device, l_reach)
    n_tiles, m = columns.shape
    step = max(1, BATCH_BYTES[L.device.type] // (L.element_size() * m * (ROWS + L.shape[1])))
    for first in range(0, n_tiles, step):
        last = min(n_tiles, first + step)
        rows = slice(first * ROWS, min(len(X), last * ROWS))
        places = on_device(L.device, columns[first:last])
        batch = _Batch(rows, places.clamp(min=0), None, _by_group(on_device(L.device, weights[first:last, :, :m])))
        x, y = _by_tile(x_all[rows], batch), L[batch.columns]
        total = _by_tile(x_norm[rows], batch)[:, :, None] + l_norm[batch.columns][:, None, :]
        square = torch.baddbmm(total, x, y.mT, alpha=-2)
        _recompute(square, torch.nonzero(square < float(near) * total), x, y)
        distance = square.clamp_min_(0).sqrt_()
        far = torch.where(places < 0, torch.inf, l_far[batch.columns])
        reach = torch.maximum(_by_tile(x_far[rows], batch)[:, :, None], far[:, None, :])
        distance.masked_fill_(distance < reach, torch.inf)
        counts = np.diff(skip_starts[rows.start : rows.stop + 1])
        owners = on_device(L.device, np.repeat(np.arange(len(counts)), counts))
        listed = on_device(L.device, skip_columns[skip_starts[rows.start] : skip_starts[rows.stop]])
        distance.view(-1, m)[owners, listed] = torch.inf
        yield batch._replace(distance=distance)


def _recompute(square: Any, near: Any, x: Any, y: Any) -> None:
    """Squared distances of pairs (tile, row, column), small against the norms, from the coordinates' differences."""
    for pairs in near.split(max(1, NEAR_BYTES // (x.shape[2] * x.element_size()))):
        tile, i, j = pairs.unbind(1)
        square[tile, i, j] = (x[tile, i] - y[tile, j]).square_().sum(1)


def _by_group(weights: Any) -> Any:
    """(b, m, 17): the weight of each landmark in the column of its group, or in the last."""
    b, _, m = weights.shape
    columns = weights.new_zeros((b, m, GROUPS + 1))
    groups = torch.arange(m, device=weights.device) % GROUPS
    columns[:, torch.arange(m, device=weights.device), groups] = weights[:, 0]
    columns[:, :, GROUPS] = weights[:, 1]
    return columns


def _by_tile(array: Any, batch: _Batch) -> Any:
    """(b, ROWS, ...) from (p, ...), zeros where the last tile is not full."""
    missing = len(batch.columns) * ROWS - len(array)
    if missing:
        array = torch.cat([array, array.new_zeros((missing, *array.shape[1:]))])
    return array.view(-1, ROWS, *array.shape[1:])


def _of_points(sums: Any, batch: _Batch) -> Floats:
    """(p, g) float64 in main memory from (b, ROWS, g)."""
    points: Floats = sums.flatten(0, 1)[: batch.rows.stop - batch.rows.start].double().cpu().numpy()
    return points
