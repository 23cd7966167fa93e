"""RLD on this machine: exact against its physical floor, sampled against exact and against its own floor.

The floor of exact RLD is 2 n^2 d FLOP (two half passes) at the best float32 rate of the machine at any shape. That of
sampled RLD is 4 n m d FLOP, m landmarks a point, or its bytes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .harness.data import Data, load_data
from .harness.floors import floor_of
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK", "TEMPERATURES"]

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05)


def _run(session: Session) -> None:
    asked = session.settings
    if asked.data or asked.points or asked.features:
        shapes = [(asked.data or "compact", asked.points, asked.features)]
    elif asked.quick:
        shapes = [("compact", 1500, 16)]
    else:
        shapes = [("compact", 60_000, 784), ("compact", 60_000, 128)]
    for name, n, d in shapes:
        _exact(session, load_data(name, n, d, seed=asked.seed))
    if asked.data or asked.points or asked.features:
        sampled = load_data(*shapes[0], seed=asked.seed)
    else:
        sampled = load_data("fashion-mnist", 1500 if asked.quick else 60_000, seed=asked.seed)
    _sampled(session, sampled)


def _exact(session: Session, data: Data) -> None:
    """Exact RLD over its floor."""
    X, y = data.X, _labels(data)
    n, d = X.shape
    case = Case(f"exact, {data.shape}", {"n": n, "d": d}, floor_of(2.0 * n * n * d, 4.0 * n * d, session.rates))
    compile_it = partial(_rld, X[:1500], y[:1500], "exact")
    ours = Contender("ours, exact", lambda: _rld(X, y, "exact"), role="ours", warm_up=compile_it)
    session.compare(case, [ours], repeats=3)


def _sampled(session: Session, data: Data) -> None:
    """Sampled RLD of several seeds beside exact; its error is the largest over temperatures and seeds."""
    X, y = data.X, _labels(data)
    n, d = X.shape
    name, size = f"sampled, {data.shape}", {"n": n, "d": d}
    exact: list[Any] = []

    def run_exact() -> Any:
        exact[:] = [_rld(X, y, "exact")]
        return exact[0]

    floor = floor_of(2.0 * n * n * d, 4.0 * n * d, session.rates)
    session.compare(Case(name, size, floor), [Contender("ours, exact", run_exact, role="ours")], repeats=1)
    errors: list[float] = []

    def run_sampled() -> Any:
        result = _rld(X, y, "sampled", seed=session.settings.seed + len(errors))
        errors.append(float(np.abs(result.values - exact[0].values).max()))
        return result

    landmarks = int(run_sampled().details.get("landmarks") or 0)  # compiles, too
    sampled = Contender(
        "ours, sampled",
        run_sampled,
        lambda _: {"error": max(errors)},
        role="ours",
        settings={"landmarks": landmarks, "target_error": 0.005},
        changes=True,
    )
    floor = floor_of(4.0 * n * landmarks * d, 8.0 * n * d, session.rates)
    session.compare(Case(name, size, floor), [sampled], repeats=5)


def _labels(data: Data) -> npt.NDArray[np.int64]:
    """Labels of the data; ten random classes where they have none."""
    return data.y if data.y is not None else np.random.default_rng(0).integers(0, 10, len(data.X))


def _rld(X: npt.NDArray[np.float32], y: npt.NDArray[np.int64], method: Any, *, seed: int = 0) -> Any:
    import clorg_scale as cs

    return cs.rld(X, y, method=method, temperatures=TEMPERATURES, seed=seed)


BENCHMARK = Benchmark(
    "rld",
    "exact RLD against its floor, sampled RLD against exact",
    "60,000 x 784 and x 128; sampled 60,000 x 784 (Fashion-MNIST), five seeds",
    8,
    _run,
    frozenset({"data", "points", "features"}),
)
