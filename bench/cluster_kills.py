"""Workers killed at random moments of every stage: the numbers must be those of one process each time.

Two single-threaded workers, which their nannies start again. A blow kills one of them, or one in five times both, at a
moment drawn from the time that the call takes undisturbed. The seed (``--seed``) draws stages, inputs and moments.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets import locally_dense_mixture

from .harness.peers import import_peer
from .harness.records import Record
from .harness.registry import Benchmark
from .harness.session import Session

__all__ = ["BENCHMARK", "STAGES", "Killing", "numbers"]

STAGES = ("exact RLD", "sampled RLD", "k-NN, flat", "k-NN, ivf", "k-NN, partitioned", "graph", "analyze")

BOTH = 0.2
"""Share of the blows that kill all workers."""

RESTART_SECONDS = 60.0


def numbers(stage: str, X: Any, y: npt.NDArray[Any], client: Any) -> npt.NDArray[np.float64]:
    """Numbers of a stage that must not change."""
    import clorg_scale as cs

    if stage.endswith("RLD"):
        found = cs.rld(X, y, method=stage.split()[0], client=client)  # type: ignore[arg-type]
        return np.concatenate([found.values, found.stderr, found.per_class.ravel()])
    if stage.startswith("k-NN"):
        return np.asarray(cs.knn(X, 10, index=stage.split()[-1], client=client).distances, np.float64).ravel()
    if stage == "graph":
        graph = cs.affinity_graph(cs.knn(X, 10, client=client))
        communities = cs.communities(graph, client=client)
        return np.array([graph.n_edges, cs.modularity(graph, y), communities.modularity, len(communities.sizes)])
    analysis = cs.analyze(X, y, client=client, probes=(), map_points=0, chi_points=500)
    return np.concatenate([analysis.rld.values, [analysis.communities.class_modularity]])


class Killing:
    """A cluster whose workers are killed while it works."""

    def __init__(self, client: Any, seed: int) -> None:
        self._client, self._random = client, random.Random(seed)

    def during(self, work: Callable[[], Any], seconds: float) -> tuple[Any, int, float]:
        """Result of the work, the number of workers killed, and when."""
        client, delay = self._client, self._random.uniform(0, seconds)
        alive = sorted(client.run(os.getpid, on_error="ignore").values())
        victims = alive if self._random.random() < BOTH else [self._random.choice(alive)]

        def strike() -> None:
            for pid in victims:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

        timer = threading.Timer(delay, strike)
        timer.start()
        try:
            return work(), len(victims), delay
        finally:
            timer.join()
            self._wait_for(len(alive))

    def _wait_for(self, n_workers: int) -> None:
        deadline = time.monotonic() + RESTART_SECONDS
        while time.monotonic() < deadline:
            if len(self._client.run(os.getpid, on_error="ignore")) >= n_workers:
                return
            time.sleep(0.2)
        raise TimeoutError(f"The workers that were killed are not back after {RESTART_SECONDS:.0f} s.")


@contextmanager
def _client() -> Iterator[Any]:
    """Client of two workers that may die as often as one likes."""
    import dask
    import distributed

    options: dict[str, Any] = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 10}),
        distributed.LocalCluster(2, silence_logs="CRITICAL", **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def _run(session: Session) -> None:
    import_peer("distributed")
    asked = session.settings
    n, kills = session.size(10_000, 1_500, asked.points), asked.repeats or session.size(30, 4)
    X, y = locally_dense_mixture(n, 24, n_classes=5, seed=asked.seed)
    wrong, times = 0, []
    with TemporaryDirectory() as folder, _client() as client:
        path = Path(folder) / "X.npy"
        np.save(path, X)
        draw = random.Random(asked.seed)
        stages = [stage for _ in range(-(-kills // len(STAGES))) for stage in draw.sample(STAGES, len(STAGES))][:kills]
        alone, usual = {}, {}
        for stage in dict.fromkeys(stages):
            alone[stage] = numbers(stage, X, y, None)
            numbers(stage, X, y, client)
            started = time.perf_counter()
            numbers(stage, X, y, client)
            usual[stage] = time.perf_counter() - started
        killing = Killing(client, asked.seed)
        for number, stage in enumerate(stages):
            kind = draw.choice(("memory", "file"))
            given = X if kind == "memory" else np.load(path, mmap_mode="r")
            started = time.perf_counter()
            try:
                found, victims, delay = killing.during(lambda s=stage, g=given: numbers(s, g, y, client), usual[stage])
                off = float(np.abs(found - alone[stage]).max())
                equal = np.allclose(found, alone[stage], rtol=1e-5, atol=1e-6)
                said = f"{victims} killed after {delay:.2f} s, difference {off:.1e}"
            except Exception as error:  # what must not happen is counted
                equal, said = False, f"{type(error).__name__}: {error}"
            times.append(time.perf_counter() - started)
            wrong += not equal
            session.say(f"{number + 1}/{kills} {stage}, {kind}: {said}{'' if equal else '  WRONG'}")
    case = f"kills of workers, {n:,} x 24"
    quality = {"kills": float(kills), "error": float(wrong)}
    session.emit(
        Record("", case, "calls whose numbers changed", "ours", size={"n": n, "d": 24}, times=times, quality=quality)
    )


BENCHMARK = Benchmark(
    "cluster-kills",
    "workers killed at random moments of all stages; calls that failed or gave other numbers",
    "30 kills at 10,000 x 24",
    6,
    _run,
    frozenset({"points"}),
)
