"""A simulated schedule: what a stage takes on many workers, from the measured times of its tasks.

The process that shares the work hands out tasks, no more than `AHEAD` for each worker ahead of the oldest that it
awaits, and takes results in order; the scheduler passes each task on and each result back; a worker does one task at a
time. The client, the scheduler and the network that leads to the client serve one task after another.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from clorg_scale.distributed import AHEAD

__all__ = ["Schedule", "Stage", "simulate"]

MOST_TASKS = 40_000
"""Tasks that are simulated; a longer schedule repeats itself."""


class Stage(NamedTuple):
    """One stage at one size.

    Attributes
    ----------
    n_tasks
        Number of tasks.
    task
        Seconds of one task on one worker.
    client, scheduler
        CPU seconds of the client and of the scheduler for one task.
    sent
        Bytes of one task's inputs and result that pass through the client.
    alone
        Seconds before and after the tasks, in which workers wait.
    """

    n_tasks: int
    task: float
    client: float
    scheduler: float
    sent: float
    alone: float


class Schedule(NamedTuple):
    """Seconds of a stage, the share of the workers' time that is work, and what keeps it from being 1."""

    seconds: float
    efficiency: float
    bottleneck: str


def simulate(stage: Stage, n_workers: int, *, bandwidth: float) -> Schedule:
    """Schedule the tasks of a stage.

    Parameters
    ----------
    stage
        What it consists of.
    n_workers
        Workers of one thread.
    bandwidth
        Bytes a second to and from the client.
    """
    shown = min(stage.n_tasks, max(MOST_TASKS, 8 * n_workers))
    on_network = stage.sent / bandwidth
    hand_out, collect = stage.client / 2, stage.client / 2
    free = [0.0] * n_workers
    client = scheduler = network = 0.0
    finished: list[float] = []
    ahead, collected = AHEAD * n_workers, 0
    for number in range(shown):
        if number - collected >= ahead:  # its oldest result is awaited first
            client = max(client, finished[collected]) + collect
            collected += 1
        client += hand_out
        scheduler = max(scheduler, client) + stage.scheduler
        network = max(network, scheduler) + on_network
        start = max(heapq.heappop(free), network)
        heapq.heappush(free, start + stage.task)
        finished.append(start + stage.task)
    for done in finished[collected:]:
        client = max(client, done) + collect
    together = client * stage.n_tasks / max(1, shown)
    seconds = together + stage.alone
    work = stage.n_tasks * stage.task
    efficiency = work / (n_workers * seconds) if seconds else 1.0
    return Schedule(seconds, efficiency, _bottleneck(stage, n_workers, on_network, seconds))


def _bottleneck(stage: Stage, n_workers: int, on_network: float, seconds: float) -> str:
    """The bottleneck: what is busy the longest; the last tasks, where there are about as many workers as tasks."""
    rounds = max(1, -(-stage.n_tasks // n_workers))
    busy = {
        "workers": rounds * stage.task * (stage.n_tasks / (rounds * n_workers)),
        "last tasks": rounds * stage.task * (1 - stage.n_tasks / (rounds * n_workers)),
        "client": stage.n_tasks * stage.client,
        "scheduler": stage.n_tasks * stage.scheduler,
        "network of the client": stage.n_tasks * on_network,
        "what the client does alone": stage.alone,
    }
    longest = max(busy, key=lambda name: busy[name])
    return f"{longest} ({busy[longest] / seconds:.0%} of the time)" if seconds else longest
