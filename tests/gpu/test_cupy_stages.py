"""CuPy arrays through RLD, analysis and probes: NumPy stands in for CuPy here, on a GPU it is the real one."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from gpu_data import points, tables
from serial_cupy import host

from clorg_scale.affinity import affinity_graph
from clorg_scale.agreement import agreement
from clorg_scale.analysis.fingerprint import fingerprint
from clorg_scale.analysis.split import given_split, held_out_split
from clorg_scale.analysis.suspects import find_suspects
from clorg_scale.errors import InputError
from clorg_scale.measures import calinski_harabasz
from clorg_scale.neighbors import knn
from clorg_scale.probes.device_sampler import DeviceNeighborSampler
from clorg_scale.probes.sampler import NeighborSampler
from clorg_scale.rld.graph import graph_sums
from clorg_scale.rld.null import affinity_spread
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.sampled.estimate import sampled_sums
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import tile_order


def test_calinski_harabasz(cupy):
    X, codes = points()
    assert calinski_harabasz(cupy.asarray(X), codes) == pytest.approx(calinski_harabasz(X, codes), rel=1e-12)


def test_graph_method_of_rld(cupy):
    table, on_device, codes = tables(cupy)
    for ours, theirs in zip(
        graph_sums(on_device, codes, np.array([1, 0.1, 0.02]), 3.0),
        graph_sums(table, codes, np.array([1, 0.1, 0.02]), 3.0),
        strict=True,
    ):
        np.testing.assert_allclose(ours.get(), theirs, rtol=1e-12)


def test_sampled_rld(cupy, is_stand_in, monkeypatch):
    """With all that is random the same: the sums of the CPU, from tiles of torch."""
    torch_landmarks = pytest.importorskip("clorg_scale.rld.sampled.tiles_torch", reason="torch is not installed")
    device = "cuda"
    if is_stand_in:  # the stand-in, whose arrays torch does not know
        from clorg_scale.rld.exact import device_points
        from clorg_scale.rld.sampled import near_field_torch

        device, torch_side = "cpu", torch_landmarks.on_device
        for room in (torch_landmarks, near_field_torch, device_points):
            monkeypatch.setattr(
                room,
                "on_device",
                lambda place, array: torch_side(place, array.get() if hasattr(array, "get") else array),
            )
    table, on_device, codes = tables(cupy)
    temperatures, results = np.array([1, 0.5, 0.2, 0.05]), []
    for array, near, place in ((points()[0], table, None), (cupy.asarray(points()[0]), on_device, device)):
        ordered = ClassOrderedPoints(array, codes, 5)
        sums = sampled_sums(
            ordered,
            codes,
            NearField.of(near, tile_order(len(codes), 0)),
            temperatures,
            target_error=0.05,
            n_landmarks=100,
            device=place,
        )
        spread = affinity_spread(ordered, temperatures, sums)
        results.append([sums.k, sums.w, np.exp(sums.log_r), sums.stderr, sums.mean_distance, spread])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-9)


def test_the_analysis_parts(cupy):
    table, on_device, codes = tables(cupy)
    X, _ = points()
    digest = fingerprint(cupy.asarray(X))
    changed = X.copy()
    changed[-1, -1] += 1
    assert digest == fingerprint(cupy.asarray(X.copy()))
    others = (changed, X[::-1], X[:, ::-1], X.astype(np.float64), X[:-1], X.reshape(-1))
    assert digest not in {fingerprint(cupy.asarray(np.ascontiguousarray(other))) for other in others}
    density = np.where(codes < 0, np.nan, np.linspace(0, 1, 400)).astype(np.float32)
    rng = np.random.default_rng(3)
    given = np.where(rng.random(400) < 0.2, (codes + 1) % 5, codes)
    ours, theirs = (
        find_suspects(affinity_graph(t), given, list("abcde"), density, n_most=20) for t in (on_device, table)
    )
    assert ours == theirs
    assert len(ours) > 5
    for test in (X[:50], cupy.asarray(X[:50])):
        split = given_split(cupy.asarray(X), codes, test, codes[:50])
        np.testing.assert_array_equal(split.points.get(), np.concatenate([X, X[:50]]))
    on_gpu, on_host = (held_out_split(array, codes, fraction=0.2, seed=1) for array in (cupy.asarray(X), X))
    np.testing.assert_array_equal(on_gpu.points.get(), on_host.points)
    assert agreement(cupy.asarray(codes), given).nmi == agreement(codes, given).nmi


def test_samples_of_neighbors_are_those_of_the_cpu(cupy):
    graph = affinity_graph(knn(points(400)[0], 12, device="cpu"))
    parts = (np.asarray(graph.indptr, np.int32), np.asarray(graph.indices, np.int32), np.asarray(graph.weights))
    seeds = np.random.default_rng(0).permutation(400)[:50]
    ours, theirs = DeviceNeighborSampler(*parts).sample(seeds, [5, 3], seed=9), NeighborSampler(*parts)
    for block, expected in zip(ours, theirs.sample(seeds, [5, 3], seed=9), strict=True):
        assert block.n_targets == expected.n_targets
        assert set(host(block.sources).tolist()) == set(expected.sources.tolist())
        assert [host(part).dtype for part in (block.sources, block.indices, block.indptr_t)] == ["i8", "i4", "i4"]
        if (
            block is ours[-1]
        ):  # the hops before it have other targets first, whose samples are the same but not in order
            np.testing.assert_array_equal(host(block.sources)[:50], seeds)
        dense, turned = (_dense_block(block, end) for end in ("", "_t"))
        np.testing.assert_array_equal(dense, turned.T)
        np.testing.assert_allclose(_by_node(dense, block), _by_node(_dense_block(expected, ""), expected), rtol=1e-6)
    with pytest.raises(InputError, match="fanout must be at least 1"):
        DeviceNeighborSampler(*parts).sample(seeds, [0], seed=0)


def _dense_block(block, end):
    indptr, indices, values = (host(getattr(block, f"{name}{end}")) for name in ("indptr", "indices", "values"))
    shape = (block.n_targets, len(block.sources))
    return sp.csr_matrix((values, indices, indptr), shape=shape[::-1] if end else shape).toarray()


def _by_node(dense, block):
    """(n, n) with rows and columns by the numbers of the nodes."""
    whole, sources = np.zeros((400, 400), np.float32), host(block.sources)
    whole[np.ix_(sources[: block.n_targets], sources)] = dense
    return whole
