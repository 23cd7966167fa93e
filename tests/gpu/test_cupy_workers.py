"""Workers with GPUs: what goes to them goes there once."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from gpu_data import brute_force, points

from clorg_scale.arrays import array_module
from clorg_scale.kept_results import hand_over
from clorg_scale.neighbors import knn
from clorg_scale.neighbors.exact import BlockSearch
from clorg_scale.neighbors.plan import plan_search
from clorg_scale.neighbors.tables import search_table
from clorg_scale.neighbors.tasks import WorkerSearch, chunk_rows, for_worker
from clorg_scale.rld.exact import gpu, gpu_cluster
from clorg_scale.rld.points import ClassOrderedPoints


def through_a_pickle(task, chunks):
    """A worker: it has its own copy of the task, made once."""
    task = pickle.loads(pickle.dumps(task))
    results = [task(chunk) for chunk in chunks]
    assert pickle.loads(pickle.dumps(task)).plan.points.cached is None  # what it keeps on the GPU stays there
    return results


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("fits", [True, False])
def test_points_are_copied_to_a_worker_once(cupy, is_stand_in, fits, metric, monkeypatch):
    """Not for each chunk, if they fit; the table is that of one process, and in main memory."""
    if not is_stand_in:
        pytest.skip("the real CuPy does not count")
    X, _ = points(d=64)
    copied = []
    make = cupy.asarray
    monkeypatch.setattr(cupy, "asarray", lambda data, **kind: (copied.append(np.size(data)), make(data, **kind))[1])
    engine = BlockSearch("flat(test)", brute_force)
    monkeypatch.setattr("clorg_scale.neighbors.engines.exact_engine", lambda _: engine)
    monkeypatch.setattr("clorg_scale.neighbors.tasks.CHUNK_ROWS", 50)
    cupy.cuda.runtime.memGetInfo = lambda: (1 << 30 if fits else X.nbytes,) * 2
    plan = plan_search(X, 7, metric=metric, device="cpu", memory_limit=None)
    plan = replace(plan, map=through_a_pickle, worker_device="cuda")
    found = search_table(plan)
    assert sum(size for size in copied if size >= 50 * 64) == (X.size if fits else 0)
    assert array_module(found.indices) is np
    assert found.index == "flat(GPU workers)"
    alone = knn(X, 7, metric=metric, index="flat", device="cpu")
    np.testing.assert_array_equal(found.indices, alone.indices)
    np.testing.assert_array_equal(found.distances, alone.distances)


def test_chunks_of_workers_with_gpus_are_large_but_several():
    X, _ = points()
    plan = plan_search(X, 7, metric="euclidean", device="cpu", memory_limit=None)
    assert chunk_rows(plan, 10**6) == 8192
    plan = replace(plan, worker_device="cuda")
    assert [chunk_rows(plan, n) for n in (10**3, 10**6, 10**8)] == [8192, 62_500, 65_536]
    assert WorkerSearch(for_worker(plan)).plan.device == "cuda"


def test_exact_rld_hands_points_over_once(monkeypatch):
    """One engine in all five tasks, on a worker that has its copy of the points; no task carries them."""
    pytest.importorskip("torch", reason="torch is not installed")
    X, codes = points(300, 64)
    made, sizes = [], []
    on_device = gpu.GPUEngine.on_device
    monkeypatch.setattr(gpu.GPUEngine, "on_device", lambda *given: (made.append(1), on_device(*given))[1])
    monkeypatch.setattr(gpu_cluster, "hand_over", lambda _, value: pickle.loads(pickle.dumps(hand_over(map, value))))

    def carried(task, chunks):
        sizes.append(len(pickle.dumps(task)))
        return map(pickle.loads(pickle.dumps(task)), chunks)

    how = {"precision": "ieee", "device": "cpu", "kernels": "torch"}
    temperatures, ordered = np.array([1.0, 0.1]), ClassOrderedPoints(X, codes, 5)
    alone = gpu.exact_sums(ordered, temperatures, advance=lambda _: None, **how)
    made.clear()
    together = gpu_cluster.exact_sums(ordered, temperatures, advance=lambda _: None, ordered_map=carried, **how)
    assert len(sizes) == 5
    assert max(sizes) < X.nbytes
    assert len(made) == 1
    for name in ("k", "w", "log_r", "spread"):
        np.testing.assert_allclose(getattr(together, name), getattr(alone, name), rtol=2e-5, err_msg=name)
