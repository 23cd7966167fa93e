"""Sampled RLD on one device: everything between the k-NN table and the sums of each point stays there.

Points are centered in float64, rounded (in fp16 after multiplication with a power of two) and laid out in the order of
the tiles, so that tiles are slices. Landmarks are drawn and gathered there, near pairs summed, and the jackknife's sums
over the classes made, all in a fixed order: equal input gives equal bits on equal hardware.

**Memory.** For n points with d features, t temperatures, e near pairs (about 1.6 k n) and l points of the pool

    (n + l) (s d + 8)  +  8 e  +  n (32 + 96 t)  +  8 BATCH_BYTES

bytes, with s = 2 in fp16, 4 in float32 and 8 in float64. Where that is more than may be taken, points are streamed from
where they lie, a panel coming while another one is worked on, in tf32 instead of fp16.
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
from clorg_scale.rld.points import NEAR, ClassOrderedPoints, pair_sample, random_pairs
from clorg_scale.rld.sampled import tiles_torch as torch_landmarks
from clorg_scale.rld.sampled.jackknife import Jackknife
from clorg_scale.rld.sampled.landmarks import GROUPS, LandmarkPool
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import ROWS
from clorg_scale.rld.sampled.torch_jackknife import TorchJackknife, relative_changes
from clorg_scale.rld.sampled.torch_near_field import NearLandmarks, TorchNearField
from clorg_scale.rld.sampled.torch_pool import TorchPool

__all__ = ["HEADROOM", "PRECISIONS", "TorchEngine", "computing"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PRECISIONS = ("fp16", "tf32", "ieee", "fp64")
"""How coordinates are rounded; norms are those of the rounded points."""

PANEL_ROWS = 256 * ROWS
"""Points of a panel where they are streamed."""

PAIR_NUMBERS = {"cuda": 1 << 24, "cpu": 1 << 18}
"""Coordinates of random pairs, or of points against sampled rows, taken at once."""

ROUNDED = 2.5 * 2.0**-11
"""What rounding to eleven bits moves a distance by: at most this share of the norm over the root of d, of 16,000
distances all but one (each coordinate is off by up to 2^-11 of itself, in either direction)."""

HEADROOM = 16
"""As `clorg_scale.rld.sampled.estimate.HEADROOM`."""


@contextmanager
def computing() -> Iterator[None]:
    """What all work here needs around it: no gradients, float32 products as they are, a sentence where memory ends."""
    with torch.no_grad(), float32_products("ieee"), within_device_memory(torch_landmarks.OUT_OF_MEMORY):
        yield


class TilePoints(DevicePoints):
    """Points on a device in the order of the tiles."""

    def __init__(
        self, points: ClassOrderedPoints, codes: Integers, order: Integers, device: Any, precision: str, *,
        resident: bool,
    ) -> None:  # fmt: skip
        ordered = copy.copy(points)
        ordered.order, ordered.codes = order, codes
        super().__init__(ordered, device, precision, resident=resident)

    def panels(self) -> Iterator[Panel]:
        """All points: at once, or one panel after another, the next of which is on its way."""
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
        return torch_landmarks.on_device(self.device, self.points.rows(which, dtype=kind))


class KernelSums(NamedTuple):
    """Pass 1: (n, t) log2 r, its relative variance, and (n, t, 16) changes without each group."""

    log_r: Any
    variances: Any
    changes: Any


class _Batch(NamedTuple):
    """Some tiles: slice of their points, distances to their landmarks, and what these are."""

    rows: slice
    distance: Any
    columns: Any
    weights: Any


class TorchEngine:
    """The passes of sampled RLD on one device.

    Parameters
    ----------
    points, near_field
        As for `clorg_scale.rld.sampled.estimate.sampled_sums`.
    codes
        (n,) class codes in the order of the near field.
    pool
        What landmarks are drawn from.
    device
        torch device.
    precision
        One of `PRECISIONS`; None takes float32 or float64 as the points have it.
    memory_limit
        Bytes that may be taken on the device; None takes 90 % of what is free.
    """

    log2 = staticmethod(torch.log2)

    def __init__(
        self, points: ClassOrderedPoints, codes: Integers, near_field: NearField, pool: LandmarkPool, device: str,
        precision: str | None, memory_limit: int | None, n_temperatures: int,
    ) -> None:  # fmt: skip
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.pool, self.order, self._host_points = pool, near_field.order, points
        self.near_field = TorchNearField(near_field, self.device)
        self.points = self._placed(points, codes, precision, memory_limit, n_temperatures)
        self.precision = {"ieee": "float32", "fp64": "float64"}.get(self.points.precision, self.points.precision)
        self.codes = torch.as_tensor(codes, device=self.device)
        self.pool_rows = torch.as_tensor(pool.rows, device=self.device)
        self.L, self.l_norms = self.points.gathered(pool.rows)
        self.l_reach = self._reach(self.near_field.reach[self.pool_rows], self.l_norms)
        self.near_landmarks = NearLandmarks(self.near_field, self.pool_rows, ROWS)

    def _placed(
        self, points: ClassOrderedPoints, codes: Integers, precision: str | None, memory_limit: int | None, t: int
    ) -> TilePoints:
        """The points on the device, all at once where they fit."""
        if points.dtype == np.float64:
            precision = "fp64"
        precision = precision or "ieee"
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}.")
        limit = memory_limit
        if limit is None:
            limit = int(0.9 * free_device_memory()) if self.device.type == "cuda" else 2 << 30
        n, point = points.n_points, DevicePoints.bytes_per_point(points.n_features, precision)
        beside = n * (32 + 96 * t) + len(self.pool.rows) * point + 8 * torch_landmarks.BATCH_BYTES[self.device.type]
        fits = n * point + max(beside, DevicePoints.converting_bytes(precision)) <= limit
        if precision == "fp16" and not fits:
            precision = "tf32"  # copies are as large, and no coordinate is out of range
        try:
            return TilePoints(points, codes, self.order, self.device, precision, resident=fits)
        except InputError:
            if precision != "fp16":
                raise
        # Some coordinate is out of range.
        return TilePoints(points, codes, self.order, self.device, "tf32", resident=fits)

    def _reach(self, reach: Any, norms: Any) -> Any:
        """Distances below which a pair that is not listed was missed, in units of the rounded points."""
        reach = reach.to(norms.dtype) * self.points.scale
        if self.points.precision in ("fp16", "tf32"):
            reach = reach - norms.sqrt() * (ROUNDED / self._host_points.n_features**0.5)
        return reach

    def pair_lengths(self, seed: int, wanted: int) -> Floats:
        """Distances of random pairs of points, as `clorg_scale.rld.points.pair_sample` takes them."""
        if not self.points.resident:
            return pair_sample(self._host_points, seed, wanted)
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(place))
        here, there = (place[ends] for ends in random_pairs(len(place), seed, wanted))
        step, lengths = max(1, PAIR_NUMBERS[self.device.type] // self.points.d), []
        for start in range(0, len(here), step):
            apart = self.points.rows(here[start : start + step]) - self.points.rows(there[start : start + step])
            lengths.append(apart.square_().sum(1).sqrt_())
        return np.asarray(torch.cat(lengths).cpu().numpy()) / self.points.scale

    def sum_of_squares(self, unit: float) -> float | None:
        """Sum of the squared norms of all points in units of `unit`; None where they are not all here."""
        if not self.points.resident:
            return None
        assert self.points._all is not None
        return float(self.points._all.norms.sum(dtype=torch.float64)) / (self.points.scale * unit) ** 2

    def kernel_pass(
        self, rates: Floats, squared: Integers, wanted: int, finite_population: float, advance: Advance
    ) -> KernelSums:
        """Pass 1: r of each point, and what leaving out groups does to it."""
        n, t = self.points.n, len(rates)
        on_rates = torch.as_tensor(rates, device=self.device)
        near_logs = self.near_field.log_sums(on_rates)
        log_r, variances = (torch.empty_like(near_logs) for _ in range(2))
        changes = torch.empty((n, t, GROUPS), dtype=torch.int16, device=self.device)
        for batch in self._batches(wanted, advance):
            rows, b = batch.rows, len(batch.columns)
            shift = self.near_field.nearest[rows, None] * on_rates + HEADROOM
            sums = torch_landmarks.kernel_terms(
                batch.distance, batch.weights, rates / self.points.scale, squared,
                torch_landmarks.by_tile(shift.to(batch.distance.dtype), b), 2.0**HEADROOM,
            ).flatten(0, 1)[: rows.stop - rows.start]  # fmt: skip
            r = torch.exp2(near_logs[rows] - shift) + sums.sum(2)
            log_r[rows] = torch.log2(r) + shift
            changes[rows], variances[rows] = relative_changes(sums, r, finite_population)
        return KernelSums(log_r, variances, changes)

    def affinity_pass(
        self, rates: Floats, squared: Integers, wanted: int, found: KernelSums, column_logs: Any, jackknife: Jackknife,
        advance: Advance,
    ) -> tuple[Any, Any, Floats, Jackknife]:  # fmt: skip
        """Pass 2: (n, t) k and w of each point, (t,) sum of the squares of all affinities, the jackknife's sums."""
        on_rates = torch.as_tensor(rates, device=self.device)
        k, w, of_squares = self.near_field.affinities(on_rates, found.log_r, column_logs, self.codes)
        dtype, pool_codes = self.l_norms.dtype, self.codes[self.pool_rows]
        row_logs = self._logs(found.log_r, squared, HEADROOM).to(dtype)
        pool_logs = self._logs(column_logs[self.pool_rows], squared, 0).to(dtype)
        adding = TorchJackknife(jackknife, self.device)
        for batch in self._batches(wanted, advance):
            rows, b = batch.rows, len(batch.columns)
            own_codes = torch_landmarks.by_tile(self.codes[rows], b)
            sums, squares = torch_landmarks.affinity_terms(
                batch.distance, batch.weights, 2 * rates / self.points.scale, squared,
                torch_landmarks.by_tile(row_logs[rows], b), pool_logs[batch.columns],
                own_codes[:, :, None] == pool_codes[batch.columns][:, None, :],
            )  # fmt: skip
            here = rows.stop - rows.start
            of_squares += squares.flatten(0, 1)[:here].sum(0) * 4.0**HEADROOM
            sums = sums.flatten(1, 2)[:, :here] * 2.0**HEADROOM
            tiles = torch.arange(rows.start, rows.stop, device=self.device) // ROWS
            k[rows], w[rows] = adding.add(k[rows], w[rows], sums, found.changes[rows], self.codes[rows], tiles)
        return k, w, of_squares.cpu().numpy(), adding.result()

    def _logs(self, logs: Any, squared: Integers, headroom: int) -> Any:
        """(p, t) what the tiles want: l, or the factors of the squares of another temperature's affinities."""
        result = logs + headroom
        for t, root in enumerate(squared.tolist()):
            if root >= 0:
                result[:, t] = torch.exp2(2 * logs[:, root] - logs[:, t] + headroom)
        return result

    def _batches(self, wanted: int, advance: Advance) -> Iterator[_Batch]:
        """All tiles with their landmarks, several at a time."""
        draws = TorchPool(self.pool, wanted, self.device)
        itemsize, d = self.l_norms.element_size(), self.L.shape[1]
        room = torch_landmarks.BATCH_BYTES[self.device.type]
        step = max(1, room // (draws.n_landmarks * (ROWS * itemsize + d * self.L.element_size())))
        for panel in self.points.panels():
            first_tile, end = panel.start // ROWS, panel.start + len(panel.x)
            for tile in range(first_tile, -(-end // ROWS), step):
                last = min(-(-end // ROWS), tile + step)
                rows = slice(tile * ROWS, min(end, last * ROWS))
                yield self._batch(draws, panel, rows, tile, last)
                advance((rows.stop - rows.start) * draws.n_landmarks)

    def _batch(self, draws: TorchPool, panel: Panel, rows: slice, tile: int, last: int) -> _Batch:
        """The tiles tile..last, whose points are in the panel."""
        landmarks, b = draws.draw(tile, last), last - tile
        m = landmarks.columns.shape[1]
        columns = landmarks.columns.clamp(min=0)
        here = slice(rows.start - panel.start, rows.stop - panel.start)
        reach = self._reach(self.near_field.reach[rows], panel.norms[here])
        of_tiles = (torch_landmarks.by_tile(array, b) for array in (panel.norms[here], reach))
        x_norm, x_reach = of_tiles
        distance = torch_landmarks.tile_distances(
            torch_landmarks.by_tile(panel.x[here], b), self.L.index_select(0, columns.view(-1)).view(b, m, -1), x_norm,
            self.l_norms[columns], x_reach, torch.where(landmarks.columns < 0, torch.inf, self.l_reach[columns]), NEAR,
            tf32=self.points.precision == "tf32",
        )  # fmt: skip
        point, place = self.near_landmarks.of_tiles(tile, last)
        drawn, slot = draws.slots_of(landmarks, point // ROWS, place)
        distance.view(-1)[(point * m + slot)[drawn]] = torch.inf
        return _Batch(rows, distance, columns, landmarks.weights.to(distance.dtype))

    def spread(
        self, temperatures: Floats, mean_distance: float, log_r: Any, k: Any, of_squares: Floats, seed: int
    ) -> Floats:
        """(t,) sum of B^2 over all pairs, as `clorg_scale.rld.null.affinity_spread` finds it on some rows.

        log_r (n, t) in base 2.
        """
        n = self.points.n
        chosen = np.random.default_rng([seed, n]).permutation(n)[:SAMPLED_ROWS]
        rows = torch.as_tensor(chosen, device=self.device)
        X, norms = self.points.gathered(chosen)
        X, dtype = X.to(norms.dtype), norms.dtype
        totals = k.sum(0)
        shares, logs = (k / totals).to(dtype), log_r.to(dtype)
        rates = (-2 * np.log2(np.e) / (mean_distance * self.points.scale * temperatures)).tolist()
        sums = torch.zeros((2, len(rates)), dtype=torch.float64, device=self.device)
        step = max(1, PAIR_NUMBERS[self.device.type] // self.points.d)
        for panel in self.points.panels():
            for first in range(0, len(panel.x), step):
                some = panel.slice(first, min(len(panel.x), first + step))
                part = slice(some.start, some.start + len(some.x))
                square = torch.addmm(norms[:, None] + some.norms, X, some.x.to(dtype).T, alpha=-2)
                distance = square.clamp_min_(0).sqrt_()
                distance.masked_fill_(
                    rows[:, None] == torch.arange(part.start, part.stop, device=self.device), torch.inf
                )
                for t, rate in enumerate(rates):
                    B = torch.exp2(rate * distance - logs[rows, t][:, None] - logs[part, t]) / totals[t].to(dtype)
                    sums[0, t] += B.square().sum(dtype=torch.float64)
                    B -= shares[rows, t][:, None] * shares[part, t]
                    sums[1, t] += B.square().sum(dtype=torch.float64)
        of_A, of_B = sums.cpu().numpy()
        return np.asarray(of_squares / totals.cpu().numpy() ** 2 * of_B / of_A)

    def handed_out(self, values: Any, factor: float = 1.0) -> Floats:
        """(t, n) in main memory and in the order of the embeddings, from (n, t)."""
        result = torch.empty(values.shape[::-1], dtype=torch.float64, device=self.device)
        result[:, torch.as_tensor(self.order, device=self.device)] = values.T * factor
        return np.asarray(result.cpu().numpy())
