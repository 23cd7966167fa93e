"""Exact RLD on the CPU: panels of points, cut into tiles for the compiled loops of `clorg_scale.rld.exact.tiles_numba`.

Pairs of panels are tasks that workers can share. Their sums are added in a fixed order, so the result does not depend
on the number of threads or workers. In pass 2 the exponent 2 d / (mu T) + log r_i + log r_j is taken in one piece, so
that nothing under- or overflows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from clorg_scale.distributed import Map
from clorg_scale.errors import InputError
from clorg_scale.numerics.exp2 import smallest_exp2
from clorg_scale.numerics.interrupts import held_interrupts
from clorg_scale.progress import Advance
from clorg_scale.rld.exact import passes
from clorg_scale.rld.exact.passes import AffinitySums, ExactSums, KernelSums
from clorg_scale.rld.exact.tiles_numba import (
    TILE,
    ClassSpans,
    Exponents,
    Logs,
    PanelPair,
    add_tiles,
    affinity_sums,
    kernel_sums,
    tile_pairs,
)
from clorg_scale.rld.points import NEAR, ClassOrderedPoints, ColumnDistances, distances_to_all, pair_sample
from clorg_scale.rld.temperatures import logs_and_factors, rates, square_of

__all__ = ["CPUEngine", "check_exact_memory", "exact_bytes", "exact_sums"]

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

MOST_PANEL_ROWS = 12_288
"""Points in a panel: gathering one costs a hundredth of the matrix product it is used in."""

LEAST_SHARED_ROWS = 2_048
"""Points in a panel at least where workers share the pairs of panels."""

N_RANDOM_PAIRS = 500_000
"""Random pairs for the first estimate of mu."""


def exact_sums(
    points: ClassOrderedPoints,
    temperatures: Floats,
    *,
    seed: int = 0,
    memory_limit: int | None = None,
    advance: Advance,
    ordered_map: Map | None = None,
) -> ExactSums:
    """Sum the affinities of every point at every temperature.

    Parameters
    ----------
    points
        The embeddings in class order.
    temperatures
        (t,) T > 0.
    seed
        Seed of the random pairs for the first estimate of mu; in float32 it moves the result by less than 1e-7.
    memory_limit
        Bytes that the sums and panels may take beside the embeddings.
    advance
        Called with the number of pairs done.
    ordered_map
        Maps the pairs of panels (`clorg_scale.distributed.ordered_map`); None computes them here.

    Raises
    ------
    InputError
        If all points are identical (mu = 0), or the memory limit is too small.
    """
    most = MOST_PANEL_ROWS if ordered_map is None else _shared_rows(points)
    panel_rows = _panel_rows(points, len(temperatures), memory_limit, most=most)

    def engine_for(falling: Floats) -> CPUEngine:
        return CPUEngine(_Panels(points, panel_rows), falling, ordered_map or map, advance)

    return passes.exact_sums(engine_for, points, temperatures, seed)


def _shared_rows(points: ClassOrderedPoints) -> int:
    """Points in a panel where many share the work: some 136 pairs of panels, not too small to be gathered."""
    return min(MOST_PANEL_ROWS, max(LEAST_SHARED_ROWS, -(-points.n_points // (16 * TILE)) * TILE))


def _panel_rows(points: ClassOrderedPoints, n_temperatures: int, memory_limit: int | None, *, most: int) -> int:
    """The largest panel that the memory limit allows."""
    n, d, size = points.n_points, points.n_features, points.dtype.itemsize
    rows = min(most, -(-n // TILE) * TILE)
    if memory_limit is None:
        return rows
    while rows > TILE and exact_bytes(n, d, size, n_temperatures, panel_rows=rows) > memory_limit:
        rows -= TILE
    check_exact_memory(n, d, size, n_temperatures, memory_limit)
    return rows


def exact_bytes(n: int, d: int, itemsize: int, n_temperatures: int, *, panel_rows: int = TILE) -> int:
    """Memory of the exact method beside the embeddings; by default with its smallest panels."""
    tiles = max(1, panel_rows // TILE) ** 2
    sums = (6 * n_temperatures + 4) * n * 8
    return sums + panel_rows * (2 * d * itemsize + 16) + tiles * 2 * (1 + 2 * n_temperatures) * TILE * 8


def check_exact_memory(n: int, d: int, itemsize: int, n_temperatures: int, memory_limit: int) -> None:
    """Check that the exact method fits.

    Raises
    ------
    InputError
        If it does not; says what would.
    """
    least = exact_bytes(n, d, itemsize, n_temperatures)
    if least > memory_limit:
        raise InputError(
            f"The memory limit of {memory_limit / 1e6:.0f} MB is too small for exact RLD of {n} points "
            f"with {d} features; at least {-(-least // 1_000_000)} MB are needed."
        )


class CPUEngine:
    """The `clorg_scale.rld.exact.passes.Engine` of compiled loops."""

    xp, scale, kernels = np, 1.0, "numba"

    def __init__(self, panels: _Panels, temperatures: Floats, ordered_map: Map, advance: Advance) -> None:
        self.panels, self.points, self.temperatures = panels, panels.points, temperatures
        self._map, self._advance = ordered_map, advance
        self._square_of = square_of(temperatures)

    def guess_mean_distance(self, seed: int) -> float:
        """Mean distance of random pairs; of all in float64."""
        if self.points.dtype != np.float64:
            lengths = pair_sample(self.points, seed, N_RANDOM_PAIRS)
            return passes.positive_mean(float(lengths.mean()))
        without = CPUEngine(self.panels, np.empty(0), self._map, self._advance)
        return passes.mean_distance(without.kernel_pass(1.0).distance_sum, self.points.n_points)

    def kernel_pass(self, mu: float) -> KernelSums:
        """Pass 1."""
        t = len(self.temperatures)
        sums = self._sum_pairs(1 + 2 * t, _KernelTask(self.panels, self._exponents(mu)))
        return KernelSums(sums[1 : 1 + t], sums[1 + t :], sums[0].sum() / 2)

    def rescue_log_r(self, mu: float, R: Floats, log_r: Floats) -> tuple[Floats, Booleans]:
        """Sum again the rows whose R is not far above what `exp2` returns for zero."""
        accurate: Booleans = R >= self.points.n_points * smallest_exp2(self.points.dtype) * 2.0**27
        return passes.rescued_log_r(self, mu, log_r, accurate), accurate

    def affinity_pass(self, mu: float, log_r: Floats) -> AffinitySums:
        """Pass 2."""
        t = len(self.temperatures)
        logs, factors = logs_and_factors(log_r, self._square_of)
        logs = np.where(self._square_of[:, None] < 0, logs, factors).astype(self.points.dtype)
        sums = self._sum_pairs(3 * t, _AffinityTask(self.panels, self._exponents(mu / 2), logs))
        apart, within, squares = sums[:t], sums[t : 2 * t], sums[2 * t :]
        return AffinitySums(apart + within, within, 2 * squares.sum(axis=1))

    def rescue_affinities(self, mu: float, log_r: Floats, sums: AffinitySums) -> tuple[AffinitySums, Booleans]:
        """Sum again in float64 the rows whose k is not far above what pass 2 makes of zero."""
        n, codes = self.points.n_points, self.points.codes
        factors = logs_and_factors(log_r, self._square_of)[1]
        zero = smallest_exp2(self.points.dtype) * factors.max(axis=1, keepdims=True) ** 2
        accurate: Booleans = sums.k >= n * zero * 2.0**20
        for rows in passes.groups_of_rows(accurate):
            again = np.zeros((2, len(self.temperatures), len(rows)))
            for span, distances, _ in self.distances_to_all(rows):
                own = codes[rows, None]
                same = (own == codes[span]) & (own >= 0)
                for t, temperature in enumerate(self.temperatures):
                    A = np.exp(-2 * distances / (mu * temperature) - log_r[t, rows, None] - log_r[t, span])
                    again[0, t] += A.sum(axis=1)
                    again[1, t] += (A * same).sum(axis=1)
            for array, found in zip((sums.k, sums.w), again, strict=True):
                array[:, rows] = np.where(accurate[:, rows], array[:, rows], found)
        return sums, accurate

    def spread(self, mu: float, log_r: Floats, sums: AffinitySums, seed: int) -> None:
        """None: `clorg_scale.rld.null` finds it from the squares."""

    def distances_to_all(self, rows: npt.NDArray[np.int64]) -> Iterator[ColumnDistances]:
        """Float64 distances of some positions to all, a panel at a time."""
        points, step = self.points, self.panels.panel_rows

        def block(start: int) -> npt.NDArray[Any]:
            return points.rows(points.order[start : start + step], dtype=np.float64)

        blocks = ((start, block(start)) for start in range(0, points.n_points, step))
        return distances_to_all(rows, points.rows(points.order[rows], dtype=np.float64), blocks, np)

    def _exponents(self, mu: float) -> Exponents:
        dtype = self.points.dtype
        floor = dtype.type(np.sqrt(smallest_exp2(dtype)))
        return Exponents(rates(self.temperatures, mu).astype(dtype), self._square_of, dtype.type(NEAR), floor)

    def _sum_pairs(self, n_sums: int, task: Callable[[tuple[int, int]], _PairSums]) -> Floats:
        """(n_sums, n) of all pairs of panels, added in their order."""
        into = np.zeros((n_sums, self.points.n_points))
        for sums in self._map(task, self.panels.pairs()):
            into[:, sums.rows] += sums.over_rows
            into[:, sums.columns] += sums.over_columns
            self._advance(sums.n_pairs)
        return into


@dataclass(frozen=True)
class _PairSums:
    """Sums of one pair of panels: `over_rows` (s, p) of the points at `rows`, `over_columns` (s, q) at `columns`."""

    rows: slice
    columns: slice
    over_rows: Floats
    over_columns: Floats

    @property
    def n_pairs(self) -> int:
        """Pairs of points."""
        n: int = self.over_rows.shape[1]
        return n * (n - 1) // 2 if self.rows == self.columns else n * int(self.over_columns.shape[1])


class _Panels:
    """Panels of consecutive points; the last row panel, and the memory of both, serve the next pair again.

    Parameters
    ----------
    points
        The embeddings in class order.
    panel_rows
        Points in a panel.
    """

    def __init__(self, points: ClassOrderedPoints, panel_rows: int) -> None:
        self.points, self.panel_rows = points, panel_rows
        self._spaces: list[npt.NDArray[Any]] = []
        self._cached: tuple[int, npt.NDArray[Any], npt.NDArray[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spaces": [], "_cached": None}

    def pairs(self) -> Iterator[tuple[int, int]]:
        """First points of all pairs of panels on or above the diagonal."""
        starts = range(0, self.points.n_points, self.panel_rows)
        return ((i, j) for i in starts for j in starts[i // self.panel_rows :])

    def slices(self, first: tuple[int, int]) -> tuple[slice, slice]:
        """Positions of the points of the panels that begin at these."""
        rows, columns = (slice(i, min(self.points.n_points, i + self.panel_rows)) for i in first)
        return rows, columns

    def pair(self, first: tuple[int, int]) -> PanelPair:
        """The panels that begin at these points."""
        rows, columns = self.slices(first)
        if self._cached is None or self._cached[0] != rows.start:
            self._cached = (rows.start, *self.points.panel(rows.start, rows.stop, self._space(0)))
        _, X, x_norms = self._cached
        Y, y_norms = (X, x_norms) if columns == rows else self.points.panel(columns.start, columns.stop, self._space(1))
        tiles = tile_pairs(len(X), len(Y), diagonal=columns == rows)
        return PanelPair(X, Y, x_norms, y_norms, tiles, columns == rows)

    def add_up(self, first: tuple[int, int], pair: PanelPair, sums: tuple[Floats, Floats]) -> _PairSums:
        """Add the (tiles, s, TILE) sums over rows and columns of the tiles, tile after tile in a fixed order."""
        over = []
        for of_tiles, positions, panel in zip(sums, pair.tiles.T.copy(), (pair.X, pair.Y), strict=True):
            over.append(np.zeros((of_tiles.shape[1], len(panel))))
            add_tiles(of_tiles, positions, over[-1])
        return _PairSums(*self.slices(first), *over)

    def _space(self, number: int) -> npt.NDArray[Any]:
        """Memory of a panel: used again, it costs a fraction of new one."""
        while number >= len(self._spaces):
            shape = (min(self.points.n_points, self.panel_rows), self.points.n_features)
            self._spaces.append(np.empty(shape, self.points.dtype))
        return self._spaces[number]


@contextmanager
def _tile_threads() -> Iterator[int]:
    """Number of threads, for each of which BLAS has one."""
    from numba import get_num_threads

    with threadpool_limits(limits=1, user_api="blas"), held_interrupts():
        yield get_num_threads()


@dataclass(frozen=True)
class _KernelTask:
    """Pass 1: sums of distances, of exponentials, of their products (1 + 2t, .)."""

    panels: _Panels
    exponents: Exponents

    def __call__(self, first: tuple[int, int]) -> _PairSums:
        pair = self.panels.pair(first)
        with _tile_threads() as n_threads:
            return self.panels.add_up(first, pair, kernel_sums(pair, self.exponents, n_threads))


@dataclass(frozen=True)
class _AffinityTask:
    """Pass 2: affinities to other classes, to the same class, squares of all (3t, .)."""

    panels: _Panels
    exponents: Exponents
    logs: npt.NDArray[Any]

    def __call__(self, first: tuple[int, int]) -> _PairSums:
        pair, (rows, columns) = self.panels.pair(first), self.panels.slices(first)
        logs = Logs(self.logs[:, rows], self.logs[:, columns])
        spans = ClassSpans(*self.panels.points.same_class(rows.start, rows.stop, columns.start))
        with _tile_threads() as n_threads:
            return self.panels.add_up(first, pair, affinity_sums(pair, self.exponents, logs, spans, n_threads))
