"""`python -m bench rld`: exact RLD on this CPU beside its floor, beside the dense way it replaces, and sampled RLD.

The floor is the time of the matrix products alone: 2 n^2 d FLOP (two half passes) at the float32 rate that NumPy
sustains on 4096 x d by d x 4096 products in the same process, measured before and after. Memory is the peak beyond
what is resident before, the embeddings among it. The peer is the dense
definition as the paper's code computes it, in torch: all distances, then full n x n matrices for every temperature.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.memory import machine, peak_memory, resident_memory, restart_peak

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05)

RATE_SECONDS = 4
"""For which matrix products are timed, before and after each run."""


def main(argv: list[str]) -> int:
    """Print the table; `--json FILE` writes it too."""
    parser = argparse.ArgumentParser(prog="python -m bench rld", description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--features", type=int, nargs="*", default=[784, 128])
    parser.add_argument("--dense-n", type=int, default=10_000, help="points beside dense torch; 0: none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=["exact", "dense", "keops"], help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(_run_alone(options.child, options.n, options.features[0])))
        return 0
    rows = [_against_floor(options.n, d, options.repeats) for d in options.features]
    rows += _sampled_beside_exact()
    if options.dense_n:
        rows += _against_peers(options.dense_n, 512)
    _print(rows)
    if options.json:
        record = {"machine": machine("numpy", "numba", "torch"), "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _mixture(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten overlapping classes."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 10, n)
    return rng.standard_normal((10, d), np.float32)[codes] + rng.standard_normal((n, d), np.float32), codes


def _gemm_rate(d: int, n: int = 4096) -> float:
    """FLOP/s of float32 products kept up for some seconds, as RLD has to; one alone may be a fifth faster."""
    X = np.random.default_rng(0).standard_normal((n, d), np.float32)
    Y, G = X.copy(), np.empty((n, n), np.float32)
    np.matmul(X, Y.T, out=G)
    started, products = time.perf_counter(), 0
    while products < 3 or time.perf_counter() - started < RATE_SECONDS:
        np.matmul(X, Y.T, out=G)
        products += 1
    return 2 * n * n * d * products / (time.perf_counter() - started)


def _against_floor(n: int, d: int, repeats: int) -> dict[str, object]:
    """Exact RLD over its floor; the median of several runs, the floor measured around each."""
    import clorg_scale as cs

    X, codes = _mixture(n, d)
    cs.rld(X[:1500], codes[:1500], method="exact", temperatures=TEMPERATURES)  # compile
    pairs, memory = [], 0
    for _ in range(repeats):
        before, resident = _gemm_rate(d), resident_memory()
        restart_peak()
        seconds = cs.rld(X, codes, method="exact", temperatures=TEMPERATURES).seconds
        memory = max(memory, peak_memory() - resident)
        pairs.append((seconds, 2 * n * n * d / ((before + _gemm_rate(d)) / 2)))
    ratios = [seconds / floor for seconds, floor in pairs]
    middle = int(np.argsort(ratios)[len(ratios) // 2])
    seconds, floor = pairs[middle]
    what = f"exact, {n:,} x {d}"
    return {
        "what": what,
        "seconds": seconds,
        "beside": "matrix products alone",
        "their_seconds": floor,
        "ratio": seconds / floor,
        "memory": memory,
    }


def _sampled_beside_exact() -> list[dict[str, object]]:
    """Both methods on the 60,000 images of Fashion-MNIST, the near field's search included; nothing where they lack."""
    import clorg_scale as cs
    from clorg_scale.datasets import load_fashion_mnist
    from clorg_scale.errors import InputError

    try:
        images, labels = load_fashion_mnist("train")
    except InputError:
        return []
    X = images.reshape(len(images), -1).astype(np.float32)
    for method in ("sampled", "exact"):  # compile
        cs.rld(X[:25_000], labels[:25_000], method=method, temperatures=TEMPERATURES)
    runs = [cs.rld(X, labels, method="sampled", temperatures=TEMPERATURES, seed=seed) for seed in range(5)]
    exact = cs.rld(X, labels, method="exact", temperatures=TEMPERATURES)
    seconds = float(np.median([run.seconds for run in runs]))
    errors = [np.abs(run.values - exact.values).max() for run in runs]
    return [{"what": "sampled, Fashion-MNIST", "seconds": seconds, "beside": "exact", "their_seconds": exact.seconds,
             "ratio": seconds / exact.seconds, "largest_difference": float(max(errors))}]  # fmt: skip


def _against_peers(n: int, d: int) -> list[dict[str, object]]:
    """Exact RLD and its peers, each in a process of its own so that the peak memory is its own."""
    ours, rows = _measure("exact", n, d), []
    for peer, name in (("dense", "dense torch"), ("keops", "KeOps")):
        theirs = _measure(peer, n, d)
        if theirs is None:
            rows.append({"what": f"exact, {n:,} x {d}", "beside": f"{name}: not installed"})
            continue
        difference = max(abs(a - b) for a, b in zip(ours["values"], theirs["values"], strict=True))
        rows.append(
            {
                "what": f"exact, {n:,} x {d}",
                "seconds": ours["seconds"],
                "beside": name,
                "their_seconds": theirs["seconds"],
                "ratio": ours["seconds"] / theirs["seconds"],
                "memory": ours["memory"],
                "their_memory": theirs["memory"],
                "largest_difference": difference,
            }
        )
    return rows


def _measure(child: str, n: int, d: int) -> dict | None:
    command = [sys.executable, "-m", "bench", "rld", "--child", child, "--n", str(n), "--features", str(d)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def _run_alone(child: str, n: int, d: int) -> dict[str, object]:
    """One method: seconds, memory beyond what was there before, values."""
    X, codes = _mixture(n, d)
    run = {"exact": _exact, "dense": _dense_torch, "keops": _keops}[child]
    run(X[:600], codes[:600])
    before = resident_memory()
    restart_peak()
    started = time.perf_counter()
    values = run(X, codes)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory": peak_memory() - before, "values": [float(value) for value in values]}


def _exact(X: np.ndarray, codes: np.ndarray) -> list[float]:
    import clorg_scale as cs

    return list(cs.rld(X, codes, method="exact", temperatures=TEMPERATURES).values)


def _dense_torch(X: np.ndarray, codes: np.ndarray) -> list[float]:
    """As the paper's code: pairwise distances, then E, A and the modularity matrix in full."""
    import torch

    x, y = torch.from_numpy(X), torch.from_numpy(codes)
    n = len(x)
    d = torch.cdist(x, x)
    d.fill_diagonal_(0)
    mu = d.sum(dtype=torch.float64) / (n * (n - 1))
    same = y[:, None] == y[None]
    values = []
    for temperature in TEMPERATURES:
        E = torch.exp(-d / (mu.float() * temperature)).fill_diagonal_(0)
        P = E / E.sum(1, keepdim=True)
        A = P * P.T * n**2
        k = A.sum(1, dtype=torch.float64)
        B = A / k.sum() - (k[:, None] * k[None] / k.sum() ** 2)
        values.append(float((B * same).sum()))
    return values


def _keops(X: np.ndarray, codes: np.ndarray) -> list[float]:
    """The kernel sums as KeOps reductions."""
    import torch
    from pykeops.torch import LazyTensor

    x, y = torch.from_numpy(X), torch.from_numpy(codes).float()
    xi, xj = LazyTensor(x[:, None]), LazyTensor(x[None])
    yi, yj = LazyTensor(y[:, None, None]), LazyTensor(y[None, :, None])
    n = len(x)
    row = torch.arange(n, dtype=torch.float32)
    other = ((LazyTensor(row[:, None, None]) - LazyTensor(row[None, :, None])).abs() - 0.5).step()  # i != j
    d = ((xi - xj) ** 2).sum(-1).sqrt()
    mu = float(d.sum(1).double().sum()) / (n * (n - 1))
    values = []
    for temperature in TEMPERATURES:
        r = ((-d / (mu * temperature)).exp() * other).sum(1)[:, 0]
        log_r = r.log()[:, None]
        A = (-2 * d / (mu * temperature) - LazyTensor(log_r[:, None]) - LazyTensor(log_r[None])).exp()
        k = (A * other).sum(1)[:, 0].double()
        same = (0.5 - (yi - yj).abs()).step()
        w = (A * other * same).sum(1)[:, 0].double()
        shares = torch.zeros(10, dtype=torch.float64).index_add_(0, torch.from_numpy(codes), k) / k.sum()
        values.append(float(w.sum() / k.sum() - (shares**2).sum()))
    return values


def _print(rows: list[dict]) -> None:
    header = f"{'':<24}{'seconds':>9}  {'beside':<24}{'seconds':>9}{'ratio':>8}"
    print(f"{header}{'memory':>10}{'theirs':>10}{'difference':>12}")
    for row in rows:
        if "ratio" not in row:
            print(f"{row['what']:<24}{'':>9}  {row['beside']}")
            continue
        memory = [f"{row[key] / 1e6:,.0f} MB" if key in row else "" for key in ("memory", "their_memory")]
        difference = f"{row['largest_difference']:.1e}" if "largest_difference" in row else ""
        times = f"{row['seconds']:>9.2f}  {row['beside']:<24}{row['their_seconds']:>9.2f}{row['ratio']:>8.2f}"
        print(f"{row['what']:<24}{times}{memory[0]:>10}{memory[1]:>10}{difference:>12}")
