"""A Dask cluster gives the numbers that one process gives, also when workers die on the way."""

import json
import os
import pickle
import signal
import threading
import time
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from command_line import assert_one_sentence, run, run_process

import clorg_scale as cs
from clorg_scale.arrays.mapped import location_or_array, mapped_array
from clorg_scale.communities.leiden_cugraph_dask import edge_blocks
from clorg_scale.distributed import connect, ordered_map, share_with_workers
from clorg_scale.errors import InputError
from clorg_scale.local_workers import PATIENT_RESTARTS

pytestmark = pytest.mark.slow


@contextmanager
def local_cluster(n_workers, **options):
    """Client of a cluster of processes with one thread each."""
    options = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"} | options
    with (
        dask.config.set(PATIENT_RESTARTS),
        distributed.LocalCluster(n_workers, silence_logs="CRITICAL", **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def blobs(n=5_000, d=24, n_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_classes, n)
    return (rng.standard_normal((n_classes, d))[codes] + rng.standard_normal((n, d))).astype(np.float32), codes - 1


def same(ours, theirs, names, **tolerance):
    for name in names:
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), err_msg=name, **tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_rld_is_the_same(client, dtype):
    X, codes = blobs()
    alone = cs.rld(X.astype(dtype), codes, method="exact")
    together = cs.rld(X.astype(dtype), codes, method="exact", client=client)
    # Loops that a worker compiles and those from the cache of this process may add float32 in another order.
    same(together, alone, ("values", "per_class", "null_std", "mean_distance"), rtol=1e-6)
    same(together, alone, ("local_density",), rtol=1e-6, atol=5e-6 if dtype == np.float32 else 0)


@pytest.mark.parametrize(("precision", "n"), [("fp64", 2_100), ("ieee", 1_500)])
def test_exact_rld_of_workers_with_gpus_is_the_same(client, precision, n, monkeypatch):
    """Their code, on the CPU; panels so small that several parts, the last of a single panel, are shared."""
    pytest.importorskip("torch")
    from clorg_scale.rld.exact import gpu, gpu_cluster
    from clorg_scale.rld.points import ClassOrderedPoints

    monkeypatch.setattr(gpu_cluster, "LEAST_PANEL_ROWS", 1 << 9)
    monkeypatch.setattr(gpu_cluster, "PANELS", 5)
    monkeypatch.setattr(gpu, "EXACT_MEAN", 1_750)
    X, codes = blobs(n)
    X = X.astype(np.float64 if precision == "fp64" else np.float32)
    X[7] = 40  # a row to be rescued
    points, temperatures, done = ClassOrderedPoints(X, codes, 4), np.array([0.02, 1.0, 0.5, 0.1]), []
    how = {"precision": precision, "device": "cpu", "kernels": "torch"}
    alone = gpu.exact_sums(points, temperatures, advance=lambda _: None, **how)
    together = gpu_cluster.exact_sums(points, temperatures, advance=done.append, ordered_map=ordered_map(client), **how)
    assert sum(done) == n * (n - 1)
    assert len(done) > 2
    same(together, alone, ("k", "w", "log_r", "mean_distance", "spread"), rtol=1e-9 if precision == "fp64" else 2e-5)
    np.testing.assert_array_equal(together.n_rescued, alone.n_rescued)


def test_the_choice_of_a_method_counts_the_workers(client, monkeypatch):
    from clorg_scale.rld import compute

    monkeypatch.setattr(compute, "AT_ONCE", 0)
    X, codes = blobs(2_000)
    result = cs.rld(X, codes, client=client)
    assert result.method == "exact"
    assert result.details["why"] == "exact is predicted to take less than a minute on this cluster"


def test_sampled_rld_is_the_same(client, tmp_path):
    """But for rounding: workers may have compiled a loop for themselves, which then adds in another order."""
    X, codes = blobs(20_000)
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
    alone = cs.rld(on_disk, codes, method="sampled")
    together = cs.rld(on_disk, codes, method="sampled", client=client)
    same(together, alone, ("values", "stderr", "per_class", "null_std"), rtol=1e-5, atol=1e-7)
    same(together, alone, ("mean_distance",), rtol=0)
    changed = (together.local_density != alone.local_density) & ~np.isnan(alone.local_density)
    assert changed.mean() < 0.1


@pytest.mark.parametrize(
    ("index", "metric"), [("auto", "euclidean"), ("flat", "cosine"), ("hnsw", "euclidean"), ("ivf", "inner_product")]
)
def test_neighbors_are_the_same(client, index, metric):
    X, _ = blobs(9_000)
    alone = cs.knn(X, 10, index=index, metric=metric)
    together = cs.knn(X, 10, index=index, metric=metric, client=client)
    assert together.measured_recall == pytest.approx(alone.measured_recall, abs=0.02)
    if index == "hnsw":  # two builds differ in a few links
        assert (together.indices == alone.indices).mean() > 0.98
        return
    assert together.index == alone.index
    np.testing.assert_array_equal(together.indices, alone.indices)
    np.testing.assert_array_equal(together.distances, alone.distances)


def test_an_analysis_on_a_cluster_is_the_analysis(client, tmp_path):
    X, codes = blobs(1_500)
    how = {"map_points": 0, "probes": ["knn"], "output": None}
    alone, together = cs.analyze(X, codes, **how).to_dict(), cs.analyze(X, codes, client=client, **how).to_dict()
    assert together["rld"]["values"] == pytest.approx(alone["rld"]["values"], rel=1e-6)
    for part in ("communities", "neighbors", "class_homogeneity", "calinski_harabasz"):
        assert together[part] == alone[part]


def inverse(number):
    return 1 // number


class Slow:
    """Squares numbers, a tenth of a second each."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, number):
        (self.folder / f"{number}-{os.getpid()}").touch()
        time.sleep(0.1)
        return number**2


@pytest.mark.parametrize("n_workers", [1, 2])
def test_workers_that_die_cost_no_result(tmp_path, request, n_workers):
    """Of the only worker the task itself is lost and made again by its successor; of two, the other one has it."""
    with local_cluster(1) if n_workers == 1 else nullcontext(request.getfixturevalue("client")) as client:
        victim = next(iter(client.run(os.getpid).values()))

        def strike():
            while len(list(tmp_path.iterdir())) < 8:
                time.sleep(0.01)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=strike)
        killer.start()
        assert list(ordered_map(client)(Slow(tmp_path), range(40))) == [number**2 for number in range(40)]
        killer.join()
        assert victim not in client.run(os.getpid).values()
    repeated = len(list(tmp_path.iterdir())) - 40
    assert 1 <= repeated <= 8  # what was under way, or done and not yet collected


def test_rld_is_the_same_to_the_last_bit_where_a_worker_dies(client):
    from clorg_scale.rld.exact.cpu import exact_sums
    from clorg_scale.rld.points import ClassOrderedPoints

    X, codes = blobs(9_000)
    points, temperatures = ClassOrderedPoints(X, codes, 4), np.array([1.0, 0.1])
    alive = list(client.run(os.getpid).values())
    undisturbed = exact_sums(points, temperatures, ordered_map=ordered_map(client), advance=lambda _: None)

    def strike(_):
        if alive:
            os.kill(alive.pop(), signal.SIGKILL)
            alive.clear()

    disturbed = exact_sums(points, temperatures, ordered_map=ordered_map(client), advance=strike)
    for name in ("k", "w", "log_r", "mean_distance", "squares"):
        np.testing.assert_array_equal(getattr(disturbed, name), getattr(undisturbed, name))


def kill_one_after(client, seconds):
    """Kill a worker at that moment; a thread to be joined."""
    victim = next(iter(client.run(os.getpid).values()))
    timer = threading.Timer(seconds, os.kill, (victim, signal.SIGKILL))
    timer.start()
    return timer


@pytest.fixture(scope="module")
def alone():
    """Points, labels, and what one process makes of them: sampled RLD and nearest neighbors."""
    X, codes = blobs(3_000)
    return X, codes, cs.rld(X, codes, method="sampled"), cs.knn(X, 10, index="flat")


@pytest.mark.parametrize("seconds", [0, 0.1, 0.5])
def test_a_worker_that_dies_at_any_moment_costs_no_result(client, tmp_path, alone, seconds):
    """While workers are asked, the task is sent, chunks are computed; embeddings in memory and in a file."""
    X, codes, rld, table = alone
    np.save(tmp_path / "X.npy", X)
    killer = kill_one_after(client, seconds)
    same(cs.rld(X, codes, method="sampled", client=client), rld, ("values", "stderr"), rtol=1e-5, atol=1e-7)
    killer.join()
    client.wait_for_workers(2, timeout=300)
    killer = kill_one_after(client, seconds)
    together = cs.knn(np.load(tmp_path / "X.npy", mmap_mode="r"), 10, index="flat", client=client)
    killer.join()
    np.testing.assert_array_equal(together.indices, table.indices)


def test_a_worker_that_starts_again_slowly_is_not_given_up():
    """Dask closes a nanny whose worker is not back in time; on a busy machine a worker never came back."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}), connect("local") as client:
        workers = client.run(os.getpid)
        os.kill(min(workers.values()), signal.SIGKILL)
        time.sleep(1)  # longer than that limit, shorter than the start of a worker
        client.wait_for_workers(len(workers), timeout=60)
        assert min(workers.values()) not in client.run(os.getpid).values()


def test_workers_that_all_die_are_replaced_by_others(client, tmp_path):
    client.cluster.scale(0)

    def replace():
        time.sleep(1)
        client.cluster.scale(2)

    starter = threading.Thread(target=replace)
    starter.start()
    assert list(ordered_map(client)(Slow(tmp_path), range(12))) == [number**2 for number in range(12)]
    starter.join()


def test_a_worker_that_joins_late_is_used(tmp_path):
    with local_cluster(1) as client:
        results = ordered_map(client)(Slow(tmp_path), range(60))
        assert next(results) == 0
        client.cluster.scale(2)
        client.wait_for_workers(2)
        assert list(results) == [number**2 for number in range(1, 60)]
    assert len({path.name.split("-")[1] for path in tmp_path.iterdir()}) == 2


def test_an_error_of_a_worker_is_the_users(client):
    X, _ = blobs(6_000)
    with pytest.raises(InputError, match="Searching 10 neighbors"):
        cs.knn(X, 10, index="flat", memory_limit="1MB", client=client)
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(client)(inverse, [1, 0]))


def test_embeddings_that_fit_no_worker(monkeypatch):
    with (
        local_cluster(1, memory_limit="300MB") as client,
        pytest.raises(InputError, match=r"are not in a file and do not fit into half the memory .*0\.30 GB"),
    ):
        share_with_workers(client, np.zeros((50_000, 1_000), np.float32))


def test_a_file_that_workers_do_not_see_is_sent(client, tmp_path, monkeypatch):
    X, _ = blobs(100)
    np.save(tmp_path / "X.npy", X)
    on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.shares_memory(share_with_workers(client, on_disk), on_disk)
    place = mapped_array(on_disk)
    signature = type(place).signature
    monkeypatch.setattr(type(place), "signature", lambda self: (signature(self)[0] + ".other", *signature(self)[1:]))
    sent = share_with_workers(client, on_disk)
    assert mapped_array(sent) is None
    np.testing.assert_array_equal(sent, X)


@pytest.mark.parametrize(
    "view",
    [
        lambda X: X,
        lambda X: X[5:, 2:],
        lambda X: X[::-2, ::3],
        lambda X: X.T,
        lambda X: np.asarray(X)[3:7],
        lambda X: X[100:].view(">f4"),
    ],
)
def test_mapped_arrays_travel_by_their_place_in_the_file(tmp_path, view):
    X, _ = blobs(5_000, 33)
    np.save(tmp_path / "X.npy", X)
    array = view(np.load(tmp_path / "X.npy", mmap_mode="r"))
    sent = pickle.dumps(location_or_array(array))
    assert len(sent) < 1_000
    arrived = pickle.loads(sent)
    assert arrived.dtype == array.dtype
    np.testing.assert_array_equal(arrived, array)
    assert not arrived.flags.writeable


def test_arrays_without_a_file_have_no_place(tmp_path):
    X, _ = blobs(50)
    np.save(tmp_path / "X.npy", X)
    on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert mapped_array(X) is None
    assert mapped_array(on_disk + 1) is None
    assert location_or_array(X) is X
    (tmp_path / "X.npy").unlink()
    assert mapped_array(on_disk) is None


def test_blocks_of_edges_are_the_upper_triangle():
    X, _ = blobs(400)
    graph = cs.affinity_graph(cs.knn(X, 5))
    blocks = edge_blocks(graph, 3)
    sources, destinations, weights = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    import scipy.sparse as sp

    upper = sp.coo_array((weights, (sources, destinations)), (400, 400)).tocsr()
    assert (sources < destinations).all()
    assert abs(upper + upper.T - graph.to_scipy()).max() == 0


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "is not a Dask cluster"),
        ("tcp://127.0.0.1:1", "No Dask scheduler answers at tcp://127.0.0.1:1"),
        ("cuda", "device='cuda' was asked for"),
    ],
)
def test_clusters_that_are_not_there(tmp_path, address, message):
    X, codes = blobs(100)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", codes)
    result = run("rld", tmp_path / "X.npy", "--labels", tmp_path / "y.npy", "--dask", address)
    assert_one_sentence(result, message)


def test_the_command_line_on_workers_of_this_machine(tmp_path):
    X, codes = blobs(1_000)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", codes)
    out = tmp_path / "rld.json"
    result = run_process(
        "rld", tmp_path / "X.npy", "--labels", tmp_path / "y.npy", "--method", "exact", "--dask", "local", "--out", out
    )
    assert result.code == 0, result.err
    assert [line for line in result.err.splitlines() if not line.startswith("warning: 195 of the 1000 labels")] == []
    alone = cs.rld(X, codes, method="exact")
    assert json.loads(out.read_text())["values"] == pytest.approx(alone.values.tolist(), rel=1e-6)
