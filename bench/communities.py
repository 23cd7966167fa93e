"""Communities of the affinity graph, conversion included: ours against igraph, leidenalg, NetworKit and others."""

from __future__ import annotations

from typing import Any

import numpy as np

from .harness.data import load_data
from .harness.isolated import run_isolated
from .harness.peers import MissingPeerError, import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK"]

NETWORKX_ENTRIES = 600_000
"""Entries up to which NetworkX runs: beyond, its Louvain takes minutes."""


def _run(session: Session) -> None:
    import clorg_scale as cs

    asked = session.settings
    n = asked.points if asked.points is not None else 1500 if asked.quick else None
    data = load_data(asked.data or "fashion-mnist", n, asked.features, seed=asked.seed)
    k, seed = asked.k or 15, asked.seed
    session.say(f"searching {k} neighbors of {data.shape}")
    graph = cs.affinity_graph(cs.knn(data.X, k, seed=seed))
    size = {"n": graph.n_nodes, "k": k, "entries": len(graph.indices)}
    case = Case(f"{data.shape}, k = {k}", size)

    def quality(labels: Any) -> dict[str, float]:
        found = np.unique(np.asarray(labels), return_inverse=True)[1]
        return {"modularity": cs.modularity(graph, found), "communities": float(found.max() + 1)}

    def ours(method: str) -> Any:
        return cs.communities(graph, method=method, seed=seed).labels

    runs = {
        "igraph Leiden, 2 iterations": lambda: _igraph(graph, "leiden"),
        "igraph Louvain": lambda: _igraph(graph, "multilevel"),
        "leidenalg, defaults": lambda: _leidenalg(graph, seed),
        "NetworKit ParallelLeiden": lambda: _networkit(graph, "ParallelLeiden", seed),
        "NetworKit PLM": lambda: _networkit(graph, "PLM", seed),
        "scikit-network Louvain": lambda: _scikit_network(graph, seed),
        "NetworkX Louvain": lambda: _networkx(graph, seed),
        "cuGraph Leiden": lambda: _cugraph(graph),
    }
    contenders = [Contender(f"ours, {m}", lambda m=m: ours(m), quality, role="ours") for m in ("leiden", "louvain")] + [
        Contender(name, run, quality) for name, run in runs.items()
    ]
    session.compare(case, contenders, repeats=3)


def _igraph(graph: Any, method: str) -> Any:
    converted = graph.to_igraph()
    if method == "leiden":
        return converted.community_leiden("modularity", weights="weight", n_iterations=2).membership
    return converted.community_multilevel(weights="weight").membership


def _leidenalg(graph: Any, seed: int) -> Any:
    leidenalg = import_peer("leidenalg")
    found = leidenalg.find_partition(
        graph.to_igraph(), leidenalg.ModularityVertexPartition, weights="weight", seed=seed
    )
    return found.membership


def _networkit(graph: Any, method: str, seed: int) -> Any:
    networkit = import_peer("networkit")
    networkit.setSeed(seed + 1, False)
    upper = _upper(graph)
    converted = networkit.GraphFromCoo(
        (upper.data.astype(np.float64), (upper.row.astype(np.uint64), upper.col.astype(np.uint64))),
        n=graph.n_nodes, weighted=True, directed=False,
    )  # fmt: skip
    settings = {"randomize": True} if method == "ParallelLeiden" else {}
    found = getattr(networkit.community, method)(converted, **settings).run()
    return found.getPartition().getVector()


def _scikit_network(graph: Any, seed: int) -> Any:
    from scipy import sparse

    clustering = import_peer("sknetwork.clustering", "scikit-network")
    return clustering.Louvain(random_state=seed).fit_predict(sparse.csr_matrix(graph.to_scipy()))


def _networkx(graph: Any, seed: int) -> Any:
    networkx = import_peer("networkx")
    if len(graph.indices) > NETWORKX_ENTRIES:
        raise MissingPeerError(f"left out beyond {NETWORKX_ENTRIES:,} entries")
    labels = np.empty(graph.n_nodes, np.int64)
    for number, members in enumerate(networkx.community.louvain_communities(graph.to_networkx(), seed=seed)):
        labels[list(members)] = number
    return labels


def _cugraph(graph: Any) -> Any:
    """CuGraph's Leiden on the GPU, its graph built from arrays in main memory."""
    upper = _upper(graph)
    work = """frame = cudf.DataFrame({name: arrays[name] for name in ("source", "target", "weight")})
graph = cugraph.Graph()
graph.from_cudf_edgelist(frame, source="source", destination="target", edge_attr="weight")
parts, _ = cugraph.leiden(graph, random_state=0)
return parts.sort_values("vertex")["partition"].to_numpy()"""
    return run_isolated("cugraph", "import cudf, cugraph", work, source=upper.row, target=upper.col, weight=upper.data)


def _upper(graph: Any) -> Any:
    """Each edge once."""
    import scipy.sparse as sp

    return sp.triu(graph.to_scipy(), 1, format="coo")


BENCHMARK = Benchmark(
    "communities",
    "Leiden and Louvain, conversion included: ours, igraph, leidenalg, NetworKit, scikit-network, NetworkX (cuGraph)",
    "60,000 nodes, 1.5M entries",
    5,
    _run,
    frozenset({"data", "points", "features", "k"}),
    ("leidenalg", "networkit", "scikit-network", "networkx", "cugraph-cu13"),
)
