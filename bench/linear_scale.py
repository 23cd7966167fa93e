"""The linear probe at ImageNet's size: points x 512 float16 in a mapped file, 1,000 classes.

python -m bench linear-scale                     # 100,000 points, and an estimate for 1,281,167
python -m bench linear-scale --points 1281167    # the whole

The ratio to the products alone (logits and gradient of all passes, at the rate of such a product in the same run, in
CPU time) hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.probes import LinearProbe
from clorg_scale.probes.fitting import SAMPLE, WHOLE, sample_sizes
from clorg_scale.probes.regularization import Solver
from clorg_scale.probes.softmax import BLOCK_NUMBERS

from .memory import peak_memory, resident_memory, restart_peak

__all__ = ["main", "run"]

IMAGENET = 1_281_167

Data = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def main(argv: list[str]) -> int:
    """Run it; `--json FILE` writes the numbers."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m bench linear-scale", description=__doc__, formatter_class=formatter
    )
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    record = run(arguments.points)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def run(n: int) -> dict[str, Any]:
    """Fit n points and print and return what it took."""
    d, n_classes = 512, 1000
    n_test = 10_000
    passes: list[tuple[int, float, float]] = []
    evaluate = Solver._objective

    def timed(solver: Solver, weights: Any, blocks: Any, penalty: float) -> Any:
        start, cpu, before = time.perf_counter(), time.process_time(), solver.used
        result = evaluate(solver, weights, blocks, penalty)
        if solver.used > before:
            passes.append((len(blocks), time.perf_counter() - start, time.process_time() - cpu))
        return result

    with tempfile.TemporaryDirectory() as folder:
        X, y = _mapped_mixture(Path(folder) / "points.npy", n + n_test, d, n_classes)
        print(f"{n:,} x {d} float16 in {n_classes:,} classes, loss and accuracy of {n_test:,} others", flush=True)
        rate = _product_rate(d, n_classes)
        before = resident_memory()
        restart_peak()
        Solver._objective = timed  # type: ignore[method-assign]
        try:
            wall, spent = time.perf_counter(), time.process_time()
            probe = LinearProbe(progress=True).fit(X[:n], y[:n])
            row = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - spent}
        finally:
            Solver._objective = evaluate  # type: ignore[method-assign]
        peak = peak_memory() - before
        p = np.concatenate([probe.predict_proba(X[start : start + 4096]) for start in range(n, n + n_test, 4096)])
        truth = np.searchsorted(probe.classes_, y[n:])
        row["loss"] = float(-np.log(np.maximum(p[np.arange(len(p)), truth], 1e-30)).mean())
        row["accuracy"] = float(np.mean(p.argmax(axis=1) == truth))
        rate = max(rate, _product_rate(d, n_classes))
    whole = max(rows for rows, _, _ in passes)
    products = 4.0 * d * n_classes * sum(rows for rows, _, _ in passes)
    of_passes = sum(cpu for _, _, cpu in passes)
    sample_cpu = sum(cpu for rows, _, cpu in passes if rows < whole)
    point_cpu = sum(cpu for rows, _, cpu in passes if rows == whole) / sum(r for r, _, _ in passes if r == whole)
    others = row["cpu_seconds"] - of_passes
    growing = SAMPLE.iterations * sum(sample_sizes(round(0.9 * IMAGENET), d, n_classes)[1:-1])
    cpu = sample_cpu + others * IMAGENET / n + point_cpu * (growing + (WHOLE.iterations + 1) * 0.9 * IMAGENET)
    row |= {
        "points": n,
        "evaluations": len(passes),
        "passes": probe.n_epochs_,
        "product_flops_per_cpu_second": rate,
        "ratio_of_passes_to_products": of_passes * rate / products,
        "ratio_of_all_to_products": row["cpu_seconds"] * rate / products,
        "cpu_seconds_a_pass": point_cpu * whole,
        "peak_with_mapped_pages": peak,
        "memory_needed": probe.memory_needed_,
        "estimated_cpu_seconds": cpu,
        "estimated_seconds_on_two_cores": cpu / 2,
    }
    print(
        f"  {row['seconds']:.1f} s, {row['cpu_seconds']:.1f} CPU s; loss {row['loss']:.4f}, "
        f"accuracy {row['accuracy']:.4f}\n  {len(passes)} evaluations in {probe.n_epochs_} passes, "
        f"{point_cpu * whole:.1f} CPU s a pass; products at {rate / 1e9:.0f} GFLOP per CPU s\n"
        f"  passes take {row['ratio_of_passes_to_products']:.2f} times their products, all "
        f"{row['ratio_of_all_to_products']:.2f}; at most {peak / 1e9:.2f} GB, pages of the mapped file counted "
        f"({probe.memory_needed_ / 1e9:.2f} GB predicted)"
    )
    if n != IMAGENET:
        print(f"  estimate for {IMAGENET:,} x {d}: {cpu:.0f} CPU s, {cpu / 2:.0f} s on two cores")
    return row


def _mapped_mixture(file: Path, n: int, d: int, n_classes: int) -> Data:
    """Classes of four correlated Gaussian modes each, written block by block and mapped."""
    rng = np.random.default_rng(0)
    centers = np.float32(0.4) * rng.standard_normal((n_classes, 4, d), dtype=np.float32)
    mixing = np.eye(d, dtype=np.float32) + 0.5 * rng.standard_normal((d, d), dtype=np.float32) / np.sqrt(d)
    y = rng.integers(n_classes, size=n)
    X = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(n, d))
    for start in range(0, n, 1 << 14):
        own = y[start : start + (1 << 14)]
        block = rng.standard_normal((len(own), d), dtype=np.float32) @ mixing
        X[start : start + len(own)] = block + centers[own, rng.integers(4, size=len(own))]
    X.flush()
    del X
    return np.load(file, mmap_mode="r"), y


def _product_rate(d: int, n_classes: int) -> float:
    """FLOP per CPU second of the product of a block: the best of some."""
    a = np.zeros((BLOCK_NUMBERS // max(d, n_classes), d), dtype=np.float32)
    b = np.zeros((d, n_classes), dtype=np.float32)
    seconds = []
    for _ in range(10):
        start = time.process_time()
        a @ b
        seconds.append(time.process_time() - start)
    return 2.0 * a.size * n_classes / min(seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
