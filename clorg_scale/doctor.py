"""Check of this machine: what clorg-scale can use, and what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
from dataclasses import dataclass

from clorg_scale.installation import pip_line

__all__ = ["Finding", "examine"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    name
        Package or part of the machine.
    ok
        Whether it is present and works.
    what
        Version, size, or what is wrong.
    optional
        Whether clorg-scale works without it.
    remedy
        Command that installs it; empty where nothing is missing.
    """

    name: str
    ok: bool
    what: str
    optional: bool
    remedy: str


CORE = ("numpy", "scipy", "numba", "scikit-learn", "igraph", "openTSNE")

OPTIONAL = {
    "torch": ("train", "GCN and GraphSAGE probes, training of backbones"),
    "torchvision": ("train", "backbones and data sets"),
    "lightly": ("train", "contrastive training"),
    "timm": ("timm", "more backbones by name"),
    "tensorboard": ("tensorboard", "curves of a training in the browser"),
    "dask": ("dask", "many machines"),
    "safetensors": ("interop", "reading .safetensors"),
    "zarr": ("interop", "reading Zarr"),
    "pyarrow": ("interop", "reading Parquet"),
    "h5py": ("interop", "reading HDF5 and .h5ad"),
    "pandas": ("interop", "tables"),
    "anndata": ("interop", "graphs for Scanpy"),
    "networkx": ("interop", "graphs for NetworkX"),
}

GPU_PACKAGES = {
    "cupy": "arrays and graphs on the GPU",
    "pylibcugraph": "communities on the GPU",
    "cuvs": "nearest neighbors on the GPU",
    "triton": "the fused RLD kernels",
}

RAPIDS_PACKAGES = {"cudf": "tables on the GPU", "cugraph": "graphs for RAPIDS workflows"}


def examine() -> list[Finding]:
    """Examine the machine, the packages and the GPU, on which a kernel must run."""
    from clorg_scale.arrays import available_memory

    memory = f"{available_memory() / 1e9:.1f} GB available"
    findings = [
        Finding("Python", True, platform.python_version(), False, ""),
        Finding("machine", True, f"{os.cpu_count()} cores, {memory}", False, ""),
    ]
    findings += [_core(name) for name in CORE]
    findings.append(_faiss())
    findings += [_optional(name, extra, purpose) for name, (extra, purpose) in OPTIONAL.items()]
    findings += _gpu()
    findings += [_optional(name, "cuda13", purpose) for name, purpose in GPU_PACKAGES.items()]
    findings += [_optional(name, "rapids13", purpose) for name, purpose in RAPIDS_PACKAGES.items()]
    return findings


def _core(name: str) -> Finding:
    version = _version(name)
    return Finding(name, version is not None, version or "not installed", False, "" if version else pip_line("", name))


def _optional(name: str, extra: str, purpose: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding(name, False, f"not installed ({purpose})", True, pip_line(extra, name))
    candidates = [f"{name}-cuda13x", f"{name}-cuda12x", f"{name}-cu13", f"{name}-cu12", name]
    version = next((v for v in map(_version, candidates) if v), "installed")
    return Finding(name, True, f"{version} ({purpose})", True, "")


def _faiss() -> Finding:
    """Examine FAISS, of which two builds may have overwritten each other."""
    builds = [build for build in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu13-cuvs") if _version(build)]
    if len(builds) > 1:
        remedy = f"pip uninstall -y {' '.join(builds)} && pip install --no-deps {builds[-1]}"
        return Finding("faiss", False, f"{' and '.join(builds)} share one folder and break each other", False, remedy)
    try:
        faiss = importlib.import_module("faiss")
    except (ImportError, RuntimeError) as error:  # GPU builds raise the latter where CUDA libraries are missing
        return Finding("faiss", False, f"cannot be imported ({error})", False, pip_line("", "faiss-cpu"))
    for_gpus = hasattr(faiss, "StandardGpuResources")
    if builds and for_gpus != ("gpu" in builds[0]):
        remedy = f"pip uninstall -y {builds[0]} && pip install --no-deps {builds[0]}"
        other = "a GPU build" if for_gpus else "a build without GPUs"
        return Finding("faiss", False, f"{builds[0]}'s files were overwritten by {other}", False, remedy)
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return Finding(
        "faiss", True, f"{faiss.__version__}, {builds[0] if builds else 'own build'}, {gpus} GPUs", False, ""
    )


def _gpu() -> list[Finding]:
    """Run a kernel on the GPU: nothing else reveals an outdated driver or a build without code for this GPU."""
    from clorg_scale.arrays import resolve_device
    from clorg_scale.arrays.pool import share_pool
    from clorg_scale.errors import InputError

    try:
        resolve_device("cuda")
    except InputError as error:
        reason = str(error).partition("but ")[2].partition(";")[0]
        return [Finding("GPU", False, reason, True, f"everything works on the CPU; for a GPU: {pip_line('cuda13')}")]
    cupy = importlib.import_module("cupy")
    try:
        total = int((cupy.arange(1000) ** 2).sum())
        properties = cupy.cuda.runtime.getDeviceProperties(0)
    except Exception as error:  # any driver or compiler failure is a finding
        return [Finding("GPU", False, f"a kernel did not run ({error})", True, "update the NVIDIA driver")]
    name, memory = properties["name"].decode(), properties["totalGlobalMem"] / 1e9
    return [
        Finding("GPU", total == 332_833_500, f"{name}, {memory:.0f} GB, a kernel ran", True, ""),
        Finding("GPU memory", True, share_pool() + _torch_allocator(), True, ""),
    ]


def _torch_allocator() -> str:
    if importlib.util.find_spec("torch") is None:
        return ""
    return f", torch by its allocator {importlib.import_module('torch').cuda.get_allocator_backend()}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
