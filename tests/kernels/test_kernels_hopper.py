"""The CUDA kernels of exact RLD for Hopper without a GPU: compiled, and their launcher's numbers checked against them.

On a GPU of that kind `tests/gpu` compares them with float64 and with torch's tiles.
"""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="Triton is not installed")

from clorg_scale.kernels import rld_hopper

SOURCE = Path(rld_hopper.__file__).with_name("rld_hopper.cu").read_text(encoding="utf-8")

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
    "forms", [[1], [1, 2], [1, 1, 1], [1, 2, 1, 2, 1], [1, 2, 2, 2], [1, 2, 2], [1, 1, 2, 2, 2, 2, 1]]
)
def test_a_turn_takes_a_temperature_or_one_and_its_square(forms):
    firsts = rld_hopper.turns(forms)
    assert firsts[0] == 0
    assert firsts[-1] == len(forms)
    for first, behind in pairwise(firsts):
        assert behind - first in (1, 2)
        assert behind - first == 1 or forms[first + 1] == 2
    packed = int(rld_hopper.packed_turns(firsts))
    assert [packed >> 8 * turn & 255 for turn in range(len(firsts))] == firsts.tolist()


def test_only_hopper_takes_these_kernels():
    import torch

    assert not rld_hopper.usable(torch.device("cpu"), "fp16", 5)


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
    options = core.ProgramOptions(arch="sm_90a", std="c++17", define_macro=("BF16", str(int(precision == "bf16"))))
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


def test_coordinates_of_a_packed_block_are_found_again():
    """The order of bytes that `pack` writes and wgmma reads: 16-byte chunk c of row r at c ^ (r mod 8)."""
    x = np.arange(128 * 64).reshape(128, 8, 8)
    rows = np.arange(128)[:, None]
    packed = x[rows, np.arange(8) ^ (rows & 7)]
    assert sorted(packed.ravel().tolist()) == list(range(128 * 64))
    np.testing.assert_array_equal(packed[rows, np.arange(8) ^ (rows & 7)], x)
    assert "(place ^ (row & 7))" in SOURCE
