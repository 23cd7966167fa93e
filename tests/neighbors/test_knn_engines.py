"""Engines of the exact search: the keys and row numbers that they find in blocks of points."""

from __future__ import annotations

from functools import partial

import faiss
import numpy as np
import pytest
from brute_force import METRICS, clusters, plan_of

from clorg_scale.errors import InputError
from clorg_scale.neighbors import knn
from clorg_scale.neighbors.algorithms import flat_faiss, flat_torch
from clorg_scale.neighbors.engines import exact_engine
from clorg_scale.neighbors.exact import BlockSearch, search_exact
from clorg_scale.neighbors.points import prepare
from clorg_scale.numerics.products import rounded_to_tf32


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_rounded_products_err_no_more_than_their_bound(metric, precision, monkeypatch):
    """Coordinates of eleven bits, as tensor cores multiply them; the CPU adds the products in float32."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if precision == "fp16":
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


def test_tf32_has_ten_bits_after_the_first():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    bits = rounded_to_tf32(torch.from_numpy(clusters(41, 401) + 3)).view(torch.int32)
    assert not (bits & 0x1FFF).any()


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
def test_torch_engine_equals_faiss(metric, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(flat_torch, "SCORES", 2_000)
    x, y = clusters(41, 401), clusters(127, 401, 1)
    x.setflags(write=False)
    y.setflags(write=False)
    ours, ids = flat_torch.search_block(x, y, 9, metric == "inner_product")
    theirs, their_ids = flat_faiss.search_block(x, y, 9, metric == "inner_product")
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.sort(their_ids, axis=1))
    np.testing.assert_allclose(np.sort(ours, axis=1), np.sort(theirs, axis=1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["faiss", "torch", "torch, tf32"])
def test_every_engine_gives_the_same_table(name, metric, monkeypatch):
    """With duplicates, and points too near to one another for eleven bits."""
    pytest.importorskip("torch")
    monkeypatch.setattr(flat_torch, "SCORES", 2_000)
    rounded = partial(flat_torch.search_block, tensor_cores=True)
    engine = {
        "faiss": BlockSearch("faiss", flat_faiss.search_block),
        "torch": BlockSearch("torch", flat_torch.search_block),
        "torch, tf32": BlockSearch("tf32", rounded, flat_torch.KEY_ROUNDING, flat_torch.MARGIN),
    }[name]
    rng = np.random.default_rng(0)
    points = np.concatenate([clusters(300, 20), np.repeat(rng.normal(size=(5, 20)), 20, axis=0)]) + 10
    points[-30:] += 1e-3 * rng.normal(size=(30, 20))
    chunks = search_exact(plan_of(prepare(points, metric)[0], 12, blocks=50_000), np.arange(400), engine)
    ids = np.concatenate([ids for _, _, ids in chunks])
    np.testing.assert_array_equal(ids, knn(points, 12, metric=metric).indices)


def whole_numbers(n, d, seed=0):
    """Points full of duplicates and ties, whose products float32 holds exactly."""
    points = np.random.default_rng(seed).integers(-2, 3, (n, d)).astype(np.float32)
    points[: n // 8] = points[0]
    return points


@pytest.mark.parametrize("inner_product", [False, True])
@pytest.mark.parametrize("order", ["random", "descending", "ascending"])
@pytest.mark.parametrize(("n_queries", "c"), [(1, 1), (37, 12), (37, 40), (300, 333), (9, 2500), (530, 700)])
def test_heaps_keep_the_smallest_keys(n_queries, c, order, inner_product):
    """Of blocks as of all points at once, ties included; in descending order every point enters the heaps."""
    queries, points = whole_numbers(n_queries, 6, 1), whole_numbers(2500, 6)
    if order != "random":
        by_key = np.argsort(-points @ queries[0] if inner_product else ((points - queries[0]) ** 2).sum(1))
        points = np.ascontiguousarray(points[by_key[::-1] if order == "descending" else by_key])
    blocks = ((start, points[start : start + 611]) for start in range(0, 2500, 611))
    keys, ids = flat_faiss.engine().search(queries, blocks, c, inner_product)
    metric = faiss.METRIC_INNER_PRODUCT if inner_product else faiss.METRIC_L2
    theirs = faiss.knn(queries, points, c, metric=metric)[0]
    np.testing.assert_array_equal(np.sort(keys, axis=1), -theirs if inner_product else theirs)
    products = queries @ points.T
    true = -products if inner_product else (queries**2).sum(1)[:, None] + (points**2).sum(1) - 2 * products
    np.testing.assert_array_equal(np.take_along_axis(true, ids, axis=1), keys)
    ranked = np.sort(ids, axis=1)
    assert (ranked[:, 1:] > ranked[:, :-1]).all()


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_tables_of_large_k_are_those_of_faiss(metric):
    """Distances to the last bit, and ties in the order of row numbers, which FAISS leaves open."""
    points, k = whole_numbers(3000, 5), 1000
    table = knn(points, k, metric=metric)
    distances, _ = faiss.knn(points, points, k + 1, metric=getattr(faiss, f"METRIC_{metric[:5].upper()}_PRODUCT", 1))
    products = points @ points.T
    squares = (points**2).sum(1)
    keys = -products if metric == "inner_product" else squares[:, None] + squares - 2 * products
    np.fill_diagonal(keys, np.inf)
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(table.indices, order)
    expected = np.take_along_axis(keys, order, axis=1)
    np.testing.assert_array_equal(table.distances, expected if metric == "inner_product" else np.sqrt(expected))
    if metric == "euclidean":  # FAISS finds every point itself first, at distance 0
        np.testing.assert_array_equal(table.distances, np.sqrt(distances[:, 1:]))


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

    monkeypatch.setattr("clorg_scale.neighbors.engines.exact_engine", lambda _: BlockSearch("full", full))
    with pytest.raises(InputError, match=r"device ran out of memory in the search .* use device='cpu'"):
        knn(clusters(100, 4), 3, index="flat")
    message = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        knn(clusters(100, 4), 3, index="flat")


def test_many_features_are_for_tensor_cores(monkeypatch):
    """Where torch finds them; cuVS and FAISS multiply float32."""
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr(flat_torch, "has_tensor_cores", lambda: True)
    few, many = (plan_of(prepare(clusters(50, d), "euclidean")[0], 5, device="cuda") for d in (8, 300))
    assert exact_engine(many).name == "flat(torch)"
    assert exact_engine(many).rounding == flat_torch.KEY_ROUNDING
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "cuvs" or None)
    assert exact_engine(few).name == "flat(cuvs)"
    monkeypatch.setattr(flat_torch, "has_tensor_cores", lambda: False)
    assert exact_engine(many).name == "flat(cuvs)"


@pytest.mark.parametrize("order", ["random", "descending"])
def test_later_blocks_are_asked_for_as_many_as_they_probably_hold(order):
    rng = np.random.default_rng(0)
    queries, points = rng.normal(size=(40, 8)).astype(np.float32), rng.normal(size=(4000, 8)).astype(np.float32)
    if order == "descending":
        points = np.ascontiguousarray(points[np.argsort(-((points - queries[0]) ** 2).sum(1))])
        queries = queries[:1] + 1e-3 * queries
    asked = []

    def find(some, block, k, inner_product):
        asked.append((len(some), k))
        return flat_faiss.search_block(some, block, k, inner_product)

    blocks = [(start, points[start : start + 400]) for start in range(0, 4000, 400)]
    keys, ids = flat_faiss.HeapSearch("flat", find).search(queries, blocks, 100, False)
    expected, expected_ids = faiss.knn(queries, points, 100)
    np.testing.assert_allclose(keys, expected, rtol=1e-4)
    assert (np.sort(ids) == np.sort(expected_ids)).mean() > 0.999
    if order == "random":
        assert max(k for n, k in asked[-5:] if n == len(queries)) < 50
        assert sum(n for n, k in asked[5:] if k == 100) < 8, asked  # hardly any query is asked again
    else:  # every block holds them all: asked for twice once, then at once
        assert [k for _, k in asked[1:]].count(100) == 9
        assert sum(k < 100 for _, k in asked) == 1
