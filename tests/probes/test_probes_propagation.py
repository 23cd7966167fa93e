import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.semi_supervised import LabelSpreading

from clorg_scale.errors import InputError
from clorg_scale.probes import LabelPropagationProbe, propagation, truncated


def random_graph(n, seed, density=0.1):
    upper = sp.triu(sp.random(n, n, density, random_state=seed, dtype=np.float32), 1)
    return (upper + upper.T).tocsr()


def labeled_nodes(n, n_classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    mask = rng.random(n) < 0.4
    mask[:n_classes], labels[:n_classes] = True, np.arange(n_classes)
    return labels, mask


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), alpha=st.sampled_from([0.2, 0.5, 0.9]))
def test_equals_the_closed_form(seed, alpha):
    n = 60
    graph = random_graph(n, seed)
    labels, mask = labeled_nodes(n, 3, seed)
    probe = LabelPropagationProbe(alpha=alpha, tolerance=1e-6, max_iterations=1000).fit(graph, labels, mask)

    A = graph.toarray().astype(float)
    degrees = A.sum(axis=1)
    root = np.divide(1, np.sqrt(degrees), where=degrees > 0, out=np.zeros(n))
    S = root[:, None] * A * root
    Y0 = np.eye(3)[labels] * mask[:, None]
    Y = (1 - alpha) * np.linalg.solve(np.eye(n) - alpha * S, Y0)
    reached = Y.sum(axis=1) > 1e-12
    shares = Y[reached] / Y[reached].sum(axis=1, keepdims=True)
    # Shares are compared where mass enough arrived for float32 to hold it.
    strong = Y[reached].sum(axis=1) > 1e-3
    np.testing.assert_allclose(probe.predict_proba()[reached][strong], shares[strong], atol=2e-3)
    prior = np.bincount(labels[mask]) / mask.sum()
    np.testing.assert_allclose(probe.predict_proba()[~reached], np.tile(prior, ((~reached).sum(), 1)), atol=1e-6)


def test_equals_scikit_learn_label_spreading():
    n = 80
    graph = random_graph(n, 3)
    labels, mask = labeled_nodes(n, 4, 3)
    dense = graph.toarray().astype(float)
    oracle = LabelSpreading(kernel=lambda a, b: dense.copy(), alpha=0.7, max_iter=1000, tol=1e-9)
    oracle.fit(np.arange(n)[:, None], np.where(mask, labels, -1))
    probe = LabelPropagationProbe(alpha=0.7, tolerance=1e-6).fit(graph, labels, mask)
    np.testing.assert_allclose(probe.predict_proba(), oracle.label_distributions_, atol=1e-4)


def test_equals_pytorch_geometric():
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torch_geometric.nn.models")
    gcn_norm = pytest.importorskip("torch_geometric.nn.conv.gcn_conv").gcn_norm
    n = 80
    graph = random_graph(n, 4)
    labels, mask = labeled_nodes(n, 4, 4)
    coo = graph.tocoo()
    edges = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    edges, weights = gcn_norm(edges, torch.from_numpy(coo.data), n, add_self_loops=False)
    propagate = models.LabelPropagation(num_layers=200, alpha=0.8)
    oracle = propagate(torch.from_numpy(labels), edges, torch.from_numpy(mask), edge_weight=weights).numpy()
    probe = LabelPropagationProbe(alpha=0.8, tolerance=1e-6).fit(graph, labels, mask)
    np.testing.assert_allclose(probe.predict_proba(), oracle / oracle.sum(axis=1, keepdims=True), atol=1e-4)


def test_two_cliques_take_their_labels_and_an_isolated_node_the_prior():
    block = np.ones((6, 6)) - np.eye(6)
    graph = sp.csr_matrix(sp.block_diag([block, block, np.zeros((1, 1))]))
    labels = np.array(["a"] * 6 + ["b"] * 6 + ["b"])
    mask = np.zeros(13, dtype=bool)
    mask[[0, 6, 7]] = True
    probe = LabelPropagationProbe(alpha=0.9).fit(graph, labels, mask)
    assert probe.score(labels, np.ones(13, dtype=bool)) == 1
    np.testing.assert_allclose(probe.predict_proba()[-1], [1 / 3, 2 / 3], atol=1e-6)


def test_alpha_is_chosen_on_training_nodes_and_test_labels_change_nothing():
    n = 400
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], n // 2)
    same = labels[:, None] == labels
    A = np.triu(rng.random((n, n)) < np.where(same, 0.05, 0.01), 1).astype(np.float32)
    graph = sp.csr_matrix(A + A.T)
    mask = rng.random(n) < 0.3
    probe = LabelPropagationProbe().fit(graph, labels, mask)
    assert probe.score(labels, ~mask) > 0.85
    shuffled = np.where(mask, labels, rng.permutation(labels))
    again = clone(probe).fit(graph, shuffled, mask)
    assert again.alpha_ == probe.alpha_
    np.testing.assert_array_equal(again.predict_proba(), probe.predict_proba())
    assert probe.n_parameters == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train_mask": np.ones(3, dtype=bool)}, "one boolean for each of the 5 nodes"),
        ({"train_mask": np.ones(5)}, "one boolean"),
        ({"train_mask": np.zeros(5, dtype=bool)}, "No node of train_mask"),
        ({"train_mask": np.arange(5) < 2}, "classes have no training node"),
        ({"labels": [0, 1, 2]}, "one label per row"),
        ({"graph": sp.csr_matrix(np.ones((5, 4)))}, "square"),
        ({"graph": np.ones((5, 5))}, "AffinityGraph"),
        ({"graph": sp.csr_matrix(np.diag([np.nan] * 5))}, "NaN"),
        ({"graph": sp.csr_matrix(-np.eye(5))}, "negative"),
    ],
)
def test_bad_input(change, sentence):
    arguments = {
        "graph": sp.csr_matrix(np.ones((5, 5)) - np.eye(5)),
        "labels": [0, 0, 1, 1, 2],
        "train_mask": np.ones(5, dtype=bool),
    } | change
    with pytest.raises(InputError, match=sentence):
        LabelPropagationProbe().fit(**arguments)


def test_bad_alpha_and_bad_score():
    graph = sp.csr_matrix(np.ones((4, 4)) - np.eye(4))
    mask = np.ones(4, dtype=bool)
    with pytest.raises(InputError, match="alpha"):
        LabelPropagationProbe(alpha=1.0).fit(graph, [0, 0, 1, 1], mask)
    probe = LabelPropagationProbe(alpha=0.5).fit(graph, [0, 0, 1, 1], mask)
    with pytest.raises(InputError, match="no labeled node"):
        probe.score([0, 0, 1, 1], ~mask)


def test_blocks_of_classes_equal_the_whole(monkeypatch):
    n, n_classes = 400, 30
    graph = random_graph(n, 5)
    labels, mask = labeled_nodes(n, n_classes, 5)
    whole = LabelPropagationProbe(tolerance=1e-6).fit(graph, labels, mask)
    nodes = np.array([7, 3, 399, 3])
    np.testing.assert_array_equal(whole.predict_proba(nodes), whole.predict_proba()[nodes])
    monkeypatch.setattr(propagation, "SCORE_BYTES", 7 * 4 * n)  # seven classes at a time
    blocks = clone(whole).set_params(scores="all").fit(graph, labels, mask)
    assert blocks._scores is None
    assert blocks.alpha_ == whole.alpha_
    np.testing.assert_array_equal(blocks.predict(), whole.predict())
    np.testing.assert_allclose(blocks.predict_proba(nodes), whole.predict_proba(nodes), atol=1e-4)
    with pytest.raises(InputError, match="from 0 to 399"):
        blocks.predict_proba(np.array([400]))


def test_few_classes_kept_are_all_where_no_more_arrive():
    n, n_classes = 300, truncated.KEPT
    graph = random_graph(n, 6)
    labels, mask = labeled_nodes(n, n_classes, 6)
    settings = {"alpha": 0.8, "tolerance": 1e-5, "max_iterations": 100}
    all_scores = LabelPropagationProbe(scores="all", **settings).fit(graph, labels, mask)
    best = LabelPropagationProbe(scores="best", **settings).fit(graph, labels, mask)
    assert best.certain_share_ == 1
    np.testing.assert_array_equal(best.predict(), all_scores.predict())
    nodes = np.array([5, 299, 5])
    np.testing.assert_allclose(best.predict_proba(nodes), all_scores.predict_proba(nodes), atol=1e-5)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10_000), alpha=st.sampled_from([0.3, 0.6, 0.95]))
def test_what_dropped_scores_may_lack_is_bounded(seed, alpha):
    """60 classes on random neighbors: far more than are kept arrive at a node."""
    n, n_classes = 300, 60
    graph = random_graph(n, seed, density=0.15)
    labels, mask = labeled_nodes(n, n_classes, seed)
    settings = {"alpha": alpha, "tolerance": 1e-5, "max_iterations": 100}
    best = LabelPropagationProbe(scores="best", **settings).fit(graph, labels, mask)
    A = graph.toarray().astype(float)
    root = 1 / np.sqrt(A.sum(axis=1))
    Y = (1 - alpha) * np.linalg.solve(
        np.eye(n) - alpha * root[:, None] * A * root, np.eye(n_classes)[labels] * mask[:, None]
    )
    kept = best._kept.dense(np.arange(n), n_classes)
    lacking = Y - kept
    assert (lacking.max(axis=1) <= best._kept.above + 1e-6).all()
    assert (-lacking.min(axis=1) <= best._kept.below + 1e-6).all()
    assert best._kept.above.max() > 1e-3
    sure = best._kept.certain()
    assert (best._best[sure] == Y[sure].argmax(axis=1)).all()
    assert best.certain_share_ == sure.mean()


@pytest.mark.parametrize(("labeled", "wide"), [(0.1, 20), (0.2, 20), (0.9, 60)])
def test_alpha_of_few_classes_kept_is_near_the_best(labeled, wide):
    """Few labels must travel far (large alpha); many, among classes that overlap, need not (small alpha)."""
    n, n_classes = 2000, 40
    rng = np.random.default_rng(1)
    labels = rng.integers(n_classes, size=n)
    order = np.argsort(labels, kind="stable")
    near = order[np.clip(np.argsort(order)[:, None] + rng.integers(-wide, wide + 1, (n, 8)), 0, n - 1)]
    lists = sp.csr_matrix((np.ones(8 * n, np.float32), near.ravel(), np.arange(0, 8 * n + 1, 8)), shape=(n, n))
    graph = lists.maximum(lists.T).tocsr()
    mask = rng.random(n) < labeled
    probes = {kind: LabelPropagationProbe(scores=kind).fit(graph, labels, mask) for kind in ("all", "best")}
    scores = {kind: probe.score(labels, ~mask) for kind, probe in probes.items()}
    assert scores["best"] == pytest.approx(scores["all"], abs=0.02)
    assert scores["all"] > 0.5


def test_memory_that_does_not_suffice():
    graph = random_graph(100, 0)
    labels, mask = labeled_nodes(100, 3, 0)
    probe = LabelPropagationProbe(memory_limit="1kB")
    with pytest.raises(InputError, match=r"Label propagation over 100 nodes needs at least .* memory limit of 1 kB"):
        probe.fit(graph, labels, mask)
    probe.set_params(memory_limit="1MB").fit(graph, labels, mask)
    assert 0 < probe.memory_needed_ < 10**6


@pytest.mark.slow
def test_memory_of_many_nodes_and_classes_stays_far_below_that_of_all_scores(peak_of):
    """200,000 nodes on a ring of 4,000 classes: a dense array of the scores would take 3.2 GB."""
    n, n_classes = 200_000, 4000
    labels = np.arange(n) * n_classes // n
    ahead = (np.arange(n)[:, None] + [1, 2]) % n
    ring = sp.csr_matrix((np.ones(2 * n, np.float32), ahead.ravel(), np.arange(0, 2 * n + 1, 2)), shape=(n, n))
    graph = (ring + ring.T).tocsr()
    mask = np.random.default_rng(0).random(n) < 0.5
    probe = LabelPropagationProbe()
    predicted, peak = peak_of(lambda: probe.fit(graph, labels, mask).predict())
    assert probe.scores_ == "best"
    assert peak < 0.05 * 4 * n * n_classes
    assert peak < 1.2 * probe.memory_needed_
    assert np.mean(predicted == labels) > 0.9


@pytest.fixture
def peak_of():
    """Result of a function, and the peak of what Python and NumPy allocated meanwhile."""

    def measure(function):
        tracemalloc.start()
        try:
            return function(), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure
