"""Exact RLD on the CPU: panels of points, cut into tiles for the compiled loops of `clorg_scale.rld.exact.tiles_numba`.

Pairs of panels are tasks that workers can share. Their sums are added in a fixed order, so the result does not depend
on the number of threads or workers. In pass 2 the exponent 2 d / (mu T) + log r_i + log r_j is taken in one piece, so
that nothing under- or overflows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.memory import check_memory
from clorg_scale.counted import counted
from clorg_scale.distributed import Map
from clorg_scale.numerics.exp2 import smallest_exp2
from clorg_scale.numerics.interrupts import held_interrupts
from clorg_scale.progress import Advance
from clorg_scale.rld.exact import passes
from clorg_scale.rld.exact import tiles_numba as tiles
from clorg_scale.rld.exact.passes import AffinitySums, Engine, ExactSums, KernelSums
from clorg_scale.rld.exact.tiles_numba import TILE, ClassSpans, Exponents, Logs, PanelPair
from clorg_scale.rld.points import (
    NEAR,
    ClassOrderedPoints,
    ColumnDistances,
    distances_to_all,
    pair_sample,
    positive_mean,
)
from clorg_scale.rld.temperatures import logs_or_factors, rates, square_of
from clorg_scale.rld.types import Floats, Integers

__all__ = ["CPUEngine", "exact_bytes", "exact_sums"]

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
    """Sum the affinities of every point at every temperature, by `clorg_scale.rld.exact.passes.exact_sums`.

    `seed` moves the result by less than 1e-7 in float32. `memory_limit`: bytes that the sums and panels may take beside
    the embeddings; one that is too small is refused. `advance` is called with the number of pairs done. `ordered_map`
    maps the pairs of panels (`clorg_scale.distributed.ordered_map`); None computes them here.
    """
    most = MOST_PANEL_ROWS
    if ordered_map is not None:  # some 136 pairs of panels, not too small to be gathered
        most = min(most, max(LEAST_SHARED_ROWS, -(-points.n_points // (16 * TILE)) * TILE))
    panel_rows = _panel_rows(points, len(temperatures), memory_limit, most=most)

    def engine_for(falling: Floats) -> CPUEngine:
        return CPUEngine(_Panels(points, panel_rows), falling, ordered_map or map, advance)

    return passes.exact_sums(engine_for, points, temperatures, seed)


def _panel_rows(points: ClassOrderedPoints, n_temperatures: int, memory_limit: int | None, *, most: int) -> int:
    """The largest panel that the memory limit allows."""
    n, d, size = points.n_points, points.n_features, points.dtype.itemsize
    rows = min(most, -(-n // TILE) * TILE)
    if memory_limit is None:
        return rows
    while rows > TILE and exact_bytes(n, d, size, n_temperatures, panel_rows=rows) > memory_limit:
        rows -= TILE
    least = exact_bytes(n, d, size, n_temperatures)
    check_memory(memory_limit, least, f"Exact RLD of {n} points with {counted(d, 'feature')}")
    return rows


def exact_bytes(n: int, d: int, itemsize: int, n_temperatures: int, *, panel_rows: int = TILE) -> int:
    """Memory of the exact method beside the embeddings; by default with its smallest panels."""
    n_tiles = max(1, panel_rows // TILE) ** 2
    sums = (6 * n_temperatures + 4) * n * 8
    return sums + panel_rows * (2 * d * itemsize + 16) + n_tiles * 2 * (1 + 2 * n_temperatures) * TILE * 8


class CPUEngine(Engine):
    """The `clorg_scale.rld.exact.passes.Engine` of compiled loops."""

    xp: Any = np
    scale, kernels = 1.0, "numba"

    def __init__(self, panels: _Panels, temperatures: Floats, ordered_map: Map, advance: Advance) -> None:
        self.panels, self.points, self.temperatures = panels, panels.points, temperatures
        self._map, self._advance = ordered_map, advance
        self._square_of = square_of(temperatures)

    def guess_mean_distance(self, seed: int) -> float:
        """Mean distance of random pairs; of all in float64."""
        if self.points.dtype != np.float64:
            lengths = pair_sample(self.points, seed, N_RANDOM_PAIRS)
            return positive_mean(float(lengths.mean()))
        without = CPUEngine(self.panels, np.empty(0), self._map, self._advance)
        return passes.mean_distance(without.kernel_pass(1.0).distance_sum, self.points.n_points)

    def kernel_pass(self, mu: float) -> KernelSums:
        """Pass 1."""
        t = len(self.temperatures)
        sums = self._sum_pairs(1 + 2 * t, _PairTask(self.panels, self._exponents(mu)))
        return KernelSums(sums[1 : 1 + t], sums[1 + t :], sums[0].sum() / 2)

    def rescue_log_r(self, mu: float, R: Floats, log_r: Floats) -> tuple[Floats, Booleans]:
        """Sum again the rows whose R is not far above what `exp2` returns for zero."""
        accurate: Booleans = R >= self.points.n_points * smallest_exp2(self.points.dtype) * 2.0**27
        return passes.rescued_log_r(self, mu, log_r, accurate), accurate

    def affinity_pass(self, mu: float, log_r: Floats) -> AffinitySums:
        """Pass 2."""
        t = len(self.temperatures)
        logs = logs_or_factors(log_r / np.log(2), self._square_of).astype(self.points.dtype)
        sums = self._sum_pairs(3 * t, _PairTask(self.panels, self._exponents(mu / 2), logs))
        apart, within, squares = sums[:t], sums[t : 2 * t], sums[2 * t :]
        return AffinitySums(apart + within, within, 2 * squares.sum(axis=1))

    def rescue_affinities(self, mu: float, log_r: Floats, sums: AffinitySums) -> tuple[AffinitySums, Booleans]:
        """Sum again in float64 the rows whose k is not far above what pass 2 makes of zero."""
        n, codes = self.points.n_points, self.points.codes
        largest = logs_or_factors(log_r / np.log(2), self._square_of).max(axis=1)
        factors = np.where(self._square_of < 0, 1.0, largest)[:, None]
        zero = smallest_exp2(self.points.dtype) * factors**2
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

    def distances_to_all(self, rows: Integers) -> Iterator[ColumnDistances]:
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

    def _sum_pairs(self, n_sums: int, task: Callable[[tuple[int, int]], tuple[Floats, Floats]]) -> Floats:
        """(n_sums, n) of all pairs of panels, added in their order."""
        into, pairs = np.zeros((n_sums, self.points.n_points)), self.panels.pairs()
        for first, (over_rows, over_columns) in zip(pairs, self._map(task, pairs), strict=True):
            rows, columns = self.panels.slices(first)
            into[:, rows] += over_rows
            into[:, columns] += over_columns
            p, q = over_rows.shape[1], over_columns.shape[1]
            self._advance(p * (p - 1) // 2 if rows == columns else p * q)
        return into


class _Panels:
    """Panels of `panel_rows` consecutive points; the last row panel, and the memory of both, serve again."""

    def __init__(self, points: ClassOrderedPoints, panel_rows: int) -> None:
        self.points, self.panel_rows = points, panel_rows
        self._spaces: list[npt.NDArray[Any]] = []
        self._cached: tuple[int, npt.NDArray[Any], npt.NDArray[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spaces": [], "_cached": None}

    def pairs(self) -> list[tuple[int, int]]:
        """First points of all pairs of panels on or above the diagonal."""
        starts = range(0, self.points.n_points, self.panel_rows)
        return [(i, j) for i in starts for j in starts[i // self.panel_rows :]]

    def slices(self, first: tuple[int, int]) -> tuple[slice, slice]:
        """Positions of the points of the panels that begin at these."""
        rows, columns = (slice(i, min(self.points.n_points, i + self.panel_rows)) for i in first)
        return rows, columns

    def pair(self, first: tuple[int, int]) -> PanelPair:
        """The panels that begin at these points."""
        rows, columns = self.slices(first)
        if self._cached is None or self._cached[0] != rows.start:
            self._cached = (rows.start, *self._panel(rows, 0))
        _, X, x_norms = self._cached
        Y, y_norms = (X, x_norms) if columns == rows else self._panel(columns, 1)
        pairs = tiles.tile_pairs(len(X), len(Y), diagonal=columns == rows)
        return PanelPair(X, Y, x_norms, y_norms, pairs, columns == rows)

    def _panel(self, positions: slice, number: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Coordinates and squared norms; their memory, used again, costs a fraction of new one."""
        while number >= len(self._spaces):
            shape = (min(self.points.n_points, self.panel_rows), self.points.n_features)
            self._spaces.append(np.empty(shape, self.points.dtype))
        panel = self.points.rows(self.points.order[positions], space=self._spaces[number])
        return panel, np.einsum("ij,ij->i", panel, panel)


@dataclass(frozen=True)
class _PairTask:
    """A pass of one pair of panels: sums over the rows (s, p) and over the columns (s, q) of all its tiles.

    With `logs`, the (t, n) of `logs_or_factors`, pass 2: affinities to other classes, to the same class, and squares of
    all (3t, .). Without, pass 1: distances, exponentials, and products of both (1 + 2t, .).
    """

    panels: _Panels
    exponents: Exponents
    logs: npt.NDArray[Any] | None = None

    def __call__(self, first: tuple[int, int]) -> tuple[Floats, Floats]:
        pair, (rows, columns) = self.panels.pair(first), self.panels.slices(first)
        with held_interrupts():
            if self.logs is None:
                sums = tiles.kernel_sums(pair, self.exponents)
            else:
                logs = Logs(
                    *(np.ascontiguousarray(self.logs[:, side]) for side in (rows, columns))
                )  # one type to compile for
                spans = ClassSpans(*self.panels.points.same_class(rows.start, rows.stop, columns.start))
                sums = tiles.affinity_sums(pair, self.exponents, logs, spans)
            over_rows, over_columns = (np.zeros((sums[0].shape[1], len(panel))) for panel in (pair.X, pair.Y))
            # Tile after tile in a fixed order.
            tiles.add_tiles(sums[0], pair.tiles[:, 0].copy(), over_rows)
            tiles.add_tiles(sums[1], pair.tiles[:, 1].copy(), over_columns)
        return over_rows, over_columns
