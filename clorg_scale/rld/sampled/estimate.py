r"""Sampled RLD: an estimate of the same number, with a standard error, in O(n m d) work for m landmarks.

Both sums of the exact method are split. A pair of near neighbors is summed exactly; all other pairs are sampled: each
tile of points meets random landmarks of its own, stratified by class, each standing for v_s points
(`rld.sampled.landmarks`), less those in the near field M. Pairs that are nearer than the neighbors in M but were
missed by the search are left out altogether: few of them are met, and each would stand for hundreds.

    r_i = sum over M(i) of E_ij   + sum over s of v_s E_is
    k_i = sum over M(i) of A_ij   + sum over s of v_s A_is,        A_ij = E_ij^2 / (r_i r_j)

**Error.** The landmarks form 16 groups. With group g left out and the others' weights raised by 16/15, r becomes
r (1 + e_g), and what is summed to k is multiplied with 1 + f_g. RLD with these changes, to first order, is theta_g; the
delete-a-group jackknife gives the standard error sqrt(15/16 sum (theta_g - mean)^2). Where the pool of landmarks is all
the points, tiles err independently: groups are left out in some of the tiles at a time, and the squares added. As no
landmark is drawn twice, e and f are multiplied with the root of the share of the points that were not drawn.

**Bias.** 1 / r is not linear in r. To second order its expectation is too large by the relative variance
v = 15/16 sum e_g^2, and k is off by the covariance c = 15/16 sum e_g f_g of its two factors; so 1 / r_j is divided by
1 + v_j, and k_i multiplied with (1 + c_i) / (1 + v_i).

**Number of landmarks.** A pilot of 256 a tile tells how many the target needs: errors fall with the root of m, the
bias with m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from clorg_scale.arrays import array_module, row_slices
from clorg_scale.distributed import Map
from clorg_scale.errors import InputError, require
from clorg_scale.numerics.compiled import has_compiled_path, row_lengths
from clorg_scale.numerics.exp2 import smallest_exp2
from clorg_scale.numerics.interrupts import held_interrupts
from clorg_scale.progress import Advance, progress_bar
from clorg_scale.rld.exact.tiles_numba import TILE
from clorg_scale.rld.points import NEAR, ClassOrderedPoints, pair_sample
from clorg_scale.rld.sampled.jackknife import Changes, Jackknife, relative_changes
from clorg_scale.rld.sampled.landmarks import LandmarkPool, LandmarkSets
from clorg_scale.rld.sampled.near_field import NearField, NearRows
from clorg_scale.rld.sampled.tile_order import BLOCK_ROWS, ROWS
from clorg_scale.rld.temperatures import square_of

__all__ = ["POOL_BYTES", "SampledSums", "sampled_sums"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PILOT = 256
"""Landmarks wanted of the first estimate."""

MARGIN = 1.2
"""More landmarks than the pilot says are needed, for it is noisy itself."""

TOLERATED, MOST_ROUNDS = 1.4, 3
"""A round whose variance is within this factor of what is wanted is not followed by another one: what it says of its
own variance is uncertain by as much."""

UNSURE = 0.25
"""Share of the bias removed that may have been removed in vain, or remain."""

POOL_BYTES, LEAST_POOL = 64 << 20, 4096
"""Coordinates of the points that landmarks are drawn from."""

HEADROOM = 16
"""Powers of two by which a term may exceed what it is scaled to, such as a neighbor nearer than the nearest known."""

MOST_SUMS = 4096
"""Sets of tiles times classes whose changes without each group are kept apart."""

LEAST_PAIRS = 100_000
"""Random pairs for mu."""


@dataclass(frozen=True)
class SampledSums:
    """What RLD is made of, estimated; in the order of the embeddings.

    Attributes
    ----------
    k, w
        (t, n) affinity of each point to all others and to those of its class, in units of A / n^2.
    log_r
        (t, n) natural logarithm of r.
    stderr
        (t,) standard error of RLD.
    interval
        Half-width of the 95 % interval in standard errors.
    mean_distance
        mu.
    n_landmarks
        m, of each tile.
    bias
        (t,) about what the correction of second order removed; where it is not small, more landmarks help.
    squares
        (t,) sum of the squares of all affinities.
    spread
        (t,) sum over all pairs of (A / 2m - k k' / (2m)^2)^2; None: found from the squares (`clorg_scale.rld.null`).
    precision
        How coordinates were rounded.
    """

    k: Floats
    w: Floats
    log_r: Floats
    stderr: Floats
    interval: float
    mean_distance: float
    n_landmarks: int
    bias: Floats
    squares: Floats
    spread: Floats | None = None
    precision: str = "float32"


def sampled_sums(
    points: ClassOrderedPoints,
    codes: Integers,
    near_field: NearField,
    temperatures: Floats,
    *,
    target_error: float,
    n_landmarks: int | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    memory_limit: int | None = None,
    progress: bool = False,
    run: Map | None = None,
) -> SampledSums:
    """Estimate the affinities of every point at every temperature.

    Parameters
    ----------
    points
        The embeddings.
    codes
        (n,) class codes in the order of the embeddings, -1 where unlabelled.
    near_field
        Pairs of near neighbors, in an order of points of `clorg_scale.rld.sampled.tile_order`.
    temperatures
        (t,) T > 0.
    target_error
        Half-width of the 95 % interval to reach.
    n_landmarks
        Take so many instead of working toward the target.
    seed
        Of landmarks and pairs.
    device
        torch device that all work between the near field and the sums of each point is done on
        (`rld.sampled.gpu`); None takes the compiled loops of the CPU (`rld.sampled.tiles_numba`).
        Both meet the same landmarks. With `run` each block's tiles are computed on a worker's device.
    precision
        On a device, without `run`: ``"fp16"`` (moves RLD by about 1e-5) or ``"tf32"``; None keeps the float32 or
        float64 of the points.
    memory_limit
        Bytes of device memory that may be taken, without `run`; None takes 90 % of what is free.
    progress
        Show a progress bar on stderr.
    run
        What maps the blocks of points (`clorg_scale.distributed.ordered_map`); None does it here.

    Raises
    ------
    InputError
        If all points are identical.
    MissingDependencyError
        If a device is named and torch is not installed.
    """
    if device is not None:
        require("torch", extra="cuda13", purpose="Sampled RLD on a GPU")
    pool = LandmarkPool(
        codes[near_field.order], max(LEAST_POOL, POOL_BYTES // (4 * points.n_features)), seed
    )  # fmt: skip
    with _surroundings(device, run):
        engine = _engine(points, codes, near_field, pool, len(temperatures), device, precision, memory_limit, run)
        rounds = _Estimator(engine, points, codes, temperatures, target_error, seed)
        wanted, enough = PILOT if n_landmarks is None else n_landmarks, 1.0
        for _ in range(MOST_ROUNDS):
            taken = rounds.taken(wanted)
            title = f"sampled RLD, {taken:,} landmarks a tile"
            total = 2.0 * points.n_points * taken
            with progress_bar(title, total, unit="M pairs", scale=1e6, enabled=progress) as advance:
                sums = rounds.estimate(wanted, advance)
            excess = float((sums.interval * sums.stderr / target_error).max()) ** 2
            if n_landmarks is not None or excess <= enough or taken >= len(pool.rows):
                break
            wanted, enough = int(np.ceil(MARGIN * _times_as_many(sums, target_error) * wanted)), TOLERATED
        return rounds.handed_out(sums, seed)


def _surroundings(device: str | None, run: Map | None) -> Any:
    """What all work on one device needs around it."""
    if device is None or run is not None:
        return nullcontext()
    from clorg_scale.rld.sampled.gpu import computing

    return computing()


def _engine(
    points: ClassOrderedPoints, codes: Integers, near_field: NearField, pool: LandmarkPool, n_temperatures: int,
    device: str | None, precision: str | None, memory_limit: int | None, run: Map | None,
) -> Any:  # fmt: skip
    """What does the passes: one device as a whole, or blocks of points here or on the workers of a cluster."""
    in_order = codes[near_field.order]
    if device is None or run is not None:
        return _BlockEngine(points, in_order, near_field.on_host(), pool, device, run or map)
    from clorg_scale.rld.sampled.gpu import TorchEngine

    return TorchEngine(points, in_order, near_field, pool, device, precision, memory_limit, n_temperatures)


def _times_as_many(sums: SampledSums, target_error: float) -> float:
    """How many times as many landmarks the target needs at every temperature.

    With f times as many the variance is s^2 / f and what is unsure of the bias u / f:  s^2 / f + (u / f)^2 = aim^2.
    """
    unsure = (UNSURE * sums.bias) ** 2
    variance = np.maximum(sums.stderr**2 - unsure, 0)
    aim = (target_error / sums.interval) ** 2
    # 1 / f = 2 aim / (variance + sqrt(variance^2 + 4 unsure aim)), the root that stands for unsure -> 0, too.
    return float(((variance + np.sqrt(variance**2 + 4 * unsure * aim)) / (2 * aim)).max())


def _whole_tiles(weights: Floats, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """(b, 2, m) weights with zeros behind, to a whole number of tiles."""
    b, kinds, m = weights.shape
    padded = np.zeros((b, kinds, -(-m // TILE) * TILE), dtype=dtype)
    padded[:, :, :m] = weights
    return padded


def _squared_norms(X: Any) -> Any:
    return array_module(X).einsum("ij,ij->i", X, X)


def _mean_distance(lengths: Floats, n: int, sum_of_squares: Callable[[float], float]) -> tuple[float, float]:
    """Mu from the distances of random pairs, and its relative standard error.

    The mean of the squares is known, 2 / (n - 1) sum |x - mean|^2, and distances are nearly linear in their squares:
    that much of what the sample got wrong is put right (a control variate), which leaves a fifth of the error or less.
    """
    if not lengths.any():
        raise InputError("All points are identical (their mean distance is 0); RLD is not defined for them.")
    unit = lengths.max()
    d, squared = lengths / unit, (lengths / unit) ** 2
    spread = squared.var()
    slope = np.mean((d - d.mean()) * squared) / spread if spread > 0 else 0.0
    mu = float(d.mean() + slope * (2 * sum_of_squares(unit) / (n - 1) - squared.mean()))
    return mu * float(unit), float((d - slope * squared).std() / mu / np.sqrt(len(d)))


def _sum_of_squares(points: ClassOrderedPoints, unit: float) -> float:
    """Sum of the squared distances of all points from their mean, in units of `unit`."""
    n, total = points.n_points, 0.0
    if not points.on_gpu and has_compiled_path(points.embeddings):
        return float(((row_lengths(points.embeddings, points.mean) / unit) ** 2).sum())
    for rows in row_slices(n, points.n_features, itemsize=16):
        block = points.rows(np.arange(rows.start, rows.stop), dtype=np.float64) / unit
        total += float(_squared_norms(block).sum())
    return total


class _Landmarks:
    """Landmarks, and what the tiles of points against them need.

    Parameters
    ----------
    points
        The embeddings.
    pool
        Places of points that landmarks are drawn from.
    rows
        (l,) their rows of the embeddings.
    reach
        (l,) distance of the farthest neighbor that each point of the pool lists.
    device
        As for `sampled_sums`.
    """

    def __init__(
        self,
        points: ClassOrderedPoints,
        pool: LandmarkPool,
        rows: Integers,
        reach: npt.NDArray[Any],
        device: str | None,
    ) -> None:
        self.points, self.pool, self.reach, self.device = points, pool, reach, device
        self.L = points.rows(rows)
        self.norms = _squared_norms(self.L)
        self.constants = points.dtype.type(NEAR), points.dtype.type(np.sqrt(smallest_exp2(points.dtype)))
        self._forget()

    def _forget(self) -> None:
        self._on_device: Any = None
        self._space = np.empty((0, self.points.n_features), self.points.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_device": None, "_space": self._space[:0]}

    @property
    def loops(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What computes the tiles of pass 1 and of pass 2."""
        if self.device is None:
            from clorg_scale.rld.sampled import tiles_numba as landmark_tiles

            return landmark_tiles.landmark_sums, landmark_tiles.landmark_affinities
        from clorg_scale.rld.sampled import tiles_torch as torch_landmarks

        return torch_landmarks.landmark_sums, torch_landmarks.landmark_affinities

    @contextmanager
    def of(self, near: NearRows, wanted: int) -> Iterator[tuple[tuple[Any, ...], LandmarkSets, tuple[Any, ...]]]:
        """What the loops take of some points: points and pool, their landmarks, and the pairs to skip."""
        n = len(near.rows)
        sets = self.pool.sets(range(near.start // ROWS, -(-(near.start + n) // ROWS)), wanted)
        X = self.points.rows(near.rows, space=self._memory(n))
        skip = near.among(ROWS, np.where(sets.columns < 0, -1, self.pool.rows[sets.columns]))
        reaches = near.reach.astype(self.points.dtype), self.reach
        with threadpool_limits(limits=1, user_api="blas"), held_interrupts():
            yield (X, self._pool_there(), _squared_norms(X), self.norms, *reaches), sets, (*skip, *self.constants)

    def _pool_there(self) -> Any:
        """The pool where the tiles are computed."""
        if self.device is None:
            return self.L
        if self._on_device is None:
            from clorg_scale.rld.sampled import tiles_torch as torch_landmarks

            self._on_device = torch_landmarks.on_device(self.device, self.L)
        return self._on_device

    def _memory(self, n: int) -> npt.NDArray[Any] | None:
        """Memory of some points, used again and again; a GPU sees to its own."""
        if self.points.on_gpu:
            return None
        if len(self._space) < n:
            self._space = np.empty((n, self.points.n_features), self.points.dtype)
        return self._space


class _KernelBlock(NamedTuple):
    """Some points in pass 1: their near field, (t, p) shifts of their sums, (p, t) the near field's part of them."""

    near: NearRows
    shifts: Floats
    near_sums: Floats


@dataclass(frozen=True)
class _KernelPass:
    """Pass 1: r of each point, and what leaving out groups does to it."""

    landmarks: _Landmarks
    wanted: int
    rates: Floats
    squared: Integers
    finite_population: float

    def __call__(self, block: _KernelBlock) -> tuple[Floats, npt.NDArray[np.int16]]:
        """(t, p) log2 r, (p, t, 16) changes."""
        dtype = self.landmarks.points.dtype
        with self.landmarks.of(block.near, self.wanted) as (tiles, sets, skip):
            sums = self.landmarks.loops[0](
                *tiles, self.rates.astype(dtype), self.squared, block.shifts.astype(dtype), dtype.type(2.0**HEADROOM),
                sets.columns, _whole_tiles(sets.weights, dtype), *skip,
            )  # fmt: skip
        r = block.near_sums + sums.sum(axis=2)
        return np.log2(r).T + block.shifts, relative_changes(sums, r, self.finite_population)


class _AffinityBlock(NamedTuple):
    """Some points in pass 2: near field, (t, p) what the loops take of log r, (p,) codes, what is known of k and w."""

    near: NearRows
    logs: npt.NDArray[Any]
    codes: Integers
    near_k: Floats
    near_w: Floats
    changes: npt.NDArray[np.int16]


@dataclass(frozen=True)
class _AffinityPass:
    """Pass 2: k and w of each point, and how their sums change without each group."""

    landmarks: _Landmarks
    wanted: int
    rates: Floats
    squared: Integers
    logs: npt.NDArray[Any]
    jackknife: Jackknife

    def __call__(self, block: _AffinityBlock) -> tuple[Floats, Floats, Floats, Jackknife]:
        """(t, p) k and w, (t,) sum of squares, and the sums over the classes."""
        dtype = self.landmarks.points.dtype
        classes = block.codes.astype(np.int32), self.landmarks.pool.codes.astype(np.int32)
        with self.landmarks.of(block.near, self.wanted) as (tiles, sets, skip):
            sums, of_squares = self.landmarks.loops[1](
                *tiles, (2 * self.rates).astype(dtype), self.squared, block.logs, self.logs, sets.columns,
                _whole_tiles(sets.weights, dtype), *classes, *skip,
            )  # fmt: skip
        k, w = block.near_k.copy(), block.near_w.copy()
        jackknife = self.jackknife.empty()
        tiles_of_rows = (block.near.start + np.arange(len(block.codes))) // ROWS
        jackknife.add(k, w, sums * 2.0**HEADROOM, block.changes, block.codes, tiles_of_rows)
        return k, w, of_squares * 4.0**HEADROOM, jackknife


class _KernelSums(NamedTuple):
    """Pass 1: (t, n) log2 r, its relative variance, and what leaving out groups does to r."""

    log_r: Floats
    variances: Floats
    changes: Changes


class _BlockEngine:
    """The passes of sampled RLD over blocks of points, here or on the workers of a cluster.

    Parameters
    ----------
    points, near_field, device, run
        As for `sampled_sums`.
    codes
        (n,) class codes in the order of the near field.
    pool
        What landmarks are drawn from.
    """

    log2 = np.log2

    def __init__(
        self, points: ClassOrderedPoints, codes: Integers, near_field: NearField, pool: LandmarkPool,
        device: str | None, run: Map,
    ) -> None:  # fmt: skip
        self.points, self.codes, self.near_field, self.pool, self.run = points, codes, near_field, pool, run
        self.precision = str(points.dtype)
        self.landmarks = _Landmarks(
            points, pool, near_field.order[pool.rows], near_field.reach[pool.rows].astype(points.dtype), device
        )

    def pair_lengths(self, seed: int, wanted: int) -> Floats:
        """Distances of random pairs of points."""
        return pair_sample(self.points, seed, wanted)

    def sum_of_squares(self, unit: float) -> float | None:
        """None: the points are read for it."""
        return None

    def _blocks(self) -> Iterator[slice]:
        """Consecutive points."""
        n = self.points.n_points
        return (slice(start, min(n, start + BLOCK_ROWS)) for start in range(0, n, BLOCK_ROWS))

    def kernel_pass(
        self, rates: Floats, squared: Integers, wanted: int, finite_population: float, advance: Advance
    ) -> _KernelSums:
        """Pass 1: r of each point, and what leaving out groups does to it."""
        near_field, log_r = self.near_field, np.empty((len(rates), self.points.n_points))
        near_logs = near_field.log_sums(rates)
        changes = Changes(self.points.n_points, len(rates))

        def part(rows: slice) -> _KernelBlock:
            shifts = rates[:, None] * near_field.nearest[rows] + HEADROOM
            return _KernelBlock(
                near_field.rows(rows.start, rows.stop), shifts, np.exp2(near_logs[:, rows] - shifts).T.copy()
            )

        task = _KernelPass(self.landmarks, wanted, rates, squared, finite_population)
        results = self.run(task, map(part, self._blocks()))
        taken = int(self.pool.counts(wanted)[0].sum())
        for rows, (logs, changed) in zip(self._blocks(), results, strict=True):
            log_r[:, rows] = logs
            changes.record(rows, changed)
            advance((rows.stop - rows.start) * taken)
        return _KernelSums(log_r, changes.variances(), changes)

    def affinity_pass(
        self, rates: Floats, squared: Integers, wanted: int, found: _KernelSums, column_logs: Floats,
        jackknife: Jackknife, advance: Advance,
    ) -> tuple[Floats, Floats, Floats, Jackknife]:  # fmt: skip
        """Pass 2: (t, n) k and w of each point, (t,) sum of the squares of all affinities, the jackknife's sums."""
        k, w, of_squares = self.near_field.affinities(rates, found.log_r, column_logs, self.codes)
        row_logs = self._logs(found.log_r, squared, HEADROOM)
        pool_logs = self._logs(column_logs[:, self.pool.rows], squared, 0)

        def part(rows: slice) -> _AffinityBlock:
            near, changed = self.near_field.rows(rows.start, rows.stop), found.changes.of(rows)
            return _AffinityBlock(near, row_logs[:, rows], self.codes[rows], k[:, rows], w[:, rows], changed)

        task = _AffinityPass(self.landmarks, wanted, rates, squared, pool_logs, jackknife.empty())
        results = self.run(task, map(part, self._blocks()))
        taken = int(self.pool.counts(wanted)[0].sum())
        for rows, (k_here, w_here, squares_here, changed) in zip(self._blocks(), results, strict=True):
            k[:, rows], w[:, rows] = k_here, w_here
            of_squares += squares_here
            jackknife.merge(changed)
            advance((rows.stop - rows.start) * taken)
        w[:, self.codes < 0] = 0
        return k, w, of_squares, jackknife

    def _logs(self, logs: Floats, squared: Integers, headroom: int) -> npt.NDArray[Any]:
        """What the tiles want: l, or the factors of the squares of another temperature's affinities."""
        result = logs + headroom
        for t, root in enumerate(squared):
            if root >= 0:
                result[t] = np.exp2(2 * logs[root] - logs[t] + headroom)
        return result.astype(self.points.dtype)

    def spread(self, *_: Any) -> None:
        """None: found from the squares."""
        return

    def handed_out(self, values: Floats, factor: float = 1.0) -> Floats:
        """(t, n) in the order of the embeddings; the memory is used again."""
        values *= factor
        for of_temperature in values:
            of_temperature[self.near_field.order] = of_temperature.copy()
        return values


class _Estimator:
    """What all rounds have in common.

    Parameters
    ----------
    engine
        What does the passes: `_BlockEngine` or `clorg_scale.rld.sampled.gpu.TorchEngine`.
    points, codes, temperatures, target_error, seed
        As for `sampled_sums`.
    """

    def __init__(
        self, engine: Any, points: ClassOrderedPoints, codes: Integers, temperatures: Floats, target_error: float,
        seed: int,
    ) -> None:  # fmt: skip
        self.engine, self.points, self.pool, self.temperatures = engine, points, engine.pool, temperatures
        self.n_points, self.n_classes = len(codes), int(codes.max()) + 1
        # RLD changes by at most about 0.6 times the relative error of mu, which is below 0.1 over the root of the
        # pairs: a thirtieth of the error aimed for.
        n_pairs = max(LEAST_PAIRS, int((1.8 / target_error) ** 2))
        self.mean_distance, self.mean_distance_error = _mean_distance(
            engine.pair_lengths(seed, n_pairs), len(codes), self._sum_of_squares
        )
        self.rates = -np.log2(np.e) / (self.mean_distance * temperatures)
        self.squared = square_of(temperatures)

    def _sum_of_squares(self, unit: float) -> float:
        known: float | None = self.engine.sum_of_squares(unit)
        return _sum_of_squares(self.points, unit) if known is None else known

    def estimate(self, wanted: int, advance: Advance) -> SampledSums:
        """Both passes with about so many landmarks a tile; k, w and log2 r as the engine has them."""
        # The variance of a mean of m of n points, none drawn twice, is (1 - m / n) of what it were with repetitions.
        finite_population, engine = np.sqrt(1 - self.pool.share(wanted)), self.engine
        found = engine.kernel_pass(self.rates, self.squared, wanted, finite_population, advance)
        # By what 1 / r is too large in the columns; in the rows it is seen to when k is known.
        column_logs = found.log_r + engine.log2(1 + found.variances)
        empty = Jackknife(len(self.rates), self.n_classes, self._n_strata(), finite_population)
        k, w, of_squares, jackknife = engine.affinity_pass(
            self.rates, self.squared, wanted, found, column_logs, empty, advance
        )
        bias = jackknife.bias_removed()
        stderr = np.hypot(jackknife.standard_error(), self._error_of_mean_distance(jackknife.values()))
        stderr = np.hypot(stderr, bias * UNSURE)
        return SampledSums(
            k, w, found.log_r, stderr, jackknife.interval(), self.mean_distance, self.taken(wanted), bias, of_squares,
            precision=engine.precision,
        )  # fmt: skip

    def handed_out(self, sums: SampledSums, seed: int) -> SampledSums:
        """The sums in main memory and in the order of the embeddings, log r to base e."""
        engine = self.engine
        spread = engine.spread(self.temperatures, self.mean_distance, sums.log_r, sums.k, sums.squares, seed)
        k, w, log_r = (
            engine.handed_out(values, factor)
            for values, factor in ((sums.k, 1.0), (sums.w, 1.0), (sums.log_r, np.log(2)))
        )
        return replace(sums, k=k, w=w, log_r=log_r, spread=spread)

    def _n_strata(self) -> int:
        """Sets of tiles that err independently."""
        if len(self.pool.rows) < self.n_points:
            return 1  # the pool is a sample, too, and they have it in common
        return int(np.clip(MOST_SUMS // (self.n_classes + 1), 1, -(-self.n_points // ROWS)))

    def taken(self, wanted: int) -> int:
        """Landmarks of a tile."""
        return int(self.pool.counts(wanted)[0].sum())

    def _error_of_mean_distance(self, values: Floats) -> Floats:
        """(t,) what the error of mu adds: RLD as a function of T is RLD as a function of mu."""
        order = np.argsort(self.temperatures)
        distinct = len(np.unique(self.temperatures)) == len(values) > 1
        slope = np.full(len(values), 0.6)  # the steepest that was met with
        if distinct:
            slope[order] = np.abs(np.gradient(values[order], np.log(self.temperatures[order])))
        return np.asarray(slope * self.mean_distance_error)
