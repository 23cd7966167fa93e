"""k-NN, affinity graph, CHI, communities and the GCN probe: on the GPU what they are on the CPU."""

from functools import cache

import numpy as np
import pytest
from gpu_data import clustered
from serial_cupy import host
from sklearn.neighbors import NearestNeighbors

import clorg_scale as cs
from clorg_scale.affinity import affinity_graph
from clorg_scale.communities import communities, modularity
from clorg_scale.measures import class_homogeneity
from clorg_scale.neighbors import KNN, knn


def nearest(X, k=15):
    """Distances to the k nearest other points and their rows, by scikit-learn."""
    distances, indices = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(X).kneighbors(X)
    own = indices == np.arange(len(X))[:, None]
    own[~own.any(1), -1] = True
    return (array[~own].reshape(len(X), k) for array in (distances, indices))


@pytest.mark.parametrize("d", [64, 300])  # from 256 features on tensor cores search
def test_knn(machine, d, within):
    """The exact index finds scikit-learn's neighbors (ties aside)."""
    X, _ = clustered(5000 if machine.is_gpu else 500, d)
    table = knn(X, 15, index="flat", device=machine.device)
    expected, _ = nearest(X)
    error = abs(host(table.distances) - expected).max() / expected.max()
    within(f"k-NN distances in {d} features ({table.index})", error, 1e-3)


@pytest.mark.parametrize(
    ("machine", "index"),
    [("cpu", "ivf"), *(pytest.param("gpu", name, marks=pytest.mark.gpu) for name in ("ivf", "cagra", "nndescent"))],
    indirect=["machine"],
)
def test_approximate_knn(machine, index, within):
    """Every index reaches the recall that it is tuned for."""
    if machine.is_gpu and index != "ivf":
        pytest.importorskip("cuvs", reason="cuVS is not installed")
    X, _ = clustered(50_000 if machine.is_gpu else 6000, 64)
    table = knn(X, 15, index=index, device=machine.device)
    within(f"k-NN missed by {table.index}", 1 - table.measured_recall, 0.05)


def test_graph_modularity_and_class_homogeneity(cupy, is_stand_in, within):
    """The same calls with NumPy's and CuPy's arrays."""
    n = 400 if is_stand_in else 5000
    X, codes = clustered(n, 32)
    distances, indices = nearest(X)
    results = []
    for module in (np, cupy):
        arrays = module.asarray(indices.astype(np.int32)), module.asarray(distances.astype(np.float32))
        table = KNN(*arrays, "euclidean", "flat", n)
        graph = affinity_graph(table)
        chi = class_homogeneity(table, codes, ks=[1, 15])
        results.append(np.array([modularity(graph, codes), chi[1], chi[15], graph.n_edges]))
    within("affinity graph, modularity, CHI: GPU against CPU", abs(results[0] - results[1]).max(), 1e-6)


@pytest.mark.parametrize("method", ["leiden", "louvain"])
def test_communities(machine, method, within):
    """Modularity is recomputed, sizes are complete, and Q is no worse than igraph's."""
    if machine.is_gpu:
        pytest.importorskip("pylibcugraph", reason="pylibcugraph is not installed")
    X, _ = clustered(20_000 if machine.is_gpu else 400, 32, spread=0.3)
    graph = affinity_graph(knn(X, 15, device=machine.device))
    found = communities(graph, method=method, device=machine.device)
    assert found.details["library"].startswith("pylibcugraph" if machine.is_gpu else "igraph")
    error = abs(found.modularity - modularity(graph, found.labels)) + abs(int(found.sizes.sum()) - len(X))
    within(f"{method}: {len(found.sizes)} communities, Q {found.modularity:.4f}", error, 1e-6)
    shortfall = communities(graph, method=method, device="cpu").modularity - found.modularity
    within(f"  {method}: Q below that of igraph on the CPU", shortfall, 0.02)


def test_spectrum(machine, within):
    """Eigenvalues and the classes' share are those of SciPy's solver."""
    if machine.is_gpu:
        pytest.importorskip("pylibraft", reason="pylibraft is not installed")
    X, codes = clustered(20_000 if machine.is_gpu else 600, 32)
    graph = affinity_graph(knn(X, 15, device=machine.device))
    ours, theirs = (cs.spectrum(graph, 12, labels=codes, device=place) for place in (machine.device, "cpu"))
    assert ours.method.startswith("pylibraft") is machine.is_gpu
    within("spectrum: eigenvalues", abs(ours.eigenvalues - theirs.eigenvalues).max(), 1e-5)
    within("spectrum: share of the classes", abs(ours.class_share - theirs.class_share).max(), 1e-3)


@pytest.mark.parametrize("machine", [pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True)
def test_an_analysis_is_resumed(machine, tmp_path):
    """On the GPU that it was made on: nothing is computed anew, and the numbers are the same."""
    X, codes = clustered(20_000, 32)
    how = {"probes": ["knn"], "map_points": 0, "device": machine.device, "output": tmp_path}
    first, again = (cs.analyze(X, codes, **how) for _ in range(2))
    assert [note.to_dict() for note in again.stages] == [note.to_dict() for note in first.stages]
    assert all(note.engine.startswith(machine.device) for note in first.stages)
    assert again.to_dict() == first.to_dict()


@cache
def accuracy_of_gcn(device, batch_size, n):
    """Accuracy of the GCN probe on the other half of the points."""
    from clorg_scale.probes import GCNProbe

    X, codes = clustered(n, 32)
    codes = codes + 1
    train = np.random.default_rng(0).random(n) < 0.5
    graph = affinity_graph(knn(X, 15, device=device))
    return GCNProbe(device=device, batch_size=batch_size, max_epochs=30).fit(graph, codes, train).score(codes, ~train)


@pytest.mark.parametrize("batch_size", ["full", 256])
def test_gcn_probe(machine, batch_size, within):
    """In one batch and in minibatches it learns what it learns on the CPU."""
    n, allowed = (20_000, 0.02) if machine.is_gpu else (600, 0.05)
    expected = accuracy_of_gcn("cpu", "full", n)
    found = accuracy_of_gcn(machine.device, batch_size, n)
    within(f"GCN probe, batch {batch_size}: {found:.3f}", abs(found - expected), allowed)
