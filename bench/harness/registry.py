"""The benchmarks there are, and what each accepts."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clorg_scale.errors import InputError

if TYPE_CHECKING:
    from .session import Session

__all__ = ["MODULES", "Benchmark", "all_benchmarks", "find_benchmark"]

MODULES = {
    "knn": "knn",
    "knn-rule": "knn_rule",
    "kmeans": "kmeans",
    "graph": "graph",
    "communities": "communities",
    "modularity": "modularity",
    "rld": "rld",
    "kernel-sums": "kernel_sums",
    "rld-scaling": "rld_scaling",
    "rld-coverage": "rld_coverage",
    "gcn": "gcn",
    "probes": "probes",
    "linear-probe": "linear_probe",
    "issues": "issues",
    "tsne": "tsne",
    "training": "training",
    "cluster": "cluster",
    "cluster-schedule": "cluster_schedule",
    "cluster-kills": "cluster_kills",
}
"""Module of each benchmark, in the order of the list."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    Attributes
    ----------
    name
        What it is called on the command line.
    description
        What is measured, against whom.
    sizes
        Sizes of a full run, in words.
    minutes
        Estimated minutes of a full run on two cores.
    run
        Measures, and hands each record to the session.
    accepts
        Options beyond those that every benchmark has: ``"data"``, ``"points"``, ``"features"``, ``"k"``.
    peers
        Packages beside the core that peers need, by the name to install.
    """

    name: str
    description: str
    sizes: str
    minutes: float
    run: Callable[[Session], None]
    accepts: frozenset[str] = field(default_factory=frozenset)
    peers: tuple[str, ...] = ()


def all_benchmarks() -> list[Benchmark]:
    """All benchmarks, in the order of the list."""
    return [find_benchmark(name) for name in MODULES]


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in MODULES:
        close = difflib.get_close_matches(name, MODULES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"There is no benchmark {name!r}; {hint}'clorg-scale bench list' lists them.")
    package = __name__.rpartition(".harness.")[0]
    module = importlib.import_module(f"{package}.{MODULES[name]}")
    benchmark: Benchmark = module.BENCHMARK
    return benchmark
