"""Calls into GPU libraries against the libraries' own signatures: these import where there is no GPU."""

import ctypes
import importlib
import inspect
import sys
import types

import numpy as np
import pytest

from clorg_scale.arrays.handles import cugraph_handle, cuvs_resources


def assert_binds(function, *arguments, **named):
    """The call must fit the function's signature, as it is or as its documentation's first line says."""
    inspect.signature(function).bind(*arguments, **named)


def test_pylibcugraph():
    """As `clorg_scale.communities.leiden_pylibcugraph` calls it."""
    library = pytest.importorskip("pylibcugraph")
    assert_binds(library.louvain, "handle", "graph", 100, 1e-7, 1.0, False)
    assert_binds(library.leiden, "handle", 0, "graph", 100, 1.0, 1.0, False)
    names = list(inspect.signature(library.leiden).parameters)
    assert names == [
        "resource_handle",
        "random_state",
        "graph",
        "max_level",
        "resolution",
        "theta",
        "do_expensive_check",
    ]
    names = list(inspect.signature(library.louvain).parameters)
    assert names == ["resource_handle", "graph", "max_level", "threshold", "resolution", "do_expensive_check"]
    library.GraphProperties(is_symmetric=True, is_multigraph=False)
    assert hasattr(library, "ResourceHandle")
    for word in ("weight_array", "store_transposed", "renumber", "do_expensive_check", "input_array_format"):
        assert word in (library.SGGraph.__doc__ or "") + str(_signature(library.SGGraph)), word


@pytest.mark.parametrize("stream", [0, 0xABC0])
def test_cuvs_and_cugraph_read_the_stream_of_one_handle(monkeypatch, stream):
    """cuVS's own library finds CuPy's stream in RAFT's handle; a library with another layout would not."""
    for name in ("cuvs.common", "pylibraft.common", "pylibcugraph"):
        pytest.importorskip(name)
    current = types.SimpleNamespace(ptr=stream)
    cuda = types.SimpleNamespace(get_current_stream=lambda: current)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))
    monkeypatch.setattr("pylibraft.common.DeviceResources", WithoutWaiting)
    read = ctypes.CDLL("libcuvs_c.so").cuvsStreamGet
    read.argtypes = [ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)]
    with cuvs_resources("A test") as resources:
        found = ctypes.c_void_p(1)
        assert read(resources.get_c_obj(), ctypes.byref(found)) == 1  # CUVS_SUCCESS
        assert (found.value or 0) == stream
    with cugraph_handle("A test") as handle:
        assert type(handle).__name__ == "ResourceHandle"


class WithoutWaiting:
    """RAFT's handle on a stream that is not there."""

    def __init__(self, stream):
        self.handle = importlib.import_module("pylibraft.common.handle").DeviceResources(stream=stream)

    def getHandle(self):  # RAFT's own name
        return self.handle.getHandle()

    def sync(self):
        pass


def test_cuvs_brute_force():
    """As `clorg_scale.neighbors.algorithms.flat_cuvs` calls it."""
    brute_force = pytest.importorskip("cuvs.neighbors.brute_force")
    points = np.zeros((4, 2), np.float32)
    assert_binds(brute_force.build, points, metric="sqeuclidean", resources=None)
    assert_binds(brute_force.search, "index", points, 2, neighbors=points, distances=points, resources=None)


def test_cuvs_approximate_indexes():
    """As the modules `cuvs_ivf_flat`, `cuvs_cagra` and `cuvs_nndescent` call them."""
    cagra = pytest.importorskip("cuvs.neighbors.cagra")
    ivf_flat = pytest.importorskip("cuvs.neighbors.ivf_flat")
    all_neighbors = pytest.importorskip("cuvs.neighbors.all_neighbors")
    nn_descent = pytest.importorskip("cuvs.neighbors.nn_descent")
    cagra.IndexParams(metric="sqeuclidean")
    cagra.SearchParams(itopk_size=64)
    ivf_flat.IndexParams(n_lists=16, metric="sqeuclidean")
    ivf_flat.SearchParams(n_probes=4)
    for module in (cagra, ivf_flat):
        assert_binds(module.build, "parameters", "data", resources=None)
        assert_binds(module.search, "parameters", "index", "queries", 5, resources=None)
    assert_binds(all_neighbors.build, "data", 5, "parameters", indices=None, distances=None, resources=None)
    nn_descent.IndexParams(metric="sqeuclidean", graph_degree=32)
    assert "nn_descent_params" in (all_neighbors.AllNeighborsParams.__doc__ or "")


def test_cugraph():
    """As `clorg_scale.affinity.conversions` and the example in bench call it."""
    cugraph = pytest.importorskip("cugraph")
    assert_binds(
        cugraph.Graph.from_cudf_edgelist,
        "graph",
        "frame",
        source="source",
        destination="destination",
        weight="weight",
        renumber=False,
        symmetrize=False,
        vertices="series",
    )
    assert_binds(cugraph.leiden, "graph", resolution=1.0, random_state=0)


def _signature(function):
    try:
        return inspect.signature(function)
    except ValueError:  # compiled classes have none
        return ""
