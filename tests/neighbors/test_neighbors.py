"""k-NN tables against brute force in float64."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN, knn, knn_between, knn_of
from clorg_scale.neighbors.algorithms import flat_faiss, flat_torch, ivf
from clorg_scale.neighbors.engines import automatic_index, exact_engine
from clorg_scale.neighbors.exact import BlockSearch, search_exact
from clorg_scale.neighbors.parts import CandidateSearch
from clorg_scale.neighbors.points import hold, prepare
from clorg_scale.numerics.products import rounded_to_tf32

FAISS = BlockSearch("flat", flat_faiss.search_block)
METRICS = ("euclidean", "cosine", "inner_product")
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


def pairwise(queries: np.ndarray, points: np.ndarray, metric: str) -> np.ndarray:
    """(q, n) float64, differences taken before squaring."""
    x, y = queries.astype(np.float64), points.astype(np.float64)
    if metric == "inner_product":
        return -np.array([[np.dot(a, b) for b in y] for a in x]) if len(x) < 30 else -(x @ y.T)
    if metric == "cosine":
        x, y = x / np.linalg.norm(x, axis=1)[:, None], y / np.linalg.norm(y, axis=1)[:, None]
    squares = np.stack([((a - y) ** 2).sum(axis=1) for a in x])
    return squares / 2 if metric == "cosine" else np.sqrt(squares)


def assert_exact(table: KNN, queries: np.ndarray, points: np.ndarray, *, ties: bool = False) -> None:
    """The table holds k true nearest neighbors of each row with their distances.

    With `ties`, distances of the exact arithmetic are expected, so equal ones must come in the order of ids.
    """
    truth = pairwise(queries, points, table.metric)
    owners = np.arange(table.n_points) if table.queries is None else table.queries
    own = owners >= 0
    truth[np.flatnonzero(own), owners[own]] = np.inf
    order = np.argsort(truth, axis=1, kind="stable")[:, : table.k]
    expected = np.take_along_axis(truth, order, axis=1)
    scale = np.abs(expected).max()
    found = np.take_along_axis(truth, table.indices.astype(np.int64), axis=1)
    np.testing.assert_allclose(table.distances, found, rtol=2e-7, atol=1e-9 * scale)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * scale)
    if ties:
        np.testing.assert_array_equal(table.indices, order)
    assert_clean(table)


def assert_clean(table: KNN) -> None:
    owners = np.arange(table.n_points) if table.queries is None else table.queries
    assert table.indices.dtype == np.int32
    assert table.distances.dtype == np.float32
    assert not (table.indices == owners[:, None]).any()
    assert table.indices.min() >= 0
    assert table.indices.max() < table.n_points
    ranked = np.sort(table.indices, axis=1)
    assert (ranked[:, 1:] != ranked[:, :-1]).all()
    assert np.isfinite(table.distances).all()
    assert (np.diff(table.distances, axis=1) >= 0).all()


def clusters(n: int, d: int, seed: int = 0, *, n_clusters: int = 20, spread: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_clusters, d))
    return (centers[rng.integers(n_clusters, size=n)] + spread * rng.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "points",
    [
        clusters(401, 41),
        clusters(300, 5) + 100,  # an offset of 100 times the spread
        clusters(300, 5).astype(np.float64) * 1e12,
        clusters(300, 5).astype(np.float64) * 1e-15,
        np.repeat(clusters(40, 7), 10, axis=0),
        clusters(500, 2).round(1) + 0.05,
        clusters(600, 30, n_clusters=6, spread=1e-5),  # expanded squares cannot tell these apart
    ],
    ids=["clusters", "offset", "huge", "tiny", "duplicates", "grid", "near-duplicates"],
)
def test_flat_equals_brute_force(points, metric):
    points.setflags(write=False)
    assert_exact(knn(points, 15, metric=metric, index="flat"), points, points)


def test_equals_scikit_learn():
    points = clusters(700, 12).astype(np.float64)
    distances, indices = NearestNeighbors(n_neighbors=11, algorithm="brute").fit(points).kneighbors()
    table = knn(points, 11)
    np.testing.assert_array_equal(table.indices, indices)
    np.testing.assert_allclose(table.distances, distances, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(3, 60),
    d=st.integers(1, 4),
    metric=st.sampled_from(METRICS),
    side=st.integers(1, 3),
    data=st.data(),
)
def test_ties_come_in_the_order_of_row_numbers(seed, n, d, metric, side, data):
    """Whole-numbered points are full of ties, and their squares and products exact."""
    points = np.random.default_rng(seed).integers(-side, side + 1, size=(n, d)).astype(np.float32)
    if metric == "cosine":
        points = np.where(points < 0, -1, 1).astype(np.float32)[:, :1]  # on a line, all products are exact
    k = data.draw(st.integers(1, n - 1))
    assert_exact(knn(points, k, metric=metric), points, points, ties=True)


def test_more_duplicates_than_neighbors():
    points = np.concatenate([np.full((300, 8), 0.1), clusters(100, 8)])
    table = knn(points, 5)
    assert_exact(table, points, points, ties=True)
    assert (table.distances[:300] == 0).all()
    np.testing.assert_array_equal(table.indices[299], np.arange(5))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_hardly_more_points_than_neighbors(k):
    points = clusters(4, 3)
    assert_exact(knn(points, k), points, points)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i2", "i4", "u1", "?"])
@pytest.mark.parametrize("layout", ["plain", "fortran", "strided", "mapped"])
def test_any_type_and_layout(dtype, layout, tmp_path):
    points = (clusters(250, 6) * 20 + 60).astype(dtype) if dtype != "?" else clusters(250, 12) > 0
    if layout == "fortran":
        points = np.asfortranarray(points)
    elif layout == "strided":
        points = np.repeat(points, 3, axis=0)[::3]
    elif layout == "mapped":
        np.save(tmp_path / "x.npy", points)
        points = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_exact(knn(points, 9), points, points)


def test_torch_tensors_and_lists():
    torch = pytest.importorskip("torch")
    points = clusters(100, 4)
    plain = knn(points, 4)
    for other in (torch.tensor(points), torch.tensor(points, requires_grad=True), points.tolist()):
        np.testing.assert_array_equal(knn(other, 4).indices, plain.indices)


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_of_any_size_give_the_same(metric):
    points = clusters(250, 16)
    prepared = prepare(points, metric)
    whole = knn(points, 12, metric=metric)
    rows = np.arange(250)
    for block_bytes in (60_000, 200_000):
        for source in (prepared, hold(prepared, 1 << 30)):
            parts = search_exact(
                source, source, rows, 12,
                exclude=rows, engine=FAISS, block_bytes=block_bytes,
            )  # fmt: skip
            ids = np.concatenate([ids for _, _, ids in parts])
            np.testing.assert_array_equal(ids, whole.indices)


@pytest.mark.parametrize("metric", METRICS)
def test_products_in_fp16_find_the_same(metric, monkeypatch):
    """As on a GPU, but for the products themselves, which the CPU computes in float32 of the fp16 numbers."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    plain = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out_dtype: plain(a.to(out_dtype), b.to(out_dtype)))
    monkeypatch.setattr(flat_torch, "_half_scale", lambda torch, x, y: 2.0**9)
    x, y = clusters(41, 401) + 3, clusters(127, 401, 1) + 3
    keys, ids = flat_torch.search_block(x, y, 127, metric == "inner_product", tensor_cores=True)
    square = ((x.astype(np.float64)[:, None] - y) ** 2).sum(-1)
    true = -(x.astype(np.float64) @ y.T) if metric == "inner_product" else square
    lengths = (x.astype(np.float64) ** 2).sum(1)[:, None] + (y.astype(np.float64) ** 2).sum(1)
    error = abs(keys - np.take_along_axis(true, ids, axis=1)) / np.take_along_axis(lengths, ids, axis=1)
    assert 1e-7 < error.max() < flat_torch.KEY_ROUNDING


@pytest.mark.parametrize(("m", "k"), [(20_011, 7), (64 * 4 * 3, 3), (64 * 4 * 3 + 63, 3), (64 * 4 * 3 - 1, 3), (9, 9)])
@pytest.mark.parametrize("values", ["all different", "many equal"])
def test_smallest_by_groups_are_the_smallest(m, k, values):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.manual_seed(m)
    scores = torch.randn(6, m) if values == "all different" else torch.randint(0, 4, (6, m)).float()
    keys, ids = flat_torch.smallest(torch, scores, k)
    assert torch.equal(keys, scores.gather(1, ids))
    assert torch.equal(keys.sort(1).values, scores.sort(1).values[:, :k])
    assert all(len(set(row)) == k for row in ids.tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_products_in_tf32_find_the_same(metric):
    """Coordinates rounded to eleven bits, as tensor cores want them: keys are off by no more than is said."""
    torch = pytest.importorskip("torch")
    x, y = clusters(41, 401) + 3, clusters(127, 401, 1) + 3
    keys, ids = flat_torch.search_block(x, y, 127, metric == "inner_product", tensor_cores=True)
    square = ((x.astype(np.float64)[:, None] - y) ** 2).sum(-1)
    true = -(x.astype(np.float64) @ y.T) if metric == "inner_product" else square
    lengths = (x.astype(np.float64) ** 2).sum(1)[:, None] + (y.astype(np.float64) ** 2).sum(1)
    error = abs(keys - np.take_along_axis(true, ids, axis=1)) / np.take_along_axis(lengths, ids, axis=1)
    assert 1e-7 < error.max() < flat_torch.KEY_ROUNDING
    bits = rounded_to_tf32(torch.from_numpy(x)).view(torch.int32)
    assert not (bits & 0x1FFF).any()

    rng = np.random.default_rng(0)
    points = np.concatenate([clusters(300, 20), np.repeat(rng.normal(size=(5, 20)), 20, axis=0)]) + 10
    points[-30:] += 1e-3 * rng.normal(size=(30, 20))  # too near to one another for eleven bits
    prepared, rows = prepare(points, metric), np.arange(400)
    engine = BlockSearch(
        "tf32", partial(flat_torch.search_block, tensor_cores=True), flat_torch.KEY_ROUNDING, flat_torch.MARGIN
    )
    parts = search_exact(prepared, prepared, rows, 12, exclude=rows, engine=engine, block_bytes=50_000)
    ids = np.concatenate([ids for _, _, ids in parts])
    np.testing.assert_array_equal(ids, knn(points, 12, metric=metric).indices)


@pytest.mark.parametrize("metric", METRICS)
def test_torch_engine_equals_faiss(metric, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(flat_torch, "SCORES", 2_000)
    rng = np.random.default_rng(0)
    x, y = clusters(41, 401), clusters(127, 401, 1)
    x.setflags(write=False)
    y.setflags(write=False)
    ours, ids = flat_torch.search_block(x, y, 9, metric == "inner_product")
    theirs, their_ids = flat_faiss.search_block(x, y, 9, metric == "inner_product")
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.sort(their_ids, axis=1))
    np.testing.assert_allclose(np.sort(ours, axis=1), np.sort(theirs, axis=1), rtol=1e-4, atol=1e-3)

    points = np.concatenate([clusters(300, 20), np.repeat(rng.normal(size=(5, 20)), 20, axis=0)]) + 10
    prepared, rows = prepare(points, metric), np.arange(400)
    parts = search_exact(
        prepared,
        prepared,
        rows,
        12,
        exclude=rows,
        engine=BlockSearch("torch", flat_torch.search_block),
        block_bytes=50_000,
    )
    ids = np.concatenate([ids for _, _, ids in parts])
    np.testing.assert_array_equal(ids, knn(points, 12, metric=metric).indices)


def test_torch_engine_takes_smaller_tiles_where_memory_runs_out(monkeypatch):
    torch = pytest.importorskip("torch")
    plain, heights = flat_torch.smallest, []

    def small_memory(torch, scores, k):
        heights.append(len(scores))
        if len(scores) > 12:
            raise torch.OutOfMemoryError("too large")
        return plain(torch, scores, k)

    x, y = clusters(41, 20), clusters(127, 20, 1)
    expected = flat_torch.search_block(x, y, 9, False)
    monkeypatch.setattr(flat_torch, "smallest", small_memory)
    found = flat_torch.search_block(x, y, 9, False)
    assert heights == [41, 21, 11, 11, 11, 8]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.sort(ours, axis=1), np.sort(theirs, axis=1), rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(flat_torch, "smallest", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        flat_torch.search_block(x, y, 9, False)


@pytest.mark.parametrize(
    "message", ["CUDA out of memory", "std::bad_alloc: out_of_memory", "cudaErrorMemoryAllocation"]
)
def test_memory_of_the_device_that_runs_out_gets_a_sentence(monkeypatch, message):
    def full(*_):
        raise RuntimeError(message)

    monkeypatch.setattr("clorg_scale.neighbors.search.exact_engine", lambda *_: BlockSearch("full", full))
    with pytest.raises(InputError, match=r"device ran out of memory in the search .* use device='cpu'"):
        knn(clusters(100, 4), 3, index="flat")
    message = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        knn(clusters(100, 4), 3, index="flat")


def test_many_features_are_for_tensor_cores(monkeypatch):
    """Where torch finds them; cuVS and FAISS multiply float32."""
    monkeypatch.setattr(flat_torch, "has_tensor_cores", lambda: True)
    few, many = (prepare(clusters(50, d), "euclidean") for d in (8, 300))
    assert exact_engine(many, 5, "cuda").name == "flat(torch)"
    assert exact_engine(many, 5, "cuda").rounding == flat_torch.KEY_ROUNDING
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "cuvs" or None)
    assert exact_engine(few, 5, "cuda").name == "flat(cuvs)"
    monkeypatch.setattr(flat_torch, "has_tensor_cores", lambda: False)
    assert exact_engine(many, 5, "cuda").name == "flat(cuvs)"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 40, 399])
def test_neighbors_of_a_sample(metric, k):
    points = clusters(400, 9)
    rows = np.array([399, 0, 7, 250])
    table = knn_of(points, rows, k, metric=metric)
    np.testing.assert_array_equal(table.queries, rows)
    assert table.measured_recall == 1.0
    assert_exact(table, points[rows], points)


@pytest.mark.parametrize("metric", METRICS)
def test_neighbors_of_other_points(metric):
    points, others = clusters(400, 9) + 5, clusters(31, 9, 1) + 5
    others[3] = points[17]
    table = knn_between(others, points, 400 if metric == "euclidean" else 12, metric=metric)
    assert (table.queries == -1).all()
    assert_exact(table, others, points)
    if metric != "inner_product":
        assert table.indices[3, 0] == 17
        assert table.distances[3, 0] == 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    "index",
    [
        "ivf",
        "hnsw",
        "nndescent",
        "IVF32,Flat",
        "HNSW16,Flat",
        "PCA12,IVF32,Flat",
        "IVF32,SQ8",
        "Flat",
        "IVF16,PQ6x4",
    ],
)
def test_approximate_indexes(index, metric):
    points = clusters(3000, 24) + 3
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*of the true neighbors on a sample")
        table = knn(points, 10, metric=metric, index=index, seed=3)
    assert_clean(table)
    rows = np.arange(0, 3000, 10)
    truth = pairwise(points[rows], points, metric)
    measured = np.take_along_axis(truth, table.indices[rows].astype(np.int64), axis=1)
    np.testing.assert_allclose(table.distances[rows], measured, rtol=2e-7, atol=1e-12)
    truth[np.arange(len(rows)), rows] = np.inf
    found = measured <= np.sort(truth, axis=1)[:, [9]] * (1 + 1e-6)
    lossy = index in ("PCA12,IVF32,Flat", "IVF16,PQ6x4")
    assert found.mean() > (0.3 if lossy else 0.97)
    # 1,000 of 3,000 rows were measured against all of these 300; recalls of rows vary by less than .5
    assert abs(table.measured_recall - found.mean()) < 5 * 0.5 / np.sqrt(300)
    assert table.recall(points, sample=3000) == pytest.approx(found.mean(), abs=5 * 0.5 / np.sqrt(300))


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_approximate_inner_products(index):
    points = clusters(3000, 24)
    table = knn(points, 10, metric="inner_product", index=index)
    assert_clean(table)
    assert table.recall(points, sample=3000) > 0.97


@pytest.mark.parametrize("index", ["flat", "ivf", "IVF32,Flat"])
def test_the_same_seed_gives_the_same_table(index):
    points = clusters(4000, 16)
    a, b = knn(points, 10, index=index, seed=5), knn(points, 10, index=index, seed=5)
    np.testing.assert_array_equal(a.indices, b.indices)
    np.testing.assert_array_equal(a.distances, b.distances)
    assert a.index == b.index
    assert a.measured_recall == b.measured_recall


def test_automatic_choice_by_size():
    def chosen(n, d, k):
        points = prepare(np.zeros((3, 1)) + np.arange(3)[:, None], "euclidean")
        shaped = type("Shape", (), {"n": n, "d": d, "embeddings": points.embeddings})()
        return automatic_index(shaped, k, "cpu")

    assert chosen(5000, 4096, 10) == "flat"
    assert chosen(19_000, 784, 15) == "flat"
    assert chosen(60_000, 784, 15) == "ivf"
    assert chosen(60_000, 784, 5000) == "flat"


@pytest.fixture
def small_data_are_large(monkeypatch):
    monkeypatch.setattr("clorg_scale.neighbors.engines.FLAT_POINTS", 100)
    monkeypatch.setattr("clorg_scale.neighbors.engines.FLAT_WORK", {"cpu": 0.0})


@pytest.mark.usefixtures("small_data_are_large")
def test_auto_reaches_the_recall_or_searches_exactly():
    easy = knn(clusters(6000, 16), 10)
    assert easy.index.startswith("ivf")
    assert easy.measured_recall >= 0.985
    hopeless = np.random.default_rng(0).normal(size=(1500, 100))  # no clusters to be found
    table = knn(hopeless, 10)
    assert table.index == "flat"
    assert table.measured_recall == 1.0


@pytest.mark.usefixtures("small_data_are_large")
def test_auto_keeps_to_the_memory_limit():
    points = clusters(6000, 64)
    assert knn(points, 5, memory_limit="52MB").index == "flat"
    assert knn(points, 5, memory_limit="200MB").index.startswith("ivf")


def test_a_poor_index_is_told():
    points = np.random.default_rng(0).normal(size=(1500, 64))
    with pytest.warns(UserWarning, match=r"found only \d+\.\d% of the true neighbors"):
        table = knn(points, 10, index="IVF16,PQ8x4")
    assert table.measured_recall < 0.95


class Broken:
    """An index that proposes every kind of nonsense."""

    description, order = "broken", None

    def __init__(self, points: np.ndarray) -> None:
        self.truth = knn(points, 12).indices.astype(np.int64)

    def candidates(self, rows, k, advance):
        ids = self.truth[rows].copy()
        ids[:, 1] = ids[:, 0]  # listed twice
        ids[::2, 3] = -1
        ids[::3, 4] = 4_294_967_295  # an unsigned -1
        ids[::5] = -1  # nothing at all
        ids[:, 7] = rows  # the point itself, not in front
        advance(len(rows))
        return ids

    def try_harder(self):
        return False


def test_what_a_broken_index_lacks_is_searched_exactly():
    points = clusters(300, 6)
    prepared = prepare(points, "euclidean")
    _, keys, ids = CandidateSearch(Broken(points), prepared, 10, "cpu", 1 << 20)(np.arange(300))
    table = KNN(ids.astype(np.int32), prepared.distances(keys), "euclidean", "broken", 300)
    assert_clean(table)
    rows = np.arange(0, 300, 30)  # lost a duplicate and two others of 12, or everything: searched exactly
    np.testing.assert_array_equal(table.indices[rows], knn(points, 10).indices[rows])


def test_lists_shorter_than_k_are_completed():
    """One tight cluster far from 60 points: their lists hold fewer than k points."""
    points = np.concatenate([clusters(3000, 8), 100 + clusters(12, 8)])
    table = knn(points, 30, index="ivf")
    assert_clean(table)
    assert table.recall(points, sample=3012) > 0.98


def test_clustered_lists_probe_everything_in_the_end():
    points = prepare(clusters(2000, 8), "euclidean")
    index = ivf.build(points, 5, seed=0, search_block=flat_faiss.search_block)
    index.n_probe = index.n_lists
    found = index.candidates(np.arange(2000), 6, lambda n: None)
    truth = knn(points.embeddings, 5).indices
    assert all(set(row) <= set(candidates) for row, candidates in zip(truth, found, strict=True))


def test_recall_is_aware_of_ties():
    points = np.repeat(clusters(50, 3), 20, axis=0)
    table = knn(points, 5)
    swapped = np.array([[j for j in range(20 * (i // 20), 20 * (i // 20) + 20) if j != i][-5:] for i in range(1000)])
    assert (swapped != table.indices).any()
    other = KNN(swapped.astype(np.int32), table.distances, "euclidean", "other", 1000)
    assert other.recall(points) == 1.0
    wrong = KNN(((table.indices + 500) % 1000).astype(np.int32), table.distances, "euclidean", "wrong", 1000)
    assert wrong.recall(points) == 0.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"k": 0}, "k must be a whole number from 1 to 49 for 50 points, not 0"),
        ({"k": 50}, "k must be a whole number from 1 to 49"),
        ({"k": 2.0}, "k must be a whole number"),
        ({"k": True}, "k must be a whole number"),
        ({"metric": "manhattan"}, "metric must be one of"),
        ({"index": "cagra", "device": "cpu"}, "runs on a GPU only"),
        ({"index": "IVFx,Flatter"}, "FAISS cannot build the index 'IVFx,Flatter'"),
        ({"index": "nndescent"}, "NN-descent needs at least 200 points"),
        ({"device": "tpu"}, "device must be"),
        ({"memory_limit": "1MB"}, r"needs at least \d+.*more than the memory limit of 1.0 MB"),
        ({"memory_limit": "much"}, "not an amount of memory"),
    ],
)
def test_bad_arguments(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        knn(clusters(50, 4), **{"k": 5, **arguments})


@pytest.mark.parametrize(
    ("spoil", "metric", "sentence"),
    [
        (np.nan, "euclidean", r"NaN or infinite values in 2 of 50 rows \(rows 3, 8\)"),
        (np.inf, "inner_product", r"NaN or infinite values in 2 of 50 rows \(rows 3, 8\)"),
        (0.0, "cosine", r"2 zero vectors \(rows 3, 8\)"),
        (1e308 / 2, "euclidean", "exceed float64"),
        (1e200, "inner_product", "exceed float64"),
    ],
)
def test_bad_values(spoil, metric, sentence):
    points = clusters(50, 4).astype(np.float64)
    points[[3, 8]] = spoil
    with pytest.raises(InputError, match=sentence):
        knn(points, 5, metric=metric)


def test_bad_queries():
    points = clusters(50, 4)
    for queries, sentence in [
        ([50], "row numbers from 0 to 49"), ([-1], "row numbers from 0 to 49"), ([1, 1], "repeat"),
        ([], "non-empty"), ([1.5], "row numbers"), ([[1]], "row numbers"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=sentence):
            knn_of(points, queries, 3)
    with pytest.raises(InputError, match="3 features, but the embeddings have 4"):
        knn_between(clusters(10, 3), points, 3)


def test_no_gpu_is_said():
    cupy = pytest.importorskip("clorg_scale.arrays")._gpu_problem()
    if cupy is None:
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="device='cuda' was asked for"):
        knn(clusters(50, 4), 3, device="cuda")


def test_a_memory_limit_below_the_index_names_what_would_do():
    with pytest.raises(InputError, match=r"index 'hnsw' needs at least .* \(index='flat' needs .*\), more than"):
        knn(clusters(20_000, 64), 3, index="hnsw", memory_limit="55MB")


@pytest.mark.parametrize("sampled", [False, True])
def test_saved_and_loaded(tmp_path, sampled):
    points = clusters(80, 4)
    table = knn_of(points, [5, 7, 3], 6) if sampled else knn(points, 6, metric="cosine")
    table.save(tmp_path / "table.npz")
    again = KNN.load(tmp_path / "table.npz")
    np.testing.assert_array_equal(again.indices, table.indices)
    np.testing.assert_array_equal(again.distances, table.distances)
    assert (again.metric, again.index, again.n_points) == (table.metric, table.index, table.n_points)
    assert again.measured_recall == 1.0
    assert (again.queries is None) == (table.queries is None)
    assert again.recall(points) == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["table.npz"]


def test_files_that_are_no_tables(tmp_path):
    path = tmp_path / "table.npz"
    with pytest.raises(InputError, match="There is no k-NN table"):
        KNN.load(path)
    table = knn(clusters(80, 4), 6)
    table.save(path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a k-NN table"):
            KNN.load(path)
    np.savez(path, a=np.arange(3))
    with pytest.raises(InputError, match="not a k-NN table of clorg-scale"):
        KNN.load(path)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="not a k-NN table"):
        KNN.load(path)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("indices", lambda a: a + 70, "outside 0 .. 79"),
        ("indices", lambda a: a.astype(np.int64), "indices of int64"),
        ("indices", lambda a: a[:-1], "different shapes"),
        ("distances", lambda a: a[:, ::-1], "not ascending"),
        ("distances", lambda a: a * np.nan, "not ascending"),
        ("n_points", lambda a: a + 1, "81 points"),
        ("metric", lambda a: "far", "metric must be one of"),
    ],
)
def test_tables_that_contradict_themselves(tmp_path, name, change, sentence):
    path = tmp_path / "table.npz"
    knn(clusters(80, 4), 6).save(path)
    with np.load(path) as data:
        stored = dict(data)
    stored[name] = change(stored[name])
    np.savez(path, **stored)
    with pytest.raises(InputError, match=sentence):
        KNN.load(path)


def test_a_table_with_the_points_themselves_in_front():
    points = clusters(200, 6).astype(np.float64)
    distances, indices = NearestNeighbors(n_neighbors=8, algorithm="brute").fit(points).kneighbors(points)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = KNN.from_arrays(indices, distances, metric="euclidean")
    assert table.k == 7
    assert_exact(table, points, points)
    assert table.recall(points) == 1.0
    assert table.measured_recall is None


def test_a_dirty_table_is_cleaned_and_told():
    indices = np.array([[1, 0, 2, 3], [0, 2, 2, 3], [3, 1, -1, 0], [1, 2, 0, 7]])
    distances = np.array([[2, 0, 1, 3], [1, 2, 2, 3], [1, 2, 0, np.inf], [4, 3, 2, 1]], dtype=np.float64)
    with pytest.warns(
        UserWarning,
        match="1 points listed as their own.*2 missing.*1 infinite.*1 neighbors listed twice; 2 of 4",
    ):
        table = KNN.from_arrays(indices, distances, metric="euclidean")
    np.testing.assert_array_equal(table.indices, [[2, 1], [0, 2], [3, 1], [0, 2]])
    np.testing.assert_array_equal(table.distances, [[1, 2], [1, 2], [1, 2], [2, 3]])


@pytest.mark.parametrize(
    ("indices", "distances", "options", "sentence"),
    [
        (np.zeros((3, 2), int), np.zeros((3, 1)), {}, "one shape"),
        (np.zeros((3, 2)), np.zeros((3, 2)), {}, "must be integers"),
        (np.array([[1], [1], [0]]), np.ones((3, 1)), {}, "without any valid neighbor"),
        (np.array([[1], [2], [0]]), -np.ones((3, 1)), {}, "negative distances"),
        (np.array([[1], [2], [0]]), np.ones((3, 1)), {"n_points": 9}, "3 rows, but 9 points"),
        (np.array([[1], [2], [0]]), np.ones((3, 1)), {"queries": [0, 1, 2]}, "needs n_points"),
    ],
)
def test_tables_that_cannot_be_taken_over(indices, distances, options, sentence):
    with pytest.raises(InputError, match=sentence):
        KNN.from_arrays(indices, distances, metric="euclidean", **options)


def test_wrong_shapes_are_refused():
    ids, far = np.zeros((5, 2), np.int32), np.zeros((5, 2), np.float32)
    for arguments in [(ids, far[:4], 5), (ids, far, 6), (ids[:, :0], far[:, :0], 5), (ids[0], far[0], 2)]:
        with pytest.raises(InputError, match="k-NN table"):
            KNN(arguments[0], arguments[1], "euclidean", "flat", arguments[2])


def test_recall_of_other_embeddings():
    table = knn(clusters(60, 4), 3)
    with pytest.raises(InputError, match="made from 60 embeddings, not from these 61"):
        table.recall(clusters(61, 4))
    with pytest.raises(InputError, match="not measured"):
        knn_between(clusters(5, 4), clusters(60, 4), 3).recall(clusters(60, 4))


def test_progress_leaves_stdout_alone(capsys):
    knn(clusters(200, 4), 3, progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.skipif(
    not FASHION_MNIST.exists(), reason="needs all images of Fashion-MNIST (apt-get install dataset-fashion-mnist)"
)
def test_fashion_mnist_at_full_size():
    import gzip

    raw = gzip.decompress(FASHION_MNIST.read_bytes())[16:]
    images = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 784)
    table = knn(images, 15)
    assert table.index.startswith("ivf")
    assert table.measured_recall >= 0.985
    assert_clean(table)
    rows = np.arange(0, 60_000, 600)
    exact = knn_of(images, rows, 15)
    assert (table.distances[rows] <= exact.distances[:, -1:] * (1 + 1e-6)).mean() > 0.98
