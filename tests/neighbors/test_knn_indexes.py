"""Approximate indexes, and the automatic choice of one."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from brute_force import assert_clean, clusters, pairwise, plan_of

from clorg_scale.neighbors import KNN, knn, knn_of
from clorg_scale.neighbors.algorithms import flat_faiss, ivf
from clorg_scale.neighbors.choice import automatic_index
from clorg_scale.neighbors.points import prepare
from clorg_scale.neighbors.tasks import CandidateSearch

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


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
        points = prepare(np.zeros((3, 1)) + np.arange(3)[:, None], "euclidean")[0]
        shaped = type("Shape", (), {"n": n, "d": d, "embeddings": points.embeddings})()
        return automatic_index(shaped, k, "cpu")

    assert chosen(5000, 4096, 10) == "flat"
    assert chosen(19_000, 784, 15) == "flat"
    assert chosen(60_000, 784, 15) == "ivf"
    assert chosen(60_000, 784, 5000) == "flat"


@pytest.fixture
def small_data_are_large(monkeypatch):
    monkeypatch.setattr("clorg_scale.neighbors.choice.FLAT_POINTS", 100)
    monkeypatch.setattr("clorg_scale.neighbors.choice.FLAT_WORK", {"cpu": 0.0})


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


def test_a_poor_index_is_reported():
    points = np.random.default_rng(0).normal(size=(1500, 64))
    with pytest.warns(UserWarning, match=r"found only \d+\.\d% of the true neighbors"):
        table = knn(points, 10, index="IVF16,PQ8x4")
    assert table.measured_recall < 0.95


class Broken:
    """An index that proposes every kind of invalid candidate."""

    description, order = "broken", None

    oversampling = 1.0

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
    prepared = prepare(points, "euclidean")[0]
    _, keys, ids = CandidateSearch(plan_of(prepared, 10), Broken(points))(np.arange(300))
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
    points = prepare(clusters(2000, 8), "euclidean")[0]
    index = ivf.build(plan_of(points, 5), flat_faiss.search_block)
    index.n_probe = index.n_lists
    found = index.candidates(np.arange(2000), 6, lambda n: None)
    truth = knn(points.embeddings, 5).indices
    assert all(set(row) <= set(candidates) for row, candidates in zip(truth, found, strict=True))


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
