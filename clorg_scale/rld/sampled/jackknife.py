"""Sampled RLD without each group of landmarks: its standard error and the bias of its inverse sums.

On a device `rld.sampled.jackknife_torch` makes the same sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit  # a second less to import than scipy.stats

from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.threads import Rows, over_rows
from clorg_scale.rld.sampled.landmarks import GROUPS
from clorg_scale.rld.types import Floats

__all__ = ["ClassSums", "Jackknife", "PointSums", "relative_changes"]

ONE = 32767
"""Changes of r without a group, e_ig (r becomes r (1 + e_ig)), are at least -1; stored as int16 in units of 1 / ONE."""

LEAST = 0.1
"""Smallest share of r that is taken to remain without one group: where less does, errors are large anyway."""

SHARE = (GROUPS - 1) / GROUPS


class PointSums(NamedTuple):
    """Input of the jackknife for some points.

    `k`, `w`: (t, p) near field's share of k and w, replaced by k and w with the bias of their own r removed. `sums`:
    (2, p, t, 17) the landmarks' share of both, by groups. `changes`: (p, t, 16) e. `codes`, `tiles`: (p,) class codes,
    -1 where unlabelled, and numbers of their tiles.

    On a device k and w are (p, t).
    """

    k: Any
    w: Any
    sums: Any
    changes: Any
    codes: Any
    tiles: Any


class ClassSums(NamedTuple):
    """Sums over the classes; the last class is that of the unlabelled points.

    `K`, `W`: (t, C + 1) of k and of w; `K_raw`, `W_raw`: the same before the bias was removed; `K_changes`:
    (s, t, C + 1, 16) changes of K without each group, by strata; `changes_within`, `changes_across`: (s, t, 16) changes
    of all affinities within and across classes.
    """

    K: Floats
    W: Floats
    K_raw: Floats
    W_raw: Floats
    K_changes: Floats
    changes_within: Floats
    changes_across: Floats


class Jackknife:
    """Sums over the classes as they are and without each group of landmarks, to first order.

    The affinity A_ij is divided by r_i and by r_j. What changes r_i of a row is seen there; what changes r_j of a
    column is by symmetry taken from the rows: w_j of it falls to j's class, the rest to all classes as their share in
    affinities across classes is.

    `n_strata`: sets of tiles, which take turns, that err independently of one another; 1 where tiles do not.
    `finite_population`: the finite-population correction, root of the share of points that a tile does not draw;
    multiplies all changes.
    """

    def __init__(self, n_temperatures: int, n_classes: int, n_strata: int, finite_population: float) -> None:
        shape = (n_temperatures, n_classes + 1)
        self.n_strata, self.finite_population = n_strata, finite_population
        of_groups = np.zeros((2, n_strata, n_temperatures, GROUPS))
        K, W, K_raw, W_raw = np.zeros((4, *shape))
        self.sums = ClassSums(K, W, K_raw, W_raw, np.zeros((n_strata, *shape, GROUPS)), *of_groups)

    def empty(self) -> Jackknife:
        """One of the same kind without points."""
        n_temperatures, n_codes = self.sums.K.shape
        return Jackknife(n_temperatures, n_codes - 1, self.n_strata, self.finite_population)

    def add(self, points: PointSums) -> None:
        """Add some points; their k and w are corrected in place."""
        strata = points.tiles % self.n_strata
        arguments = points._replace(tiles=strata), self.finite_population, self.sums
        over_rows(_add_points, len(points.k), len(strata) * GROUPS, *arguments)

    def merge(self, other: Jackknife) -> None:
        """Add the points of another one."""
        for sums, more in zip(self.sums, other.sums, strict=True):
            sums += more

    def standard_error(self) -> Floats:
        """(t,) standard errors of RLD."""
        return np.asarray(np.sqrt(self._variances().sum(axis=0)))

    def interval(self) -> float:
        """Half-width of the 95 % interval in standard errors: Student's t, its degrees of freedom by Satterthwaite."""
        variances = self._variances()
        of_squares = np.maximum((variances**2).sum(axis=0), np.finfo(np.float64).tiny)
        freedom = (GROUPS - 1) * np.maximum(variances.sum(axis=0) ** 2 / of_squares, 1).min()
        return float(stdtrit(freedom, 0.975))

    def _variances(self) -> Floats:
        """(s, t) variances of RLD due to each stratum."""
        K, W = self.sums.K, self.sums.W
        off = K - W
        share = off / np.maximum(off.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        variances = np.empty((self.n_strata, len(K)))
        for of_K, within, across, variance in zip(
            self.sums.K_changes, self.sums.changes_within, self.sums.changes_across, variances, strict=True
        ):
            K_without = K[..., None] + of_K + across[:, None] * share[..., None]
            theta = _modularity(K_without, W.sum(axis=1)[:, None] + within)
            variance[:] = SHARE * ((theta - theta.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        return variances

    def values(self) -> Floats:
        """(t,) RLD."""
        return _modularity(self.sums.K, self.sums.W.sum(axis=1))

    def bias_removed(self) -> Floats:
        """(t,) approximate error of RLD without the correction: twice what that of the rows changes."""
        raw = _modularity(self.sums.K_raw, self.sums.W_raw.sum(axis=1))
        return np.asarray(2 * np.abs(raw - self.values()))


def _modularity(K: Floats, W: Floats) -> Floats:
    """Modularity from K (t, C + 1, ...), whose last class, the unlabelled points, counts in 2m only, and W (t, ...)."""
    two_m = K.sum(axis=1)
    return np.asarray(W / two_m - ((K[:, :-1] / two_m[:, None]) ** 2).sum(axis=1))


def relative_changes(sums: Floats, r: Floats, finite_population: float) -> tuple[npt.NDArray[np.int16], Floats]:
    """Changes of r without each group, from (p, t, 17) sums over the groups and the rest, and (p, t) r.

    Returns
    -------
    (p, t, 16) int16 e in units of 1 / ONE, and (t, p) v, the relative variance of r.
    """
    rounded, variances = np.empty((*r.shape, GROUPS), np.int16), np.empty(r.shape[::-1])
    over_rows(_relative_changes, len(r), r.shape[1] * GROUPS, sums, r, finite_population, (rounded, variances))
    return rounded, variances


@njit(nogil=True, cache=True)
def _relative_changes(rows: Rows, sums: Any, r: Any, finite_population: Any, into: tuple[Any, Any]) -> None:
    rounded, variances = into
    for i in range(rows[0], rows[1]):
        for t in range(sums.shape[1]):
            sampled, total = 0.0, 0.0
            for g in range(GROUPS):
                sampled += sums[i, t, g]
            for g in range(GROUPS):
                change = finite_population * (sampled - GROUPS * sums[i, t, g]) / ((GROUPS - 1) * r[i, t])
                rounded[i, t, g] = np.int16(np.rint(change * ONE))
                total += (rounded[i, t, g] / ONE) ** 2
            variances[t, i] = SHARE * total


@njit(nogil=True, cache=True)
def _add_points(rows: Rows, points: PointSums, finite_population: Any, class_sums: ClassSums) -> None:
    """Add points whose `tiles` are the numbers of their strata, at a range of temperatures."""
    k, w, sums, changes, codes, strata = points
    K, W, K_raw, W_raw, K_changes, changes_within, changes_across = class_sums
    for t in range(rows[0], rows[1]):
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
            K_raw[t, code] += total
            W_raw[t, code] += within
            total *= (1 + max(covariance, -0.5)) / (1 + variance)
            within *= (1 + max(covariance_within, -0.5)) / (1 + variance)
            k[t, i], w[t, i] = total, within
            K[t, code] += total
            W[t, code] += within
            for g in range(GROUPS):
                remains = max(1 + e[g], LEAST)
                of_columns = within * (1 / remains - 1)
                K_changes[strata[i], t, code, g] += total * ((1 + f[g]) / remains - 1) + of_columns
                changes_within[strata[i], t, g] += within * ((1 + h[g]) / remains - 1) + of_columns
                changes_across[strata[i], t, g] += (total - within) * (1 / remains - 1)
