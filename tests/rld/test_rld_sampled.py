"""Sampled RLD against exact RLD: its values, its errors, and the input it accepts."""

import importlib

import numpy as np
import pytest
from fashion_images import SHIPPED, first_images, has_all_images
from points import dense_modularity

import clorg_scale as cs
from clorg_scale.datasets import compact_mixture, locally_dense_mixture
from clorg_scale.errors import InputError
from clorg_scale.rld.definition import dense_affinities, dense_rld
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.sampled import estimate as sampled
from clorg_scale.rld.sampled import landmarks
from clorg_scale.rld.sampled.estimate import sampled_sums
from clorg_scale.rld.sampled.landmarks import GROUPS, Drawing, LandmarkPool
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import tile_order

dispatch = importlib.import_module("clorg_scale.rld.compute")
TEMPERATURES = np.array([1.0, 0.5, 0.2, 0.1, 0.05])


def blobs(n=3000, d=12, n_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_classes, n)
    return (rng.standard_normal((n_classes, d))[codes] * 1.5 + rng.standard_normal((n, d))).astype(np.float32), codes


class Prepared:
    """Embeddings with what all seeds have in common: the near field and the exact values."""

    def __init__(self, X, codes, k=15):
        self.X, self.codes = X, np.asarray(codes, np.int64)
        self.points = ClassOrderedPoints(X, self.codes, int(self.codes.max()) + 1)
        self.near_field = NearField.of(cs.knn(X, k), tile_order(len(X), 0))
        self.exact = cs.rld(X, codes, temperatures=TEMPERATURES, method="exact")

    def estimate(self, seed, n_landmarks=None, target_error=0.005):
        from clorg_scale.rld.modularity import label_modularity

        settings = {"seed": seed, "n_landmarks": n_landmarks, "target_error": target_error}
        sums = sampled_sums(self.points, self.codes, self.near_field, TEMPERATURES, **settings)
        parts = label_modularity(sums.k, sums.w, self.codes, int(self.codes.max()) + 1)
        return parts.values - self.exact.values, sums.stderr, sums


@pytest.fixture(scope="module")
def fashion():
    """The first 5,000 images, or as many as come with the tests."""
    images, labels = first_images(5_000 if has_all_images() else SHIPPED)
    return Prepared((images / np.float32(255)).astype(np.float32), labels)


def test_landmarks_stand_for_all_points_of_their_classes():
    rng = np.random.default_rng(0)
    codes = rng.choice(7, 20_000, p=[0.6, 0.2, 0.1, 0.05, 0.04, 0.009, 0.001]) - 1
    sizes = np.bincount(codes + 1)
    pool = LandmarkPool(codes, 4000, 3)
    assert len(set(pool.rows)) == len(pool.rows)
    np.testing.assert_array_equal(pool.codes, codes[pool.rows])
    assert set(np.flatnonzero(codes == 5)) <= set(pool.rows)  # some twenty points
    for wanted in (7, 300, 1000):
        sets = Drawing(pool, wanted).draw(0, 40)
        for positions, weights in zip(sets.columns, sets.weights, strict=True):
            present = positions >= 0
            columns, all_weights = positions[present], weights.sum(axis=0)[present]
            assert (weights[:, ~present] == 0).all()
            assert ((weights > 0).sum(axis=0)[present] == 1).all()
            assert len(set(columns)) == len(columns)
            np.testing.assert_allclose(np.bincount(pool.codes[columns] + 1, all_weights), sizes)
            whole = set(positions[weights[1] > 0])
            for code in range(-1, 6):
                own = set(np.flatnonzero(pool.codes == code))
                assert own <= whole or not own & whole
        again = Drawing(pool, wanted).draw(7, 9)
        for tile in range(2):
            for ours, theirs in (
                (again.columns[tile], sets.columns[7 + tile]),
                *zip(again.weights[tile], sets.weights[7 + tile], strict=True),
            ):
                np.testing.assert_array_equal(ours[ours > 0], theirs[theirs > 0])
    # 1,000 landmarks: as many of every group; of the class of 12,000 every one of the pool's equally likely.
    by_group = (sets.weights[:, 0, : sets.columns.shape[1] // GROUPS * GROUPS] > 0).reshape(40, -1, GROUPS).sum(axis=1)
    assert np.ptp(by_group) <= 1
    many = Drawing(pool, 300).draw(0, 4000)
    drawn = many.columns[many.columns >= 0]
    largest = np.bincount(drawn, minlength=len(pool.rows))[pool.codes == -1]
    largest = largest[: len(largest) // GROUPS * GROUPS]
    # Binomial: 5 standard deviations.
    np.testing.assert_allclose(largest, largest.mean(), atol=5 * np.sqrt(largest.mean()))


def splitmix64(seed, tile, code):
    """In unsigned Python integers, whatever their width."""
    mask, word = 2**64 - 1, seed % 2**64
    for number in (tile, code, 0):
        word = ((word ^ number) + 0x9E3779B97F4A7C15) & mask
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        word ^= word >> 31
    return word


@pytest.mark.parametrize("seed", [0, 3, 2**64 - 1, -5])
def test_random_words_of_tiles_and_classes_are_those_of_splitmix64(seed):
    words = landmarks._random_words(seed, np.arange(5, 9)[:, None], np.arange(3))
    expected = [[splitmix64(seed, tile, code) for code in range(3)] for tile in range(5, 9)]
    np.testing.assert_array_equal(words.view(np.uint64), np.array(expected, dtype=np.uint64))


def test_pool_of_all_points_taken_whole():
    pool = LandmarkPool(np.arange(100) % 3, 10**6, 0)
    sets = Drawing(pool, 10**6).draw(0, 2)
    np.testing.assert_array_equal(np.sort(sets.columns, axis=1), [np.arange(100)] * 2)
    np.testing.assert_array_equal(sets.weights, [[np.zeros(100), np.ones(100)]] * 2)


def test_with_all_points_as_landmarks_it_is_exact():
    X, codes = blobs(700)
    prepared = Prepared(X, codes)
    error, stderr, sums = prepared.estimate(0, n_landmarks=10**6)
    assert sums.n_landmarks == 700
    np.testing.assert_allclose(error, 0, atol=2e-3)  # mu is of random pairs, and its error is stated
    assert np.all(np.abs(error) < 4 * stderr + 1e-6)
    _, _, local, _ = dense_rld(X.astype(np.float64), codes, TEMPERATURES * sums.mean_distance / _mu(X))
    np.testing.assert_allclose(sums.w / sums.k, local, atol=1e-5)


def _mu(X):
    n = len(X)
    return np.sqrt(((X[:, None].astype(np.float64) - X[None]) ** 2).sum(-1)).sum() / (n * (n - 1))


@pytest.mark.slow
def test_every_sum_is_unbiased_and_the_error_says_how_far_it_is(fashion):
    """305 landmarks wanted, 40 seeds: sd at most .008; of 200 intervals of 95 % at least 88 % cover (190 +- 3 s 3.1,
    three times that for the temperatures of one seed, which go together).
    """
    errors, stderrs, intervals = [], [], []
    for seed in range(40):
        error, stderr, sums = fashion.estimate(seed, n_landmarks=305)
        errors.append(error)
        stderrs.append(stderr)
        intervals.append(sums.interval)
    errors, stderrs, intervals = np.array(errors), np.array(stderrs), np.array(intervals)
    assert np.all(errors.std(axis=0) <= 0.008)
    assert np.all(np.abs(errors.mean(axis=0)) < 4 * errors.std(axis=0) / np.sqrt(40))
    covered = np.abs(errors) <= intervals[:, None] * stderrs
    assert covered.mean() >= 0.88
    assert (np.abs(errors) <= 3 * stderrs).mean() >= 0.97
    # The stated errors are of the size of the true ones: the root mean square over 40 seeds is good to 11 %.
    ratio = np.sqrt((stderrs**2).mean(axis=0) / (errors**2).mean(axis=0))
    assert np.all((ratio > 0.65) & (ratio < 2))


def test_the_result_has_all_that_exact_has(fashion):
    result = cs.rld(fashion.X, fashion.codes, method="sampled", target_error=0.01, seed=1)
    exact = fashion.exact
    assert result.method == "sampled"
    assert result.details["landmarks"] < 3000
    assert result.details["k"] == 15
    assert np.all(np.abs(result.values - exact.values) < 3 * result.stderr)
    assert np.all(result.details["interval"] * result.stderr < 0.016)
    np.testing.assert_allclose(result.per_class, exact.per_class, atol=0.03)
    np.testing.assert_allclose(result.purity, exact.purity, atol=0.06)
    assert np.corrcoef(result.local_density[3], exact.local_density[3])[0, 1] > 0.97
    np.testing.assert_allclose(result.null_mean, exact.null_mean, atol=1e-4)
    np.testing.assert_allclose(result.null_std, exact.null_std, rtol=0.3)
    np.testing.assert_allclose(result.mean_distance, exact.mean_distance, rtol=3e-3)
    again = cs.rld(fashion.X, fashion.codes, method="sampled", target_error=0.01, seed=1)
    np.testing.assert_array_equal(result.values, again.values)
    np.testing.assert_array_equal(result.stderr, again.stderr)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: locally_dense_mixture(6000, 16, seed=1), id="locally dense"),
        pytest.param(lambda: compact_mixture(6000, 16, seed=1), id="compact"),
    ],
)
def test_mixtures(make):
    X, codes = make()
    prepared = Prepared(np.asarray(X, np.float32), codes)
    for seed in range(3):
        error, stderr, _ = prepared.estimate(seed, target_error=0.01)
        assert np.all(np.abs(error) < 4 * stderr + 1e-5)
        assert np.all(np.abs(error) < 0.015)


def test_the_order_of_the_points_does_not_matter():
    """Sorted by cluster and class, tiles in the order of the points would err up to six times as much, all one way."""
    X, codes = (np.asarray(array) for array in locally_dense_mixture(6000, 16, seed=1))
    clusters = np.round(X[:, 0] * 4).astype(int)
    stated, errors = [], []
    for order in (np.arange(6000), np.lexsort((clusters, codes))):
        prepared = Prepared(X[order], codes[order])
        estimates = [prepared.estimate(seed, n_landmarks=305)[:2] for seed in range(8)]
        errors.append(np.sqrt(np.mean([error[:4] ** 2 for error, _ in estimates], axis=0)))
        stated.append(np.sqrt(np.mean([stderr[:4] ** 2 for _, stderr in estimates], axis=0)))
    np.testing.assert_allclose(stated[1], stated[0], rtol=0.1)
    # Of eight errors, (true / stated)^2 is chi^2 / 8: below 3.3 in all but one of 1,000.
    assert np.all(np.array(errors) ** 2 < 3.3 * np.array(stated) ** 2)


def test_landmarks_from_a_part_of_the_points(monkeypatch):
    """What the tiles have in common counts as an error, of 15 degrees of freedom; otherwise there are many more."""
    X, codes = blobs(4000)
    whole = Prepared(X, codes)
    _, stderr, sums = whole.estimate(0, n_landmarks=160)
    assert 1.96 < sums.interval < 2.02
    monkeypatch.setattr(sampled, "POOL_BYTES", 1)
    monkeypatch.setattr(sampled, "LEAST_POOL", 400)
    estimates = [whole.estimate(seed, n_landmarks=160) for seed in range(10)]
    assert all(sums.interval == pytest.approx(2.1314, abs=1e-3) for _, _, sums in estimates)
    errors, stderrs = np.array([error for error, _, _ in estimates]), np.array([se for _, se, _ in estimates])
    assert np.sqrt((stderrs[:, 0] ** 2).mean()) > 1.5 * stderr[0]
    assert np.all((errors**2).mean(axis=0) < 3 * (stderrs**2).mean(axis=0))
    assert np.all(np.abs(errors) < 5 * stderrs)


def test_many_unequal_classes_single_points_and_unlabelled_ones():
    rng = np.random.default_rng(0)
    codes = np.minimum(rng.zipf(1.3, 6000) - 1, 299)
    X = (rng.standard_normal((300, 10))[codes] * 2 + rng.standard_normal((6000, 10))).astype(np.float32)
    codes[:500] = -1
    codes[500:505] = np.arange(300, 305)  # classes of one point
    codes = np.unique(codes, return_inverse=True)[1] - 1
    exact = cs.rld(X, codes, method="exact")
    estimate = cs.rld(X, codes, method="sampled", seed=2)
    assert np.all(np.abs(estimate.values - exact.values) < 4 * estimate.stderr + 1e-5)
    assert np.isnan(estimate.local_density[:, codes < 0]).all()
    assert estimate.per_class.shape == exact.per_class.shape


def test_duplicates_outliers_and_tiny_temperatures():
    X, codes = blobs(2400)
    X[600:900] = X[300:600]
    codes[600:900] = codes[300:600]
    X[:4] *= 25
    temperatures = (0.2, 0.05, 0.02)
    exact = cs.rld(X, codes, temperatures=temperatures, method="exact")
    for seed in range(3):
        estimate = cs.rld(X, codes, temperatures=temperatures, method="sampled", seed=seed)
        assert np.all(np.abs(estimate.values - exact.values) < 4 * estimate.stderr + 1e-4)


@pytest.mark.slow
def test_embeddings_on_disk_of_any_type_and_larger_than_the_limit(tmp_path):
    X, codes = blobs(20_000, 64)
    for dtype in (np.float16, np.float64):
        np.save(tmp_path / "x.npy", X.astype(dtype))
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        result = cs.rld(
            mapped, codes, method="sampled", target_error=0.02, memory_limit="100MB", temperatures=(0.5, 0.1)
        )
        assert np.all(np.isfinite(result.values))
        assert result.details["precision"] == ("float32" if dtype == np.float16 else "float64")
    with pytest.raises(InputError, match="at least"):
        cs.rld(X, codes, method="sampled", memory_limit="10MB")


def test_auto_is_exact_while_that_takes_a_minute_and_gives_the_reason(monkeypatch):
    X, codes = blobs(600)
    small = cs.rld(X, codes, method="auto")
    assert small.method == "exact"
    assert "less than a minute" in small.details["why"]
    monkeypatch.setattr(dispatch, "AT_ONCE", 0)
    monkeypatch.setattr(dispatch, "EXACT_SECONDS", 1e-9)
    large = cs.rld(X, codes, method="auto")
    assert large.method == "sampled"
    assert "more than" in large.details["why"]
    assert "why" not in cs.rld(X, codes, method="exact").details


def test_deviation_of_shuffled_labels_is_that_of_permutations():
    """300 shufflings: their standard deviation is good to 4 %, the formula to 1/n and to the rows it samples."""
    X, codes = blobs(600, 6, 4)
    temperatures = (1.0, 0.2, 0.05)
    result = cs.rld(X, codes, temperatures=temperatures, method="exact")
    # The affinities are those of the definition; the labels alone are shuffled.
    affinities = np.stack([dense.A for dense in dense_affinities(X, temperatures)])
    np.testing.assert_allclose(dense_modularity(affinities, codes), dense_rld(X, codes, temperatures)[0], atol=1e-12)
    rng = np.random.default_rng(0)
    values = np.array([dense_modularity(affinities, rng.permutation(codes)) for _ in range(300)])
    np.testing.assert_allclose(result.null_std, values.std(axis=0), rtol=0.25)
    np.testing.assert_allclose(result.null_mean, values.mean(axis=0), atol=4 * values.std(axis=0).max() / np.sqrt(300))


@pytest.mark.slow
def test_subsets_are_other_numbers_at_small_temperatures(fashion):
    found = cs.rld_of_subsets(fashion.X, fashion.codes, sizes=(500, 2000), n_subsets=12, seed=1)
    np.testing.assert_array_equal(found.sizes, [500, 2000])
    np.testing.assert_allclose(found.whole.values, fashion.exact.values, atol=1e-6)
    np.testing.assert_allclose(found.values - found.whole.values, found.difference)
    # Nearest neighbors are farther apart in a subset: at T = .05 it falls short.
    assert np.all(found.difference[:, 4] < -2 * found.stderr[:, 4])
    assert found.difference[0, 4] < found.difference[1, 4]
    assert np.all(np.abs(found.difference[:, 0]) < 6 * found.stderr[:, 0] + 0.01)
    again = cs.rld_of_subsets(fashion.X, fashion.codes, sizes=(500, 2000), n_subsets=12, seed=1)
    np.testing.assert_array_equal(found.values, again.values)


@pytest.mark.parametrize(("what", "message"), [({"sizes": (2,)}, "from 3 to"), ({"n_subsets": 1}, "2 or more")])
def test_subsets_that_cannot_be(what, message):
    X, codes = blobs(60)
    with pytest.raises(InputError, match=message):
        cs.rld_of_subsets(X, codes, **what)


@pytest.mark.parametrize(("n", "dtype", "rtol"), [(1300, np.float32, 1e-4), (1300, np.float64, 1e-10)])
def test_tiles_of_torch_give_the_same_sums(n, dtype, rtol, monkeypatch):
    """Ragged last tile, unlabelled points, duplicates, near-duplicates, classes taken whole, several batches."""
    pytest.importorskip("torch", reason="torch is not installed")
    from clorg_scale.rld.sampled import tiles_torch

    monkeypatch.setitem(tiles_torch.BATCH_BYTES, "cpu", 2 << 20)
    monkeypatch.setattr(tiles_torch, "NEAR_BYTES", 1 << 10)
    X, codes = blobs(n, 17, 6)
    X, codes = X.astype(dtype), codes - 1
    X[1], X[3], X[10:60] = X[0], X[2] + 1e-4, X[10]
    codes[codes == 4] = np.where(np.arange(np.count_nonzero(codes == 4)) < 20, 4, -1)
    points, near_field = ClassOrderedPoints(X, codes, 5), NearField.of(cs.knn(X, 15), tile_order(n, 0))
    ours, theirs = (
        sampled_sums(
            points, codes, near_field, TEMPERATURES, target_error=0.005, n_landmarks=305, seed=3, device=device
        )
        for device in ("cpu", None)
    )
    for name in ("k", "w", "log_r", "stderr", "bias", "squares"):
        expected = getattr(theirs, name)
        np.testing.assert_allclose(
            getattr(ours, name), expected, rtol=rtol, atol=rtol * abs(expected).max(), err_msg=name
        )


def test_a_device_without_memory_gives_one_message(monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from clorg_scale.rld.sampled import tiles_torch

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiles_torch, "_recompute", full)
    X, codes = blobs(300)
    near_field = NearField.of(cs.knn(X, 5), tile_order(len(X), 0))
    with pytest.raises(InputError, match="ran out of memory in sampled RLD"):
        sampled_sums(ClassOrderedPoints(X, codes, 5), codes, near_field, TEMPERATURES, target_error=1, device="cpu")


def test_no_round_repeats_the_landmarks_of_the_one_before(monkeypatch):
    """Of 60 classes a tile takes 16 landmarks each, whether 256 are asked for or 900."""
    prepared = Prepared(*blobs(n=6000, n_classes=60))
    rounds = []
    estimate = sampled._Estimator.estimate

    def noted(self, n_landmarks, *, progress):
        found = estimate(self, n_landmarks, progress=progress)
        rounds.append((found.n_landmarks, self.times_variance(found)))
        return found

    monkeypatch.setattr(sampled._Estimator, "estimate", noted)
    for target in (0.5, 0.0007):
        rounds.clear()
        error, stderr, _ = prepared.estimate(0, target_error=target)
        taken = [n for n, _ in rounds]
        assert taken[0] == 60 * GROUPS
        assert (np.diff(taken) > 0).all()
        assert rounds[-1][1] <= sampled.VARIANCE_TOLERANCE
        assert (np.abs(error) <= 4 * stderr).all()
    assert len(rounds) > 1
