"""The kernels in a wheel: under `clorg_scale.kernels`, CUDA sources included, the name `kernels` left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_wheel(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    (source / "README.md").touch()
    for name in ("bench", "clorg_scale", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run([sys.executable, *command], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(unpacked)
    files = {path.name for path in (ROOT / "kernels").iterdir() if path.suffix in (".py", ".cu", ".cuh")}
    assert {Path(name).name for name in names if name.startswith("clorg_scale/kernels/")} == files
    assert not any(name.startswith("kernels/") for name in names)
    program = (
        "import importlib.util, clorg_scale.kernels.graph as g; assert importlib.util.find_spec('kernels') is None; "
        "assert 'class_matches' in g.source('class_matches'); print(g.__file__)"
    )
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(run.stdout.strip()).is_relative_to(unpacked)
