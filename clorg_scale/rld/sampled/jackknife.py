"""What sampled RLD would be without each group of landmarks: its standard error and the bias of its inverse sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange
from scipy.stats import t as student

from clorg_scale.numerics.compiler import njit
from clorg_scale.rld.sampled.landmarks import GROUPS

__all__ = ["Changes", "Jackknife", "relative_changes"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ONE = 32767
"""A relative change is at least -1 and held in 16 bits."""

LEAST = 0.1
"""Of r, what remains at least without one group: where it is less, the jackknife says all it can anyway."""

SHARE = (GROUPS - 1) / GROUPS


class Changes:
    """How r of each point changes without each group of landmarks: e_ig, r becomes r (1 + e_ig).

    Parameters
    ----------
    n_points, n_temperatures
        Sizes.
    """

    def __init__(self, n_points: int, n_temperatures: int) -> None:
        self._held = np.zeros((n_points, n_temperatures, GROUPS), dtype=np.int16)

    def record(self, rows: slice, changes: npt.NDArray[np.int16]) -> None:
        """Take over those of some points, from `relative_changes`."""
        self._held[rows] = changes

    def of(self, rows: slice) -> npt.NDArray[np.int16]:
        """(p, t, 16) e in units of 1 / ONE."""
        return self._held[rows]

    def variances(self) -> Floats:
        """(t, n) v: the relative variance of r."""
        return _variances(self._held)  # type: ignore[no-any-return]


def relative_changes(sums: Floats, r: Floats, finite_population: float) -> npt.NDArray[np.int16]:
    """(p, t, 16) e in units of 1 / ONE, from (p, t, 17) sums over the groups and the rest, and (p, t) r."""
    held = np.empty((*r.shape, GROUPS), dtype=np.int16)
    _relative_changes(sums, r, finite_population, held)
    return held


class Jackknife:
    """Sums over the classes as they are and without each group of landmarks, to first order.

    The affinity A_ij is divided by r_i and by r_j. What changes r_i of a row is seen there; what changes r_j of a
    column is by symmetry taken from the rows: w_j of it falls to j's class, the rest to all classes as their share in
    affinities across classes is.

    Parameters
    ----------
    n_temperatures, n_classes
        Sizes.
    n_strata
        Sets of tiles, which take turns, that err independently of one another; 1 where tiles do not.
    finite_population
        The finite-population correction, root of the share of points that a tile does not draw; multiplies all changes.
    """

    def __init__(self, n_temperatures: int, n_classes: int, n_strata: int, finite_population: float) -> None:
        shape = (n_temperatures, n_classes + 1)  # the last: unlabelled points
        self.n_strata, self.finite_population = n_strata, finite_population
        self.K, self.W, self.raw_K, self.raw_W = (np.zeros(shape) for _ in range(4))
        self.changes_of_K = np.zeros((n_strata, *shape, GROUPS))
        self.changes_within, self.changes_across = np.zeros((2, n_strata, n_temperatures, GROUPS))

    def empty(self) -> Jackknife:
        """One of the same kind without points."""
        return Jackknife(len(self.K), self.K.shape[1] - 1, self.n_strata, self.finite_population)

    def add(self, k: Floats, w: Floats, sums: Floats, changes: Any, codes: Integers, tiles: Integers) -> None:
        """Take some points.

        Parameters
        ----------
        k, w
            (t, p) near field's part of k and w; on return k and w, the bias of their own r removed.
        sums
            (2, p, t, 17) the landmarks' part, by groups.
        changes
            (p, t, 16) e.
        codes
            (p,) class codes, -1 where unlabelled.
        tiles
            (p,) numbers of their tiles.
        """
        _add_points(
            k, w, sums, changes, codes, tiles % self.n_strata, self.finite_population, self.K, self.W, self.raw_K,
            self.raw_W, self.changes_of_K, self.changes_within, self.changes_across,
        )  # fmt: skip

    def merge(self, other: Jackknife) -> None:
        """Take the points of another one."""
        for name, sums in self.__dict__.items():
            if isinstance(sums, np.ndarray):
                sums += getattr(other, name)

    def standard_error(self) -> Floats:
        """(t,) of RLD."""
        return np.asarray(np.sqrt(self._variances().sum(axis=0)))

    def interval(self) -> float:
        """Half-width of the 95 % interval in standard errors: Student's t, its degrees of freedom by Satterthwaite."""
        variances = self._variances()
        of_squares = np.maximum((variances**2).sum(axis=0), np.finfo(np.float64).tiny)
        freedom = (GROUPS - 1) * np.maximum(variances.sum(axis=0) ** 2 / of_squares, 1).min()
        return float(student.ppf(0.975, freedom))

    def _variances(self) -> Floats:
        """(s, t) of RLD by each stratum."""
        off = self.K - self.W
        share = off / np.maximum(off.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        variances = np.empty((self.n_strata, len(self.K)))
        for of_K, within, across, variance in zip(
            self.changes_of_K, self.changes_within, self.changes_across, variances, strict=True
        ):
            K = self.K[..., None] + of_K + across[:, None] * share[..., None]
            theta = _modularity(K, self.W.sum(axis=1)[:, None] + within)
            variance[:] = SHARE * ((theta - theta.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        return variances

    def values(self) -> Floats:
        """(t,) RLD."""
        return _modularity(self.K, self.W.sum(axis=1))

    def bias_removed(self) -> Floats:
        """(t,) about how far RLD would be off without the correction: twice what that of the rows does."""
        return np.asarray(
            2 * np.abs(_modularity(self.raw_K, self.raw_W.sum(axis=1)) - _modularity(self.K, self.W.sum(axis=1)))
        )


def _modularity(K: Floats, W: Floats) -> Floats:
    """Of K (t, C + 1, ...) of classes, of which the last, the unlabelled points, counts in 2m only, and W (t, ...)."""
    two_m = K.sum(axis=1)
    return np.asarray(W / two_m - ((K[:, :-1] / two_m[:, None]) ** 2).sum(axis=1))


@njit(nogil=True, parallel=True, cache=True)
def _relative_changes(sums: Any, r: Any, finite_population: Any, held: Any) -> None:
    for i in prange(len(sums)):
        for t in range(sums.shape[1]):
            sampled = 0.0
            for g in range(GROUPS):
                sampled += sums[i, t, g]
            for g in range(GROUPS):
                change = finite_population * (sampled - GROUPS * sums[i, t, g]) / ((GROUPS - 1) * r[i, t])
                held[i, t, g] = np.int16(np.rint(change * ONE))


@njit(nogil=True, parallel=True, cache=True)
def _variances(held: Any) -> Any:
    variances = np.empty((held.shape[1], held.shape[0]))
    for i in prange(held.shape[0]):
        for t in range(held.shape[1]):
            total = 0.0
            for g in range(GROUPS):
                total += (held[i, t, g] / ONE) ** 2
            variances[t, i] = SHARE * total
    return variances


@njit(nogil=True, parallel=True, cache=True)
def _add_points(
    k: Any, w: Any, sums: Any, changes: Any, codes: Any, strata: Any, finite_population: Any, K: Any, W: Any,
    raw_K: Any, raw_W: Any, changes_of_K: Any, changes_within: Any, changes_across: Any,
) -> None:  # fmt: skip
    for t in prange(len(k)):
        e, f, h = np.empty(GROUPS), np.empty(GROUPS), np.empty(GROUPS)
        for i in range(len(codes)):
            code = codes[i] if codes[i] >= 0 else K.shape[1] - 1
            sampled, sampled_within = 0.0, 0.0
            for g in range(GROUPS):
                sampled += sums[0, i, t, g]
                sampled_within += sums[1, i, t, g]
            total = k[t, i] + sampled + sums[0, i, t, GROUPS]
            within = w[t, i] + sampled_within + sums[1, i, t, GROUPS]
            if codes[i] < 0:
                within = 0.0
            variance, covariance, covariance_within = 0.0, 0.0, 0.0
            for g in range(GROUPS):
                e[g] = changes[i, t, g] / ONE
                f[g] = finite_population * (sampled - GROUPS * sums[0, i, t, g]) / ((GROUPS - 1) * total)
                h[g] = 0.0
                if within > 0:
                    h[g] = finite_population * (sampled_within - GROUPS * sums[1, i, t, g]) / ((GROUPS - 1) * within)
                variance += SHARE * e[g] * e[g]
                covariance += SHARE * e[g] * f[g]
                covariance_within += SHARE * e[g] * h[g]
            raw_K[t, code] += total
            raw_W[t, code] += within
            total *= (1 + max(covariance, -0.5)) / (1 + variance)
            within *= (1 + max(covariance_within, -0.5)) / (1 + variance)
            k[t, i], w[t, i] = total, within
            K[t, code] += total
            W[t, code] += within
            for g in range(GROUPS):
                remains = max(1 + e[g], LEAST)
                of_columns = within * (1 / remains - 1)
                changes_of_K[strata[i], t, code, g] += total * ((1 + f[g]) / remains - 1) + of_columns
                changes_within[strata[i], t, g] += within * ((1 + h[g]) / remains - 1) + of_columns
                changes_across[strata[i], t, g] += (total - within) * (1 / remains - 1)
