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

**Number of landmarks.** A pilot of 256 a tile shows how many the target needs: errors fall with the root of m, the
bias with m.

The passes are done by an engine (`rld.sampled.engine`): blocks of points on the CPU or a cluster (`rld.sampled.cpu`),
or one device as a whole (`rld.sampled.gpu`). All meet the same landmarks.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from clorg_scale.distributed import Map
from clorg_scale.errors import require
from clorg_scale.progress import Advance, progress_bar
from clorg_scale.rld.modularity import PairSums
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.sampled.engine import AffinitySums, Data, Engine, Round
from clorg_scale.rld.sampled.jackknife import Jackknife
from clorg_scale.rld.sampled.landmarks import LandmarkPool
from clorg_scale.rld.sampled.mean_distance import mean_distance
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import ROWS
from clorg_scale.rld.temperatures import square_of
from clorg_scale.rld.types import Floats, Integers

__all__ = ["POOL_BYTES", "SampledSums", "sampled_sums"]

PILOT = 256
"""Landmarks a tile of the first estimate."""

MARGIN = 1.2
"""Factor on the landmarks that the pilot shows to be needed, for it is noisy itself."""

VARIANCE_TOLERANCE, MOST_ROUNDS = 1.4, 3
"""A round whose variance is within this factor of the target's is not followed by another one: its estimate of its own
variance is uncertain by as much."""

BIAS_UNCERTAINTY = 0.25
"""Share of the bias removed by which the correction may be wrong."""

POOL_BYTES, LEAST_POOL = 64 << 20, 4096
"""Coordinates of the points that landmarks are drawn from."""

MOST_SUMS = 4096
"""Largest number of strata times classes whose changes without each group are kept apart."""

LEAST_PAIRS = 100_000
"""Random pairs for mu."""

STEEPEST = 0.6
"""Largest slope of RLD as a function of log T that was observed."""


@dataclass(frozen=True, kw_only=True)
class SampledSums(PairSums):
    """Estimates of the sums, and their accuracy.

    Attributes
    ----------
    stderr
        (t,) standard error of RLD.
    interval
        Half-width of the 95 % interval in standard errors.
    n_landmarks
        m, of each tile.
    bias
        (t,) approximate bias that the correction of second order removed; where it is not small, more landmarks help.
    precision
        Rounding of the coordinates.
    """

    stderr: Floats
    interval: float
    n_landmarks: int
    bias: Floats
    precision: str


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
    ordered_map: Map | None = None,
) -> SampledSums:
    """Estimate the affinities of every point at every temperature.

    Parameters
    ----------
    points, codes
        The embeddings, and (n,) their class codes, -1 where unlabelled.
    near_field
        Pairs of near neighbors, in an order of points of `clorg_scale.rld.sampled.tile_order`.
    target_error
        Half-width of the 95 % interval to reach.
    n_landmarks
        Approximate number of landmarks a tile; None works toward the target.
    device
        torch device that does all work between the near field and the sums of each point; None takes the compiled loops
        of the CPU. With `ordered_map` the device of each worker, for the tiles of its blocks.
    precision, memory_limit
        On a device, without `ordered_map`: ``"fp16"`` (moves RLD by about 1e-5) or ``"tf32"``, None keeps the float32
        or float64 of the points; bytes of device memory that may be taken, None takes 90 % of what is free.
    ordered_map
        Map over the blocks of points, such as that of a cluster's workers; None computes in this process.
    """
    if device is not None:
        require("torch", extra="cuda13", purpose="Sampled RLD on a GPU")
    in_order = codes[near_field.order]
    pool = LandmarkPool(in_order, max(LEAST_POOL, POOL_BYTES // (4 * points.n_features)), seed)
    data, on_device = Data(points, in_order, near_field, pool), device is not None and ordered_map is None
    engine: Engine
    with ExitStack() as settings_of_torch:
        if on_device:
            from clorg_scale.rld.exact.device_points import torch_numerics
            from clorg_scale.rld.sampled.gpu import OUT_OF_MEMORY, TorchEngine

            settings_of_torch.enter_context(torch_numerics(OUT_OF_MEMORY))
            engine = TorchEngine(data, device, precision, memory_limit, len(temperatures))
        else:
            from clorg_scale.rld.sampled.cpu import BlockEngine

            engine = BlockEngine(data, device, ordered_map or map)
        estimator = _Estimator(engine, data, temperatures, target_error, seed)
        wanted = PILOT if n_landmarks is None else n_landmarks
        # Of many classes several times as many are taken as asked for, and the first round is not a pilot.
        tolerance = 1.0 if pool.taken(wanted) < 2 * PILOT else VARIANCE_TOLERANCE
        for _ in range(MOST_ROUNDS):
            estimate = estimator.estimate(wanted, progress=progress)
            excess = estimator.times_variance(estimate)
            if n_landmarks is not None or excess <= tolerance or estimate.n_landmarks >= len(pool.rows):
                break
            taken = wanted if estimate.n_landmarks < 2 * wanted else estimate.n_landmarks
            wanted, tolerance = int(np.ceil(MARGIN * estimator.times_landmarks(estimate) * taken)), VARIANCE_TOLERANCE
        return estimator.result(estimate)


@dataclass(frozen=True)
class _Estimate:
    """Result of one round.

    Landmarks of each tile, log2 r and the sums of pass 2 in the engine's arrays, (t,) standard errors of RLD and bias
    removed, half-width of the 95 % interval in standard errors.
    """

    n_landmarks: int
    log_r: Any
    sums: AffinitySums
    stderr: Floats
    bias: Floats
    interval: float


class _Estimator:
    """State that all rounds share; parameters as for `sampled_sums`."""

    def __init__(self, engine: Engine, data: Data, temperatures: Floats, target_error: float, seed: int) -> None:
        self.engine, self.pool, self.temperatures = engine, data.pool, temperatures
        self.target_error, self.seed = target_error, seed
        self.n_points, self.n_classes = len(data.codes), int(data.codes.max()) + 1
        # RLD changes by at most about 0.6 times the relative error of mu, which is below 0.1 over the root of the
        # pairs: a thirtieth of the error aimed for.
        n_pairs = max(LEAST_PAIRS, int((1.8 / target_error) ** 2))
        self.mean_distance, self.mean_distance_error = mean_distance(
            engine.pair_lengths(seed, n_pairs), self.n_points, engine.sum_of_squares
        )
        self.rates = -np.log2(np.e) / (self.mean_distance * temperatures)
        self.square_of = square_of(temperatures)

    def estimate(self, n_landmarks: int, *, progress: bool) -> _Estimate:
        """Both passes with about so many landmarks a tile, and the jackknife."""
        taken = self.pool.taken(n_landmarks)
        title, n_pairs = f"sampled RLD, {taken:,} landmarks a tile", 2.0 * self.n_points * taken
        with progress_bar(title, n_pairs, unit="M pairs", scale=1e6, enabled=progress) as advance:
            log_r, sums = self._passes(n_landmarks, advance)
        jackknife = sums.jackknife
        bias = jackknife.bias_removed()
        stderr = np.hypot(jackknife.standard_error(), self._error_of_mean_distance(jackknife.values()))
        stderr = np.hypot(stderr, bias * BIAS_UNCERTAINTY)
        return _Estimate(taken, log_r, sums, stderr, bias, jackknife.interval())

    def _passes(self, n_landmarks: int, advance: Advance) -> tuple[Any, AffinitySums]:
        # The variance of a mean of m of n points, none drawn twice, is (1 - m / n) of what it were with repetitions.
        finite_population, engine = np.sqrt(1 - self.pool.share(n_landmarks)), self.engine
        settings = Round(self.rates, self.square_of, n_landmarks, finite_population)
        found = engine.kernel_pass(settings, advance)
        # 1 / r is too large by 1 + v. Columns are divided by it here, rows when k is known.
        column_logs = found.log_r + engine.xp.log2(1 + found.variances)
        jackknife = Jackknife(len(self.rates), self.n_classes, self._n_strata(), finite_population)
        return found.log_r, engine.affinity_pass(settings, found, column_logs, jackknife, advance)

    def _n_strata(self) -> int:
        """Sets of tiles that err independently."""
        if len(self.pool.rows) < self.n_points:
            return 1  # the pool is a sample, too, and all tiles have it in common
        return int(np.clip(MOST_SUMS // (self.n_classes + 1), 1, -(-self.n_points // ROWS)))

    def _error_of_mean_distance(self, values: Floats) -> Floats:
        """(t,) error of RLD due to that of mu: RLD as a function of T is RLD as a function of mu."""
        order = np.argsort(self.temperatures)
        distinct = len(np.unique(self.temperatures)) == len(values) > 1
        slope = np.full(len(values), STEEPEST)
        if distinct:
            slope[order] = np.abs(np.gradient(values[order], np.log(self.temperatures[order])))
        return np.asarray(slope * self.mean_distance_error)

    def times_variance(self, estimate: _Estimate) -> float:
        """Ratio of the variance to that of the target, at the worst temperature."""
        return float((estimate.interval * estimate.stderr / self.target_error).max()) ** 2

    def times_landmarks(self, estimate: _Estimate) -> float:
        """Factor on the landmarks with which the target is reached at every temperature.

        With f times as many the variance is s^2 / f, and the uncertainty of the bias u / f:
        s^2 / f + (u / f)^2 = aim^2.
        """
        uncertain = (BIAS_UNCERTAINTY * estimate.bias) ** 2
        variance = np.maximum(estimate.stderr**2 - uncertain, 0)
        aim = (self.target_error / estimate.interval) ** 2
        # 1 / f = 2 aim / (variance + sqrt(variance^2 + 4 u^2 aim)), the root that holds for u -> 0, too.
        return float(((variance + np.sqrt(variance**2 + 4 * uncertain * aim)) / (2 * aim)).max())

    def result(self, estimate: _Estimate) -> SampledSums:
        """The sums in main memory and in the order of the embeddings, log r to base e."""
        engine, log_r, sums = self.engine, estimate.log_r, estimate.sums
        spread = engine.spread(self.rates, log_r, sums, self.seed)  # before its arrays are used again
        return SampledSums(
            k=engine.restore_order(sums.k),
            w=engine.restore_order(sums.w),
            log_r=engine.restore_order(log_r, np.log(2)),
            stderr=estimate.stderr,
            interval=estimate.interval,
            mean_distance=self.mean_distance,
            n_landmarks=estimate.n_landmarks,
            bias=estimate.bias,
            squares=sums.squares,
            spread=spread,
            precision=engine.precision,
        )
