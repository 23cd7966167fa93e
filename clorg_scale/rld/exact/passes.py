r"""Exact RLD in O(n) memory: two symmetric kernel mat-vecs, tile by tile.

With d_ij the Euclidean distances and mu their mean (arXiv 2305.10229; A is its affinity matrix),

    E_ij = exp(-d_ij / (mu T)),  E_ii = 0        r_i = sum_j E_ij
    A_ij = E_ij^2 / (r_i r_j)                    k_i = sum_j A_ij,   w_i = sum over j of i's class of A_ij

**Pass 1** gives r. It needs mu, which is itself a sum over all pairs; instead of a pass of its own, an estimate
mu_0 from random pairs (relative error about 4e-4) stands in, and the pass sums d_ij (hence mu) and d_ij E_ij too:

    log r(mu) = log r(mu_0) + (log mu - log mu_0) sum_j (d_ij / (mu_0 T)) E_ij / r_i(mu_0) + O((log mu / mu_0)^2)

whose remainder is below 1e-7. In float64 a pass over the distances alone gives mu first.
**Pass 2** gives k and w with the exponent 2 d / (mu T) + log r_i + log r_j in one piece, so that nothing under-
or overflows. Rows whose r or k is too small for float32 (outliers at small T) are summed again in float64.

Work: 2 n^2 d FLOP in matrix products for any number of temperatures; memory: O(n) and two panels of points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from clorg_scale.arrays import on_host
from clorg_scale.distributed import Map
from clorg_scale.errors import InputError
from clorg_scale.numerics.compiled import pair_lengths, readable
from clorg_scale.numerics.exp2 import smallest_exp2
from clorg_scale.numerics.interrupts import held_interrupts
from clorg_scale.progress import Advance
from clorg_scale.rld.exact.tiles_numba import NEAR, TILE, add_tiles, affinity_sums, kernel_sums, squares, tile_pairs
from clorg_scale.rld.points import ClassOrderedPoints

__all__ = ["ExactSums", "check_exact_memory", "exact_bytes", "exact_sums", "n_pair_visits", "random_pair_mean"]

Floats = npt.NDArray[np.float64]

MOST_PANEL_ROWS = 12_288
"""Points in a panel: gathering one costs a hundredth of the matrix product it is used in."""

LEAST_SHARED_ROWS = 2_048
"""Points in a panel at least where workers share the pairs of panels."""

N_RANDOM_PAIRS = 500_000
"""Random pairs for the first estimate of mu."""

PAIR_BLOCK = 2**23
"""Coordinates of random pairs gathered at once."""


@dataclass(frozen=True)
class ExactSums:
    """What RLD is made of, in the order of the embeddings.

    Attributes
    ----------
    k
        (t, n) affinity of each point to all others, in units of A / n^2.
    w
        (t, n) the part of k that goes to points of the same class; 0 where unlabelled.
    log_r
        (t, n) natural logarithm of r: how crowded each point's surroundings are.
    mean_distance
        mu.
    n_rescued
        (t,) rows whose r or k was summed again in float64.
    squares
        (t,) sum of the squares of all affinities; None where `spread` is known.
    spread
        (t,) sum of B^2 (see `clorg_scale.rld.null`), estimated from a sample of rows; None from a CPU.
    """

    k: Floats
    w: Floats
    log_r: Floats
    mean_distance: float
    n_rescued: npt.NDArray[np.int64]
    squares: Floats | None = None
    spread: Floats | None = None


def n_pair_visits(points: ClassOrderedPoints) -> float:
    """Pairs of points that `exact_sums` visits in all its passes, for the progress bar."""
    passes = 3 if points.dtype == np.float64 else 2
    return passes * points.n_points * (points.n_points - 1) / 2


def exact_sums(
    points: ClassOrderedPoints,
    temperatures: Floats,
    *,
    seed: int = 0,
    memory_limit: int | None = None,
    advance: Advance,
    run: Map | None = None,
) -> ExactSums:
    """Sum the affinities of every point at every temperature.

    Parameters
    ----------
    points
        The embeddings in class order.
    temperatures
        (t,) T > 0.
    seed
        Of the random pairs for the first estimate of mu; in float32 it moves the result by less than 1e-7.
    memory_limit
        Bytes that the sums and panels may take beside the embeddings.
    advance
        Told the number of pairs done.
    run
        What maps the pairs of panels (`clorg_scale.distributed.ordered_map`); None does it here.

    Raises
    ------
    InputError
        If all points are identical (mu = 0), or the memory limit is too small.
    """
    t = len(temperatures)
    panel_rows = _panel_rows(points, t, memory_limit, most=MOST_PANEL_ROWS if run is None else _shared_rows(points))
    panels, run = _Panels(points, panel_rows), run or map
    if points.dtype == np.float64:
        guess = _mean_distance(_kernel_pass(panels, np.empty(0), 1.0, run, advance)[0])
    else:
        guess = random_pair_mean(points, seed)
    sums = _kernel_pass(panels, temperatures, guess, run, advance)
    mu, R, D = _mean_distance(sums[0]), sums[1 : 1 + t], sums[1 + t :]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_r = np.log(R) + np.log(mu / guess) * D / (R * guess * temperatures[:, None])
    crowded = _rescue_log_r(points, temperatures, mu, R, log_r, panel_rows)
    k, w, of_squares = _affinity_pass(panels, temperatures, mu, log_r, run, advance)
    linked = _rescue_affinities(points, temperatures, mu, log_r, k, w, panel_rows)
    n_rescued = (~(crowded & linked)).sum(axis=1)
    back = np.empty_like(points.order)
    back[points.order] = np.arange(points.n_points)
    return ExactSums(k[:, back], w[:, back], log_r[:, back], mu, n_rescued, of_squares)


def _shared_rows(points: ClassOrderedPoints) -> int:
    """Points in a panel where many share the work: some 136 pairs of panels, not too small to be gathered."""
    return min(MOST_PANEL_ROWS, max(LEAST_SHARED_ROWS, -(-points.n_points // (16 * TILE)) * TILE))


def _panel_rows(points: ClassOrderedPoints, n_temperatures: int, memory_limit: int | None, *, most: int) -> int:
    """The largest panel that the memory limit allows."""
    n, d, size = points.n_points, points.n_features, points.dtype.itemsize
    rows = min(most, -(-n // TILE) * TILE)
    if memory_limit is None:
        return rows
    while rows > TILE and exact_bytes(n, d, size, n_temperatures, rows) > memory_limit:
        rows -= TILE
    check_exact_memory(n, d, size, n_temperatures, memory_limit)
    return rows


def exact_bytes(n: int, d: int, itemsize: int, n_temperatures: int, panel_rows: int = TILE) -> int:
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


def random_pair_mean(points: ClassOrderedPoints, seed: int) -> float:
    """Mean distance of random pairs of points."""
    return _positive(float(pair_sample(points, seed, N_RANDOM_PAIRS).mean()))


def pair_sample(points: ClassOrderedPoints, seed: int, wanted: int) -> Floats:
    """Distances of about `wanted` random pairs i, i + shift of random permutations (every pair at most once a shift).

    Each permutation has every point twice, so that how far a point is from all others cancels out.
    """
    here, there = random_pairs(points.n_points, seed, wanted)
    if not points.on_gpu and readable(points.embeddings):
        return pair_lengths(points.embeddings, here, there)
    step = max(1, PAIR_BLOCK // points.n_features)
    lengths = []
    for start in range(0, len(here), step):
        ends_here, ends_there = here[start : start + step], there[start : start + step]
        rows, first = points.rows(np.concatenate([ends_here, ends_there])), np.arange(len(ends_here))
        lengths.append(pair_lengths(on_host(rows), first, first + len(first)))
    return np.concatenate(lengths)


def random_pairs(n: int, seed: int, wanted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Both ends of the pairs of `pair_sample`, as rows of the embeddings."""
    rng = np.random.default_rng(seed)
    ends: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    count = 0
    while count < min(wanted, n * (n - 1) // 2):
        chosen = rng.permutation(n)[: min(n, wanted - count + 1)]
        ends.append((chosen, np.roll(chosen, int(rng.integers(1, len(chosen))))))
        count += len(chosen)
    here, there = (np.concatenate(side) for side in zip(*ends, strict=True))
    return here, there


def _mean_distance(distance_sum: Floats) -> float:
    """Mu from the sum of distances of each point."""
    n = len(distance_sum)
    return _positive(float(distance_sum.sum()) / (n * (n - 1)))


def _positive(mu: float) -> float:
    """Refuse points that are all the same."""
    if not mu > 0:
        raise InputError("All points are identical (their mean distance is 0); RLD is not defined for them.")
    return mu


@dataclass(frozen=True)
class _PairSums:
    """What one pair of panels adds to the sums of its points.

    `over_rows` (s, p) goes to the points at `rows`, `over_columns` (s, q) to those at `columns`.
    """

    rows: slice
    columns: slice
    over_rows: Floats
    over_columns: Floats

    @property
    def n_pairs(self) -> int:
        """Pairs of points."""
        n: int = self.over_rows.shape[1]
        return n * (n - 1) // 2 if self.rows == self.columns else n * int(self.over_columns.shape[1])


@dataclass(frozen=True)
class _PanelPair:
    """Two panels of points and the tiles they are cut into."""

    X: npt.NDArray[Any]
    Y: npt.NDArray[Any]
    x_norms: npt.NDArray[Any]
    y_norms: npt.NDArray[Any]
    rows: slice
    columns: slice
    tiles: npt.NDArray[np.int64]

    @property
    def for_loops(self) -> tuple[Any, ...]:
        """What the compiled loops take first."""
        return self.X, self.Y, self.x_norms, self.y_norms, self.tiles, self.rows == self.columns

    def add_up(self, of_rows: Floats, of_columns: Floats) -> _PairSums:
        """Add the (tiles, s, TILE) sums of the tiles, tile after tile in a fixed order."""
        over_rows = np.zeros((of_rows.shape[1], len(self.X)))
        over_columns = np.zeros((of_rows.shape[1], len(self.Y)))
        add_tiles(of_rows, self.tiles[:, 0], 0, len(self.X), over_rows)
        add_tiles(of_columns, self.tiles[:, 1], 0, len(self.Y), over_columns)
        return _PairSums(self.rows, self.columns, over_rows, over_columns)


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
        self._held: tuple[int, npt.NDArray[Any], npt.NDArray[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spaces": [], "_held": None}

    def pairs(self) -> Iterator[tuple[int, int]]:
        """First points of all pairs of panels on or above the diagonal."""
        starts = range(0, self.points.n_points, self.panel_rows)
        return ((i, j) for i in starts for j in starts[i // self.panel_rows :])

    def pair(self, first: tuple[int, int]) -> _PanelPair:
        """The panels that begin at these points."""
        rows, columns = (slice(i, min(self.points.n_points, i + self.panel_rows)) for i in first)
        if self._held is None or self._held[0] != rows.start:
            self._held = (rows.start, *self.points.panel(rows.start, rows.stop, self._space(0)))
        _, X, x_norms = self._held
        Y, y_norms = (X, x_norms) if columns == rows else self.points.panel(columns.start, columns.stop, self._space(1))
        tiles = tile_pairs(len(X), len(Y), diagonal=columns == rows)
        return _PanelPair(X, Y, x_norms, y_norms, rows, columns, tiles)

    def _space(self, number: int) -> npt.NDArray[Any]:
        """Memory of a panel: used again, it costs a fraction of new one."""
        while number >= len(self._spaces):
            shape = (min(self.points.n_points, self.panel_rows), self.points.n_features)
            self._spaces.append(np.empty(shape, self.points.dtype))
        return self._spaces[number]


@contextmanager
def _tiles_running() -> Iterator[int]:
    """Number of threads, for each of which BLAS has one."""
    from numba import get_num_threads

    with threadpool_limits(limits=1, user_api="blas"), held_interrupts():
        yield get_num_threads()


@dataclass(frozen=True)
class _KernelPass:
    """Pass 1: sums of distances, of exponentials, of their products (1 + 2t, .)."""

    panels: _Panels
    rates: npt.NDArray[Any]
    squared: npt.NDArray[np.int64]

    def __call__(self, first: tuple[int, int]) -> _PairSums:
        pair = self.panels.pair(first)
        with _tiles_running() as n_threads:
            return pair.add_up(
                *kernel_sums(
                    *pair.for_loops, self.rates, self.squared, *_constants(self.panels.points.dtype), n_threads
                )
            )


@dataclass(frozen=True)
class _AffinityPass:
    """Pass 2: affinities to other classes, to the same class, squares of all (3t, .)."""

    panels: _Panels
    rates: npt.NDArray[Any]
    squared: npt.NDArray[np.int64]
    logs: npt.NDArray[Any]

    def __call__(self, first: tuple[int, int]) -> _PairSums:
        points, pair = self.panels.points, self.panels.pair(first)
        logs = self.logs[:, pair.rows], self.logs[:, pair.columns]
        same_class = points.same_class(pair.rows.start, pair.rows.stop, pair.columns.start)
        with _tiles_running() as n_threads:
            return pair.add_up(
                *affinity_sums(
                    *pair.for_loops, self.rates, self.squared, *logs, *same_class, *_constants(points.dtype), n_threads
                )
            )


def _sum_pairs(
    panels: _Panels, n_sums: int, task: Callable[[tuple[int, int]], _PairSums], run: Map, advance: Advance
) -> Floats:
    """(n_sums, n) of all pairs of panels, added in their order."""
    into = np.zeros((n_sums, panels.points.n_points))
    for sums in run(task, panels.pairs()):
        into[:, sums.rows] += sums.over_rows
        into[:, sums.columns] += sums.over_columns
        advance(sums.n_pairs)
    return into


def _constants(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """What counts as near, and the square root of the smallest exponential."""
    return dtype.type(NEAR), dtype.type(np.sqrt(smallest_exp2(dtype)))


def _kernel_pass(panels: _Panels, temperatures: Floats, mu: float, run: Map, advance: Advance) -> Floats:
    """(1 + 2t, n) sums of distances, of exponentials, of their products."""
    rates = (-np.log2(np.e) / (mu * temperatures)).astype(panels.points.dtype)
    task = _KernelPass(panels, rates, squares(temperatures))
    return _sum_pairs(panels, 1 + 2 * len(temperatures), task, run, advance)


def _affinity_pass(
    panels: _Panels, temperatures: Floats, mu: float, log_r: Floats, run: Map, advance: Advance
) -> tuple[Floats, Floats, Floats]:
    """(t, n) affinities to all points and to those of the same class, (t,) sum of all squares."""
    t, dtype = len(temperatures), panels.points.dtype
    rates = (-2 * np.log2(np.e) / (mu * temperatures)).astype(dtype)
    logs = _logs_and_factors(temperatures, log_r)[0].astype(dtype)
    sums = _sum_pairs(panels, 3 * t, _AffinityPass(panels, rates, squares(temperatures), logs), run, advance)
    apart, within, of_squares = sums[:t], sums[t : 2 * t], sums[2 * t :]
    return apart + within, within, 2 * of_squares.sum(axis=1)


def _rescue_log_r(
    points: ClassOrderedPoints, temperatures: Floats, mu: float, R: Floats, log_r: Floats, panel_rows: int
) -> npt.NDArray[np.bool_]:
    """Sum again, in float64 with a running maximum, the rows whose R is not far above what `exp2` returns for zero.

    Returns
    -------
    (t, n) whether the first sum was good.
    """
    good: npt.NDArray[np.bool_] = R >= points.n_points * smallest_exp2(points.dtype) * 2.0**27
    for rows in _groups(~good):
        highest = np.full((len(temperatures), len(rows)), -np.inf)
        total = np.zeros_like(highest)
        for _, distances in _distances_to_all(points, rows, panel_rows):
            for t, temperature in enumerate(temperatures):
                exponents = -distances / (mu * temperature)
                new = np.maximum(highest[t], exponents.max(axis=1))
                total[t] = total[t] * np.exp(highest[t] - new) + np.exp(exponents - new[:, None]).sum(axis=1)
                highest[t] = new
        log_r[:, rows] = np.where(good[:, rows], log_r[:, rows], highest + np.log(total))
    return good


def _rescue_affinities(
    points: ClassOrderedPoints,
    temperatures: Floats,
    mu: float,
    log_r: Floats,
    k: Floats,
    w: Floats,
    panel_rows: int,
) -> npt.NDArray[np.bool_]:
    """Sum again in float64 the affinities of rows whose k is not far above what pass 2 makes of zero.

    Returns
    -------
    (t, n) whether the first sum was good.
    """
    n = points.n_points
    _, factors = _logs_and_factors(temperatures, log_r)
    zero = smallest_exp2(points.dtype) * factors.max(axis=1, keepdims=True) ** 2
    good: npt.NDArray[np.bool_] = k >= n * zero * 2.0**20
    for rows in _groups(~good):
        same_start, same_stop = points.same_class(0, n, 0)
        again = np.zeros((2, len(temperatures), len(rows)))
        for span, distances in _distances_to_all(points, rows, panel_rows):
            columns = np.arange(span.start, span.stop)
            same = (columns >= same_start[rows, None]) & (columns < same_stop[rows, None])
            for t, temperature in enumerate(temperatures):
                A = np.exp(-2 * distances / (mu * temperature) - log_r[t, rows, None] - log_r[t, span])
                again[0, t] += A.sum(axis=1)
                again[1, t] += (A * same).sum(axis=1)
        k[:, rows] = np.where(good[:, rows], k[:, rows], again[0])
        w[:, rows] = np.where(good[:, rows], w[:, rows], again[1])
    return good


def _groups(wanted: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.int64]]:
    """Positions wanted at any temperature, a tile's height of them at a time."""
    rows = np.flatnonzero(wanted.any(axis=0))
    for start in range(0, len(rows), TILE):
        yield rows[start : start + TILE]


def _distances_to_all(
    points: ClassOrderedPoints, rows: npt.NDArray[np.int64], panel_rows: int
) -> Iterator[tuple[slice, Floats]]:
    """Distances (b, p) of some positions to all points in float64, a panel at a time; infinite to themselves."""
    block = points.rows(points.order[rows], dtype=np.float64)
    norms = np.einsum("ij,ij->i", block, block)
    for start in range(0, points.n_points, panel_rows):
        other = points.rows(points.order[start : start + panel_rows], dtype=np.float64)
        squares = norms[:, None] + np.einsum("ij,ij->i", other, other) - 2 * (block @ other.T)
        distances = np.sqrt(np.maximum(squares, 0))
        itself = np.flatnonzero((rows >= start) & (rows < start + len(other)))
        distances[itself, rows[itself] - start] = np.inf
        yield slice(start, start + len(other)), distances


def _logs_and_factors(temperatures: Floats, log_r: Floats) -> tuple[Floats, Floats]:
    """(t, n) what `affinity_sums` takes for each point, and f: 1 at temperatures that are no squares."""
    logs, factors = log_r / np.log(2), np.ones_like(log_r)
    for t, root in enumerate(squares(temperatures)):
        if root >= 0:
            factors[t] = np.exp(2 * log_r[root] - log_r[t])
            logs[t] = factors[t]
    return logs, factors
