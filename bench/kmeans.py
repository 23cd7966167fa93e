"""k-means for the lists of an inverted file on a CPU: `faiss.Kmeans` as the index calls it, other settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .harness.data import load_data
from .harness.floors import floor_of
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK"]


def _run(session: Session) -> None:
    from clorg_scale.neighbors.algorithms.clustering import ITERATIONS

    asked = session.settings
    if asked.data or asked.points or asked.features:
        cases = [(asked.data or "mixture", asked.points, asked.features)]
    else:
        cases = [("mixture", 2000, 16)] if asked.quick else [("fashion-mnist", 60_000, None), ("mixture", 200_000, 128)]
    for name, n, d in cases:
        data = load_data(name, n, d, seed=asked.seed)
        X = data.X
        n_points = len(X)
        lists = max(1, min(round(math.sqrt(n_points)), n_points // 39))
        sample = X[np.sort(np.random.default_rng(0).choice(len(X), min(len(X), 64 * lists), replace=False))]
        case = Case(
            f"{data.shape}, {lists} lists, {len(sample):,} training points",
            {"n": len(sample), "d": X.shape[1], "k": lists},
            floor_of(2.0 * len(sample) * lists * X.shape[1] * ITERATIONS, 0, session.rates),
        )

        def objective(centroids: Any, sample: npt.NDArray[np.float32] = sample) -> dict[str, float]:
            import faiss

            return {"objective": float(faiss.knn(sample, np.ascontiguousarray(centroids), 1)[0].mean(dtype=np.float64))}

        contenders = [
            Contender(
                "ours",
                lambda s=sample, n=n_points: _ours(s, n, asked.seed),
                objective,
                role="ours",
                warm_up=lambda s=sample: _ours(s[:500], 500, 0),
            ),
            Contender(
                "faiss.Kmeans",
                lambda s=sample, m=lists: _faiss(s, m, ITERATIONS, asked.seed),
                objective,
                settings={"niter": ITERATIONS},
            ),
            Contender("faiss.Kmeans, defaults", lambda s=sample, m=lists: _faiss(s, m, None, asked.seed), objective),
            Contender(
                "scikit-learn KMeans",
                lambda s=sample, m=lists: _scikit_learn(s, m, ITERATIONS, asked.seed),
                objective,
                settings={"init": "random", "max_iter": ITERATIONS},
            ),
        ]
        session.compare(case, contenders, repeats=3)


def _ours(sample: npt.NDArray[np.float32], n: int, seed: int) -> Any:
    from clorg_scale.neighbors.algorithms.clustering import cluster

    return cluster(sample, seed, n_points=n)


def _faiss(sample: npt.NDArray[np.float32], lists: int, iterations: int | None, seed: int) -> Any:
    import faiss

    more = {} if iterations is None else {"niter": iterations}
    kmeans = faiss.Kmeans(sample.shape[1], lists, seed=seed + 1, min_points_per_centroid=1, **more)
    kmeans.train(sample)
    return kmeans.centroids


def _scikit_learn(sample: npt.NDArray[np.float32], lists: int, iterations: int, seed: int) -> Any:
    from sklearn.cluster import KMeans

    kmeans = KMeans(lists, init="random", n_init=1, max_iter=iterations, tol=0.0, random_state=seed)
    return kmeans.fit(sample).cluster_centers_


BENCHMARK = Benchmark(
    "kmeans",
    "k-means of an inverted file: faiss.Kmeans as the index calls it and by default, and scikit-learn; objectives",
    "15,680 x 784 in 245 lists; 28,608 x 128 in 447 lists",
    2,
    _run,
    frozenset({"data", "points", "features"}),
)
