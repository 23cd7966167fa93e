"""Launches the tile kernels of exact RLD for Hopper (`rld_hopper.cu`) on torch tensors, and adds up what they wrote."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clorg_scale.kernels.rld_launch import near_pairs, over_parts

from clorg_scale.rld.exact.device_points import Panel
from clorg_scale.rld.exact.tiles_torch import NearPairs

__all__ = ["affinity_sums", "buffer_bytes", "kernel_sums", "packed_turns", "shared_bytes", "turns", "usable"]

TILE, STEP, STAGES, ROWS, CONSUMERS = 128, 64, 4, 2, 2
SLOTS = 4 * 4 * 136 + 4 * TILE
"""As in rld_hopper.cu."""

MOST_TEMPERATURES = 7
"""What shared memory holds the sums of."""

MOST_RUN = 8
"""Blocks of columns that a program goes through."""

WAVES = 6
"""Programs for each multiprocessor, at least, so that the last, partly filled wave costs little."""

PRECISIONS = ("fp16", "bf16")


def usable(device: Any, precision: str, n_temperatures: int) -> bool:
    """Whether the kernels can run: on a Hopper GPU, on 16-bit numbers, with what compiles and launches them."""
    if precision not in PRECISIONS or not 1 <= n_temperatures <= MOST_TEMPERATURES or device.type != "cuda":
        return False
    if torch.cuda.get_device_capability(device)[0] != 9:
        return False
    return all(importlib.util.find_spec(name) is not None for name in ("cupy", "cuda", "cuda.core"))


def kernel_sums(
    X: Panel, Y: Panel, rates: Any, forms: Any, *, precision: str, capacity: int
) -> tuple[Any, Any, Any, list[NearPairs]] | int:
    """Pass 1 of two panels, as `clorg_scale.kernels.rld_launch.kernel_sums`."""
    t = len(rates)
    work = _Work(X, Y, 2 * t, t, capacity)
    distances = torch.zeros(work.programs * CONSUMERS, dtype=torch.float64, device=X.x.device)
    firsts = turns(forms.tolist())
    work.launch(
        "kernel_sums", precision,
        work.x, work.y, X.norms, Y.norms, rates, packed_turns(firsts), work.row_sums, work.column_sums, distances,
        *work.near, capacity, len(X.x), len(Y.x), X.x.shape[1] // STEP, t, len(firsts) - 1,
        work.run, int(X.start == Y.start),
    )  # fmt: skip
    found = near_pairs(work.near, capacity, TILE, TILE)
    return found if isinstance(found, int) else (*work.totals(), distances.sum(), found)


def affinity_sums(
    X: Panel, Y: Panel, x_weights: Any, y_weights: Any, rates: Any, forms: Any, *, precision: str, capacity: int
) -> tuple[Any, Any, list[NearPairs]] | int:
    """Pass 2 of two panels, as `clorg_scale.kernels.rld_launch.affinity_sums` where not `safe`."""
    t = len(rates)
    labels = bool((X.codes[0] <= Y.codes[-1]) & (Y.codes[0] <= X.codes[-1]) & (X.codes[-1] >= 0))
    work = _Work(X, Y, 2 * t if labels else t, t, capacity)
    firsts = turns(forms.tolist())
    work.launch(
        "affinity_sums", precision,
        work.x, work.y, X.norms, Y.norms, x_weights, y_weights, X.codes, Y.codes, rates, packed_turns(firsts),
        work.row_sums, work.column_sums, *work.near, capacity, len(X.x), len(Y.x),
        X.x.shape[1] // STEP, t, len(firsts) - 1, work.run, int(X.start == Y.start), int(labels),
    )  # fmt: skip
    found = near_pairs(work.near, capacity, TILE, TILE)
    if isinstance(found, int):
        return found
    over = []
    for sums in work.totals():  # all affinities, then those within classes
        within = sums[t:] if labels else torch.zeros_like(sums)
        over.append(torch.cat([sums[:t] - within, within]))
    return over[0], over[1], found


def buffer_bytes(n_rows: int, n_columns: int, n_features: int, n_sums: int) -> int:
    """Device memory that the packed panels and the partial sums of a pair of panels take."""
    rows, columns = _padded(n_rows), _padded(n_columns)
    strips, groups = columns // TILE, CONSUMERS * -(-rows // (TILE * ROWS * CONSUMERS))
    return 2 * (rows + columns) * n_features + 4 * n_sums * (groups * columns + strips * rows)


def turns(forms: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    """First temperature of each turn, and how many there are: a turn takes one, or two, the second the first's square.

    `forms` as `clorg_scale.kernels.rld_tiles` defines them.
    """
    firsts, t = [0], 0
    while t < len(forms):
        t += 2 if t + 1 < len(forms) and forms[t + 1] == 2 else 1
        firsts.append(t)
    return np.array(firsts, np.int32)


def packed_turns(firsts: Any) -> np.uint64:
    """`turns` in the bytes of a number."""
    return np.uint64(sum(int(first) << 8 * turn for turn, first in enumerate(firsts)))


class _Work:
    """A pair of panels: packed, with places for what the programs write."""

    def __init__(self, X: Panel, Y: Panel, n_sums: int, t: int, capacity: int) -> None:
        device = X.x.device
        rows, columns = _padded(len(X.x)) // TILE, _padded(len(Y.x)) // TILE
        self.n_rows, self.n_columns, self.n_sums, self.t = len(X.x), len(Y.x), n_sums, t
        self.x = _packed(X.x)
        self.y = self.x if X.start == Y.start else _packed(Y.x)
        groups = -(-rows // (ROWS * CONSUMERS))
        self.run = _run_length(groups, columns, device)
        strips = -(-columns // self.run)
        self.programs = groups * strips
        self.row_sums = torch.empty((strips, n_sums, rows * TILE), dtype=torch.float32, device=device)
        # Below the diagonal nothing is written; nor by consumers that have no rows.
        self.column_sums = torch.zeros((groups * CONSUMERS, n_sums, columns * TILE), dtype=torch.float32, device=device)
        self.near = (
            torch.empty((capacity, TILE, TILE), dtype=torch.int8, device=device),
            torch.empty((capacity, 2), dtype=torch.int32, device=device),
            torch.zeros(1, dtype=torch.int32, device=device),
        )

    def launch(self, name: str, precision: str, *arguments: Any) -> None:
        """Run a kernel on the current stream of torch."""
        kernel = _kernel(name, precision, self.x.device.index or 0)
        shared = shared_bytes(self.n_sums, self.t)
        kernel.max_dynamic_shared_size_bytes = shared
        _launch(kernel, self.programs, 128 * (CONSUMERS + 1), arguments, shared)

    def totals(self) -> tuple[Any, Any]:
        """What all programs wrote, added up in float64: (s, p) and (s, q)."""
        return over_parts(self.row_sums)[:, : self.n_rows], over_parts(self.column_sums)[:, : self.n_columns]


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


def _packed(x: Any) -> Any:
    """(n, d) of 2 bytes a number as the kernels read them: blocks of 128 points and 64 features."""
    n, d = x.shape
    packed = torch.empty((_padded(n), d), dtype=x.dtype, device=x.device)
    chunks = d // 8
    total = _padded(n) * chunks
    kernel = _kernel("pack", "fp16", x.device.index or 0)
    _launch(kernel, min(-(-total // 256), 132 * 64), 256, (x.contiguous(), packed, n, chunks, np.int64(total)), 0)
    return packed


def _launch(kernel: Any, blocks: int, threads: int, arguments: tuple[Any, ...], shared: int) -> None:
    """Run a kernel of CuPy's on tensors and integers of 32 bits, on the current stream of torch."""
    import cupy

    given = [np.uint64(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in arguments]
    given = [np.int32(a) if isinstance(a, int) else a for a in given]
    tensor = next(a for a in arguments if isinstance(a, torch.Tensor))
    stream = torch.cuda.current_stream(tensor.device)
    with cupy.cuda.Device(tensor.device.index or 0), cupy.cuda.ExternalStream(stream.cuda_stream):
        kernel((blocks,), (threads,), tuple(given), shared_mem=shared)


@cache
def _kernel(name: str, precision: str, device: int) -> Any:
    """A compiled kernel on a device."""
    import cupy

    with cupy.cuda.Device(device):
        return cupy.RawModule(path=str(_cubin(precision))).get_function(name)


@cache
def _cubin(precision: str) -> Path:
    """The compiled kernels, in CuPy's folder of them: compiling takes some ten seconds, once on a machine."""
    from cuda.bindings import nvrtc
    from cuda.core import Program, ProgramOptions

    source = (resources.files("clorg_scale.kernels") / "rld_hopper.cu").read_text(encoding="utf-8")
    digest = hashlib.sha256(f"{nvrtc.nvrtcVersion()} {precision} {source}".encode())
    folder = Path(os.environ.get("CUPY_CACHE_DIR", Path.home() / ".cupy" / "kernel_cache"))
    path = folder / f"clorg_scale_rld_hopper_{digest.hexdigest()[:20]}.cubin"
    if not path.exists():
        options = ProgramOptions(arch="sm_90a", std="c++17", define_macro=("BF16", str(int(precision == "bf16"))))
        code = Program(source, "c++", options).compile("cubin").code
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            folder = Path(tempfile.mkdtemp(prefix="clorg_scale_"))
            path = folder / path.name
        partial = folder / f"{path.name}.{os.getpid()}"
        partial.write_bytes(code)
        partial.replace(path)
    return path
