"""Description of the machine, the libraries and the commit in a record."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["blas_libraries", "commit", "describe_machine", "library_versions"]

LIBRARIES = ("clorg-scale", "numpy", "scipy", "numba", "faiss-cpu", "scikit-learn", "igraph", "torch")
"""Packages whose versions are in every record."""

INSTRUCTION_SETS = (("AVX-512", "avx512f"), ("AVX2", "avx2"), ("AVX", "avx"), ("SVE", "sve"), ("NEON", "asimd"))
"""Widest first, with the flag of /proc/cpuinfo."""


@cache
def describe_machine() -> dict[str, Any]:
    """Processor, cores, instruction set, memory in bytes, GPU and driver (None where there is no GPU)."""
    gpu, driver = _gpu()
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": _instruction_set(),
        "memory": _memory(),
        "gpu": gpu,
        "driver": driver,
        "system": f"{platform.system()} {platform.machine()}",
    }


def library_versions(*more: str) -> dict[str, str]:
    """Versions of Python, of `LIBRARIES` and of further packages, where they are installed."""
    versions = {"python": platform.python_version()}
    for package in dict.fromkeys((*LIBRARIES, *more)):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def blas_libraries() -> list[str]:
    """BLAS libraries that are loaded, with version, kernel and number of threads."""
    from threadpoolctl import threadpool_info

    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    texts = [
        f"{pool['internal_api']} {pool.get('version') or ''} {pool.get('architecture') or ''} "
        f"({pool['num_threads']} threads)"
        for pool in found
    ]
    return sorted({" ".join(text.split()) for text in texts})


@cache
def commit() -> str | None:
    """Commit of the checkout that this file lies in, with a + where files differ from it; None where there is none."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists() or shutil.which("git") is None:
        return None
    head = _output(["git", "-C", str(folder), "rev-parse", "--short", "HEAD"])
    changed = _output(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return None if head is None else head + ("+" if changed else "")


def _instruction_set() -> str | None:
    flags = (_cpuinfo("flags") or _cpuinfo("Features") or "").split()
    return next((name for name, flag in INSTRUCTION_SETS if flag in flags), None)


def _cpuinfo(field: str) -> str | None:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), None)


def _memory() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gpu() -> tuple[str | None, str | None]:
    """Name and driver of the first NVIDIA GPU."""
    if shutil.which("nvidia-smi") is None:
        return None, None
    line = _output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    name, _, driver = (line or "").partition("\n")[0].partition(",")
    return name.strip() or None, driver.strip() or None


def _output(command: list[str]) -> str | None:
    """Standard output of a command; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
