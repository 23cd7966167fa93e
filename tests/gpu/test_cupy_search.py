"""Searches of CuPy arrays: NumPy stands in for CuPy here, on a GPU it is the real one."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from gpu_data import brute_force, points
from serial_cupy import host

from clorg_scale.neighbors import knn, knn_between, knn_of
from clorg_scale.neighbors.exact import BlockSearch


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
def test_searches(cupy, is_stand_in, metric, monkeypatch):
    """Candidates checked, measured and sorted in CuPy give the table that NumPy gives."""
    if is_stand_in:
        monkeypatch.setattr(
            "clorg_scale.neighbors.engines.exact_engine", lambda _: BlockSearch("flat(test)", brute_force)
        )
    X, _ = points()
    X[50:90] = X[50]  # more duplicates than candidates: rows that are searched again
    on_device = cupy.asarray(X)
    found = {
        "all": (knn(on_device, 7, metric=metric, index="flat", device="cuda"), knn(X, 7, metric=metric, device="cpu")),
        "inverted lists": (knn(on_device, 7, metric=metric, index="ivf", device="cuda"),) * 2,
        "some": (
            knn_of(on_device, [3, 60, 399], 7, metric=metric, device="cuda"),
            knn_of(X, [3, 60, 399], 7, metric=metric, device="cpu"),
        ),
        "others": (
            knn_between(on_device[:20], on_device, 7, metric=metric, device="cuda"),
            knn_between(X[:20], X, 7, metric=metric, device="cpu"),
        ),
    }
    for name, (ours, theirs) in found.items():
        assert type(ours.indices).__module__.startswith("cupy"), name
        assert ours.indices.dtype == np.int32
        np.testing.assert_allclose(host(ours.distances), host(theirs.distances), rtol=1e-6, atol=1e-6, err_msg=name)
        if name == "inverted lists":
            assert ours.measured_recall > 0.9
        elif metric != "inner_product":  # sums of products are rounded in another order
            np.testing.assert_array_equal(host(ours.indices), theirs.indices, err_msg=name)
    assert found["all"][0].recall(on_device) > 0.99


def test_embeddings_that_do_not_fit_are_streamed(cupy, is_stand_in, monkeypatch):
    """Block by block, each copied once while the one before is searched, and the queries not with each of them."""
    if not is_stand_in:
        pytest.skip("the real GPU is too large")
    copied, used = [], []

    class Pinned(np.ndarray):
        pass

    class Context:
        ptr = 0

        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def synchronize(self):
            pass

    def put(array, source, stream):
        assert isinstance(source, Pinned)
        assert isinstance(stream, Context)
        array.host[...] = source
        copied.append(len(source))
        source[...] = np.nan  # the memory is given out again

    def find(queries, block, *arguments):
        assert type(block).__module__ == type(queries).__module__ == "cupy"
        used.append((len(queries), len(block)))
        return brute_force(queries, block, *arguments)

    Context.null = Context()
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        memGetInfo=lambda: (1 << 20, 1 << 20),
        getDevice=int,
        deviceGetAttribute=lambda *_: 0,
    )
    monkeypatch.setattr(
        cupy,
        "cuda",
        types.SimpleNamespace(
            runtime=runtime,
            Stream=Context,
            Device=Context,
            get_current_stream=lambda: Context.null,
        ),
    )
    pinned = types.SimpleNamespace(empty_pinned=lambda shape, dtype: np.empty(shape, dtype).view(Pinned))
    monkeypatch.setitem(sys.modules, "cupyx", pinned)
    monkeypatch.setattr(type(cupy.zeros(1)), "set", put, raising=False)
    monkeypatch.setattr("clorg_scale.neighbors.algorithms.flat_torch.engine", lambda: BlockSearch("flat(test)", find))
    monkeypatch.setattr("clorg_scale.neighbors.memory.LEAST_BLOCKS", 400 << 10)
    X, _ = points(3000, 64)
    ours, theirs = knn(X, 7, index="flat", device="cuda"), knn(X, 7, device="cpu")
    assert type(ours.indices).__module__ == "cupy"
    np.testing.assert_array_equal(host(ours.indices), theirs.indices)
    queries = [rows for (rows, _), (before, _) in zip(used, [(0, 0), *used], strict=False) if rows != before]
    assert len(used) > 2 * len(queries)
    assert sum(copied) < sum(rows for rows, _ in used) + sum(columns for _, columns in used)
