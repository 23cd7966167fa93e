"""Timings of the stages around RLD: k-NN, graph, communities, CHI, probes, and all of it at ImageNet's size."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.gpu.points import generated, shuffled
from bench.gpu.timer import Timer


def timing_graph(timer: Timer) -> None:
    """Graph kernels at 1.28M points, 15 neighbors, beside the bytes of their heads."""
    cupy = timer.cupy()
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

        timer.timing(what, timer.best(once), moved=moved)
        return results[0]

    symmetric = timed("symmetrize 1.28M x 15", n * k * 8.0 * 6, lambda: graph.symmetrize(table, weights, "max"))
    indptr, indices, values = symmetric
    entries = len(indices)
    timed("label sums", entries * 12.0, lambda: graph.label_sums(indptr, indices, values, codes, 1000))
    owners = cupy.arange(n)
    timed("class matches, 3 k", n * k * 8.0, lambda: graph.class_matches(table, owners, codes, [1, 5, 15]))
    inclusion = timed("inclusion scale", entries * 4.0, lambda: graph.inclusion_scale(indptr, values, 10))
    targets = cupy.random.permutation(n)[:100_000].astype(np.int64)
    X = cupy.random.random((100_000, 512), dtype=np.float32)
    rows, pairs, one = cupy.arange(len(X)), cupy.random.randint(0, len(X), (len(X), 48)), cupy.ones(1)
    measure = partial(graph.pair_keys, X, X, (one, one), rows, pairs, inner_product=False)
    timed("measure 4.8M pairs of 512 features", pairs.size * 512 * 4.0, measure)
    sample = partial(graph.sample_rows, indptr, indices, values, inclusion, targets, seed=1)
    timed("sample 10 of 100,000 rows", 1e5 * (entries / n * 8 + 10 * 8), sample)


def timing_knn_engines(timer: Timer) -> None:
    """Every installed engine of exact k-NN on one block of queries: 16,384 x 2048 against 262,144."""
    from clorg_scale.neighbors.algorithms import flat_cuvs, flat_faiss_gpu, flat_torch

    q, n, d = (200, 500, 16) if timer.dry else (16_384, 262_144, 2048)
    X = generated(timer, n, d, 10 if timer.dry else 1000)[0].astype(np.float32)
    engines = {"torch": flat_torch.search_block}
    engines["torch, tensor cores"] = partial(flat_torch.search_block, tensor_cores=True)
    if importlib.util.find_spec("cuvs") is not None:
        engines["cuVS"] = flat_cuvs.search_block
    if flat_faiss_gpu.usable():
        engines["FAISS"] = flat_faiss_gpu.search_block
    for name, find in engines.items():
        what = f"k-NN block {q} x {n} x {d} {name}"
        seconds = timer.section(what, partial(timer.best, partial(find, X[:q], X, 48, False), 2))
        if seconds is not None:
            timer.timing(what, seconds, flops=2.0 * q * n * d)


def timing_stages(timer: Timer) -> None:
    """k-NN, affinity graph, CHI, modularity through the public functions."""
    from clorg_scale.affinity import affinity_graph
    from clorg_scale.communities import modularity
    from clorg_scale.measures import class_homogeneity
    from clorg_scale.neighbors import knn

    n, d = (400, 16) if timer.dry else (100_000, 512)
    X, codes = shuffled(timer, n, d)
    found: dict[str, Any] = {}

    def keep(name: str, compute: Callable[[], Any]) -> Callable[[], None]:
        return lambda: found.update({name: compute()})

    seconds = timer.best(keep("table", lambda: knn(X, 15, index="flat", device=timer.device.type)), 1)
    timer.timing(f"k-NN flat {n} x {d} ({found['table'].index})", seconds, flops=2.0 * n * n * d)
    timer.timing(
        "affinity graph", timer.best(keep("graph", lambda: affinity_graph(found["table"]))), moved=n * 15 * 16.0
    )
    timer.timing("CHI, 15 neighbors", timer.best(lambda: class_homogeneity(found["table"], codes)), moved=n * 15 * 8.0)
    seconds = timer.best(lambda: modularity(found["graph"], codes))
    timer.timing("modularity of labels", seconds, moved=found["graph"].n_edges * 16.0)


def timing_imagenet(timer: Timer) -> None:
    """1.28M x 2048 in fp16 through the public functions: k-NN (goal 60 s), graph, communities, RLD, GCN."""
    from clorg_scale.affinity import affinity_graph
    from clorg_scale.communities import communities, modularity
    from clorg_scale.neighbors import knn
    from clorg_scale.probes import GCNProbe
    from clorg_scale.rld import rld

    device = timer.device.type
    n, d, n_classes = (800, 32, 10) if timer.dry else (1_280_000, 2048, 1000)
    X, codes = generated(timer, n, d, n_classes)

    def timed(what: str, compute: Callable[[], Any], **work: float) -> Any:
        timer.synchronize()
        start = time.perf_counter()
        found = timer.section(what, compute)
        timer.synchronize()
        if found is not None:
            timer.timing(f"{what} {n} x {d}", time.perf_counter() - start, **work)
        return found

    table = timed("k-NN flat", lambda: knn(X, 15, index="flat", device=device), flops=2.0 * n * n * d)
    if table is not None:
        graph = timed("affinity graph", lambda: affinity_graph(table), moved=n * 15 * 16.0)
        if graph is not None and (timer.dry or importlib.util.find_spec("pylibcugraph") is not None):
            for method in ("leiden", "louvain"):
                found = timed(method.capitalize(), partial(communities, graph, method=method, device=device))
                if found is not None:
                    timer.report.add(f"  {method}", communities=len(found.sizes), Q=found.modularity)
            timer.report.add("  classes", Q=modularity(graph, codes))
    result = timed("exact RLD, all of it", lambda: rld(X, codes, method="exact", device=device), flops=2.0 * n * n * d)
    sampled = timed("sampled RLD", lambda: rld(X, codes, method="sampled", device=device))
    if sampled is not None and result is not None:
        off = float(abs(sampled.values - result.values).max())
        timer.report.add(
            "  sampled RLD", landmarks=sampled.details["landmarks"], stderr=float(sampled.stderr.max()), off_by=off
        )
    if table is not None and graph is not None:
        train = np.random.default_rng(0).random(n) < 0.9
        probe = GCNProbe(device=device, max_epochs=5, batch_size=128 if timer.dry else 16_384)
        if timed("GCN probe, 5 epochs", lambda: probe.fit(graph, codes, train)) is not None:
            timed("GCN probe, inference and score", lambda: probe.score(codes, ~train))


def timing_analyze(timer: Timer) -> None:
    """`analyze` as a whole, stage by stage: 100,000 x 512, then ImageNet's size (goal: 3 minutes)."""
    from clorg_scale import analyze

    small = {"probes": ["knn"], "map_points": 100} if timer.dry else {}
    for n, d, n_classes in [(400, 16, 10)] if timer.dry else [(100_000, 512, 10), (1_280_000, 2048, 1000)]:
        X, codes = generated(timer, n, d, n_classes)
        start = time.perf_counter()
        found = timer.section(f"analyze {n} x {d}", partial(analyze, X, codes, device=timer.device.type, **small))
        if found is not None:
            timer.report.add(f"analyze {n} x {d}", seconds=time.perf_counter() - start)
            for note in found.stages:
                timer.report.add(f"  {note.stage}", seconds=note.seconds, engine=note.engine.partition(" ")[0])
