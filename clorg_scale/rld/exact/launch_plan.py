"""Choice of the kernels that compute the tiles of exact RLD on a device, and of panels that fit into its memory."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, Literal, NamedTuple

from clorg_scale.arrays import free_device_memory
from clorg_scale.counted import counted
from clorg_scale.errors import InputError, require
from clorg_scale.rld.points import NEAR

__all__ = [
    "MOST_PANEL_ROWS",
    "DeviceSettings",
    "Kernels",
    "Problem",
    "choose_kernels",
    "device_limit",
    "near_tiles",
    "plan_panels",
    "tiles_of",
    "working_bytes",
]

Kernels = Literal["auto", "hopper", "triton", "torch"]

MOST_PANEL_ROWS = 1 << 16
"""Points in a panel: 32,768 programs of 8 tiles, so that the last, partly filled wave of them is below 1% of all."""

LEAST_RESIDENT_ROWS = 1 << 13
"""Smaller panels, to keep all points on the device, would take longer than streaming them."""

LEAST_PANEL_ROWS = 1 << 10
"""Smallest panels: where a pair of these does not fit, exact RLD is impossible."""

SPARE_TILES = 64
"""Tiles with near pairs (16 KiB each) that there is room for, beyond those on the diagonal."""


class DeviceSettings(NamedTuple):
    """Settings of a GPU.

    Attributes
    ----------
    precision
        ``"fp16"`` (default), ``"bf16"``, ``"tf32"``, ``"tf32x3"``, ``"ieee"`` (float32) or ``"fp64"``.
    kernels
        ``"auto"`` takes the kernels for Hopper where they can run, else Triton's, else ``"torch"``.
    device
        torch device; anything but CUDA is for tests of this code.
    memory_limit
        Bytes of device memory that may be taken; None takes 90% of what is free.
    most_panel_rows
        Points in a panel at most.
    """

    precision: str | None = None
    kernels: Kernels = "auto"
    device: str = "cuda"
    memory_limit: int | None = None
    most_panel_rows: int = MOST_PANEL_ROWS


class Problem(NamedTuple):
    """Size of the points, number of temperatures t, input mode of the matrix products, torch device, chosen kernels."""

    n: int
    n_features: int
    t: int
    precision: str
    device: Any
    kernels: str


def tiles_of(kernels: str) -> Any:
    """Module that computes the tiles, as `clorg_scale.kernels.rld_panels` describes."""
    if kernels == "hopper":
        from clorg_scale.kernels import rld_hopper

        return rld_hopper
    if kernels == "triton":
        from clorg_scale.kernels import rld_launch

        return rld_launch
    from clorg_scale.rld.exact import tiles_torch

    return tiles_torch


def choose_kernels(kernels: Kernels, precision: str, device: Any, n_temperatures: int) -> str:
    """Kernels that compute the tiles: those asked for, or the fastest that run.

    Warns
    -----
    UserWarning
        If the kernels for Hopper are made for the device, but cannot be compiled or loaded.

    Raises
    ------
    InputError
        If the kernels that were asked for cannot run.
    MissingDependencyError
        If Triton is asked for and not installed.
    """
    if kernels == "torch" or (kernels == "auto" and precision == "fp64"):
        return "torch"
    if precision == "fp64":
        raise InputError("The Triton kernels have no fp64; use kernels='torch' or another precision.")
    if kernels == "auto" and importlib.util.find_spec("triton") is None:
        return "torch"
    require("triton", extra="cuda13", purpose="The fused tiles of exact RLD")
    if kernels != "triton" and _hopper_kernels_run(precision, device, n_temperatures, required=kernels == "hopper"):
        return "hopper"
    if _triton_kernels_run(device):
        return "triton"
    if kernels == "triton":
        raise InputError(
            "The Triton kernels need an NVIDIA GPU of compute capability 8.0 or later; use kernels='torch'."
        )
    return "torch"


def _triton_kernels_run(device: Any) -> bool:
    import torch

    from clorg_scale.kernels.rld_launch import INTERPRETED

    return bool(INTERPRETED or (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)))


def _hopper_kernels_run(precision: str, device: Any, n_temperatures: int, *, required: bool) -> bool:
    """Whether the kernels for Hopper run here; compiles them."""
    from clorg_scale.kernels import rld_hopper

    if not rld_hopper.supported(device, precision, n_temperatures):
        if required:
            raise InputError(
                "The kernels for Hopper need a GPU of compute capability 9, precision fp16 or bf16 and at most "
                f"{rld_hopper.MOST_TEMPERATURES} temperatures; use kernels='triton'."
            )
        return False
    try:
        rld_hopper.compile_kernels(device, precision, NEAR)
    except rld_hopper.KernelsUnavailableError as error:
        if required:
            raise InputError(f"The kernels for Hopper cannot be compiled ({error}); use kernels='triton'.") from error
        warnings.warn(
            f"The kernels for Hopper cannot be compiled ({error}); exact RLD uses the Triton kernels, which take "
            "about twice the time.",
            stacklevel=2,
        )
        return False
    return True


def device_limit(memory_limit: int | None, device: Any) -> int:
    """Bytes that may be taken on a device: by default 90 % of what is free there."""
    if memory_limit is not None:
        return memory_limit
    return int(0.9 * free_device_memory()) if device.type == "cuda" else 2 << 30


def plan_panels(problem: Problem, memory_limit: int | None, *, most: int) -> tuple[int, bool]:
    """Points of a panel, at `most`, and whether all points stay on the device.

    Raises
    ------
    InputError
        If the smallest panels do not fit.
    """
    from clorg_scale.rld.exact.device_points import DevicePoints

    n, limit = problem.n, device_limit(memory_limit, problem.device)
    point = DevicePoints.bytes_per_point(problem.n_features, problem.precision)
    # R, D, log r, B, W and what is brought to main memory, all at once at the end.
    sums, converting = n * (9 * problem.t + 4) * 8, DevicePoints.converting_bytes(problem.precision)

    def resident(rows: int) -> int:
        return sums + n * point + max(working_bytes(problem, rows), converting)

    def streamed(rows: int) -> int:
        # Two panels at work, one that the device is about to be done with, one that is coming.
        return sums + 4 * rows * point + working_bytes(problem, rows) + converting

    for needed, least in ((resident, LEAST_RESIDENT_ROWS), (streamed, LEAST_PANEL_ROWS)):
        rows = min(most, n)
        while rows > least and needed(rows) > limit:
            rows = -(-rows // 2)
        if needed(rows) <= limit:
            return rows, needed is resident
    raise InputError(
        f"Exact RLD of {n} points with {counted(problem.n_features, 'feature')} needs at least "
        f"{streamed(rows) / 1e6:.0f} MB of device memory, but only {limit / 1e6:.0f} MB may be used; use "
        "device='cpu' or method='sampled'."
    )


def working_bytes(problem: Problem, rows: int) -> int:
    """Device memory beside points and their sums: what a pair of panels of so many rows takes, or the work between."""
    from clorg_scale.rld.exact.device_points import AT_ONCE

    t, d = problem.t, problem.n_features
    totals = 2 * t * rows * 16
    if problem.kernels == "torch":
        from clorg_scale.rld.exact.tiles_torch import TILE_BYTES

        tiles = 8 * min(TILE_BYTES[problem.device.type], 4 * rows * rows) + 4 * rows * d
    else:
        from clorg_scale.kernels import rld_launch

        config = rld_launch.tile_config(problem.precision)
        tiles = rld_launch.buffer_bytes(rows, rows, 2 * t, config) + near_tiles(rows) * config.m * config.n
        if problem.kernels == "hopper":
            tiles += 4 * rows * (d + 64)  # both panels, packed
    return max(tiles + totals, 10 * 8 * AT_ONCE)


def near_tiles(rows: int) -> int:
    """Tiles with near pairs that there is room for in a pair of panels: all of a diagonal, and some."""
    return 2 * -(-rows // 64) + SPARE_TILES
