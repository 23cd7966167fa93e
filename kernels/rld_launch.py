"""Launches the Triton tiles of exact RLD (`rld_tiles`) on torch tensors and adds up what the programs wrote."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from clorg_scale.kernels.rld_panels import AffinitySums, Exponents, KernelSums, Launch, NearPairs, Panel, Weights
from clorg_scale.kernels.rld_tiles import (
    CONFIGS,
    TileConfig,
    affinity_sums_kernel,
    kernel_sums_kernel,
    totals_kernel,
)

__all__ = [
    "INTERPRETED",
    "NearList",
    "affinity_sums",
    "buffer_bytes",
    "class_in_common",
    "kernel_sums",
    "sum_over_blocks",
    "tile_config",
]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton runs the kernels in Python, on tensors in main memory."""

PRECISIONS = {
    "fp16": (torch.float16, "ieee", "two_per_sm"),
    "bf16": (torch.bfloat16, "ieee", "two_per_sm"),
    "tf32": (torch.float32, "tf32", "float32"),
    "tf32x3": (torch.float32, "tf32x3", "emulated"),
    "ieee": (torch.float32, "ieee", "emulated"),
}
"""Storage dtype, precision of the product and default tile of each input mode."""

TOTALS_BLOCK = 512
"""Sums of one program: each of its 128 threads reads 16 bytes at a time."""


class NearList(NamedTuple):
    """Memory for the tiles with near pairs: (capacity, m, n) masks, (capacity, 2) blocks of rows and columns, count."""

    masks: Any
    blocks: Any
    count: Any

    @classmethod
    def empty(cls, capacity: int, m: int, n: int, device: Any) -> NearList:
        """Room for `capacity` tiles of m x n pairs."""
        return cls(
            torch.empty((capacity, m, n), dtype=torch.int8, device=device),
            torch.empty((capacity, 2), dtype=torch.int32, device=device),
            torch.zeros(1, dtype=torch.int32, device=device),
        )

    def found(self) -> list[NearPairs] | int:
        """Tiles with near pairs in a fixed order, or their number if there are too many."""
        found = int(self.count)
        capacity, m, n = self.masks.shape
        if found > capacity:
            return found
        blocks = self.blocks[:found].long()
        order = torch.argsort(blocks[:, 0] * 2**31 + blocks[:, 1])
        return [NearPairs(self.masks[:found][order], blocks[order, 0] * m, blocks[order, 1] * n)] if found else []


def tile_config(precision: str, name: str | None = None) -> TileConfig:
    """Shape of a program for an input mode, or the one called `name` in `CONFIGS`."""
    return CONFIGS[name or PRECISIONS[precision][2]]


def buffer_bytes(n_rows: int, n_columns: int, n_sums: int, config: TileConfig) -> int:
    """Device memory that the partial sums of a pair of panels take."""
    row_blocks, strips = _blocks(n_rows, n_columns, config)
    return 4 * n_sums * (row_blocks * n_columns + strips * config.pieces * n_rows)


def kernel_sums(
    X: Panel, Y: Panel, exponents: Exponents, launch: Launch, *, config: TileConfig | None = None
) -> KernelSums | int:
    """Pass 1 of two panels (see `rld_panels`), in tiles of another shape than the precision's own where given."""
    config, t = config or tile_config(launch.precision), len(exponents.rates)
    row_sums, column_sums, near = _buffers(X, Y, 2 * t, launch, config)
    distance_sums = torch.empty(_blocks(len(X.x), len(Y.x), config), dtype=torch.float32, device=X.x.device)
    points, sizes = (X.x, Y.x, X.norms, Y.norms), (len(X.x), len(Y.x), X.x.shape[1], t)
    kernel_sums_kernel[_grid(X, Y, config)](
        *points,
        *_on_device(exponents),
        row_sums,
        column_sums,
        distance_sums,
        *near,
        launch.capacity,
        *sizes,
        **_constants(X, Y, launch, config),
    )
    found = near.found()
    if isinstance(found, int):
        return found
    total = distance_sums.sum(dtype=torch.float64)
    return KernelSums(sum_over_blocks(row_sums), sum_over_blocks(column_sums), total, found)


def affinity_sums(
    X: Panel, Y: Panel, exponents: Exponents, weights: Weights, launch: Launch, *, config: TileConfig | None = None
) -> AffinitySums | int:
    """Pass 2 of two panels (see `rld_panels`)."""
    config, t = config or tile_config(launch.precision), len(exponents.rates)
    labels = class_in_common(X, Y)
    row_sums, column_sums, near = _buffers(X, Y, 2 * t if labels else t, launch, config, clear=labels)
    points, sizes = (X.x, Y.x, X.norms, Y.norms), (len(X.x), len(Y.x), X.x.shape[1], t)
    per_point = (weights.rows, weights.columns, X.codes, Y.codes)
    affinity_sums_kernel[_grid(X, Y, config)](
        *points,
        *per_point,
        *_on_device(exponents),
        row_sums,
        column_sums,
        *near,
        launch.capacity,
        *sizes,
        LOG_SPACE=weights.log_space,
        LABELS=labels,
        **_constants(X, Y, launch, config),
    )
    found = near.found()
    if isinstance(found, int):
        return found
    over_rows, over_columns = sum_over_blocks(row_sums), sum_over_blocks(column_sums)
    if not labels:
        over_rows, over_columns = (torch.cat([sums, torch.zeros_like(sums)]) for sums in (over_rows, over_columns))
    return AffinitySums(over_rows, over_columns, found)


def class_in_common(X: Panel, Y: Panel) -> bool:
    """Whether the panels' ranges of class codes overlap."""
    return bool((X.codes[0] <= Y.codes[-1]) & (Y.codes[0] <= X.codes[-1]) & (X.codes[-1] >= 0))


def sum_over_blocks(partial: Any) -> Any:
    """(b, s, n) float32 added up over the first axis, in order and in float64."""
    totals = torch.empty(partial.shape[1:], dtype=torch.float64, device=partial.device)
    if totals.numel():
        grid = (-(-totals.numel() // TOTALS_BLOCK),)
        totals_kernel[grid](partial, totals, len(partial), totals.numel(), BLOCK=TOTALS_BLOCK, num_warps=4)
    return totals


def _on_device(exponents: Exponents) -> tuple[Any, Any]:
    return exponents.rates.to(torch.float32), exponents.square_of


def _blocks(n_rows: int, n_columns: int, config: TileConfig) -> tuple[int, int]:
    return -(-n_rows // config.m), -(-n_columns // (config.n * config.run))


def _grid(X: Panel, Y: Panel, config: TileConfig) -> tuple[int]:
    row_blocks, strips = _blocks(len(X.x), len(Y.x), config)
    return (row_blocks * strips,)


def _constants(X: Panel, Y: Panel, launch: Launch, config: TileConfig) -> dict[str, Any]:
    """Compile-time arguments; tensor descriptors where the copy engine is there and tensor cores read the tiles."""
    tma = launch.precision != "ieee" and _has_copy_engine(X.x)
    if tma:
        triton.set_allocator(_scratch)
    return {
        "NEAR": launch.near,
        "DIAGONAL": X.start == Y.start,
        "TMA": tma,
        "PRECISION": PRECISIONS[launch.precision][1],
        "BLOCK_M": config.m,
        "BLOCK_N": config.n,
        "BLOCK_K": config.k,
        "PIECES": config.pieces,
        "RUN": config.run,
        "GROUP": config.group,
        "num_warps": config.warps,
        "num_stages": config.stages,
    }


def _has_copy_engine(x: Any) -> bool:
    """Whether the GPU copies tiles by descriptor, and Triton knows how (from 3.4 on)."""
    hopper = x.is_cuda and torch.cuda.get_device_capability(x.device) >= (9, 0)
    return bool(hopper and hasattr(tl, "make_tensor_descriptor"))


def _scratch(size: int, alignment: int, stream: int | None) -> Any:
    """Device memory for the tensor descriptors that a kernel makes."""
    return torch.empty(size, dtype=torch.int8, device="cuda")


def _buffers(
    X: Panel, Y: Panel, n_sums: int, launch: Launch, config: TileConfig, *, clear: bool = False
) -> tuple[Any, Any, NearList]:
    """Memory for every program's sums; cleared where some tiles write nothing."""
    device = X.x.device
    row_blocks, strips = _blocks(len(X.x), len(Y.x), config)
    row_sums = torch.zeros((strips * config.pieces, n_sums, len(X.x)), dtype=torch.float32, device=device)
    make = torch.zeros if clear or X.start == Y.start else torch.empty
    column_sums = make((row_blocks, n_sums, len(Y.x)), dtype=torch.float32, device=device)
    return row_sums, column_sums, NearList.empty(launch.capacity, config.m, config.n, device)
