"""GCN probe: inference in ranges, rare validation, recorded accuracies, damaged checkpoints."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

torch = pytest.importorskip("torch")

from clorg_scale.errors import InputError
from clorg_scale.probes import GCNProbe, inference, training
from clorg_scale.probes.least_memory import least_memory
from clorg_scale.probes.planning import (
    GraphSize,
    fanouts_by_degree,
    full_batch_bytes,
    time_allowed,
    validation_interval,
)

N, CLASSES = 300, 3


@pytest.fixture(autouse=True)
def one_thread():
    """Graphs this small gain nothing from threads, and lose much where other work has the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def blocks_graph():
    """Three communities with random weights, and an isolated node."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N)
    same = labels[:, None] == labels
    A = np.triu(rng.random((N, N)) < np.where(same, 0.08, 0.01), 1) * rng.uniform(0.1, 2, (N, N))
    A[-1], A[:, -1] = 0, 0
    return sp.csr_matrix((A + A.T).astype(np.float32)), labels, rng.random(N) < 0.6


def test_logits_of_few_rows_at_a_time_and_of_nodes_asked_for(blocks_graph, monkeypatch):
    A, labels, mask = blocks_graph
    probe = GCNProbe(max_epochs=5, batch_size=64).fit(A, labels, mask)
    whole, predicted = probe.predict_proba(), probe.predict()
    np.testing.assert_array_equal(predicted, probe.classes_[whole.argmax(axis=1)])
    monkeypatch.setattr(inference, "LOGITS", 7 * CLASSES)
    sizes = [rows.stop - rows.start for rows, _ in probe._logits()]
    assert max(sizes) == 7
    assert sum(sizes) == N
    nodes = np.array([299, 0, 6, 7, 8, 6])
    np.testing.assert_allclose(probe.predict_proba(nodes), whole[nodes], atol=1e-5)
    wanted = np.array([0, 6, 7, 298])
    logits = torch.cat([logits for _, logits in probe._logits(wanted)])
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), whole[wanted], atol=1e-5)
    np.testing.assert_array_equal(probe.predict(nodes), predicted[nodes])
    fresh = clone(probe).fit(A, labels, mask)
    np.testing.assert_array_equal(fresh.predict(nodes), predicted[nodes])
    with pytest.raises(InputError, match="from 0 to 299"):
        fresh.predict(np.array([300]))


def test_rare_validation_and_a_limit_of_time(blocks_graph, tmp_path):
    A, labels, mask = blocks_graph
    settings = {"batch_size": 64, "fanout": 5, "patience": 1000, "validate_every": 4}
    through = GCNProbe(max_epochs=14, **settings).fit(A, labels, mask)
    validated = [number for number, record in enumerate(through.history_, 1) if "validation_loss" in record]
    assert validated == [4, 8, 12, 14]
    assert through.best_epoch_ in validated
    path = tmp_path / "probe.pt"
    GCNProbe(max_epochs=6, checkpoint=path, **settings).fit(A, labels, mask)
    resumed = GCNProbe(max_epochs=14, checkpoint=path, **settings).fit(A, labels, mask)
    assert resumed.history_ == through.history_
    np.testing.assert_array_equal(resumed.predict_proba(), through.predict_proba())
    short = GCNProbe(max_seconds=1e-9, **settings).fit(A, labels, mask)
    assert (short.n_epochs_, short.stopped_by_, through.stopped_by_) == (1, "max_seconds", "max_epochs")
    assert GCNProbe(patience=2, max_epochs=300).fit(A, labels, mask).stopped_by_ == "patience"
    with pytest.raises(InputError, match="max_seconds"):
        GCNProbe(max_seconds=0).fit(A, labels, mask)


def test_validation_is_rarer_where_inference_costs_more_than_training():
    def interval(n, nnz, n_classes, n_fitted):
        size = GraphSize(n, nnz, n_classes, 0, 16, 2)
        masked, validated = 0.275 * n_fitted, n_fitted // 10
        return validation_interval(size, fanouts=(10, 10), n_masked=masked, n_validated=validated, patience=50)

    assert interval(300, 4000, 3, 180) == 1
    assert interval(1_000_000, 24_000_000, 10, 900_000) == 1
    assert interval(1_000_000, 24_000_000, 10, 9_000) == 10


def test_a_first_epoch_that_compiled_is_no_measure_of_the_next(blocks_graph, monkeypatch):
    """Of 30 s, then of 5 s each: within 60 s there is time for six more."""
    from clorg_scale.probes import training

    A, labels, mask = blocks_graph
    clock, original = [0.0], training.Trainer.train_epoch

    def train_epoch(trainer, advance):
        original(trainer, advance)
        clock[0] += 30.0 if trainer.epoch == 1 else 5.0

    monkeypatch.setattr(training.Trainer, "train_epoch", train_epoch)
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    probe = GCNProbe(max_seconds=60, max_epochs=20, seed=0, device="cpu").fit(A, labels, mask)
    assert (probe.n_epochs_, probe.stopped_by_) == (7, "max_seconds")


def test_only_graphs_of_long_epochs_have_a_limit_of_time_by_default():
    assert time_allowed(GraphSize(70_000, 1_500_000, 10, 0, 16, 2)) is None
    assert time_allowed(GraphSize(1_281_167, 26_000_000, 1000, 0, 16, 2)) == 60


def test_a_sample_of_the_held_out_nodes_is_scored(blocks_graph, monkeypatch):
    A, labels, mask = blocks_graph
    settings = {"max_epochs": 3, "validation_fraction": 0.5}
    whole = GCNProbe(**settings).fit(A, labels, mask)
    held_out = whole._trainer.nodes.held_out
    monkeypatch.setattr(training, "VALIDATION_NODES", 20)
    sampled = GCNProbe(**settings).fit(A, labels, mask)
    assert len(held_out) > 60
    assert set(sampled._trainer._judged) < set(held_out)
    for record in sampled.history_:
        assert (record["validation_accuracy"] * 20) % 1 == pytest.approx(0, abs=1e-9)
    assert [record["loss"] for record in sampled.history_] == [record["loss"] for record in whole.history_]


def test_batches_where_the_whole_graph_exceeds_the_memory_limit(blocks_graph):
    A, labels, mask = blocks_graph
    size = GraphSize(N, A.nnz, CLASSES, 0, 16, 2)
    small = GCNProbe(max_epochs=2, memory_limit=2 * full_batch_bytes(size)).fit(A, labels, mask)
    assert not small.full_batch_
    assert small.batch_size_ < 8192
    assert small.memory_needed_ <= 2 * full_batch_bytes(size)
    assert GCNProbe(max_epochs=2, memory_limit="1GB").fit(A, labels, mask).full_batch_
    # What the analysis announces as the least suffices.
    least = least_memory("gcn", N, 0, CLASSES, -(-A.nnz // (2 * N)))
    assert GCNProbe(max_epochs=2, memory_limit=least).fit(A, labels, mask).memory_needed_ <= least
    with pytest.raises(InputError, match=r"300 nodes and \d+ entries in batches of 256 needs at least"):
        GCNProbe(memory_limit=1000).fit(A, labels, mask)
    with pytest.raises(InputError, match="as a whole needs at least"):
        GCNProbe(memory_limit=1000, batch_size="full").fit(A, labels, mask)


def test_fan_out_grows_with_the_degree(blocks_graph):
    assert fanouts_by_degree(1000, 15_000, 2) == (10, 10)
    assert fanouts_by_degree(1000, 50_000, 3) == (25, 25, 25)
    assert fanouts_by_degree(1000, 500_000, 1) == (40,)
    A, labels, mask = blocks_graph
    probe = GCNProbe(max_epochs=1, batch_size=64).fit(A, labels, mask)
    assert probe.fanouts_ == fanouts_by_degree(N, A.nnz, 2)


def test_maximum_of_the_test_accuracy_is_recorded_and_decides_nothing(blocks_graph):
    A, labels, mask = blocks_graph
    plain = GCNProbe(max_epochs=12).fit(A, labels, mask)
    watched = GCNProbe(max_epochs=12).fit(A, labels, mask, test_mask=~mask)
    assert plain.max_test_accuracy_ is None
    np.testing.assert_array_equal(watched.predict_proba(), plain.predict_proba())
    accuracies = [record["test_accuracy"] for record in watched.history_]
    assert watched.max_test_accuracy_ == max(accuracies)
    assert len(accuracies) == 12
    hidden = GCNProbe(max_epochs=12, validation_fraction=0).fit(A, labels, mask, test_mask=~mask)
    assert hidden.max_test_accuracy_ > 0.9


def test_foreign_or_damaged_checkpoint(blocks_graph, tmp_path):
    A, labels, mask = blocks_graph
    path = tmp_path / "probe.pt"
    GCNProbe(max_epochs=2, checkpoint=path).fit(A, labels, mask)
    with pytest.raises(InputError, match="other data or settings"):
        GCNProbe(max_epochs=2, hidden=8, checkpoint=path).fit(A, labels, mask)
    with pytest.raises(InputError, match="other data or settings"):
        GCNProbe(max_epochs=2, checkpoint=path).fit(A * 1.5 + sp.eye(N, format="csr"), labels, mask)
    X = np.random.default_rng(0).normal(size=(N, 4))
    featured = GCNProbe(max_epochs=2, inputs="both", checkpoint=tmp_path / "features.pt").fit(A, labels, mask, X)
    with pytest.raises(InputError, match="other data or settings"):  # the same mean and deviation, another order
        clone(featured).fit(A, labels, mask, X[::-1])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read"):
        GCNProbe(max_epochs=2, checkpoint=path).fit(A, labels, mask)
    torch.save({"fingerprint": print}, path)
    with pytest.raises(InputError, match="cannot be read"):
        GCNProbe(max_epochs=2, checkpoint=path).fit(A, labels, mask)


def test_few_nodes_of_a_class_need_no_held_out_part():
    A = sp.csr_matrix(np.kron(np.eye(2), np.ones((4, 4)) - np.eye(4)).astype(np.float32))
    labels = np.repeat([7, 9], 4)
    mask = np.tile([True, True, False, False], 2)
    probe = GCNProbe(max_epochs=80, patience=80).fit(A, labels, mask)
    assert "validation_loss" not in probe.history_[0]
    assert probe.score(labels, ~mask) == 1
