"""Sampled RLD beside exact as the points grow tenfold and tenfold again, and once at ImageNet's size.

Synthetic embeddings (classes of small clusters) are written to a file and read back through a memory map; the search
for near neighbors is part of the time. The report fits the exponent of time against n.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from clorg_scale.datasets import locally_dense_mixture

from .harness.floors import floor_of
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session
from .rld import TEMPERATURES

__all__ = ["BENCHMARK"]

EXACT_UP_TO = 100_000
"""Points up to which exact runs, too."""


def _run(session: Session) -> None:
    import clorg_scale as cs

    asked = session.settings
    if asked.points or asked.features:
        sets = [(asked.points or 100_000, asked.features or 128, 10, "float32")]
    elif asked.quick:
        sets = [(n, 16, 10, "float32") for n in (500, 1000, 2000)]
    else:
        sets = [(n, 128, 10, "float32") for n in (10_000, 100_000, 1_000_000)] + [(1_281_167, 512, 1000, "float16")]
    warm, codes = locally_dense_mixture(2_000, 16, n_classes=10)
    for method in ("exact", "sampled"):
        cs.rld(warm, codes, method=method)  # type: ignore[arg-type]
    for n, d, classes, dtype in sets:
        with tempfile.TemporaryDirectory() as folder:
            points, labels = locally_dense_mixture(
                n, d, n_classes=classes, dtype=dtype, seed=asked.seed, output=Path(folder) / "points.npy"
            )
            _measure(session, points, labels, f"mixture x {d} {dtype}, {classes:,} classes")


def _measure(session: Session, points: Any, labels: Any, what: str) -> None:
    """Both methods, where exact is affordable, on one set of points."""
    import clorg_scale as cs

    n, d = points.shape
    last: dict[str, Any] = {}

    def run(method: Any) -> Any:
        last[method] = cs.rld(
            points, labels, method=method, temperatures=TEMPERATURES, seed=session.settings.seed, progress=n > 10**6
        )
        return last[method]

    def error(result: Any) -> dict[str, float]:
        found = {"largest_stderr": float(result.stderr.max())}
        if "exact" in last:
            found["error"] = float(abs(result.values - last["exact"].values).max())
        return found

    case = Case(what, {"n": n, "d": d})
    if n <= EXACT_UP_TO:
        floor = floor_of(2.0 * n * n * d, 4.0 * n * d, session.rates)
        session.compare(
            Case(what, case.size, floor), [_contender(f"exact, n = {n:,}", lambda: run("exact"))], repeats=1
        )
    session.compare(case, [_contender(f"sampled, n = {n:,}", lambda: run("sampled"), error)], repeats=1)


def _contender(name: str, run: Any, quality: Any = lambda result: {}) -> Contender:
    return Contender(f"ours, {name}", run, quality, role="ours", settings={"target_error": 0.005})


BENCHMARK = Benchmark(
    "rld-scaling",
    "growth of sampled and exact RLD with the number of points",
    "10,000 to 1,000,000 x 128; 1,281,167 x 512 float16 in 1,000 classes",
    20,
    _run,
    frozenset({"points", "features"}),
)
