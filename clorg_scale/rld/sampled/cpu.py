"""Sampled RLD over blocks of points: on this machine's CPU, or on the workers of a cluster and their devices.

**Memory.** With n points, d features of s bytes, t temperatures, k neighbors, m landmarks a tile and blocks of
b = 8192 points, a worker holds at once

    64 MB s / 4                   coordinates of the pool of landmarks (`POOL_BYTES`)
    p (24 + s (1 + t))            positions, classes, reach and logarithms of its p = 64 MB / (4 d) points
    b (d s + 32 k + 600 t)        a block: coordinates, near pairs, sums of two kinds over 17 groups, twice
    64 * 24 m                     landmarks of its tiles
    4 n                           position of every point among the landmarks of a tile

and of the n W^-1 points that it did in pass 1, with W workers, 32 n t / W bytes of changes, which Dask spills to its
disk. At n = 10^8, d = 64, t = 5, k = 15 that is 0.5 GB, and 16 GB / W of changes on disk. The process that shares the
work holds 8 t n bytes for each of log r, its variance, k, w, two logarithms and two temporaries, and the near field,
16 bytes for each of up to 2 k n pairs; nothing of n t 16: without workers the changes are in a temporary file beyond
256 MB (`clorg_scale.kept_results`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from clorg_scale.arrays import array_module
from clorg_scale.distributed import Map
from clorg_scale.kept_results import Kept, hand_over, map_keeping, with_kept
from clorg_scale.numerics.exp2 import smallest_exp2
from clorg_scale.numerics.interrupts import held_interrupts
from clorg_scale.progress import Advance
from clorg_scale.rld.exact.tiles_numba import TILE
from clorg_scale.rld.points import NEAR, pair_sample
from clorg_scale.rld.sampled.engine import HEADROOM, AffinitySums, Data, Engine, KernelSums, Round
from clorg_scale.rld.sampled.jackknife import Jackknife, PointSums, relative_changes
from clorg_scale.rld.sampled.landmarks import Drawing
from clorg_scale.rld.sampled.mean_distance import sum_of_squares
from clorg_scale.rld.sampled.near_field import NearRows
from clorg_scale.rld.sampled.tile_order import BLOCK_ROWS, ROWS
from clorg_scale.rld.sampled.tiles_numba import LogsAndClasses, Scales, TileArguments
from clorg_scale.rld.temperatures import logs_or_factors
from clorg_scale.rld.types import Floats, Integers

__all__ = ["BlockEngine"]


class BlockEngine(Engine):
    """The passes of sampled RLD over blocks of points; all arrays are NumPy's, (t, n) in the order of the near field.

    `device`: torch device of the tiles, None for the compiled loops; `ordered_map` maps the blocks.
    """

    xp: Any = np

    def __init__(self, data: Data, device: str | None, ordered_map: Map) -> None:
        self.data = data._replace(near_field=data.near_field.on_host())
        self.precision = str(data.points.dtype)
        self._map, self._tiles = ordered_map, hand_over(ordered_map, _Tiles(self.data, device))

    def pair_lengths(self, seed: int, n_pairs: int) -> Floats:
        """Distances of random pairs of points."""
        return pair_sample(self.data.points, seed, n_pairs)

    def sum_of_squares(self, unit: float) -> float:
        """Sum of the squared distances of all points from their mean."""
        return sum_of_squares(self.data.points, unit)

    def kernel_pass(self, settings: Round, advance: Advance) -> KernelSums:
        """Pass 1: r of each point, and how it changes without each group of landmarks."""
        near_field, rates, n = self.data.near_field, settings.rates, self.data.points.n_points
        near_logs, log_r = near_field.log_sums(rates), np.empty((len(rates), n))
        variances_of_r, changes = np.empty_like(log_r), []

        def block_of(rows: slice) -> tuple[_KernelBlock, Kept]:
            shifts = rates[:, None] * near_field.nearest[rows] + HEADROOM
            near_sums = np.exp2(near_logs[:, rows] - shifts).T.copy()
            return _KernelBlock(near_field.rows(rows.start, rows.stop), shifts, near_sums), self._tiles

        task = _KernelPass(settings)
        results = map_keeping(self._map, task, map(block_of, self._blocks()))
        for rows, ((logs, of_r), changed) in self._reported(task, results, advance):
            log_r[:, rows], variances_of_r[:, rows] = logs, of_r
            changes.append(changed)
        return KernelSums(log_r, variances_of_r, changes)

    def affinity_pass(
        self, settings: Round, found: KernelSums, column_logs: Floats, jackknife: Jackknife, advance: Advance
    ) -> AffinitySums:
        """Pass 2: k and w of each point, the sum of the squares of all affinities, the jackknife's sums."""
        near_field, pool, codes = self.data.near_field, self.data.pool, self.data.codes
        k, w, squares = near_field.affinities(settings.rates, found.log_r, column_logs, codes)
        dtype, pool_logs = self.data.points.dtype, column_logs[:, pool.rows]
        row_logs = logs_or_factors(found.log_r, settings.square_of, HEADROOM).astype(dtype)
        pool_logs = logs_or_factors(pool_logs, settings.square_of).astype(dtype)

        def block_of(rows: slice, changes: Kept) -> tuple[_AffinityBlock, Kept, Kept]:
            near, logs = near_field.rows(rows.start, rows.stop), row_logs[:, rows]
            return _AffinityBlock(near, logs, codes[rows], k[:, rows], w[:, rows]), self._tiles, changes

        task = _AffinityPass(settings, pool_logs, jackknife.empty())
        results = with_kept(self._map, task, map(block_of, self._blocks(), found.changes))
        for rows, block in self._reported(task, results, advance):
            k[:, rows], w[:, rows] = block.k, block.w
            squares += block.squares
            jackknife.merge(block.jackknife)
        w[:, codes < 0] = 0
        return AffinitySums(k, w, squares, jackknife)

    def _blocks(self) -> list[slice]:
        """Blocks of consecutive points."""
        n = self.data.points.n_points
        return [slice(start, min(n, start + BLOCK_ROWS)) for start in range(0, n, BLOCK_ROWS)]

    def _reported(
        self, task: _KernelPass | _AffinityPass, results: Iterable[Any], advance: Advance
    ) -> Iterator[tuple[slice, Any]]:
        """Blocks with the results of the task, in order."""
        taken = self.data.pool.taken(task.settings.n_landmarks)
        for rows, result in zip(self._blocks(), results, strict=True):
            yield rows, result
            advance((rows.stop - rows.start) * taken)

    def restore_order(self, values: Floats, factor: float = 1.0) -> Floats:
        """(t, n) in the order of the embeddings; the memory is used again."""
        values *= factor
        for of_temperature in values:
            of_temperature[self.data.near_field.order] = of_temperature.copy()
        return values


class _Tiles:
    """Tiles of blocks of points against landmarks of the pool; parameters as for `BlockEngine`."""

    def __init__(self, data: Data, device: str | None) -> None:
        points, pool, near_field = data.points, data.pool, data.near_field
        self.points, self.pool, self.device = points.rows_alone(), pool, device
        self._pool_order = near_field.order[pool.rows]
        self._pool_reach = near_field.reach[pool.rows].astype(points.dtype)
        self._space = np.empty((0, points.n_features), points.dtype)

    def __getstate__(self) -> dict[str, Any]:
        # Every worker reads the coordinates itself: sent, they would pass through three processes.
        state = {**self.__dict__, "_space": self._space[:0]}
        state.pop("_pool_points", None)
        return state

    @cached_property
    def _pool_points(self) -> tuple[Any, Any]:
        """Coordinates of the pool, on the device of the tiles, and squared norms."""
        X = self.points.rows(self._pool_order)
        return X if self.device is None else self.loops.on_device(self.device, X), _squared_norms(X)

    @property
    def loops(self) -> Any:
        """Module with `landmark_sums` and `landmark_affinities`."""
        if self.device is None:
            from clorg_scale.rld.sampled import tiles_numba

            return tiles_numba
        from clorg_scale.rld.sampled import tiles_torch

        return tiles_torch

    @contextmanager
    def tile_arguments(self, block: NearRows, n_landmarks: int) -> Iterator[TileArguments]:
        """Input of the loops for a block of points; matrix products have one thread meanwhile."""
        points, n = self.points, len(block.rows)
        sets = Drawing(self.pool, n_landmarks).draw(block.start // ROWS, -(-(block.start + n) // ROWS))
        X = points.rows(block.rows, space=self._memory(n))
        skipped = block.among(np.where(sets.columns < 0, -1, self.pool.rows[sets.columns]))
        near, floor = points.dtype.type(NEAR), points.dtype.type(np.sqrt(smallest_exp2(points.dtype)))
        pool = *self._pool_points, self._pool_reach
        weights, reach = _padded(sets.weights, points.dtype), block.reach.astype(points.dtype)
        with threadpool_limits(limits=1, user_api="blas"), held_interrupts():
            yield TileArguments(X, _squared_norms(X), reach, *pool, sets.columns, weights, *skipped, near, floor)

    def _memory(self, n: int) -> npt.NDArray[Any] | None:
        """Memory of a block, used again and again; a GPU manages its own."""
        if self.points.on_gpu:
            return None
        if len(self._space) < n:
            self._space = np.empty((n, self.points.n_features), self.points.dtype)
        return self._space


def _squared_norms(X: Any) -> Any:
    return array_module(X).einsum("ij,ij->i", X, X)


def _padded(weights: Floats, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """(b, 2, m) weights with zeros behind, to whole chunks of landmarks."""
    b, kinds, m = weights.shape
    padded = np.zeros((b, kinds, -(-m // TILE) * TILE), dtype=dtype)
    padded[:, :, :m] = weights
    return padded


class _KernelBlock(NamedTuple):
    """Points in pass 1: their near field, (t, p) shifts of their sums, (p, t) the near field's share of the sums."""

    near: NearRows
    shifts: Floats
    near_sums: Floats


@dataclass(frozen=True)
class _KernelPass:
    """Pass 1 of a block: r of each point, and how it changes without each group."""

    settings: Round

    def __call__(self, arguments: tuple[_KernelBlock, _Tiles]) -> tuple[tuple[Floats, Floats], npt.NDArray[np.int16]]:
        """(t, p) log2 r and its relative variance; (p, t, 16) changes."""
        (block, of_all), settings = arguments, self.settings
        dtype = of_all.points.dtype
        scales = Scales(settings.rates.astype(dtype), settings.square_of)
        with of_all.tile_arguments(block.near, settings.n_landmarks) as tiles:
            sums = of_all.loops.landmark_sums(tiles, scales, block.shifts.astype(dtype), dtype.type(2.0**HEADROOM))
        r = block.near_sums + sums.sum(axis=2)
        changes, variances = relative_changes(sums, r, settings.finite_population)
        return (np.log2(r).T + block.shifts, variances), changes


class _AffinityBlock(NamedTuple):
    """Points in pass 2.

    Near field, (t, p) logarithms as tiles take them, (p,) codes, (t, p) near field's share of k and w.
    """

    near: NearRows
    logs: npt.NDArray[Any]
    codes: Integers
    near_k: Floats
    near_w: Floats


@dataclass(frozen=True)
class _AffinityPass:
    """Pass 2 of a block: k and w of each point, and how their sums change without each group."""

    settings: Round
    pool_logs: npt.NDArray[Any]
    jackknife: Jackknife

    def __call__(self, arguments: tuple[_AffinityBlock, _Tiles, npt.NDArray[np.int16]]) -> AffinitySums:
        """(t, p) k and w, (t,) sum of squares, and the sums over the classes; of a block and its changes of r."""
        (block, of_all, changes), settings = arguments, self.settings
        dtype = of_all.points.dtype
        scales = Scales((2 * settings.rates).astype(dtype), settings.square_of)
        points = LogsAndClasses(block.logs, block.codes.astype(np.int32))
        pool = LogsAndClasses(self.pool_logs, of_all.pool.codes.astype(np.int32))
        with of_all.tile_arguments(block.near, settings.n_landmarks) as tiles:
            sums, squares = of_all.loops.landmark_affinities(tiles, scales, points, pool)
        k, w, jackknife = block.near_k.copy(), block.near_w.copy(), self.jackknife.empty()
        tiles_of_rows = (block.near.start + np.arange(len(block.codes))) // ROWS
        jackknife.add(PointSums(k, w, sums * 2.0**HEADROOM, changes, block.codes, tiles_of_rows))
        return AffinitySums(k, w, squares * 4.0**HEADROOM, jackknife)
