"""Sampled RLD on one device: everything between the k-NN table and the sums of each point stays on it.

Points are centered in float64, rounded (in fp16 after multiplication with a power of two) and laid out in the order of
the tiles, so that tiles are slices. Landmarks are drawn and gathered on the device, near pairs summed, and the
jackknife's sums over the classes made, all in a fixed order: equal input gives equal bits on equal hardware.

**Memory.** For n points with d features, t temperatures, e near pairs (about 1.6 k n) and l points of the pool

    (n + l) (s d + 8)  +  8 e  +  n (32 + 96 t)  +  8 BATCH_BYTES

bytes, with s = 2 in fp16, 4 in float32 and 8 in float64. Where that is more than may be taken, points are streamed from
where they are stored, the next panel being copied while one is computed on, in tf32 instead of fp16.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from clorg_scale.arrays import free_device_memory, within_device_memory
from clorg_scale.errors import InputError
from clorg_scale.numerics.products import float32_products
from clorg_scale.progress import Advance
from clorg_scale.rld.exact.device_points import DevicePoints, Panel
from clorg_scale.rld.null import SAMPLED_ROWS
from clorg_scale.rld.points import NEAR, pair_sample, random_pairs
from clorg_scale.rld.sampled import tiles_torch
from clorg_scale.rld.sampled.engine import HEADROOM, AffinitySums, Data, KernelSums, Round
from clorg_scale.rld.sampled.jackknife import Jackknife, PointSums
from clorg_scale.rld.sampled.jackknife_torch import TorchJackknife, relative_changes
from clorg_scale.rld.sampled.landmarks import GROUPS, Drawing
from clorg_scale.rld.sampled.mean_distance import sum_of_squares
from clorg_scale.rld.sampled.near_field_torch import NearLandmarks, TorchNearField
from clorg_scale.rld.sampled.tile_order import ROWS
from clorg_scale.rld.sampled.tiles_numba import Scales
from clorg_scale.rld.sampled.tiles_torch import TilePoints, by_tile

__all__ = ["PRECISIONS", "TorchEngine", "torch_numerics"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PRECISIONS = ("fp16", "tf32", "ieee", "fp64")
"""How coordinates are rounded; norms are those of the rounded points."""

PANEL_ROWS = 256 * ROWS
"""Points of a panel where they are streamed."""

PAIR_NUMBERS = {"cuda": 1 << 24, "cpu": 1 << 18}
"""Coordinates of random pairs, or of points against sampled rows, computed at once."""

ROUNDED = 2.5 * 2.0**-11
"""Change of a distance by rounding to eleven bits: at most this share of the norm over the root of d, for all but one
of 16,000 distances (each coordinate changes by up to 2^-11 of itself, in either direction)."""


@contextmanager
def torch_numerics() -> Iterator[None]:
    """Settings of torch for all work here: no gradients, float32 products as they are, a message where memory ends."""
    with torch.no_grad(), float32_products("ieee"), within_device_memory(tiles_torch.OUT_OF_MEMORY):
        yield


class TileOrderedPoints(DevicePoints):
    """Points on a device in the order of the tiles."""

    def __init__(self, data: Data, device: Any, precision: str, *, resident: bool) -> None:
        ordered = copy.copy(data.points)
        ordered.order, ordered.codes = data.near_field.order, data.codes
        super().__init__(ordered, device, precision, resident=resident)

    def panels(self) -> Iterator[Panel]:
        """All points at once, or panel by panel, the next of which is copied meanwhile."""
        if self._all is not None:
            yield self._all
            return
        with ThreadPoolExecutor(1) as loader:
            coming = loader.submit(self._load, 0, PANEL_ROWS)
            for start in range(PANEL_ROWS, self.n + PANEL_ROWS, PANEL_ROWS):
                panel = self._arrived(coming.result())
                if start < self.n:
                    coming = loader.submit(self._load, start, PANEL_ROWS)
                yield panel

    def gathered(self, positions: Integers) -> tuple[Any, Any]:
        """(b, d) rounded coordinates and (b,) squared norms of the points at some positions."""
        if self._all is not None:
            chosen = torch.as_tensor(positions, device=self.device)
            return self._all.x[chosen], self._all.norms[chosen]
        x = self._read(self.points.order[positions])
        return x, x.double().square().sum(1).to(self._norm_dtype)

    def _coordinates(self, which: Any) -> Any:
        if not self.points.on_gpu:
            return super()._coordinates(which)
        kind = "float64" if self.precision == "fp64" else "float32"
        return tiles_torch.on_device(self.device, self.points.rows(which, dtype=kind))


class _Batch(NamedTuple):
    """Some tiles.

    Slice of their points, (b, ROWS, m) distances to their landmarks, (b, m) positions of these in the pool, and
    (b, m, 17) their weights.
    """

    rows: slice
    distance: Any
    columns: Any
    weights: Any


class TorchEngine:
    """The passes of sampled RLD on one device; its arrays are (n, t) tensors in the order of the near field.

    Parameters
    ----------
    data
        Points, near field and pool of landmarks.
    device
        torch device.
    precision
        One of `PRECISIONS`; None takes float32 or float64 as the points have it.
    memory_limit
        Bytes that may be taken on the device; None takes 90 % of what is free.
    n_temperatures
        t.
    """

    def __init__(
        self, data: Data, device: str | None, precision: str | None, memory_limit: int | None, n_temperatures: int
    ) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.data = data
        self.near_field = TorchNearField(data.near_field, self.device)
        self.points = self._on_device(precision, memory_limit, n_temperatures)
        self.precision = {"ieee": "float32", "fp64": "float64"}.get(self.points.precision, self.points.precision)
        self.codes = torch.as_tensor(data.codes, device=self.device)
        self.pool_rows = torch.as_tensor(data.pool.rows, device=self.device)
        self.L, self.l_norms = self.points.gathered(data.pool.rows)
        self.l_reach = self._reach(self.near_field.reach[self.pool_rows], self.l_norms)
        self.near_landmarks = NearLandmarks(self.near_field, self.pool_rows, ROWS)

    def _on_device(self, precision: str | None, memory_limit: int | None, t: int) -> TileOrderedPoints:
        """The points on the device, all at once where they fit."""
        data, points = self.data, self.data.points
        if points.dtype == np.float64:
            precision = "fp64"
        precision = precision or "ieee"
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
        limit = memory_limit
        if limit is None:
            limit = int(0.9 * free_device_memory()) if self.device.type == "cuda" else 2 << 30
        n, point = points.n_points, DevicePoints.bytes_per_point(points.n_features, precision)
        beside = n * (32 + 96 * t) + len(data.pool.rows) * point + 8 * tiles_torch.BATCH_BYTES[self.device.type]
        fits = n * point + max(beside, DevicePoints.converting_bytes(precision)) <= limit
        if precision == "fp16" and not fits:
            precision = "tf32"  # copies are as large, and no coordinate is out of range
        try:
            return TileOrderedPoints(data, self.device, precision, resident=fits)
        except InputError:
            if precision != "fp16":
                raise
        # Some coordinate is out of range.
        return TileOrderedPoints(data, self.device, "tf32", resident=fits)

    def log2(self, values: Any) -> Any:
        """Logarithms to base 2."""
        return values.log2()

    def _reach(self, reach: Any, norms: Any) -> Any:
        """Distances below which a pair that is not listed was missed by the search, in units of the rounded points."""
        reach = reach.to(norms.dtype) * self.points.scale
        if self.points.precision in ("fp16", "tf32"):
            reach = reach - norms.sqrt() * (ROUNDED / self.data.points.n_features**0.5)
        return reach

    def pair_lengths(self, seed: int, n_pairs: int) -> Floats:
        """Distances of random pairs of points, as `clorg_scale.rld.exact.passes.pair_sample` takes them."""
        if not self.points.resident:
            return pair_sample(self.data.points, seed, n_pairs)
        order = self.data.near_field.order
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        ends, others = (position[rows] for rows in random_pairs(len(order), seed, n_pairs))
        step, lengths = max(1, PAIR_NUMBERS[self.device.type] // self.points.d), []
        for start in range(0, len(ends), step):
            apart = self.points.rows(ends[start : start + step]) - self.points.rows(others[start : start + step])
            lengths.append(apart.square_().sum(1).sqrt_())
        return np.asarray(torch.cat(lengths).cpu().numpy()) / self.points.scale

    def sum_of_squares(self, unit: float) -> float:
        """Sum of the squared distances of all points from their mean, which is subtracted from them."""
        if not self.points.resident:
            return sum_of_squares(self.data.points, unit)
        assert self.points._all is not None
        return float(self.points._all.norms.sum(dtype=torch.float64)) / (self.points.scale * unit) ** 2

    def kernel_pass(self, settings: Round, advance: Advance) -> KernelSums:
        """Pass 1: r of each point, and how it changes without each group of landmarks."""
        n, t = self.points.n, len(settings.rates)
        rates = torch.as_tensor(settings.rates, device=self.device)
        scales = Scales(settings.rates / self.points.scale, settings.square_of)
        near_logs = self.near_field.log_sums(rates)
        log_r, variances = (torch.empty_like(near_logs) for _ in range(2))
        changes = torch.empty((n, t, GROUPS), dtype=torch.int16, device=self.device)
        for batch in self._batches(settings.n_landmarks, advance):
            rows, b = batch.rows, len(batch.columns)
            shift = self.near_field.nearest[rows, None] * rates + HEADROOM
            shift_of_tiles = by_tile(shift.to(batch.distance.dtype), b)
            terms = tiles_torch.kernel_terms(batch.distance, batch.weights, scales, shift_of_tiles, 2.0**HEADROOM)
            sums = terms.flatten(0, 1)[: rows.stop - rows.start]
            r = torch.exp2(near_logs[rows] - shift) + sums.sum(2)
            log_r[rows] = torch.log2(r) + shift
            changes[rows], variances[rows] = relative_changes(sums, r, settings.finite_population)
        return KernelSums(log_r, variances, changes)

    def affinity_pass(
        self, settings: Round, found: KernelSums, column_logs: Any, jackknife: Jackknife, advance: Advance
    ) -> AffinitySums:
        """Pass 2: k and w of each point, the sum of the squares of all affinities, the jackknife's sums."""
        rates = torch.as_tensor(settings.rates, device=self.device)
        scales = Scales(2 * settings.rates / self.points.scale, settings.square_of)
        k, w, of_squares = self.near_field.affinities(rates, found.log_r, column_logs, self.codes)
        dtype, pool_codes = self.l_norms.dtype, self.codes[self.pool_rows]
        row_logs = self._tile_logs(found.log_r, settings.square_of, HEADROOM).to(dtype)
        pool_logs = self._tile_logs(column_logs[self.pool_rows], settings.square_of, 0).to(dtype)
        adding = TorchJackknife(jackknife, self.device)
        for batch in self._batches(settings.n_landmarks, advance):
            rows, b, n = batch.rows, len(batch.columns), batch.rows.stop - batch.rows.start
            same = by_tile(self.codes[rows], b)[:, :, None] == pool_codes[batch.columns][:, None, :]
            logs = by_tile(row_logs[rows], b), pool_logs[batch.columns]
            sums, squares = tiles_torch.affinity_terms(batch.distance, batch.weights, scales, logs, same)
            of_squares += squares.flatten(0, 1)[:n].sum(0) * 4.0**HEADROOM
            sums = sums.flatten(1, 2)[:, :n] * 2.0**HEADROOM
            tiles = torch.arange(rows.start, rows.stop, device=self.device) // ROWS
            k[rows], w[rows] = adding.add(
                PointSums(k[rows], w[rows], sums, found.changes[rows], self.codes[rows], tiles)
            )
        return AffinitySums(k, w, of_squares.cpu().numpy(), adding.result())

    def _tile_logs(self, logs: Any, square_of: Integers, headroom: int) -> Any:
        """(p, t) what the tiles take: l, or the factors of the squares of another temperature's affinities."""
        result = logs + headroom
        for t, root in enumerate(square_of.tolist()):
            if root >= 0:
                result[:, t] = torch.exp2(2 * logs[:, root] - logs[:, t] + headroom)
        return result

    def _batches(self, n_landmarks: int, advance: Advance) -> Iterator[_Batch]:
        """All tiles with their landmarks, several at a time."""
        drawing = self.data.pool.drawing(n_landmarks, self.device)
        itemsize, d = self.l_norms.element_size(), self.L.shape[1]
        of_tile = drawing.n_landmarks * (ROWS * itemsize + d * self.L.element_size())
        step = max(1, tiles_torch.BATCH_BYTES[self.device.type] // of_tile)
        for panel in self.points.panels():
            end = panel.start + len(panel.x)
            last_tile = -(-end // ROWS)
            for tile in range(panel.start // ROWS, last_tile, step):
                last = min(last_tile, tile + step)
                rows = slice(tile * ROWS, min(end, last * ROWS))
                yield self._batch(drawing, panel, rows)
                advance((rows.stop - rows.start) * drawing.n_landmarks)

    def _batch(self, drawing: Drawing, panel: Panel, rows: slice) -> _Batch:
        """Whole tiles, whose points are in the panel."""
        tile, last = rows.start // ROWS, -(-rows.stop // ROWS)
        landmarks, b = drawing.draw(tile, last), last - tile
        m, columns = landmarks.columns.shape[1], landmarks.columns.clamp(min=0)
        inside = slice(rows.start - panel.start, rows.stop - panel.start)
        reach = self._reach(self.near_field.reach[rows], panel.norms[inside])
        points = TilePoints(*(by_tile(array, b) for array in (panel.x[inside], panel.norms[inside], reach)))
        others = TilePoints(
            self.L.index_select(0, columns.view(-1)).view(b, m, -1),
            self.l_norms[columns],
            torch.where(landmarks.columns < 0, torch.inf, self.l_reach[columns]),
        )
        distance = tiles_torch.tile_distances(points, others, NEAR, tf32=self.points.precision == "tf32")
        point, position = self.near_landmarks.of_tiles(tile, last)
        drawn, slot = drawing.slots_of(landmarks, point // ROWS, position)
        distance.view(-1)[(point * m + slot)[drawn]] = torch.inf
        return _Batch(rows, distance, columns, tiles_torch.by_group(landmarks.weights.to(distance.dtype)))

    def spread(self, rates: Floats, log_r: Any, sums: AffinitySums, seed: int) -> Floats:
        """(t,) sum of B^2 over all pairs, as `clorg_scale.rld.null.affinity_spread` finds it on some rows."""
        n = self.points.n
        chosen = np.random.default_rng([seed, n]).permutation(n)[:SAMPLED_ROWS]
        rows = torch.as_tensor(chosen, device=self.device)
        X, norms = self.points.gathered(chosen)
        X, dtype = X.to(norms.dtype), norms.dtype
        totals = sums.k.sum(0)
        shares, logs = (sums.k / totals).to(dtype), log_r.to(dtype)
        squares = torch.zeros((2, len(rates)), dtype=torch.float64, device=self.device)
        step = max(1, PAIR_NUMBERS[self.device.type] // self.points.d)
        for panel in self.points.panels():
            for first in range(0, len(panel.x), step):
                some = panel.slice(first, min(len(panel.x), first + step))
                columns = slice(some.start, some.start + len(some.x))
                square = torch.addmm(norms[:, None] + some.norms, X, some.x.to(dtype).T, alpha=-2)
                distance = square.clamp_min_(0).sqrt_()
                numbers = torch.arange(columns.start, columns.stop, device=self.device)
                distance.masked_fill_(rows[:, None] == numbers, torch.inf)
                for t, rate in enumerate((2 * rates / self.points.scale).tolist()):
                    B = torch.exp2(rate * distance - logs[rows, t][:, None] - logs[columns, t]) / totals[t].to(dtype)
                    squares[0, t] += B.square().sum(dtype=torch.float64)
                    B -= shares[rows, t][:, None] * shares[columns, t]
                    squares[1, t] += B.square().sum(dtype=torch.float64)
        of_A, of_B = squares.cpu().numpy()
        return np.asarray(sums.squares / totals.cpu().numpy() ** 2 * of_B / of_A)

    def restore_order(self, values: Any, factor: float = 1.0) -> Floats:
        """(t, n) in main memory and in the order of the embeddings, from (n, t)."""
        result = torch.empty(values.shape[::-1], dtype=torch.float64, device=self.device)
        result[:, torch.as_tensor(self.data.near_field.order, device=self.device)] = values.T * factor
        return np.asarray(result.cpu().numpy())
