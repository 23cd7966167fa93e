"""Exact RLD against the dense float64 definition, the golden numbers, and its invariances."""

import numpy as np
import pytest
from fashion_images import first_images
from hypothesis import given, settings
from hypothesis import strategies as st
from points import dense_modularity

import clorg_scale as cs
from clorg_scale.rld.definition import dense_affinities, dense_rld, dense_sums
from clorg_scale.rld.exact.tiles_numba import TILE
from clorg_scale.rld.modularity import shuffled_labels

PAPER = (1.0, 0.5, 0.2, 0.1)
MANY = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)

GOLDEN_MU = {3_000: 11.379610825, 10_000: 11.397504523, 30_000: 11.375605}
GOLDEN_TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
GOLDEN = {
    3_000: (0.05948410, 0.14145975, 0.42167732, 0.67613143, 0.75563951, 0.77329243),
    10_000: (0.05867782, 0.13912819, 0.41698408, 0.67867627, 0.78794018, 0.79728656),
    30_000: (0.057515, 0.136185, 0.410804, 0.678832, 0.801271, 0.817935),
}


def mixture(n, d, n_classes=4, seed=0, spread=2.0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_classes, n)
    return rng.standard_normal((n_classes, d))[codes] * spread + rng.standard_normal((n, d)), codes


@pytest.mark.parametrize("n", [3, 4, 50, TILE, TILE + 1, 1_300])
@pytest.mark.parametrize("d", [1, 2, 17, 128])
def test_float64_equals_the_dense_definition(n, d):
    X, codes = mixture(n, d)
    codes[:2] = 0, 1
    codes = np.unique(codes, return_inverse=True)[1]
    result = cs.rld(X, codes, temperatures=MANY, method="exact")
    values, per_class, local, mu = dense_rld(X, codes, MANY)
    np.testing.assert_allclose(result.values, values, atol=1e-10)
    np.testing.assert_allclose(result.per_class, per_class, atol=1e-10)
    np.testing.assert_allclose(result.local_density, local, atol=1e-6)
    assert result.mean_distance == pytest.approx(mu, rel=1e-12)
    assert (result.stderr == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, ">f4", np.int64])
def test_lower_precision_is_within_1e_5_of_the_definition_on_the_rounded_points(dtype):
    X, codes = mixture(1_200, 40, spread=1.0)
    X = np.round(X * 20 + 100).astype(dtype) if np.dtype(dtype).kind in "iu" else X.astype(dtype)
    result = cs.rld(X, codes, temperatures=MANY, method="exact")
    values, per_class, _, _ = dense_rld(X.astype(np.float64), codes, MANY)
    np.testing.assert_allclose(result.values, values, atol=2e-6)
    np.testing.assert_allclose(result.per_class, per_class, atol=2e-6)


@pytest.mark.parametrize("n", [3_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_golden_numbers_to_the_last_digit_in_float64(n):
    images, labels = first_images(n)
    result = cs.rld(images / 255, labels, temperatures=GOLDEN_TEMPERATURES, method="exact")
    np.testing.assert_allclose(result.values, GOLDEN[n], atol=0.51e-8)
    assert result.mean_distance == pytest.approx(GOLDEN_MU[n], abs=0.51e-9)


@pytest.mark.parametrize("n", [3_000, pytest.param(30_000, marks=pytest.mark.slow)])
def test_golden_numbers_in_float32(n):
    """One panel of points, and three."""
    images, labels = first_images(n)
    X = (images / 255).astype(np.float32)
    result = cs.rld(X, labels, temperatures=GOLDEN_TEMPERATURES, method="exact")
    np.testing.assert_allclose(result.values, GOLDEN[n], atol=1e-6)
    assert result.mean_distance == pytest.approx(GOLDEN_MU[n], rel=1e-6)


def test_raw_bytes_give_the_same_as_their_scaled_floats():
    images, labels = first_images(3_000)
    result = cs.rld(images, labels, temperatures=GOLDEN_TEMPERATURES, method="exact")
    np.testing.assert_allclose(result.values, GOLDEN[3_000], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(6, 60), d=st.integers(1, 6), scale=st.floats(1e-3, 1e3))
def test_translation_rotation_scaling_and_order_do_not_matter(seed, n, d, scale):
    rng = np.random.default_rng(seed)
    X, codes = mixture(n, d, n_classes=3, seed=seed)
    codes[:3] = 0, 1, 2
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    moved = (X @ rotation) * scale + rng.standard_normal(d) * 10 * scale
    order = rng.permutation(n)
    names = np.array(["zebra", "ant", "cow"])
    before = cs.rld(X, codes, temperatures=PAPER, method="exact")
    after = cs.rld(moved[order], names[codes[order]], temperatures=PAPER, method="exact")
    np.testing.assert_allclose(after.values, before.values, atol=1e-9)
    np.testing.assert_allclose(after.local_density, before.local_density[:, order], atol=1e-5)
    np.testing.assert_allclose(after.per_class, before.per_class[:, [1, 2, 0]], atol=1e-9)
    assert (before.values <= 1 - 1 / 3 + 1e-12).all()
    np.testing.assert_allclose(before.per_class.sum(1), before.values, atol=1e-12)


def test_an_offset_of_a_thousand_spreads_costs_no_digits():
    X, codes = mixture(700, 30)
    plain = cs.rld(X, codes, method="exact").values
    offset = cs.rld(X + 1000 * X.std(), codes, method="exact").values
    np.testing.assert_allclose(offset, plain, atol=1e-11)
    single = cs.rld((X + 1000 * X.std()).astype(np.float32), codes, method="exact").values
    rounded = dense_rld(
        (X + 1000 * X.std()).astype(np.float32).astype(np.float64), codes, cs.rld(X, codes).temperatures
    )[0]
    np.testing.assert_allclose(single, rounded, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_and_near_duplicates(dtype):
    X, codes = mixture(400, 64)
    X = np.concatenate([X, X[:200], X[200:400] * (1 + 1e-6)]).astype(dtype)
    codes = np.concatenate([codes, codes])
    result = cs.rld(X, codes, temperatures=MANY, method="exact")
    values, _, local, _ = dense_rld(X.astype(np.float64), codes, MANY)
    np.testing.assert_allclose(result.values, values, atol=3e-6)
    np.testing.assert_allclose(result.local_density, local, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outliers_and_tiny_temperatures_do_not_underflow(dtype):
    X, codes = mixture(600, 200, spread=0.3)
    X[:3] *= 30
    temperatures = (0.05, 0.02, 0.01, 0.005)
    result = cs.rld(X.astype(dtype), codes, temperatures=temperatures, method="exact")
    values, _, _, _ = dense_rld(X.astype(dtype).astype(np.float64), codes, temperatures)
    np.testing.assert_allclose(result.values, values, atol=1e-5)
    if dtype == np.float32:
        assert result.details["rescued_rows"] > 0


def test_local_density_of_points_whose_affinities_are_tiny():
    """An outlier's k is many orders below the others'; the share of its own class in it is as good as theirs."""
    X, codes = mixture(600, 20)
    X[:5] *= np.linspace(2, 4, 5, dtype=np.float32)[:, None]
    temperatures = (0.2, 0.1, 0.05, 0.025, 0.0125)
    result = cs.rld(X.astype(np.float32), codes, temperatures=temperatures, method="exact")
    _, _, local, _ = dense_rld(X.astype(np.float32).astype(np.float64), codes, temperatures)
    held = np.isfinite(local)  # where the oracle itself does not underflow
    assert held[:, :5].sum() > 10
    np.testing.assert_allclose(result.local_density[held], local[held], atol=3e-4)


def test_unlabelled_points_are_in_the_graph_and_in_no_class():
    X, codes = mixture(900, 12)
    codes[np.random.default_rng(1).random(900) < 0.3] = -1
    result = cs.rld(X, codes, method="exact")
    values, per_class, local, _ = dense_rld(X, codes, result.temperatures)
    np.testing.assert_allclose(result.values, values, atol=1e-10)
    np.testing.assert_allclose(result.per_class, per_class, atol=1e-10)
    np.testing.assert_allclose(result.local_density, local, atol=1e-6)


def test_a_thousand_classes_and_classes_of_one_point():
    X, _ = mixture(1_500, 8)
    codes = np.arange(1_500) % 1_000
    codes[-1] = 1_000
    result = cs.rld(X, codes, method="exact")
    values, per_class, _, _ = dense_rld(X, codes, result.temperatures)
    np.testing.assert_allclose(result.values, values, atol=1e-10)
    np.testing.assert_allclose(result.per_class, per_class, atol=1e-10)


def test_memory_map_views_and_read_only_arrays_are_read_in_place(tmp_path):
    X, codes = mixture(800, 20)
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    expected = cs.rld(X.astype(np.float32), codes, method="exact").values
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(cs.rld(mapped, codes, method="exact").values, expected)
    wide = np.zeros((800, 40), np.float32)
    wide[:, ::2] = X
    np.testing.assert_array_equal(cs.rld(wide[:, ::2], codes, method="exact").values, expected)
    np.testing.assert_array_equal(
        cs.rld(np.asfortranarray(X.astype(np.float32)), codes, method="exact").values, expected
    )


def test_neither_threads_nor_panels_change_a_bit_and_the_seed_hardly_does():
    from numba import get_num_threads, set_num_threads

    X, codes = mixture(2_000, 16)
    X = X.astype(np.float32)
    expected = cs.rld(X, codes, method="exact")
    threads = get_num_threads()
    set_num_threads(1)
    try:
        np.testing.assert_array_equal(cs.rld(X, codes, method="exact").values, expected.values)
    finally:
        set_num_threads(threads)
    small = cs.rld(X, codes, method="exact", memory_limit="3MB")
    np.testing.assert_allclose(small.values, expected.values, atol=1e-7)
    np.testing.assert_allclose(cs.rld(X, codes, method="exact", seed=7).values, expected.values, atol=2e-7)


def test_memory_stays_linear_in_n():
    import tracemalloc

    X, codes = mixture(12_000, 8)
    X = X.astype(np.float32)
    cs.rld(X[:600], codes[:600], method="exact")
    tracemalloc.start()
    cs.rld(X, codes, method="exact")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000 * 12_000 * 4 / 4


def test_shuffled_labels_have_the_stated_mean():
    X, codes = mixture(300, 5)
    expected = shuffled_labels(dense_sums(X, codes, (1.0, 0.1))[0], codes, 4)
    rng = np.random.default_rng(0)
    affinities = np.stack([dense.A for dense in dense_affinities(X, (1.0, 0.1))])
    labelings = [rng.permutation(codes) for _ in range(200)]
    shuffled = np.array([dense_modularity(affinities, labeling) for labeling in labelings])
    ours = cs.rld(X, labelings[0], temperatures=(1.0, 0.1), method="exact").values
    np.testing.assert_allclose(ours, shuffled[0], atol=1e-10)
    error = shuffled.std(0) / np.sqrt(200)
    assert (abs(shuffled.mean(0) - expected) < 4 * error).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(temperatures=(0.5, 0.0)), "temperatures must be positive"),
        (dict(temperatures=()), "No temperature"),
        (dict(temperatures=("warm",)), "list of numbers"),
        (dict(method="fast"), "method must be"),
        (dict(target_error=0), "target_error"),
        (dict(memory_limit="10kB"), "needs at least .* more than the memory limit of 10 kB"),
        (dict(memory_limit="much"), "memory limit"),
        (dict(device="tpu"), "device must be"),
    ],
)
def test_a_wrong_option_gets_a_sentence(change, sentence):
    X, codes = mixture(100, 5)
    with pytest.raises(cs.InputError, match=sentence):
        cs.rld(X, codes, **({"method": "exact"} | change))


def test_identical_points_get_a_sentence():
    for dtype in (np.float32, np.float64):
        with pytest.raises(cs.InputError, match="identical"):
            cs.rld(np.ones((10, 3), dtype), np.arange(10) % 2, method="exact")


def test_a_gpu_that_is_not_there_gets_a_sentence():
    from clorg_scale.arrays import resolve_device

    if resolve_device("auto") == "cuda":
        pytest.skip("there is a GPU")
    with pytest.raises(cs.InputError, match="doctor"):
        cs.rld(*mixture(50, 3), device="cuda")
