"""Modularity of given labels: ours against NumPy, igraph and NetworkX, conversion shown apart."""

from __future__ import annotations

from typing import Any

import numpy as np

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
    k = asked.k or 15
    session.say(f"searching {k} neighbors of {data.shape}")
    graph = cs.affinity_graph(cs.knn(data.X, k, seed=asked.seed))
    labels = data.y if data.y is not None else np.arange(graph.n_nodes) % 10
    matrix, converted = graph.to_scipy(), graph.to_igraph()
    entries = len(graph.indices)
    case = Case(
        f"{data.shape}, k = {k}, modularity of the classes",
        {"n": graph.n_nodes, "entries": entries},
        floor_of(0, 8.0 * entries + 16.0 * graph.n_nodes, session.rates),  # ids and weights, offsets and labels once
    )

    def quality(value: Any) -> dict[str, float]:
        return {"value": float(value)}

    contenders = [
        Contender(
            "ours",
            lambda: cs.modularity(graph, labels),
            quality,
            role="ours",
            warm_up=lambda: cs.modularity(graph, labels),
        ),
        Contender("NumPy on the CSR matrix", lambda: _numpy(matrix, labels), quality),
        Contender("igraph, converted before", lambda: converted.modularity(labels, weights="weight"), quality),
        Contender("igraph, conversion included", lambda: _igraph(graph, labels), quality),
    ]
    session.compare(case, contenders, repeats=7)
    slow = Contender("NetworkX, converted before", _networkx(graph, labels), quality, warm_up=lambda: _find_networkx())
    session.compare(case, [slow], repeats=1)


def _igraph(graph: Any, labels: Any) -> float:
    return float(graph.to_igraph().modularity(labels, weights="weight"))


def _numpy(matrix: Any, labels: Any) -> float:
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    total = matrix.data.sum(dtype=np.float64)
    inside = matrix.data[labels[rows] == labels[matrix.indices]].sum(dtype=np.float64)
    degrees = np.bincount(labels, weights=np.asarray(matrix.sum(axis=1)).ravel().astype(np.float64))
    return float(inside / total - (degrees**2).sum() / total**2)


def _networkx(graph: Any, labels: Any) -> Any:
    """The measurement, with the graph converted at the first call that is not timed."""
    cache: dict[str, Any] = {}

    def run() -> float:
        networkx = _find_networkx()
        return float(networkx.community.modularity(cache["graph"], cache["classes"], weight="weight"))

    try:
        _find_networkx()
    except Exception:
        return run
    cache["graph"] = graph.to_networkx()
    cache["classes"] = [set(np.flatnonzero(labels == c).tolist()) for c in np.unique(labels)]
    return run


def _find_networkx() -> Any:
    return import_peer("networkx")


BENCHMARK = Benchmark(
    "modularity",
    "modularity of class labels on the affinity graph: ours against NumPy, igraph and NetworkX",
    "60,000 nodes, 1.5M entries",
    2,
    _run,
    frozenset({"data", "points", "features", "k"}),
    ("networkx",),
)
