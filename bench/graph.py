"""The affinity graph from a ready k-NN table: ours against umap's fuzzy set and scikit-learn's graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .harness.data import load_data
from .harness.floors import floor_of
from .harness.peers import import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK"]


def _run(session: Session) -> None:
    import clorg_scale as cs

    asked = session.settings
    n = asked.points if asked.points is not None else 1500 if asked.quick else None
    data = load_data(asked.data or "fashion-mnist", n, asked.features, seed=asked.seed)
    X, k = data.X, asked.k or 15
    session.say(f"searching {k} neighbors of {data.shape}")
    table = cs.knn(X, k, seed=asked.seed)
    ids, distances = np.asarray(table.indices), np.asarray(table.distances)
    # What umap's and scikit-learn's own tables look like: the point itself comes first.
    own = np.arange(len(X))
    with_self = np.column_stack([own, ids]), np.column_stack([np.zeros(len(X)), distances]).astype(np.float32)
    size = {"n": len(X), "k": k}
    # A table is read, about twice its entries are written: ids and weights in four bytes each, offsets.
    case = Case(
        f"{data.shape}, k = {k}, from the table",
        size,
        floor_of(0, 8.0 * ids.size + 8.0 * 2 * ids.size + 8 * len(X), session.rates),
    )

    def entries(graph: Any) -> dict[str, float]:
        return {"entries": float(graph.nnz if hasattr(graph, "nnz") else len(graph.indices))}

    contenders = [
        Contender("ours, rld weights", lambda: cs.affinity_graph(table), entries, role="ours"),
        Contender("ours, gaussian weights", lambda: _gaussian(table), entries, role="ours"),
        Contender(
            "umap fuzzy_simplicial_set",
            lambda: _umap(*with_self),
            entries,
            note="searches the scale of each point besides; the same neighbors",
        ),
        Contender(
            "scikit-learn joint probabilities of t-SNE",
            lambda: _weighted_scikit_learn(ids, distances),
            entries,
            note="searches the scale of each point besides, as umap does",
        ),
        Contender(
            "scikit-learn symmetrized kneighbors_graph",
            lambda: _scikit_learn(ids, distances),
            entries,
            note="kneighbors_graph's assembly, (A + A^T) / 2 as in SpectralClustering; distances, no weights",
        ),
        Contender("scanpy connectivities (umap)", lambda: _scanpy(*with_self), entries),
    ]
    warmed = [replace(c, warm_up=c.run) for c in contenders]  # compilation is not counted
    session.compare(case, warmed, repeats=7)


def _gaussian(table: Any) -> Any:
    import clorg_scale as cs

    return cs.affinity_graph(table, weighting="gaussian")


def _umap(ids: npt.NDArray[np.int64], distances: npt.NDArray[np.float32]) -> Any:
    umap = import_peer("umap.umap_", "umap-learn")
    return umap.fuzzy_simplicial_set(
        np.empty((len(ids), 1)), ids.shape[1], None, "euclidean", knn_indices=ids, knn_dists=distances
    )[0]


def _weighted_scikit_learn(ids: npt.NDArray[np.int64], distances: npt.NDArray[np.float32]) -> Any:
    """The symmetric graph with Gaussian weights that `TSNE` makes of its table, at the perplexity it takes for k."""
    from sklearn.manifold import _t_sne

    # TSNE asks for 3 perplexity + 1 neighbors, and passes squared distances to this function.
    # It sorts its argument in place.
    return _t_sne._joint_probabilities_nn(_distance_matrix(ids.copy(), distances**2), (ids.shape[1] - 1) / 3, 0)


def _scikit_learn(ids: npt.NDArray[np.int64], distances: npt.NDArray[np.float32]) -> Any:
    """Assemble the graph as `kneighbors_graph(mode="distance")` does, and symmetrize it as spectral clustering does."""
    graph = _distance_matrix(ids, distances)
    return 0.5 * (graph + graph.T)


def _distance_matrix(ids: npt.NDArray[np.int64], distances: npt.NDArray[np.float32]) -> Any:
    """(n, n) CSR of the table's distances, not symmetric."""
    import scipy.sparse as sp

    n, k = ids.shape
    return sp.csr_matrix((distances.ravel(), ids.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))


def _scanpy(ids: npt.NDArray[np.int64], distances: npt.NDArray[np.float32]) -> Any:
    connectivity = import_peer("scanpy.neighbors._connectivity", "scanpy")
    return connectivity.umap(ids, distances, n_obs=len(ids), n_neighbors=ids.shape[1])


BENCHMARK = Benchmark(
    "graph",
    "symmetric weighted graph from a k-NN table: ours against umap's fuzzy set, scikit-learn and scanpy",
    "60,000 points x 15 neighbors",
    2,
    _run,
    frozenset({"data", "points", "features", "k"}),
    ("umap-learn", "scanpy"),
)
