"""Communities of the affinity graph, conversion included: ours against igraph, leidenalg, NetworKit and others.

Methods that take a number of rounds are run with several, so that each library has a curve of modularity against time;
the last records give each library's time at the modularity that our default reaches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .equal_quality import time_at
from .harness.data import load_data
from .harness.isolated import run_isolated
from .harness.peers import MissingPeerError, import_peer
from .harness.records import Record
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

    rounds = (1, 4) if asked.quick else (1, 2, 3, 4, 6)
    few = rounds[:2] if asked.quick else (1, 2, 4)
    curves = {
        "igraph Leiden": {f"{r} rounds": lambda r=r: _igraph(graph, "leiden", r) for r in rounds},
        "igraph Louvain": {"": lambda: _igraph(graph, "multilevel")},
        "leidenalg": {f"{r} rounds": lambda r=r: _leidenalg(graph, seed, r) for r in few},
        "NetworKit ParallelLeiden": {
            f"{r} rounds": lambda r=r: _networkit(graph, "ParallelLeiden", seed, randomize=True, iterations=r)
            for r in rounds
        },
        "NetworKit PLM": {
            text: lambda refine=refine: _networkit(graph, "PLM", seed, refine=refine)
            for text, refine in (("", False), ("refined", True))
        },
        "scikit-network": {
            "Louvain": lambda: _scikit_network(graph, seed, "Louvain", 1e-3),
            "Louvain to 1e-6": lambda: _scikit_network(graph, seed, "Louvain", 1e-6),
            "Leiden": lambda: _scikit_network(graph, seed, "Leiden", 1e-3),
        },
        "NetworkX Louvain": {"": lambda: _networkx(graph, seed)},
        "cuGraph Leiden": {"": lambda: _cugraph(graph)},
    }
    families = {"ours, leiden": "ours", "ours, louvain": "ours, louvain"}
    contenders = [
        Contender(f"ours, {m}", lambda m=m: ours(m), quality, role="ours", warm_up=lambda m=m: ours(m))
        for m in ("leiden", "louvain")
    ]
    for family, efforts in curves.items():
        for text, run in efforts.items():
            name = f"{family}, {text}" if text else family
            families[name] = family
            contenders.append(Contender(name, run, quality))
    records = session.compare(case, contenders, repeats=3)
    _at_one_modularity(session, case, records, families)


def _at_one_modularity(session: Session, case: Case, records: list[Record], families: dict[str, str]) -> None:
    """Record each library's time at the modularity of our default, from its curve."""
    target = next(record for record in records if record.contender == "ours, leiden").quality["modularity"]
    for family in dict.fromkeys(families[record.contender] for record in records):
        curve = [
            (record.seconds, record.quality["modularity"])
            for record in records
            if families[record.contender] == family and record.seconds is not None
        ]
        found = time_at(curve, target)
        name = f"{family} at our modularity"
        if found is None:
            session.missing(case, name, f"its best is {max(q for _, q in curve):.5f}, below {target:.5f}")
            continue
        role = "ours" if family.startswith("ours") else "peer"
        session.emit(
            Record(
                "",
                case.name,
                name,
                role,
                case.size,
                times=[found.seconds],
                quality={"modularity": target},
                note=found.how,
            )
        )


def _igraph(graph: Any, method: str, rounds: int = 2) -> Any:
    converted = graph.to_igraph()
    if method == "leiden":
        return converted.community_leiden("modularity", weights="weight", n_iterations=rounds).membership
    return converted.community_multilevel(weights="weight").membership


def _leidenalg(graph: Any, seed: int, rounds: int) -> Any:
    leidenalg = import_peer("leidenalg")
    kind = leidenalg.ModularityVertexPartition
    found = leidenalg.find_partition(graph.to_igraph(), kind, weights="weight", seed=seed, n_iterations=rounds)
    return found.membership


def _networkit(graph: Any, method: str, seed: int, **settings: Any) -> Any:
    networkit = import_peer("networkit")
    networkit.setSeed(seed + 1, False)
    upper = _upper(graph)
    converted = networkit.GraphFromCoo(
        (upper.data.astype(np.float64), (upper.row.astype(np.uint64), upper.col.astype(np.uint64))),
        n=graph.n_nodes,
        weighted=True,
        directed=False,
    )
    found = getattr(networkit.community, method)(converted, **settings).run()
    return found.getPartition().getVector()


def _scikit_network(graph: Any, seed: int, method: str, tolerance: float) -> Any:
    from scipy import sparse

    clustering = import_peer("sknetwork.clustering", "scikit-network")
    search = getattr(clustering, method)(tol_optimization=tolerance, tol_aggregation=tolerance, random_state=seed)
    return search.fit_predict(sparse.csr_matrix(graph.to_scipy()))


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
    "Leiden and Louvain as curves: ours, igraph, leidenalg, NetworKit, scikit-network, NetworkX (cuGraph)",
    "60,000 nodes, 1.5M entries",
    15,
    _run,
    frozenset({"data", "points", "features", "k"}),
    ("leidenalg", "networkit", "scikit-network", "networkx", "cugraph-cu13"),
)
