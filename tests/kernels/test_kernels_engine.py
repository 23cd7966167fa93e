"""The GPU engine of exact RLD on torch's CPU tensors: everything but the Triton tiles, against the dense definition."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fashion_images import first_images
from points import clustered_points

torch = pytest.importorskip("torch", reason="torch is not installed")

from clorg_scale.errors import InputError
from clorg_scale.rld.definition import dense_sums, modularity_of_sums
from clorg_scale.rld.exact import cpu, gpu, launch_plan
from clorg_scale.rld.exact.device_points import DevicePoints
from clorg_scale.rld.points import ClassOrderedPoints

TEMPERATURES = np.array([0.1, 1, 0.2, 0.5, 0.05])


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads of torch that wait for each other cost more than they bring on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def values_of(k, w, codes):
    """(t,) RLD from sums."""
    return modularity_of_sums(k, w, codes)[0]


def sums_of(X, codes, temperatures=TEMPERATURES, **options):
    points = ClassOrderedPoints(X, codes, int(codes.max()) + 1)
    options = {"kernels": "torch", "device": "cpu", "advance": lambda _: None} | options
    return gpu.exact_sums(points, temperatures, **options)


# Largest error of RLD. Rounding coordinates to 11 bits (8 in bf16) moves a distance by 2^-12 |x| / d / sqrt(features)
# at random, RLD by far less; in 24 dimensions more than on images.
@pytest.mark.parametrize(
    ("precision", "error"), [("fp64", 1e-13), ("ieee", 1e-6), ("tf32", 1e-4), ("fp16", 1e-4), ("bf16", 1e-3)]
)
def test_against_the_dense_definition(precision, error):
    X, codes = clustered_points(0, 700, 24, offset=1000.0)
    k, w, log_r, mu = dense_sums(X, codes, TEMPERATURES)
    sums = sums_of(X, codes, precision=precision)
    np.testing.assert_allclose(values_of(sums.k, sums.w, codes), values_of(k, w, codes), atol=error)
    assert sums.mean_distance == pytest.approx(mu, rel=error)
    if precision == "fp64":
        np.testing.assert_allclose(sums.k, k, rtol=1e-11)
        np.testing.assert_allclose(sums.log_r, log_r, atol=1e-11)
    assert (sums.w[:, codes < 0] == 0).all()


def test_spread_of_the_affinities(monkeypatch):
    """What the deviation over shuffled labels is made of: from all rows exact, from a tenth of them about right."""
    X, codes = clustered_points(0, 700, 24)
    for rows, rtol in ((1024, 1e-6), (70, 0.3)):
        monkeypatch.setattr(gpu, "SPREAD_ROWS", rows)
        sums = sums_of(X, codes, precision="fp64")
        distance = np.sqrt(((X.astype(np.float64)[:, None] - X) ** 2).sum(-1))
        np.fill_diagonal(distance, np.inf)
        for t, temperature in enumerate(TEMPERATURES):
            A = np.exp(-2 * distance / (sums.mean_distance * temperature) - sums.log_r[t][:, None] - sums.log_r[t])
            B = A / A.sum() - np.outer(A.sum(0), A.sum(1)) / A.sum() ** 2
            assert sums.spread[t] == pytest.approx((B**2).sum(), rel=rtol)


def test_the_same_from_the_cpu_engine():
    X, codes = clustered_points(1, 900, 40)
    theirs = cpu.exact_sums(ClassOrderedPoints(X, codes, 5), TEMPERATURES, advance=lambda _: None)
    ours = sums_of(X, codes, precision="ieee")
    np.testing.assert_allclose(ours.k, theirs.k, rtol=1e-4)
    np.testing.assert_allclose(ours.w, theirs.w, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(ours.log_r, theirs.log_r, atol=1e-4)
    assert ours.mean_distance == pytest.approx(theirs.mean_distance, rel=1e-6)


def test_an_estimate_of_mu_is_corrected(monkeypatch):
    """Beyond 20,000 points pass 1 works with mu from random pairs; here from very few of them."""
    X, codes = clustered_points(2, 600, 24)
    monkeypatch.setattr(gpu, "EXACT_MEAN", 0)
    monkeypatch.setattr(gpu, "N_RANDOM_PAIRS", 50_000)
    k, w, _, mu = dense_sums(X, codes, TEMPERATURES)
    sums = sums_of(X, codes, precision="ieee")
    assert sums.mean_distance == pytest.approx(mu, rel=1e-6)
    np.testing.assert_allclose(values_of(sums.k, sums.w, codes), values_of(k, w, codes), atol=2e-6)


@pytest.mark.parametrize("precision", ["fp64", "fp16"])
def test_panels_and_streaming_change_nothing(monkeypatch, precision):
    X, codes = clustered_points(3, 500, 24)
    whole = sums_of(X, codes, precision=precision)
    for rows, resident in ((500, False), (77, True), (77, False)):
        monkeypatch.setattr(gpu, "plan_panels", lambda *_, plan=(rows, resident), **__: plan)
        parts = sums_of(X, codes, precision=precision)
        np.testing.assert_allclose(parts.k, whole.k, rtol=3e-5 if precision == "fp16" else 1e-12)
        again = sums_of(X, codes, precision=precision)
        np.testing.assert_array_equal(parts.k, again.k)


def test_tiny_temperatures():
    X, codes = clustered_points(4, 300, 24)
    X[7] += 40  # an outlier, whose r leaves float32's range first
    temperatures = np.array([0.05, 0.01, 0.001])
    k, w, log_r, _ = dense_sums(X, codes, temperatures)
    sums = sums_of(X, codes, temperatures, precision="ieee")
    assert sums.n_rescued[0] < sums.n_rescued[1] < sums.n_rescued[2]
    np.testing.assert_allclose(sums.log_r, log_r, rtol=2e-6, atol=1e-4)
    # float32 exponents of up to some 10^3 / T: relative errors of A up to 1e-3 at T = 0.001
    np.testing.assert_allclose(values_of(sums.k, sums.w, codes), values_of(k, w, codes), atol=1e-4)


def test_out_of_memory_cuts_the_panels(monkeypatch):
    from clorg_scale.rld.exact import tiles_torch as torch_tiles

    X, codes = clustered_points(5, 400, 8)
    expected = sums_of(X, codes, precision="fp64")
    monkeypatch.setattr(launch_plan, "LEAST_PANEL_ROWS", 32)
    plain = torch_tiles.affinity_sums

    def small_memory(X, Y, *arguments, **options):
        if len(X.x) > 120:
            raise torch.OutOfMemoryError("too large")
        return plain(X, Y, *arguments, **options)

    monkeypatch.setattr(torch_tiles, "affinity_sums", small_memory)
    np.testing.assert_allclose(sums_of(X, codes, precision="fp64").k, expected.k, rtol=1e-12)
    monkeypatch.setattr(launch_plan, "LEAST_PANEL_ROWS", 200)
    with pytest.raises(InputError, match=r"ran out of memory .* free device memory"):
        sums_of(X, codes, precision="fp64")


def test_memory_is_planned():
    """Panels shrink with the memory that may be taken; points are streamed where they do not fit."""
    problem = launch_plan.Problem(1_280_000, 2048, 5, "fp16", torch.device("cpu"), "triton")

    def plan(limit):
        return launch_plan.plan_panels(problem, limit, most=1 << 16)

    resident = problem.n * DevicePoints.bytes_per_point(2048, "fp16")
    assert plan(80 << 30) == (1 << 16, True)
    for limit in (resident + (2 << 30), 3 << 30, 1200 << 20):
        rows, fits = plan(limit)
        points = resident if fits else 4 * rows * DevicePoints.bytes_per_point(2048, "fp16")
        assert fits == (limit > resident)
        assert points + launch_plan.working_bytes(problem, rows) + 49 * 8 * problem.n < limit
    with pytest.raises(InputError, match=r"at least \d+ MB"):
        plan(900 << 20)


def test_bad_input():
    X, codes = clustered_points(6, 100, 8)
    with pytest.raises(InputError, match="precision must be one of"):
        sums_of(X, codes, precision="fp8")
    with pytest.raises(InputError, match=r"at least \d+ MB of device memory"):
        sums_of(X, codes, memory_limit=1000)
    with pytest.raises(InputError, match="All points are identical"):
        sums_of(np.ones_like(X), codes)
    with pytest.raises(InputError, match="need an NVIDIA GPU"):
        sums_of(X, codes, kernels="triton")
    with pytest.raises(InputError, match="no fp64"):
        sums_of(X, codes, kernels="triton", precision="fp64")
    wild = X.copy()
    wild[-1] *= 1e6
    assert np.isfinite(sums_of(wild, codes, precision="tf32").k).all()


@pytest.mark.parametrize(
    ("precision", "error"),
    [
        ("ieee", 1e-6),
        pytest.param("tf32", 1e-5, marks=pytest.mark.slow),
        pytest.param("fp16", 1e-5, marks=pytest.mark.slow),
        pytest.param("bf16", 1e-4, marks=pytest.mark.slow),
    ],
)
def test_fashion_mnist(precision, error):
    """First 3,000 training images, raw / 255, against the dense float64 definition."""
    images, codes = first_images(3_000)
    X = images.astype(np.float32) / 255
    temperatures = np.array([1, 0.5, 0.2, 0.1, 0.05, 0.02])
    sums = sums_of(X, codes, temperatures, precision=precision)
    golden = [0.05948410, 0.14145975, 0.42167732, 0.67613143, 0.75563951, 0.77329243]
    np.testing.assert_allclose(values_of(sums.k, sums.w, codes), golden, atol=error)
    assert sums.mean_distance == pytest.approx(11.379610825, rel=2 * error)


def test_kernels_come_from_the_package():
    """Installed or editable, they are `clorg_scale.kernels`; the name `kernels` is not taken."""
    program = (
        "import importlib.util, clorg_scale.kernels, clorg_scale.kernels.graph as g; "
        "assert importlib.util.find_spec('kernels') is None; assert 'count_edges' in g.source('symmetrize')"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(sys.executable).parent, check=True)
