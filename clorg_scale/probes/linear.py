"""Linear probe: softmax regression on standardized embeddings."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from clorg_scale.arrays import (
    UNLABELLED,
    Array,
    Device,
    on_host,
    resolve_device,
    row_slices,
)
from clorg_scale.errors import InputError
from clorg_scale.probes.estimator import (
    like_points,
    points_to_fit,
    points_to_predict,
    share_correct,
    training_labels,
)
from clorg_scale.probes.fitting import FitSettings, fit_softmax
from clorg_scale.probes.settings import check_number, check_whole
from clorg_scale.probes.softmax import softmax
from clorg_scale.probes.standardize import Standardization, StandardizedReader, standardization

__all__ = ["LinearProbe"]


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Softmax regression, p(y | x) = softmax(W (x - mean) / std + b).

    Minimizes the mean cross-entropy plus `weight_decay` / 2 times the sum of the squares of W, by L-BFGS over full
    passes in large blocks. The weight decay is chosen on a path from strong to weak, each value starting from the
    solution of the one before, by the loss on a stratified part of the training points that is set aside; the final
    fit is on all training points. Where few points can be set aside, this is repeated with others.

    Where a pass is expensive (ImageNet), the path is walked on a sample, its choice is carried to larger samples, and
    the fit on all points ends as soon as the loss on the points set aside no longer falls.

    Embeddings are read in blocks and may be memory maps larger than main memory.

    Parameters
    ----------
    learning_rate
        Has no effect, as L-BFGS finds the lengths of its steps; accepted for programs written for the former
        training by AdamW.
    weight_decay
        Strength of the penalty; 1 / (C n) for scikit-learn's C. None chooses it, or takes 1 / n where nothing is set
        aside.
    label_smoothing
        Share of each target that is spread evenly over all classes.
    batch_size
        Points of a block, which decides memory and speed only; None takes a few thousand.
    max_epochs
        Passes over the training points at most, for each path and for the final fit; None sets no limit.
    patience
        Training goes no farther once the held-out loss has not fallen for so many values of the weight decay, or
        iterations where a pass is expensive; None takes 2.
    validation_fraction
        Share of each class set aside; 0 sets nothing aside.
    seed
        Seed of the choice of these points; equal seeds give equal weights on one machine.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    memory_limit
        Bytes of main memory that may be taken beside the embeddings, or text such as ``"4GB"``; default: what is free.
    progress
        Show a progress bar.
    unlabelled
        The label of points without a class; None: every label, -1 too, is a class. Labels -1 and 1 alone are two
        classes, as in scikit-learn.

    Attributes
    ----------
    classes_
        (C,) class labels.
    n_features_in_, feature_names_in_
        Number of features; (d,) their names, where X was a frame with columns of numbers.
    coef_
        (C, d) float32, or float64 where float32 does not hold them: weights of the embeddings as passed
        (standardization folded in). Of two classes (1, d): those of the second minus those of the first.
    intercept_
        (C,), or (1,), of the same type.
    weight_decay_
        The weight decay used.
    n_epochs_
        Passes over the training points, rounded up.
    validation_loss_
        Held-out cross-entropy for each weight decay tried, strongest first (the mean, where repeated), then, where a
        pass is expensive, after each iteration on all points; empty where nothing was set aside.
    memory_needed_
        Bytes that the fit was predicted to take beside the embeddings.

    References
    ----------
    Byrd, Lu, Nocedal, Zhu, A limited memory algorithm for bound constrained optimization, 1995 (L-BFGS-B).
    """

    def __init__(
        self,
        *,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        label_smoothing: float = 0.0,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        seed: int = 0,
        device: Device = "auto",
        memory_limit: str | int | None = None,
        progress: bool = False,
        unlabelled: int | str | None = UNLABELLED,
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.device = device
        self.memory_limit = memory_limit
        self.progress = progress
        self.unlabelled = unlabelled

    def fit(self, X: Any, y: Any) -> LinearProbe:
        """Train on embeddings X (n, d) with labels y (n,).

        Points without a label are left out.

        Raises
        ------
        InputError
            If embeddings or labels cannot be used, or a setting is out of range.
        """
        settings = self._settings()
        X = points_to_fit(self, X)
        labels = training_labels(self, y, X.shape[0], unlabelled=self.unlabelled)
        xp = _compute_module(self.device)
        how = standardization(X, labels.codes >= 0)
        found = fit_softmax(StandardizedReader(X, how, xp), labels.codes, len(labels.names), settings)
        self.classes_ = labels.names
        self._standardization, self._weights = how, found.weights.astype(np.float32)
        self.coef_, self.intercept_ = _folded(self._weights, how)
        if len(self.classes_) == 2:
            self.coef_ = self.coef_[1:] - self.coef_[:1]
            self.intercept_ = self.intercept_[1:] - self.intercept_[:1]
        self.weight_decay_ = found.penalty
        self.n_epochs_ = math.ceil(found.passes)
        self.validation_loss_ = found.losses
        self.memory_needed_ = found.memory_needed
        return self

    def _settings(self) -> FitSettings:
        """Check the settings and take them together."""
        if self.learning_rate is not None:
            check_number("learning_rate", self.learning_rate, "positive", lambda rate: rate > 0)
            warnings.warn("learning_rate has no effect: the linear probe is fitted by L-BFGS.", stacklevel=3)
        if self.weight_decay is not None:
            check_number("weight_decay", self.weight_decay, "at least 0", lambda decay: decay >= 0)
        for name in ("label_smoothing", "validation_fraction"):
            check_number(name, getattr(self, name), "at least 0 and below 1", lambda share: 0 <= share < 1)
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least=1)
        check_whole("seed", self.seed, least=0)
        return FitSettings(
            validation_fraction=self.validation_fraction,
            weight_decay=None if self.weight_decay is None else float(self.weight_decay),
            label_smoothing=float(self.label_smoothing),
            batch_size=None if self.batch_size is None else int(self.batch_size),
            max_epochs=None if self.max_epochs is None else int(self.max_epochs),
            patience=2 if self.patience is None else int(self.patience),
            seed=int(self.seed),
            progress=self.progress,
            memory_limit=self.memory_limit,
        )

    @property
    def n_parameters(self) -> int:
        """Trained numbers, C (d + 1)."""
        check_is_fitted(self, "coef_")
        return int(self._weights.size)

    def predict(self, X: Any) -> Array:
        """Most probable class of each row of X (m, d); where X is on a GPU, on it, unless classes are strings."""
        X = self._rows(X)
        return like_points(self._predicted(X), X)

    def predict_proba(self, X: Any) -> Array:
        """(m, C) float32, probability of each class in the order of `classes_`; where X is."""
        X = self._rows(X)
        return like_points(softmax(self._all_logits(X)), X)

    def decision_function(self, X: Any) -> Array:
        """(m, C) float32, logits in the order of `classes_`; of two classes (m,), second minus first; where X is."""
        X = self._rows(X)
        logits = self._all_logits(X)
        return like_points(logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits, X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on X (m, d) with labels y (m,) of any library."""
        return share_correct(self._predicted(self._rows(X)), y, sample_weight)

    def _predicted(self, X: Array) -> npt.NDArray[Any]:
        best = np.empty(X.shape[0], dtype=np.int64)
        for rows, logits in self._logits(X):
            best[rows] = logits.argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _all_logits(self, X: Array) -> npt.NDArray[np.float32]:
        """(m, C) float32."""
        found = np.empty((X.shape[0], len(self.classes_)), dtype=np.float32)
        for rows, logits in self._logits(X):
            found[rows] = logits
        return found

    def _rows(self, X: Any) -> Array:
        """Check embeddings to predict: any number of rows of the trained width."""
        check_is_fitted(self, "coef_")
        return points_to_predict(self, X)

    def _logits(self, X: Array) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Ranges of rows, and their logits."""
        xp = _compute_module(self.device)
        reader = StandardizedReader(X, self._standardization, xp)
        weights = xp.asarray(self._weights)
        n_wrong, first_wrong = 0, -1
        for rows in row_slices(X.shape[0], max(X.shape[1], len(self.classes_)), itemsize=8):
            logits = on_host(reader(rows) @ weights[:-1] + weights[-1])
            wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
            if len(wrong):
                first_wrong = first_wrong if n_wrong else rows.start + int(wrong[0])
                n_wrong += len(wrong)
            yield rows, logits
        if n_wrong:
            raise InputError(
                f"The embeddings hold NaN or infinite values in {n_wrong} of {X.shape[0]} rows "
                f"(the first is row {first_wrong}); remove or repair these rows."
            )


def _folded(weights: npt.NDArray[np.float32], how: Standardization) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(C, d) weights and (C,) intercepts of the embeddings as passed."""
    with np.errstate(over="ignore"):
        coefficients = weights[:-1].astype(np.float64) * how.scale[:, None]
    intercepts = weights[-1] - (how.mean * how.unit) @ (weights[:-1] * how.factor[:, None])
    dtype = np.float32 if how.ordinary else np.float64
    return np.ascontiguousarray(coefficients.T.astype(dtype)), intercepts.astype(dtype)


def _compute_module(device: Device) -> ModuleType:
    """NumPy or, on the GPU, CuPy."""
    return np if resolve_device(device) == "cpu" else importlib.import_module("cupy")
