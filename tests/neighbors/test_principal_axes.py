"""The inverted file on principal axes: where they serve, where they do not, and how many candidates they need."""

from __future__ import annotations

import re

import numpy as np
import pytest
from brute_force import assert_clean

from clorg_scale.datasets import locally_dense_mixture
from clorg_scale.neighbors import knn
from clorg_scale.neighbors.algorithms.projection import principal_axes
from clorg_scale.neighbors.points import prepare

N = 4000


def told_apart_outside_the_axes() -> np.ndarray:
    """Groups along 24 features, which hold 95 % of the variance; neighbors in a group differ in 100 others."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 40, N)
    centers = rng.normal(size=(40, 24))
    rest = rng.normal(size=(N, 100)) * 0.1
    return np.hstack([centers[group], rest]).astype(np.float32)


@pytest.fixture(scope="module")
def low_dimensional() -> np.ndarray:
    points, _ = locally_dense_mixture(N, 120, clusters_per_class=10, spread=0.5, n_dimensions=24, seed=1)
    return np.asarray(points)


def test_axes_are_orthonormal_and_hold_the_variance(low_dimensional):
    axes = principal_axes(prepare(low_dimensional, "euclidean")[0], 0)
    assert axes is not None
    assert axes.shape == (120, 32)
    np.testing.assert_allclose(axes.T @ axes, np.eye(32), atol=1e-5)
    centered = low_dimensional - low_dimensional.mean(axis=0)
    assert ((centered @ axes) ** 2).sum() > 0.92 * (centered**2).sum()


def test_few_candidates_suffice_where_neighbors_differ_along_the_axes(low_dimensional):
    table = knn(low_dimensional, 10, index="ivf")
    assert_clean(table)
    assert float(re.search(r"axes=32, candidates=([\d.]+)k", table.index)[1]) <= 2
    assert table.recall(low_dimensional, sample=N) > 0.98
    again = knn(low_dimensional, 10, index="ivf")
    np.testing.assert_array_equal(table.indices, again.indices)


def test_neighbors_outside_the_axes_are_found_without_them():
    points = told_apart_outside_the_axes()
    assert principal_axes(prepare(points, "euclidean")[0], 0) is not None
    table = knn(points, 10, index="ivf")
    assert "axes" not in table.index
    assert table.recall(points, sample=N) > 0.98


def test_no_axes_without_concentrated_variance():
    noise = np.random.default_rng(0).normal(size=(2000, 120))
    assert principal_axes(prepare(noise, "euclidean")[0], 0) is None


def test_no_axes_where_they_save_nothing_or_do_not_apply(low_dimensional):
    assert principal_axes(prepare(low_dimensional[:, :90], "euclidean")[0], 0) is None
    assert principal_axes(prepare(low_dimensional, "inner_product")[0], 0) is None
