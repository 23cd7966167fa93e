"""Graphs that were made elsewhere: weights of any size and type, one class, one name for all kinds of labels."""

import numpy as np
import pytest
import scipy.sparse

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.probes import LabelPropagationProbe

RANDOM = np.random.default_rng(0)
LABELS = np.arange(200) % 3
POINTS = RANDOM.normal(size=(200, 5)) + 2.0 * (LABELS == 1)[:, None]
GRAPH = cs.affinity_graph(cs.knn(POINTS, 8))
TRAIN = np.arange(200) < 100


@pytest.mark.parametrize("factor", [1e-44, 1e-46, 1e39, 1e-300, 1e300])
def test_weights_beyond_float32_are_kept(factor):
    matrix = GRAPH.to_scipy().astype(np.float64) * factor
    graph = cs.AffinityGraph.from_scipy(matrix)
    assert graph.weights.dtype == np.float64
    np.testing.assert_array_equal(graph.weights, matrix.data)
    assert cs.modularity(graph, LABELS) == pytest.approx(cs.modularity(GRAPH, LABELS), abs=1e-9)
    assert cs.communities(graph).modularity == pytest.approx(cs.communities(GRAPH).modularity, abs=0.02)
    expected, found = (
        LabelPropagationProbe().fit(some, LABELS, TRAIN).score(LABELS, ~TRAIN) for some in (GRAPH, matrix)
    )
    assert found == expected


def test_ordinary_weights_are_float32_and_the_matrix_is_left_alone():
    matrix = GRAPH.to_scipy().astype(np.float64).tocoo()
    double = scipy.sparse.coo_matrix(
        (np.tile(matrix.data, 2), (np.tile(matrix.row, 2), np.tile(matrix.col, 2))), shape=matrix.shape
    )
    graph = cs.AffinityGraph.from_scipy(double)
    assert graph.weights.dtype == np.float32
    np.testing.assert_allclose(graph.weights, 2 * GRAPH.weights, rtol=1e-6)
    assert double.nnz == 2 * matrix.nnz


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "dok"])
@pytest.mark.parametrize(("dtype", "weight"), [(np.uint8, 200), (np.int8, 100), (bool, True), (np.int16, 30_000)])
def test_duplicates_do_not_wrap(kind, dtype, weight):
    ends = [0, 0, 1, 1], [1, 1, 0, 0]
    matrix = scipy.sparse.coo_matrix((np.full(4, weight, dtype), ends), shape=(2, 2))
    expected = 2.0 * weight
    if kind in ("csr", "csc"):  # these keep duplicates if they are made so
        builder = scipy.sparse.csr_matrix if kind == "csr" else scipy.sparse.csc_matrix
        matrix = builder((np.full(4, weight, dtype), [1, 1, 0, 0], [0, 2, 4]), shape=(2, 2))
    elif kind == "dok":
        matrix, expected = scipy.sparse.dok_matrix(np.array([[0, weight], [weight, 0]], dtype)), float(weight)
    np.testing.assert_array_equal(cs.AffinityGraph.from_scipy(matrix).weights, [expected, expected])


def test_what_no_float_holds_is_told():
    matrix = scipy.sparse.csr_matrix(np.array([[0, 1.7e308], [1.7e308, 0]]))
    with pytest.raises(InputError, match="beyond float64"):
        cs.AffinityGraph.from_scipy(matrix)
    with pytest.raises(InputError, match="complex128"):
        cs.AffinityGraph.from_scipy(matrix.astype(np.complex128))


@pytest.mark.parametrize("one", [np.zeros(200, int), np.full(200, 7), np.full(200, "a"), np.zeros(200, bool)])
def test_modularity_of_one_class_is_zero(one):
    assert cs.modularity(GRAPH, one) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("none", [np.full(200, -1), np.full(200, "-1")])
def test_modularity_needs_a_label(none):
    with pytest.raises(InputError, match="no class"):
        cs.modularity(GRAPH, none)
