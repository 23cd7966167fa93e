"""Timings of exact RLD: the two passes, the public function, and other ways to compute it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.gpu.points import GeneratedPoints, shuffled
from bench.gpu.timer import TEMPERATURES, SkippedError, Timer


def time_exact_rld(
    timer: Timer, n: int, d: int, *, kernels: str, precision: str = "fp16", tile: str | None = None, panel_rows: int = 0
) -> float:
    """Seconds of the two passes on resident points, beside their 2 n^2 d FLOP; some rows against float64."""
    from clorg_scale.numerics.products import float32_products
    from clorg_scale.rld.exact.device_points import DevicePoints
    from clorg_scale.rld.exact.gpu import GPUEngine
    from clorg_scale.rld.exact.launch_plan import MOST_PANEL_ROWS, Problem, plan_panels
    from clorg_scale.rld.exact.passes import mean_distance
    from clorg_scale.rld.temperatures import log_r_at, needs_log_space

    points = GeneratedPoints(n, d, min(1000, n // 20), timer.device)
    problem = Problem(n, d, len(TEMPERATURES), precision, timer.device, kernels)
    planned, resident = plan_panels(problem, None, most=MOST_PANEL_ROWS)
    if not resident:
        raise SkippedError(f"{n} x {d} does not fit on the device")
    on_device = DevicePoints(points, timer.device, precision, resident=True)
    engine = GPUEngine(on_device, TEMPERATURES, panel_rows or planned, lambda _: None, kernels=kernels)
    label = f"exact RLD {n} x {d} {kernels} {precision}" + (f" tile={tile}" if tile else "")
    times: dict[str, float] = {}
    with using_tile(tile), torch.no_grad(), float32_products("ieee"):
        guess = engine.random_pair_mean(0)
        for _ in range(2 if n <= 300_000 else 1):
            timer.synchronize()
            start = time.perf_counter()
            R, D, distance_sum = engine.kernel_pass(guess)
            mu = mean_distance(distance_sum, n)
            timer.synchronize()
            times["pass1"] = time.perf_counter() - start
            log_r = log_r_at(mu, guess, temperatures=engine.temperatures, R=R, D=D, log=torch.log)
            log_space = needs_log_space(float(log_r.min()), n)
            timer.synchronize()
            start = time.perf_counter()
            k, _, _ = engine.affinity_pass(mu, log_r)
            timer.synchronize()
            times["pass2"] = time.perf_counter() - start
        error = error_of_rows(engine, mu, log_r, k)
    total = sum(times.values())
    timer.timing(label, total, flops=2.0 * n * n * d, TFLOPs=2.0 * n * n * d / total / 1e12, logs=log_space, **times)
    timer.correct("  32 of its rows against float64 (relative)", error, 2e-4)
    return total


@contextmanager
def using_tile(name: str | None) -> Iterator[None]:
    """Launch tiles of another shape than the default of their precision."""
    if name is None:
        yield
        return
    from clorg_scale.kernels import rld_launch

    plain = rld_launch.tile_config
    rld_launch.tile_config = lambda precision, other=None: plain(precision, other or name)
    try:
        yield
    finally:
        rld_launch.tile_config = plain


def error_of_rows(engine: Any, mu: float, log_r: Any, k: Any) -> float:
    """Largest relative error of r and of k of some rows, from float64 distances of the rounded points."""
    from clorg_scale.rld.exact.passes import log_row_sums

    rows = np.linspace(0, engine.points.n - 1, 32).astype(np.int64)
    wrong = torch.expm1(log_r[:, rows] - log_row_sums(engine, rows, mu)).abs().max()
    expected = torch.zeros_like(k[:, rows])
    for columns, distance, _ in engine.distances_to_all(rows):
        for t, temperature in enumerate(engine.temperatures.tolist()):
            exponent = distance * (-2 / (mu * temperature)) - log_r[t, rows, None] - log_r[t, columns]
            expected[t] += torch.exp(exponent).sum(1)
    return float(torch.maximum(wrong, (k[:, rows] / expected - 1).abs().max()))


def timing_exact_rld(timer: Timer) -> None:
    """50,000 x 512 (goal 20 ms), then as large as time allows, up to 1.28M x 2048 (goal 15 s)."""
    if timer.dry:
        time_exact_rld(timer, 500, 64, kernels="torch")
        return
    fastest = fastest_kernels(timer)
    # Small panels with and without a class in common: every variant of the kernels is compiled.
    time_exact_rld(timer, 4096, 512, kernels=fastest, panel_rows=1024)
    time_exact_rld(timer, 50_000, 512, kernels=fastest)
    last = time_exact_rld(timer, 131_072, 2048, kernels=fastest)
    for n in (409_600, 1_280_000):
        predicted = last * (n / 131_072) ** 2
        if predicted > 0.6 * timer.left:
            timer.report.add(f"exact RLD {n} x 2048", skipped=f"would take {predicted:.0f} s")
            continue
        time_exact_rld(timer, n, 2048, kernels=fastest)
    if fastest != "triton" and timer.left > 60:
        time_exact_rld(timer, 4096, 512, kernels="triton", panel_rows=1024)
        time_exact_rld(timer, 50_000, 512, kernels="triton")
        time_exact_rld(timer, 131_072, 2048, kernels="triton")


def fastest_kernels(timer: Timer) -> str:
    """Kernels that compute the tiles by default."""
    from clorg_scale.rld.exact.launch_plan import choose_kernels

    device = torch.device("cuda", torch.cuda.current_device()) if timer.device.type == "cuda" else timer.device
    return choose_kernels("auto", "fp16", device, len(TEMPERATURES))


def timing_rld(timer: Timer) -> None:
    """Exact RLD by the public function, all of it: reading, centering, both passes, the deviation of shuffles."""
    from clorg_scale.rld import rld

    n, d = (300, 16) if timer.dry else (50_000, 512)
    X, codes = shuffled(timer, n, d)
    arrays = {"NumPy": X} if timer.dry else {"NumPy": X.get(), "CuPy": X}
    for name, array in arrays.items():
        seconds = timer.best(partial(rld, array, codes, method="exact", device=timer.device.type))
        timer.timing(f"rld(method='exact') {n} x {d}, {name}", seconds, flops=2.0 * n * n * d)


def timing_variants(timer: Timer) -> None:
    """Input modes, tile shapes, and torch's own operations, at sizes that take a fraction of a second."""
    if timer.dry:
        time_exact_rld(timer, 300, 32, kernels="torch", precision="tf32")
        return
    for d in (512, 2048):
        for tile in ("two_per_sm", "wide", "tall"):
            timer.section(f"tile {tile}", partial(time_exact_rld, timer, 65_536, d, kernels="triton", tile=tile))
    for precision in ("bf16", "tf32", "tf32x3", "ieee"):
        timer.section(precision, partial(time_exact_rld, timer, 32_768, 512, kernels="triton", precision=precision))
    time_exact_rld(timer, 50_000, 512, kernels="torch")


def timing_dense(timer: Timer) -> None:
    """The paper's way: n x n tensors in float32, for as many points as fit."""
    for n in (200,) if timer.dry else (10_000, 20_000, 50_000):
        X = torch.randn(n, 64 if timer.dry else 512, device=timer.device)
        codes = torch.arange(n, device=timer.device) % 10

        def dense(X: Any = X, codes: Any = codes) -> Any:
            distance = torch.cdist(X, X) / X.shape[1] ** 0.5
            mu = distance.sum() / (len(X) * (len(X) - 1))
            same = codes[:, None] == codes
            values = []
            for temperature in TEMPERATURES.tolist():
                E = torch.exp(-distance / (mu * temperature)).fill_diagonal_(0)
                P = E / E.sum(1, keepdim=True)
                A = P * P.T
                k = A.sum(1)
                K = torch.zeros(10, device=X.device).index_add_(0, codes, k)
                values.append((A * same).sum() / k.sum() - ((K / k.sum()) ** 2).sum())
            return torch.stack(values)

        what = f"dense tensors {n} x {X.shape[1]} (the paper's way)"
        try:
            timer.timing(what, timer.best(dense, 1), flops=2.0 * n * n * X.shape[1])
        except torch.OutOfMemoryError:
            timer.report.add(what, skipped="out of memory")
        if not timer.dry:
            torch.cuda.empty_cache()
            time_exact_rld(timer, n, X.shape[1], kernels=fastest_kernels(timer))


def timing_keops(timer: Timer) -> None:
    """The same two kernel sums as KeOps reductions, one temperature."""
    if importlib.util.find_spec("pykeops") is None:
        raise SkippedError("KeOps is not installed")
    from pykeops.torch import LazyTensor

    for n, d in ((300, 16),) if timer.dry else ((50_000, 64), (50_000, 512)):
        X = torch.randn(n, d, device=timer.device)
        ones = torch.ones(n, 1, device=timer.device)

        def sums(X: Any = X, ones: Any = ones) -> Any:
            rows, columns = LazyTensor(X[:, None, :]), LazyTensor(X[None, :, :])
            K = (-((rows - columns) ** 2).sum(-1).sqrt()).exp()
            r = K @ ones
            return (K * K) @ (1 / r)

        what = f"KeOps, one temperature {n} x {d}"
        seconds = timer.section(what, partial(timer.best, sums, 1))
        if seconds is not None:
            timer.timing(what, seconds, flops=4.0 * n * n * d)
