"""The Triton kernels without a GPU: interpreted against float64, compiled for two architectures."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
pytest.importorskip("torch", reason="torch is not installed")

from clorg_scale.rld.points import NEAR

STACK_LIMIT = {80: 1024, 90: 256}
"""Bytes of local memory of a thread (an accumulator takes 512)."""

HERE = Path(__file__).parent

SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10}
"""Bytes of shared memory that one block may take."""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Triton runs on Linux")
def test_interpreted():
    """In a process of its own: TRITON_INTERPRET must be set before the kernels are imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "interpreted_kernels.py"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert re.search(r"\.{10,}", run.stdout), run.stdout


def compiled(kernel, config, *, dtype, arch, **constants):
    """A kernel as the launchers would have it compiled, and its cubin's stack bytes."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    blocks = {"BLOCK_M": config.m, "BLOCK_N": config.n, "BLOCK_K": config.k, "PIECES": config.pieces}
    given = blocks | {"NEAR": NEAR, "RUN": config.run, "GROUP": config.group} | constants
    given = {name: value for name, value in given.items() if name in kernel.arg_names}
    integers = {"capacity", "n_rows", "n_columns", "d", "n_temperatures"}
    pointers = {"near_masks": "*i8", "x": f"*{dtype}", "y": f"*{dtype}"}
    pointers |= dict.fromkeys(["near_places", "near_count", "square_of", "x_code", "y_code"], "*i32")
    kinds = [
        "constexpr" if name in given else "i32" if name in integers else pointers.get(name, "*fp32")
        for name in kernel.arg_names
    ]
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(zip(kernel.arg_names, kinds, strict=True))
        if kind.startswith("*") or name == "d"
    }
    program = ASTSource(kernel, dict(zip(kernel.arg_names, kinds, strict=True)), given, aligned)
    options = {"num_warps": config.warps, "num_stages": config.stages}
    return triton.compile(program, target=GPUTarget("cuda", arch, 32), options=options)


def stack_bytes(binary, folder):
    """Bytes of local memory a thread takes, as the cubin tells."""
    from triton.backends import nvidia

    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton ships no cuobjdump")
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(binary.asm["cubin"])
    usage = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", usage)[1])


def check(binary, arch, folder, *, stack, matrix=True):
    assert binary.metadata.shared <= SHARED_LIMIT[arch]
    if matrix:
        assert ("wgmma.mma_async" if arch == 90 else "mma.sync") in binary.asm["ptx"]
    assert stack_bytes(binary, folder) <= stack


def tile_kernels():
    from clorg_scale.kernels import rld_tiles

    return rld_tiles


@pytest.mark.slow
def test_tensor_descriptors_leave_nothing_to_spill(tmp_path):
    """The variants that carry the work on Hopper: one number in local memory, read once a tile, or none."""
    tiles = tile_kernels()
    common = {"dtype": "fp16", "arch": 90, "TMA": True, "PRECISION": "ieee", "DIAGONAL": False}
    config = tiles.CONFIGS["two_per_sm"]
    binary = compiled(tiles.kernel_sums_kernel, config, **common)
    check(binary, 90, tmp_path, stack=8)
    assert "cp.async.bulk.tensor" in binary.asm["ptx"]
    # Two programs on a multiprocessor: 228 KiB of shared memory, 1 KiB of it taken by each.
    assert 2 * (binary.metadata.shared + 1024) <= 228 << 10
    check(compiled(tiles.affinity_sums_kernel, config, **common, LOG_SPACE=False, LABELS=False), 90, tmp_path, stack=0)


def test_tensor_descriptors_are_made_once():
    """Before the loop over tiles: making one takes about a microsecond."""
    tiles = tile_kernels()
    options = {"dtype": "fp16", "arch": 90, "TMA": True, "PRECISION": "ieee", "DIAGONAL": False}
    code = compiled(tiles.kernel_sums_kernel, tiles.CONFIGS["two_per_sm"], **options).asm["ttgir"]
    assert code.count("tensormap_create") == 2
    assert code.rindex("tensormap_create") < code.index("scf.for")


@pytest.mark.parametrize("arch", [80, 90])
def test_totals_compile(arch):
    """Sixteen bytes at a time."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kinds = {"parts": "*fp32", "totals": "*fp64", "n_parts": "i32", "n_sums": "i32", "BLOCK": "constexpr"}
    aligned = {(i,): [["tt.divisibility", 16]] for i in (0, 1, 3)}
    program = ASTSource(tile_kernels().totals_kernel, kinds, {"BLOCK": 512}, aligned)
    code = triton.compile(program, target=GPUTarget("cuda", arch, 32), options={"num_warps": 4}).asm["ptx"]
    assert "ld.global.v4" in code


LABELS, LOG_SPACE = (True, False, True), (False, True, False)
"""Variants of the second pass: flags DIAGONAL, SAFE, LABELS."""

COMPILED = [
    ("fp16", 80, (LABELS, LOG_SPACE)),
    ("fp16", 90, (LABELS, LOG_SPACE)),
    ("bf16", 80, (LOG_SPACE,)),
    ("tf32", 90, (LOG_SPACE,)),
    ("tf32x3", 80, (LOG_SPACE,)),
    ("ieee", 90, (LABELS,)),
]
"""Every input mode, half precision on both architectures; a minute less than each of them on both."""


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "arch", "variants"), COMPILED)
def test_every_precision_compiles(precision, arch, variants, tmp_path):
    """Some bytes of stack hold addresses across the epilogue, nothing more."""
    from clorg_scale.kernels.rld_launch import tile_config

    tiles, config = tile_kernels(), tile_config(precision)
    dtype = precision if precision in ("fp16", "bf16") else "fp32"
    product = precision if dtype == "fp32" else "ieee"
    common = {"dtype": dtype, "arch": arch, "TMA": arch == 90 and precision != "ieee", "PRECISION": product}
    binary = compiled(tiles.kernel_sums_kernel, config, **common, DIAGONAL=False)
    check(binary, arch, tmp_path, stack=STACK_LIMIT[arch], matrix=precision != "ieee")
    for diagonal, log_space, labels in variants:
        flags = {"DIAGONAL": diagonal, "LOG_SPACE": log_space, "LABELS": labels}
        binary = compiled(tiles.affinity_sums_kernel, config, **common, **flags)
        check(binary, arch, tmp_path, stack=STACK_LIMIT[arch], matrix=precision != "ieee")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide", "tall"])
def test_other_tiles_compile(name, tmp_path):
    tiles = tile_kernels()
    common = {"dtype": "fp16", "arch": 90, "TMA": True, "PRECISION": "ieee", "DIAGONAL": False}
    check(compiled(tiles.kernel_sums_kernel, tiles.CONFIGS[name], **common), 90, tmp_path, stack=256)
    binary = compiled(tiles.affinity_sums_kernel, tiles.CONFIGS[name], **common, LOG_SPACE=False, LABELS=False)
    check(binary, 90, tmp_path, stack=256)


def test_nothing_imports_triton_by_the_way():
    program = "import sys, clorg_scale.rld.exact.gpu, clorg_scale.kernels.graph; assert 'triton' not in sys.modules"
    assert importlib.util.find_spec("triton") is not None
    subprocess.run([sys.executable, "-c", program], check=True)
