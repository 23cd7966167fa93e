"""The cost of Dask: the same work by one process with two threads, then by two workers of one thread each.

On one machine's cores the cluster can at best be as fast; the ratio is what sharing costs. CPU seconds are those of all
processes of the cluster together; other load on the machine hardly changes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .harness.cluster import Usage, own_cluster
from .harness.data import load_data
from .harness.isolated import Timed
from .harness.peers import import_peer
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK"]

WORKERS = 2

STAGES = {
    "exact RLD": 1.1,
    "sampled RLD": 1.3,
    "k-NN, flat": 1.1,
    "k-NN, ivf": 1.1,
}
"""Time by workers that is aimed for, relative to one process."""


def _run(session: Session) -> None:
    import clorg_scale as cs

    import_peer("distributed")
    asked = session.settings
    n = session.size(60_000, 1000, asked.points)
    data = load_data(asked.data or "fashion-mnist", n, asked.features, seed=asked.seed)
    y = data.y if data.y is not None else np.arange(len(data.X)) % 10
    with TemporaryDirectory() as folder, own_cluster(WORKERS) as client:
        np.save(Path(folder) / "X.npy", data.X)
        X = np.load(Path(folder) / "X.npy", mmap_mode="r")
        work: dict[str, Callable[[Any, int], Any]] = {
            "exact RLD": lambda client, n: cs.rld(X[:n], y[:n], method="exact", client=client),
            "sampled RLD": lambda client, n: cs.rld(X[:n], y[:n], method="sampled", client=client),
            "k-NN, flat": lambda client, n: cs.knn(X[:n], 15, index="flat", client=client),
            "k-NN, ivf": lambda client, n: cs.knn(X[:n], 15, index="ivf", client=client),
        }
        for stage, goal in STAGES.items():
            case = Case(f"{stage}, {data.shape}", {"n": len(X), "d": X.shape[1], "workers": WORKERS})
            _compare(session, case, work[stage], client, goal)


def _compare(session: Session, case: Case, work: Callable[[Any, int], Any], client: Any, goal: float) -> None:
    n, compiled = case.size["n"], min(case.size["n"], 9_000)  # more than one chunk: both workers compile
    found: dict[str, Any] = {}

    def alone() -> Any:
        found["alone"] = work(None, n)
        return found["alone"]

    def together() -> Timed:
        usage, started = Usage(client), time.perf_counter()
        result = work(client, n)
        wall = time.perf_counter() - started
        found["used"] = usage.used()
        return Timed(result, wall, sum(used.cpu for used in found["used"].values()))

    def quality(result: Any) -> dict[str, float]:
        used = found["used"]
        sent = {f"{name}_sent_bytes": used[name].sent for name in used}
        peaks = {f"{name}_peak_bytes": used[name].peak for name in used}
        cpu = {f"{name}_cpu_seconds": used[name].cpu for name in used}
        return {"difference": _difference(found["alone"], result), **sent, **peaks, **cpu}

    contenders = [
        Contender("one process", alone, role="ours", warm_up=lambda: work(None, compiled)),
        Contender(
            "Dask workers on the same cores",
            together,
            quality,
            role="ours",
            changes=True,
            warm_up=lambda: work(client, compiled),
        ),
    ]
    records = session.compare(case, contenders, repeats=3)
    wall, cpu = (
        float(np.median([b / a for a, b in zip(*(getattr(record, kind) for record in records), strict=True)]))
        for kind in ("times", "cpu_times")
    )
    session.say(f"{case.name}: {wall:.2f} times the time, {cpu:.2f} times the CPU seconds (goal {goal:g})")


def _difference(alone: Any, cluster: Any) -> float:
    """Largest difference of RLD; share of neighbors that differ, for an index met by other parts rounds otherwise."""
    if hasattr(alone, "indices"):
        return float((alone.indices != cluster.indices).mean())
    return float(np.abs(alone.values - cluster.values).max())


BENCHMARK = Benchmark(
    "cluster",
    "what sharing work with Dask costs on one machine: exact and sampled RLD, k-NN; bytes sent, peaks of memory",
    "60,000 x 784 (Fashion-MNIST)",
    30,
    _run,
    frozenset({"data", "points", "features"}),
)
