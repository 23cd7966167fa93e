"""k-NN indexes side by side on one data set: time, recall, memory.

python -m bench knn --data fashion-mnist --points 60000 --k 15 --index flat ivf hnsw nndescent
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.memory import machine
from clorg_scale.neighbors import knn


def main(argv: list[str]) -> int:
    """Run the benchmark and print one line per index."""
    arguments = _parser().parse_args(argv)
    points = _points(arguments.data, arguments.points, arguments.features, arguments.seed)
    knn(points[:2000], min(arguments.k, 1000), metric=arguments.metric, index="flat", device=arguments.device)
    rows = [_measure(points, index, arguments) for index in arguments.index]
    if arguments.json:
        report = {"data": arguments.data, "shape": list(points.shape), "k": arguments.k, "rows": rows}
        record = {"machine": machine("numpy", "faiss-cpu")} | report
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench knn", description=__doc__)
    parser.add_argument("--data", default="fashion-mnist", choices=["fashion-mnist", "clusters", "gaussian"])
    parser.add_argument("--points", type=int, default=60_000)
    parser.add_argument("--features", type=int, default=128, help="of the synthetic data")
    parser.add_argument("--k", type=int, default=15)
    parser.add_argument("--metric", default="euclidean", choices=["euclidean", "cosine", "inner_product"])
    parser.add_argument("--index", nargs="+", default=["ivf", "hnsw", "flat"])
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    return parser


def _points(data: str, n: int, d: int, seed: int) -> npt.NDArray[np.float32]:
    """Fashion-MNIST images in file order, or synthetic points: 200 clusters, or one Gaussian ball."""
    if data == "fashion-mnist":
        from clorg_scale.datasets import load_fashion_mnist

        images = load_fashion_mnist("train")[0]
        return np.asarray(images, dtype=np.float32).reshape(len(images), -1)[:n]
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d), dtype=np.float32)
    if data == "clusters":
        centers = 2 * rng.standard_normal((200, d), dtype=np.float32)
        points += centers[rng.integers(200, size=n)]
    return points


def _measure(points: npt.NDArray[np.float32], index: str, arguments: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    table = knn(
        points,
        arguments.k,
        metric=arguments.metric,
        index=index,
        device=arguments.device,
        seed=arguments.seed,
    )
    row = {
        "asked": index,
        "index": table.index,
        "seconds": round(time.perf_counter() - start, 3),
        "recall": table.measured_recall,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(
        f"{row['asked']:>14}  {row['index']:<52} {row['seconds']:9.2f} s  recall {row['recall']:.4f}"
        f"  peak {row['peak_rss_mb']} MB so far",
        flush=True,
    )
    return row


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
