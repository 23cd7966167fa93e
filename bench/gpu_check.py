"""Everything that runs on a GPU, in one command: correct against float64 on the CPU, then how fast beside the hardware.

    python bench/gpu_check.py --out gpu.json [--seconds 600]

Needs torch, CuPy, Triton, NumPy, SciPy, Numba, scikit-learn; uses cuVS, faiss-gpu, pylibcugraph and KeOps where they
are. Runs from a checkout that is not installed. Each check stands alone: one that fails is reported and the next
one runs, in a new process where it left the GPU or the process unusable; those that no longer fit into --seconds are
left out and said so. `--cpu-dry-run` runs the same code in tiny sizes on torch's CPU tensors, to keep this file working
where there is no GPU.

Columns: what was computed, seconds (best of repetitions, device synchronized), the floor in seconds (its matrix FLOPs
at the product rate measured in the same run, or its bytes at the copy bandwidth), floor / seconds, and the error
against float64 where it is a check of correctness.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {"ieee": 2e-6, "tf32x3": 2e-6, "tf32": 1e-4, "fp16": 1e-4, "bf16": 1e-3}
"""Error of exact RLD in each input mode on points of few features, where rounding shows most."""

TEMPERATURES = np.array([1.0, 0.5, 0.2, 0.1, 0.05])
UNUSABLE = 3
"""Exit code of a process whose GPU reports errors to the end of it."""

PATIENCE = 300
"""Seconds beyond --seconds until a check counts as one that will not end."""

PACKAGES = (
    "torch", "triton", "cupy-cuda13x", "cuvs-cu13", "pylibcugraph-cu13", "faiss-gpu", "pykeops", "numpy", "scipy",
)  # fmt: skip


def import_from_checkout() -> None:
    """Make `clorg_scale` and `clorg_scale.kernels` importable where the package is not installed."""
    sys.path[:0] = [str(ROOT)]
    if importlib.util.find_spec("clorg_scale.kernels") is None:
        folder = ROOT / "kernels"
        spec = importlib.util.spec_from_file_location(
            "clorg_scale.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["clorg_scale.kernels"] = module
        spec.loader.exec_module(module)


class SkippedError(Exception):
    """A check that cannot run here, with the reason."""


class Run:
    """The machine, the floors, the rows of the report."""

    def __init__(self, *, dry: bool, seconds: float, started: float) -> None:
        self.dry, self.seconds, self.started = dry, seconds, started
        self.device = torch.device("cpu" if dry else "cuda")
        self.engine = "torch" if dry else "triton"
        self.rows: list[dict[str, Any]] = []
        self.matrix_rate = self.copy_rate = float("nan")
        self.usable = True
        self.save: Callable[[], None] = lambda: None

    @property
    def left(self) -> float:
        """Seconds until no further check is started."""
        return self.seconds - (time.time() - self.started)

    def cupy(self) -> Any:
        """CuPy, or a reason to skip."""
        if self.dry:
            raise SkippedError("CuPy needs a GPU")
        return importlib.import_module("cupy")

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def best(self, compute: Callable[[], Any], repeats: int = 3) -> float:
        """Seconds of the fastest of `repeats` calls after one that compiles."""
        compute()
        times = []
        for _ in range(1 if self.dry else repeats):
            self.synchronize()
            start = time.perf_counter()
            compute()
            self.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    def report(self, what: str, **numbers: Any) -> None:
        """Keep, write and print one row."""
        self.rows.append({"what": what} | numbers)
        self.save()
        shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items())
        print(f"{what:<58} {shown}", flush=True)

    def timing(self, what: str, seconds: float, *, flops: float = 0.0, moved: float = 0.0, **more: Any) -> None:
        """Report a time beside its floor."""
        floor = max(flops / self.matrix_rate, moved / self.copy_rate)
        self.report(what, seconds=seconds, floor=floor, share=floor / seconds, **more)

    def correct(self, what: str, error: float, allowed: float) -> None:
        """Report an error beside what is allowed; too large is a failed check."""
        self.report(what, error=float(error), allowed=allowed, ok=bool(error <= allowed))

    def attempt(self, check: Callable[[Run], None]) -> None:
        """Run one check, whatever happens in it."""
        name = check.__name__
        if self.left <= 0:
            self.report(name, skipped="no time left")
            return
        if self.device.type == "cuda":
            from clorg_scale.arrays import free_device_memory

            free_device_memory()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        try:
            check(self)
        except SkippedError as reason:
            self.report(name, skipped=str(reason))
            return
        except Exception as error:
            self.failed(name, error)
            return
        memory = {"peak_GB": torch.cuda.max_memory_allocated() / 1e9} if self.device.type == "cuda" else {}
        self.report(f"[{name}]", wall=time.perf_counter() - start, **memory)

    def part(self, what: str, compute: Callable[[], Any]) -> Any:
        """Run one part of a check; where it fails, None, and the parts after it run."""
        try:
            return compute()
        except SkippedError as reason:
            self.report(what, skipped=str(reason))
        except Exception as error:
            self.failed(what, error)
        return None

    def failed(self, what: str, error: Exception) -> None:
        """Report an error, and find out whether the GPU still does anything after it."""
        self.report(what, failed=f"{type(error).__name__}: {error}".splitlines()[0][:300])
        traceback.print_exception(error)
        try:
            self.synchronize()
        except Exception:  # an illegal access, say, is reported by whatever comes next, to the end of the process
            self.usable = False


# --- floors ---------------------------------------------------------------------------------------------------------


def floors(run: Run) -> None:
    """Rate of a large fp16 product of random numbers, and of a copy, counting bytes read and written."""
    size = 256 if run.dry else 8192
    a, b = (torch.randn(size, size, device=run.device).to(torch.float32 if run.dry else torch.float16) for _ in "ab")
    run.matrix_rate = 2 * size**3 / run.best(lambda: a @ b, 10)
    source = torch.empty((1 << 20) if run.dry else (1 << 29), dtype=torch.float32, device=run.device)
    target = torch.empty_like(source)
    run.copy_rate = 2 * source.numel() * 4 / run.best(lambda: target.copy_(source), 5)
    host = torch.empty(1 << 20 if run.dry else 1 << 28, dtype=torch.float32, pin_memory=not run.dry)
    loading = 4 * len(host) / run.best(lambda: target[: len(host)].copy_(host, non_blocking=True))
    run.report(
        "floors", matrix_TFLOPs=run.matrix_rate / 1e12, copy_GBs=run.copy_rate / 1e9, from_pinned_GBs=loading / 1e9
    )


# --- correctness ----------------------------------------------------------------------------------------------------


def clustered(n: int, d: int, *, classes: int = 10, spread: float = 1.0, seed: int = 0) -> tuple[Any, Any]:
    """Points of classes far from the origin, some unlabelled, one pair identical, one nearly."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, classes, n)
    X = 5 + rng.normal(size=(classes + 1, d))[codes + 1] + spread * rng.normal(size=(n, d))
    X[1], X[3] = X[0], X[2] + 1e-4
    return X.astype(np.float32), codes.astype(np.int64)


def rld_of(run: Run, X: Any, codes: Any, **options: Any) -> Any:
    """Exact RLD of the GPU engine."""
    from clorg_scale.rld.exact.gpu import exact_sums
    from clorg_scale.rld.modularity import label_modularity
    from clorg_scale.rld.points import ClassOrderedPoints

    n_classes = int(codes.max()) + 1
    options = {"device": run.device.type, "advance": lambda _: None} | options
    sums = exact_sums(ClassOrderedPoints(X, codes, n_classes), TEMPERATURES, **options)
    return label_modularity(sums.k, sums.w, codes, n_classes).values


def check_exact_rld(run: Run) -> None:
    """Every engine and precision against the dense definition, ragged n, two widths."""
    from clorg_scale.rld.definition import dense_rld

    for n, d in ((311, 17),) if run.dry else ((2999, 17), (3001, 300)):
        X, codes = clustered(n, d)
        expected = dense_rld(X, codes, TEMPERATURES).values
        for engine in ("torch",) if run.dry else ("hopper", "triton", "torch"):
            for precision, allowed in ALLOWED.items():
                if engine == "hopper" and precision not in ("fp16", "bf16"):
                    continue
                what = f"exact RLD {n} x {d} {engine} {precision}"
                found = run.part(what, partial(rld_of, run, X, codes, kernels=engine, precision=precision))
                if found is not None:
                    run.correct(what, abs(found - expected).max(), allowed)


def check_near_pairs(run: Run) -> None:
    """Classes so tight that every pair within one is recomputed; twice, bit for bit."""
    from clorg_scale.rld.definition import dense_rld

    X, codes = clustered(300 if run.dry else 3000, 32, spread=1e-3)
    expected = dense_rld(X, codes, TEMPERATURES).values
    first, second = (rld_of(run, X, codes, kernels=run.engine, precision="ieee") for _ in range(2))
    run.correct("exact RLD of collapsed classes", abs(first - expected).max(), 5e-5)
    run.correct("the same twice (difference)", abs(first - second).max(), 0.0)


def check_streaming(run: Run) -> None:
    """Panels copied while others are worked on give what resident points give."""
    from clorg_scale.rld.exact import gpu

    n, d, panel_rows = (600, 32, 200) if run.dry else (60_000, 512, 8192)
    X, codes = clustered(n, d)
    resident = rld_of(run, X, codes, kernels=run.engine)
    plan = gpu.plan_panels
    gpu.plan_panels = lambda *_, **__: (panel_rows, False)
    try:
        start = time.perf_counter()
        streamed = rld_of(run, X, codes, kernels=run.engine)
        seconds = time.perf_counter() - start
    finally:
        gpu.plan_panels = plan
    # The first estimate of mu is a coarser one where points are streamed; what is left after its correction is less.
    run.correct(f"exact RLD {n} x {d}, panels of {panel_rows} streamed", abs(streamed - resident).max(), 5e-6)
    run.report("  streamed, all of it", seconds=seconds)


def check_sampled_rld(run: Run) -> None:
    """Tiles of torch give the sums of the CPU's compiled loops: landmarks and near field are the same."""
    from clorg_scale.neighbors import knn
    from clorg_scale.rld.points import ClassOrderedPoints
    from clorg_scale.rld.sampled.estimate import sampled_sums
    from clorg_scale.rld.sampled.near_field import NearField
    from clorg_scale.rld.sampled.tile_order import tile_order

    for n, d, dtype, allowed in ((700, 17, np.float32, 1e-4), (20_000, 128, np.float32, 1e-4), (3000, 64, float, 1e-9)):
        if run.dry and n > 700:
            continue
        X, codes = clustered(n, d)
        points = ClassOrderedPoints(X.astype(dtype), codes, 10)
        near_field = NearField.of(knn(X, 15, device="cpu"), tile_order(n, 0))
        ours, theirs = (
            sampled_sums(points, codes, near_field, TEMPERATURES, target_error=0.005, n_landmarks=300, device=device)
            for device in (run.device.type, None)
        )
        for name in ("k", "w", "log_r", "stderr"):
            expected = getattr(theirs, name)
            error = abs(getattr(ours, name) - expected).max() / abs(expected).max()
            run.correct(f"sampled RLD {n} x {d} {np.dtype(dtype).name}, {name}", error, allowed)


def check_graph_kernels(run: Run) -> None:
    """Symmetrizing, label sums, class matches, sampling: both index widths, against SciPy and the CPU sampler."""
    cupy = run.cupy()
    import scipy.sparse as sp
    from clorg_scale.kernels import graph

    from clorg_scale.probes import sampler

    rng = np.random.default_rng(2)
    n, k = 20_000, 15
    table = np.argpartition(rng.random((n, 64)), k, axis=1)[:, :k] * (n // 64) + rng.integers(0, n // 64, (n, k))
    table[table == np.arange(n)[:, None]] = -1
    weights = rng.random((n, k)).astype(np.float32)
    rows, listed = np.repeat(np.arange(n), k), table.ravel() >= 0
    W = sp.csr_matrix((weights.ravel()[listed], (rows[listed], table.ravel()[listed])), shape=(n, n))
    codes = rng.integers(-1, 50, n).astype(np.int32)

    def of_index(index: Any) -> None:
        name = np.dtype(index).name
        rules = {"max": W.maximum(W.T), "mean": (W + W.T) * np.float32(0.5), "mutual": W.minimum(W.T)}
        for rule, graph_of_rule in rules.items():
            expected = graph_of_rule.tocsr()
            expected.sort_indices()
            ours = [a.get() for a in graph.symmetrize(cupy.asarray(table.astype(index)), cupy.asarray(weights), rule)]
            theirs = (expected.indptr, expected.indices, expected.data)
            same = all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
            run.correct(f"symmetrize {rule} {name} (0: identical)", float(not same), 0.0)
        indptr, indices, values = graph.symmetrize(cupy.asarray(table.astype(index)), cupy.asarray(weights), "max")
        own, total, two_m = graph.label_sums(indptr, indices, values, cupy.asarray(codes), 50)
        A = W.maximum(W.T).astype(np.float64).tocsr()
        labeled = np.flatnonzero(codes >= 0)
        members = sp.csr_matrix((np.ones(len(labeled)), (codes[labeled], labeled)), shape=(50, n))
        error = abs(own.get() - (members @ A @ members.T).diagonal()).max() / two_m
        run.correct(f"label sums {name}", max(error, abs(total.get() - members @ A.sum(1).A1).max() / two_m), 1e-12)
        ks = [1, 5, 15]
        matches = graph.class_matches(cupy.asarray(table.astype(index)), cupy.arange(n), cupy.asarray(codes), ks).get()
        mates = (codes[table] == codes[:, None]) & (table >= 0)
        wanted = np.where(codes[:, None] < 0, -1, np.stack([mates[:, :k].sum(1) for k in ks], 1))
        run.correct(f"class matches {name} (0: identical)", float((matches != wanted).sum()), 0.0)
        inclusion = graph.inclusion_scale(indptr, values, 10)
        targets = rng.permutation(n)[:5000].astype(np.int64)
        starts, nodes, kept = graph.sample_rows(indptr, indices, values, inclusion, cupy.asarray(targets), seed=7)
        scale = inclusion[0].get()
        expected_nodes, expected_kept = np.empty(len(nodes), index), np.empty(len(nodes), np.float32)
        on_cpu = (indptr.get(), indices.get(), values.get(), scale, targets, np.uint64(7), starts.get())
        sampler._sample_rows(*on_cpu, expected_nodes, expected_kept)
        run.correct(f"sampled nodes {name} (0: identical)", float((nodes.get() != expected_nodes).sum()), 0.0)
        run.correct(f"sampled values {name}", abs(kept.get() - expected_kept).max(), 1e-5)

    for index in (np.int32, np.int64):
        run.part(f"graph kernels {np.dtype(index).name}", partial(of_index, index))


def check_stages(run: Run) -> None:
    """k-NN, affinity graph, modularity, CHI: the same calls on GPU and CPU arrays."""
    from clorg_scale.affinity import affinity_graph
    from clorg_scale.communities import modularity
    from clorg_scale.measures import class_homogeneity
    from clorg_scale.neighbors import KNN

    n = 400 if run.dry else 5000
    X, codes = clustered(n, 32)
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=16, algorithm="brute").fit(X).kneighbors(X)
    own = indices == np.arange(n)[:, None]
    own[~own.any(1), -1] = True
    indices, distances = (a[~own].reshape(n, 15) for a in (indices, distances))
    xp = np if run.dry else run.cupy()
    results = []
    for module in (np, xp):
        arrays = module.asarray(indices.astype(np.int32)), module.asarray(distances.astype(np.float32))
        table = KNN(*arrays, "euclidean", "flat", n)
        graph = affinity_graph(table)
        chi = class_homogeneity(table, codes, ks=[1, 15])
        results.append(np.array([modularity(graph, codes), chi[1], chi[15], graph.n_edges]))
    run.correct("affinity graph, modularity, CHI: GPU against CPU", abs(results[0] - results[1]).max(), 1e-6)


def check_knn(run: Run) -> None:
    """The exact index on the GPU finds scikit-learn's neighbors (ties aside)."""
    from sklearn.neighbors import NearestNeighbors

    from clorg_scale.neighbors import knn

    for d in (64, 300):  # from 256 features on tensor cores search
        X, _ = clustered(500 if run.dry else 5000, d)
        table = run.part(f"k-NN in {d} features", partial(knn, X, 15, index="flat", device=run.device.type))
        if table is None:
            continue
        distances = table.distances if isinstance(table.distances, np.ndarray) else table.distances.get()
        expected = NearestNeighbors(n_neighbors=16, algorithm="brute").fit(X).kneighbors(X)[0][:, 1:]
        error = abs(distances - expected).max() / expected.max()
        run.correct(f"k-NN distances in {d} features ({table.index})", error, 1e-3)


def check_approximate_knn(run: Run) -> None:
    """Every index of the GPU reaches the recall that it is tuned for."""
    from clorg_scale.neighbors import knn

    X, _ = clustered(6000 if run.dry else 50_000, 64)
    names = ["ivf"] if run.dry or importlib.util.find_spec("cuvs") is None else ["ivf", "cagra", "nndescent"]
    for name in names:
        table = run.part(f"k-NN {name}", partial(knn, X, 15, index=name, device=run.device.type))
        if table is not None:
            run.correct(f"k-NN missed by {table.index}", 1 - table.measured_recall, 0.05)


def check_communities(run: Run) -> None:
    """Leiden and Louvain on the GPU: modularity recomputed, sizes complete."""
    if importlib.util.find_spec("pylibcugraph") is None and not run.dry:
        raise SkippedError("pylibcugraph is not installed")
    from clorg_scale.affinity import affinity_graph
    from clorg_scale.communities import communities, modularity
    from clorg_scale.neighbors import knn

    X, codes = clustered(400 if run.dry else 20_000, 32, spread=0.3)
    graph = affinity_graph(knn(X, 15, device=run.device.type))
    for method in ("leiden", "louvain"):
        start = time.perf_counter()
        found = run.part(method, partial(communities, graph, method=method, device=run.device.type))
        if found is None:
            continue
        seconds = time.perf_counter() - start
        error = abs(found.modularity - modularity(graph, found.labels)) + abs(int(found.sizes.sum()) - len(X))
        run.correct(f"{method}: {len(found.sizes)} communities, Q {found.modularity:.4f}", error, 1e-6)
        shortfall = communities(graph, method=method, device="cpu").modularity - found.modularity
        run.correct(f"  {method}: Q below that of igraph on the CPU", shortfall, 0.02)
        run.report(f"  {method}", seconds=seconds, labels_Q=modularity(graph, codes), library=found.details["library"])


def check_probe(run: Run) -> None:
    """The GCN probe in one batch and in minibatches, on graphs of the device, learns what it learns on the CPU."""
    from clorg_scale.affinity import affinity_graph
    from clorg_scale.neighbors import knn
    from clorg_scale.probes import GCNProbe

    X, codes = clustered(600 if run.dry else 20_000, 32)
    codes = codes + 1
    train = np.random.default_rng(0).random(len(X)) < 0.5
    accuracy = {}
    for device, batch_size in (("cpu", "full"), (run.device.type, "full"), (run.device.type, 256)):
        graph = affinity_graph(knn(X, 15, device=device))
        probe = GCNProbe(device=device, batch_size=batch_size, max_epochs=30).fit(graph, codes, train)
        accuracy[device, batch_size] = probe.score(codes, ~train)
        allowed = 0.05 if run.dry else 0.02
        error = abs(accuracy[device, batch_size] - accuracy["cpu", "full"])
        run.correct(f"GCN probe, batch {batch_size}: {accuracy[device, batch_size]:.3f}", error, allowed)


# --- timings --------------------------------------------------------------------------------------------------------


class GeneratedPoints:
    """A seeded mixture in class order, made on the device block by block, in the place of `ClassOrderedPoints`."""

    on_gpu = True

    def __init__(self, n: int, d: int, n_classes: int, device: Any) -> None:
        self.n_points, self.n_features, self.device = n, d, device
        self.order = np.arange(n)
        self.codes = np.sort(np.arange(n) % n_classes)
        generator = torch.Generator(device).manual_seed(0)
        self.centers = torch.randn(n_classes, 8, d, device=device, generator=generator)
        self.centers -= self.centers.mean((0, 1))

    def rows(self, which: Any, dtype: Any = np.float32) -> Any:
        """Rows of the mixture: class center, one of eight sub-clusters, noise."""
        generator = torch.Generator(self.device).manual_seed(int(which[0]) + 1)
        codes = torch.as_tensor(self.codes[which], device=self.device)
        cluster = torch.as_tensor(np.asarray(which) % 8, device=self.device)
        noise = torch.randn(len(which), self.n_features, device=self.device, generator=generator)
        return 0.4 * self.centers[codes, cluster] + 0.6 * self.centers[codes, 0] + noise


def time_exact_rld(
    run: Run, n: int, d: int, *, engine: str, precision: str = "fp16", tile: str | None = None, panel_rows: int = 0
) -> float:
    """Seconds of the two passes on resident points, beside their 2 n^2 d FLOP; some rows against float64."""
    from clorg_scale.numerics.products import float32_products
    from clorg_scale.rld.exact.device_points import DevicePoints
    from clorg_scale.rld.exact.gpu import GPUEngine
    from clorg_scale.rld.exact.launch_plan import MOST_PANEL_ROWS, Problem, plan_panels
    from clorg_scale.rld.exact.passes import mean_distance
    from clorg_scale.rld.temperatures import log_r_at, needs_log_space

    points = GeneratedPoints(n, d, min(1000, n // 20), run.device)
    problem = Problem(n, d, len(TEMPERATURES), precision, run.device, engine)
    planned, resident = plan_panels(problem, None, most=MOST_PANEL_ROWS)
    if not resident:
        raise SkippedError(f"{n} x {d} does not fit on the device")
    held = DevicePoints(points, run.device, precision, resident=True)
    passes = GPUEngine(held, TEMPERATURES, panel_rows or planned, lambda _: None, kernels=engine)
    label = f"exact RLD {n} x {d} {engine} {precision}" + (f" tile={tile}" if tile else "")
    times: dict[str, float] = {}
    with using_tile(tile), torch.no_grad(), float32_products("ieee"):
        guess = passes.random_pair_mean(0)
        for _ in range(2 if n <= 300_000 else 1):
            run.synchronize()
            start = time.perf_counter()
            R, D, distance_sum = passes.kernel_pass(guess)
            mu = mean_distance(distance_sum, n)
            run.synchronize()
            times["pass1"] = time.perf_counter() - start
            log_r = log_r_at(mu, guess, passes.temperatures, R, D, torch.log)
            log_space = needs_log_space(float(log_r.min()), n)
            run.synchronize()
            start = time.perf_counter()
            k, _, _ = passes.affinity_pass(mu, log_r)
            run.synchronize()
            times["pass2"] = time.perf_counter() - start
        error = error_of_rows(passes, mu, log_r, k)
    total = sum(times.values())
    run.timing(label, total, flops=2.0 * n * n * d, TFLOPs=2.0 * n * n * d / total / 1e12, logs=log_space, **times)
    run.correct("  32 of its rows against float64 (relative)", error, 2e-4)
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


def error_of_rows(passes: Any, mu: float, log_r: Any, k: Any) -> float:
    """Largest relative error of r and of k of some rows, from float64 distances of the rounded points."""
    from clorg_scale.rld.exact.passes import log_row_sums

    rows = np.linspace(0, passes.points.n - 1, 32).astype(np.int64)
    wrong = torch.expm1(log_r[:, rows] - log_row_sums(passes, rows, mu)).abs().max()
    expected = torch.zeros_like(k[:, rows])
    for part, distance, _ in passes.distances_to_all(rows):
        for t, temperature in enumerate(passes.temperatures.tolist()):
            exponent = distance * (-2 / (mu * temperature)) - log_r[t, rows, None] - log_r[t, part]
            expected[t] += torch.exp(exponent).sum(1)
    return float(torch.maximum(wrong, (k[:, rows] / expected - 1).abs().max()))


def timing_exact_rld(run: Run) -> None:
    """50,000 x 512 (goal 20 ms), then as large as time allows, up to 1.28M x 2048 (goal 15 s)."""
    if run.dry:
        time_exact_rld(run, 500, 64, engine="torch")
        return
    fastest = fastest_engine(run)
    # Small panels with and without a class in common: every variant of the kernels is compiled.
    time_exact_rld(run, 4096, 512, engine=fastest, panel_rows=1024)
    time_exact_rld(run, 50_000, 512, engine=fastest)
    last = time_exact_rld(run, 131_072, 2048, engine=fastest)
    for n in (409_600, 1_280_000):
        predicted = last * (n / 131_072) ** 2
        if predicted > 0.6 * run.left:
            run.report(f"exact RLD {n} x 2048", skipped=f"would take {predicted:.0f} s")
            continue
        time_exact_rld(run, n, 2048, engine=fastest)
    if fastest != "triton" and run.left > 60:
        time_exact_rld(run, 4096, 512, engine="triton", panel_rows=1024)
        time_exact_rld(run, 50_000, 512, engine="triton")
        time_exact_rld(run, 131_072, 2048, engine="triton")


def fastest_engine(run: Run) -> str:
    """What computes the tiles by default here."""
    from clorg_scale.rld.exact.launch_plan import choose_kernels

    device = torch.device("cuda", torch.cuda.current_device()) if run.device.type == "cuda" else run.device
    return choose_kernels("auto", "fp16", device, len(TEMPERATURES))


def timing_rld(run: Run) -> None:
    """Exact RLD by the public function, all of it: reading, centering, both passes, the deviation of shuffles."""
    from clorg_scale.rld import rld

    n, d = (300, 16) if run.dry else (50_000, 512)
    X, codes = clustered(n, d)
    arrays = {"NumPy": X} if run.dry else {"NumPy": X, "CuPy": run.cupy().asarray(X)}
    for name, array in arrays.items():
        seconds = run.best(partial(rld, array, codes, method="exact", device=run.device.type))
        run.timing(f"rld(method='exact') {n} x {d}, {name}", seconds, flops=2.0 * n * n * d)


def timing_variants(run: Run) -> None:
    """Input modes, tile shapes, and torch's own operations, at sizes that take a fraction of a second."""
    if run.dry:
        time_exact_rld(run, 300, 32, engine="torch", precision="tf32")
        return
    for d in (512, 2048):
        for tile in ("two_per_sm", "wide", "tall"):
            run.part(f"tile {tile}", partial(time_exact_rld, run, 65_536, d, engine="triton", tile=tile))
    for precision in ("bf16", "tf32", "tf32x3", "ieee"):
        run.part(precision, partial(time_exact_rld, run, 32_768, 512, engine="triton", precision=precision))
    time_exact_rld(run, 50_000, 512, engine="torch")


def timing_dense(run: Run) -> None:
    """The paper's way: n x n tensors in float32, for as many points as fit."""
    for n in (200,) if run.dry else (10_000, 20_000, 50_000):
        X = torch.randn(n, 64 if run.dry else 512, device=run.device)
        codes = torch.arange(n, device=run.device) % 10

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
            run.timing(what, run.best(dense, 1), flops=2.0 * n * n * X.shape[1])
        except torch.OutOfMemoryError:
            run.report(what, skipped="out of memory")
        if not run.dry:
            torch.cuda.empty_cache()
            time_exact_rld(run, n, X.shape[1], engine=fastest_engine(run))


def timing_keops(run: Run) -> None:
    """The same two kernel sums as KeOps reductions, one temperature."""
    if importlib.util.find_spec("pykeops") is None:
        raise SkippedError("KeOps is not installed")
    from pykeops.torch import LazyTensor

    for n, d in ((300, 16),) if run.dry else ((50_000, 64), (50_000, 512)):
        X = torch.randn(n, d, device=run.device)
        ones = torch.ones(n, 1, device=run.device)

        def sums(X: Any = X, ones: Any = ones) -> Any:
            rows, columns = LazyTensor(X[:, None, :]), LazyTensor(X[None, :, :])
            K = (-((rows - columns) ** 2).sum(-1).sqrt()).exp()
            r = K @ ones
            return (K * K) @ (1 / r)

        what = f"KeOps, one temperature {n} x {d}"
        seconds = run.part(what, partial(run.best, sums, 1))
        if seconds is not None:
            run.timing(what, seconds, flops=4.0 * n * n * d)


def timing_graph(run: Run) -> None:
    """Graph kernels at 1.28M points, 15 neighbors, beside the bytes of their heads."""
    cupy = run.cupy()
    from clorg_scale.kernels import graph

    n, k = 1_280_000, 15
    cupy.random.seed(0)
    table = (cupy.arange(n)[:, None] + cupy.random.randint(1, 2000, (n, k)).cumsum(axis=1)) % n
    table, weights = table.astype(np.int32), cupy.random.random((n, k)).astype(np.float32)
    codes = cupy.sort(cupy.random.randint(0, 1000, n)).astype(np.int32)

    def timed(what: str, moved: float, compute: Callable[[], Any]) -> Any:
        results: list[Any] = []

        def once() -> None:
            results[:] = [compute()]
            cupy.cuda.Device().synchronize()

        run.timing(what, run.best(once), moved=moved)
        return results[0]

    symmetric = timed("symmetrize 1.28M x 15", n * k * 8.0 * 6, lambda: graph.symmetrize(table, weights, "max"))
    indptr, indices, values = symmetric
    entries = len(indices)
    timed("label sums", entries * 12.0, lambda: graph.label_sums(indptr, indices, values, codes, 1000))
    owners = cupy.arange(n)
    timed("class matches, 3 k", n * k * 8.0, lambda: graph.class_matches(table, owners, codes, [1, 5, 15]))
    inclusion = timed("inclusion scale", entries * 4.0, lambda: graph.inclusion_scale(indptr, values, 10))
    targets = cupy.random.permutation(n)[:100_000].astype(np.int64)
    timed(
        "sample 10 of 100,000 rows", 1e5 * (entries / n * 8 + 10 * 8),
        lambda: graph.sample_rows(indptr, indices, values, inclusion, targets, seed=1),
    )  # fmt: skip


def timing_knn_engines(run: Run) -> None:
    """Every engine of exact k-NN that is here on one block of queries: 16,384 x 2048 against 262,144."""
    from functools import partial

    from clorg_scale.neighbors.algorithms import flat_cuvs, flat_faiss_gpu, flat_torch

    q, n, d = (200, 500, 16) if run.dry else (16_384, 262_144, 2048)
    X = clustered(n, d)[0] if run.dry else generated(run, n, d, 1000)[0].astype(np.float32)
    engines = {"torch": flat_torch.search_block}
    engines["torch, tensor cores"] = partial(flat_torch.search_block, tensor_cores=True)
    if importlib.util.find_spec("cuvs") is not None:
        engines["cuVS"] = flat_cuvs.search_block
    if flat_faiss_gpu.usable():
        engines["FAISS"] = flat_faiss_gpu.search_block
    for name, find in engines.items():
        what = f"k-NN block {q} x {n} x {d} {name}"
        seconds = run.part(what, partial(run.best, partial(find, X[:q], X, 48, False), 2))
        if seconds is not None:
            run.timing(what, seconds, flops=2.0 * q * n * d)


def timing_stages(run: Run) -> None:
    """k-NN, affinity graph, CHI, modularity through the public functions."""
    from clorg_scale.affinity import affinity_graph
    from clorg_scale.communities import modularity
    from clorg_scale.measures import class_homogeneity
    from clorg_scale.neighbors import knn

    n, d = (400, 16) if run.dry else (100_000, 512)
    X, codes = clustered(n, d)
    if not run.dry:
        X = run.cupy().asarray(X)
    found: dict[str, Any] = {}

    def keep(name: str, compute: Callable[[], Any]) -> Callable[[], None]:
        return lambda: found.update({name: compute()})

    seconds = run.best(keep("table", lambda: knn(X, 15, index="flat", device=run.device.type)), 1)
    run.timing(f"k-NN flat {n} x {d} ({found['table'].index})", seconds, flops=2.0 * n * n * d)
    run.timing("affinity graph", run.best(keep("graph", lambda: affinity_graph(found["table"]))), moved=n * 15 * 16.0)
    run.timing("CHI, 15 neighbors", run.best(lambda: class_homogeneity(found["table"], codes)), moved=n * 15 * 8.0)
    seconds = run.best(lambda: modularity(found["graph"], codes))
    run.timing("modularity of labels", seconds, moved=found["graph"].n_edges * 16.0)


def generated(run: Run, n: int, d: int, n_classes: int) -> tuple[Any, Any]:
    """(n, d) float16 of `GeneratedPoints`, CuPy's where there is a GPU, and their classes."""
    points = GeneratedPoints(n, d, n_classes, run.device)
    X = np.empty((n, d), np.float16) if run.dry else run.cupy().empty((n, d), np.float16)
    for start in range(0, n, 20_000):
        block = points.rows(np.arange(start, min(n, start + 20_000))).half()
        X[start : start + len(block)] = block.numpy() if run.dry else run.cupy().from_dlpack(block)
    return X, points.codes


def timing_imagenet(run: Run) -> None:
    """1.28M x 2048 in fp16 through the public functions: k-NN (goal 60 s), graph, communities, RLD, GCN."""
    from clorg_scale.affinity import affinity_graph
    from clorg_scale.communities import communities, modularity
    from clorg_scale.neighbors import knn
    from clorg_scale.probes import GCNProbe
    from clorg_scale.rld import rld

    device = run.device.type
    n, d, n_classes = (3000, 32, 10) if run.dry else (1_280_000, 2048, 1000)
    X, codes = generated(run, n, d, n_classes)

    def timed(what: str, compute: Callable[[], Any], **work: float) -> Any:
        run.synchronize()
        start = time.perf_counter()
        found = run.part(what, compute)
        run.synchronize()
        if found is not None:
            run.timing(f"{what} {n} x {d}", time.perf_counter() - start, **work)
        return found

    table = timed("k-NN flat", lambda: knn(X, 15, index="flat", device=device), flops=2.0 * n * n * d)
    if table is not None:
        graph = timed("affinity graph", lambda: affinity_graph(table), moved=n * 15 * 16.0)
        if graph is not None and (run.dry or importlib.util.find_spec("pylibcugraph") is not None):
            for method in ("leiden", "louvain"):
                found = timed(method.capitalize(), partial(communities, graph, method=method, device=device))
                if found is not None:
                    run.report(f"  {method}", communities=len(found.sizes), Q=found.modularity)
            run.report("  classes", Q=modularity(graph, codes))
    result = timed("exact RLD, all of it", lambda: rld(X, codes, method="exact", device=device), flops=2.0 * n * n * d)
    sampled = timed("sampled RLD", lambda: rld(X, codes, method="sampled", device=device))
    if sampled is not None and result is not None:
        off = float(abs(sampled.values - result.values).max())
        run.report(
            "  sampled RLD", landmarks=sampled.details["landmarks"], stderr=float(sampled.stderr.max()), off_by=off
        )
    if table is not None and graph is not None:
        train = np.random.default_rng(0).random(n) < 0.9
        probe = GCNProbe(device=device, max_epochs=5, batch_size=512 if run.dry else 16_384)
        if timed("GCN probe, 5 epochs", lambda: probe.fit(graph, codes, train)) is not None:
            timed("GCN probe, inference and score", lambda: probe.score(codes, ~train))


CHECKS: tuple[Callable[[Run], None], ...] = (
    floors,
    check_exact_rld,
    timing_exact_rld,
    check_near_pairs,
    check_streaming,
    check_sampled_rld,
    check_graph_kernels,
    check_knn,
    check_approximate_knn,
    check_stages,
    check_communities,
    check_probe,
    timing_rld,
    timing_variants,
    timing_dense,
    timing_keops,
    timing_graph,
    timing_knn_engines,
    timing_stages,
    timing_imagenet,
)


def machine(device: Any) -> dict[str, Any]:
    """What the numbers were measured on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "versions": versions,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_GB": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "driver": driver(),
        }
    return facts


def driver() -> str | None:
    """Version of the GPU's driver, where its own tool tells."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return told.splitlines()[0].strip()


def main() -> int:
    """Run all checks; exit 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the report as JSON to this file")
    parser.add_argument("--seconds", type=float, default=600, help="start no check after this long (600)")
    parser.add_argument("--only", default="", help="run only checks whose names contain one of these, comma separated")
    parser.add_argument("--cpu-dry-run", action="store_true", help="tiny sizes on torch's CPU tensors")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # go on in this process, from that report
    options = parser.parse_args()
    wanted = options.only.split(",")
    checks = {check.__name__: check for check in CHECKS if check is floors or any(w in check.__name__ for w in wanted)}
    if options.worker:
        return work(options, checks)
    if not options.cpu_dry_run and not torch.cuda.is_available():
        print("gpu_check: torch sees no GPU; --cpu-dry-run runs the same code without one.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        rows = supervise(options, list(checks), options.out or Path(folder) / "report.json")
    failed = [row["what"] for row in rows if "failed" in row or row.get("ok") is False]
    print(f"{len(failed)} failed" + (": " + "; ".join(failed) if failed else ""))
    return 1 if failed else 0


def supervise(options: argparse.Namespace, checks: list[str], path: Path) -> list[dict[str, Any]]:
    """Rows of all checks, run by a process of their own, by another one from where it ended."""
    report: dict[str, Any] = {"started": time.time(), "done": [], "running": None, "floors": [], "rows": []}
    write(report, path)
    while set(report["done"]) < set(checks):
        before = len(report["done"])
        command = [sys.executable, *sys.argv, "--worker", str(path)]
        left = report["started"] + options.seconds - time.time()
        try:
            ended = (
                f"ended the process with code {subprocess.run(command, timeout=max(0.0, left) + PATIENCE).returncode}"
            )
        except subprocess.TimeoutExpired:
            ended = "took too long"
        report = json.loads(path.read_text())
        if report["running"]:
            report["rows"].append({"what": report["running"], "failed": ended})
            report["done"].append(report["running"])
        elif len(report["done"]) == before:
            report["rows"].append({"what": "the process of the checks", "failed": ended})
            break
        report["running"] = None
        write(report, path)
    rows: list[dict[str, Any]] = report["rows"]
    return rows


def work(options: argparse.Namespace, checks: dict[str, Callable[[Run], None]]) -> int:
    """Run the checks that are not done, until one leaves the GPU unusable; the report is written around each."""
    report = json.loads(options.worker.read_text())
    import_from_checkout()
    run = Run(dry=options.cpu_dry_run, seconds=options.seconds, started=report["started"])
    run.rows = report["rows"]
    run.save = lambda: write(report, options.worker)
    if report["floors"]:
        run.matrix_rate, run.copy_rate = report["floors"]
    if "machine" not in report:
        report |= {"machine": machine(run.device), "dry_run": run.dry}
        print(json.dumps(report["machine"]), flush=True)
    for name, check in checks.items():
        if name in report["done"]:
            continue
        report["running"] = name
        write(report, options.worker)
        run.attempt(check)
        report |= {"done": [*report["done"], name], "running": None}
        if name == "floors":
            report["floors"] = [run.matrix_rate, run.copy_rate]
        write(report, options.worker)
        if not run.usable:
            return UNUSABLE
    return 0


def write(report: dict[str, Any], path: Path) -> None:
    """Write the report, whole; numbers of other libraries as Python's."""
    partial_file = path.with_suffix(".tmp")
    partial_file.write_text(json.dumps(report, indent=1, default=lambda number: number.item()))
    partial_file.replace(path)


if __name__ == "__main__":
    sys.exit(main())
