"""The linear probe beside scikit-learn's LogisticRegression: accuracy on ten data sets, speed with many classes.

scikit-learn gets standardized features and, for the accuracies, the C of a grid that is best on the test points over
all splits: a choice that no user can make; its default, C = 1, is beside it. With many classes it gets the C that our
probe chose and makes all its iterations; its default tolerance ends it earlier, at a much higher loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets import load_fashion_mnist, load_fashion_mnist_embeddings
from clorg_scale.errors import InputError

from .harness.floors import floor_of
from .harness.isolated import run_isolated
from .harness.records import Record
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK"]

GRID = tuple(float(C) for C in np.logspace(-3, 2, 6))
"""Values that scikit-learn's C is chosen from."""

ITERATIONS = 150
"""Iterations of scikit-learn where there are many classes."""

Data = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def _run(session: Session) -> None:
    from sklearn.exceptions import ConvergenceWarning

    from clorg_scale.probes import LinearProbe

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        LinearProbe().fit(*_mixture(400, 4, 3))  # compiles
        _accuracies(session)
        _few_points(session)
        _many_classes(session)


def _accuracies(session: Session) -> None:
    """Mean accuracy over splits, at each C for scikit-learn; --quick takes few points of each data set."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    from clorg_scale.probes import LinearProbe

    for name, (X, y) in _data_sets(session):
        if session.settings.quick:
            X, y = _few(X, y)
        splits = session.repeats(5) if len(X) < 1000 else min(2, session.repeats(2))
        ours: list[float] = []
        theirs: list[list[float]] = []
        for seed in range(splits):
            train, test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
            ours.append(LinearProbe(seed=seed).fit(train, y_train).score(test, y_test))
            scaler = StandardScaler().fit(train)
            inside, outside = scaler.transform(train), scaler.transform(test)
            fits = (LogisticRegression(C=C, max_iter=200).fit(inside, y_train) for C in GRID)
            theirs.append([fit.score(outside, y_test) for fit in fits])
        means, n_test = np.mean(theirs, axis=0), splits * len(y_test)
        best = int(np.argmax(means))
        # Two classifiers of this accuracy that err independently; those that err alike differ by less.
        error = 2 * float(np.sqrt(2 * means[best] * (1 - means[best]) / n_test))
        size, case = {"n": len(train), "d": X.shape[1], "splits": splits}, f"accuracy, {name}"
        rows = {
            "ours": ("ours", float(np.mean(ours)), {}),
            "scikit-learn, best C on the test points": ("peer", float(means[best]), {"C": GRID[best]}),
            "scikit-learn, C = 1": ("peer", float(means[GRID.index(1.0)]), {"C": 1.0}),
        }
        for contender, (role, accuracy, settings) in rows.items():
            quality = {"accuracy": accuracy, "two_standard_errors": error}
            session.emit(Record("", case, contender, role, size=size, settings=settings, quality=quality))


def _data_sets(session: Session) -> Iterator[tuple[str, Data]]:
    """Ten data sets."""
    from sklearn import datasets

    for name in ("iris", "wine", "breast_cancer", "digits"):
        yield name, getattr(datasets, f"load_{name}")(return_X_y=True)
    yield "mixture, 3 classes in 2-D", _mixture(600, 2, 3)
    yield "mixture, 20 classes", _mixture(4000, 32, 20, modes=2)
    yield "mixture, 100 classes, few each", _mixture(2500, 64, 100)
    for kind in ("contrastive", "supervised"):
        stored = load_fashion_mnist_embeddings(kind, "test")
        yield f"Fashion-MNIST, {kind}", (np.asarray(stored.embeddings, dtype=np.float32), np.asarray(stored.labels))
    try:
        images, labels = load_fashion_mnist("train")
    except InputError as error:
        session.missing(Case("accuracy, Fashion-MNIST, 3,000 images", {}), "all", str(error))
        return
    yield "Fashion-MNIST, 3,000 images", (images[:3000].reshape(3000, -1).astype(np.float32), labels[:3000])


def _few(X: npt.NDArray[Any], y: npt.NDArray[Any]) -> Data:
    """At most 150 of the points, of at most ten classes."""
    rows = np.flatnonzero(np.isin(y, np.unique(y)[:10]))
    rows = np.random.default_rng(0).permutation(rows)[:150]
    return X[rows], y[rows]


def _mixture(n: int, d: int, n_classes: int, *, modes: int = 1, spread: float = 1.2, seed: int = 0) -> Data:
    """Classes of a few correlated Gaussian modes each, float32."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    centers = np.float32(spread) * rng.standard_normal((n_classes, modes, d), dtype=np.float32)
    mixing = np.eye(d, dtype=np.float32) + 0.5 * rng.standard_normal((d, d), dtype=np.float32) / np.sqrt(d)
    X = centers[y, rng.integers(modes, size=n)]
    for start in range(0, n, 1 << 14):
        block = X[start : start + (1 << 14)]
        block += rng.standard_normal(block.shape, dtype=np.float32) @ mixing
    return X, y


def _few_points(session: Session) -> None:
    """300 points of 2 features, where a user waits for nothing."""
    from clorg_scale.probes import LinearProbe

    X, y = _mixture(300, 2, 3)
    ours = Contender("ours", lambda: LinearProbe().fit(X, y), role="ours")
    theirs = Contender("scikit-learn, C = 1", lambda: _scikit_learn(X, y, 1.0, 100))
    session.compare(Case("300 x 2, 3 classes", {"n": 300, "d": 2}), [ours, theirs], repeats=session.repeats(9))


def _many_classes(session: Session) -> None:
    """16,000 x 256 in 1,000 classes."""
    from clorg_scale.probes import LinearProbe

    n, d, classes = (1200, 16, 20) if session.settings.quick else (16_000, 256, 1000)
    X, y = _mixture(n + n // 4, d, classes, modes=2, spread=0.5)
    train, test = slice(0, n), slice(n, None)
    chosen: list[float] = []

    def ours() -> Any:
        probe = LinearProbe().fit(X[train], y[train])
        chosen[:] = [1 / (n * probe.weight_decay_)]
        return probe

    def quality(fitted: Any) -> dict[str, float]:
        p = fitted.predict_proba(X[test])
        of_class = p[np.arange(len(p)), np.searchsorted(fitted.classes_, y[test])]
        accuracy = np.mean(fitted.classes_[p.argmax(axis=1)] == y[test])
        return {"loss": float(-np.log(np.maximum(of_class, 1e-30)).mean()), "accuracy": float(accuracy)}

    def theirs() -> Any:
        return _scikit_learn(X[train], y[train], chosen[0] if chosen else 1.0, ITERATIONS, tol=1e-12)

    # At least one pass over the points, forward and backward.
    case = Case(
        f"{n:,} x {d}, {classes:,} classes",
        {"n": n, "d": d, "classes": classes},
        floor_of(4.0 * n * d * classes, 4.0 * n * d, session.rates),
    )
    name = f"scikit-learn, our C, {ITERATIONS} iterations"
    defaults = Contender("scikit-learn, defaults", lambda: _scikit_learn(X[train], y[train], 1.0, 100), quality)
    contenders = [Contender("ours", ours, quality, role="ours"), Contender(name, theirs, quality), defaults]
    contenders.append(Contender("cuML, defaults", lambda: _cuml(X[train], y[train])))
    session.compare(case, contenders, repeats=1)


def _scikit_learn(X: Any, y: Any, C: float, iterations: int, **settings: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=iterations, **settings)).fit(X, y)


def _cuml(X: Any, y: Any) -> Any:
    work = 'return LogisticRegression(output_type="numpy").fit(arrays["X"], arrays["y"]).coef_'
    return run_isolated("cuml", "from cuml.linear_model import LogisticRegression", work, X=X, y=y)


BENCHMARK = Benchmark(
    "linear-probe",
    "linear probe against scikit-learn's logistic regression: accuracy on ten data sets, time with 1,000 classes",
    "ten data sets of 150 to 10,000 points; 16,000 x 256 in 1,000 classes",
    15,
    _run,
    peers=("cuml-cu13",),
)
