"""One pool for CuPy and RAPIDS, with stand-ins of the signatures of RMM 26.10 and of CuPy 14.2."""

import sys
import types

import pytest

from clorg_scale import doctor
from clorg_scale.arrays import free_device_memory, pool, resolve_device


class CudaMemoryResource:
    """What RMM has by default."""


class PoolMemoryResource:
    """What a user may have set."""


class CudaAsyncViewMemoryResource:
    def __init__(self, pool_handle):
        self.handle = pool_handle


def of_rmm(nbytes):
    """rmm_cupy_allocator."""


@pytest.fixture
def device(cupy, is_stand_in, monkeypatch):
    """The stand-in's runtime with a pool of 3 GB of which 2 are unused, and RMM beside it."""
    if not is_stand_in:
        pytest.skip("the allocators of a real GPU stay")
    state = types.SimpleNamespace(resources={0: CudaMemoryResource()}, settings=[], unused=2 << 30, synchronized=0)

    class DefaultPool:
        def malloc(self, nbytes):
            """Allocate."""

        def free_all_blocks(self):
            """Nothing is in it."""

    default = DefaultPool()
    state.allocator = default.malloc
    runtime, cuda = cupy.cuda.runtime, cupy.cuda
    runtime.deviceGetAttribute = lambda attribute, device: int(attribute == 115)
    runtime.deviceGetDefaultMemPool = lambda device: 77
    runtime.memPoolSetAttribute = lambda *arguments: state.settings.append(arguments)
    runtime.memGetInfo = lambda: ((5 << 30) - state.unused, 8 << 30)

    def trim(handle, size):
        assert (handle, size, state.synchronized) == (77, 0, 1)
        state.unused = 0

    def synchronize():
        state.synchronized += 1

    runtime.memPoolTrimTo = trim
    cuda.Device = lambda: types.SimpleNamespace(synchronize=synchronize)
    cuda.get_allocator = lambda: state.allocator
    cuda.set_allocator = lambda allocator: setattr(state, "allocator", allocator)
    cupy.get_default_memory_pool = lambda: default
    resources = types.ModuleType("rmm.mr")
    resources.CudaMemoryResource = CudaMemoryResource
    resources.CudaAsyncViewMemoryResource = CudaAsyncViewMemoryResource
    resources.get_per_device_resource = state.resources.__getitem__
    resources.set_per_device_resource = state.resources.__setitem__
    allocators = types.ModuleType("rmm.allocators.cupy")
    allocators.rmm_cupy_allocator = of_rmm
    handles = types.ModuleType("cuda.bindings.runtime")
    handles.cudaMemPool_t = lambda handle: ("cudaMemPool_t", handle)
    for module in (resources, allocators, handles):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("rmm", "rmm.allocators", "cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    pool._shared.cache_clear()
    yield state
    pool._shared.cache_clear()


def test_one_pool_from_the_first_choice_of_a_gpu(device):
    assert resolve_device("cpu") == "cpu"
    assert isinstance(device.resources[0], CudaMemoryResource)
    assert resolve_device() == resolve_device("cuda") == "cuda"
    assert device.resources[0].handle == ("cudaMemPool_t", 77)
    assert device.settings == [(77, 4, 2**64 - 1)]
    assert device.allocator is of_rmm
    assert pool.share_pool() == "CuPy and RAPIDS together (CudaAsyncViewMemoryResource)"


def test_what_the_pool_holds_unused_is_free(device):
    assert free_device_memory() == 5 << 30
    assert device.unused == 0


def test_allocators_of_the_user_stay(device):
    device.resources[0], device.allocator = PoolMemoryResource(), None
    assert pool.share_pool() == "CuPy by itself, RAPIDS by itself (PoolMemoryResource)"
    assert isinstance(device.resources[0], PoolMemoryResource)
    assert device.allocator is None
    assert not device.settings


def test_cupy_joins_a_pool_that_the_user_gave_rmm(device):
    device.resources[0] = PoolMemoryResource()
    assert pool.share_pool() == "CuPy and RAPIDS together (PoolMemoryResource)"
    assert device.allocator is of_rmm


def test_a_device_without_pools_and_one_that_fails(device, cupy):
    """CuPy stays with its own pool: RMM's default has none."""
    cupy.cuda.runtime.deviceGetAttribute = lambda *_: 0
    before = device.allocator
    assert pool.share_pool() == "CuPy by itself, RAPIDS by itself (CudaMemoryResource)"
    pool._shared.cache_clear()

    def fails(*_):
        raise RuntimeError("cudaErrorNotSupported")

    cupy.cuda.runtime.deviceGetAttribute = fails
    with pytest.warns(UserWarning, match="CuPy and RAPIDS do not share GPU memory: cudaErrorNotSupported"):
        resolve_device()
    assert device.allocator == before


def test_without_rmm(cupy, is_stand_in):
    if is_stand_in:
        pool._shared.cache_clear()
        assert pool.share_pool() == "CuPy by itself (RMM is not installed)"
        pool._shared.cache_clear()


def test_doctor_says_who_allocates(device, cupy):
    cupy.cuda.runtime.getDeviceProperties = lambda _: {"name": b"A GPU", "totalGlobalMem": 8e9}
    found = {finding.name: finding.what for finding in doctor._gpu()}
    assert found["GPU"] == "A GPU, 8 GB, a kernel ran"
    assert found["GPU memory"].startswith("CuPy and RAPIDS together (CudaAsyncViewMemoryResource)")
