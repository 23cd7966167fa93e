"""Embeddings in remote storage: opened in this process, or by a worker of a Dask cluster that makes the whole call.

The worker opens them (`clorg_scale.arrays.local_copies`) and shares the work with all workers as this process would.
Labels and settings go there, the result comes back; progress and warnings are shown here. Where that worker is lost,
another one begins anew; where this process ends or is interrupted, the worker stops at the next chunk.
"""

from __future__ import annotations

import functools
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

from clorg_scale.arrays.local_copies import BlockSource, local_copy
from clorg_scale.distributed import result_of, submit
from clorg_scale.progress import ShownReports, relayed_progress
from clorg_scale.scheduler import check_workers
from clorg_scale.store.block_sources import block_source

__all__ = ["opens_sources", "run_on_worker"]

P = ParamSpec("P")
R = TypeVar("R")


def opens_sources(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public function whose first argument, embeddings, may then be in remote storage (`block_source`).

    Without workers they are copied to this machine; with `client` the whole call is made by a worker, so that they
    never pass through this process. All arguments travel pickled, then.
    """

    @functools.wraps(function)
    def opening(embeddings: Any, *arguments: Any, **settings: Any) -> Any:
        client = settings.get("client")
        source = block_source(embeddings, has_workers=client is not None)
        if source is not None and client is not None:
            return run_on_worker(client, opening, source, *arguments, **settings)
        opened: Any = embeddings if source is None else local_copy(source)
        return cast("Callable[..., Any]", function)(opened, *arguments, **settings)

    return cast("Callable[P, R]", opening)


def run_on_worker(
    client: Any, function: Callable[..., Any], source: BlockSource, /, *arguments: Any, **settings: Any
) -> Any:
    """Call ``function(embeddings, *arguments, client=client, **settings)`` on a worker.

    Parameters
    ----------
    client
        `distributed.Client`.
    function
        Public function of this package.
    source
        The embeddings.
    arguments, settings
        Picklable; with ``progress=True`` progress is shown by this process.

    Raises
    ------
    InputError
        As the function; if the cluster is lost.
    """
    check_workers(client)
    topic = f"clorg-scale-{uuid.uuid4().hex}"
    settings.pop("client", None)
    call = pickle.dumps((function, arguments, settings), protocol=5)
    with _shown_progress(client, topic, enabled=bool(settings.get("progress"))):
        future = submit(client, _call, call, source, topic)
        try:
            result, messages = result_of(client, future)
        finally:
            client.cancel([future])
    for message in messages:
        warnings.warn(message, UserWarning, stacklevel=3)
    return result


@contextmanager
def _shown_progress(client: Any, topic: str, *, enabled: bool) -> Iterator[None]:
    """Show progress that is reported under a topic."""
    if not enabled:
        yield
        return
    shown = ShownReports()
    client.subscribe_topic(topic, lambda event: shown.show(event[1]))
    try:
        yield
    finally:
        client.unsubscribe_topic(topic)
        shown.close()


def _call(call: bytes, source: BlockSource, topic: str) -> Any:
    """Make the call, on a worker; returns the result, and the messages of its warnings."""
    from distributed import get_worker, worker_client

    function, arguments, settings = pickle.loads(call)  # noqa: S301  pickled by this module, on the client
    worker = get_worker()
    with (
        worker_client() as client,
        warnings.catch_warnings(record=True) as caught,
        relayed_progress(lambda report: worker.log_event(topic, report)),
    ):
        warnings.simplefilter("always", UserWarning)
        result = function(local_copy(source), *arguments, client=client, **settings)
    messages = [str(warning.message) for warning in caught if warning.category is UserWarning]
    return result, list(dict.fromkeys(messages))
