"""Times of stages on 8, 64 and 512 workers: schedules simulated from task times that are measured here.

Each stage runs on a cluster of one single-threaded worker at two sizes. Measured are the CPU seconds of the worker,
the client and the scheduler, the number of tasks, and the bytes that the client and the scheduler send. From the two
sizes follow the part that grows with the number of tasks and the part that does not; how many tasks there are, and how
long one takes, at 10^6, 10^7 and 10^8 points is the arithmetic of each stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from clorg_scale.datasets import locally_dense_mixture

from .harness.cluster import Usage, own_cluster
from .harness.peers import import_peer
from .harness.records import Record
from .harness.registry import Benchmark
from .harness.schedule import Stage, simulate
from .harness.session import Session

__all__ = ["BENCHMARK", "STAGES"]

WORKERS, POINTS = (8, 64, 512), (10**6, 10**7, 10**8)

BANDWIDTH = 1.25e9
"""Bytes a second to and from the client: 10 Gbit/s."""

K, TEMPERATURES = 15, (1.0, 0.5, 0.2, 0.1, 0.05)


class Measured(NamedTuple):
    """Resources that a stage used at one size: points, tasks, CPU seconds of worker, client, scheduler, bytes."""

    n: int
    tasks: int
    worker: float
    client: float
    scheduler: float
    sent: float


class Law(NamedTuple):
    """A stage: the call, and how its tasks grow from n to m points."""

    call: Callable[..., Any]
    tasks: Callable[[int, int], float]
    seconds: Callable[[int, int], float]
    alone: Callable[[int, int], float]


def _exact(X: Any, y: Any, table: Any, client: Any) -> None:
    import clorg_scale as cs

    cs.rld(X, y, method="exact", temperatures=TEMPERATURES, client=client)


def _sampled(X: Any, y: Any, table: Any, client: Any) -> None:
    from clorg_scale.rld.compute import rld_from_table

    rld_from_table(X, y, table, method="sampled", temperatures=TEMPERATURES, client=client)


def _flat(X: Any, y: Any, table: Any, client: Any) -> None:
    import clorg_scale as cs

    cs.knn(X, K, index="flat", client=client)


def _partitioned(X: Any, y: Any, table: Any, client: Any) -> None:
    import clorg_scale as cs

    cs.knn(X, K, index="partitioned", client=client)


def _graph(X: Any, y: Any, table: Any, client: Any) -> None:
    import clorg_scale as cs

    cs.modularity(cs.affinity_graph(table), y)


def _panels(n: int) -> int:
    """Panels of exact RLD: their rows grow until there are 16, then their number does."""
    return max(1, math.ceil(n / min(12_288, max(2_048, n / 16))))


def _pairs(n: int, m: int) -> float:
    return (_panels(m) * (_panels(m) + 1)) / (_panels(n) * (_panels(n) + 1))


def _pair_seconds(n: int, m: int) -> float:
    return (m / n) ** 2 / _pairs(n, m)


def _linear(n: int, m: int) -> float:
    return m / n


def _same(n: int, m: int) -> float:
    return 1.0


STAGES = {
    "exact RLD": Law(_exact, _pairs, _pair_seconds, _linear),
    "sampled RLD, from a table": Law(_sampled, _linear, _same, _linear),
    "k-NN, flat": Law(_flat, _linear, _linear, _linear),
    "k-NN, partitioned": Law(_partitioned, _linear, _same, _linear),
    "graph and label modularity": Law(_graph, _same, _same, _linear),
}


@contextmanager
def _counted(count: list[int]) -> Iterator[None]:
    """Count the tasks of maps."""
    from clorg_scale import distributed

    submit = distributed.submit

    def counted(client: Any, function: Any, *arguments: Any, **where: Any) -> Any:
        count[0] += function is distributed._apply
        return submit(client, function, *arguments, **where)

    distributed.submit = counted  # type: ignore[assignment]
    try:
        yield
    finally:
        distributed.submit = submit  # type: ignore[assignment]


def _run(session: Session) -> None:
    import clorg_scale as cs

    import_peer("distributed")
    sizes = (2_000, 4_000) if session.settings.quick else (40_960, 81_920)
    d = session.settings.features or (16 if session.settings.quick else 64)
    with TemporaryDirectory() as folder, own_cluster(1) as client:
        inputs = []
        for n in sizes:
            X, y = locally_dense_mixture(n, d, seed=session.settings.seed)
            path = Path(folder) / f"{n}.npy"
            np.save(path, X)
            inputs.append((np.load(path, mmap_mode="r"), y, cs.knn(X, K)))
        for name, law in STAGES.items():
            law.call(*inputs[0], client)  # compiles
            measured = [_measured(client, law, *given) for given in inputs]
            session.say(f"{name}: {measured[0]}, {measured[1]}")
            for m in POINTS:
                stage = _grown(law, measured, m)
                for n_workers in WORKERS:
                    _emit(session, name, stage, n_workers, m, d)


def _measured(client: Any, law: Law, *given: Any) -> Measured:
    usage, count = Usage(client), [0]
    with _counted(count):
        law.call(*given, client)
    used = usage.used()
    sent = used["client"].sent + used["scheduler"].sent
    cpu = (used[name].cpu for name in ("workers", "client", "scheduler"))
    return Measured(len(given[0]), count[0], *cpu, sent)


def _grown(law: Law, measured: list[Measured], m: int) -> Stage:
    """The stage at m points, from two sizes."""
    small, large = measured
    n_tasks = round(large.tasks * law.tasks(large.n, m))
    if not n_tasks:
        return Stage(0, 0.0, 0.0, 0.0, 0.0, large.client * law.alone(large.n, m))
    more = large.tasks - small.tasks

    def of_task(name: str) -> tuple[float, float]:
        """Cost of each task, and the fixed cost; all of it is the tasks' where the sizes have equally many."""
        a, b = float(getattr(small, name)), float(getattr(large, name))
        slope = max(0.0, (b - a) / more) if more > 0 else b / large.tasks
        return slope, max(0.0, b - slope * large.tasks)

    client, alone = of_task("client")
    scheduler, _ = of_task("scheduler")
    sent, _ = of_task("sent")
    return Stage(n_tasks, large.worker / large.tasks * law.seconds(large.n, m), client, scheduler, sent, alone)


def _emit(session: Session, name: str, stage: Stage, n_workers: int, m: int, d: int) -> None:
    found = simulate(stage, n_workers, bandwidth=BANDWIDTH)
    quality = {"simulated_seconds": found.seconds, "efficiency": found.efficiency, **stage._asdict()}
    case = f"{name}, {m:.0e} x {d}".replace("e+0", "e")
    session.emit(
        Record(
            "",
            case,
            f"{n_workers} workers, simulated",
            "ours",
            size={"n": m, "d": d, "workers": n_workers},
            quality={key: float(value) for key, value in quality.items()},
            note=f"bottleneck: {found.bottleneck}",
        )
    )


BENCHMARK = Benchmark(
    "cluster-schedule",
    "simulated schedules of 8, 64 and 512 workers at 10^6, 10^7 and 10^8 points, from measured task times",
    "tasks of 81,920 x 64",
    5,
    _run,
    frozenset({"features"}),
)
