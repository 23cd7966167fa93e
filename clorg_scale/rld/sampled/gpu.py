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
from typing import Any

import numpy as np
import torch

from clorg_scale.errors import InputError
from clorg_scale.kernels.rld_panels import Panel
from clorg_scale.progress import Advance
from clorg_scale.rld.exact.device_points import AT_ONCE, DevicePoints, check_precision, torch_device
from clorg_scale.rld.exact.launch_plan import device_limit
from clorg_scale.rld.null import RowSample, sample_rows, spread_on_rows
from clorg_scale.rld.points import NEAR, distances_to_all, pair_sample, random_pairs
from clorg_scale.rld.sampled import tiles_torch
from clorg_scale.rld.sampled.engine import HEADROOM, AffinitySums, Data, Engine, KernelSums, Round
from clorg_scale.rld.sampled.jackknife import Jackknife, PointSums
from clorg_scale.rld.sampled.jackknife_torch import TorchJackknife, relative_changes
from clorg_scale.rld.sampled.landmarks import GROUPS, Drawing
from clorg_scale.rld.sampled.mean_distance import sum_of_squares
from clorg_scale.rld.sampled.near_field_torch import NearLandmarks, TorchNearField
from clorg_scale.rld.sampled.tile_order import ROWS
from clorg_scale.rld.sampled.tiles_numba import LogsAndClasses, Scales
from clorg_scale.rld.sampled.tiles_torch import OUT_OF_MEMORY, Batch, TilePoints
from clorg_scale.rld.temperatures import logs_or_factors
from clorg_scale.rld.types import Floats

__all__ = ["OUT_OF_MEMORY", "PRECISIONS", "TorchEngine"]

PRECISIONS = ("fp16", "tf32", "ieee", "fp64")
"""Type that coordinates are rounded to; norms are those of the rounded points."""

PANEL_ROWS = 256 * ROWS
"""Points of a panel where they are streamed."""

ROUNDED = 2.5 * 2.0**-11
"""Change of a distance by rounding to eleven bits: at most this share of the norm over the root of d, for all but one
of 16,000 distances (each coordinate changes by up to 2^-11 of itself, in either direction)."""


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
        yield from self.loaded(range(0, self.n, PANEL_ROWS), PANEL_ROWS)


class TorchEngine(Engine):
    """The passes of sampled RLD on one device; its arrays are (n, t) tensors in the order of the near field.

    `precision`: one of `PRECISIONS`, None for float32 or float64 as the points have it. `memory_limit`: bytes that may
    be taken on the device, None for 90 % of what is free.
    """

    xp: Any = torch

    def __init__(
        self, data: Data, device: str | None, precision: str | None, memory_limit: int | None, n_temperatures: int
    ) -> None:
        self.data, self.device = data, torch_device(device)
        self.near_field = TorchNearField(data.near_field, self.device)
        self.points = self._on_device(precision, memory_limit, n_temperatures)
        self.precision = {"ieee": "float32", "fp64": "float64"}.get(self.points.precision, self.points.precision)
        self.codes = torch.as_tensor(data.codes, device=self.device)
        self.pool_rows = torch.as_tensor(data.pool.rows, device=self.device)
        x, norms = self.points.gathered(data.pool.rows)
        self.pool = TilePoints(x, norms, self._reach(self.near_field.reach[self.pool_rows], norms))
        self.near_landmarks = NearLandmarks(self.near_field, self.pool_rows)

    def _on_device(self, precision: str | None, memory_limit: int | None, t: int) -> TileOrderedPoints:
        """The points on the device, all at once where they fit."""
        data, points = self.data, self.data.points
        precision = check_precision("fp64" if points.dtype == np.float64 else precision or "ieee", PRECISIONS)
        limit = device_limit(memory_limit, self.device)
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

    def _reach(self, reach: Any, norms: Any) -> Any:
        """Distances below which a pair that is not listed was missed by the search, in units of the rounded points."""
        reach = reach.to(norms.dtype) * self.points.scale
        if self.points.precision in ("fp16", "tf32"):
            reach = reach - norms.sqrt() * (ROUNDED / self.data.points.n_features**0.5)
        return reach

    def pair_lengths(self, seed: int, n_pairs: int) -> Floats:
        """Distances of random pairs of points, as `clorg_scale.rld.points.pair_sample` takes them."""
        if not self.points.resident:
            return pair_sample(self.data.points, seed, n_pairs)
        order = self.data.near_field.order
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        ends, others = (position[rows] for rows in random_pairs(len(order), seed, n_pairs))
        return np.asarray(self.points.distances(ends, others).cpu().numpy()) / self.points.scale

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
            rows = batch.rows
            shift = self.near_field.nearest[rows, None] * rates + HEADROOM
            sums = tiles_torch.kernel_terms(batch, scales, shift, 2.0**HEADROOM)
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
        row_logs, pool_logs = (
            logs_or_factors(logs.T, settings.square_of, headroom, xp=torch).T.to(self.pool.norms.dtype)
            for logs, headroom in ((found.log_r, HEADROOM), (column_logs[self.pool_rows], 0))
        )
        points, pool = LogsAndClasses(row_logs, self.codes), LogsAndClasses(pool_logs, self.codes[self.pool_rows])
        adding = TorchJackknife(jackknife, self.device)
        for batch in self._batches(settings.n_landmarks, advance):
            rows = batch.rows
            sums, squares = tiles_torch.affinity_terms(batch, scales, points, pool)
            of_squares += squares * 4.0**HEADROOM
            tiles = torch.arange(rows.start, rows.stop, device=self.device) // ROWS
            of_landmarks = PointSums(
                k[rows], w[rows], sums * 2.0**HEADROOM, found.changes[rows], self.codes[rows], tiles
            )
            k[rows], w[rows] = adding.add(of_landmarks)
        return AffinitySums(k, w, of_squares.cpu().numpy(), adding.result())

    def _batches(self, n_landmarks: int, advance: Advance) -> Iterator[Batch]:
        """All tiles with their landmarks, several at a time."""
        drawing = Drawing(self.data.pool, n_landmarks, self.device)
        itemsize, d = self.pool.norms.element_size(), self.points.d
        of_tile = drawing.n_landmarks * (ROWS * itemsize + d * self.pool.x.element_size())
        step = max(1, tiles_torch.BATCH_BYTES[self.device.type] // of_tile)
        for panel in self.points.panels():
            end = panel.start + len(panel.x)
            last_tile = -(-end // ROWS)
            for tile in range(panel.start // ROWS, last_tile, step):
                last = min(last_tile, tile + step)
                rows = slice(tile * ROWS, min(end, last * ROWS))
                yield self._batch(drawing, panel, rows)
                advance((rows.stop - rows.start) * drawing.n_landmarks)

    def _batch(self, drawing: Drawing, panel: Panel, rows: slice) -> Batch:
        """Whole tiles, whose points are in the panel."""
        tile, last = rows.start // ROWS, -(-rows.stop // ROWS)
        landmarks, tf32 = drawing.draw(tile, last), self.points.precision == "tf32"
        m, listed = landmarks.columns.shape[1], (landmarks.columns, landmarks.weights)
        inside = slice(rows.start - panel.start, rows.stop - panel.start)
        reach = self._reach(self.near_field.reach[rows], panel.norms[inside])
        points = TilePoints(panel.x[inside], panel.norms[inside], reach)
        batch = tiles_torch.batch_of(rows, points, listed, self.pool, NEAR, tf32=tf32)
        point, position = self.near_landmarks.of_tiles(tile, last)
        drawn, slot = drawing.slots_of(landmarks, point // ROWS, position)
        batch.distance.view(-1)[(point * m + slot)[drawn]] = torch.inf
        return batch

    def spread(self, rates: Floats, log_r: Any, sums: AffinitySums, seed: int) -> Floats:
        """(t,) sum of B^2 over all pairs, as `clorg_scale.rld.null.affinity_spread` finds it on some rows."""
        rows, two_m = sample_rows(self.points.n, seed), sums.k.sum(0)
        X, norms = self.points.gathered(rows)
        dtype, rates = norms.dtype, 2 * np.log(2) * rates / self.points.scale
        log_r, shares = ((array * factor).T.to(dtype) for array, factor in ((log_r, np.log(2)), (sums.k, 1 / two_m)))
        sample = RowSample(rows, log_r, shares, two_m.cpu().numpy(), rates)
        step = max(1, AT_ONCE // self.points.d)
        blocks = (
            (panel.start + first, panel.x[first : first + step].to(dtype))
            for panel in self.points.panels()
            for first in range(0, len(panel.x), step)
        )
        distances = distances_to_all(rows, X.to(dtype), blocks, torch)
        return spread_on_rows(sample, distances, sums.squares, torch)

    def restore_order(self, values: Any, factor: float = 1.0) -> Floats:
        """(t, n) in main memory and in the order of the embeddings, from (n, t)."""
        result = torch.empty(values.shape[::-1], dtype=torch.float64, device=self.device)
        result[:, torch.as_tensor(self.data.near_field.order, device=self.device)] = values.T * factor
        return np.asarray(result.cpu().numpy())
