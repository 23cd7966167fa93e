"""The map of points: repeatable, stratified, near neighbors near."""

import re

import numpy as np
import pytest

from clorg_scale import layout
from clorg_scale.errors import InputError
from clorg_scale.layout import lay_out


def mixture(n, d=20, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    return (rng.standard_normal((3, d))[codes] * 5 + rng.standard_normal((n, d))).astype(np.float32), codes


@pytest.mark.parametrize(("n", "d"), [(3, 1), (3, 60), (9, 2), (10, 2), (12, 1), (50, 60)])
def test_few_points_and_few_features(n, d):
    X, codes = mixture(n, d)
    index, xy, method, placed = lay_out(X, codes)
    assert xy.shape == (n, 2)
    assert np.isfinite(xy).all()
    np.testing.assert_array_equal(index, np.arange(n))
    assert str(n) in method
    np.testing.assert_allclose(placed, xy, atol=1e-4 * np.abs(xy).max())


RNG = np.random.default_rng(3)
EQUAL = {
    "float16": np.full((60, 5), 0.3, np.float16),
    "an offset": np.full((60, 5), 1000.1),
    "zeros": np.zeros((60, 5)),
    "very small": np.full((60, 5), 1e-200),
    "integers": np.full((60, 5), 7),
    "rounding": 0.3 * (1 + 1e-16 * RNG.standard_normal((60, 5))),
}


@pytest.mark.parametrize("X", EQUAL.values(), ids=EQUAL.keys())
@pytest.mark.parametrize("n_points", [60, 30])
def test_equal_points_have_one_position(X, n_points):
    found = lay_out(X, np.zeros(60, np.int64), n_points=n_points)
    assert not found.xy.any()
    assert not found.placed.any()
    assert found.placed.shape == (60, 2)
    assert found.method == f"The {n_points} points laid out are equal, so that the map has a single position."


def test_points_far_from_the_origin_are_not_taken_for_equal():
    """Float64 tells values apart here that would be equal in float32; a large constant feature hides no others."""
    X, codes = mixture(60)
    constant = np.column_stack([np.full(60, 2_000), 0.1 * X]).astype(np.float16)
    assert np.ptp(lay_out(constant, codes).xy, axis=0).min() > 1
    xy = lay_out(1e6 + 1e-3 * X.astype(np.float64), codes).xy
    assert np.isfinite(xy).all()
    assert np.ptp(xy, axis=0).min() > 1


def test_no_package_is_imported_that_the_map_does_not_use(monkeypatch):
    """openTSNE would import PyNNDescent where it is installed, which takes seconds, and search with it or not."""
    monkeypatch.setattr("openTSNE.affinity.get_knn_index", pytest.fail)
    assert lay_out(*mixture(60)).xy.shape == (60, 2)


def test_a_sample_is_stratified_and_repeatable_and_keeps_clusters_apart():
    X, codes = mixture(2_000)
    codes[:30] = 3
    index, xy, *_ = lay_out(X, codes, n_points=600, seed=4)
    assert len(np.unique(index)) == 600
    shares = np.bincount(codes[index]) / 600
    np.testing.assert_allclose(shares, np.bincount(codes) / 2_000, atol=1 / 600)
    again = lay_out(X, codes, n_points=600, seed=4)
    np.testing.assert_array_equal(again[0], index)
    np.testing.assert_array_equal(again[1], xy)
    kept = codes[index] < 3
    distances = ((xy[kept, None] - xy[None, kept]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    nearest = codes[index][kept][distances.argmin(1)]
    assert (nearest == codes[index][kept]).mean() > 0.97


def test_only_sampled_rows_are_kept_in_memory(tmp_path):
    X, codes = mixture(5_000)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    from_map, from_memory = (lay_out(array, codes, n_points=100) for array in (mapped, X))
    np.testing.assert_array_equal(from_map.xy, from_memory.xy)
    np.testing.assert_array_equal(from_map.placed, from_memory.placed)


def test_all_points_are_placed_where_their_neighbors_are(monkeypatch):
    """Classes that t-SNE keeps apart stay apart for the points placed among the landmarks; blocks change nothing."""
    X, codes = mixture(1_500)
    found = lay_out(X, codes, n_points=300, seed=4)
    assert found.placed.shape == (1_500, 2)
    np.testing.assert_array_equal(found.placed[found.rows], found.xy.astype(np.float32))
    landmarks = found.xy.astype(np.float32)
    others = np.setdiff1d(np.arange(1_500), found.rows)
    nearest = ((found.placed[others, None] - landmarks[None]) ** 2).sum(-1).argmin(1)
    assert (codes[found.rows][nearest] == codes[others]).mean() > 0.97
    assert "the 1,200 others are placed among these" in found.method
    shares = [int(share) / 100 for share in re.findall(r"(\d+)%", found.method)]
    assert len(shares) == 2
    assert min(shares) > 2 * 10 / 300  # twice that of neighbors at random
    monkeypatch.setattr(layout, "PLACED_AT_ONCE", 170)
    np.testing.assert_allclose(lay_out(X, codes, n_points=300, seed=4).placed, found.placed, atol=1e-3)


def test_neighbors_kept_by_the_map_are_those_of_brute_force():
    from sklearn.neighbors import NearestNeighbors

    X, codes = mixture(700)
    found = lay_out(X, codes, n_points=200, seed=1)
    others = np.setdiff1d(np.arange(700), found.rows)
    landmarks = found.xy.astype(np.float32)
    in_space = NearestNeighbors(n_neighbors=10).fit(X[found.rows]).kneighbors(X[others], return_distance=False)
    on_map = NearestNeighbors(n_neighbors=10).fit(landmarks).kneighbors(found.placed[others], return_distance=False)
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(in_space, on_map, strict=True)])
    # 20 features are 20 principal components; the sentence rounds to a hundredth.
    stated = re.search(r", (\d+)% if it was placed", found.method)
    assert int(stated[1]) / 100 == pytest.approx(kept, abs=0.0051)


def test_points_among_many_small_clusters_are_placed_in_theirs():
    """Three of the ten nearest landmarks are of the point's own cluster: their middle lies between clusters."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(300, 30))
    codes = np.repeat(np.arange(300), 8)
    X = (centers[codes] + 0.8 * rng.normal(size=(len(codes), 30))).astype(np.float32)
    found = lay_out(X, codes, n_points=900, seed=0)
    of_landmarks, of_placed = map(int, re.search(r", (\d+)% are .* in the sample, (\d+)% if", found.method).groups())
    assert of_placed >= 0.95 * of_landmarks


@pytest.mark.parametrize("perplexity", [0, 0.5, -1, np.nan, np.inf])
def test_perplexities_out_of_range(perplexity):
    with pytest.raises(InputError, match="perplexity must be a number of at least 1"):
        lay_out(*mixture(50), perplexity=perplexity)


def test_perplexity_changes_the_map():
    X, codes = mixture(60)
    maps = [lay_out(X, codes, perplexity=perplexity) for perplexity in (5, 15)]
    assert "perplexity 5)" in maps[0].method
    assert np.abs(maps[0].xy - maps[1].xy).max() > 0.1
    assert "perplexity 19.7)" in lay_out(X, codes, perplexity=500).method
