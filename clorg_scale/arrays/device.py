"""Devices: where arrays are stored, and where to compute."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any, Literal

import numpy as np

from clorg_scale.arrays.pool import share_pool
from clorg_scale.errors import InputError
from clorg_scale.installation import pip_line

__all__ = ["Array", "Device", "array_module", "on_host", "resolve_device", "resolve_torch_device"]

Array = Any
"""A NumPy array (memory maps included) or a CuPy array."""

Device = Literal["auto", "cpu", "cuda"]


def array_module(*arrays: Array) -> ModuleType:
    """Array module of `arrays`: CuPy if any of them is on a GPU, NumPy otherwise."""
    if any(type(array).__module__.partition(".")[0] == "cupy" for array in arrays):
        return importlib.import_module("cupy")
    return np


def on_host(array: Array) -> np.ndarray[Any, Any]:
    """Copy an array to main memory, unless it is there already."""
    host: np.ndarray[Any, Any] = np.asarray(array) if array_module(array) is np else array.get()
    return host


def resolve_device(device: Device = "auto") -> Literal["cpu", "cuda"]:
    """Choose where to compute; with the first choice of a GPU its memory is shared (`clorg_scale.arrays.pool`).

    Parameters
    ----------
    device
        ``"auto"`` takes the GPU when CuPy sees one, the CPU otherwise.

    Raises
    ------
    InputError
        If ``"cuda"`` is asked for and no GPU can be used, or the name is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be 'auto', 'cpu' or 'cuda', not {device!r}.")
    if device == "cpu":
        return "cpu"
    problem = _gpu_problem()
    if problem is None:
        share_pool()
        return "cuda"
    if device == "cuda":
        raise InputError(
            f"device='cuda' was asked for, but {problem}; use device='cpu', or run 'clorg-scale doctor' "
            "to see what is missing."
        )
    return "cpu"


def resolve_torch_device(device: Device = "auto") -> Literal["cpu", "cuda"]:
    """Choose where PyTorch computes; CuPy need not be installed.

    Raises
    ------
    InputError
        If ``"cuda"`` is asked for and PyTorch sees no GPU, or the name is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be 'auto', 'cpu' or 'cuda', not {device!r}.")
    seen = device != "cpu" and bool(importlib.import_module("torch").cuda.is_available())
    if device == "cuda" and not seen:
        raise InputError("device='cuda' was asked for, but PyTorch sees no usable GPU; use device='cpu'.")
    return "cuda" if seen else "cpu"


def _gpu_problem() -> str | None:
    """Reason why no GPU can be used; None where one can."""
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed ({pip_line('cuda13')})"
    try:
        count = importlib.import_module("cupy").cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own classes, which cannot be named where it is absent
        return f"CuPy finds no usable GPU ({error})"
    return None if count else "no GPU was found"
