"""Devices, limits on memory, and an import that stays light."""

import subprocess
import sys

import pytest

from clorg_scale import arrays
from clorg_scale.arrays import available_memory, parse_memory, resolve_device, resolve_torch_device
from clorg_scale.errors import InputError


def test_devices():
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="must be 'auto', 'cpu' or 'cuda', not 'tpu'"):
        resolve_device("tpu")
    if arrays._gpu_problem() is not None:
        assert resolve_device("auto") == "cpu"
        with pytest.raises(InputError, match=r"device='cuda' was asked for, but .*device='cpu'"):
            resolve_device("cuda")


def test_pytorch_needs_no_cupy_on_a_gpu(monkeypatch):
    cuda = pytest.importorskip("torch").cuda
    for seen in (True, False):
        monkeypatch.setattr(cuda, "is_available", lambda seen=seen: seen)
        assert resolve_torch_device("cpu") == "cpu"
        assert resolve_torch_device() == ("cuda" if seen else "cpu")
    with pytest.raises(InputError, match="PyTorch sees no usable GPU"):
        resolve_torch_device("cuda")
    with pytest.raises(InputError, match="not 'tpu'"):
        resolve_torch_device("tpu")


@pytest.mark.parametrize(
    ("limit", "n_bytes"),
    [("8GB", 8 * 10**9), ("512MiB", 512 << 20), (" 1.5 g ", 1_500_000_000), ("100", 100), (100, 100), (None, None)],
)
def test_memory_limits(limit, n_bytes):
    assert parse_memory(limit) == n_bytes


@pytest.mark.parametrize("limit", ["", "many", "8XB", "-1GB", 0, -5, "0GB"])
def test_memory_limits_that_make_no_sense(limit):
    with pytest.raises(InputError, match="memory limit"):
        parse_memory(limit)


def test_available_memory_is_an_amount_of_bytes():
    assert 1 << 20 < available_memory() < 1 << 50


def test_importing_arrays_stays_light():
    code = (
        "import clorg_scale.arrays, sys; print([m for m in ('torch', 'pandas', 'pyarrow', 'h5py') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("amount", [1, 999, 1000, 1001, 50_331_648, 99_949, 99_951, 999_999, 123_456_789_012])
def test_memory_that_suffices_is_rounded_up(amount):
    from clorg_scale.arrays.memory import at_least

    said = parse_memory(at_least(amount).replace("bytes", ""))
    assert amount <= said <= 1.011 * amount
