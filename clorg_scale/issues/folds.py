"""A linear probe on each set of folds but one, so that the logits of a point come from points other than itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, ClassLabels, Device, array_module, on_host
from clorg_scale.progress import Advance

if TYPE_CHECKING:
    from clorg_scale.probes.linear import LinearProbe

__all__ = ["FOLDS", "FoldedProbe"]

FOLDS = 5

PASSES = 25
"""Passes over its points at most; with penalties as strong as ours, logits move by a few hundredths after that."""

WORK = 1e12
"""Multiplications (points x features x classes x passes) of a fit, made on fewer points where it would take more."""

FEWEST_PER_CLASS = 24
"""Points of each class, at least, that a fit is made on."""

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FoldedProbe:
    """Fitted probes.

    Attributes
    ----------
    points
        (n, d).
    fold
        (n,) fold of each point, whose probe has not seen it.
    probes
        One a fold.
    n_fitted
        Points that each was fitted on, about.
    n_classes
        C.
    """

    points: Array
    fold: npt.NDArray[np.int8]
    probes: list[LinearProbe]
    n_fitted: int
    n_classes: int

    @classmethod
    def fitted(
        cls,
        points: Array,
        classes: ClassLabels,
        *,
        penalty: float,
        left_out: npt.NDArray[np.bool_] | None = None,
        seed: int,
        device: Device,
        memory_limit: int | None = None,
        advance: Advance,
    ) -> FoldedProbe:
        """Fit the probes; where the points are many, on a sample of each class.

        Parameters
        ----------
        points, classes
            (n, d), and (n,) codes, -1 where unlabelled.
        penalty
            Weight decay of the probes.
        left_out
            (n,) points that no probe learns from.
        seed, device
            Of the folds; where the probes are fitted.
        memory_limit
            Bytes for each fit.
        advance
            Called after each probe.
        """
        from clorg_scale.probes.linear import LinearProbe

        rng = np.random.default_rng(seed)
        n, d = points.shape
        n_classes = len(classes.names)
        # In an order that is random within each class, every fifth point of a class is in the same fold.
        order = rng.permutation(n)
        order = order[np.argsort(classes.codes[order], kind="stable")]
        position = np.empty(n, dtype=np.int64)
        position[order] = np.arange(n)
        sorted_codes = classes.codes[order]
        first = np.searchsorted(sorted_codes, sorted_codes)
        rank = np.empty(n, dtype=np.int64)
        rank[order] = np.arange(n) - first
        fold = (rank % FOLDS).astype(np.int8)
        most = max(FEWEST_PER_CLASS, int(WORK / (PASSES * d * n_classes)) // n_classes)
        usable = classes.codes >= 0 if left_out is None else (classes.codes >= 0) & ~left_out
        probes = []
        n_fitted = 0
        for held_out in range(FOLDS):
            chosen = usable & (fold != held_out) & (rank < most * FOLDS / (FOLDS - 1))
            if len(np.unique(classes.codes[chosen])) < 2:  # all classes but one are of a single point
                chosen = usable
            n_fitted = max(n_fitted, int(chosen.sum()))
            codes = np.where(chosen, classes.codes, -1)
            probe = LinearProbe(
                weight_decay=penalty,
                validation_fraction=0.0,
                max_epochs=PASSES,
                seed=seed,
                device=device,
                memory_limit=memory_limit,
            )
            probes.append(probe.fit(points, ClassLabels(codes, np.arange(n_classes))))
            advance(1)
        return cls(points, fold, probes, n_fitted, n_classes)

    def logits(self, rows: Codes) -> npt.NDArray[np.float64]:
        """(b, C) logits of some points, each from the probe that has not seen it."""
        found = np.empty((len(rows), self.n_classes))
        for number, probe in enumerate(self.probes):
            at = np.flatnonzero(self.fold[rows] == number)
            if len(at):
                scores = on_host(probe.decision_function(self.points[array_module(self.points).asarray(rows[at])]))
                # Of two classes, scikit-learn's form is the difference of their logits.
                found[at] = scores if scores.ndim == 2 else np.column_stack([np.zeros_like(scores), scores])
        return found
