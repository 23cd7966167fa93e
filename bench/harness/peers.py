"""Peers that are not among the dependencies: found where they are installed, installed in a folder of their own.

Peers that live with our dependencies share one folder, which is appended to the module search path, so that they meet
ours within one process and nothing of ours is replaced. Those that do not (RAPIDS beside another NumPy or Numba) get an
environment of their own each, and run in a process of its Python.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from clorg_scale.errors import InputError, lacks_memory

from .machine import describe_machine

__all__ = ["MissingPeerError", "add_peers_to_path", "import_peer", "install_peers", "own_environment", "peers_folder"]

OWN_ENVIRONMENT = {"cuml": ("cuml-cu13",), "cugraph": ("cugraph-cu13",)}
"""Peers that pin other versions of our dependencies."""


GPU_ONLY = ("cuml-cu13", "cugraph-cu13")


class MissingPeerError(Exception):
    """A peer is not installed, or is left out at this size; the message says why, and how to get it."""


def import_peer(module: str, package: str | None = None) -> ModuleType:
    """Import a module of a peer.

    Raises
    ------
    MissingPeerError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        if lacks_memory(error):
            raise
        name = package or module.partition(".")[0]
        raise MissingPeerError(
            f"{name} is not installed ({error}); run again with --install-peers, or pip install {name}"
        ) from None


def peers_folder() -> Path:
    """Folder of the installed peers: below ``XDG_CACHE_HOME`` or ``~/.cache``, one for each version of Python."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "clorg-scale" / "bench-peers" / f"python{sys.version_info.major}.{sys.version_info.minor}"


def add_peers_to_path() -> None:
    """Let this process import the installed peers; what is installed with clorg-scale goes first."""
    packages = _site_packages(peers_folder() / "shared")
    if packages.is_dir() and str(packages) not in sys.path:
        sys.path.append(str(packages))
        importlib.invalidate_caches()


def install_peers(packages: tuple[str, ...]) -> dict[str, str]:
    """Install packages of peers that are not there, each by itself, so that one failure leaves the others.

    Returns
    -------
    Package and the reason of those that could not be installed.

    Raises
    ------
    InputError
        If no environment can be made.
    """
    failed: dict[str, str] = {}
    for package in packages:
        if _is_installed(package):
            continue
        if package in GPU_ONLY and describe_machine()["gpu"] is None:
            print(f"{package} is not installed: there is no GPU", file=sys.stderr, flush=True)
            continue
        own = next((name for name, members in OWN_ENVIRONMENT.items() if package in members), None)
        folder = peers_folder() / (own or "shared")
        python = _environment(folder, isolated=own is not None)
        print(f"installing {package} into {folder}", file=sys.stderr, flush=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        if own is None:
            command += ["--no-build-isolation"] if package == "torch-sparse" else []
            command += ["--constraint", str(_constraints(folder))]
        done = subprocess.run([*command, package], capture_output=True, text=True, check=False)
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if "error" in line.lower()]
            failed[package] = (reasons or done.stderr.splitlines() or ["pip failed"])[0].strip()
            print(f"{package} cannot be installed: {failed[package]}", file=sys.stderr, flush=True)
    add_peers_to_path()
    return failed


def own_environment(name: str) -> Path | None:
    """Python of a peer's own environment; None where it was not made."""
    python = peers_folder() / name / "bin" / "python"
    return python if python.exists() else None


def _is_installed(package: str) -> bool:
    paths = [*sys.path, str(_site_packages(peers_folder() / "shared"))]
    own = next((name for name, members in OWN_ENVIRONMENT.items() if package in members), None)
    if own is not None:
        paths.append(str(_site_packages(peers_folder() / own)))
    return any(True for _ in importlib.metadata.distributions(name=package, path=paths))


def _environment(folder: Path, *, isolated: bool) -> Path:
    """Python of an environment, made where it is missing; not isolated, it sees the packages of this one."""
    python = folder / "bin" / "python"
    if python.exists():
        return python
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=True)
        if not isolated:
            here = [path for path in sys.path if path.endswith("site-packages")]
            (_site_packages(folder) / "zz_clorg_scale.pth").write_text("\n".join(here) + "\n")
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        raise InputError(f"No environment for peers can be made in {folder}: {' '.join(str(reason).split())}") from None
    return python


def _constraints(folder: Path) -> Path:
    """The versions that are installed here, so that no second copy of a dependency is installed."""
    lines = {
        f"{found.metadata['Name']}=={found.version}"
        for found in importlib.metadata.distributions()
        if found.metadata["Name"] and found.metadata["Name"] != "clorg-scale"
    }
    path = folder / "constraints.txt"
    path.write_text("\n".join(sorted(lines)) + "\n")
    return path


def _site_packages(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
