import builtins
import importlib.util

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_digits

from clorg_scale.errors import InputError
from clorg_scale.neighbors import knn
from clorg_scale.probes import ProbeResult, compare_probes
from clorg_scale.probes.comparison import accuracy_interval


@pytest.fixture(scope="module")
def split():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    table = knn(X, 10, index="flat")
    weights = np.exp(-table.distances / 10)
    graph = sp.csr_matrix((weights.ravel(), table.indices.ravel(), np.arange(0, weights.size + 1, 10)))
    graph = graph.maximum(graph.T).tocsr()
    return X[:1200], y[:1200], X[1200:], y[1200:], graph


def test_bootstrap_interval_is_that_of_resampled_outcomes():
    outcomes = np.arange(300) < 240
    rng = np.random.default_rng(0)
    resampled = [rng.choice(outcomes, 300).mean() for _ in range(4000)]
    # The 2.5 % quantile of 4,000 draws has standard error sqrt(.025 * .975 / 4000) / density, at most .0025;
    # the grid of accuracies is 1/300 wide.
    np.testing.assert_allclose(accuracy_interval(240, 300), np.quantile(resampled, [0.025, 0.975]), atol=0.0075)
    assert accuracy_interval(300, 300) == (1.0, 1.0)


def test_probes_without_torch(split):
    results = compare_probes(*split, probes=("linear", "knn", "label_propagation"), k=5)
    assert [result.name for result in results] == ["linear", "knn", "label_propagation"]
    for result in results:
        low, high = result.accuracy_interval
        assert 0.9 < low <= result.accuracy <= high <= 1
        assert result.seconds > 0
    assert [result.n_parameters for result in results] == [650, 0, 0]
    assert results[1].settings["k"] == 5
    assert 0 < results[2].settings["alpha"] < 1


def test_unknown_test_class_counts_as_wrong_and_unlabelled_points_do_not_count(split):
    X, y, X_test, y_test, graph = split
    strange = y_test.copy()
    strange[:100], strange[100:200] = 77, -1
    names = ("knn", "label_propagation")
    before = compare_probes(*split, probes=names)
    after = compare_probes(X, y, X_test, strange, graph, probes=names)
    for clean, changed in zip(before, after, strict=True):
        n = len(y_test)
        assert changed.accuracy <= (n - 200) / (n - 100)
        assert changed.accuracy > clean.accuracy - 100 / (n - 100) - 0.03


def test_probes_that_need_torch_are_left_out_with_the_reason(split, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    imported = builtins.__import__

    def no_torch(name, *rest, **options):
        if name.partition(".")[0] == "torch":
            raise ImportError(name)
        return imported(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    with pytest.warns(UserWarning, match="PyTorch, which is not installed: gcn, sage"):
        results = compare_probes(*split, probes=("label_propagation", "gcn", "sage"))
    assert [result.name for result in results] == ["label_propagation"]


def test_bad_input(split):
    X, y, X_test, y_test, graph = split
    with pytest.raises(InputError, match="no probe 'svm'"):
        compare_probes(*split, probes=("svm",))
    with pytest.raises(InputError, match="followed by"):
        compare_probes(X, y, X_test, y_test, graph[:1200, :1200])
    with pytest.raises(InputError, match="features"):
        compare_probes(X, y, X_test[:, :5], y_test, graph)
    with pytest.raises(InputError, match="use the same kind of names in both"):
        compare_probes(X, y, X_test, y_test.astype(str), graph)


def test_maximum_over_epochs_is_recorded_when_asked_and_decides_nothing(split):
    pytest.importorskip("torch")
    X, y, X_test, y_test, graph = split
    strange = y_test.copy()
    strange[:100], strange[100:200] = 77, -1
    plain, watched = (
        compare_probes(X, y, X_test, strange, graph, probes=("gcn",), max_over_epochs=asked)[0]
        for asked in (False, True)
    )
    assert plain.details == {}
    assert watched.accuracy == plain.accuracy
    largest = watched.details["max_test_accuracy_over_epochs"]
    n = len(y_test)
    assert watched.accuracy <= largest <= (n - 200) / (n - 100)  # points of the unknown class count as wrong
    assert watched.settings["stopped_by"] in ("patience", "max_epochs")
    assert ProbeResult.from_dict(watched.to_dict()) == watched


def test_memory_limit_reaches_the_probes(split):
    for name in ("linear", "label_propagation", "gcn"):
        if name == "gcn":
            pytest.importorskip("torch")
        with pytest.raises(InputError, match=r"needs at least .* memory limit of 20 kB"):
            compare_probes(*split, probes=(name,), memory_limit="20kB")
