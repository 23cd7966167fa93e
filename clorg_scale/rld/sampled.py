r"""Sampled RLD: an estimate of the same number, with a standard error, in O(n m d) work for m landmarks.

Both sums of the exact method are split. A pair of near neighbours is summed exactly; all other pairs through random
landmarks s of weight v_s, stratified by class (`clorg_scale.rld.landmarks`), leaving out what is in the near field M:

    r_i = sum over M(i) of E_ij   + sum over s of v_s E_is
    k_i = sum over M(i) of A_ij   + sum over s of v_s A_is,        A_ij = E_ij^2 / (r_i r_j)

**Error.** The landmarks form 16 groups. With group g left out and the others' weights raised by 16/15, r, k and RLD
come out as theta_g; the delete-a-group jackknife gives the standard error sqrt(15/16 sum (theta_g - mean)^2) and the
bias 15 |mean - theta|, of which the larger is reported. The sixteen r come from partial sums of the one pass; the
sixteen k are needed only for their differences, so a stratified sample of the points does.

**Number of landmarks.** A pilot of 256 tells how many the target needs: errors fall with the root of m.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from clorg_scale.errors import InputError
from clorg_scale.progress import Advance, progress_bar
from clorg_scale.rld.exact import pair_sample
from clorg_scale.rld.exp2 import smallest_exp2
from clorg_scale.rld.landmark_tiles import landmark_affinities, landmark_sums
from clorg_scale.rld.landmarks import GROUPS, Landmarks, Strata
from clorg_scale.rld.modularity import label_modularity
from clorg_scale.rld.near_field import NearField
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.tiles import NEAR, TILE, squares

__all__ = ["STUDENT", "SampledSums", "sampled_sums"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STUDENT = 2.1314
"""Half-width of the 95 % interval in standard errors: Student's t with 15 degrees of freedom."""

PILOT = 256
"""Landmarks wanted of the first estimate."""

MARGIN = 1.2
"""More landmarks than the pilot says are needed, for it is noisy itself."""

TOLERATED, MOST_ROUNDS = 1.4, 3
"""A round whose variance is within this factor of what is wanted is not followed by another one: what it says of its
own variance is uncertain by as much."""

CHECKED = 2048
"""Points on which the sixteen deletions are computed."""

HEADROOM = 16
"""Powers of two by which a term may exceed what it is scaled to, such as a neighbour nearer than the nearest known."""

PAIR_WORK = 200_000_000
"""Coordinates of random pairs that are read for mu."""

BLOCK_ROWS = 8 * TILE
"""Points read at once."""


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
    mean_distance
        mu.
    n_landmarks
        m.
    bias
        (t,) what the jackknife finds of bias; where it exceeds the standard error, more neighbours or landmarks help.
    squares
        (t,) sum of the squares of all affinities.
    """

    k: Floats
    w: Floats
    log_r: Floats
    stderr: Floats
    mean_distance: float
    n_landmarks: int
    bias: Floats
    squares: Floats


def sampled_sums(
    points: ClassOrderedPoints,
    codes: Integers,
    near_field: NearField,
    temperatures: Floats,
    *,
    target_error: float,
    n_landmarks: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> SampledSums:
    """Estimate the affinities of every point at every temperature.

    Parameters
    ----------
    points
        The embeddings.
    codes
        (n,) class codes in the order of the embeddings, -1 where unlabelled.
    near_field
        Pairs of near neighbours.
    temperatures
        (t,) T > 0.
    target_error
        Half-width of the 95 % interval to reach.
    n_landmarks
        Take so many instead of working towards the target.
    seed
        Of landmarks and pairs.
    progress
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        If all points are identical.
    """
    run = _Run(points, codes, near_field, temperatures, seed)
    wanted, enough = PILOT if n_landmarks is None else n_landmarks, 1.0
    for _ in range(MOST_ROUNDS):
        landmarks = run.strata.landmarks(wanted)
        visits = 2.0 * points.n_points * len(landmarks.rows)
        title = f"sampled RLD, {len(landmarks.rows):,} landmarks"
        with progress_bar(title, visits, unit="M pairs", scale=1e6, enabled=progress) as advance:
            log_r, k, w, of_squares, spread, bias = run.estimate(landmarks, advance)
        excess = float((STUDENT * spread / target_error).max()) ** 2
        if n_landmarks is not None or excess <= enough or landmarks.n_sampled == 0:
            break
        wanted, enough = int(np.ceil(MARGIN * excess * wanted)), TOLERATED
    return SampledSums(
        k, w, log_r * np.log(2), np.maximum(spread, bias), run.mean_distance, len(landmarks.rows), bias,
        of_squares,
    )  # fmt: skip


class _Run:
    """What all rounds have in common."""

    def __init__(
        self,
        points: ClassOrderedPoints,
        codes: Integers,
        near_field: NearField,
        temperatures: Floats,
        seed: int,
    ) -> None:
        self.points, self.codes, self.near_field = points, codes, near_field
        self.temperatures = temperatures
        pairs = pair_sample(points, seed, int(np.clip(PAIR_WORK // points.n_features, 2e5, 2e6)))
        self.mean_distance = float(pairs.mean())
        if not self.mean_distance > 0:
            raise InputError("All points are identical (their mean distance is 0); RLD is not defined for them.")
        self.mean_distance_error = float(pairs.std() / self.mean_distance / np.sqrt(len(pairs)))
        self.rates = -np.log2(np.e) / (self.mean_distance * temperatures)
        self.squared = squares(temperatures)
        self.strata = Strata(codes, seed)
        self.checked, self.checked_weights = self.strata.sample(CHECKED)
        self.n_classes = int(codes.max()) + 1
        dtype = points.dtype.type
        self.near, self.floor = dtype(NEAR), dtype(np.sqrt(smallest_exp2(points.dtype)))

    def estimate(self, landmarks: Landmarks, advance: Advance) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
        """(t, n) log2 r, k, w; (t,) sum of the squares of all affinities, standard error and bias of RLD."""
        L = self.points.rows(landmarks.rows)
        position = np.full(self.points.n_points, -1, dtype=np.int64)
        position[landmarks.rows] = np.arange(len(landmarks.rows))
        kept = self._kept(landmarks)
        log_r, ratios = self._kernel_pass(landmarks, L, position, kept, advance)
        k, w, of_squares = self._affinity_pass(landmarks, L, position, log_r, advance)
        values = label_modularity(k, w, self.codes, self.n_classes).values
        spread, bias = self._jackknife(landmarks, L, position, log_r, kept, ratios)
        return log_r, k, w, of_squares, np.hypot(spread, self._error_of_mean_distance(values)), bias

    def _kept(self, landmarks: Landmarks) -> Integers:
        """(n,) place of the points whose sixteen r are wanted (landmarks, checked points, their near fields), or -1."""
        indptr = self.near_field.indptr
        wanted = np.zeros(self.points.n_points, dtype=bool)
        wanted[landmarks.rows] = wanted[self.checked] = True
        for i in self.checked:
            wanted[self.near_field.indices[indptr[i] : indptr[i + 1]]] = True
        return np.where(wanted, np.cumsum(wanted) - 1, -1)

    def _blocks(
        self, L: Any, position: Integers, advance: Advance
    ) -> Iterator[tuple[slice, Any, Any, Any, tuple[Integers, Integers]]]:
        """Consecutive points: their place, coordinates, norms, those of the landmarks, and the pairs to skip."""
        l_norms = np.einsum("ij,ij->i", L, L)
        n = self.points.n_points
        with threadpool_limits(limits=1, user_api="blas"):
            for start in range(0, n, BLOCK_ROWS):
                rows = slice(start, min(n, start + BLOCK_ROWS))
                numbers = np.arange(rows.start, rows.stop)
                X = self.points.rows(numbers)
                yield rows, X, np.einsum("ij,ij->i", X, X), l_norms, self.near_field.among(numbers, position)
                advance(len(X) * len(L))

    def _kernel_pass(
        self, landmarks: Landmarks, L: Any, position: Integers, kept: Integers, advance: Advance
    ) -> tuple[Floats, npt.NDArray[np.float32]]:
        """(t, n) log2 r, and (kept, t, 17) what the deletions do to it: r_g / r."""
        dtype = self.points.dtype
        near_logs = self.near_field.log_sums(self.rates)
        shifts = self.rates[:, None] * self.near_field.nearest + HEADROOM
        log_r = np.empty_like(shifts)
        ratios = np.ones((int(kept.max()) + 1, len(self.rates), GROUPS + 1), dtype=np.float32)
        for rows, X, norms, l_norms, skip in self._blocks(L, position, advance):
            sums = landmark_sums(
                X, L, norms, l_norms, self.rates.astype(dtype), self.squared, shifts[:, rows].astype(dtype),
                dtype.type(2.0**HEADROOM), landmarks.weights.astype(dtype), landmarks.starts, *skip, self.near,
                self.floor,
            )  # fmt: skip
            near = np.exp2(near_logs[:, rows] - shifts[:, rows]).T
            sampled = sums[:, :, :GROUPS].sum(axis=2)
            r = near + sampled + sums[:, :, GROUPS]
            log_r[:, rows] = np.log2(r).T + shifts[:, rows]
            chosen = np.flatnonzero(kept[rows] >= 0)
            raised = (sampled[chosen, :, None] - sums[chosen, :, :GROUPS]) * (GROUPS / (GROUPS - 1))
            fixed = (near + sums[:, :, GROUPS])[chosen, :, None]
            ratios[kept[rows][chosen], :, 1:] = (raised + fixed) / r[chosen, :, None]
        return log_r, ratios

    def _affinity_pass(
        self, landmarks: Landmarks, L: Any, position: Integers, log_r: Floats, advance: Advance
    ) -> tuple[Floats, Floats, Floats]:
        """(t, n) k and w, (t,) sum of the squares of all affinities."""
        dtype = self.points.dtype
        k, w, of_squares = self.near_field.affinities(self.rates, log_r, self.codes)
        x_logs, factors = log_r + HEADROOM, np.empty(0)
        l_logs = log_r[:, landmarks.rows].copy()
        for t, root in enumerate(self.squared):
            if root >= 0:
                factors = np.exp2(2 * log_r[root] - log_r[t])
                x_logs[t], l_logs[t] = factors * 2.0**HEADROOM, factors[landmarks.rows]
        x_logs, l_logs = x_logs.astype(dtype), l_logs.astype(dtype)
        classes = self.codes.astype(np.int32)
        for rows, X, norms, l_norms, skip in self._blocks(L, position, advance):
            sums = landmark_affinities(
                X, L, norms, l_norms, (2 * self.rates).astype(dtype), self.squared, x_logs[:, rows], l_logs,
                landmarks.weights.astype(dtype), classes[rows], classes[landmarks.rows], *skip, self.near, self.floor,
            )  # fmt: skip
            k[:, rows] += sums[0] * 2.0**HEADROOM
            w[:, rows] += sums[1] * 2.0**HEADROOM
            of_squares[:, rows] += sums[2] * 4.0**HEADROOM
        w[:, self.codes < 0] = 0
        return k, w, of_squares.sum(axis=1)

    def _jackknife(
        self,
        landmarks: Landmarks,
        L: Any,
        position: Integers,
        log_r: Floats,
        kept: Integers,
        ratios: npt.NDArray[np.float32],
    ) -> tuple[Floats, Floats]:
        """(t,) standard error, (t,) size of the bias."""
        spreads, biases = np.zeros((2, len(self.temperatures)))
        if landmarks.n_sampled == 0:
            return spreads, biases
        deletions = _Deletions(self, landmarks, L, position, log_r, kept, ratios)
        k, w = deletions.affinities()
        codes = self.codes[self.checked]
        for t in range(len(self.temperatures)):
            theta = label_modularity(
                k[t] * self.checked_weights, w[t] * self.checked_weights, codes, self.n_classes
            ).values
            spreads[t] = np.sqrt((GROUPS - 1) / GROUPS * ((theta[1:] - theta[1:].mean()) ** 2).sum())
            biases[t] = (GROUPS - 1) * abs(theta[1:].mean() - theta[0])
        return spreads, biases

    def _error_of_mean_distance(self, values: Floats) -> Floats:
        """(t,) what the error of mu adds: RLD as a function of T is RLD as a function of mu."""
        order = np.argsort(self.temperatures)
        distinct = len(np.unique(self.temperatures)) == len(values) > 1
        slope = np.full(len(values), 0.6)  # the steepest that was met with
        if distinct:
            slope[order] = np.abs(np.gradient(values[order], np.log(self.temperatures[order])))
        return np.asarray(slope * self.mean_distance_error)


@dataclass(frozen=True)
class _Deletions:
    """The affinities of the checked points, as they are and with each group of landmarks left out."""

    run: _Run
    landmarks: Landmarks
    L: Any
    position: Integers
    log_r: Floats
    kept: Integers
    ratios: npt.NDArray[np.float32]

    def affinities(self) -> tuple[Floats, Floats]:
        """(t, 17, b) k and w."""
        run = self.run
        weights = self.landmarks.deletion_weights()
        of_landmarks = self.ratios[self.kept[self.landmarks.rows]]
        columns = (weights[:, None] / of_landmarks).astype(np.float32)  # (m, t, 17)
        k = np.empty((len(run.rates), GROUPS + 1, len(run.checked)))
        w = np.empty_like(k)
        for start in range(0, len(run.checked), TILE):
            part = slice(start, min(start + TILE, len(run.checked)))
            k[:, :, part], w[:, :, part] = self._block(run.checked[part], columns)
        return k, w

    def _block(self, rows: Integers, columns: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
        """(t, 17, b) of some checked points."""
        run, L = self.run, self.L
        X = run.points.rows(rows)
        squares = np.einsum("ij,ij->i", X, X)[:, None] + np.einsum("ij,ij->i", L, L) - 2 * (X @ L.T)
        distances = np.sqrt(np.maximum(squares, 0))
        starts, skipped = run.near_field.among(rows, self.position)
        distances[np.repeat(np.arange(len(rows)), np.diff(starts)), skipped] = np.inf
        same = run.codes[rows][:, None] == self.landmarks.codes
        near, logs = self._near(rows), self.log_r.astype(np.float32)
        k, w, A = [], [], np.empty(distances.shape, dtype=np.float32)
        for t, rate in enumerate(run.rates):
            np.multiply(distances, np.float32(2 * rate), out=A)
            A -= logs[t, rows, None]
            A -= logs[t, self.landmarks.rows]
            np.exp2(A, out=A)
            own = 1 / self.ratios[self.kept[rows], t].astype(np.float64)
            k.append(((A @ columns[:, t]) + near[0][t]) * own)
            A *= same
            w.append(((A @ columns[:, t]) + near[1][t]) * own)
        return np.stack(k).transpose(0, 2, 1), np.stack(w).transpose(0, 2, 1)

    def _near(self, rows: Integers) -> tuple[Floats, Floats]:
        """(t, b, 17) the near field's part, before the points' own r are changed."""
        run, field = self.run, self.run.near_field
        sizes = field.indptr[rows + 1] - field.indptr[rows]
        entries = np.repeat(field.indptr[rows] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
        entries += np.arange(len(entries))
        here, there = np.repeat(rows, sizes), field.indices[entries]
        same, first = run.codes[here] == run.codes[there], np.concatenate([[0], np.cumsum(sizes)[:-1]])
        k, w = [], []
        for t, rate in enumerate(run.rates):
            A = np.exp2(2 * rate * field.distances[entries] - self.log_r[t, here] - self.log_r[t, there])
            changed = A[:, None] / self.ratios[self.kept[there], t]
            k.append(np.add.reduceat(changed, first))
            w.append(np.add.reduceat(changed * same[:, None], first))
        return np.stack(k), np.stack(w)
