"""Launches the tile kernels of exact RLD for Hopper (`rld_hopper.cu`) on torch tensors, and adds up what they wrote."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from clorg_scale.kernels.rld_launch import NearList, class_in_common, sum_over_blocks
from clorg_scale.kernels.rld_panels import AffinitySums, Exponents, KernelSums, Launch, Panel, Weights

__all__ = [
    "KernelsUnavailableError",
    "affinity_sums",
    "buffer_bytes",
    "compile_kernels",
    "kernel_sums",
    "macros",
    "packed_turns",
    "shared_bytes",
    "source",
    "supported",
    "turns",
]

TILE, STEP, STAGES, ROWS, CONSUMERS = 128, 64, 4, 2, 2
SLOTS = 4 * 4 * 136 + 4 * TILE
"""Constants of rld_hopper.cu."""

MOST_TEMPERATURES = 7
"""Temperatures whose sums fit in shared memory."""

MOST_RUN = 8
"""Blocks of columns that a program goes through."""

WAVES = 6
"""Programs for each multiprocessor, at least, so that the last, partly filled wave costs little."""

PRECISIONS = ("fp16", "bf16")


class KernelsUnavailableError(RuntimeError):
    """The kernels cannot be compiled or loaded; the message is the reason, without a period."""


def supported(device: Any, precision: str, n_temperatures: int) -> bool:
    """Whether the kernels are made for this: a Hopper GPU, 16-bit numbers, not too many temperatures."""
    if precision not in PRECISIONS or not 1 <= n_temperatures <= MOST_TEMPERATURES or device.type != "cuda":
        return False
    return bool(torch.cuda.get_device_capability(device)[0] == 9)


def compile_kernels(device: Any, precision: str, near: float) -> None:
    """Compile and load the kernels, once in a process and device; takes some ten seconds, once on a machine.

    Raises
    ------
    KernelsUnavailableError
        If a package is missing, NVRTC cannot be loaded, or it or the driver refuses the code.
    """
    try:
        for name in ("pack", "kernel_sums", "affinity_sums"):
            _kernel(name, "fp16" if name == "pack" else precision, near, device.index or 0)
    except Exception as error:  # the classes of cuda.core, NVRTC, CuPy and the loader of libraries have no common one
        reason = " ".join(str(error).split()).rstrip(".")[:300]
        raise KernelsUnavailableError(f"{type(error).__name__}: {reason}") from error


def kernel_sums(X: Panel, Y: Panel, exponents: Exponents, launch: Launch) -> KernelSums | int:
    """Pass 1 of two panels (see `rld_panels`)."""
    t = len(exponents.rates)
    work = _Work(X, Y, _Sums(2 * t, t), launch)
    distances = torch.zeros(work.programs * CONSUMERS, dtype=torch.float64, device=X.x.device)
    rates, packed, n_turns = _on_device(exponents)
    norms, sums = (X.norms, Y.norms), (work.row_sums, work.column_sums, distances)
    work.launch("kernel_sums", (*norms, rates, packed, *sums), n_turns, ())
    found = work.near.found()
    return found if isinstance(found, int) else KernelSums(*work.totals(), distances.sum(), found)


def affinity_sums(X: Panel, Y: Panel, exponents: Exponents, weights: Weights, launch: Launch) -> AffinitySums | int:
    """Pass 2 of two panels (see `rld_panels`), not in log space."""
    assert not weights.log_space
    t = len(exponents.rates)
    labels = class_in_common(X, Y)
    work = _Work(X, Y, _Sums(2 * t if labels else t, t), launch)
    rates, packed, n_turns = _on_device(exponents)
    per_point = (X.norms, Y.norms, weights.rows, weights.columns, X.codes, Y.codes)
    work.launch("affinity_sums", (*per_point, rates, packed, work.row_sums, work.column_sums), n_turns, (int(labels),))
    found = work.near.found()
    if isinstance(found, int):
        return found
    over = []
    for sums in work.totals():  # all affinities, then those within classes
        within = sums[t:] if labels else torch.zeros_like(sums)
        over.append(torch.cat([sums[:t] - within, within]))
    return AffinitySums(*over, found)


def buffer_bytes(n_rows: int, n_columns: int, n_features: int, n_sums: int) -> int:
    """Device memory that the packed panels and the partial sums of a pair of panels take."""
    rows, columns = _padded(n_rows), _padded(n_columns)
    strips, groups = columns // TILE, CONSUMERS * -(-rows // (TILE * ROWS * CONSUMERS))
    return 2 * (rows + columns) * n_features + 4 * n_sums * (groups * columns + strips * rows)


def turns(square_of: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    """First temperature of each turn, and how many there are: a turn takes one, or two, the second the first's square.

    `square_of` as in `rld_panels.Exponents`.
    """
    firsts, t = [0], 0
    while t < len(square_of):
        t += 2 if t + 1 < len(square_of) and square_of[t + 1] >= 0 else 1
        firsts.append(t)
    return np.array(firsts, np.int32)


def packed_turns(firsts: Any) -> np.uint64:
    """`turns` in the bytes of a number."""
    return np.uint64(sum(int(first) << 8 * turn for turn, first in enumerate(firsts)))


def _on_device(exponents: Exponents) -> tuple[Any, np.uint64, int]:
    """Rates, turns, and their number, as the kernels take them."""
    firsts = turns(exponents.square_of.tolist())
    return exponents.rates.to(torch.float32), packed_turns(firsts), len(firsts) - 1


class _Sums(NamedTuple):
    """Sums of each point, and temperatures."""

    number: int
    t: int


class _Work:
    """A pair of panels: packed, with memory for what the programs write."""

    def __init__(self, X: Panel, Y: Panel, sums: _Sums, launch: Launch) -> None:
        device = X.x.device
        self.sizes = (launch.capacity, len(X.x), len(Y.x), X.x.shape[1] // STEP, sums.t)
        self.diagonal, self.n_rows, self.n_columns = X.start == Y.start, len(X.x), len(Y.x)
        self.precision, self.share = launch.precision, launch.near
        self.shared = shared_bytes(sums.number, sums.t)
        rows, columns = _padded(len(X.x)) // TILE, _padded(len(Y.x)) // TILE
        self.x = _packed(X.x, launch.near)
        self.y = self.x if self.diagonal else _packed(Y.x, launch.near)
        groups = -(-rows // (ROWS * CONSUMERS))
        self.run = _run_length(groups, columns, device)
        strips = -(-columns // self.run)
        self.programs = groups * strips
        self.row_sums = torch.empty((strips, sums.number, rows * TILE), dtype=torch.float32, device=device)
        # Below the diagonal nothing is written; nor by consumers that have no rows.
        shape = (groups * CONSUMERS, sums.number, columns * TILE)
        self.column_sums = torch.zeros(shape, dtype=torch.float32, device=device)
        self.near = NearList.empty(launch.capacity, TILE, TILE, device)

    def launch(self, name: str, arrays: tuple[Any, ...], n_turns: int, flags: tuple[int, ...]) -> None:
        """Run a kernel on the current stream of torch; `flags` are its last arguments."""
        kernel = _kernel(name, self.precision, self.share, self.x.device.index or 0)
        kernel.max_dynamic_shared_size_bytes = self.shared
        sizes = (*self.sizes, n_turns, self.run, int(self.diagonal))
        grid = _Grid(self.programs, 128 * (CONSUMERS + 1), self.shared)
        _launch(kernel, grid, (self.x, self.y, *arrays, *self.near, *sizes, *flags))

    def totals(self) -> tuple[Any, Any]:
        """Sums of all programs, added up in float64: (s, p) and (s, q)."""
        over_rows, over_columns = sum_over_blocks(self.row_sums), sum_over_blocks(self.column_sums)
        return over_rows[:, : self.n_rows], over_columns[:, : self.n_columns]


def shared_bytes(n_sums: int, t: int) -> int:
    """Shared memory of a program: stages, barriers, and what each consumer keeps."""
    return 2 * STAGES * TILE * STEP * 2 + 128 + CONSUMERS * _consumer_bytes(n_sums, t)


def _padded(n: int) -> int:
    return -(-n // TILE) * TILE


def _consumer_bytes(n_sums: int, t: int) -> int:
    """Shared memory of a consumer, as in rld_hopper.cu."""
    return 4 * TILE * ((ROWS + 1) * n_sums + 1 + t) + 4 * 2 * SLOTS + 4 * 8 + 32


def _run_length(groups: int, columns: int, device: Any) -> int:
    """Blocks of columns of a program: many, unless there are few programs."""
    wanted = WAVES * torch.cuda.get_device_properties(device).multi_processor_count
    run = MOST_RUN
    while run > 1 and groups * -(-columns // run) < wanted:
        run //= 2
    return run


def _packed(x: Any, near: float) -> Any:
    """(n, d) of 2 bytes a number as the kernels read them: blocks of 128 points and 64 features."""
    n, d = x.shape
    packed = torch.empty((_padded(n), d), dtype=x.dtype, device=x.device)
    chunks = d // 8
    total = _padded(n) * chunks
    kernel = _kernel("pack", "fp16", near, x.device.index or 0)
    grid = _Grid(min(-(-total // 256), 132 * 64), 256, 0)
    _launch(kernel, grid, (x.contiguous(), packed, n, chunks, np.int64(total)))
    return packed


class _Grid(NamedTuple):
    """Blocks, threads of a block, bytes of shared memory of a block."""

    blocks: int
    threads: int
    shared: int


def _launch(kernel: Any, grid: _Grid, arguments: tuple[Any, ...]) -> None:
    """Run a kernel of CuPy's on tensors and integers of 32 bits, on the current stream of torch."""
    import cupy

    given = [np.uint64(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in arguments]
    given = [np.int32(a) if isinstance(a, int) else a for a in given]
    tensor = next(a for a in arguments if isinstance(a, torch.Tensor))
    stream = torch.cuda.current_stream(tensor.device)
    with cupy.cuda.Device(tensor.device.index or 0), cupy.cuda.ExternalStream(stream.cuda_stream):
        kernel((grid.blocks,), (grid.threads,), tuple(given), shared_mem=grid.shared)


def source() -> str:
    """The text of rld_hopper.cu with the files that it includes in their places."""
    folder = resources.files("clorg_scale.kernels")

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    return re.sub(r'^#include "(\w+\.cuh)"$', lambda found: read(found[1]), read("rld_hopper.cu"), flags=re.M)


def macros(precision: str, near: float) -> list[tuple[str, str]]:
    """Definitions that the source is compiled with."""
    return [("BF16", str(int(precision == "bf16"))), ("NEAR", repr(near))]


@cache
def _kernel(name: str, precision: str, near: float, device: int) -> Any:
    """A compiled kernel on a device."""
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device):
        return cupy.RawModule(path=str(_cubin(precision, near))).get_function(name)


@cache
def _cubin(precision: str, near: float) -> Path:
    """The compiled kernels, in CuPy's folder of them: compiling takes some ten seconds, once on a machine."""
    from cuda.bindings import nvrtc
    from cuda.core import Program, ProgramOptions

    code, defined = source(), macros(precision, near)
    digest = hashlib.sha256(f"{nvrtc.nvrtcVersion()} {defined} {code}".encode())
    folder = Path(os.environ.get("CUPY_CACHE_DIR", Path.home() / ".cupy" / "kernel_cache"))
    path = folder / f"clorg_scale_rld_hopper_{digest.hexdigest()[:20]}.cubin"
    if not path.exists():
        options = ProgramOptions(arch="sm_90a", std="c++17", define_macro=defined)
        compiled = Program(code, "c++", options).compile("cubin").code
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            folder = Path(tempfile.mkdtemp(prefix="clorg_scale_"))
            path = folder / path.name
        partial = folder / f"{path.name}.{os.getpid()}"
        partial.write_bytes(compiled)
        partial.replace(path)
    return path
