"""Work on a Dask cluster.

A stage is a *task*, a callable with the data that all of its work needs, and *chunks* of work. Without a cluster, `map`
applies the task to the chunks. On a cluster the task is made by a Dask task of its own, every worker that needs it gets
it once, chunks run on whichever worker is free, and results are returned in the order of the chunks. Results depend
neither on the number of workers nor on workers that join or are lost: Dask makes again what was on them.

Embeddings in a file that every worker can read are memory-mapped by each of them; others are sent to every worker.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from operator import getitem
from typing import Any

from threadpoolctl import threadpool_limits

from clorg_scale.arrays import Device, on_host, resolve_device
from clorg_scale.arrays.mapped import MappedArray, mapped_array, original_of
from clorg_scale.errors import InputError, require
from clorg_scale.local_workers import local_workers
from clorg_scale.scheduler import check_scheduler, check_workers

__all__ = [
    "Map",
    "WorkerMap",
    "ask_workers",
    "connect",
    "device_of_workers",
    "ordered_map",
    "result_of",
    "room_of_workers",
    "share_with_workers",
    "submit",
]

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""(task, chunks) -> results in the order of the chunks."""

AHEAD = 3
"""Chunks submitted per worker before the first result is awaited."""

PATIENCE = 60.0
"""Seconds without any worker after which the work fails."""

LOOK_EVERY = 1.0
"""Seconds between two checks that there are workers, and that the result is still wanted."""

RETRY_EVERY = 0.2
"""Seconds before a question is asked again that no worker has answered."""

_NOBODY = f"All workers of the Dask cluster have been gone for {PATIENCE:.0f} s; start new ones."

LARGEST_SHARE = 0.5
"""Largest share of a worker's memory that embeddings sent to it, or the work on a chunk, may take."""

_ONE_AT_A_TIME = threading.Lock()
"""Compiled loops use all threads of a worker, so several at once would oversubscribe it."""


@contextmanager
def connect(address: str | None) -> Iterator[Any]:
    """Open a client for the length of a block.

    Parameters
    ----------
    address
        Address of a scheduler (``"tcp://host:8786"``); ``"local"`` starts workers on this machine, ``"cuda"`` one for
        each of its GPUs; None gives None.

    Raises
    ------
    InputError
        If no scheduler answers at the address, it has no workers, or workers lack this version of the package.
    MissingDependencyError
        If Dask is not installed.
    """
    if address is None:
        yield None
        return
    distributed = require("distributed", extra="dask", purpose="Work on a Dask cluster")
    if address not in ("local", "cuda"):
        _check_address(address)
        check_scheduler(address)
    with _cluster(address) as cluster, _client(distributed, address, cluster) as client:
        _wait_for_workers(client, address)
        check_workers(client)
        yield client


def _cluster(address: str) -> Any:
    """Workers on this machine, or nothing where a scheduler already runs."""
    if address == "cuda":
        resolve_device("cuda")
        return local_workers("cuda")
    return local_workers("local") if address == "local" else nullcontext()


def _check_address(address: str) -> None:
    """Refuse what names no cluster."""
    if "://" not in address:
        raise InputError(
            f"{address!r} is not a Dask cluster; give the scheduler's address such as tcp://host:8786, or 'local', or "
            "'cuda'."
        )


def _client(distributed: Any, address: str, cluster: Any) -> Any:
    try:
        return distributed.Client(cluster or address, timeout=10)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
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


def device_of_workers(client: Any, device: Device, resolve: Callable[[Device], Any] = resolve_device) -> Any:
    """Device that every worker of a cluster has, where `resolve` finds it.

    Raises
    ------
    InputError
        If ``"cuda"`` is asked for and some worker has no GPU.
    """
    devices = set(ask_workers(client, resolve, device))
    return "cuda" if devices == {"cuda"} else "cpu"


def ask_workers(client: Any, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Answers of all workers that live; one that dies meanwhile has none.

    Raises
    ------
    InputError
        If no worker answers. Errors of the function are raised as they are.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answers = list(client.run(function, *arguments, on_error="return").values())
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        for error in errors:
            if not isinstance(error, (OSError, TimeoutError)):  # those are of lost connections
                raise error
        if len(errors) < len(answers):
            return [answer for answer in answers if not isinstance(answer, Exception)]
        time.sleep(RETRY_EVERY)
    raise InputError(_NOBODY)


def share_with_workers(client: Any, array: Any) -> Any:
    """Embeddings in main memory, or in a file that every worker can read.

    Raises
    ------
    InputError
        If the workers cannot read the file and have too little memory for its contents.
    """
    array = on_host(array)
    location = mapped_array(array)
    if location is not None and original_of(location) is not None:  # workers make their own
        return array
    if location is not None and all(ask_workers(client, MappedArray.is_here, location.signature())):
        return array
    limits = [limit for limit in ask_workers(client, _memory_limit) if limit]
    if limits and array.nbytes > LARGEST_SHARE * min(limits):
        where = "are not in a file" if location is None else f"are in {location.path}, which not every worker can read,"
        raise InputError(
            f"The embeddings take {array.nbytes / 1e9:.2f} GB, {where} and do not fit into half the memory of a Dask "
            f"worker ({min(limits) / 1e9:.2f} GB); store them as .npy in a folder that all workers can read."
        )
    return array if location is None else array.copy()


def room_of_workers(client: Any) -> int | None:
    """Bytes that one task may take on every worker of a cluster; None where these have no limit."""
    limits = [limit for limit in ask_workers(client, _memory_limit) if limit]
    return int(LARGEST_SHARE * min(limits)) if limits else None


def _memory_limit(dask_worker: Any) -> int | None:
    limit: int | None = dask_worker.memory_manager.memory_limit
    return limit


def ordered_map(client: Any) -> Map | None:
    """A `map` over the workers of a cluster, with results in order; None without a client.

    Raises
    ------
    InputError
        If workers lack this version of the package.
    """
    if client is None:
        return None
    check_workers(client)
    return WorkerMap(client)


class WorkerMap:
    """A `Map` over the workers of a cluster."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __call__(self, task: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
        """Results of `task(chunk)`, in the order of the chunks."""
        return _map_in_order(self.client, partial(_of_chunk, task), ((chunk,) for chunk in chunks))

    def with_kept(self, task: Callable[[Any], Any], chunks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results of `task((chunk, *kept))`, where `kept` is on workers (`clorg_scale.kept_results`)."""
        return _map_in_order(self.client, task, chunks)

    def hand_over(self, value: Any) -> Any:
        """Future of a value that each worker which needs it gets once; taken as what is kept."""
        return submit(self.client, _load, pickle.dumps(value, protocol=5))

    def keeping(self, task: Callable[[Any], Any], chunks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, Any]]:
        """Results of a task as `with_kept` takes it that returns pairs, whose second part stays on the workers."""
        return _map_in_order(self.client, task, chunks, keep=True)


def _map_in_order(
    client: Any, task: Callable[[Any], Any], chunks: Iterable[tuple[Any, ...]], *, keep: bool = False
) -> Iterator[Any]:
    """Results of `task((chunk, *kept))`, in the order of the chunks.

    The task is a Dask task itself, which any worker can make again from its pickle: where workers are lost, with the
    task, chunks or results on them, Dask computes anew what is missing.

    Raises
    ------
    InputError
        If all workers are gone, or a chunk ends one worker after another. Errors of the task are raised as they are.
    """
    shared = submit(client, _load, pickle.dumps(task, protocol=5))
    out: deque[Any] = deque()
    try:
        for number, (chunk, *kept) in enumerate(chunks):
            workers = sorted(client.nthreads())
            # Without a suggestion all chunks would go to the worker that holds the task.
            where = {"workers": [workers[number % len(workers)]], "allow_other_workers": True} if workers else {}
            whole = submit(client, _apply, shared, _WritableCopy(chunk), *kept, **where)
            out.append(tuple(submit(client, getitem, whole, part) for part in (0, 1)) if keep else (whole,))
            if len(out) >= AHEAD * max(1, len(workers)):
                yield _collected(client, out.popleft())
        while out:
            yield _collected(client, out.popleft())
    finally:
        # What was kept can be made again from the task as long as that is not cancelled.
        client.cancel([future for futures in out for future in futures] + ([] if keep else [shared]))


def _collected(client: Any, futures: tuple[Any, ...]) -> Any:
    """Result of a chunk, and the future of what is kept if there is one."""
    result = result_of(client, futures[0])
    return (result, futures[1]) if len(futures) > 1 else result


def submit(client: Any, function: Callable[..., Any], *arguments: Any, **where: Any) -> Any:
    """Submit a Dask task, without Dask's warning of large ones: embeddings that lie in no file travel in one."""
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TiB"}):
        return client.submit(function, *arguments, pure=False, **where)


class _WritableCopy:
    """An object whose arrays are writable after pickling; compiled loops would be compiled again for read-only ones."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return _writable_copy, (pickle.dumps(self.value, protocol=5),)


def _kept_value(kept: Any) -> Any:
    """Value that was handed over, or a kept array: writable, also where it came from another worker."""
    if isinstance(kept, _WritableCopy):
        return kept.value
    return kept if kept.flags.writeable else kept.copy()


def _writable_copy(pickled: bytes) -> _WritableCopy:
    return _WritableCopy(pickle.loads(pickled))  # noqa: S301  pickled by this module, on the client


def _stop_if_cancelled() -> None:
    """End a task of a worker that waits for other tasks once nobody wants its result."""
    from distributed.worker import get_worker, thread_state

    key = getattr(thread_state, "key", None)
    if key is None:
        return
    task = get_worker().state.tasks.get(key)
    if task is None or task.state in ("cancelled", "released", "forgotten"):
        raise InputError("The call was cancelled by the process that made it.")


def _load(pickled: bytes) -> _WritableCopy:
    """Make the task of a map, or what is handed over, on a worker."""
    from distributed import secede

    # What it reads may be tasks of other workers, and their turn may come in this thread.
    secede()
    return _writable_copy(pickled)


def result_of(client: Any, future: Any) -> Any:
    """Result of a future, as long as there are workers.

    Raises
    ------
    InputError
        If all workers are gone, or the task ends one worker after another. Errors of the task are raised as they are.
    """
    from distributed import KilledWorker, wait

    last_seen = time.monotonic()
    while time.monotonic() - last_seen < PATIENCE:
        _stop_if_cancelled()
        try:
            wait([future], timeout=LOOK_EVERY)
        except TimeoutError:
            if client.nthreads():
                last_seen = time.monotonic()
            continue
        try:
            return future.result()
        except KilledWorker as error:
            raise InputError(
                f"One chunk of the work stopped {error.allowed_failures + 1} Dask workers one after another, most "
                "likely because they ran out of memory; give them more, or set a smaller memory limit."
            ) from None
        except (concurrent.futures.CancelledError, asyncio.CancelledError):
            raise InputError("The Dask cluster was restarted or closed during the work; run this again.") from None
    raise InputError(_NOBODY)


def _of_chunk(task: Callable[[Any], Any], values: tuple[Any]) -> Any:
    """Apply a task that is called with the chunk alone."""
    return task(values[0])


def _apply(task: _WritableCopy, chunk: _WritableCopy, *kept: Any) -> Any:
    """Apply the task to one chunk on a worker, with the threads that the worker was given."""
    import numba
    from distributed import get_worker

    n_threads = max(1, min(get_worker().state.nthreads, numba.config.NUMBA_NUM_THREADS))
    with _ONE_AT_A_TIME, threadpool_limits(limits=n_threads):
        before = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        try:
            return task.value((chunk.value, *map(_kept_value, kept)))
        finally:
            numba.set_num_threads(before)
