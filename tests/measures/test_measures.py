"""Class homogeneity against brute force, Calinski-Harabasz against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import calinski_harabasz_score

from clorg_scale.errors import InputError
from clorg_scale.measures import calinski_harabasz, class_homogeneity, class_homogeneity_stderr
from clorg_scale.neighbors import KNN, knn, knn_between, knn_of


def brute_force_chi(knn_table: KNN, labels: np.ndarray, k: int) -> float:
    owners = np.arange(knn_table.n_points) if knn_table.queries is None else knn_table.queries
    shares = [
        sum(labels[j] == labels[i] for j in row[:k]) / k
        for i, row in zip(owners, knn_table.indices, strict=True)
        if labels[i] != -1
    ]
    return float(np.mean(shares))


@st.composite
def labeled_tables(draw):
    n = draw(st.integers(4, 30))
    k = draw(st.integers(1, n - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(-1, draw(st.integers(2, 5)), size=n)
    labels[:2] = 0, 1
    sampled = draw(st.booleans())
    queries = np.sort(rng.permutation(n)[: rng.integers(1, n + 1)]) if sampled else None
    owners = np.arange(n) if queries is None else queries
    indices = np.array([rng.permutation(np.delete(np.arange(n), i))[:k] for i in owners], dtype=np.int32)
    distances = np.sort(rng.random((len(owners), k)), axis=1).astype(np.float32)
    return KNN(indices, distances, "euclidean", "flat", n, queries), labels


@settings(max_examples=150, deadline=None)
@given(labeled_tables())
def test_class_homogeneity_equals_brute_force(case):
    table, labels = case
    owners = np.arange(table.n_points) if table.queries is None else table.queries
    ks = list(range(1, table.k + 1))
    if (labels[owners] == -1).all():
        with pytest.raises(InputError, match="No point"):
            class_homogeneity(table, labels, ks=ks)
        return
    found = class_homogeneity(table, labels, ks=ks)
    assert list(found) == ks
    for k, value in found.items():
        assert value == pytest.approx(brute_force_chi(table, labels, k), abs=1e-12)


def test_class_homogeneity_does_not_depend_on_the_size_of_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    table = knn(rng.normal(size=(300, 4)), 20)
    labels = rng.integers(-1, 4, size=300)
    whole = class_homogeneity(table, labels)
    import clorg_scale.measures as measures

    original = measures.row_slices
    monkeypatch.setattr(measures, "row_slices", lambda *a, **kw: original(*a, **(kw | {"block_bytes": 1000})))
    assert class_homogeneity(table, labels) == whole


def test_the_papers_ks_are_among_the_default_ones():
    rng = np.random.default_rng(0)
    table = knn_of(rng.normal(size=(1200, 3)), np.arange(5), 1000)
    assert {1, 10, 100, 500, 1000} <= set(class_homogeneity(table, rng.integers(0, 3, 1200)))
    assert list(class_homogeneity(knn(rng.normal(size=(50, 3)), 17), np.arange(50) % 2)) == [1, 2, 5, 10, 17]


def test_labels_may_be_strings():
    rng = np.random.default_rng(0)
    table = knn(rng.normal(size=(60, 3)), 5)
    codes = rng.integers(0, 3, 60)
    assert class_homogeneity(table, codes) == class_homogeneity(table, np.array(["a", "b", "c"])[codes])


def test_standard_error_covers_the_whole():
    """The truth lies within 1.96 standard errors in 95% of 200 samples; 4 sd of that count is 12: 178."""
    rng = np.random.default_rng(1)
    points, labels = rng.normal(size=(1500, 3)), rng.integers(0, 3, 1500)
    points[labels == 1] += 1.5
    whole = knn(points, 20)
    truth = class_homogeneity(whole, labels, ks=[20])[20]
    covered = 0
    for _ in range(200):
        rows = np.sort(rng.choice(1500, 150, replace=False))
        sample = KNN(whole.indices[rows], whole.distances[rows], "euclidean", "flat", 1500, rows)
        error = class_homogeneity_stderr(sample, labels, ks=[20])[20]
        covered += abs(class_homogeneity(sample, labels, ks=[20])[20] - truth) <= 1.96 * error
    assert 178 <= covered < 200
    assert class_homogeneity_stderr(whole, labels, ks=[1, 20]) == {1: 0.0, 20: 0.0}


@pytest.mark.parametrize("ks", [[0], [6], [1, 2.5], [True], []])
def test_bad_ks(ks):
    rng = np.random.default_rng(0)
    table = knn(rng.normal(size=(20, 2)), 5)
    with pytest.raises(InputError, match=r"k\b|ks"):
        class_homogeneity(table, np.arange(20) % 2, ks=ks)


def test_class_homogeneity_needs_a_table_of_the_points_themselves():
    rng = np.random.default_rng(0)
    table = knn_between(rng.normal(size=(5, 2)), rng.normal(size=(20, 2)), 3)
    with pytest.raises(InputError, match="of the labeled points themselves"):
        class_homogeneity(table, np.arange(20) % 2)


def test_labels_of_another_length():
    table = knn(np.random.default_rng(0).normal(size=(20, 2)), 3)
    with pytest.raises(InputError, match="one label per row"):
        class_homogeneity(table, np.arange(19) % 2)


@st.composite
def labeled_points(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_classes = draw(st.integers(2, 6))
    n, d = draw(st.integers(n_classes + 1, 60)), draw(st.integers(1, 8))
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    points = rng.normal(size=(n, d)) + draw(st.sampled_from([0.0, 3.0])) * rng.normal(size=(n_classes, d))[labels]
    return points, labels, rng


@settings(max_examples=100, deadline=None)
@given(labeled_points())
def test_calinski_harabasz_equals_scikit_learn(case):
    points, labels, _ = case
    assert calinski_harabasz(points, labels) == pytest.approx(calinski_harabasz_score(points, labels), rel=1e-10)


@settings(max_examples=60, deadline=None)
@given(labeled_points())
def test_calinski_harabasz_invariances(case):
    points, labels, rng = case
    value = calinski_harabasz(points, labels)
    order = rng.permutation(len(points))
    rotation, _ = np.linalg.qr(rng.normal(size=(points.shape[1],) * 2))
    renamed = rng.permutation(int(labels.max()) + 1)[labels]
    assert calinski_harabasz(points[order], labels[order]) == pytest.approx(value, rel=1e-9)
    assert calinski_harabasz(points @ rotation, labels) == pytest.approx(value, rel=1e-9)
    assert calinski_harabasz(points * 7.5 + 30, labels) == pytest.approx(value, rel=1e-9)
    assert calinski_harabasz(points, renamed) == pytest.approx(value, rel=1e-9)


def test_an_offset_costs_calinski_harabasz_no_digits():
    """An offset of 1e6 times the spread leaves 1e-16 * 1e6 of each coordinate, hence 1e-9 of the squares."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    points = rng.normal(size=(500, 6)) + labels[:, None]
    plain = calinski_harabasz(points, labels)
    assert calinski_harabasz(points + 1e6, labels) == pytest.approx(plain, rel=1e-8)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", ">f8", "i4", "u1"])
def test_calinski_harabasz_of_other_types(dtype, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    points = (rng.normal(size=(400, 6)) * 8 + 20 * labels[:, None] + 90).clip(0, 250).astype(dtype)
    np.save(tmp_path / "x.npy", points)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    truth = calinski_harabasz_score(points.astype("f8"), labels)
    assert calinski_harabasz(mapped, labels) == pytest.approx(truth, rel=1e-10)
    assert calinski_harabasz(np.asfortranarray(points), labels) == pytest.approx(truth, rel=1e-10)


def test_calinski_harabasz_leaves_unlabelled_points_out():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, 300)
    points = rng.normal(size=(300, 5)) + labels[:, None]
    truth = calinski_harabasz_score(points[labels >= 0], labels[labels >= 0])
    assert calinski_harabasz(points, labels) == pytest.approx(truth, rel=1e-10)


def test_calinski_harabasz_without_variance_within():
    points = np.repeat(np.eye(3), 4, axis=0)
    assert calinski_harabasz(points, np.repeat([0, 1, 2], 4)) == float("inf")
    assert calinski_harabasz(np.ones((6, 2)), np.arange(6) % 2) == 1.0


def test_calinski_harabasz_refuses_bad_input():
    with pytest.raises(InputError, match=r"row 3"):
        calinski_harabasz(np.where(np.arange(10)[:, None] == 3, np.nan, 1.0), np.arange(10) % 2)
    with pytest.raises(InputError, match="more labeled points than classes"):
        calinski_harabasz(np.eye(4), np.arange(4))
    with pytest.raises(InputError, match="at least two classes"):
        calinski_harabasz(np.eye(4), np.zeros(4, dtype=int))
