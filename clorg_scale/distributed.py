"""Work on a Dask cluster.

A stage is a *task*, a callable that holds what all parts of the work need, and its *parts*. Here `map` runs them; on
a cluster every worker gets the task once, the parts run wherever a worker is free, and results come back in the order
of the parts. What is made of them does not depend on the number of workers, nor on those that are lost on the way:
their parts run again elsewhere.

Embeddings in a file that every worker can read are mapped by each of them; others are sent to every worker.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from threadpoolctl import threadpool_limits

from clorg_scale.arrays import Device, on_host, resolve_device
from clorg_scale.arrays.mapped import MappedArray, mapped_array
from clorg_scale.errors import InputError, require

__all__ = ["Map", "connect", "device_of_workers", "mapped", "within_reach"]

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""(task, parts) -> results in the order of the parts."""

AHEAD = 3
"""Parts handed out for each worker before the first of them is back."""

PATIENCE = 60.0
"""Seconds without any worker after which the work is given up."""

LOOK_EVERY = 5.0
"""Seconds between two looks at whether there are workers."""

_NOBODY = f"All workers of the Dask cluster have been gone for {PATIENCE:.0f} s; start new ones."

LARGEST_SHARE = 0.5
"""Of a worker's memory, what embeddings that are sent to it may take."""

MOST_LOSSES = 5
"""Times that all copies of a task may be lost with the workers that held them."""

_ONE_AT_A_TIME = threading.Lock()
"""Compiled loops use all threads of a worker; several at once would use them several times over."""

_LOST = (concurrent.futures.CancelledError, asyncio.CancelledError)


@contextmanager
def connect(address: str | None) -> Iterator[Any]:
    """Open a client for the length of a block.

    Parameters
    ----------
    address
        Of a scheduler (``"tcp://host:8786"``); ``"local"`` starts workers on this machine, ``"cuda"`` one for each of
        its GPUs; None gives None.

    Raises
    ------
    InputError
        If nobody answers there, or no worker does.
    MissingDependencyError
        If Dask is not installed.
    """
    if address is None:
        yield None
        return
    distributed = require("distributed", extra="dask", purpose="Work on a Dask cluster")
    with _cluster(distributed, address) as cluster, _client(distributed, address, cluster) as client:
        _wait_for_workers(client, address)
        yield client


def _cluster(distributed: Any, address: str) -> Any:
    """Workers of this machine, or nothing where a scheduler runs already."""
    how = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": "CRITICAL"}
    if address == "local":
        with _deaf_to_interrupts():
            return distributed.LocalCluster(**how)
    if address == "cuda":
        resolve_device("cuda")
        dask_cuda = require("dask_cuda", extra="rapids13", purpose="A Dask worker for each GPU")
        with _deaf_to_interrupts():
            return dask_cuda.LocalCUDACluster(**how)
    if "://" not in address:
        raise InputError(
            f"{address!r} is no Dask cluster; give the scheduler's address such as tcp://host:8786, or 'local', or "
            "'cuda'."
        )
    return nullcontext()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that leave Ctrl-C to this one, which ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _client(distributed: Any, address: str, cluster: Any) -> Any:
    try:
        return distributed.Client(cluster or address, timeout=10)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"No Dask scheduler answers at {address} ({reason}); start one with 'dask scheduler'."
        ) from None


def _wait_for_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise InputError(
            f"The Dask scheduler at {address} has had no worker for {PATIENCE:.0f} s; start some with 'dask worker "
            f"{address}'."
        ) from None


def device_of_workers(client: Any, device: Device) -> Any:
    """Where every worker of a cluster can compute.

    Raises
    ------
    InputError
        If ``"cuda"`` is asked for and some worker has no GPU.
    """
    places = set(client.run(resolve_device, device).values())
    return "cuda" if places == {"cuda"} else "cpu"


def within_reach(client: Any, array: Any) -> Any:
    """Embeddings in main memory or in a file that every worker sees as this process does.

    Raises
    ------
    InputError
        If the workers do not see the file and have no memory for what it holds.
    """
    array = on_host(array)
    place = mapped_array(array)
    if place is not None and all(client.run(MappedArray.is_here, place.signature()).values()):
        return array
    limits = [limit for limit in client.run(_memory_limit).values() if limit]
    if limits and array.nbytes > LARGEST_SHARE * min(limits):
        where = "are not in a file" if place is None else f"are in {place.path}, which not every worker can read,"
        raise InputError(
            f"The embeddings take {array.nbytes / 1e9:.2f} GB and {where} and do not fit half the memory of a Dask "
            f"worker ({min(limits) / 1e9:.2f} GB); put them as .npy in a folder that all workers see."
        )
    return array if place is None else array.copy()


def _memory_limit(dask_worker: Any) -> int | None:
    limit: int | None = dask_worker.memory_manager.memory_limit
    return limit


def mapped(client: Any) -> Map | None:
    """`map` on the workers of a cluster; None where there is no client."""
    return None if client is None else partial(_map_in_order, client)


def _map_in_order(client: Any, task: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
    """Results of `task(part)`, in the order of the parts.

    Raises
    ------
    InputError
        If all workers are gone, or a part ends one worker after another; whatever the task raises.
    """
    shared = _Shared(client, task)
    n_ahead = AHEAD * max(1, len(client.nthreads()))
    out: deque[tuple[Any, Any]] = deque()
    try:
        for part in parts:
            out.append((part, shared.submit(part)))
            if len(out) >= n_ahead:
                yield _next(shared, out)
        while out:
            yield _next(shared, out)
    finally:
        client.cancel([future for _, future in out])


class _Own:
    """An object whose arrays are writable wherever it arrives: compiled loops are made anew for read-only ones."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return _own, (pickle.dumps(self.value, protocol=5),)


def _own(pickled: bytes) -> _Own:
    return _Own(pickle.loads(pickled))  # noqa: S301  by this module, from the client


class _Shared:
    """A task that every worker holds; sent again when all who held it are gone."""

    def __init__(self, client: Any, task: Callable[[Any], Any]) -> None:
        self.client, self.task, self.losses = client, task, 0
        self._send()

    def _send(self) -> None:
        try:
            self.held = self.client.scatter(_Own(self.task), broadcast=True, hash=False, timeout=PATIENCE)
        except TimeoutError:
            raise InputError(_NOBODY) from None

    def submit(self, part: Any) -> Any:
        """Future of `task(part)`."""
        return self.client.submit(_run, self.held, _Own(part), pure=False)

    def renew(self) -> None:
        """Send the task again."""
        self.losses += 1
        if self.losses > MOST_LOSSES:
            raise InputError("The Dask workers are lost again and again; give them more memory, or look at their logs.")
        self._send()


def _next(shared: _Shared, out: deque[tuple[Any, Any]]) -> Any:
    """Result of the first part; parts whose task was lost with its workers are handed out again."""
    import distributed

    while True:
        try:
            result = _result(shared.client, out[0][1])
        except _LOST:
            shared.renew()
            for i, (part, future) in enumerate(out):
                if future.status != "finished":
                    out[i] = part, shared.submit(part)
            continue
        except distributed.KilledWorker as error:
            raise InputError(
                f"A part of the work ended {error.allowed_failures + 1} Dask workers one after another, most likely "
                "for want of memory; give the workers more, or work with a smaller memory limit."
            ) from None
        out.popleft()
        return result


def _result(client: Any, future: Any) -> Any:
    """What a future gives, as long as there are workers."""
    from distributed import wait

    last_seen = time.monotonic()
    while time.monotonic() - last_seen < PATIENCE:
        try:
            wait([future], timeout=LOOK_EVERY)
        except TimeoutError:
            if client.nthreads():
                last_seen = time.monotonic()
            continue
        return future.result()
    raise InputError(_NOBODY)


def _run(task: _Own, part: _Own) -> Any:
    """One part on a worker, with the threads that the worker was given."""
    import numba
    from distributed import get_worker

    n_threads = max(1, min(get_worker().state.nthreads, numba.config.NUMBA_NUM_THREADS))
    with _ONE_AT_A_TIME, threadpool_limits(limits=n_threads):
        before = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        try:
            return task.value(part.value)
        finally:
            numba.set_num_threads(before)
