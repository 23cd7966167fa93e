"""`python -m bench rld-coverage`: coverage of the standard errors of sampled RLD.

On four data sets, many seeds each: how often the exact value lies within 3 standard errors and in the 95 % interval,
and how often the error is below the one aimed for. In float64: some errors are not larger than the rounding of float32.
The near field is searched once a data set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import clorg_scale as cs
from bench.memory import machine
from clorg_scale.datasets import compact_mixture, load_fashion_mnist, locally_dense_mixture
from clorg_scale.rld.modularity import label_modularity
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.sampled.estimate import SampledSums, sampled_sums
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import tile_order

TEMPERATURES = np.array([1.0, 0.5, 0.2, 0.1, 0.05])


def main(argv: list[str]) -> int:
    """Print a table and write JSON; the exit status is 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench rld-coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--landmarks", type=int, default=305, help="landmarks a tile where coverage is measured")
    parser.add_argument("--target-error", type=float, default=0.005)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    options = parser.parse_args(argv)
    rows, missed = [], False
    print(f"{'':<18}{'T':>6}{'exact':>8}{'sd':>9}{'stderr':>9}{'3 s':>7}{'95 %':>7}{'aimed':>7}{'landmarks':>11}")
    for name, (X, codes) in _data(options.points).items():
        for row in _measure(name, X, codes, options):
            rows.append(row)
            errors = f"{row['deviation']:>9.5f}{row['stderr']:>9.5f}{row['within_3']:>7.3f}{row['covered']:>7.3f}"
            reached = f"{row['below_target']:>7.3f}{row['landmarks']:>11,.0f}"
            print(f"{name:<18}{row['temperature']:>6}{row['exact']:>8.4f}{errors}{reached}", flush=True)
        here = rows[-len(TEMPERATURES) :]
        missed |= np.mean([row["within_3"] for row in here]) < 0.99 or min(row["below_target"] for row in here) < 0.9
        missed |= not 0.91 <= np.mean([row["covered"] for row in here]) <= 0.98
    record = {"machine": machine("numpy", "numba"), "points": options.points, "seeds": options.seeds}
    record |= {"target_error": options.target_error, "rows": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rld_coverage.json").write_text(json.dumps(record, indent=1) + "\n")
    return int(missed)


def _data(n: int) -> dict:
    images, labels = load_fashion_mnist("train")
    return {
        "Fashion-MNIST": ((images[:n].reshape(n, -1) / np.float32(255)).astype(np.float32), labels[:n]),
        "locally dense": locally_dense_mixture(n, 32, seed=1),
        "compact": compact_mixture(n, 32, seed=1),
        "200 Zipf classes": compact_mixture(n, 32, n_classes=200, class_exponent=1.0, seed=1),
    }


def _measure(name: str, X: np.ndarray, codes: np.ndarray, options: argparse.Namespace) -> list[dict]:
    """One row a temperature."""
    codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    n_classes = int(codes.max()) + 1
    X = np.asarray(X, dtype=np.float64)
    exact = cs.rld(X, codes, temperatures=TEMPERATURES, method="exact").values
    points, near_field = ClassOrderedPoints(X, codes, n_classes), NearField.of(cs.knn(X, 15), tile_order(len(X), 0))

    def estimate(seed: int, **settings: float) -> tuple[np.ndarray, SampledSums]:
        settings = {"target_error": 1.0} | settings
        sums = sampled_sums(points, codes, near_field, TEMPERATURES, seed=seed, **settings)
        return label_modularity(sums.k, sums.w, codes, n_classes).values - exact, sums

    fixed = [estimate(seed, n_landmarks=options.landmarks) for seed in range(options.seeds)]
    aimed = [estimate(seed, target_error=options.target_error) for seed in range(options.seeds // 4)]
    errors, stderrs = np.array([error for error, _ in fixed]), np.array([sums.stderr for _, sums in fixed])
    covered = np.abs(errors) <= stderrs * np.array([[sums.interval] for _, sums in fixed])
    reached = np.array([np.abs(error) <= options.target_error for error, _ in aimed])
    return [
        {
            "data": name,
            "temperature": float(T),
            "exact": float(exact[t]),
            "bias": float(errors[:, t].mean()),
            "deviation": float(np.sqrt((errors[:, t] ** 2).mean())),
            "stderr": float(np.sqrt((stderrs[:, t] ** 2).mean())),
            "within_3": float((np.abs(errors[:, t]) <= 3 * stderrs[:, t]).mean()),
            "covered": float(covered[:, t].mean()),
            "below_target": float(reached[:, t].mean()),
            "landmarks": float(np.mean([sums.n_landmarks for _, sums in aimed])),
        }
        for t, T in enumerate(TEMPERATURES)
    ]
