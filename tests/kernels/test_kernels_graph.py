"""The CUDA C++ kernels without a GPU: compiled by NVRTC, their logic run on the CPU by a serial shim."""

from __future__ import annotations

import re
import shutil
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from clorg_scale.kernels import graph
from hypothesis import given, settings
from hypothesis import strategies as st
from serial_cupy import FILES, compiled, serial_cupy

INTEGERS = {"int": np.int32, "long long": np.int64}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("index", ["int", "long long"])
def test_compiles(name, arch, index):
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed")
    options = core.ProgramOptions(arch=arch, std="c++17", define_macro=("INDEX", index))
    cubin = core.Program(graph.source(name), "c++", options).compile("cubin")
    assert len(cubin.code) > 1000
    for kernel in re.findall(r'extern "C" __global__ void (\w+)', graph.source(name)):
        assert kernel.encode() in cubin.code


@pytest.fixture
def cupy(monkeypatch):
    """CuPy's stand-in, with the real launchers on it."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    module = serial_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    graph._module.cache_clear()
    yield module
    graph._module.cache_clear()


def test_launchers_refuse_what_kernels_cannot_read(cupy):
    """What they compute is compared in tests/gpu/test_gpu_graph_kernels.py, on a GPU and on the stand-in alike."""
    with pytest.raises(ValueError, match="'max', 'mean' or 'mutual'"):
        graph.symmetrize(cupy.zeros((3, 1), np.int32), cupy.zeros((3, 1)), "min")
    with pytest.raises(ValueError, match="neighbor 3, but there are only 3"):
        graph.symmetrize(cupy.full((3, 1), 3, np.int32), cupy.zeros((3, 1)), "max")


@pytest.fixture(scope="module", params=list(INTEGERS))
def shims(request):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    return {name: compiled(name, request.param) for name in FILES}, INTEGERS[request.param]


def knn_table(rng, n, k, *, holes=False):
    """A table of distinct neighbors with random weights, hub-heavy: neighbor ids are drawn toward 0."""
    attraction = 1.0 / (1 + np.arange(n))
    table = np.empty((n, k), np.int64)
    for i in range(n):
        p = attraction.copy()
        p[i] = 0
        table[i] = rng.choice(n, k, replace=False, p=p / p.sum())
    if holes:
        table[rng.random((n, k)) < 0.1] = -1
    return table, rng.random((n, k)).astype(np.float32)


def run_symmetrize(shim, index, table, weights, rule):
    """What `graph.symmetrize` does, with NumPy for CuPy."""
    n, k = table.shape
    order = np.argsort(table, axis=1)
    table = np.take_along_axis(table, order, 1).astype(index)
    weights = np.take_along_axis(weights, order, 1)
    degree = np.zeros(n, np.int32)
    shim("count_edges", table, n, k, graph.RULES[rule], degree)
    indptr = np.concatenate([[0], np.cumsum(degree)]).astype(index)
    columns, values, cursor = np.empty(indptr[-1], index), np.empty(indptr[-1], np.float32), np.zeros(n, np.int32)
    shim("fill_edges", table, weights, n, k, graph.RULES[rule], indptr, cursor, columns, values)
    assert (cursor == degree).all()
    shim("sort_rows", indptr, n, columns, values)
    return indptr, columns, values


@settings(max_examples=25, deadline=None)
@given(n=st.integers(4, 60), k=st.integers(1, 12), seed=st.integers(0, 10**6), rule=st.sampled_from(list(graph.RULES)))
def test_symmetrize_is_scipys(shims, n, k, seed, rule):
    (files, index), rng = shims, np.random.default_rng(seed)
    table, weights = knn_table(rng, n, min(k, n - 1), holes=True)
    indptr, columns, values = run_symmetrize(files["symmetrize"], index, table, weights, rule)
    rows = np.repeat(np.arange(n), table.shape[1])
    listed = table.ravel() >= 0
    W = sp.csr_matrix((weights.ravel()[listed], (rows[listed], table.ravel()[listed])), shape=(n, n))
    expected = {"max": W.maximum(W.T), "mean": (W + W.T) * np.float32(0.5), "mutual": W.minimum(W.T)}[rule].tocsr()
    expected.sort_indices()
    np.testing.assert_array_equal(indptr, expected.indptr)
    np.testing.assert_array_equal(columns, expected.indices)
    np.testing.assert_array_equal(values, expected.data)


def test_label_sums(shims):
    (files, index), rng = shims, np.random.default_rng(1)
    table, weights = knn_table(rng, 200, 9)
    indptr, columns, values = run_symmetrize(files["symmetrize"], index, table, weights, "max")
    for codes in (rng.integers(-1, 7, 200), np.sort(rng.integers(-1, 7, 200)), np.full(200, 6)):
        codes = codes.astype(np.int32)
        total, own, W, K = np.empty(200), np.empty(200), np.zeros(7), np.zeros(7)
        files["label_modularity"]("row_sums", indptr, columns, values, codes, 200, total, own)
        files["label_modularity"]("class_sums", codes, total, own, 200, W, K)
        A = sp.csr_matrix((values.astype(np.float64), columns, indptr), shape=(200, 200)).toarray()
        members = (codes[:, None] == np.arange(7)).astype(np.float64)
        np.testing.assert_allclose(K, members.T @ A.sum(1), rtol=1e-13)
        np.testing.assert_allclose(W, np.diag(members.T @ A @ members), rtol=1e-13)
        np.testing.assert_allclose(total, A.sum(1), rtol=1e-13)


def test_class_matches(shims):
    (files, index), rng = shims, np.random.default_rng(2)
    table, _ = knn_table(rng, 90, 20, holes=True)
    owners = rng.permutation(90)[:50].astype(np.int64)
    table = table[owners].astype(index)
    codes = rng.integers(-1, 4, 90).astype(np.int32)
    ks = np.array([1, 2, 7, 20], np.int32)
    matches = np.empty((50, 4), np.int32)
    files["class_matches"]("class_matches", table, owners, codes, 50, 20, ks, 4, matches)
    same = (codes[table] == codes[owners][:, None]) & (table >= 0)
    expected = np.stack([same[:, :k].sum(1) for k in ks], 1)
    expected[codes[owners] < 0] = -1
    np.testing.assert_array_equal(matches, expected)


@pytest.mark.parametrize("fanout", [1, 4, 10, 50])
def test_sampler_is_that_of_the_cpu(shims, fanout):
    from clorg_scale.probes import sampler

    (files, index), rng = shims, np.random.default_rng(3)
    table, weights = knn_table(rng, 300, 12)
    weights[rng.random(weights.shape) < 0.2] = 0
    weights[rng.random(weights.shape) < 0.05] = 100  # some are kept for certain
    indptr, columns, values = run_symmetrize(files["symmetrize"], index, table, weights, "max")
    scale, sizes = np.empty(300), np.empty(300, np.int32)
    files["sample_neighbors"]("inclusion_scale", indptr, values, 300, fanout, scale, sizes)
    expected_scale, expected_sizes = sampler._inclusion_scale(indptr, values, fanout)
    np.testing.assert_allclose(scale, expected_scale, rtol=1e-12)
    np.testing.assert_array_equal(sizes, expected_sizes)
    targets = rng.permutation(300)[:120].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes[targets])]).astype(np.int32)
    for seed in (0, 12345, 2**63 + 7):
        nodes, kept = np.empty(starts[-1], index), np.empty(starts[-1], np.float32)
        arguments = (indptr, columns, values, expected_scale, targets)
        files["sample_neighbors"]("sample_rows", *arguments, 120, seed, starts, nodes, kept)
        expected_nodes, expected_kept = np.empty_like(nodes), np.empty_like(kept)
        sample = sampler.Rows(starts, expected_nodes, expected_kept)
        sampler._sample_rows(sampler.Rows(*arguments[:3]), expected_scale, targets, np.uint64(seed), sample)
        np.testing.assert_array_equal(nodes, expected_nodes)
        np.testing.assert_allclose(kept, expected_kept, rtol=1e-6)
