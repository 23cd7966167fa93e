r"""Exact RLD in O(n) memory: two symmetric kernel mat-vecs over all pairs of points, by one of several engines.

With d_ij the Euclidean distances and mu their mean (arXiv 2305.10229; A is its affinity matrix; see
`clorg_scale.rld.definition`),

    E_ij = exp(-d_ij / (mu T)),  E_ii = 0        r_i = sum_j E_ij
    A_ij = E_ij^2 / (r_i r_j)                    k_i = sum_j A_ij,   w_i = sum over j of i's class of A_ij

**Guess.** Pass 1 needs mu, which is itself a sum over all pairs; instead of a pass of its own, an estimate from random
pairs stands in (relative error about 4e-4), or, where that is cheap or float64 is asked for, the mean of all distances.
**Pass 1** gives R and D, the sums of E_ij and of d_ij E_ij, and the sum of d_ij, hence mu.
**log r** follows from both to first order (`clorg_scale.rld.temperatures.log_r_at`), with an error below 1e-7.
**Rescue.** Rows whose r is too small for the engine's precision (outliers at small T) are summed again in float64.
**Pass 2** gives k and w; rows whose k is too small are summed again where the engine does not compute in log space.

Work: 2 n^2 d FLOP in matrix products for any number of temperatures. Memory: O(n) and two panels of points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from clorg_scale.rld.modularity import PairSums
from clorg_scale.rld.points import ClassOrderedPoints, ColumnDistances, positive_mean
from clorg_scale.rld.temperatures import log_r_at
from clorg_scale.rld.types import Floats, Integers

__all__ = [
    "AffinitySums",
    "Engine",
    "ExactSums",
    "KernelSums",
    "RowEngine",
    "exact_sums",
    "groups_of_rows",
    "log_row_sums",
    "mean_distance",
    "n_pair_visits",
    "on_host",
    "rescued_log_r",
]

RESCUED_ROWS = 512
"""Rows that are summed again at a time."""


@dataclass(frozen=True, kw_only=True)
class ExactSums(PairSums):
    """Exact sums, (t,) rows whose r or k was summed again in float64, and the implementation that computed the tiles.

    `kernels`: "numba", "torch", "triton" or "hopper".
    """

    n_rescued: Integers
    kernels: str


class KernelSums(NamedTuple):
    """Pass 1: (t, n) R and D, and the sum of the distances of all pairs."""

    R: Any
    D: Any
    distance_sum: Any


class AffinitySums(NamedTuple):
    """Pass 2: (t, n) k and w, (t,) the sum of the squares of all affinities, or of those of near pairs on a GPU."""

    k: Any
    w: Any
    squares: Any


class Engine(Protocol):
    """Sums over all pairs of points, which are in class order.

    Arrays are of the library `xp`, NumPy or torch. `temperatures`: (t,) falling; `kernels`: implementation that has
    computed the tiles so far; `scale`: factor on the distances of the points that were passed.
    """

    xp: Any
    temperatures: Any
    kernels: str
    scale: float

    def guess_mean_distance(self, seed: int) -> float:
        """Mean distance of random pairs, or of all where that is cheap or float64 is asked for."""

    def kernel_pass(self, mu: float) -> KernelSums:
        """Pass 1 with the exponentials 2^(c d) of a mean distance mu."""

    def rescue_log_r(self, mu: float, R: Any, log_r: Any) -> tuple[Any, Any]:
        """(t, n) log r with inaccurate rows summed again, and whether each was accurate before."""

    def affinity_pass(self, mu: float, log_r: Any) -> AffinitySums:
        """Pass 2."""

    def rescue_affinities(self, mu: float, log_r: Any, sums: AffinitySums) -> tuple[AffinitySums, Any]:
        """`sums` with inaccurate rows summed again, and whether k was accurate before; all is in log space."""
        return sums, True

    def spread(self, mu: float, log_r: Any, sums: AffinitySums, seed: int) -> Any:
        """(t,) sum of B^2; None where `clorg_scale.rld.null` is to find it from the squares."""
        return None


class RowEngine(Protocol):
    """Tools of an engine for the rescue: the library of its arrays, (t,) temperatures, and distances."""

    xp: Any
    temperatures: Any

    def distances_to_all(self, rows: Integers) -> Iterator[ColumnDistances]:
        """Float64 distances of the points at some positions to all points."""


def exact_sums(
    engine_for: Callable[[Floats], Engine], points: ClassOrderedPoints, temperatures: Floats, seed: int
) -> ExactSums:
    """Sum the affinities of every point at every temperature; refuses points that are all identical.

    `engine_for` makes an engine of the points for falling temperatures; the seed is that of the random pairs and of the
    sample of rows.
    """
    falling = np.argsort(-temperatures, kind="stable")
    engine = engine_for(temperatures[falling])
    guess = engine.guess_mean_distance(seed)
    R, D, distance_sum = engine.kernel_pass(guess)
    mu = mean_distance(distance_sum, points.n_points)
    log_r = log_r_at(mu, guess, temperatures=engine.temperatures, R=R, D=D, log=engine.xp.log)
    log_r, r_is_accurate = engine.rescue_log_r(mu, R, log_r)
    sums = engine.affinity_pass(mu, log_r)
    sums, k_is_accurate = engine.rescue_affinities(mu, log_r, sums)
    spread = engine.spread(mu, log_r, sums, seed)
    n_rescued = (~(r_is_accurate & k_is_accurate)).sum(1)
    k, w, squares, log_r, n_rescued, spread = on_host((*sums, log_r, n_rescued, spread))
    back = np.argsort(falling)
    return ExactSums(
        k=restore_order(k[back], points.order),
        w=restore_order(w[back], points.order),
        log_r=restore_order(log_r[back], points.order),
        mean_distance=mu / engine.scale,
        n_rescued=n_rescued[back].astype(np.int64),
        kernels=engine.kernels,
        squares=squares[back] if spread is None else None,
        spread=None if spread is None else spread[back],
    )


def n_pair_visits(points: ClassOrderedPoints) -> float:
    """Pairs of points that all passes visit, for the progress bar."""
    passes = 3 if points.dtype == np.float64 else 2
    return passes * points.n_points * (points.n_points - 1) / 2


def restore_order(sums: Floats, order: Integers) -> Floats:
    """(t, n) sums of points in class order, in the order of the embeddings."""
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return sums[:, back]


def mean_distance(distance_sum: float, n: int) -> float:
    """Mu from the sum of the distances of all pairs of n points; refuses 0."""
    return positive_mean(2 * float(distance_sum) / (n * (n - 1)))


def rescued_log_r(engine: RowEngine, mu: float, log_r: Any, accurate: Any) -> Any:
    """Sum again, in float64 with a running log-sum-exp, the rows whose r is not accurate; changes log_r."""
    for rows in groups_of_rows(accurate):
        found = log_row_sums(engine, rows, mu)
        log_r[:, rows] = engine.xp.where(accurate[:, rows], log_r[:, rows], found)
    return log_r


def log_row_sums(engine: RowEngine, rows: Integers, mu: float) -> Any:
    """(t, b) log r of the points at some positions."""
    xp = engine.xp
    result: list[Any] = [None] * len(engine.temperatures)
    for block in engine.distances_to_all(rows):
        for t, temperature in enumerate(engine.temperatures.tolist()):
            exponents = block.distances / (-mu * temperature)
            highest = xp.amax(exponents, 1).clip(-1e300)  # -inf where the block is the point itself
            with np.errstate(divide="ignore"):
                found = highest + xp.log(xp.exp(exponents - highest[:, None]).sum(1))
            result[t] = found if result[t] is None else xp.logaddexp(result[t], found)
    return xp.stack(result)


def groups_of_rows(accurate: Any) -> Iterator[Integers]:
    """Positions that are not accurate at some temperature, a group of them at a time."""
    rows = np.flatnonzero(on_host(~accurate).any(axis=0))
    for start in range(0, len(rows), RESCUED_ROWS):
        yield rows[start : start + RESCUED_ROWS]


def on_host(result: Any) -> Any:
    """An engine's array, or a tuple of them, as NumPy's."""
    if isinstance(result, tuple):
        return tuple(map(on_host, result))
    return result.cpu().numpy() if hasattr(result, "cpu") else result
