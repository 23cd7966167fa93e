"""CuPy arrays through every stage: NumPy in CuPy's place here, the real one where there is a GPU."""

from __future__ import annotations

import shutil
import sys
import types
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import scipy.sparse as sp
from clorg_scale.kernels import graph as kernels
from serial_cupy import serial_cupy

from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.affinity.symmetrize import row_numbers, undirected_edges
from clorg_scale.agreement import agreement
from clorg_scale.analysis.fingerprint import fingerprint
from clorg_scale.analysis.split import given_split, held_out_split
from clorg_scale.analysis.suspects import find_suspects
from clorg_scale.arrays import on_default_stream
from clorg_scale.communities import class_weights, communities, modularity
from clorg_scale.errors import InputError
from clorg_scale.measures import calinski_harabasz, class_homogeneity, class_homogeneity_stderr
from clorg_scale.neighbors import KNN, knn, knn_between, knn_of
from clorg_scale.neighbors.exact import BlockSearch
from clorg_scale.probes.device_sampler import DeviceNeighborSampler
from clorg_scale.probes.sampler import NeighborSampler
from clorg_scale.rld.graph import graph_sums
from clorg_scale.rld.null import affinity_spread
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.sampled.estimate import sampled_sums
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import tile_order


def real_cupy():
    """CuPy where it finds a GPU, else None."""
    try:
        import cupy

        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except Exception:  # CuPy's own errors cannot be named where it is absent
        return None


@pytest.fixture(params=["serial", pytest.param("gpu", marks=pytest.mark.gpu)])
def cupy(request, monkeypatch):
    """Either of the two."""
    if request.param == "gpu":
        found = real_cupy()
        if found is None:
            pytest.skip("there is no GPU, or CuPy is not installed")
        yield found
        return
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    module = serial_cupy()
    module.__spec__ = ModuleSpec("cupy", None)
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, memGetInfo=lambda: (1 << 32, 1 << 32))
    stream = types.SimpleNamespace(ptr=0)
    module.cuda = types.SimpleNamespace(
        runtime=runtime, get_current_stream=lambda: stream, Stream=types.SimpleNamespace(null=stream)
    )
    module.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    monkeypatch.setitem(sys.modules, "cupy", module)
    kernels._module.cache_clear()
    yield module
    kernels._module.cache_clear()


def host(array):
    return array if isinstance(array, np.ndarray) else array.get()


def points(n=400, d=6, seed=0):
    """Points of five classes, some unlabelled, two identical; float32, as the distances of a table are made from."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 5, n)
    X = 3 * rng.normal(size=(6, d))[codes + 1] + rng.normal(size=(n, d))
    X[1] = X[0]
    return X.astype(np.float32), codes


def tables(cupy, metric="euclidean", k=9):
    """One table for NumPy and for CuPy, with the labels of its points."""
    X, codes = points()
    table = knn(X, k, metric=metric, index="flat", device="cpu")
    on_device = KNN(
        cupy.asarray(table.indices), cupy.asarray(table.distances), metric, table.index, table.n_points,
        mean_distance=table.mean_distance,
    )  # fmt: skip
    return table, on_device, codes


def assert_same_graph(ours, theirs):
    """Structure bit for bit, weights to float32 rounding, and symmetric to the bit."""
    for name in ("indptr", "indices"):
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        np.testing.assert_array_equal(host(getattr(ours, name)), getattr(theirs, name))
    assert ours.weights.dtype == np.float32
    np.testing.assert_allclose(host(ours.weights), theirs.weights, rtol=3e-7)
    A = ours.to_scipy()
    assert (A != A.T).nnz == 0


@pytest.mark.parametrize("symmetrize", ["max", "mean", "mutual"])
@pytest.mark.parametrize("weighting", ["rld", "laplacian", "gaussian", "binary"])
def test_affinity_graph(cupy, weighting, symmetrize):
    table, on_device, _ = tables(cupy)
    options = {"weighting": weighting, "symmetrize": symmetrize, "temperature": 0.05}
    ours, theirs = affinity_graph(on_device, **options), affinity_graph(table, **options)
    assert type(ours.weights).__module__.startswith("cupy")
    assert_same_graph(ours, theirs)


@pytest.mark.parametrize("weighting", ["cosine", "rld", "binary"])
def test_affinity_graph_of_other_metrics(cupy, weighting):
    metric = "inner_product" if weighting == "binary" else "cosine"
    table, on_device, _ = tables(cupy, metric)
    assert_same_graph(affinity_graph(on_device, weighting=weighting), affinity_graph(table, weighting=weighting))


def test_affinity_graph_without_a_sort_of_all_edges(cupy, monkeypatch):
    """The kernels make it: sorting all pairs is what they are there to spare."""
    _, on_device, _ = tables(cupy)

    def refuse(*_, **__):
        raise AssertionError("sorted")

    for name in ("argsort", "sort", "lexsort"):
        monkeypatch.setattr(cupy, name, refuse, raising=False)
    assert affinity_graph(on_device).n_edges > 0


def test_an_int64_table_gives_the_graph_of_an_int32_table(cupy):
    table, on_device, _ = tables(cupy)
    wide = KNN(on_device.indices.astype(np.int64), on_device.distances, "euclidean", "flat", table.n_points)
    narrow = KNN(table.indices, table.distances, "euclidean", "flat", table.n_points)
    assert_same_graph(affinity_graph(wide), affinity_graph(narrow))


def test_a_neighbor_that_is_no_point_is_refused(cupy):
    """A kernel would read beyond its arrays."""
    indices = cupy.asarray(np.array([[1], [2], [3]], np.int32))
    table = KNN(indices, cupy.asarray(np.ones((3, 1), np.float32)), "euclidean", "mine", 3)
    with pytest.raises(InputError, match="neighbor 3, but there are only 3 points"):
        affinity_graph(table)
    with pytest.raises(InputError, match="neighbor 3, but there are only 3 points"):
        class_homogeneity(table, [0, 0, 1])


def test_the_caller_keeps_its_table(cupy):
    """Rows are sorted in copies."""
    table, on_device, _ = tables(cupy)
    affinity_graph(on_device, symmetrize="mean")
    np.testing.assert_array_equal(on_device.indices.get(), table.indices)
    np.testing.assert_array_equal(on_device.distances.get(), table.distances)


def test_tables_from_elsewhere_are_cleaned_alike(cupy):
    table, _, codes = tables(cupy)
    indices, distances = np.array(table.indices, np.int64), np.array(table.distances)
    indices[3, 2], indices[5, 1], distances[7, 0] = 3, indices[5, 0], np.inf
    with pytest.warns(UserWarning, match="Dropped"):
        theirs = KNN.from_arrays(indices, distances, metric="euclidean")
    with pytest.warns(UserWarning, match="Dropped"):
        ours = KNN.from_arrays(cupy.asarray(indices), cupy.asarray(distances), metric="euclidean")
    np.testing.assert_array_equal(ours.indices.get(), theirs.indices)
    assert_same_graph(affinity_graph(ours), affinity_graph(theirs))
    assert class_homogeneity(ours, codes) == class_homogeneity(theirs, codes)


def test_graph_arithmetic(cupy):
    table, on_device, codes = tables(cupy)
    ours, theirs = affinity_graph(on_device), affinity_graph(table)
    np.testing.assert_array_equal(row_numbers(ours.indptr).get(), theirs.rows())
    np.testing.assert_allclose(ours.degrees.get(), theirs.degrees, rtol=1e-6)
    assert_same_graph(ours.subgraph(codes >= 0), theirs.subgraph(codes >= 0))
    assert ours.n_components() == theirs.n_components()
    with_gaps = cupy.asarray(np.array([0, 0, 2, 2, 5, 5], np.int32))
    np.testing.assert_array_equal(row_numbers(with_gaps).get(), [1, 1, 3, 3, 3])


def test_modularity_of_labels(cupy):
    table, on_device, codes = tables(cupy)
    ours, theirs = affinity_graph(on_device), affinity_graph(table)
    for labels in (codes, cupy.asarray(codes), np.where(codes < 0, 7, codes), [f"class {c}" for c in codes]):
        plain = labels.get() if hasattr(labels, "get") else labels
        assert modularity(ours, labels) == pytest.approx(modularity(theirs, plain), abs=1e-7)
    sums, expected = (class_weights(graph, codes, 5) for graph in (ours, theirs))
    np.testing.assert_allclose(sums.within.get(), expected.within, rtol=1e-6)
    np.testing.assert_allclose(sums.degrees.get(), expected.degrees, rtol=1e-6)
    assert sums.total == pytest.approx(expected.total, rel=1e-6)
    assert modularity(theirs, cupy.asarray(codes)) == pytest.approx(modularity(theirs, codes), abs=1e-15)
    empty = AffinityGraph(cupy.zeros(4, np.int32), cupy.zeros(0, np.int32), cupy.zeros(0, np.float32))
    with pytest.raises(InputError, match="no edges"):
        modularity(empty, [0, 1, 1])


def test_class_homogeneity(cupy):
    table, on_device, codes = tables(cupy)
    for ks in (None, [1, 4, 9]):
        assert class_homogeneity(on_device, codes, ks=ks) == class_homogeneity(table, codes, ks=ks)
    rows = np.arange(0, 400, 3)
    parts = [
        KNN(t.indices[rows], t.distances[rows], "euclidean", "flat", 400, queries=q)
        for t, q in ((table, rows), (on_device, cupy.asarray(rows)))
    ]
    assert class_homogeneity(parts[1], codes) == class_homogeneity(parts[0], codes)
    assert class_homogeneity_stderr(parts[1], codes) == class_homogeneity_stderr(parts[0], codes)
    with pytest.raises(InputError, match="No point of the k-NN table has a label"):
        class_homogeneity(parts[1], np.where(np.arange(400) % 3 == 0, -1, np.arange(400) % 3))


def test_calinski_harabasz(cupy):
    X, codes = points()
    assert calinski_harabasz(cupy.asarray(X), codes) == pytest.approx(calinski_harabasz(X, codes), rel=1e-12)


def test_graph_method_of_rld(cupy):
    table, on_device, codes = tables(cupy)
    for ours, theirs in zip(
        graph_sums(on_device, codes, np.array([1, 0.1, 0.02]), 3.0),
        graph_sums(table, codes, np.array([1, 0.1, 0.02]), 3.0), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(ours.get(), theirs, rtol=1e-12)


def test_sampled_rld(cupy, monkeypatch):
    """With all that is random the same: the sums of the CPU, from tiles of torch."""
    torch_landmarks = pytest.importorskip("clorg_scale.rld.sampled.tiles_torch", reason="torch is not installed")
    device = "cuda"
    if hasattr(cupy, "launched"):  # the stand-in, whose arrays torch does not know
        device, torch_side = "cpu", torch_landmarks.on_device
        monkeypatch.setattr(
            torch_landmarks, "on_device",
            lambda place, array: torch_side(place, array.get() if hasattr(array, "get") else array),
        )  # fmt: skip
    table, on_device, codes = tables(cupy)
    temperatures, results = np.array([1, 0.5, 0.2, 0.05]), []
    for array, near, place in ((points()[0], table, None), (cupy.asarray(points()[0]), on_device, device)):
        ordered = ClassOrderedPoints(array, codes, 5)
        sums = sampled_sums(
            ordered,
            codes,
            NearField.of(near, tile_order(len(codes), 0)),
            temperatures,
            target_error=0.05,
            n_landmarks=100,
            device=place,
        )
        spread = affinity_spread(ordered, temperatures, sums.mean_distance, sums.log_r, sums.k, sums.squares)
        results.append([sums.k, sums.w, np.exp(sums.log_r), sums.stderr, sums.mean_distance, spread])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-9)


def test_edges_of_both_kinds_hold_the_same_pairs(cupy):
    table, on_device, _ = tables(cupy)
    for rule in ("max", "mean", "mutual"):
        ours, theirs = undirected_edges(on_device, rule), undirected_edges(table, rule)
        for name in ("indptr", "indices", "distances"):
            np.testing.assert_array_equal(host(getattr(ours, name)), getattr(theirs, name), err_msg=name)
        assert (ours.in_both is None) == (theirs.in_both is None) == (rule != "mean")
        if rule == "mean":
            np.testing.assert_array_equal(host(ours.in_both), theirs.in_both)


def brute_force(queries, block, k, inner_product):
    """An engine for the search: float32 products, as a GPU's."""
    module = np if isinstance(queries, np.ndarray) else sys.modules["cupy"]
    x, y = host(queries), host(block)
    keys = -(x @ y.T) if inner_product else (x * x).sum(1)[:, None] - 2 * x @ y.T + (y * y).sum(1)
    ids = np.argpartition(keys, k - 1, axis=1)[:, :k] if k < keys.shape[1] else np.tile(np.arange(k), (len(x), 1))
    return module.asarray(np.take_along_axis(keys, ids, 1)), module.asarray(ids)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
def test_searches(cupy, metric, monkeypatch):
    """Candidates checked, measured and sorted in CuPy give the table that NumPy gives."""
    if hasattr(cupy, "launched"):  # the stand-in
        monkeypatch.setattr(
            "clorg_scale.neighbors.search.exact_engine", lambda *_: BlockSearch("flat(test)", brute_force)
        )
    X, _ = points()
    X[50:90] = X[50]  # more duplicates than candidates: rows that are searched again
    on_device = cupy.asarray(X)
    found = {
        "all": (knn(on_device, 7, metric=metric, index="flat", device="cuda"), knn(X, 7, metric=metric, device="cpu")),
        "inverted lists": (knn(on_device, 7, metric=metric, index="ivf", device="cuda"),) * 2,
        "some": (
            knn_of(on_device, [3, 60, 399], 7, metric=metric, device="cuda"),
            knn_of(X, [3, 60, 399], 7, metric=metric, device="cpu"),
        ),
        "others": (
            knn_between(on_device[:20], on_device, 7, metric=metric, device="cuda"),
            knn_between(X[:20], X, 7, metric=metric, device="cpu"),
        ),
    }
    for name, (ours, theirs) in found.items():
        assert type(ours.indices).__module__.startswith("cupy"), name
        assert ours.indices.dtype == np.int32
        np.testing.assert_allclose(host(ours.distances), host(theirs.distances), rtol=1e-6, atol=1e-6, err_msg=name)
        if name == "inverted lists":
            assert ours.measured_recall > 0.9
        elif metric != "inner_product":  # sums of products are rounded in another order
            np.testing.assert_array_equal(host(ours.indices), theirs.indices, err_msg=name)
    assert found["all"][0].recall(on_device) > 0.99


def test_automatic_communities_without_pylibcugraph_are_igraphs(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "pylibcugraph", None)
    table, on_device, _ = tables(cupy)
    ours = communities(affinity_graph(on_device))
    theirs = communities(affinity_graph(table), device="cpu")
    assert isinstance(ours.labels, np.ndarray)
    assert ours.details["library"].startswith("igraph")
    assert ours.modularity == pytest.approx(theirs.modularity, abs=0.02)


def test_the_analysis_parts(cupy):
    table, on_device, codes = tables(cupy)
    X, _ = points()
    assert fingerprint(cupy.asarray(X)) == fingerprint(X)
    density = np.where(codes < 0, np.nan, np.linspace(0, 1, 400)).astype(np.float32)
    rng = np.random.default_rng(3)
    given = np.where(rng.random(400) < 0.2, (codes + 1) % 5, codes)
    ours, theirs = (
        find_suspects(affinity_graph(t), given, list("abcde"), density, n_most=20) for t in (on_device, table)
    )
    assert ours == theirs
    assert len(ours) > 5
    for test in (X[:50], cupy.asarray(X[:50])):
        split = given_split(cupy.asarray(X), codes, test, codes[:50])
        np.testing.assert_array_equal(split.points.get(), np.concatenate([X, X[:50]]))
    on_gpu, on_host = (held_out_split(array, codes, fraction=0.2, seed=1) for array in (cupy.asarray(X), X))
    np.testing.assert_array_equal(on_gpu.points.get(), on_host.points)
    assert agreement(cupy.asarray(codes), given).nmi == agreement(codes, given).nmi


def test_samples_of_neighbors_are_those_of_the_cpu(cupy):
    graph = affinity_graph(knn(points(400)[0], 12, device="cpu"))
    parts = (np.asarray(graph.indptr, np.int32), np.asarray(graph.indices, np.int32), np.asarray(graph.weights))
    seeds = np.random.default_rng(0).permutation(400)[:50]
    ours, theirs = DeviceNeighborSampler(*parts).sample(seeds, [5, 3], seed=9), NeighborSampler(*parts)
    for block, expected in zip(ours, theirs.sample(seeds, [5, 3], seed=9), strict=True):
        assert block.n_targets == expected.n_targets
        assert set(host(block.sources).tolist()) == set(expected.sources.tolist())
        assert [host(part).dtype for part in (block.sources, block.indices, block.indptr_t)] == ["i8", "i4", "i4"]
        if (
            block is ours[-1]
        ):  # the hops before it have other targets first, whose samples are the same but not in order
            np.testing.assert_array_equal(host(block.sources)[:50], seeds)
        dense, turned = (_dense_block(block, end) for end in ("", "_t"))
        np.testing.assert_array_equal(dense, turned.T)
        np.testing.assert_allclose(_by_node(dense, block), _by_node(_dense_block(expected, ""), expected), rtol=1e-6)
    with pytest.raises(InputError, match="fanout must be at least 1"):
        DeviceNeighborSampler(*parts).sample(seeds, [0], seed=0)


def _dense_block(block, end):
    indptr, indices, values = (host(getattr(block, f"{name}{end}")) for name in ("indptr", "indices", "values"))
    shape = (block.n_targets, len(block.sources))
    return sp.csr_matrix((values, indices, indptr), shape=shape[::-1] if end else shape).toarray()


def _by_node(dense, block):
    """(n, n) with rows and columns by the numbers of the nodes."""
    whole, sources = np.zeros((400, 400), np.float32), host(block.sources)
    whole[np.ix_(sources[: block.n_targets], sources)] = dense
    return whole


def test_labels_of_cudf_stay_on_the_device(cupy):
    """A column is read through its CuPy array: cuDF's own refuse to be NumPy's."""
    table, on_device, codes = tables(cupy)

    class Series:
        __module__ = "cudf.core.series"
        ndim, iloc, dtype = 1, None, np.dtype(np.int64)
        values = cupy.asarray(codes)

        def isna(self):
            return np.zeros(1, bool)

        def __len__(self):
            return len(codes)

        def __array__(self, *_, **__):
            raise TypeError("Implicit conversion to a host NumPy array via __array__ is not allowed")

    graph = affinity_graph(on_device)
    assert modularity(graph, Series()) == pytest.approx(modularity(affinity_graph(table), codes), abs=1e-12)
    assert class_homogeneity(on_device, Series()) == pytest.approx(class_homogeneity(table, codes))


def test_foreign_libraries_work_on_the_default_stream(cupy, monkeypatch):
    """cuVS and cuGraph are in order with that stream alone: another one is waited for, and waits."""
    if not hasattr(cupy, "launched"):
        pytest.skip("the real CuPy tells nobody")
    told = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def synchronize(self):
            told.append(f"{self.name} finished")

        def __enter__(self):
            told.append(f"on {self.name}")

        def __exit__(self, *_):
            told.append(f"off {self.name}")

    null = Stream("default")
    Stream.null = null
    device = types.SimpleNamespace(synchronize=lambda: told.append("all finished"))
    current = [Stream("mine")]
    monkeypatch.setattr(cupy, "cuda", types.SimpleNamespace(
        get_current_stream=lambda: current[0], Stream=Stream, Device=lambda: device,
    ))  # fmt: skip

    @on_default_stream()
    def search():
        told.append("search")

    search()
    assert told == ["mine finished", "on default", "search", "off default", "all finished"]
    told.clear()
    current[0] = null
    search()
    assert told == ["search"]


def test_embeddings_that_do_not_fit_are_streamed(cupy, monkeypatch):
    """Block by block, each copied once while the one before is searched, and the queries not with each of them."""
    if not hasattr(cupy, "launched"):
        pytest.skip("the real GPU is too large")
    copied, used = [], []

    class Pinned(np.ndarray):
        pass

    class Context:
        ptr = 0

        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def synchronize(self):
            pass

    def put(array, source, stream):
        assert isinstance(source, Pinned)
        assert isinstance(stream, Context)
        array.host[...] = source
        copied.append(len(source))
        source[...] = np.nan  # the memory is given out again

    def find(queries, block, *arguments):
        assert type(block).__module__ == type(queries).__module__ == "cupy"
        used.append((len(queries), len(block)))
        return brute_force(queries, block, *arguments)

    Context.null = Context()
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, memGetInfo=lambda: (1 << 20, 1 << 20), getDevice=int)
    monkeypatch.setattr(cupy, "cuda", types.SimpleNamespace(
        runtime=runtime, Stream=Context, Device=Context, get_current_stream=lambda: Context.null,
    ))  # fmt: skip
    pinned = types.SimpleNamespace(empty_pinned=lambda shape, dtype: np.empty(shape, dtype).view(Pinned))
    monkeypatch.setitem(sys.modules, "cupyx", pinned)
    monkeypatch.setattr(type(cupy.zeros(1)), "set", put, raising=False)
    monkeypatch.setattr("clorg_scale.neighbors.algorithms.flat_torch.engine", lambda: BlockSearch("flat(test)", find))
    monkeypatch.setattr("clorg_scale.neighbors.memory.LEAST_BLOCKS", 400 << 10)
    X, _ = points(3000, 64)
    ours, theirs = knn(X, 7, index="flat", device="cuda"), knn(X, 7, device="cpu")
    assert type(ours.indices).__module__ == "cupy"
    np.testing.assert_array_equal(host(ours.indices), theirs.indices)
    queries = [rows for (rows, _), (before, _) in zip(used, [(0, 0), *used], strict=False) if rows != before]
    assert len(used) > 2 * len(queries)
    assert sum(copied) < sum(rows for rows, _ in used) + sum(columns for _, columns in used)


@pytest.mark.parametrize("nonsense", ["alone", "strangers"])
def test_a_useless_partition_of_the_gpu_is_replaced(cupy, monkeypatch, nonsense):
    """Every node alone (rapids-singlecell 417), or communities of nodes that do not know each other."""
    table, on_device, _ = tables(cupy)
    graph = affinity_graph(on_device)
    useful = communities(affinity_graph(table), device="cpu")
    ranks = np.argsort(np.argsort(useful.labels, kind="stable"))
    labels = np.arange(400) if nonsense == "alone" else ranks % 80
    answers = [labels, useful.labels * 10 + 3]  # numbers with gaps
    vertices = np.random.default_rng(0).permutation(400)

    def leiden(*_):
        found = answers.pop(0)
        return cupy.asarray(vertices), cupy.asarray(found[vertices]), 0.9

    library = types.SimpleNamespace(
        ResourceHandle=object, GraphProperties=dict, SGGraph=lambda *_, **__: None, __version__="0", leiden=leiden,
        __spec__=ModuleSpec("pylibcugraph", None),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pylibcugraph", library)
    with pytest.warns(UserWarning, match="communities of 400 nodes, of modularity -.*igraph on the CPU"):
        assert communities(graph, device="cuda").details["library"].startswith("igraph")
    found = communities(graph, device="cuda")
    assert found.details["library"] == "pylibcugraph 0"
    np.testing.assert_array_equal(found.labels, useful.labels)
    assert found.modularity == pytest.approx(useful.modularity, abs=1e-9)


@pytest.mark.parametrize("where", ["SGGraph", "leiden"])
def test_memory_that_runs_out_in_pylibcugraph(cupy, monkeypatch, where):
    """While the graph is made, too; it then is a MemoryError."""

    def fails(*_, **__):
        raise MemoryError("CUGRAPH_ALLOC_ERROR")

    parts = {"SGGraph": lambda *_, **__: None, "leiden": None, where: fails}
    library = types.SimpleNamespace(
        ResourceHandle=object, GraphProperties=dict, __version__="0", __spec__=ModuleSpec("pylibcugraph", None), **parts
    )
    monkeypatch.setitem(sys.modules, "pylibcugraph", library)
    _, on_device, _ = tables(cupy)
    with pytest.raises(InputError, match=r"found no communities .*ALLOC_ERROR.*device='cpu'"):
        communities(affinity_graph(on_device), device="cuda")


@pytest.mark.parametrize("method", ["leiden", "louvain"])
def test_what_pylibcugraph_reports_gets_a_sentence(cupy, monkeypatch, method):
    """Its C interface turns memory that ran out into a RuntimeError."""

    def fails(*_):
        raise RuntimeError("non-success value returned from the C interface: RMM failure")

    library = types.SimpleNamespace(
        ResourceHandle=object, GraphProperties=dict, SGGraph=lambda *_, **__: None, __version__="0", leiden=fails,
        louvain=fails, __spec__=ModuleSpec("pylibcugraph", None),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pylibcugraph", library)
    _, on_device, _ = tables(cupy)
    with pytest.raises(InputError, match=r"found no communities .*RMM failure.*device='cpu'"):
        communities(affinity_graph(on_device), method=method, device="cuda")
