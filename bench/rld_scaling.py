"""`python -m bench rld-scaling`: sampled RLD beside exact as the points grow tenfold and tenfold again.

Synthetic embeddings (classes of small clusters, 128 features) are written to a file and read back through a memory map;
the near field's search is part of the time. `--imagenet` instead takes 1,281,167 x 512 float16 in 1,000 classes.
Prints a table and the slope of log time against log n (1 is linear, 2 is quadratic); writes JSON and an SVG plot.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import clorg_scale as cs
from bench.memory import machine, peak_memory, resident_memory, restart_peak
from clorg_scale.datasets import locally_dense_mixture

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05)


def main(argv: list[str]) -> int:
    """Run all sizes."""
    parser = argparse.ArgumentParser(prog="python -m bench rld-scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--exact-up-to", type=int, default=100_000)
    parser.add_argument("--target-error", type=float, default=0.005)
    parser.add_argument("--imagenet", action="store_true", help="1,281,167 x 512 float16, 1,000 classes")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    options = parser.parse_args(argv)
    name = "rld_scaling"
    if options.imagenet:
        options.sizes, options.features, options.classes = [1_281_167], 512, 1_000
        options.dtype, options.exact_up_to, name = "float16", 0, "rld_imagenet_size"
    with tempfile.TemporaryDirectory() as folder:
        warm, codes = locally_dense_mixture(2_000, options.features, n_classes=10)
        for method in ("exact", "sampled"):
            cs.rld(warm, codes, method=method)
        rows = [row for n in options.sizes for row in _measure(n, Path(folder), options)]
    record = {
        "machine": machine("numpy", "numba", "faiss-cpu"),
        "features": options.features,
        "classes": options.classes,
        "dtype": options.dtype,
        "target_error": options.target_error,
        "temperatures": TEMPERATURES,
        "rows": rows,
        "slopes": _slopes(rows),
    }
    for method, slope in record["slopes"].items():
        print(f"{method}: time grows with n to the power of {slope:.2f}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    if len(options.sizes) > 1:
        (options.out / f"{name}.svg").write_text(_plot(rows))
    return 0


def _measure(n: int, folder: Path, options: argparse.Namespace) -> list[dict]:
    """Both methods, where exact is asked for, on one set of points."""
    file = folder / f"{n}.npy"
    points, codes = locally_dense_mixture(
        n, options.features, n_classes=options.classes, dtype=options.dtype, output=file
    )
    rows = []
    for method in ["sampled"] + ["exact"] * (n <= options.exact_up_to):
        before = resident_memory()
        restart_peak()
        started = time.perf_counter()
        result = cs.rld(
            points,
            codes,
            method=method,
            target_error=options.target_error,
            temperatures=TEMPERATURES,
            progress=n > 10**6,
        )
        row = {
            "n": n,
            "method": method,
            "seconds": time.perf_counter() - started,
            "memory": peak_memory() - before,
            "values": result.values.tolist(),
            "stderr": result.stderr.tolist(),
            "landmarks": result.details.get("landmarks"),
            "index": result.details.get("index"),
        }
        values = "  ".join(f"{v:.4f} +- {e:.4f}" for v, e in zip(result.values, result.stderr, strict=True))
        print(f"{n:>11,}  {method:<8} {row['seconds']:>9.1f} s  {row['memory'] / 1e6:>7,.0f} MB  {values}", flush=True)
        rows.append(row)
    file.unlink()
    return rows


def _slopes(rows: list[dict]) -> dict[str, float]:
    """Of log time against log n, for each method with two sizes or more."""
    slopes = {}
    for method in ("sampled", "exact"):
        n, seconds = np.array([(row["n"], row["seconds"]) for row in rows if row["method"] == method]).reshape(-1, 2).T
        if len(n) > 1:
            slopes[method] = float(np.polyfit(np.log(n), np.log(seconds), 1)[0])
    return slopes


def _plot(rows: list[dict]) -> str:
    """Log-log plot of seconds against points."""
    width, height, left, top, right, bottom = 560, 380, 64, 30, 110, 48
    n, seconds = np.array([row["n"] for row in rows], float), np.array([row["seconds"] for row in rows])
    x_span = (np.floor(np.log10(n.min())), np.ceil(np.log10(n.max())))
    y_span = (np.floor(np.log10(seconds.min())), np.ceil(np.log10(seconds.max())))

    def x(value: float) -> float:
        return left + (np.log10(value) - x_span[0]) / (x_span[1] - x_span[0]) * (width - left - right)

    def y(value: float) -> float:
        return height - bottom - (np.log10(value) - y_span[0]) / (y_span[1] - y_span[0]) * (height - top - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for power in range(int(x_span[0]), int(x_span[1]) + 1):
        at = x(10.0**power)
        parts.append(f'<path d="M{at} {top}V{height - bottom}" stroke="#e4e4e0"/>')
        parts.append(f'<text x="{at}" y="{height - bottom + 18}" text-anchor="middle">{10**power:,}</text>')
    for power in range(int(y_span[0]), int(y_span[1]) + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{left} {at}H{width - right}" stroke="#e4e4e0"/>')
        parts.append(f'<text x="{left - 8}" y="{at + 4}" text-anchor="end">{10.0**power:g} s</text>')
    for method, color in (("exact", "#c2410c"), ("sampled", "#0b68a8")):
        here = [(x(row["n"]), y(row["seconds"])) for row in rows if row["method"] == method]
        if here:
            line = " ".join(f"{a:.1f},{b:.1f}" for a, b in here)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{color}"/>' for a, b in here]
            parts.append(f'<text x="{here[-1][0] + 10:.1f}" y="{here[-1][1] + 4:.1f}" fill="{color}">{method}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">points</text></svg>\n')
    return "\n".join(parts)
