"""The CUDA kernels of exact RLD for Hopper without a GPU: compiled, and their launcher's numbers checked against them.

On a GPU of that kind `tests/gpu` compares them with float64 and with torch's tiles.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="Triton is not installed")

from clorg_scale.kernels import rld_hopper

from clorg_scale.errors import InputError
from clorg_scale.rld.exact.launch_plan import choose_kernels
from clorg_scale.rld.points import NEAR

SOURCE = rld_hopper.source()

SHIM = Path(__file__).parents[1] / "cuda_shim.h"

SHARED_LIMIT = 227 << 10
"""Bytes of shared memory that a block may take on Hopper."""


def constant(name):
    """A `constexpr int` of the source, worked out with those before it."""
    known = {}
    for found, value in re.findall(r"^constexpr int (\w+) = ([^;]+);", SOURCE, re.M):
        known[found] = eval(value, {}, known)
    return known[name]


@pytest.mark.parametrize("name", ["TILE", "STEP", "STAGES", "ROWS", "CONSUMERS", "SLOTS"])
def test_launcher_and_kernel_agree_on_shapes(name):
    assert getattr(rld_hopper, name) == constant(name)


def test_shared_memory_of_a_consumer_is_what_the_kernel_lays_out():
    formula = re.search(r"constexpr int consumer_bytes\(int s, int t\) \{\s*return ([^;]+);", SOURCE)[1]
    names = {name: constant(name) for name in ("TILE", "ROWS", "SLOTS")}
    for t in range(1, rld_hopper.MOST_TEMPERATURES + 1):
        for s in (t, 2 * t):
            assert rld_hopper._consumer_bytes(s, t) == eval(formula, {}, names | {"s": s, "t": t})
    most = rld_hopper.shared_bytes(2 * rld_hopper.MOST_TEMPERATURES, rld_hopper.MOST_TEMPERATURES)
    assert most <= SHARED_LIMIT
    assert rld_hopper.shared_bytes(2 * 8, 8) > SHARED_LIMIT  # one temperature more does not fit


@pytest.mark.parametrize(
    "squares", [[0], [0, 1], [0, 0, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1], [0, 1, 1], [0, 0, 1, 1, 1, 1, 0]]
)
def test_a_turn_takes_a_temperature_or_one_and_its_square(squares):
    square_of = [t - 1 if square else -1 for t, square in enumerate(squares)]
    firsts = rld_hopper.turns(square_of)
    assert firsts[0] == 0
    assert firsts[-1] == len(squares)
    for first, behind in pairwise(firsts):
        assert behind - first in (1, 2)
        assert behind - first == 1 or squares[first + 1]
    packed = int(rld_hopper.packed_turns(firsts))
    assert [packed >> 8 * turn & 255 for turn in range(len(firsts))] == firsts.tolist()


def test_only_hopper_takes_these_kernels():
    import torch

    assert not rld_hopper.supported(torch.device("cpu"), "fp16", 5)


def test_buffers_hold_whole_blocks_and_both_panels():
    rows, columns, d, sums = 300, 129, 64, 10
    packed = 2 * (384 + 256) * d
    partial = 4 * sums * (2 * 256 + 2 * 384)  # one group of two consumers; two strips of one block, at most
    assert rld_hopper.buffer_bytes(rows, columns, d, sums) == packed + partial


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_compiles_for_hopper(precision, tmp_path):
    """Products on tensor cores by warpgroups, bulk copies; nothing of the hot loops in local memory."""
    core = pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed")
    options = core.ProgramOptions(arch="sm_90a", std="c++17", define_macro=rld_hopper.macros(precision, NEAR))
    code = core.Program(SOURCE, "c++", options).compile("cubin").code
    for kernel in ("kernel_sums", "affinity_sums", "pack"):
        assert kernel.encode() in code
    from triton.backends import nvidia

    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton ships no cuobjdump")
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(code)
    text = subprocess.run([tool, "-sass", cubin], capture_output=True, text=True, check=True).stdout
    listings = {part.split()[0]: part for part in text.split("Function : ")[1:]}
    for kernel in ("kernel_sums", "affinity_sums"):
        assert listings[kernel].count("HGMMA.64x128x16.F32") == 8  # a step of 64 features, two halves of the rows
        assert "UBLKCP" in listings[kernel]
    usage = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    stacks = dict(re.findall(r"Function (\w+):\s+REG:\d+ STACK:(\d+)", usage))
    assert int(stacks["kernel_sums"]) <= 64


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """The kernel `pack`, run by the serial shim, of an (n, d) array of 2 bytes a number."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("pack")
    kernel = SOURCE[SOURCE.index('extern "C" __global__ void pack') :]
    text = f"""
        #include "{SHIM}"
        struct uint4 {{ unsigned x, y, z, w; }};
        static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {{ return {{x, y, z, w}}; }}
        constexpr int TILE = {rld_hopper.TILE};
        {kernel}
        extern "C" void run(const uint4 *points, uint4 *packed, int n, int chunks, long long total) {{
            launch(3, 7, pack, points, packed, n, chunks, total);
        }}"""
    (folder / "pack.cpp").write_text(text)
    library = folder / "pack.so"
    subprocess.run(["g++", "-O1", "-std=c++17", "-shared", "-fPIC", "-o", library, folder / "pack.cpp"], check=True)
    run = ctypes.CDLL(str(library)).run

    def packed(x):
        n, d = x.shape
        out = np.full((rld_hopper._padded(n), d), 65_535, x.dtype)
        arrays = (array.ctypes.data_as(ctypes.c_void_p) for array in (x, out))
        run(*arrays, n, d // 8, ctypes.c_longlong(out.size // 8))
        return out.ravel()

    return packed


@pytest.mark.parametrize(("n", "d"), [(128, 64), (300, 192)])
def test_packed_blocks_have_the_order_of_bytes_that_wgmma_reads(pack, n, d):
    """Blocks of 128 points x 64 features; 128-byte swizzle: bits 4..6 of an address differ by bits 7..9."""
    x = np.arange(1, n * d + 1, dtype=np.uint16).reshape(n, d)
    found = pack(x)
    point, feature = np.meshgrid(np.arange(rld_hopper._padded(n)), np.arange(d), indexing="ij")
    block = point // 128 * (d // 64) + feature // 64
    inside = point % 128 * 128 + feature % 64 * 2
    swizzled = inside ^ (inside >> 7 & 7) << 4
    expected = np.zeros_like(found).reshape(point.shape)
    expected[:n] = x
    np.testing.assert_array_equal(found[block * 128 * 64 + swizzled // 2], expected)


def test_auto_takes_triton_and_warns_where_the_kernels_cannot_be_compiled(monkeypatch):
    """NVRTC that cannot be loaded, say; asked for by name they are an error."""
    import torch

    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))

    def cubin(*_):
        raise OSError("libnvrtc.so.13 not found.")

    monkeypatch.setattr(rld_hopper, "_kernel", cubin)
    with pytest.warns(
        UserWarning, match=r"cannot be compiled \(OSError: libnvrtc\.so\.13 not found\); .* Triton kernels"
    ):
        assert choose_kernels("auto", "fp16", device, 5) == "triton"
    with pytest.raises(InputError, match=r"cannot be compiled .* use kernels='triton'"):
        choose_kernels("hopper", "fp16", device, 5)
    with pytest.raises(InputError, match="precision fp16 or bf16 and at most 7"):
        choose_kernels("hopper", "tf32", device, 5)
    monkeypatch.setattr(rld_hopper, "_kernel", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_kernels("auto", "fp16", device, 5) == "hopper"
        assert choose_kernels("auto", "fp16", device, 8) == "triton"
        assert choose_kernels("auto", "fp64", device, 5) == "torch"
