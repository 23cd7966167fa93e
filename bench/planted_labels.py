"""Wrong labels planted in labeled points, ways of finding them, and how well each found them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clorg_scale.datasets import load_fashion_mnist, load_fashion_mnist_embeddings
from clorg_scale.datasets.idx import read_idx

__all__ = [
    "DATA",
    "KINDS",
    "Codes",
    "Floats",
    "Planted",
    "calibration_error",
    "found_wrong",
    "load",
    "models",
    "out_of_sample",
    "plant",
]

DATA = ("contrastive", "supervised", "pixels")

KINDS = ("uniform", "similar")

CS = (0.01, 0.1, 1.0)
"""Inverse penalties of cleanlab's logistic regression."""

FOLDS, NEIGHBORS = 5, 15

BINS = 15

SHIPPED_IMAGES = Path(__file__).parent.parent / "tests" / "data" / "fashion-mnist-3000"

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Planted(NamedTuple):
    """Points with labels, some of which are wrong."""

    points: npt.NDArray[np.float32]
    given: Codes
    wrong: npt.NDArray[np.bool_]


def load(name: str, n: int) -> tuple[npt.NDArray[np.float32], Codes]:
    """Training embeddings of a shipped network, or pixels: the images of the tests, or as many as are installed."""
    if name != "pixels":
        stored = load_fashion_mnist_embeddings(name, "train")
        return np.asarray(stored.embeddings[:n], dtype=np.float32), np.asarray(stored.labels[:n], dtype=np.int64)
    if n <= 3000:
        images = read_idx(SHIPPED_IMAGES / "train-images-idx3-ubyte.gz")
        labels = read_idx(SHIPPED_IMAGES / "train-labels-idx1-ubyte.gz")
    else:
        images, labels = load_fashion_mnist("train")
    images, labels = np.asarray(images[:n]), np.asarray(labels[:n])
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels.astype(np.int64)


def plant(points: npt.NDArray[np.float32], labels: Codes, share: float, kind: str, seed: int) -> Planted:
    """Make a share of the labels wrong: any other class, or one of the two with the nearest means."""
    rng = np.random.default_rng(seed)
    n_classes = int(labels.max()) + 1
    chosen = rng.choice(len(labels), int(share * len(labels)), replace=False)
    given, wrong = labels.copy(), np.zeros(len(labels), dtype=bool)
    wrong[chosen] = True
    if kind == "uniform":
        given[chosen] = (labels[chosen] + rng.integers(1, n_classes, len(chosen))) % n_classes
    else:
        means = np.stack([points[labels == label].mean(axis=0) for label in range(n_classes)])
        apart = ((means[:, None] - means) ** 2).sum(axis=2)
        np.fill_diagonal(apart, np.inf)
        given[chosen] = apart.argsort(axis=1)[labels[chosen], rng.integers(0, 2, len(chosen))]
    return Planted(points, given, wrong)


def models() -> dict[str, Any]:
    """Classifiers whose out-of-sample probabilities cleanlab gets, by name."""
    found: dict[str, Any] = {f"logistic C={C:g}": make_pipeline(StandardScaler(), LogisticRegression(C=C)) for C in CS}
    return found | {f"{NEIGHBORS}-NN": KNeighborsClassifier(NEIGHBORS)}


def out_of_sample(model: Any, planted: Planted) -> Floats:
    """(n, C) probabilities of each point's classes from a model that has not seen the point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        p: Floats = cross_val_predict(model, planted.points, planted.given, cv=FOLDS, method="predict_proba")
    return p


def found_wrong(score: Any, flags: npt.NDArray[np.bool_], wrong: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Quality of a score that is low for suspicious labels, and of the labels that are flagged."""
    n_wrong = int(wrong.sum())
    worst = np.argsort(score, kind="stable")[:n_wrong]
    return {
        "auroc": round(float(roc_auc_score(wrong, -score)), 4),
        "precision_at_planted": round(float(wrong[worst].mean()), 4),
        "flagged": int(flags.sum()),
        "flag_precision": round(float(wrong[flags].mean()) if flags.any() else 0.0, 4),
        "flag_recall": round(float(flags[wrong].mean()), 4),
    }


def calibration_error(certain: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Mean distance of certainty and share of hits over equal bins of certainty, weighted by their points."""
    bins = np.minimum((certain * BINS).astype(int), BINS - 1)
    size = np.bincount(bins, minlength=BINS)
    gaps = np.abs(np.bincount(bins, certain, BINS) - np.bincount(bins, right, BINS))
    return float(gaps.sum() / size.sum())
