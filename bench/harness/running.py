"""Running benchmarks by name: options that do not fit refused, threads set, peers installed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from clorg_scale.errors import InputError
from clorg_scale.store.atomic import check_target

from .peers import MissingPeerError, add_peers_to_path, install_peers
from .registry import Benchmark, find_benchmark
from .session import Case, Session, Settings

__all__ = ["run_benchmarks"]

OPTIONAL = ("data", "points", "features", "k")


def run_benchmarks(names: Sequence[str], settings: Settings, out: Path | None, *, install: bool = False) -> Session:
    """Run benchmarks, one after another.

    Raises
    ------
    InputError
        Before anything ran: a name is unknown, an option does not fit, or the records cannot be written.
    """
    chosen = [find_benchmark(name) for name in dict.fromkeys(names)]
    for benchmark in chosen:
        _check_options(benchmark, settings)
    if out is not None:
        check_target(out)
    session = Session(settings, out)
    add_peers_to_path()
    if install:
        install_peers(tuple(dict.fromkeys(package for benchmark in chosen for package in benchmark.peers)))
    with _threads(settings.threads):
        for benchmark in chosen:
            session.benchmark = benchmark.name
            size = "small sizes" if settings.quick else f"{benchmark.sizes}, about {benchmark.minutes:g} min"
            session.say(f"{benchmark.description} ({size})")
            started = time.perf_counter()
            try:
                benchmark.run(session)
            except MissingPeerError as error:  # what the whole benchmark needs
                session.missing(Case("all", {}), "all", str(error))
            session.say(f"done in {time.perf_counter() - started:.0f} s")
    return session


def _check_options(benchmark: Benchmark, settings: Settings) -> None:
    """Refuse an option that the benchmark would ignore."""
    for option in OPTIONAL:
        if getattr(settings, option) is not None and option not in benchmark.accepts:
            takes = ", ".join(f"--{name}" for name in sorted(benchmark.accepts)) or "none of these options"
            raise InputError(f"The benchmark {benchmark.name!r} has no --{option}; it takes {takes}.")


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let every library use so many threads."""
    if number is None:
        yield
        return
    import faiss
    import numba
    from threadpoolctl import threadpool_limits

    before = faiss.omp_get_max_threads(), numba.get_num_threads()
    if number > numba.config.NUMBA_NUM_THREADS:
        raise InputError(f"--threads must be at most {numba.config.NUMBA_NUM_THREADS} on this machine, not {number}.")
    faiss.omp_set_num_threads(number)
    numba.set_num_threads(number)
    with suppress(ImportError):
        import torch

        torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        faiss.omp_set_num_threads(before[0])
        numba.set_num_threads(before[1])
