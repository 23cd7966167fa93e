"""Coverage of the standard errors of sampled RLD.

On four data sets, many seeds each: how often the exact value lies within 3 standard errors and in the 95 % interval,
and how often the error is below the one aimed for. In float64: some errors are not larger than the rounding of float32.
The near field is searched once a data set.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from clorg_scale.datasets import compact_mixture, locally_dense_mixture

from .harness.data import load_data
from .harness.records import Record
from .harness.registry import Benchmark
from .harness.session import Session
from .rld import TEMPERATURES

__all__ = ["BENCHMARK"]

LANDMARKS = 305
"""Landmarks a tile where coverage is measured."""

TARGET_ERROR = 0.005

QUICK = 1
"""Data sets of --quick."""


def _run(session: Session) -> None:
    asked = session.settings
    n = asked.points if asked.points is not None else 600 if asked.quick else 5_000
    seeds = session.repeats(200) if not asked.quick or asked.repeats else 4
    for name, (X, codes) in islice(_data(n).items(), QUICK if asked.quick else None):
        session.say(f"{name}, {n:,} points, {seeds} seeds")
        for row in _measure(X, codes, seeds):
            session.emit(
                Record(
                    "",
                    f"{name}, {n:,} points, {seeds} seeds",
                    f"ours, T = {row['temperature']:g}",
                    "ours",
                    size={"n": n, "seeds": seeds},
                    settings={
                        "temperature": row.pop("temperature"),
                        "landmarks": LANDMARKS,
                        "target_error": TARGET_ERROR,
                    },
                    quality=row,
                )
            )


def _data(n: int) -> dict[str, Any]:
    fashion = load_data("fashion-mnist", n)
    return {
        fashion.name: (fashion.X, fashion.y),
        "locally dense": locally_dense_mixture(n, 32, seed=1),
        "compact": compact_mixture(n, 32, seed=1),
        "200 Zipf classes": compact_mixture(n, 32, n_classes=200, class_exponent=1.0, seed=1),
    }


def _measure(X: np.ndarray, codes: np.ndarray, seeds: int) -> list[dict[str, float]]:
    """One row a temperature."""
    import clorg_scale as cs
    from clorg_scale.rld.modularity import label_modularity
    from clorg_scale.rld.points import ClassOrderedPoints
    from clorg_scale.rld.sampled.estimate import SampledSums, sampled_sums
    from clorg_scale.rld.sampled.near_field import NearField
    from clorg_scale.rld.sampled.tile_order import tile_order

    codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    n_classes = int(codes.max()) + 1
    X = np.asarray(X, dtype=np.float64)
    exact = cs.rld(X, codes, temperatures=TEMPERATURES, method="exact").values
    points, near_field = ClassOrderedPoints(X, codes, n_classes), NearField.of(cs.knn(X, 15), tile_order(len(X), 0))

    def estimate(seed: int, **settings: float) -> tuple[np.ndarray, SampledSums]:
        settings = {"target_error": 1.0} | settings
        sums = sampled_sums(points, codes, near_field, np.array(TEMPERATURES), seed=seed, **settings)
        return label_modularity(sums.k, sums.w, codes, n_classes).values - exact, sums

    fixed = [estimate(seed, n_landmarks=LANDMARKS) for seed in range(seeds)]
    aimed = [estimate(seed, target_error=TARGET_ERROR) for seed in range(max(1, seeds // 4))]
    errors, stderrs = np.array([error for error, _ in fixed]), np.array([sums.stderr for _, sums in fixed])
    covered = np.abs(errors) <= stderrs * np.array([[sums.interval] for _, sums in fixed])
    reached = np.array([np.abs(error) <= TARGET_ERROR for error, _ in aimed])
    return [
        {
            "temperature": float(T),
            "exact": float(exact[t]),
            "bias": float(errors[:, t].mean()),
            "deviation": float(np.sqrt((errors[:, t] ** 2).mean())),
            "stderr": float(np.sqrt((stderrs[:, t] ** 2).mean())),
            "within_3": float((np.abs(errors[:, t]) <= 3 * stderrs[:, t]).mean()),
            "coverage": float(covered[:, t].mean()),
            "below_target": float(reached[:, t].mean()),
            "landmarks": float(np.mean([sums.n_landmarks for _, sums in aimed])),
        }
        for t, T in enumerate(TEMPERATURES)
    ]


BENCHMARK = Benchmark(
    "rld-coverage",
    "coverage of the standard errors of sampled RLD over many seeds; --repeats sets the seeds",
    "four data sets of 5,000 points, 200 seeds",
    25,
    _run,
    frozenset({"points"}),
)
