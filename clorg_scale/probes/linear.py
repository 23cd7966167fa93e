"""Linear probe: softmax regression on standardized embeddings."""

from __future__ import annotations

import importlib
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
    as_embeddings,
    encode_labels,
    on_host,
    resolve_device,
    row_slices,
)
from clorg_scale.errors import InputError
from clorg_scale.probes.settings import check_number, check_whole
from clorg_scale.probes.splits import stratified_hold_out
from clorg_scale.probes.standardize import Standardization, StandardizedReader, standardization
from clorg_scale.progress import progress_bar

__all__ = ["LinearProbe"]


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Softmax regression, p(y | x) = softmax(W (x - mean) / std + b).

    Trained with AdamW on minibatches under a cosine learning rate. Training stops when the loss on a
    stratified part of the training points, set aside for this, has not fallen for `patience` epochs; the
    weights of the best epoch are kept. Embeddings are read in blocks and may be memory maps larger than main
    memory: each epoch reads a fresh random permutation of the rows, a few thousand rows at a time.

    Parameters
    ----------
    learning_rate
        Of AdamW, at the start.
    weight_decay
        Of AdamW, on W.
    batch_size
        Points per step; None takes about 1/200 of the points, from 32 to 1024.
    max_epochs
        Length of the cosine schedule; None takes 30, or for few points as many as make 6,000 steps.
    patience
        Epochs without a lower held-out loss after which training stops; None takes a sixth of `max_epochs`.
    validation_fraction
        Share of each class set aside; 0 trains for all `max_epochs`.
    seed
        Of the split and of the order of the points; equal seeds give equal weights on one device.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    progress
        Show a progress bar.
    unlabelled
        The label of points without a class; None: every label, -1 too, is a class.

    Attributes
    ----------
    classes_
        (C,) class labels.
    coef_
        (C, d) float32, or float64 where float32 does not hold them: weights of the embeddings as handed in
        (standardization folded in).
    intercept_
        (C,) of the same type.
    n_epochs_
        Epochs trained.
    validation_loss_
        Held-out cross-entropy after each epoch; empty where nothing was set aside.

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, 2019 (AdamW).
    """

    def __init__(
        self,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        seed: int = 0,
        device: Device = "auto",
        progress: bool = False,
        unlabelled: int | str | None = UNLABELLED,
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.device = device
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
        self._check_settings()
        X = as_embeddings(X)
        labels = encode_labels(y, X.shape[0], unlabelled=self.unlabelled)
        xp = _compute_module(self.device)
        how = standardization(X, labels.codes >= 0)
        rng = np.random.default_rng(int(self.seed))
        kept, held_out = stratified_hold_out(labels.codes, self.validation_fraction, rng)
        reader = StandardizedReader(X, how, xp)
        weights = _train(reader, labels.codes, kept, held_out, len(labels.classes), rng, self)
        self.classes_ = labels.classes
        self.coef_, self.intercept_ = _folded(weights, how)
        self._standardization, self._weights = how, weights
        self.n_features_in_ = int(X.shape[1])
        return self

    def _check_settings(self) -> None:
        check_number("learning_rate", self.learning_rate, "positive", lambda rate: rate > 0)
        check_number("weight_decay", self.weight_decay, "at least 0", lambda decay: decay >= 0)
        fraction = self.validation_fraction
        check_number("validation_fraction", fraction, "at least 0 and below 1", lambda share: 0 <= share < 1)
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least=1)
        check_whole("seed", self.seed, least=0)

    @property
    def n_parameters(self) -> int:
        """Trained numbers, C (d + 1)."""
        check_is_fitted(self, "coef_")
        return int(self._weights.size)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Most probable class of each row of X (n, d)."""
        best = self._logits(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """(n, C) float32, probability of each class in the order of `classes_`."""
        return np.asarray(_softmax(self._logits(X), np))

    def decision_function(self, X: Any) -> npt.NDArray[np.float32]:
        """(n, C) float32, logits in the order of `classes_`."""
        return self._logits(X)

    def _logits(self, X: Any) -> npt.NDArray[np.float32]:
        check_is_fitted(self, "coef_")
        X = _as_rows(X, self.n_features_in_)
        xp = _compute_module(self.device)
        reader = StandardizedReader(X, self._standardization, xp)
        weights = xp.asarray(self._weights)
        logits = np.empty((X.shape[0], len(self.classes_)), dtype=np.float32)
        for rows in row_slices(*X.shape, itemsize=8):
            logits[rows] = on_host(reader(rows) @ weights[:-1] + weights[-1])
        wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(wrong):
            raise InputError(
                f"The embeddings hold NaN or infinite values in {len(wrong)} of {len(logits)} rows "
                f"(the first is row {wrong[0]}); remove or repair these rows."
            )
        return logits


def _folded(weights: npt.NDArray[np.float32], how: Standardization) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(C, d) weights and (C,) intercepts of the embeddings as handed in."""
    with np.errstate(over="ignore"):
        coefficients = weights[:-1].astype(np.float64) * how.scale[:, None]
    intercepts = weights[-1] - (how.mean * how.unit) @ (weights[:-1] * how.factor[:, None])
    dtype = np.float32 if how.ordinary else np.float64
    return np.ascontiguousarray(coefficients.T.astype(dtype)), intercepts.astype(dtype)


def _as_rows(X: Any, n_features: int) -> Array:
    """Embeddings to predict: any number of rows of the trained width."""
    X = X if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiub" else as_embeddings(X)
    if X.shape[1] != n_features:
        raise InputError(f"The embeddings have {X.shape[1]} features; the probe was trained on {n_features}.")
    return X


def _compute_module(device: Device) -> ModuleType:
    """NumPy or, on the GPU, CuPy."""
    return np if resolve_device(device) == "cpu" else importlib.import_module("cupy")


def _train(
    reader: StandardizedReader,
    codes: npt.NDArray[np.int64],
    kept: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.int64],
    n_classes: int,
    rng: np.random.Generator,
    probe: LinearProbe,
) -> npt.NDArray[np.float32]:
    """Weights (d + 1, C), the last row the intercept, of the epoch with the lowest held-out loss."""
    xp = reader.xp
    weights = xp.zeros((reader.X.shape[1] + 1, n_classes), dtype=np.float32)
    first, second = xp.zeros_like(weights), xp.zeros_like(weights)
    batch_size = int(probe.batch_size or 0) or int(np.clip(len(kept) // 200, 32, 1024))
    steps_per_epoch = -(-len(kept) // batch_size)
    max_epochs = int(probe.max_epochs or 0) or max(30, -(-6000 // steps_per_epoch))
    patience = int(probe.patience or 0) or max(5, max_epochs // 6)
    n_steps = max_epochs * steps_per_epoch
    step = 0
    best, best_weights, best_epoch = np.inf, weights, 0
    probe.validation_loss_ = []
    with progress_bar("linear probe", max_epochs * len(kept), unit="points", enabled=probe.progress) as advance:
        for epoch in range(1, max_epochs + 1):
            for x, y in _batches(reader, codes, rng.permutation(kept), batch_size):
                gradient = _gradient(weights, x, y, xp)
                step += 1
                rate = probe.learning_rate * 0.5 * (1 + np.cos(np.pi * (step - 1) / n_steps))
                _adamw_step(weights, first, second, gradient, step, rate, probe.weight_decay, xp)
                advance(len(y))
            probe.n_epochs_ = epoch
            if len(held_out) == 0:
                best_weights = weights
                continue
            loss = _cross_entropy(weights, reader, codes, held_out, batch_size)
            probe.validation_loss_.append(loss)
            if loss < best:
                best, best_weights, best_epoch = loss, weights.copy(), epoch
            elif epoch - best_epoch >= patience:
                break
    return np.ascontiguousarray(on_host(best_weights))


POOL_BYTES = 32 << 20
"""Rows of several batches are read together, in ascending order, so that a disk is read forward."""


def _batches(
    reader: StandardizedReader, codes: npt.NDArray[np.int64], order: npt.NDArray[np.int64], batch_size: int
) -> Iterator[tuple[Array, Array]]:
    """Read standardized batches and their class codes in the given order of rows."""
    row_bytes = 4 * reader.X.shape[1]
    pool_size = batch_size * max(1, POOL_BYTES // (row_bytes * batch_size))
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        ascending = np.sort(pool)
        x = reader(ascending)
        # The rows lie in ascending order; each batch picks its own, so batches follow `order` exactly.
        places = np.searchsorted(ascending, pool)
        for first in range(0, len(pool), batch_size):
            chosen = places[first : first + batch_size]
            yield x[reader.xp.asarray(chosen)], reader.xp.asarray(codes[ascending[chosen]])


def _gradient(weights: Array, x: Array, y: Array, xp: ModuleType) -> Array:
    """Gradient of the mean cross-entropy with respect to the weights."""
    error = _softmax(x @ weights[:-1] + weights[-1], xp)
    error[xp.arange(len(y)), y] -= 1
    error /= len(y)
    gradient = xp.empty_like(weights)
    gradient[:-1] = x.T @ error
    gradient[-1] = error.sum(axis=0)
    return gradient


def _softmax(logits: Array, xp: ModuleType) -> Array:
    """Softmax over the last axis."""
    p = xp.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


def _adamw_step(
    weights: Array, first: Array, second: Array, gradient: Array, step: int, rate: float, decay: float,
    xp: ModuleType,
) -> None:  # fmt: skip
    """One step of AdamW in place (beta = 0.9, 0.999); the intercept does not decay."""
    first += 0.1 * (gradient - first)
    second += 0.001 * (gradient * gradient - second)
    weights[:-1] *= 1 - rate * decay
    root = xp.sqrt(second / (1 - 0.999**step))
    weights -= (rate / (1 - 0.9**step)) * first / (root + 1e-8)


def _cross_entropy(
    weights: Array,
    reader: StandardizedReader,
    codes: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    batch_size: int,
) -> float:
    """Mean cross-entropy over the given rows."""
    xp = reader.xp
    total = 0.0
    for x, y in _batches(reader, codes, rows, batch_size):
        logits = x @ weights[:-1] + weights[-1]
        top = logits.max(axis=1)
        log_sum = top + xp.log(xp.exp(logits - top[:, None]).sum(axis=1))
        total += float((log_sum - logits[xp.arange(len(y)), y]).sum(dtype=np.float64))
    return total / len(rows)
