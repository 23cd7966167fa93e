"""`spectrum` against dense eigenvalues, graphs whose spectra are known, and what a solver may do wrong."""

import inspect
import json
import sys
import types
from contextlib import nullcontext

import numpy as np
import pytest
import scipy.sparse as sp

import clorg_scale as cs
from clorg_scale.affinity import AffinityGraph
from clorg_scale.datasets import locally_dense_mixture
from clorg_scale.errors import InputError
from clorg_scale.spectrum import decomposition, filtered_subspace, lanczos_pylibraft
from clorg_scale.spectrum.normalized import NotConvergedError, check_pairs, normalized_affinity


@pytest.fixture(autouse=True)
def small_dense_matrices(monkeypatch):
    """Graphs of 600 nodes are large enough for the iterative solvers."""
    monkeypatch.setattr(decomposition, "DENSE_NODES", 500)


def mixture(n, n_classes=6, d=16, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    return (1.5 * rng.standard_normal((n_classes, d))[labels] + rng.standard_normal((n, d))).astype(np.float32), labels


def knn_graph(n, seed=0):
    points, labels = mixture(n, seed=seed)
    return cs.affinity_graph(cs.knn(points, 8)), labels


def dense(graph):
    """D^-1/2 A D^-1/2 of nodes with an edge, 0 elsewhere; the roots of the degrees."""
    adjacency = graph.to_scipy().toarray().astype(np.float64)
    roots = np.sqrt(adjacency.sum(0))
    return adjacency / np.where(roots > 0, roots, 1)[:, None] / np.where(roots > 0, roots, 1), roots


def disjoint(*graphs):
    return AffinityGraph.from_scipy(sp.block_diag([part.to_scipy() for part in graphs], format="csr"))


def ring(n):
    shifted = sp.csr_array((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    return AffinityGraph.from_scipy(shifted + shifted.T)


def path(n):
    return AffinityGraph.from_scipy(sp.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1]).tocsr())


@pytest.mark.parametrize(("n", "m"), [(60, 12), (60, 60), (900, 20), (900, 800)])
def test_equals_the_dense_decomposition(n, m):
    graph, labels = knn_graph(n)
    found = cs.spectrum(graph, m, labels=labels)
    matrix, roots = dense(graph)
    values, vectors = np.linalg.eigh(matrix)
    np.testing.assert_allclose(found.eigenvalues, values[::-1][:m], atol=1e-10)
    np.testing.assert_allclose(found.eigenvectors.T @ found.eigenvectors, np.eye(m), atol=1e-7)
    # Vectors of equal or nearly equal values may turn among themselves: what they span may not.
    apart = int(np.argmax(-np.diff(values[::-1])[: m - 1])) + 1
    theirs = vectors[:, ::-1][:, :apart]
    np.testing.assert_allclose(np.linalg.norm(theirs.T @ found.eigenvectors[:, :apart], ord=2), 1, atol=1e-8)
    assert np.linalg.svd(theirs.T @ found.eigenvectors[:, :apart])[1].min() > 1 - 1e-8
    assert found.residuals.max() < 1e-6
    np.testing.assert_allclose(found.eigengap, -np.diff(values[::-1][:m]), atol=1e-10)

    indicators = roots[:, None] * (labels[:, None] == np.arange(6))
    indicators /= np.linalg.norm(indicators, axis=0)
    projected = (found.eigenvectors[:, :apart].T @ indicators) ** 2
    assert found.class_share[apart - 1] == pytest.approx(projected.sum(0).mean(), abs=1e-8)
    reference = ((theirs.T @ indicators) ** 2).sum(0)
    assert found.class_share[apart - 1] == pytest.approx(reference.mean(), abs=1e-6)
    if m == n:
        np.testing.assert_allclose(found.per_class, 1, atol=1e-8)
    assert (np.diff(found.class_share) >= -1e-12).all()
    assert found.class_share[0] == pytest.approx(1 / 6)  # the first vector lies in the span of the indicators


@pytest.mark.parametrize("n", [40, 1200])
def test_path_in_closed_form(n):
    found = cs.spectrum(path(n), 9)
    np.testing.assert_allclose(found.eigenvalues, np.cos(np.pi * np.arange(9) / (n - 1)), atol=1e-9)
    assert found.n_connected == 1


@pytest.mark.parametrize("n", [41, 1200])
def test_ring_in_closed_form_with_both_copies_of_each_eigenvalue(n):
    found = cs.spectrum(ring(n), 10)
    copies = np.cos(2 * np.pi * ((np.arange(10) + 1) // 2) / n)
    np.testing.assert_allclose(found.eigenvalues, copies, atol=1e-9)
    np.testing.assert_allclose(found.eigenvectors.T @ found.eigenvectors, np.eye(10), atol=1e-6)


def test_components_give_the_eigenvalue_one_as_often():
    graph = disjoint(knn_graph(700)[0], knn_graph(300, seed=1)[0], path(9), knn_graph(40, seed=2)[0])
    found = cs.spectrum(graph, 15)
    values = np.linalg.eigvalsh(dense(graph)[0])[::-1]
    n_ones = int((values > 1 - 1e-9).sum())
    assert found.n_connected == n_ones >= 4
    np.testing.assert_allclose(found.eigenvalues, values[:15], atol=1e-9)
    assert (found.eigenvalues[:n_ones] == 1).all()
    assert found.eigenvalues[n_ones] < 1
    assert found.n_clusters == np.argmax(-np.diff(values[:15])) + 1


def test_equal_components_give_every_eigenvalue_as_often():
    part = knn_graph(600)[0]
    found = cs.spectrum(disjoint(part, part, part), 12)
    alone = cs.spectrum(part, 4)
    np.testing.assert_allclose(found.eigenvalues, np.repeat(alone.eigenvalues, 3), atol=1e-9)


def test_more_components_than_eigenvectors_asked_for():
    found = cs.spectrum(disjoint(*[path(n) for n in (3, 5, 2, 4, 6, 2)]), 3)
    assert found.eigenvalues.tolist() == [1, 1, 1]
    assert (found.n_connected, found.n_clusters) == (6, 6)
    assert (found.eigenvectors != 0).sum(0).tolist() == [6, 5, 4]  # the largest ones
    assert found.residuals.max() < 1e-12


def test_classes_that_are_components_are_held_whole():
    graph = disjoint(ring(30), ring(20), path(10))
    labels = np.repeat(["a", "b", "c"], [30, 20, 10])
    found = cs.spectrum(graph, 10, labels=labels)
    np.testing.assert_allclose(found.class_share[:3], [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found.per_class, 1)
    assert found.classes.tolist() == ["a", "b", "c"]


def test_isolated_nodes_are_left_out_and_counted():
    graph, labels = knn_graph(600)
    holes = sp.csr_array((3, 3), dtype=np.float32)
    wide = AffinityGraph.from_scipy(sp.block_diag([holes, graph.to_scipy()], format="csr"))
    found = cs.spectrum(wide, 8, labels=np.concatenate([[7, 7, 7], labels]))
    alone = cs.spectrum(graph, 8, labels=labels)
    assert (found.n_isolated, alone.n_isolated) == (3, 0)
    np.testing.assert_allclose(found.eigenvalues, alone.eigenvalues, atol=1e-10)
    assert not found.eigenvectors[:3].any()
    np.testing.assert_allclose(found.class_share, alone.class_share, atol=1e-8)
    assert np.isnan(found.per_class[-1])  # the class of isolated nodes only
    assert found.to_dict()["per_class"][-1] is None
    assert "3 isolated nodes" in repr(found)
    assert len(cs.spectrum(AffinityGraph.from_scipy(sp.block_diag([holes, path(4).to_scipy()])), 50).eigenvalues) == 4


def test_edges_of_weight_zero_connect_nothing():
    indptr, indices = np.array([0, 1, 3, 4]), np.array([1, 0, 2, 1])
    found = cs.spectrum(AffinityGraph(indptr, indices, np.array([1, 1, 0, 0], np.float32)), 5)
    assert (found.n_isolated, found.n_connected) == (1, 1)
    np.testing.assert_allclose(found.eigenvalues, [1, -1], atol=1e-12)


def test_unlabelled_nodes_are_in_no_class():
    graph, labels = knn_graph(900)
    masked = np.where(np.arange(900) % 3 == 0, -1, labels)
    found = cs.spectrum(graph, 900, labels=masked)
    np.testing.assert_allclose(found.class_share[-1], 1, atol=1e-8)
    matrix, roots = dense(graph)
    m = found.n_connected  # so many times is the largest eigenvalue 1; its eigenvectors are any basis of theirs
    top = np.linalg.eigh(matrix)[1][:, -m:]
    indicators = roots[:, None] * (masked[:, None] == np.arange(6))
    indicators /= np.linalg.norm(indicators, axis=0)
    assert found.class_share[m - 1] == pytest.approx(((top.T @ indicators) ** 2).sum(axis=0).mean())
    assert found.class_share[0] < 1 / 6
    assert len(found.classes) == 6
    with pytest.raises(InputError, match="900"):
        cs.spectrum(graph, 5, labels=labels[:-1])


def test_result_goes_to_json_and_is_the_same_twice():
    graph, labels = knn_graph(700)
    one, two = cs.spectrum(graph, 6, labels=labels), cs.spectrum(graph, 6, labels=labels)
    np.testing.assert_array_equal(one.eigenvectors, two.eigenvectors)
    plain = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert plain["n_clusters"] == one.n_clusters
    assert plain["eigenvalues"] == one.eigenvalues.tolist()
    assert "eigenvectors" not in plain
    assert "class_share" in repr(one)
    assert "class_share" not in repr(cs.spectrum(graph, 6))
    largest = np.abs(one.eigenvectors).argmax(0)
    assert (one.eigenvectors[largest, np.arange(6)] > 0).all()


@pytest.mark.parametrize("m", [0, -1, 2.5, True, "ten"])
def test_number_of_eigenvectors_that_is_none(m):
    with pytest.raises(InputError, match="n_components must be a whole number"):
        cs.spectrum(path(5), m)


def test_graph_without_edges():
    with pytest.raises(InputError, match="no edges"):
        cs.spectrum(AffinityGraph.from_scipy(sp.csr_array((5, 5), dtype=np.float32)), 2)


@pytest.mark.parametrize(("dense_nodes", "tolerance"), [(500, 1e-6), (2000, 1e-10)])
def test_clusters_that_barely_hang_together(dense_nodes, tolerance, monkeypatch):
    """Eigenvalues within 1e-6 of 1 and of each other, which Lanczos methods from one vector do not tell apart."""
    monkeypatch.setattr(decomposition, "DENSE_NODES", dense_nodes)
    points, _ = locally_dense_mixture(1_500, 25, n_classes=5, seed=0)
    graph = cs.affinity_graph(cs.knn(points, 15))
    found = cs.spectrum(graph, 20)
    assert found.n_connected < 20
    assert found.eigenvalues[19] > 1 - 1e-5
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(dense(graph)[0])[::-1][:20], atol=tolerance)
    assert found.residuals.max() <= 1.1e-6  # no eigenvalue is farther off


def test_no_convergence_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setattr(filtered_subspace, "ROUNDS", 1)
    with pytest.raises(InputError, match=r"found \d+ of 12 eigenvectors of the graph. Ask for fewer eigenvectors"):
        cs.spectrum(path(900), 12)


def test_pairs_that_are_wrong_or_not_the_largest_are_refused():
    graph, _ = knn_graph(600)
    matrix, _ = normalized_affinity(graph)
    values, vectors = np.linalg.eigh(matrix.toarray())
    check_pairs(matrix, values[-9:], vectors[:, -9:], "It")
    with pytest.raises(NotConvergedError, match="missed an eigenvalue"):
        check_pairs(matrix, np.delete(values[-9:], 4), np.delete(vectors[:, -9:], 4, axis=1), "It")
    with pytest.raises(NotConvergedError, match="found 8 of 9"):
        check_pairs(matrix, values[-9:] - 0.1 * (np.arange(9) == 2), vectors[:, -9:], "It")
    with pytest.raises(NotConvergedError, match="found 0 of 9"):
        check_pairs(matrix, values[-9:] * np.nan, vectors[:, -9:], "It")


def test_call_of_pylibraft_fits_its_signature():
    solver = pytest.importorskip("pylibraft.sparse.linalg")
    settings = {"which": "LA", "v0": "v", "ncv": 20, "maxiter": 10, "tol": 1e-8, "seed": 0, "handle": "handle"}
    inspect.signature(solver.eigsh).bind("matrix", k=3, **settings)


def rehearsed(monkeypatch, solve):
    """NumPy in CuPy's place and a solver in pylibraft's, with pylibraft's signature."""

    def eigsh(A, k=6, which="LM", v0=None, ncv=None, maxiter=None, tol=0, seed=None, handle=None):
        assert (which, handle) == ("LA", "handle")
        assert k + 1 < ncv < A.shape[0]
        assert v0.dtype == A.data.dtype == np.float64
        return solve(A, k)

    library, linalg = types.ModuleType("pylibraft"), types.ModuleType("pylibraft.sparse.linalg")
    library.__version__, linalg.eigsh = "26.10.00", eigsh
    for name, module in {"pylibraft": library, "pylibraft.sparse.linalg": linalg, "cupy": np}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(lanczos_pylibraft, "raft_handle", lambda _: nullcontext("handle"))  # no stream is there


def largest(matrix, k):
    values, vectors = np.linalg.eigh(matrix.toarray())
    return values[-k:], np.asfortranarray(vectors[:, -k:])


def test_rehearsal_on_the_gpu(monkeypatch):
    graph, labels = knn_graph(700)
    rehearsed(monkeypatch, largest)
    monkeypatch.setattr(decomposition, "solver_device", lambda graph, device: "cuda")
    found = cs.spectrum(graph, 10, labels=labels)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(dense(graph)[0])[::-1][:10], atol=1e-10)
    assert found.method == "pylibraft 26.10.00, Lanczos on the GPU"


@pytest.mark.parametrize("failure", ["missed", "raises", "garbage"])
def test_failure_on_the_gpu_falls_back_or_is_said(failure, monkeypatch):
    graph, _ = knn_graph(700)

    def solve(matrix, k):
        if failure == "raises":
            raise RuntimeError("CUDA error encountered at: file=lanczos.cuh\nmore")
        values, vectors = largest(matrix, k + 1)
        if failure == "garbage":
            return values[1:], np.random.default_rng(0).standard_normal((len(vectors), k))
        return np.delete(values, -3), np.delete(vectors, -3, axis=1)

    rehearsed(monkeypatch, solve)
    monkeypatch.setattr(decomposition, "solver_device", lambda graph, device: "cuda")
    with pytest.warns(UserWarning, match="The CPU is used instead"):
        found = cs.spectrum(graph, 10)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(dense(graph)[0])[::-1][:10], atol=1e-9)
    assert found.method == filtered_subspace.METHOD
    with pytest.raises(InputError, match=r"pylibraft 26.10.00.*use device='cpu'"):
        cs.spectrum(graph, 10, device="cuda")


def test_many_eigenvalues_close_to_one():
    """Rings of nearly equal size, each linked weakly to the next."""
    size, n = 80, 16
    rings = disjoint(*[ring(size + i % 3) for i in range(n)]).to_scipy().tolil()
    firsts = np.cumsum([0] + [size + i % 3 for i in range(n - 1)])
    rings[firsts[:-1], firsts[1:]] = rings[firsts[1:], firsts[:-1]] = 0.02
    graph = AffinityGraph.from_scipy(sp.csr_array(rings.tocsr()))
    found = cs.spectrum(graph, 12)
    assert found.method == "Chebyshev-filtered subspace iteration on the CPU"
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(dense(graph)[0])[::-1][:12], atol=1e-9)
    assert found.residuals.max() <= 1e-6


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-4), (np.float64, 1e-12)])
def test_filter_is_the_chebyshev_polynomial_of_the_matrix(dtype, tolerance):
    matrix, _ = normalized_affinity(knn_graph(600)[0])
    chosen = filtered_subspace.Filter(degree=9, edge=0.8)
    roots, vectors = np.linalg.eigh(matrix.toarray())
    scaled = (2 * roots + 1 - chosen.edge) / (1 + chosen.edge)
    expected = (vectors * np.polynomial.chebyshev.chebval(scaled, [0] * chosen.degree + [1])) @ vectors.T
    products = filtered_subspace.Products.of(matrix, dtype)
    block = np.random.default_rng(0).standard_normal((600, 13)).astype(dtype)
    found = products.filtered(block.copy(), chosen)
    assert found.dtype == dtype
    scale = np.abs(expected @ block).max()
    np.testing.assert_allclose(found / scale, expected @ block / scale, atol=tolerance)
    np.testing.assert_allclose(products.of_block(block), matrix @ block, atol=tolerance)


def test_step_equals_its_definition():
    matrix, _ = normalized_affinity(knn_graph(600)[0])
    last, before = np.random.default_rng(1).standard_normal((2, 600, 7))
    factors = 1.7, 0.3, 1.0
    expected = filtered_subspace.step_reference(matrix, last, before, factors)
    filtered_subspace.Products.of(matrix, np.float64).step(last, before, factors)
    np.testing.assert_allclose(before, expected, rtol=1e-12, atol=1e-12)


def test_filter_cuts_off_at_the_smallest_ritz_value_and_converges_as_far_as_needed():
    values = np.array([1.0, 0.9, 0.8, 0.5])
    chosen = filtered_subspace.next_filter(values, np.array([0.5, 30.0]))
    assert chosen.edge == 0.5
    growth = np.cosh(chosen.degree * np.arccosh(1 + 2 * (0.9 - 0.5) / 1.5))
    assert 30 < growth < 30 * 10
    steep = filtered_subspace.next_filter(values, np.array([1e30, 1e30]))
    assert np.cosh(steep.degree * np.arccosh(1 + 2 * 0.5 / 1.5)) < np.exp(filtered_subspace.RISE)
    assert filtered_subspace.next_filter(np.ones(4), np.full(2, 2.0)).degree == filtered_subspace.MOST_DEGREE
