"""Engines: a device and the libraries that compute on it, in words that go into the record of a computation."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec

__all__ = ["engine_of"]

LIBRARIES = {
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
    "cuvs": ("cuvs-cu13", "cuvs-cu12", "cuvs"),
    "faiss": ("faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu13-cuvs", "faiss-cpu"),
    "pylibcugraph": ("pylibcugraph-cu13", "pylibcugraph-cu12", "pylibcugraph"),
    "pylibraft": ("pylibraft-cu13", "pylibraft-cu12", "pylibraft"),
    "torch": ("torch",),
    "triton": ("triton",),
}
"""Modules that compute on a GPU where they can be imported, and the packages that bring them."""


def engine_of(device: str) -> str:
    """Describe what computes on a device.

    Parameters
    ----------
    device
        ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    ``"cpu"``, or ``"cuda"`` with the libraries that can be imported and their versions. On the CPU the libraries are
    always there, and none takes the place of another that is missing.
    """
    if device == "cpu":
        return "cpu"
    found = [f"{module} {_version(packages)}" for module, packages in LIBRARIES.items() if _is_there(module)]
    return f"cuda ({', '.join(found)})"


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # a module that is loaded without a specification
        return False


def _version(packages: tuple[str, ...]) -> str:
    """Version of the first of these packages that is installed, and its name where it says more than the module's."""
    for package in packages:
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        return f"{version} ({package})" if package.startswith("faiss") else version
    return "of unknown version"
