"""Calls into GPU libraries against the libraries' own signatures: these import where there is no GPU."""

import ctypes
import importlib
import inspect
import sys
import types

import numpy as np
import pytest

from clorg_scale.arrays.frames import _is_numeric
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


def test_cudf():
    """As `clorg_scale.arrays.frames`, `clorg_scale.affinity.conversions` and the example in bench call it."""
    cudf = pytest.importorskip("cudf")
    for kind in (cudf.DataFrame, cudf.Series, cudf.Index):
        assert kind.__module__.partition(".")[0] == "cudf"  # by which columns are known
    for kind in (cudf.DataFrame, cudf.Series):
        assert_binds(kind.isna, "self")
        assert_binds(kind.sum, "self")
        assert isinstance(kind.iloc, property)
        assert isinstance(kind.ndim, property)
    assert not hasattr(cudf.Index, "iloc")  # an index becomes a series
    assert_binds(cudf.Series, "index")
    assert_binds(cudf.DataFrame, {"source": "array"})
    assert_binds(cudf.DataFrame, "matrix", columns=["x0"])
    assert_binds(cudf.DataFrame.to_cupy, "self")
    assert_binds(cudf.DataFrame.drop, "self", columns=["label"])
    assert_binds(cudf.DataFrame.rename, "self", columns={"vertex": "row"})
    assert_binds(cudf.DataFrame.merge, "self", "parts", on="row", how="left")
    assert_binds(cudf.DataFrame.sort_values, "self", "row")
    assert_binds(cudf.DataFrame.groupby, "self", ["label", "community"])
    for name in ("columns", "dtypes", "shape"):
        assert isinstance(getattr(cudf.DataFrame, name), property), name
    for name in ("dtype", "values", "list", "cat"):
        assert isinstance(getattr(cudf.Series, name), property), name
    for name in ("min", "max", "to_pandas", "to_numpy"):
        assert_binds(getattr(cudf.Series, name), "self")
    assert type(cudf.ListDtype("float32")).__name__ == "ListDtype"
    assert cudf.CategoricalDtype.__name__ == "CategoricalDtype"


def test_columns_of_lists_of_cudf():
    """Their accessor, which `clorg_scale.arrays.frames` reads the numbers through."""
    lists = pytest.importorskip("cudf.core.accessors.lists")
    assert_binds(lists.ListMethods.len, "self")
    assert isinstance(lists.ListMethods.leaves, property)


def test_categories_of_cudf():
    """Their accessor, which `clorg_scale.arrays.labels` reads codes and names through."""
    accessor = pytest.importorskip("cudf.core.accessors.categorical").CategoricalAccessor
    assert isinstance(accessor.codes, property)
    assert isinstance(accessor.categories, property)


def test_strings_of_cudf_are_no_numbers():
    """The type that cuDF gives a column of strings, which CuPy cannot hold."""
    found = pytest.importorskip("cudf.utils.dtypes")
    assert not _is_numeric(getattr(found, "DEFAULT_STRING_DTYPE", np.dtype(object)))


def test_cugraph_on_a_dask_cluster():
    """As `clorg_scale.communities.leiden_cugraph_dask` calls it."""
    cugraph = pytest.importorskip("cugraph")
    frames = pytest.importorskip("dask_cudf")
    on_cluster = pytest.importorskip("cugraph.dask")
    communicator = pytest.importorskip("cugraph.dask.comms.comms")
    assert_binds(frames.from_delayed, ["edges"])
    edges = {"source": "source", "destination": "destination", "weight": "weight"}
    assert_binds(cugraph.Graph.from_dask_cudf_edgelist, "graph", "frame", **edges)
    assert_binds(on_cluster.leiden, "graph", max_iter=100, resolution=1.0, random_state=0, theta=1.0)
    assert_binds(on_cluster.louvain, "graph", max_level=100, resolution=1.0, threshold=1e-7)
    assert_binds(communicator.initialize, p2p=True)
    assert_binds(communicator.destroy)


def _signature(function):
    try:
        return inspect.signature(function)
    except ValueError:  # compiled classes have none
        return ""
