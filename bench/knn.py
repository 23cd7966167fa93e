"""k-NN tables: recall against time over the efforts of every library, and each library's own defaults.

All points are queries, and building the index counts: `seconds` is what a user waits for the whole table. The record's
settings hold the queries a second of the search alone, as the usual curves show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .faiss_pipelines import Index, Pipeline, default_pipelines, tuned_pipelines, without_self
from .harness.data import load_data
from .harness.floors import floor_of
from .harness.isolated import run_isolated
from .harness.peers import MissingPeerError, import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session
from .knn_rule import least_work
from .knn_truth import true_neighbors

__all__ = ["BENCHMARK"]

Search = Callable[[], npt.NDArray[np.int64]]

QUADRATIC = 100_000
"""Points up to which exact peers run."""


def _run(session: Session) -> None:
    import clorg_scale as cs

    asked = session.settings
    n = asked.points if asked.points is not None else 1500 if asked.quick else None
    data = load_data(asked.data or "fashion-mnist", n, asked.features, seed=asked.seed)
    X, k = data.X, asked.k or 15
    truth = true_neighbors(X, k, sample=200 if asked.quick else 1000, seed=asked.seed)
    size = {"n": len(X), "d": X.shape[1], "k": k}
    case = Case(f"{data.shape}, k = {k}", size, floor_of(*least_work(len(X), X.shape[1], k), session.rates))

    def ours(index: str, target: float) -> Any:
        return cs.knn(X, k, index=index, target_recall=target, seed=asked.seed).indices

    contenders = [
        Contender(
            f"ours, {index}" + (f" to {target:g}" if index == "ivf" else ""),
            lambda index=index, target=target: ours(index, target),
            role="ours",
            settings={"index": index, "target_recall": target},
            warm_up=lambda index=index: cs.knn(X[:1200], min(k, 100), index=index, seed=asked.seed),
        )
        for index, target in (("ivf", 0.95), ("ivf", 0.99), ("ivf", 0.999), ("flat", 1.0))
        if index == "ivf" or len(X) <= QUADRATIC
    ]
    contenders += [*_faiss(X, k, session), *_others(X, k, asked.seed)]

    def recall(found: Any) -> dict[str, float]:
        indices = found.get() if hasattr(found, "get") else found
        return {"recall": truth.recall(indices)}

    measured = [replace(c, quality=recall) for c in contenders]
    session.compare(case, measured, repeats=1)


def _faiss(X: npt.NDArray[np.float32], k: int, session: Session) -> Iterator[Contender]:
    """Every pipeline at every effort; the index is built again each time, as the time of a user."""
    quick = session.settings.quick
    for kind, pipelines in (("tuned", tuned_pipelines), ("defaults", default_pipelines)):
        for pipeline in pipelines(len(X), X.shape[1]):
            if pipeline.slow_build and len(X) > QUADRATIC:
                continue
            efforts = pipeline.efforts[:: max(1, len(pipeline.efforts) // 4)] if not quick else pipeline.efforts[-1:]
            for effort in efforts:
                yield Contender(
                    f"{pipeline.name} {effort.text or 'as it is'}".strip(),
                    lambda pipeline=pipeline, effort=effort: _build_and_search(pipeline, X, k, effort),
                    settings={"factory": pipeline.factory, "effort": effort.text, "kind": kind},
                )


def _build_and_search(pipeline: Pipeline, X: npt.NDArray[np.float32], k: int, effort: Any) -> npt.NDArray[np.int64]:
    return Index(pipeline, X).search(None, k, effort)


def _others(X: npt.NDArray[np.float32], k: int, seed: int) -> Iterator[Contender]:
    """Libraries beside FAISS: at their defaults, and at efforts that reach high recalls."""
    yield Contender("scikit-learn brute force", lambda: _scikit_learn(X, k), settings={"kind": "defaults"})
    for neighbors, kind in ((k + 1, "defaults"), (2 * k, "tuned")):
        yield Contender(
            f"PyNNDescent n_neighbors={neighbors}",
            lambda neighbors=neighbors: _pynndescent(X, k, neighbors, seed),
            settings={"n_neighbors": neighbors, "kind": kind},
            warm_up=lambda neighbors=neighbors: _pynndescent(X[:1000], min(k, 100), min(neighbors, 200), seed),
        )
    for ef, kind in ((None, "defaults"), (48, "tuned"), (128, "tuned")):
        yield Contender(
            f"hnswlib {'defaults' if ef is None else f'ef={ef}'}",
            lambda ef=ef: _hnswlib(X, k, ef, seed),
            settings={"ef": ef, "kind": kind},
        )
    for ef, kind in ((None, "defaults"), (128, "tuned"), (256, "tuned")):
        yield Contender(
            f"usearch {'defaults' if ef is None else f'expansion={ef}'}",
            lambda ef=ef: _usearch(X, k, ef),
            settings={"expansion": ef, "kind": kind},
        )
    yield Contender("cuML NearestNeighbors", lambda: _cuml(X, k), settings={"kind": "defaults"})
    yield Contender("cuVS CAGRA", lambda: _cuvs(X, k), settings={"kind": "defaults"})


def _scikit_learn(X: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    from sklearn.neighbors import NearestNeighbors

    if len(X) > QUADRATIC:
        raise MissingPeerError(f"left out beyond {QUADRATIC:,} points")
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(X).kneighbors(return_distance=False)


def _pynndescent(X: npt.NDArray[np.float32], k: int, neighbors: int, seed: int) -> npt.NDArray[np.int64]:
    pynndescent = import_peer("pynndescent")
    index = pynndescent.NNDescent(X, n_neighbors=neighbors + 1, random_state=seed)
    return without_self(index.neighbor_graph[0][:, : k + 1], np.arange(len(X)))


def _hnswlib(X: npt.NDArray[np.float32], k: int, ef: int | None, seed: int) -> npt.NDArray[np.int64]:
    hnswlib = import_peer("hnswlib")
    index = hnswlib.Index(space="l2", dim=X.shape[1])
    more = {} if ef is None else {"ef_construction": 200, "M": 16}
    index.init_index(max_elements=len(X), random_seed=seed + 1, **more)
    index.add_items(X)
    index.set_ef(max(k + 1, ef or 0))
    return without_self(index.knn_query(X, k + 1)[0].astype(np.int64), np.arange(len(X)))


def _usearch(X: npt.NDArray[np.float32], k: int, ef: int | None) -> npt.NDArray[np.int64]:
    usearch = import_peer("usearch.index", "usearch")
    more = {} if ef is None else {"expansion_add": ef, "expansion_search": ef}
    index = usearch.Index(ndim=X.shape[1], metric="l2sq", dtype="f32", **more)
    index.add(np.arange(len(X)), X)
    return without_self(np.asarray(index.search(X, k + 1).keys, dtype=np.int64), np.arange(len(X)))


def _cuml(X: npt.NDArray[np.float32], k: int) -> Any:
    work = f"""model = NearestNeighbors(n_neighbors={k + 1}, output_type="numpy").fit(arrays["X"])
return model.kneighbors(arrays["X"], return_distance=False)"""
    found = run_isolated("cuml", "from cuml.neighbors import NearestNeighbors", work, X=X)
    return found._replace(result=without_self(found.result, np.arange(len(X))))


def _cuvs(X: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    cagra, cupy = import_peer("cuvs.neighbors.cagra", "cuvs-cu13"), import_peer("cupy", "cupy-cuda13x")
    points = cupy.asarray(X)
    index = cagra.build(cagra.IndexParams(), points)
    _, found = cagra.search(cagra.SearchParams(), index, points, k + 1)
    return without_self(cupy.asnumpy(cupy.asarray(found)).astype(np.int64), np.arange(len(X)))


BENCHMARK = Benchmark(
    "knn",
    "k-NN tables: recall against time of FAISS, PyNNDescent, hnswlib, usearch, scikit-learn (cuVS) and ours",
    "60,000 x 784 (Fashion-MNIST), k = 15",
    60,
    _run,
    frozenset({"data", "points", "features", "k"}),
    ("pynndescent", "hnswlib", "usearch", "cuml-cu13"),
)
