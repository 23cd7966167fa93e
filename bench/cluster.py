"""What Dask costs: the same work by one process with all threads, then by workers on the same cores.

On one machine's cores the cluster can at best be as fast; the ratio is what sharing costs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .harness.data import load_data
from .harness.peers import import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK"]


def _run(session: Session) -> None:
    import clorg_scale as cs
    from clorg_scale.distributed import connect

    import_peer("distributed")
    asked = session.settings
    n = asked.points if asked.points is not None else 1000 if asked.quick else 20_000
    data = load_data(asked.data or "fashion-mnist", n, asked.features, seed=asked.seed)
    y = data.y if data.y is not None else np.arange(len(data.X)) % 10
    with TemporaryDirectory() as folder, connect("local") as client:
        np.save(Path(folder) / "X.npy", data.X)
        X = np.load(Path(folder) / "X.npy", mmap_mode="r")
        workers = client.nthreads()
        session.say(f"{len(workers)} workers, {sum(workers.values())} threads")
        stages: dict[str, Callable[[Any], Any]] = {
            "exact RLD": lambda client: cs.rld(X, y, method="exact", client=client),
            "sampled RLD": lambda client: cs.rld(X, y, method="sampled", client=client),
            "k-NN, flat": lambda client: cs.knn(X, 15, index="flat", client=client),
            "k-NN, ivf": lambda client: cs.knn(X, 15, index="ivf", client=client),
        }
        for stage, work in stages.items():
            _compare(session, Case(f"{stage}, {data.shape}", {"n": len(X), "d": X.shape[1]}), work, client)


def _compare(session: Session, case: Case, work: Callable[[Any], Any], client: Any) -> None:
    alone = work(None)

    def difference(result: Any) -> dict[str, float]:
        return {"difference": _difference(alone, result)}

    contenders = [
        Contender("one process", lambda: work(None), difference, role="ours"),
        Contender("Dask workers on the same cores", lambda: work(client), difference, role="ours",
                  warm_up=lambda: work(client)),
    ]  # fmt: skip
    session.compare(case, contenders, repeats=3)


def _difference(alone: Any, cluster: Any) -> float:
    """Largest difference of RLD; share of neighbors that differ, for an index met by other parts rounds otherwise."""
    if hasattr(alone, "indices"):
        return float((alone.indices != cluster.indices).mean())
    return float(np.abs(alone.values - cluster.values).max())


BENCHMARK = Benchmark(
    "cluster",
    "what sharing work with Dask costs on one machine: exact and sampled RLD, k-NN",
    "20,000 x 784 (Fashion-MNIST)",
    4,
    _run,
    frozenset({"data", "points", "features"}),
)
