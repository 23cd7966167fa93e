"""FAISS on the GPU: arrays passed by pointer, the rule that chooses it, and builds that overwrote each other.

Without a GPU, memory is NumPy's: `FakeFaiss` reads and writes it through the pointers that it receives.
"""

import ctypes
import sys
import types
from dataclasses import replace
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from clorg_scale import doctor
from clorg_scale.neighbors.algorithms import faiss_gpu_ivf_flat, flat_faiss_gpu, flat_torch, streaming
from clorg_scale.neighbors.engines import _builder, exact_engine
from clorg_scale.neighbors.memory import Budget
from clorg_scale.neighbors.pairs import pair_keys
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import prepare


class DeviceArray(np.ndarray):
    """NumPy's memory that gives its address as CuPy's does."""

    __module__ = "cupy"

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)

    def get(self):
        return np.array(self)


def on_device(array):
    return np.ascontiguousarray(array).view(DeviceArray)


def memory(pointer, kind, *shape):
    """Array at an address."""
    c_type = {"f": ctypes.c_float, "i": ctypes.c_int64}[kind]
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(c_type)), shape)


def nearest(queries, points, k, inner_product):
    """(b, k) keys and ids as FAISS orders them."""
    products = queries @ points.T
    keys = -products if inner_product else ((queries[:, None] - points[None]) ** 2).sum(2)
    ids = np.argsort(keys, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(keys, ids, axis=1)
    return (-found if inner_product else found), ids


class FakeFaiss(types.ModuleType):
    """The part of FAISS's GPU build that is called, on main memory."""

    METRIC_INNER_PRODUCT, METRIC_L2, DistanceDataType_F32, IndicesDataType_I64 = 0, 1, 1, 0

    def __init__(self):
        super().__init__("faiss")
        self.calls = []
        self.GpuDistanceParams = types.SimpleNamespace
        self.GpuIndexIVFFlatConfig = types.SimpleNamespace
        self.StandardGpuResources = lambda: types.SimpleNamespace(setDefaultNullStreamAllDevices=lambda: None)
        self.GpuIndexIVFFlat = lambda *arguments: FakeLists(self, *arguments)

    def get_num_gpus(self):
        return 1

    def cast_integer_to_float_ptr(self, address):
        return ("f", address)

    def cast_integer_to_idx_t_ptr(self, address):
        return ("i", address)

    def bfKnn(self, resources, job):
        assert job.vectorsRowMajor
        assert job.queriesRowMajor
        assert (job.vectorType, job.queryType, job.outIndicesType) == (1, 1, 0)
        self.calls.append(job.numQueries)
        kinds = [pointer[0] for pointer in (job.queries, job.vectors, job.outDistances, job.outIndices)]
        assert kinds == ["f", "f", "f", "i"]
        queries = memory(job.queries[1], "f", job.numQueries, job.dims)
        points = memory(job.vectors[1], "f", job.numVectors, job.dims)
        keys, ids = nearest(queries, points, job.k, job.metric == self.METRIC_INNER_PRODUCT)
        memory(job.outDistances[1], "f", job.numQueries, job.k)[:] = keys
        memory(job.outIndices[1], "i", job.numQueries, job.k)[:] = ids


class FakeLists:
    """Lists of points by their nearest centers: the first points trained on."""

    def __init__(self, faiss, resources, d, n_lists, metric, settings):
        self.d, self.n_lists, self.inner_product = d, n_lists, metric == faiss.METRIC_INNER_PRODUCT
        self.cp, self.nprobe = types.SimpleNamespace(), 1
        assert settings.device == 0

    def train_c(self, n, pointer):
        self.centers = memory(pointer[1], pointer[0], n, self.d)[: self.n_lists].copy()

    def add_c(self, n, pointer):
        self.points = memory(pointer[1], pointer[0], n, self.d).copy()
        self.lists = nearest(self.points, self.centers, 1, self.inner_product)[1][:, 0]

    def search_c(self, n, queries, k, keys, ids, parameters):
        assert [pointer[0] for pointer in (queries, keys, ids)] == ["f", "f", "i"]
        asked = memory(queries[1], "f", n, self.d)
        probed = nearest(asked, self.centers, self.nprobe, self.inner_product)[1]
        for row in range(n):
            members = np.flatnonzero(np.isin(self.lists, probed[row]))
            found, order = nearest(asked[row : row + 1], self.points[members], k, self.inner_product)
            padded = np.full(k, -1)
            padded[: order.shape[1]] = members[order[0]]
            memory(ids[1], "i", n, k)[row] = padded
            memory(keys[1], "f", n, k)[row, : order.shape[1]] = found[0]


@pytest.fixture
def faiss(monkeypatch):
    """Stand-ins for FAISS and CuPy."""
    fake = FakeFaiss()
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    null = types.SimpleNamespace()
    runtime = types.SimpleNamespace(
        getDevice=lambda: 0, memGetInfo=lambda: (1 << 30, 1 << 30), deviceGetAttribute=lambda *_: 0
    )
    stream = types.SimpleNamespace(null=null)
    cupy.cuda = types.SimpleNamespace(Stream=stream, get_current_stream=lambda: null, runtime=runtime)
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    cupy.empty = lambda *a, **k: np.empty(*a, **k).view(DeviceArray)
    cupy.asarray = lambda array, **k: np.asarray(array, **k).view(DeviceArray)
    cupy.ascontiguousarray = lambda array, **k: np.ascontiguousarray(array, **k).view(DeviceArray)
    cupy.__getattr__ = lambda name: getattr(np, name)
    monkeypatch.setitem(sys.modules, "faiss", fake)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    flat_faiss_gpu.gpu_resources.cache_clear()
    yield fake
    flat_faiss_gpu.gpu_resources.cache_clear()


def plan_of(points, k, **options):
    return SearchPlan(points, k, budget=Budget(1 << 20, 0), **{"device": "cuda", **options})


@pytest.mark.parametrize("inner_product", [False, True])
def test_blocks_are_searched_in_place(faiss, inner_product, monkeypatch):
    monkeypatch.setattr(flat_faiss_gpu, "MAX_QUERIES", 20)
    rng = np.random.default_rng(0)
    queries, points = (rng.standard_normal((n, 7)).astype(np.float32) for n in (45, 60))
    wide = on_device(np.repeat(points, 2, axis=0))
    keys, ids = flat_faiss_gpu.search_block(on_device(queries), wide[::2], 5, inner_product)
    theirs, expected = nearest(queries, points, 5, inner_product)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(keys, -theirs if inner_product else theirs, rtol=1e-6)
    assert faiss.calls == [20, 20, 5]
    assert type(ids) is type(keys) is DeviceArray


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_lists_on_the_device_find_more_when_they_try_harder(faiss, metric):
    rng = np.random.default_rng(1)
    embeddings = rng.standard_normal((1500, 6)).astype(np.float32)
    points = prepare(embeddings, metric)[0]
    plan = plan_of(points, 5, seed=3)
    index = faiss_gpu_ivf_flat.build(plan, None)
    assert index.index.cp.seed == 3
    index._set(1)
    rows = np.arange(0, 1500, 10)
    recalls = []
    truth = nearest(points.block(rows), points.block(np.arange(1500)), 6, points.inner_product)[1]
    advanced = []
    while True:
        found = np.asarray(index.candidates(rows, 6, advanced.append))
        recalls.append(np.mean([len(np.intersect1d(a, b)) / 6 for a, b in zip(found, truth, strict=True)]))
        assert index.description == f"faiss-gpu.ivf_flat(lists={index.n_lists}, probes={index.index.nprobe})"
        if not index.try_harder():
            break
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.95
    assert recalls[-1] == 1  # all lists
    assert sum(advanced) == len(rows) * len(recalls)
    assert np.isfinite(pair_keys(plan, rows, found)).all()


def test_rule_takes_cuvs_before_faiss_and_tensor_cores_for_many_features(faiss, monkeypatch):
    pytest.importorskip("torch")  # before CuPy and others seem to be installed
    rng = np.random.default_rng(0)
    few, many = (
        plan_of(prepare(rng.standard_normal((50, d)).astype(np.float32), "euclidean")[0], 5, index="ivf")
        for d in (8, 300)
    )
    monkeypatch.setattr(flat_torch, "has_tensor_cores", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "cuvs" else True)
    engine = exact_engine(few)
    assert engine.name == "flat(faiss-gpu)"
    assert engine.stage is streaming.on_device  # embeddings in main memory are copied ahead, as for the other engines
    assert exact_engine(replace(few, k=1500)).name == "flat(torch)"  # more neighbors than FAISS selects
    assert exact_engine(many).name == "flat(torch)"
    assert _builder(few) is faiss_gpu_ivf_flat.build
    assert _builder(replace(few, device="cpu")) is not faiss_gpu_ivf_flat.build
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    assert exact_engine(few).name == "flat(cuvs)"
    assert _builder(few) is not faiss_gpu_ivf_flat.build


def test_names_and_attributes_of_the_gpu_build():
    """Checked against the library itself, which imports without a GPU."""
    faiss = pytest.importorskip("faiss")
    if not hasattr(faiss, "GpuDistanceParams"):
        pytest.skip("this FAISS is built without GPUs")
    shapes = ((5, 4), "f4"), ((9, 4), "f4"), ((5, 3), "f4"), ((5, 3), "i8")
    arrays = [on_device(np.ones(shape, kind)) for shape, kind in shapes]
    job = flat_faiss_gpu._distance_job(faiss, *arrays)
    assert (job.k, job.dims, job.numQueries, job.numVectors, job.device) == (3, 4, 5, 9, -1)
    job.metric = faiss.METRIC_L2
    assert callable(faiss.bfKnn)
    for name in ("train_c", "add_c", "search_c"):
        assert callable(getattr(faiss.GpuIndexIVFFlat, name))
    assert isinstance(faiss.GpuIndexIVFFlat.nprobe, property)
    assert hasattr(faiss.StandardGpuResources, "setDefaultNullStreamAllDevices")
    faiss.GpuIndexIVFFlatConfig().device = 0


@pytest.mark.parametrize(
    ("installed", "for_gpus", "ok", "said"),
    [
        ({"faiss-cpu"}, False, True, "faiss-cpu"),
        ({"faiss-gpu"}, True, True, "faiss-gpu"),
        ({"faiss-cpu", "faiss-gpu"}, True, False, "share one folder"),
        ({"faiss-cpu", "faiss-gpu-cu13-cuvs"}, True, False, "share one folder"),
        ({"faiss-gpu"}, False, False, "overwritten by a build without GPUs"),
        ({"faiss-cpu"}, True, False, "overwritten by a GPU build"),
    ],
)
def test_doctor_reports_builds_that_overwrote_each_other(installed, for_gpus, ok, said, monkeypatch):
    fake = types.ModuleType("faiss")
    fake.__version__ = "1.15.1"
    if for_gpus:
        fake.StandardGpuResources, fake.get_num_gpus = object, lambda: 1
    monkeypatch.setitem(sys.modules, "faiss", fake)
    monkeypatch.setattr(doctor, "_version", lambda package: "1.15.1" if package in installed else None)
    found = doctor._faiss()
    assert found.ok is ok
    assert said in found.what
    assert bool(found.remedy) is not ok
    for package in installed if not ok else ():
        assert package in found.remedy


def test_doctor_says_which_cuda_library_a_gpu_build_misses(monkeypatch):
    def missing(name):
        raise RuntimeError("faiss-gpu installed but nvidia-cublas-cu12 is missing")

    monkeypatch.setattr(doctor.importlib, "import_module", missing)
    found = doctor._faiss()
    assert not found.ok
    assert "nvidia-cublas-cu12 is missing" in found.what
