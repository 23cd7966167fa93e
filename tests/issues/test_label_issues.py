"""Label issues: which labels are suspicious, what the score means, what is suggested."""

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

import clorg_scale as cs
from clorg_scale.arrays import ClassLabels
from clorg_scale.errors import InputError
from clorg_scale.issues.graph_votes import LEAST_TRUST, ROUNDS, STEEPNESS, GraphVotes


def test_wrong_labels_are_found_and_the_right_ones_suggested(planted):
    found = planted.issues
    labeled = planted.given >= 0
    wrong = np.isin(np.arange(900), planted.wrong)
    assert roc_auc_score(wrong[labeled], -found.label_score[labeled]) > 0.995
    table = found.label_issues
    assert np.isin(planted.wrong, table["index"]).mean() >= 0.95  # all of them, not the first hundred
    assert np.isin(table["index"], planted.wrong).mean() >= 0.85
    assert (found.suggested[planted.wrong] == planted.right[planted.wrong]).mean() >= 0.95
    assert np.all(np.diff(table["label_score"]) >= 0)
    row = table[table["index"] == planted.wrong[0]][0]
    assert row["given_label"] == f"digit {planted.given[planted.wrong[0]]}"
    assert row["suggested_label"] == f"digit {planted.right[planted.wrong[0]]}"


def test_more_than_a_hundred_issues_are_all_listed():
    rng = np.random.default_rng(0)
    right = np.repeat(np.arange(4), 300)
    X = rng.normal(size=(1200, 8)) + 6 * np.eye(8)[right]
    wrong = rng.choice(1200, 240, replace=False)
    given = right.copy()
    given[wrong] = (given[wrong] + rng.integers(1, 4, 240)) % 4
    found = set(cs.find_issues(X, given, k=10).label_issues["index"])
    # The classes are six standard deviations apart: nothing but the planted labels is wrong.
    assert found <= set(wrong)
    assert len(found) >= 0.95 * 240


def test_unlabelled_points_get_a_suggestion_and_are_no_issue(planted):
    found, unknown = planted.issues, planted.given < 0
    assert np.isnan(found.label_score[unknown]).all()
    assert not found.is_label_issue[unknown].any()
    table = found.suggested_labels
    assert sorted(table["index"]) == np.flatnonzero(unknown).tolist()
    assert np.all(np.diff(table["suggested_score"]) <= 0)
    right = [f"digit {label}" for label in planted.right[table["index"]]]
    assert np.mean(table["suggested_label"] == right) >= 0.9
    assert found.counts()["unlabelled"] == 30


def test_the_score_is_the_probability_of_the_label():
    """Two classes that overlap, whose posterior is known: the score is it, also for labels that are rare there."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(4000, 2)) * [1.5, 1.0]
    truth = expit(2 * X[:, 0])  # probability of class 1
    given = (rng.random(4000) < truth).astype(int)
    found = cs.find_issues(X, given, k=15)
    of_given = np.where(given == 1, truth, 1 - truth)
    assert np.abs(found.label_score - of_given).mean() < 0.05
    # Of the points whose most probable class has probability p, a share p has that label: 10 bins of some 400 points,
    # standard error .025 at most.
    bins = np.minimum((found.suggested_score * 10).astype(int), 9)
    for b in np.unique(bins):
        inside = bins == b
        if inside.sum() >= 200:
            share = (found.suggested == given)[inside].mean()
            assert share == pytest.approx(found.suggested_score[inside].mean(), abs=0.075)


def test_a_class_of_one_point_is_not_judged():
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], [60, 60, 1])
    X = rng.normal(size=(121, 4)) + 4 * np.eye(4)[np.minimum(labels, 1)]
    found = cs.find_issues(X, labels, k=5)
    assert np.isnan(found.label_score[120])
    assert not found.is_label_issue[120]
    assert np.isfinite(found.label_score[:120]).all()


def test_shares_of_the_graph_are_those_of_the_dense_definition():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(200, 3))
    codes = rng.integers(-1, 4, 200)
    graph = cs.affinity_graph(cs.knn(X, 8))
    votes = GraphVotes(graph, ClassLabels(codes, np.arange(4)))
    A, Y = graph.to_scipy().toarray().astype(float), np.eye(5)[codes][:, :4]
    trust, labeled = np.ones(200), codes >= 0
    for _ in range(ROUNDS):
        weighted = A @ (Y * trust[:, None])
        total = weighted.sum(1, keepdims=True)
        shares = np.where(total > 0, weighted / np.where(total > 0, total, 1), 0.25)
        own = shares[labeled, codes[labeled]]
        others = np.where(Y[labeled] > 0, -1, shares[labeled]).max(1)
        trust[labeled] = np.maximum(1 / (1 + np.exp(-STEEPNESS * (own - others))), LEAST_TRUST)
    np.testing.assert_allclose(votes.shares(np.arange(200)), shares, atol=1e-5)


def test_the_same_input_gives_the_same_scores_and_names_do_not_matter(planted):
    again = cs.find_issues(planted.X, planted.given, k=10, seed=2)
    np.testing.assert_array_equal(again.label_score, planted.issues.label_score)
    renamed = np.where(planted.given < 0, -1, 9 - planted.given)
    other = cs.find_issues(planted.X, renamed, k=10, seed=2)
    np.testing.assert_array_equal(other.duplicates.set_of, again.duplicates.set_of)
    # The folds differ, as the order of the classes does.
    known = planted.given >= 0
    assert np.abs(other.label_score[known] - again.label_score[known]).mean() < 0.02
    assert set(other.outliers["index"]) == set(again.outliers["index"])


def test_a_table_of_ones_own_and_normalized_points(planted):
    X, given = planted.X, planted.given
    table = cs.knn(X, 10, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cs.find_issues(X, given, neighbors=table, seed=2)
    np.testing.assert_array_equal(found.label_score, planted.issues.label_score)
    scaled = X * np.random.default_rng(0).uniform(1, 9, (900, 1)).astype(np.float32)
    ours = cs.find_issues(scaled, given, k=10, normalize=True)
    assert np.isin(planted.wrong, ours.label_issues["index"]).mean() > 0.9
    assert ours.details["normalized"]


def test_every_stage_keeps_to_the_memory_limit():
    """Bytes that NumPy and SciPy allocate after the search, with little and with ample memory; the same scores."""
    rng = np.random.default_rng(0)
    n, n_classes = 4000, 100
    given = rng.integers(0, n_classes, n)
    X = (rng.normal(size=(n_classes, 16))[given] + 0.3 * rng.normal(size=(n, 16))).astype(np.float32)
    table, scores, peaks = cs.knn(X, 15), [], []
    cs.find_issues(X[:500], given[:500], k=15, device="cpu", memory_limit="64MB")  # imports and compiles
    for limit in ("16MB", "2GB"):
        tracemalloc.start()
        scores.append(cs.find_issues(X, given, neighbors=table, device="cpu", memory_limit=limit).label_score)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < 16e6
    assert np.allclose(scores[0], scores[1], atol=0.02)
    with pytest.raises(InputError, match=r"Finding the issues of 4,000 points needs at least \d"):
        cs.find_issues(X, given, neighbors=table, memory_limit="5MB")
    assert peaks[1] > 16e6  # so that the limit had something to do
