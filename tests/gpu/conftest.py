"""What the tests of GPU code share: the GPU or, so that they run without one, what stands in for it on the CPU."""

from __future__ import annotations

import shutil
import sys
import types
from importlib.machinery import ModuleSpec
from typing import NamedTuple

import pytest
from clorg_scale.kernels import graph as kernels
from serial_cupy import hide_rapids, serial_cupy


class Machine(NamedTuple):
    """The device that a test runs on, and its kernels of exact RLD."""

    device: str
    kernels: str

    @property
    def is_gpu(self):
        return self.device == "cuda"


@pytest.fixture(scope="module", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request):
    """A GPU in real sizes; torch's CPU tensors in small ones, which keep the tests right where there is no GPU."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if request.param == "cpu":
        return Machine("cpu", "torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return Machine("cuda", "triton")


@pytest.fixture
def within(record_property):
    """Assert that an error is within its bound; both go into the report of bench/gpu_check.py."""

    def check(what, error, allowed):
        error = float(error)
        record_property(what, {"error": error, "allowed": allowed, "ok": error <= allowed})
        assert error <= allowed, what

    return check


def real_cupy():
    """CuPy if it finds a GPU, else None."""
    try:
        import cupy

        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except Exception:  # CuPy's own errors cannot be named where it is absent
        return None


@pytest.fixture(params=["serial", pytest.param("gpu", marks=pytest.mark.gpu)])
def cupy(request, monkeypatch):
    """CuPy on a GPU, or its stand-in, beside which no library of RAPIDS can be imported."""
    if request.param == "gpu":
        found = real_cupy()
        if found is None:
            pytest.skip("there is no GPU, or CuPy is not installed")
        yield found
        return
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    module = serial_cupy()
    module.__spec__ = ModuleSpec("cupy", None)
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        deviceGetAttribute=lambda *_: 0,  # no pool in the order of streams
        memGetInfo=lambda: (1 << 32, 1 << 32),
    )
    stream = types.SimpleNamespace(ptr=0)
    module.cuda = types.SimpleNamespace(
        runtime=runtime, get_current_stream=lambda: stream, Stream=types.SimpleNamespace(null=stream)
    )
    module.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    hide_rapids(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupy", module)
    kernels._module.cache_clear()
    yield module
    kernels._module.cache_clear()


@pytest.fixture
def is_stand_in(cupy):
    """Whether `cupy` is the stand-in."""
    return hasattr(cupy, "launched")
