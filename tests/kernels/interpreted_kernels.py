"""The Triton kernels on the CPU, in Triton's interpreter; run by test_kernels_rld.py in a process of its own."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
import triton.language as tl
from clorg_scale.kernels import rld_launch, rld_reference, rld_tiles
from clorg_scale.kernels.rld_panels import Exponents, Launch, Panel, Weights
from points import clustered_points
from triton.runtime import interpreter

from clorg_scale.rld.definition import dense_sums, modularity_of_sums
from clorg_scale.rld.exact import device_points, gpu, launch_plan
from clorg_scale.rld.exact.device_points import DevicePoints
from clorg_scale.rld.points import NEAR, ClassOrderedPoints

TEMPERATURES = np.array([1, 0.5, 0.2, 0.1])
SQUARE_OF = [-1, 0, -1, 2]


@pytest.fixture(autouse=True)
def language_replaced_once(monkeypatch):
    """The interpreter replaces its language's functions anew where a helper is called: half of these tests' time."""
    replace = getattr(interpreter, "_patch_lang", None)

    def replace_if_needed(function):
        modules = [
            module for module in (tl, tl.core) if any(value is module for value in function.__globals__.values())
        ]
        if all(hasattr(module.load, "replaced") for module in modules):
            return types.SimpleNamespace(restore=lambda: None)
        scope = replace(function)
        for module in modules:
            module.load.replaced = True
        return scope

    if replace is not None:
        monkeypatch.setattr(interpreter, "_patch_lang", replace_if_needed)


def values_of(k, w, codes):
    """(t,) RLD from sums."""
    return modularity_of_sums(k, w, codes)[0]


def test_interpreter_is_on():
    assert rld_launch.INTERPRETED


def panel(X, codes, precision, start=0):
    """Points as the engine holds them, and the rounded coordinates."""
    points = ClassOrderedPoints(X, codes, 8)
    points.mean[:] = 0
    held = DevicePoints(points, torch.device("cpu"), precision, resident=True)
    x = held._all
    return Panel(x.x, x.norms, x.codes, start), x.x[:, : X.shape[1]].double().numpy(), x.codes.numpy()


def near_pairs(left_out):
    """Row and column numbers of the pairs that a pass left out."""
    found = [torch.nonzero(near.masks, as_tuple=True) for near in left_out]
    i = [near.rows[tile] + i for near, (tile, i, _) in zip(left_out, found, strict=True)]
    j = [near.columns[tile] + j for near, (tile, _, j) in zip(left_out, found, strict=True)]
    return (torch.cat(i).numpy(), torch.cat(j).numpy()) if i else (np.empty(0, int), np.empty(0, int))


# n, m (None: the panel with itself), d, precision, rows, columns, pieces of a tile
SHAPES = [
    (37, None, 2, "ieee", 16, 32, 2),
    (70, None, 17, "tf32x3", 32, 16, 1),
    (33, None, 128, "fp16", 16, 16, 2),
    (41, 21, 17, "tf32", 16, 32, 4),
    (16, 33, 128, "fp16", 16, 32, 2),
    (1, 2, 2, "ieee", 16, 16, 1),
]


@pytest.mark.parametrize(("n", "m", "d", "precision", "rows", "columns", "pieces"), SHAPES)
def test_passes_against_coordinates(n, m, d, precision, rows, columns, pieces):
    config = rld_launch.tile_config(precision)._replace(m=rows, n=columns, k=32, pieces=pieces, run=2, group=2)
    X, codes = clustered_points(n, max(n, 8), d)
    P, x, cx = panel(X[:n], codes[:n], precision)
    Q, y, cy = P, x, cx
    if m is not None:
        Y, other = clustered_points(n + 1, max(m, 8), d)
        Y[0] = X[-1]
        Q, y, cy = panel(Y[:m], other[:m] % 3 + 4 * (m == 33), precision, start=n)
    scale = np.sqrt((x**2).sum(1).mean())
    rates = -np.log2(np.e) / (1.4 * scale * TEMPERATURES)
    exponents = Exponents(torch.tensor(rates), torch.tensor(SQUARE_OF, dtype=torch.int32))
    launch = Launch(precision, NEAR, 64)

    if m is None and n > 1:
        needed = rld_launch.kernel_sums(P, Q, exponents, launch._replace(capacity=0), config=config)
        assert isinstance(needed, int)
        assert needed >= -(-n // max(rows, columns))
    result = rld_launch.kernel_sums(P, Q, exponents, launch, config=config)
    over_rows, over_columns, total = (sums.numpy() for sums in result[:3])
    i, j = near_pairs(result.near_pairs)
    assert (i < j).all() if m is None else True
    distance = np.sqrt(((x[i] - y[j]) ** 2).sum(1))
    assert (distance**2 < 1.2e-3 * ((x[i] ** 2).sum(1) + (y[j] ** 2).sum(1))).all()
    e = np.exp2(rates[:, None] * distance)
    np.add.at(over_rows.T, i, np.concatenate([e, e * distance]).T)
    np.add.at(over_columns.T, j, np.concatenate([e, e * distance]).T)
    expected, S = rld_reference.kernel_sums(x, y, rates, diagonal=m is None)
    np.testing.assert_allclose(over_rows, expected.over_rows, rtol=2e-5, atol=0)
    np.testing.assert_allclose(over_columns, expected.over_columns, rtol=2e-5, atol=0)
    R, R_columns = expected.over_rows[:4], expected.over_columns[:4]
    np.testing.assert_allclose(total + distance.sum(), S, rtol=1e-5)

    r = R + R_columns if m is None else R
    logs = np.log2(r), np.log2(r if m is None else R_columns)
    expected = rld_reference.affinity_sums(x, y, rates, logs, (cx, cy), diagonal=m is None)
    for log_space in (False, True):
        weights = logs if log_space else (np.exp2(-logs[0]), np.exp2(-logs[1]))
        on_device = Weights(*(torch.tensor(w, dtype=torch.float32) for w in weights), log_space)
        over_rows, over_columns, left_out = rld_launch.affinity_sums(P, Q, exponents, on_device, launch, config=config)
        over_rows, over_columns = over_rows.numpy(), over_columns.numpy()
        if not log_space:
            over_rows, over_columns = (
                over * np.tile(w, (2, 1)) for over, w in zip((over_rows, over_columns), weights, strict=True)
            )
        i, j = near_pairs(left_out)
        distance = np.sqrt(((x[i] - y[j]) ** 2).sum(1))
        a = np.exp2(2 * rates[:, None] * distance - logs[0][:, i] - logs[1][:, j])
        same = (cx[i] == cy[j]) & (cx[i] >= 0)
        both = np.concatenate([a * ~same, a * same])
        np.add.at(over_rows.T, i, both.T)
        np.add.at(over_columns.T, j, both.T)
        np.testing.assert_allclose(over_rows, expected.over_rows, rtol=5e-5, atol=1e-12)
        np.testing.assert_allclose(over_columns, expected.over_columns, rtol=5e-5, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES[2:4])
def test_passes_with_tensor_descriptors(monkeypatch, shape):
    """The loads that Hopper uses."""
    constants = rld_launch._constants
    monkeypatch.setattr(rld_launch, "_constants", lambda *a: constants(*a) | {"TMA": True})
    test_passes_against_coordinates(*shape)


def test_buffers_are_within_the_plan(monkeypatch):
    """A pair of panels takes, in every input mode, what the engine plans."""
    X, codes = clustered_points(0, 700, 64)
    for precision in rld_launch.PRECISIONS:
        P, _, _ = panel(X, codes, precision)
        config = rld_launch.tile_config(precision)
        launch = Launch(precision, NEAR, launch_plan.near_tiles(700))
        row_sums, column_sums, near = rld_launch._buffers(P, P, 10, launch, config)
        taken = sum(array.numel() * array.element_size() for array in (row_sums, column_sums, *near))
        monkeypatch.setattr(device_points, "AT_ONCE", 0)
        problem = launch_plan.Problem(700, 64, 5, precision, torch.device("cpu"), "triton")
        planned = launch_plan.working_bytes(problem, 700)
        assert 0.8 * planned < taken <= planned


def test_totals_of_many_parts():
    """Float64 over parts, as many sums as are no multiple of a block."""
    parts = torch.from_numpy(np.random.default_rng(0).random((7, 3, 401), dtype=np.float32))
    np.testing.assert_allclose(rld_launch.sum_over_blocks(parts), parts.double().sum(0), rtol=1e-15)
    assert rld_launch.sum_over_blocks(parts[:, :0]).shape == (0, 401)


def test_tensor_descriptors_where_gpu_and_triton_know_them(monkeypatch):
    x = types.SimpleNamespace(is_cuda=True, device="cuda")
    for capability, expected in (((9, 0), True), ((10, 0), True), ((8, 9), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert rld_launch._has_copy_engine(x) == expected
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.delattr(rld_launch.tl, "make_tensor_descriptor")
    assert not rld_launch._has_copy_engine(x)


def test_engine(monkeypatch):
    """The whole engine on ragged panels, with small tiles, some temperatures beyond float32's range."""
    small = rld_tiles.TileConfig(32, 32, 32, pieces=2, warps=4, stages=2, run=2)
    monkeypatch.setattr(rld_launch, "tile_config", lambda precision: small)
    monkeypatch.setattr(gpu, "plan_panels", lambda *_, **__: (50, False))
    X, codes = clustered_points(5, 97, 24, offset=100.0)
    temperatures = np.array([0.1, 1, 0.2, 0.5, 0.01, 0.003])
    k, w, log_r, mu = dense_sums(X, codes, temperatures)
    points = ClassOrderedPoints(X, codes, 5)
    done = []
    sums = gpu.exact_sums(points, temperatures, precision="tf32x3", kernels="triton", device="cpu", advance=done.append)
    assert sum(done) == 2 * 97 * 96 / 2
    assert abs(sums.mean_distance / mu - 1) < 1e-6
    assert sums.n_rescued[-1] > 0
    assert not sums.n_rescued[:4].any()
    # float32 exponents of up to 1000 at T = 0.003: 1000 x 6e-8
    np.testing.assert_allclose(sums.log_r, log_r, atol=3e-4)
    np.testing.assert_allclose(sums.k[:4], k[:4], rtol=5e-5)
    np.testing.assert_allclose(values_of(sums.k, sums.w, codes)[:4], values_of(k, w, codes)[:4], atol=1e-6)
    np.testing.assert_allclose(values_of(sums.k, sums.w, codes), values_of(k, w, codes), atol=2e-5)


def test_engine_is_deterministic_and_splits_where_lists_overflow(monkeypatch):
    """Points so close together that every pair is near: panels are cut until their lists fit."""
    small = rld_tiles.TileConfig(16, 16, 32, pieces=1, warps=4, stages=2, run=2)
    monkeypatch.setattr(rld_launch, "tile_config", lambda precision: small)
    monkeypatch.setattr(launch_plan, "LEAST_PANEL_ROWS", 8)
    monkeypatch.setattr(launch_plan, "SPARE_TILES", -1)
    rng = np.random.default_rng(0)
    codes = np.arange(36) % 2
    X = (np.eye(2)[codes] * 1000 + rng.normal(size=(36, 2))).astype(np.float32)
    k, w, _, _ = dense_sums(X, codes, [1.0, 0.1])
    cut = []
    quarters = gpu._quarters
    monkeypatch.setattr(gpu, "_quarters", lambda X, Y: cut.append(len(X.x)) or quarters(X, Y))
    how = {"precision": "ieee", "kernels": "triton", "device": "cpu"}
    first, second = (
        gpu.exact_sums(ClassOrderedPoints(X, codes, 2), np.array([1.0, 0.1]), **how, advance=lambda _: None)
        for _ in range(2)
    )
    assert 36 in cut
    np.testing.assert_allclose(values_of(first.k, first.w, codes), values_of(k, w, codes), atol=1e-6)
    np.testing.assert_array_equal(first.k, second.k)
    np.testing.assert_array_equal(first.log_r, second.log_r)
