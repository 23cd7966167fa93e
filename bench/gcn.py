"""The GCN probe: an epoch against PyTorch Geometric's, full batch and in batches; a graph of a million nodes.

Each repeat is one epoch of every contender in turn, so that other load on the machine falls on all alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from .harness.data import load_data
from .harness.floors import Floor, floor_of
from .harness.peers import MissingPeerError, import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK", "class_graph"]

FANOUT, BATCH_SIZE, WIDTH = 10, 8192, 16


def _run(session: Session) -> None:
    import_peer("torch")
    asked = session.settings
    _compare_epochs(session)
    if not asked.data and not asked.points and not asked.features:
        n = 2000 if asked.quick else 1_000_000
        session.say(f"drawing a graph of {n:,} nodes")
        _at_scale(session, *class_graph(n, asked.k or 15, 10 if asked.quick else 100, asked.seed))


def _compare_epochs(session: Session) -> None:
    """Ours whole, ours in batches, PyTorch Geometric's, on the affinity graph of real images."""
    import clorg_scale as cs

    from . import pyg

    asked = session.settings
    n = asked.points if asked.points is not None else 1000 if asked.quick else None
    data = load_data(asked.data or "fashion-mnist", n, asked.features, seed=asked.seed)
    k = asked.k or 15
    session.say(f"searching {k} neighbors of {data.shape}")
    graph = cs.affinity_graph(cs.knn(data.X, k, seed=asked.seed))
    labels = data.y if data.y is not None else np.arange(len(data.X)) % 10
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    case = Case(f"one epoch, {data.shape}, k = {k}", _size(graph), _floor(session, graph, int(labels.max()) + 1))
    whole, batched = (_trainer(graph, labels, size, asked.seed).train_epoch for size in ("full", BATCH_SIZE))
    contenders = [
        Contender("ours, full batch", whole, role="ours", warm_up=whole),
        Contender(f"ours, batches of {BATCH_SIZE}, fan-out {FANOUT}", batched, role="ours", warm_up=batched),
    ]
    if asked.peers:
        name = f"PyG NeighborLoader, batches of {BATCH_SIZE}, fan-out {FANOUT}"
        try:
            epochs = pyg.full_epochs(graph, labels)
            contenders += [Contender(name, epoch, warm_up=epoch) for name, epoch in epochs.items()]
            epoch = pyg.loader_epoch(graph, labels, FANOUT, BATCH_SIZE)
            contenders.append(Contender(name, epoch, warm_up=epoch))
        except MissingPeerError as error:
            session.missing(case, name, str(error))
    session.compare(case, contenders, repeats=15)


def _at_scale(session: Session, graph: Any, labels: npt.NDArray[np.int64]) -> None:
    """One epoch of each kind, and exact inference, on a large synthetic graph."""
    from clorg_scale.probes.inference import infer

    train = np.random.default_rng(session.settings.seed).random(len(labels)) < 0.8
    for kind, batch_size in ((f"batches of {BATCH_SIZE}, fan-out {FANOUT}", BATCH_SIZE), ("full batch", "full")):
        trainer = _trainer(graph, np.where(train, labels, -1), batch_size, 0, train)
        case = Case(f"graph of {graph.n_nodes:,} nodes", _size(graph), _floor(session, graph, int(labels.max()) + 1))

        def predict(trainer: Any = trainer) -> Any:
            ranges = infer(trainer.network, trainer.matrix, trainer.nodes, trainer.nodes.shown(), whole=trainer.whole)
            return np.concatenate([logits.argmax(dim=1).numpy() for _, logits in ranges])

        def accuracy(predicted: Any) -> dict[str, float]:
            return {"accuracy": float(np.mean(predicted[~train] == labels[~train]))}

        epoch = Contender(f"ours, one epoch, {kind}", trainer.train_epoch, role="ours")
        inference = Contender(f"ours, inference after {kind}", predict, accuracy, role="ours")
        session.compare(case, [epoch], repeats=1)
        session.compare(Case(case.name, case.size), [inference], repeats=1)


def _trainer(graph: Any, labels: npt.NDArray[np.int64], batch_size: Any, seed: int, train: Any = None) -> Any:
    from clorg_scale.probes import GCNProbe

    from .pyg import SHARE

    probe = GCNProbe(batch_size=batch_size, fanout=FANOUT, mask_share=(SHARE, SHARE), seed=seed, device="cpu")
    mask = np.ones(len(labels), dtype=bool) if train is None else train
    return probe._prepare(graph, labels, mask, None)[0]


def _floor(session: Session, graph: Any, n_classes: int) -> Floor:
    """Forward and backward, two layers: a product with the graph and one with the weights each."""
    n, entries = graph.n_nodes, len(graph.indices)
    moved = 2 * 2 * (8.0 * entries + 2 * 4.0 * WIDTH * n)
    return floor_of(3 * 2.0 * n * WIDTH * (WIDTH + n_classes) + 2 * 2 * 2.0 * entries * WIDTH, moved, session.rates)


def _size(graph: Any) -> dict[str, int]:
    return {"n": graph.n_nodes, "entries": len(graph.indices)}


def class_graph(n: int, k: int, n_classes: int, seed: int) -> tuple[Any, npt.NDArray[np.int64]]:
    """A graph like that of k nearest neighbors: each node lists k others, seven in ten of its own class."""
    from clorg_scale import AffinityGraph

    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(n_classes, size=n))
    first = np.searchsorted(labels, np.arange(n_classes))
    sizes = np.bincount(labels, minlength=n_classes)
    columns = rng.integers(n, size=(n, k), dtype=np.int32)
    for listed in range(k):
        own = rng.random(n) < 0.7
        members = first[labels] + (rng.random(n) * sizes[labels]).astype(np.int64)
        columns[own, listed] = members[own]
    weights = rng.uniform(0.1, 1, n * k).astype(np.float32)
    indptr = np.arange(0, n * k + 1, k, dtype=np.int32)
    lists = sp.csr_matrix((weights, columns.ravel(), indptr), shape=(n, n))
    lists.sum_duplicates()
    lists.setdiag(0)
    lists.eliminate_zeros()
    return AffinityGraph.from_scipy(lists.maximum(lists.T).tocsr()), labels


BENCHMARK = Benchmark(
    "gcn",
    "an epoch of the GCN probe against PyTorch Geometric, full batch and NeighborLoader; a graph of a million nodes",
    "60,000 nodes x 15 (Fashion-MNIST); 1,000,000 nodes x 15",
    5,
    _run,
    frozenset({"data", "points", "features", "k"}),
    ("torch-geometric", "torch-sparse"),
)
