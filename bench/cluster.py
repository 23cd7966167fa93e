"""`python -m bench cluster`: what Dask costs. The same work by one process with all threads, then by a cluster.

On this machine's cores the cluster can at best be as fast; the ratio is what sharing costs. With `--dask ADDRESS` the
workers are elsewhere, and the ratio is what they gain.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import clorg_scale as cs
from bench.memory import machine
from clorg_scale.datasets import load_fashion_mnist
from clorg_scale.distributed import connect

MOST_DIFFERENT = 1e-4


def main(argv: list[str]) -> int:
    """Print a table and write JSON; the exit status is 1 where the numbers differ."""
    parser = argparse.ArgumentParser(prog="python -m bench cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=30_000)
    parser.add_argument("--dask", default="local", help="address of a scheduler; local starts workers here")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    options = parser.parse_args(argv)
    images, labels = load_fashion_mnist("train")
    with TemporaryDirectory() as folder, connect(options.dask) as client:
        np.save(Path(folder) / "X.npy", images[: options.points].reshape(options.points, -1) / np.float32(255))
        X, y = np.load(Path(folder) / "X.npy", mmap_mode="r"), labels[: options.points]
        stages: dict[str, Callable[[Any], Any]] = {
            "exact RLD": lambda client: cs.rld(X, y, method="exact", client=client),
            "sampled RLD": lambda client: cs.rld(X, y, method="sampled", client=client),
            "k-NN, flat": lambda client: cs.knn(X, 15, index="flat", client=client),
            "k-NN, ivf": lambda client: cs.knn(X, 15, index="ivf", client=client),
        }
        workers = client.nthreads()
        print(f"{len(workers)} workers, {sum(workers.values())} threads")
        print(f"{'':<14}{'alone':>10}{'cluster':>10}{'ratio':>8}{'difference':>14}")
        rows = [_compare(name, work, client) for name, work in stages.items()]
    record = {
        "machine": machine("numpy", "numba", "dask", "distributed"),
        "points": options.points,
        "workers": len(workers),
        "threads": sum(workers.values()),
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cluster.json").write_text(json.dumps(record, indent=1) + "\n")
    return int(any(row["difference"] > MOST_DIFFERENT for row in rows))


def _compare(name: str, work: Callable[[Any], Any], client: Any) -> dict[str, Any]:
    """Medians of three runs each, in turn, after one of each that compiles the loops."""
    results = work(None), work(client)
    seconds = np.array([[_timed(work, where) for where in (None, client)] for _ in range(3)])
    alone, cluster = np.median(seconds, axis=0)
    row = {
        "stage": name,
        "seconds_alone": float(alone),
        "seconds_cluster": float(cluster),
        "ratio": float(np.median(seconds[:, 1] / seconds[:, 0])),
        "difference": _difference(*results),
    }
    print(f"{name:<14}{alone:>8.2f} s{cluster:>8.2f} s{row['ratio']:>8.2f}{row['difference']:>14.1e}", flush=True)
    return row


def _difference(alone: Any, cluster: Any) -> float:
    """Largest difference of RLD; share of neighbors that differ, for an index met by other parts rounds otherwise."""
    if isinstance(alone, cs.KNN):
        return float((alone.indices != cluster.indices).mean())
    return float(np.abs(alone.values - cluster.values).max())


def _timed(work: Callable[[Any], Any], client: Any) -> float:
    started = time.perf_counter()
    work(client)
    return time.perf_counter() - started
