"""The map of points: repeatable, stratified, near neighbors near."""

import numpy as np
import pytest

from clorg_scale.layout import lay_out


def mixture(n, d=20, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    return (rng.standard_normal((3, d))[codes] * 5 + rng.standard_normal((n, d))).astype(np.float32), codes


@pytest.mark.parametrize(("n", "d"), [(3, 1), (3, 60), (9, 2), (10, 2), (12, 1), (50, 60)])
def test_few_points_and_few_features(n, d):
    X, codes = mixture(n, d)
    index, xy, method = lay_out(X, codes)
    assert xy.shape == (n, 2)
    assert np.isfinite(xy).all()
    np.testing.assert_array_equal(index, np.arange(n))
    assert str(n) in method


def test_a_sample_is_stratified_and_repeatable_and_keeps_clusters_apart():
    X, codes = mixture(2_000)
    codes[:30] = 3
    index, xy, _ = lay_out(X, codes, n_points=600, seed=4)
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
    from_map = lay_out(mapped, codes, n_points=100)
    np.testing.assert_array_equal(from_map[1], lay_out(X, codes, n_points=100)[1])
