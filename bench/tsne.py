"""The map of points: ours (openTSNE with our settings) against openTSNE, scikit-learn and cuML by their defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .harness.data import load_data
from .harness.isolated import run_isolated
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session
from .knn_truth import true_neighbors

__all__ = ["BENCHMARK"]


def _run(session: Session) -> None:
    asked = session.settings
    n = asked.points if asked.points is not None else 400 if asked.quick else 10_000
    data = load_data(asked.data or "contrastive", n, asked.features, seed=asked.seed)
    X, seed = data.X, asked.seed
    codes = np.zeros(len(X), np.int64) if data.y is None else np.unique(data.y, return_inverse=True)[1]
    truth = true_neighbors(X, 15, sample=1000, seed=seed)

    def kept(xy: Any) -> dict[str, float]:
        """Share of the 15 nearest neighbors in the features that are among the 15 nearest on the map."""
        import faiss

        flat = np.ascontiguousarray(xy, dtype=np.float32)
        return {"neighbors_kept": truth.recall(faiss.knn(flat[truth.rows], flat, 16)[1])}

    contenders = [
        Contender(
            "ours, lay_out",
            lambda: _ours(X, codes, seed),
            kept,
            role="ours",
            warm_up=lambda: _ours(X[:100], codes[:100], seed),
        ),
        Contender("openTSNE, defaults", lambda: _opentsne(X, seed), kept),
        Contender("openTSNE, defaults on 50 principal components", lambda: _opentsne(_reduced(X), seed), kept),
        Contender("scikit-learn TSNE, defaults", lambda: _scikit_learn(X, seed), kept),
        Contender("cuML TSNE, defaults", lambda: _cuml(X), kept),
    ]
    session.compare(Case(data.shape, {"n": len(X), "d": X.shape[1]}), contenders, repeats=1)


def _ours(X: npt.NDArray[np.float32], codes: npt.NDArray[np.int64], seed: int) -> Any:
    from clorg_scale.layout import lay_out

    return lay_out(X, codes, n_points=len(X), seed=seed)[1]


def _opentsne(X: npt.NDArray[np.float32], seed: int) -> Any:
    from openTSNE import TSNE

    return np.asarray(TSNE(random_state=seed).fit(X))


def _reduced(X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from sklearn.decomposition import PCA

    return PCA(min(50, *X.shape), random_state=0).fit_transform(X)


def _scikit_learn(X: npt.NDArray[np.float32], seed: int) -> Any:
    from sklearn.manifold import TSNE

    return TSNE(random_state=seed).fit_transform(X)


def _cuml(X: npt.NDArray[np.float32]) -> Any:
    return run_isolated(
        "cuml", "from cuml import TSNE", 'return TSNE(output_type="numpy").fit_transform(arrays["X"])', X=X
    )


BENCHMARK = Benchmark(
    "tsne",
    "map of the points: ours against openTSNE, scikit-learn (cuML); neighbors kept as quality",
    "10,000 shipped embeddings",
    5,
    _run,
    frozenset({"data", "points", "features"}),
    ("cuml-cu13",),
)
