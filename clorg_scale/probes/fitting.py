"""Fit of a softmax regression to a labeled data set: choice of held-out points, samples and passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import free_device_memory
from clorg_scale.arrays.memory import in_bytes
from clorg_scale.counted import counted
from clorg_scale.probes.discriminant import Moments, class_moments, discriminant_weights
from clorg_scale.probes.memory import Allowance, memory_allowed
from clorg_scale.probes.regularization import (
    CAREFUL,
    COARSE,
    CONVERGED,
    FINAL,
    QUICK,
    QUICK_FINAL,
    Effort,
    Path,
    Solver,
    penalty_path,
)
from clorg_scale.probes.softmax import BLOCK_NUMBERS, LabeledBlocks, SoftmaxLoss
from clorg_scale.probes.splits import stratified_hold_out
from clorg_scale.probes.standardize import StandardizedReader
from clorg_scale.progress import Advance, progress_bar

__all__ = ["Fit", "FitSettings", "fit_softmax", "memory_needed", "sample_sizes"]

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LARGEST_MATRIX = 4096
"""Features up to which their correlation matrix is decomposed."""

HELD_OUT_POINTS, REPEATS = 1000, 6
"""With fewer points held out, the path is repeated with others held out, this often at most."""

CHEAP_PASS = 5e9
"""Products of a pass (points x features x classes) up to which the whole path is walked on all points."""

INSTANT_PASS = 3e8
"""Products of a pass up to which L-BFGS goes on to full convergence."""

SLOW_PASS = 1e9
"""Products of a pass above which every other penalty is left out, and the solutions are rougher."""

SAMPLE_POINTS_PER_CLASS = 24
"""Points of each class in the sample of a path, at least."""

GROWTH = 4
"""Ratio of a sample to the one before it."""

SAMPLE, WHOLE = Effort(1e-3, 6), Effort(1e-4, 7)
"""Iterations on a larger sample, and on all points where they are many."""

SHRINKAGES, SCALES = (0.01, 0.1, 0.5), (1.0, 0.5)
"""Linear discriminants that a fit on many points may start from."""

PASSES = 1000
"""Passes that end a fit at the latest."""

EVALUATIONS = 8
"""Passes over its points that one penalty of a path is reckoned at, for the progress shown."""


CACHED_SHARE = 1 / 6
"""Share of the memory allowed up to which standardized points are kept between passes."""

CHEAP_TO_READ, SMALL = 256, 1 << 28
"""Classes from which reading and standardizing points anew costs some hundredths of a pass, so that only small arrays
(bytes) are kept."""

STATE_ARRAYS = 40
"""Arrays of the weights' size, float64, that exist at once: L-BFGS keeps ten pairs."""


class FitSettings(NamedTuple):
    """Settings of `LinearProbe` that decide the fit; see there."""

    validation_fraction: float
    weight_decay: float | None
    label_smoothing: float
    batch_size: int | None
    max_epochs: int | None
    patience: int
    seed: int
    progress: bool
    memory_limit: str | int | None = None


@dataclass(frozen=True)
class Fit:
    """A fitted softmax regression.

    Attributes
    ----------
    weights
        (d + 1, C) float64 for standardized embeddings, the last row the intercept.
    penalty
        Penalty on half the squared weights, beside the mean loss.
    losses
        Held-out losses.
    passes
        Passes over the training points.
    memory_needed
        Bytes that it was predicted to take beside the embeddings.
    """

    weights: Floats
    penalty: float
    losses: list[float]
    passes: float
    memory_needed: int = 0


def fit_softmax(reader: StandardizedReader, codes: Codes, n_classes: int, settings: FitSettings) -> Fit:
    """Fit to the points whose code is at least 0."""
    return _Fitting(reader, codes, n_classes, settings).fit()


def default_block_rows(n_features: int, n_classes: int) -> int:
    """Points of a block."""
    return int(np.clip(BLOCK_NUMBERS // max(n_features, n_classes), 64, 1 << 16))


def memory_needed(n: int, n_features: int, n_classes: int, block_rows: int | None = None) -> int:
    """Bytes that a fit to n points takes at least, beside the embeddings."""
    rows = min(n, default_block_rows(n_features, n_classes) if block_rows is None else block_rows)
    moments = 4 * n_features**2 if n_features <= LARGEST_MATRIX else 0
    matrices = 8 * (STATE_ARRAYS * (n_features + 1) * n_classes + moments)
    return 16 * rows * max(n_features, n_classes) + matrices + 48 * n


class _Fitting:
    def __init__(self, reader: StandardizedReader, codes: Codes, n_classes: int, settings: FitSettings) -> None:
        self.reader, self.codes, self.n_classes, self.settings = reader, codes, n_classes, settings
        self.rng = np.random.default_rng(settings.seed)
        self.labeled = np.flatnonzero(codes >= 0)
        self.n_features = int(reader.X.shape[1])
        self.block_rows = settings.batch_size or default_block_rows(self.n_features, n_classes)
        self.memory_needed, cached = self._memory()
        self.everything = LabeledBlocks(reader, codes, self.labeled, block_rows=self.block_rows, cached=cached)
        self.loss = SoftmaxLoss(reader.xp, settings.label_smoothing)

    def _memory(self) -> tuple[int, bool]:
        """Bytes needed beside the embeddings, and whether standardized points are kept among them.

        Raises
        ------
        InputError
            If they exceed the memory allowed.
        """
        allowance = memory_allowed(self.settings.memory_limit)
        if self.reader.xp is not np:
            allowance = Allowance(free_device_memory(), "free memory of the GPU")
        n, d = len(self.labeled), self.n_features
        needed, points = memory_needed(n, d, self.n_classes, self.block_rows), 4 * n * d
        what = f"The linear probe of {n} points, {counted(d, 'feature')} and {self.n_classes} classes"
        allowance.check(what, needed, "raise the limit, or lower batch_size")
        room = points < CACHED_SHARE * allowance.bytes and needed + points <= allowance.bytes
        cached = room and (self.n_classes < CHEAP_TO_READ or points < SMALL)
        return needed + points * cached, cached

    def fit(self) -> Fit:
        kept, held_out = stratified_hold_out(self.codes, self.settings.validation_fraction, self.rng)
        sizes = sample_sizes(len(kept), self.n_features, self.n_classes)
        if len(held_out) == 0 or len(sizes) == 1:
            return self._on_all_points(kept, held_out)
        return self._on_growing_samples(kept, held_out, sizes)

    def _on_all_points(self, kept: Codes, held_out: Codes) -> Fit:
        """Walk the path on all points but those held out, then fit all at the penalty chosen."""
        settings = self.settings
        repeats = 0
        if len(held_out):
            repeats = 1 if settings.weight_decay is not None else -(-HELD_OUT_POINTS // len(held_out))
        repeats = min(repeats, REPEATS)
        penalties, effort, final = self._penalties(len(kept)), CAREFUL, FINAL
        products = len(self.labeled) * self.n_features * self.n_classes
        if products < INSTANT_PASS:
            final = CONVERGED
        elif products > SLOW_PASS:
            penalties, effort, final = penalties[2::2] or penalties, QUICK, QUICK_FINAL
        whole, curves, passes = self.everything, [], 0.0
        path_points, final_points = EVALUATIONS * len(penalties) * len(kept), 4 * EVALUATIONS * len(self.labeled)
        with self._progress(repeats * path_points + final_points) as allotments:
            solver = self._solver(whole, allotments)
            weights = np.zeros((self.n_features + 1, self.n_classes))
            for repeat in range(repeats):
                if repeat:
                    kept, held_out = stratified_hold_out(self.codes, settings.validation_fraction, self.rng)
                with allotments.next(path_points):
                    blocks = self._blocks(kept), self._blocks(held_out)
                    found = solver.path(*blocks, penalties, effort=effort, patience=settings.patience)
                weights = found.weights
                curves.append(found.losses)
                passes, solver.used = passes + solver.used, 0.0
            losses, chosen = _strongest_good(curves)
            penalty = penalties[chosen] if curves else self._given_or_default()
            with allotments.next(final_points):
                weights = solver.solve(whole, weights, penalty, effort=final)
        return Fit(weights, penalty, losses, passes + solver.used, self.memory_needed)

    def _on_growing_samples(self, kept: Codes, held_out: Codes, sizes: list[int]) -> Fit:
        """Walk the path on a sample; at the penalty chosen, go on to larger ones and to all points."""
        patience = self.settings.patience
        shuffled = self.rng.permutation(kept)
        judged = self._blocks(held_out)
        penalties = self._penalties(sizes[0])
        path_points = EVALUATIONS * len(penalties) * sizes[0]
        sample_points = [SAMPLE.iterations * size for size in sizes[1:-1]]
        whole_points = WHOLE.iterations * len(kept)
        with self._progress(path_points + sum(sample_points) + whole_points) as allotments:
            whole = self._blocks(kept)
            moments = self._moments(whole)
            solver = self._solver(whole, allotments, moments)
            with allotments.next(path_points):
                sample = self._blocks(np.sort(shuffled[: sizes[0]]))
                found = solver.path(sample, judged, penalties, effort=COARSE, patience=patience)
            losses, size = found.losses, sizes[0]
            start = self._best_start(found, moments, judged)
            for size, points in zip(sizes[1:-1], sample_points, strict=True):
                with allotments.next(points):
                    if start is not found:  # a discriminant of all points: a sample would take it back
                        continue
                    sample = self._blocks(np.sort(shuffled[:size]))
                    penalty = self._scaled(found.penalty, sizes[0], size)
                    weights = solver.solve(sample, start.weights, penalty, effort=SAMPLE)
                    start = found = Path(weights, found.penalty)
            with allotments.next(whole_points):
                penalty = self._scaled(found.penalty, sizes[0], len(kept))
                start = Path(start.weights, penalty)
                found = solver.stopped_early(whole, judged, start, effort=WHOLE, patience=patience)
        return Fit(found.weights, penalty, losses + found.losses[1:], solver.used, self.memory_needed)

    def _best_start(self, found: Path, moments: Moments | None, judged: LabeledBlocks) -> Path:
        """Choose between the weights of a path and linear discriminants by the held-out loss."""
        if moments is None:
            return found
        lowest, best = min(found.losses), found
        for shrinkage, scale in product(SHRINKAGES, SCALES):
            weights = discriminant_weights(moments, shrinkage=shrinkage, scale=scale)
            loss = self.loss.value(weights, judged)
            if loss < lowest:
                lowest, best = loss, Path(weights, found.penalty)
        return best

    def _penalties(self, n: int) -> list[float]:
        given = self.settings.weight_decay
        return penalty_path(n, self.n_classes) if given is None else [given]

    def _given_or_default(self) -> float:
        """The penalty where nothing is held out: C = 1 unless one is given."""
        given = self.settings.weight_decay
        return 1 / len(self.labeled) if given is None else given

    def _scaled(self, penalty: float, n: int, larger: int) -> float:
        """The penalty that weighs as much against a larger sample's sum of losses; a given one stays."""
        return penalty * n / larger if self.settings.weight_decay is None else penalty

    def _blocks(self, rows: Codes) -> LabeledBlocks:
        return self.everything.subset(rows)

    def _moments(self, blocks: LabeledBlocks) -> Moments | None:
        return class_moments(blocks, self.n_classes) if self.n_features <= LARGEST_MATRIX else None

    def _solver(self, blocks: LabeledBlocks, advance: Advance, moments: Moments | None = None) -> Solver:
        if moments is None:
            moments = self._moments(blocks)
        return Solver(
            self.loss,
            None if moments is None else np.linalg.eigh(moments.second),
            n_classes=self.n_classes,
            n_points=len(blocks),
            passes=self.settings.max_epochs or PASSES,
            advance=advance,
        )

    @contextmanager
    def _progress(self, points: int) -> Iterator[_Allotments]:
        title = f"linear probe ({in_bytes(self.memory_needed)})"
        with progress_bar(title, points, unit="points", enabled=self.settings.progress) as advance:
            yield _Allotments(advance)


def sample_sizes(n: int, n_features: int, n_classes: int) -> list[int]:
    """Points of the sample that the path is walked on, of ever larger ones, and n; only n where a pass is cheap."""
    sizes = [max(SAMPLE_POINTS_PER_CLASS * n_classes, int(CHEAP_PASS / (n_features * n_classes)))]
    if sizes[0] >= n / 2:
        return [n]
    while sizes[-1] * GROWTH < n / 2:
        sizes.append(sizes[-1] * GROWTH)
    return [*sizes, n]


class _Allotments:
    """Progress in steps whose length is not known: each has an allotment of points, and counts as that many."""

    def __init__(self, advance: Advance) -> None:
        self.advance, self.left = advance, 0.0

    @contextmanager
    def next(self, points: float) -> Iterator[None]:
        """Begin a step; at its end, count what is left of its allotment."""
        self.left = points
        yield
        self.advance(self.left)

    def __call__(self, points: float) -> None:
        """Count points read, up to the allotment."""
        counted = min(points, self.left)
        self.left -= counted
        self.advance(counted)


def _strongest_good(curves: list[list[float]]) -> tuple[list[float], int]:
    """Mean held-out losses of repeated paths, and which penalty to take.

    The strongest penalty whose loss exceeds the lowest by no more than the standard error of this difference
    (Breiman, Friedman, Olshen, Stone, Classification and regression trees, 1984). A path that ended early counts with
    its last loss beyond its end.
    """
    if not curves:
        return [], 0
    length = max(map(len, curves))
    padded = np.array([curve + curve[-1:] * (length - len(curve)) for curve in curves])
    means = padded.mean(axis=0)
    lowest = int(np.argmin(means))
    excess = padded - padded[:, [lowest]]
    errors = excess.std(axis=0, ddof=1) / np.sqrt(len(curves)) if len(curves) > 1 else np.zeros(length)
    return means.tolist(), int(np.argmax(means <= means[lowest] + errors))
