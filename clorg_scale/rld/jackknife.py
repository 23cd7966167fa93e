"""What sampled RLD would be without each group of landmarks: its standard error and the bias of its inverse sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from clorg_scale.rld.landmarks import GROUPS

__all__ = ["Changes", "Jackknife", "relative_changes"]

Floats = npt.NDArray[np.float64]

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


def relative_changes(sums: Floats, r: Floats) -> npt.NDArray[np.int16]:
    """(p, t, 16) e in units of 1 / ONE from (p, t, 17) sums over the groups and what is never left out, (p, t) r."""
    held = np.empty((*r.shape, GROUPS), dtype=np.int16)
    _relative_changes(sums, r, held)
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
    """

    def __init__(self, n_temperatures: int, n_classes: int) -> None:
        shape = (n_temperatures, n_classes + 1)  # the last: unlabelled points
        self.K, self.W, self.raw_K, self.raw_W = (np.zeros(shape) for _ in range(4))
        self.of_rows, self.of_rows_within, self.of_columns = (np.zeros((*shape, GROUPS)) for _ in range(3))
        self.across = np.zeros((n_temperatures, GROUPS))

    def add(self, k: Floats, w: Floats, sums: Floats, changes: Any, codes: npt.NDArray[np.int64]) -> None:
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
        """
        _add_points(
            k, w, sums, changes, codes, self.K, self.W, self.raw_K, self.raw_W, self.of_rows, self.of_rows_within,
            self.of_columns, self.across,
        )  # fmt: skip

    def merge(self, other: Jackknife) -> None:
        """Take the points of another one."""
        for name, sums in self.__dict__.items():
            sums += getattr(other, name)

    def standard_error(self) -> Floats:
        """(t,) of RLD."""
        off = self.K - self.W
        share = off / np.maximum(off.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        K = self.K[..., None] + self.of_rows + self.of_columns + self.across[:, None] * share[..., None]
        W = self.W[..., None] + self.of_rows_within + self.of_columns
        theta = _modularity(K, W)
        return np.asarray(np.sqrt(SHARE * ((theta - theta.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)))

    def bias_removed(self) -> Floats:
        """(t,) about how far RLD would be off without the correction: twice what that of the rows does."""
        return np.asarray(2 * np.abs(_modularity(self.raw_K, self.raw_W) - _modularity(self.K, self.W)))


def _modularity(K: Floats, W: Floats) -> Floats:
    """Of sums (t, C + 1, ...) over classes, of which the last, the unlabelled points, counts in 2m only."""
    two_m = K.sum(axis=1, keepdims=True)
    return np.asarray((W[:, :-1] / two_m - (K[:, :-1] / two_m) ** 2).sum(axis=1))


@njit(nogil=True, parallel=True, cache=True)
def _relative_changes(sums: Any, r: Any, held: Any) -> None:
    for i in prange(len(sums)):
        for t in range(sums.shape[1]):
            sampled = 0.0
            for g in range(GROUPS):
                sampled += sums[i, t, g]
            for g in range(GROUPS):
                change = (sampled - GROUPS * sums[i, t, g]) / ((GROUPS - 1) * r[i, t])
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
    k: Any, w: Any, sums: Any, changes: Any, codes: Any, K: Any, W: Any, raw_K: Any, raw_W: Any, of_rows: Any,
    of_rows_within: Any, of_columns: Any, across: Any,
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
                f[g] = (sampled - GROUPS * sums[0, i, t, g]) / ((GROUPS - 1) * total)
                h[g] = 0.0
                if within > 0:
                    h[g] = (sampled_within - GROUPS * sums[1, i, t, g]) / ((GROUPS - 1) * within)
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
                of_rows[t, code, g] += total * ((1 + f[g]) / remains - 1)
                of_rows_within[t, code, g] += within * ((1 + h[g]) / remains - 1)
                of_columns[t, code, g] += within * (1 / remains - 1)
                across[t, g] += (total - within) * (1 / remains - 1)
