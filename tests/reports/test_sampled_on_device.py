"""Sampled RLD on a device, with torch on the CPU in the GPU's place: it gives what the compiled loops give."""

import dataclasses

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.rld.null import affinity_spread
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.sampled.estimate import sampled_sums
from clorg_scale.rld.sampled.jackknife import Jackknife, PointSums
from clorg_scale.rld.sampled.landmarks import GROUPS, Drawing, LandmarkPool
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import BLOCK_ROWS, ROWS, RUN, tile_order

torch = pytest.importorskip("torch", reason="torch is not installed")
torch_sampled = pytest.importorskip("clorg_scale.rld.sampled.gpu")
tiles_torch = pytest.importorskip("clorg_scale.rld.sampled.tiles_torch")
from clorg_scale.numerics.segments import keyed_sums
from clorg_scale.rld.sampled import jackknife_torch, near_field_torch

TEMPERATURES = np.array([1.0, 0.5, 0.2, 0.1, 0.05])
CPU = torch.device("cpu")


def mixture(n=700, d=17, n_classes=6, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, n_classes - 1, n)
    X = rng.standard_normal((n_classes, d))[codes + 1] * 1.5 + rng.standard_normal((n, d))
    X[1], X[3], X[10:60] = X[0], X[2] + 1e-4, X[10]
    return X.astype(dtype), codes


def case(temperatures=TEMPERATURES, **how):
    """Sums of these points with given options of `sampled_sums`."""
    X, codes = mixture(**how)
    points = ClassOrderedPoints(X, codes, int(codes.max()) + 1)
    near_field = NearField.of(cs.knn(X, 15), tile_order(len(X), 0))

    def sums(**options):
        given = {"target_error": 0.005, "n_landmarks": 305, "seed": 3} | options
        return sampled_sums(points, codes, near_field, temperatures, **given)

    return sums, points


def values(sums, codes):
    from clorg_scale.rld.modularity import label_modularity

    return label_modularity(sums.k, sums.w, codes, int(codes.max()) + 1).values


@pytest.mark.parametrize("size", [10**6, 400, 90])
@pytest.mark.parametrize("seed", [0, 2**64 - 1, -5])
@pytest.mark.parametrize("wanted", [7, 300, 1000, 10**6])
def test_the_same_landmarks_are_drawn(size, seed, wanted):
    """Bit for bit, whatever the seed: pools of all points and of some, classes taken whole, single points."""
    rng = np.random.default_rng(1)
    codes = rng.choice(7, 1500, p=[0.6, 0.2, 0.1, 0.05, 0.04, 0.009, 0.001]) - 1
    pool = LandmarkPool(codes, size, abs(seed))
    pool.seed = seed
    expected = Drawing(pool, wanted).draw(3, 9)
    drawing = Drawing(pool, wanted, CPU)
    drawn = drawing.draw(3, 9)
    for ours, theirs in zip(drawn, expected, strict=True):
        assert isinstance(ours, torch.Tensor)
        np.testing.assert_array_equal(ours, theirs)
    # The slot of each point of the pool, found from its number.
    tiles, positions = np.divmod(np.arange(6 * len(pool.rows)), len(pool.rows))
    found, slots = drawing.slots_of(drawn, torch.as_tensor(tiles), torch.as_tensor(positions))
    among = (expected.columns[tiles] == positions[:, None]).any(axis=1)
    np.testing.assert_array_equal(found, among)
    np.testing.assert_array_equal(expected.columns[tiles[among], slots[found]], positions[among])
    by_group = tiles_torch.by_group(drawn.weights)
    assert by_group.shape == (6, drawn.columns.shape[1], GROUPS + 1)
    np.testing.assert_array_equal(by_group.sum(2), expected.weights.sum(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "rtol", "temperatures"),
    [
        (np.float32, 1e-4, TEMPERATURES),
        (np.float64, 1e-9, np.array([0.05, 0.3, 0.1, 0.6, 0.15])),
        (np.float32, 1e-4, np.array([0.2])),
    ],
)
def test_sums_are_those_of_the_compiled_loops(dtype, rtol, temperatures, monkeypatch):
    """Any order of temperatures, near pairs in several blocks, tiles in several batches, strata in several chunks."""
    monkeypatch.setitem(tiles_torch.BATCH_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(near_field_torch, "ENTRIES", 2000)
    monkeypatch.setattr(jackknife_torch, "POINTS", 200)
    sums, points = case(temperatures, dtype=dtype)
    ours, theirs = sums(device="cpu"), sums()
    for name in ("k", "w", "log_r", "stderr", "bias", "squares", "mean_distance", "interval"):
        expected = np.asarray(getattr(theirs, name))
        np.testing.assert_allclose(
            getattr(ours, name), expected, rtol=rtol, atol=rtol * abs(expected).max(), err_msg=name
        )
    # What shuffled labels make of it, from other random rows.
    spread = affinity_spread(points, temperatures, ours)
    np.testing.assert_allclose(np.sqrt(ours.spread), np.sqrt(spread), rtol=0.3)


def test_a_round_of_its_own_choice_takes_as_many_landmarks():
    sums, _ = case(n=1500, n_classes=3)
    ours, theirs = (sums(device=device, n_landmarks=None, target_error=0.004) for device in ("cpu", None))
    assert ours.n_landmarks == theirs.n_landmarks > 300
    np.testing.assert_allclose(ours.stderr, theirs.stderr, rtol=1e-4)


@pytest.mark.parametrize("precision", [None, "fp16"])
def test_equal_input_gives_equal_bits(precision):
    sums, _ = case()
    first, second = (sums(device="cpu", precision=precision) for _ in range(2))
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), err_msg=field.name)


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
@pytest.mark.parametrize("offset", [0, 100])
def test_coordinates_in_sixteen_bits_move_the_values_by_a_hundredth_of_the_error(precision, offset):
    """Centered and scaled first: neither an offset nor values out of fp16's range cost digits."""
    X, codes = mixture(d=64)
    table = cs.knn(X, 15)
    near_field = NearField.of(table, tile_order(len(X), 0))

    def found(X, **options):
        options |= {"target_error": 0.005, "n_landmarks": 305}
        sums = sampled_sums(ClassOrderedPoints(X, codes, 5), codes, near_field, TEMPERATURES, **options)
        return values(sums, codes), sums

    expected, theirs = found(X)
    rounded, ours = found(X + np.float32(offset), device="cpu", precision=precision)
    assert ours.precision == precision
    np.testing.assert_allclose(rounded, expected, atol=5e-5)
    np.testing.assert_allclose(ours.stderr, theirs.stderr, rtol=1e-2)


def test_coordinates_out_of_the_range_of_sixteen_bits_are_rounded_to_tf32():
    X, codes = mixture(1200)
    seen = tile_order(1200, 0)[np.random.default_rng(0).permutation(1200)[:1024]]  # of which the scale is made
    X[np.setdiff1d(np.arange(1200), seen)[0]] *= 1e5
    near_field = NearField.of(cs.knn(X, 15), tile_order(len(X), 0))
    points = ClassOrderedPoints(X, codes, 5)
    given = {"target_error": 0.005, "n_landmarks": 305}
    ours = sampled_sums(points, codes, near_field, TEMPERATURES, device="cpu", precision="fp16", **given)
    theirs = sampled_sums(points, codes, near_field, TEMPERATURES, **given)
    assert ours.precision == "tf32"
    np.testing.assert_allclose(values(ours, codes), values(theirs, codes), atol=1e-3)


def test_float64_stays_float64():
    sums, _ = case(n=400, dtype=np.float64)
    assert sums(device="cpu", precision="fp16").precision == "float64"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_that_do_not_fit_the_device_are_streamed(dtype, monkeypatch):
    """The same numbers, from panels of two tiles."""
    sums, _ = case(dtype=dtype)
    whole = sums(device="cpu")
    monkeypatch.setattr(torch_sampled, "PANEL_ROWS", 2 * ROWS)
    loaded = []
    load = torch_sampled.TileOrderedPoints._load

    def noted(self, start, rows):
        loaded.append(start)
        return load(self, start, rows)

    monkeypatch.setattr(torch_sampled.TileOrderedPoints, "_load", noted)
    streamed = sums(device="cpu", memory_limit=1 << 20)
    assert sorted(set(loaded)) == list(range(0, 700, 2 * ROWS))
    for name in ("k", "w", "log_r", "stderr", "spread"):
        expected = getattr(whole, name)
        np.testing.assert_allclose(
            getattr(streamed, name), expected, rtol=1e-4, atol=1e-5 * abs(expected).max(), err_msg=name
        )
    # They are copied as float32 anyway, so fp16 would only cost range.
    assert sums(device="cpu", memory_limit=1 << 20, precision="fp16").precision in ("tf32", "float64")


def test_an_unknown_precision_is_refused():
    sums, _ = case(n=300)
    with pytest.raises(InputError, match="precision must be one of fp16"):
        sums(device="cpu", precision="fp8")


def test_sums_by_key_in_a_fixed_order():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((5000, 3), dtype=torch.float64, generator=generator)
    keys = torch.randint(0, 7, (5000,), generator=generator)
    keys[keys == 3] = 4  # a key without rows, and one with more than a piece's
    expected = np.stack([np.bincount(keys, column, minlength=9) for column in values.T.numpy()], axis=1)
    np.testing.assert_allclose(keyed_sums(values, keys, 9), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(keyed_sums(values, keys, 9), keyed_sums(values, keys, 9))


def test_the_jackknife_of_the_device_is_that_of_the_compiled_loop():
    """Sums of all kinds, unlabelled points, groups that make up all of a sum, classes without affinity within."""
    rng = np.random.default_rng(0)
    n, t, n_classes = 700, 3, 4
    k, sums = rng.random((t, n)), rng.random((2, n, t, GROUPS + 1))
    sums[1] *= sums[0] * 0.5
    w = k * rng.random((t, n))
    sums[:, 5, :, 1:], sums[1, 6:9] = 0, 0
    w[:, 6:9], k[:, 5] = 0, 0
    changes = rng.integers(-32767, 3000, (n, t, GROUPS)).astype(np.int16)
    codes, tiles = rng.integers(-1, n_classes, n), np.arange(n) // 50
    expected = Jackknife(t, n_classes, 3, 0.9)
    ours = jackknife_torch.TorchJackknife(expected.empty(), CPU)
    tensors = (torch.as_tensor(array) for array in (k.T.copy(), w.T.copy(), sums, changes, codes, tiles))
    of_k, of_w = ours.add(PointSums(*tensors))
    expected.add(PointSums(k, w, sums, changes, codes, tiles))
    np.testing.assert_allclose(of_k.T, k, rtol=1e-12)
    np.testing.assert_allclose(of_w.T, w, rtol=1e-12)
    found = ours.result()
    assert (found.n_strata, found.finite_population) == (3, 0.9)
    for name, array in expected.sums._asdict().items():
        np.testing.assert_allclose(getattr(found.sums, name), array, rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(found.values(), expected.values(), rtol=1e-12)


@pytest.mark.parametrize("n", [100, BLOCK_ROWS, 3 * BLOCK_ROWS + 77])
def test_the_order_of_the_tiles_is_that_of_a_stable_sort_by_block(n):
    n_blocks = -(-n // BLOCK_ROWS)
    order = np.argsort(np.arange(n) // RUN % n_blocks, kind="stable")
    random = np.random.default_rng([5, n])
    for start in range(0, n, BLOCK_ROWS):
        random.shuffle(order[start : start + BLOCK_ROWS])
    np.testing.assert_array_equal(tile_order(n, 5), order)
