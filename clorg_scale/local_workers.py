"""Dask workers that are started on this machine for the length of a call: CPUs, or one worker for each GPU."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from clorg_scale.errors import require

__all__ = ["PATIENT_RESTARTS", "local_workers"]

PATIENT_RESTARTS = {"distributed.deploy.lost-worker-timeout": "300s"}
"""Setting of Dask: a lost worker has that long to start again on this machine. Dask's own 15 s, after which it closes
the worker's nanny for good, do not suffice where the machine is busy."""


@contextmanager
def local_workers(kind: Literal["local", "cuda"]) -> Iterator[Any]:
    """Start a Dask cluster on this machine for the length of a block.

    Parameters
    ----------
    kind
        ``"local"`` starts workers on the CPUs, ``"cuda"`` one for each GPU.

    Raises
    ------
    MissingDependencyError
        If Dask, or dask-cuda for GPUs, is not installed.
    """
    distributed = require("distributed", extra="dask", purpose="Work on a Dask cluster")
    import dask

    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": "CRITICAL"}
    if kind == "cuda":
        start = require("dask_cuda", extra="rapids13", purpose="A Dask worker for each GPU").LocalCUDACluster
    else:
        start = distributed.LocalCluster
    with dask.config.set(PATIENT_RESTARTS):
        with _ignore_sigint():
            cluster = start(**options)
        with cluster:
            yield cluster


@contextmanager
def _ignore_sigint() -> Iterator[None]:
    """Start processes that ignore Ctrl-C; this process handles it and ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
