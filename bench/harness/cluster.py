"""A Dask cluster of processes on this machine, and what each of its processes used: CPU, memory, bytes sent."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..memory import peak_memory, restart_peak

__all__ = ["Usage", "Used", "own_cluster"]

PATIENCE = 60.0
"""Seconds for all workers to start."""

_sent = [0]
"""Bytes that this process has sent since `_restart`."""


class Used(NamedTuple):
    """CPU seconds of a process, its peak memory in bytes, the bytes that it sent to others."""

    cpu: float
    peak: int
    sent: int


@contextmanager
def own_cluster(n_workers: int) -> Iterator[Any]:
    """Client of a scheduler and single-threaded workers, each a process of its own, for the length of a block."""
    import distributed

    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        file = Path(folder) / "scheduler.json"
        common = ["--scheduler-file", str(file), "--no-dashboard"]
        here = ["--host", "127.0.0.1"]
        processes.enter_context(_process("dask_scheduler", *here, "--port", "0", *common))
        for _ in range(n_workers):
            limits = ["--nthreads", "1", "--no-nanny", "--local-directory", folder]
            processes.enter_context(_process("dask_worker", *here, *limits, *common))
        with distributed.Client(scheduler_file=str(file), timeout=PATIENCE) as client:
            client.wait_for_workers(n_workers, timeout=PATIENCE)
            yield client


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[None]:
    """One process of the cluster, which finds the benchmarks where this one does."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Usage:
    """Resources that the processes of a cluster use from here on."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._before = self._asked(_restart)

    def used(self) -> dict[str, Used]:
        """Use of the ``"client"``, the ``"scheduler"`` and ``"workers"``: sums, but the largest peak of a worker."""
        after, before = self._asked(_now), self._before
        of = {name: used._replace(cpu=used.cpu - before[name].cpu) for name, used in after.items() if name in before}
        workers = [used for name, used in of.items() if name not in ("client", "scheduler")]
        together = Used(sum(w.cpu for w in workers), max(w.peak for w in workers), sum(w.sent for w in workers))
        return {"client": of["client"], "scheduler": of["scheduler"], "workers": together}

    def _asked(self, function: Any) -> dict[str, Used]:
        client = self._client
        found = {"client": function(), "scheduler": client.run_on_scheduler(function), **client.run(function)}
        return {name: Used(*used) for name, used in found.items()}


def _restart() -> Used:
    """Count bytes sent and the peak of memory from here."""
    from distributed.comm.tcp import TCP

    write = TCP.write
    if not hasattr(write, "counted"):

        async def counted(self: Any, *arguments: Any, **settings: Any) -> int:
            n_bytes: int = await write(self, *arguments, **settings)
            _sent[0] += n_bytes
            return n_bytes

        counted.counted = True  # type: ignore[attr-defined]
        TCP.write = counted
    _sent[0] = 0
    restart_peak()
    return _now()


def _now() -> Used:
    return Used(time.process_time(), peak_memory(), _sent[0])
