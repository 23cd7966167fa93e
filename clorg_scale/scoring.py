"""Scorers by name for scikit-learn, which measure how a transformer, or the embeddings themselves, arrange the classes.

``cross_val_score(estimator, X, y, scoring=clorg_scale.scorers["rld"])`` measures on the points of each fold as the
estimator transforms them. RLD at small T depends on the number of points: compare scores of folds of one size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clorg_scale.arrays import UNLABELLED, encode_labels
from clorg_scale.errors import InputError
from clorg_scale.measures import calinski_harabasz, class_homogeneity
from clorg_scale.neighbors import knn
from clorg_scale.rld import rld
from clorg_scale.whole import whole_number

__all__ = ["Scorer", "scorers"]


@dataclass(frozen=True)
class Scorer:
    """A scorer of scikit-learn: ``scorer(estimator, X, y)`` gives a number, larger is better.

    Attributes
    ----------
    measure
        ``"rld"``, ``"class_homogeneity"``, ``"calinski_harabasz"`` or ``"knn_accuracy"``.
    temperature
        Of RLD.
    k
        Neighbors: of class homogeneity (cosine), or voters of the k-NN accuracy (Euclidean), among the points scored,
        the point itself left out.
    unlabelled
        The label of points without a class.
    """

    measure: str
    temperature: float | None = None
    k: int | None = None
    unlabelled: int | str | None = UNLABELLED

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Measure on X, transformed if the estimator transforms; the last step of a pipeline may be a predictor.

        Raises
        ------
        InputError
            If the estimator neither transforms nor is None, or the measure refuses the points.
        """
        if y is None:
            raise InputError(f"The scorer {self.measure} needs the classes y of the points.")
        return _MEASURES[self.measure](self, transformed(estimator, X), y)


def transformed(estimator: Any, X: Any) -> Any:
    """Points as an estimator, or a pipeline without its last predicting step, transforms them; X itself for None.

    Raises
    ------
    InputError
        If the estimator does not transform.
    """
    if estimator is None or estimator == "passthrough":
        return X
    if hasattr(estimator, "transform"):
        return estimator.transform(X)
    if hasattr(estimator, "steps") and len(estimator.steps) > 1:
        return transformed(estimator[:-1], X)
    raise InputError(
        f"{type(estimator).__name__} does not transform points, so there are no embeddings to score; put a transformer "
        "before it in a pipeline."
    )


def _rld(scorer: Scorer, X: Any, y: Any) -> float:
    assert scorer.temperature is not None
    return float(rld(X, y, temperatures=(scorer.temperature,), unlabelled=scorer.unlabelled).values[0])


def _class_homogeneity(scorer: Scorer, X: Any, y: Any) -> float:
    assert scorer.k is not None
    return class_homogeneity(knn(X, scorer.k, metric="cosine"), y, ks=[scorer.k], unlabelled=scorer.unlabelled)[
        scorer.k
    ]


def _calinski_harabasz(scorer: Scorer, X: Any, y: Any) -> float:
    return calinski_harabasz(X, y, unlabelled=scorer.unlabelled)


def _knn_accuracy(scorer: Scorer, X: Any, y: Any) -> float:
    """Leave-one-out accuracy of the vote of the k nearest labeled points."""
    from clorg_scale.probes.nearest import most_voted

    labels = encode_labels(y, len(X), unlabelled=scorer.unlabelled)
    labeled = np.flatnonzero(labels.codes >= 0)
    assert scorer.k is not None
    table = knn(X if len(labeled) == len(X) else X[labeled], scorer.k)
    codes = labels.codes[labeled]
    neighbors = codes[np.asarray(table.indices.get() if hasattr(table.indices, "get") else table.indices)]
    return float(np.mean(most_voted(neighbors, np.ones(neighbors.shape)) == codes))


_MEASURES = {
    "rld": _rld,
    "class_homogeneity": _class_homogeneity,
    "calinski_harabasz": _calinski_harabasz,
    "knn_accuracy": _knn_accuracy,
}


class _Scorers(Mapping[str, Scorer]):
    """Scorers by name; ``list(scorers)`` lists those of common settings.

    ``"rld"`` is RLD at T = 0.1, ``"rld_T0.05"`` at another temperature; ``"class_homogeneity_k10"`` and
    ``"knn_accuracy_k5"`` have another number of neighbors than 15; ``"calinski_harabasz"``.
    """

    _LISTED = (
        "rld",
        "rld_T1",
        "rld_T0.5",
        "rld_T0.2",
        "rld_T0.1",
        "rld_T0.05",
        "class_homogeneity",
        "class_homogeneity_k1",
        "class_homogeneity_k10",
        "class_homogeneity_k100",
        "calinski_harabasz",
        "knn_accuracy",
        "knn_accuracy_k1",
        "knn_accuracy_k5",
    )

    def __getitem__(self, name: str) -> Scorer:
        """Scorer of a name, those that are not listed too."""
        found = _scorer(name)
        if found is None:
            raise KeyError(f"{name!r} is not a scorer; there are {', '.join(self._LISTED)}, and others of T and k.")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._LISTED)

    def __len__(self) -> int:
        return len(self._LISTED)

    def __repr__(self) -> str:
        return f"scorers({', '.join(self._LISTED)})"


def _scorer(name: str) -> Scorer | None:
    """Scorer of a name; None where there is none."""
    if name == "calinski_harabasz":
        return Scorer(name)
    if name in ("class_homogeneity", "knn_accuracy"):
        return Scorer(name, k=15)
    if name == "rld":
        return Scorer(name, temperature=0.1)
    measure, _, setting = name.rpartition("_")
    try:
        if measure == "rld" and setting[:1] == "T" and 0 < float(setting[1:]) < np.inf:
            return Scorer(measure, temperature=float(setting[1:]))
        if measure in ("class_homogeneity", "knn_accuracy") and setting[:1] == "k":
            return Scorer(measure, k=whole_number("k", int(setting[1:]), 1))
    except ValueError:
        pass
    return None


scorers = _Scorers()
