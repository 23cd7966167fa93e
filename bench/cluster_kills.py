"""Workers killed at random moments of every stage: the numbers must be those of one process each time.

Two single-threaded workers, which their nannies start again. A blow kills one of them, or all, or one while another one
joins, at a moment drawn from the time that the call takes undisturbed. The seed draws stages, inputs, blows, moments.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets import locally_dense_mixture
from clorg_scale.errors import InputError
from clorg_scale.local_workers import PATIENT_RESTARTS

from .harness.peers import import_peer
from .harness.records import Record
from .harness.registry import Benchmark
from .harness.session import Session

__all__ = ["BENCHMARK", "STAGES", "Blow", "Killing", "blows", "numbers"]

WORKERS = 2

STAGES = ("exact RLD", "sampled RLD", "k-NN, flat", "k-NN, ivf", "k-NN, partitioned", "graph", "embed", "analyze")

KINDS, SHARES = ("one killed", "all killed", "one killed, one joins"), (0.6, 0.25, 0.15)
"""Effect of a blow, and the share of the blows that have it."""

INPUTS = ("in memory", "in a file", "read by workers")

PATIENCE = 120.0
"""Seconds for workers that were killed to be back."""

TOLERANCE = 1e-6
"""Largest difference, absolute or relative. Sampled RLD is allowed ten times as much: compiled loops of another process
may add in another order."""


class Blow(NamedTuple):
    """A call and what befalls it: the stage, its input, the kind of blow, its moment as a share of the usual time."""

    stage: str
    given: str
    kind: str
    moment: float


def blows(n: int, seed: int) -> list[Blow]:
    """Draw n blows that take turns among the stages."""
    draw = random.Random(seed)
    stages = [stage for _ in range(-(-n // len(STAGES))) for stage in draw.sample(STAGES, len(STAGES))][:n]
    return [Blow(s, draw.choice(INPUTS), draw.choices(KINDS, SHARES)[0], draw.random()) for s in stages]


def numbers(stage: str, X: Any, y: npt.NDArray[Any], client: Any) -> npt.NDArray[np.float64]:
    """Numbers of a stage that must not change.

    Parameters
    ----------
    stage
        One of `STAGES`.
    X
        Embeddings: an array, or the path of a file for workers to read where the stage takes one.
    y
        Labels.
    client
        `distributed.Client`; None for one process.
    """
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
    X = np.load(X.removeprefix("file://"), mmap_mode="r") if isinstance(X, str) else X
    if stage == "embed":
        return _embedded(X, y, client)
    analysis = cs.analyze(X, y, client=client, probes=(), map_points=0, chi_points=500)
    return np.concatenate([analysis.rld.values, [analysis.communities.class_modularity]])


def _embedded(X: Any, y: npt.NDArray[Any], client: Any) -> npt.NDArray[np.float64]:
    """Rows that workers wrote of images whose pixels are the signs of the coordinates."""
    import torch

    from clorg_scale.backbones import embed
    from clorg_scale.datasets import Images

    side = int(X.shape[1] ** 0.5)
    pixels = (np.asarray(X[:, : side * side]) > 0).astype(np.uint8).reshape(-1, 1, side, side) * 255
    images = Images(pixels, np.asarray(y, np.int64), [str(label) for label in range(y.max() + 1)], "signs")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 64, 3), torch.nn.ReLU(), torch.nn.Flatten())
    with TemporaryDirectory() as folder:
        stored = embed(network, images, out=Path(folder) / "e", dtype="float32", device="cpu", client=client)
        return np.asarray(stored.embeddings, np.float64).ravel()


class Killing:
    """A cluster whose workers are killed while it works.

    Parameters
    ----------
    client
        Of a `distributed.LocalCluster`.
    seed
        Draws the worker that is killed.
    """

    def __init__(self, client: Any, seed: int) -> None:
        self._client, self._random = client, random.Random(seed)

    def during(self, work: Callable[[], Any], kind: str, seconds: float) -> tuple[Any, int]:
        """Result of the work, and the number of workers killed meanwhile, after so many seconds."""
        client = self._client
        alive = sorted(client.run(os.getpid, on_error="ignore").values())
        victims = alive if kind == "all killed" else [self._random.choice(alive)]
        killed: list[int] = []

        def strike() -> None:
            for pid in victims:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            if kind == "one killed, one joins":
                client.cluster.scale(WORKERS + 1)

        timer = threading.Timer(seconds, strike)
        timer.start()
        try:
            return work(), len(killed)
        finally:
            timer.cancel()
            timer.join()
            client.cluster.scale(WORKERS)

    def all_back(self) -> bool:
        """Wait for the workers that were killed, and for one more than there should be to leave; whether they did."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if len(self._client.run(os.getpid, on_error="ignore")) == WORKERS:
                return True
            time.sleep(0.2)
        return False


@contextmanager
def _cluster() -> Iterator[Any]:
    """Client of workers whose nannies start them again."""
    import dask
    import distributed

    options: dict[str, Any] = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(PATIENT_RESTARTS),
        distributed.LocalCluster(WORKERS, silence_logs="CRITICAL", **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def _run(session: Session) -> None:
    import_peer("distributed")
    import_peer("torch")
    asked = session.settings
    n, n_blows = session.size(10_000, 1_500, asked.points), asked.repeats or session.size(30, 2)
    X, y = locally_dense_mixture(n, 25, n_classes=5, seed=asked.seed)
    drawn = blows(n_blows, asked.seed)
    with TemporaryDirectory() as folder, ExitStack() as clusters:
        client = clusters.enter_context(_cluster())
        path = Path(folder) / "X.npy"
        np.save(path, X)
        inputs = {
            "in memory": X,
            "in a file": np.load(path, mmap_mode="r"),
            "read by workers": f"file://{path}",
        }
        alone, usual = {}, {}
        for stage in dict.fromkeys(blow.stage for blow in drawn):
            alone[stage] = numbers(stage, X, y, None)
            usual[stage] = min(_seconds(partial(numbers, stage, X, y, client)) for _ in range(2))  # the first compiles
            session.say(f"{stage}: undisturbed {usual[stage]:.2f} s")
        killing = Killing(client, asked.seed)
        outcomes: dict[str, list[_Outcome]] = {kind: [] for kind in KINDS}
        for number, blow in enumerate(drawn, 1):
            work = partial(numbers, blow.stage, inputs[blow.given], y, client)
            outcome = _struck(killing, work, blow, alone[blow.stage], usual[blow.stage])
            outcomes[blow.kind].append(outcome)
            session.say(f"{number}/{n_blows} {blow.stage}, {blow.given}: {blow.kind}, {outcome.message}")
            if not killing.all_back():
                session.say(f"a nanny has not started its worker again after {PATIENCE:.0f} s: a new cluster")
                clusters.close()
                client = clusters.enter_context(_cluster())
                killing = Killing(client, asked.seed + number)
    _emit(session, outcomes, {"n": n, "d": X.shape[1], "workers": WORKERS})
    wrong = [outcome.message for ended in outcomes.values() for outcome in ended if not outcome.right]
    if wrong:
        raise InputError(f"{len(wrong)} of {n_blows} calls failed or gave other numbers; the first: {wrong[0]}")


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class _Outcome(NamedTuple):
    """Outcome of a call: whether its numbers are right, seconds, workers killed before its end, largest difference."""

    right: bool
    seconds: float
    killed: int
    difference: float
    message: str


def _struck(
    killing: Killing, work: Callable[[], Any], blow: Blow, alone: npt.NDArray[np.float64], usual: float
) -> _Outcome:
    delay, started = blow.moment * usual, time.perf_counter()

    def timed() -> tuple[Any, float]:
        return work(), time.perf_counter() - started

    try:
        (found, seconds), killed = killing.during(timed, blow.kind, delay)
    except Exception as error:  # what must not happen is counted
        return _Outcome(
            False, time.perf_counter() - started, 0, np.inf, f"FAILED, {type(error).__name__}: {error}"[:300]
        )
    tolerance = TOLERANCE * (10 if blow.stage == "sampled RLD" else 1)
    right = found.shape == alone.shape and np.allclose(found, alone, rtol=tolerance, atol=tolerance, equal_nan=True)
    difference = float(np.nanmax(np.abs(found - alone), initial=0.0)) if found.shape == alone.shape else np.inf
    said = f"{killed} after {delay:.2f} s, took {seconds:.1f} s, largest difference {difference:.1e}"
    return _Outcome(bool(right), seconds, killed, difference, said if right else f"WRONG, {said}")


def _emit(session: Session, outcomes: dict[str, list[_Outcome]], size: dict[str, int]) -> None:
    """A record for each kind of blow."""
    for kind, ended in outcomes.items():
        if not ended:
            continue
        wrong = [outcome for outcome in ended if not outcome.right]
        known = [outcome.difference for outcome in ended if np.isfinite(outcome.difference)]
        quality = {
            "error": float(len(wrong)),
            "calls": float(len(ended)),
            "struck_while_working": float(sum(bool(outcome.killed) for outcome in ended)),
            "largest_difference": max(known, default=np.inf),
        }
        case = f"workers killed at random moments, {size['n']:,} x {size['d']}"
        note = "; ".join(outcome.message for outcome in wrong) or "numbers of one process in every call"
        times = [outcome.seconds for outcome in ended]
        session.emit(Record("", case, kind, "ours", size=size, times=times, quality=quality, note=note))


BENCHMARK = Benchmark(
    "cluster-kills",
    "workers killed at random moments of all stages; calls that failed or gave other numbers",
    "30 calls at 10,000 x 25",
    10,
    _run,
    frozenset({"points"}),
)
