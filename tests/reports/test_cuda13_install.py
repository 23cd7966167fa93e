"""constraints-cuda13.txt: what pip makes of the extra for a GPU has one CUDA runtime, and torch is built for it."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints-cuda13.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def pins(python: str) -> dict[str, Requirement]:
    """The constraints that hold under one version of Python, by name."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]
    found = [Requirement(line) for line in lines]
    valid = [pin for pin in found if pin.marker is None or pin.marker.evaluate({"python_version": python})]
    names = [canonicalize_name(pin.name) for pin in valid]
    assert len(set(names)) == len(names)
    return dict(zip(names, valid, strict=True))


def wanted(extra: str) -> list[Requirement]:
    """What the core and an extra ask for, other extras of ours that it names included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    waiting = [extra]
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            own = Requirement(line)
            if own.name == "clorg-scale":
                waiting += own.extras
            else:
                asked.append(line)
    return [Requirement(line) for line in asked]


def faults(packages: dict[str, str], torch_requires: list[str]) -> list[str]:
    """What is wrong with a resolved set: packages of another CUDA, several runtimes, a torch for the CPU."""
    found = [f"{name} is of another CUDA" for name in packages if re.search(r"cu1[12]\b|cuda1[12]x", name)]
    runtimes = sorted(name for name in packages if name.startswith("nvidia-cuda-runtime"))
    if runtimes != ["nvidia-cuda-runtime"] or Version(packages[runtimes[0]]).major != 13:
        found.append(f"the CUDA runtimes are {[f'{name} {packages[name]}' for name in runtimes]}")
    torch = Version(packages["torch"])
    if "cpu" in (torch.local or "") or not any("cudart" in part or "-cu13" in part for part in torch_requires):
        found.append(f"torch {torch} is no build for CUDA 13")
    return found


def exact(pin: Requirement) -> str:
    """The version that a pin names."""
    return next(part.version for part in pin.specifier if part.operator == "==")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra", ["cuda13", "rapids13", "train", "dask", "interop"])
def test_every_package_that_is_asked_for_is_pinned_to_what_it_may_be(extra, python):
    held = pins(python)
    for requirement in wanted(extra):
        pin = held[canonicalize_name(requirement.name)]
        if python == "3.11" and pin.name == "pandas":
            continue  # cuDF wants 3, AnnData for 3.11 wants 2: whichever is installed decides
        assert requirement.specifier.contains(exact(pin)), (str(requirement), str(pin))


def test_pins_name_one_cuda_and_no_build_for_the_cpu():
    held = pins("3.12")
    assert faults({name: exact(pin) for name, pin in held.items()}, ["nvidia-cudnn-cu13"]) == []
    torch = held["torch"].specifier
    assert torch.contains("2.14.1")
    assert torch.contains("2.14.1+cu130")
    assert not torch.contains("2.14.1+cpu")  # pip prefers a local version to the one without


def test_faults_are_seen():
    good = {"torch": "2.14.1", "nvidia-cuda-runtime": "13.0.96", "cupy-cuda13x": "14.2.0"}
    assert faults(good, ["cuda-toolkit[cudart]==13.0.3"]) == []
    assert faults(good | {"torch": "2.14.1+cpu"}, [])
    assert faults(good | {"nvidia-cuda-runtime-cu12": "12.9.79"}, ["nvidia-cudnn-cu13"])
    assert faults(good | {"nvidia-cublas-cu12": "12.9.1.4"}, ["nvidia-cudnn-cu13"])
    assert faults(good | {"cupy-cuda12x": "14.2.0"}, ["nvidia-cudnn-cu13"])
    assert faults(good | {"nvidia-cuda-runtime": "12.9.79"}, ["nvidia-cudnn-cu13"])
    assert faults({"torch": "2.14.1"}, ["nvidia-cudnn-cu13"])


def test_image_for_gpus_installs_with_the_constraints():
    recipe = (ROOT / "docker" / "Dockerfile.cuda13").read_text()
    assert re.search(r"^COPY .*\bconstraints-cuda13\.txt\b", recipe, re.MULTILINE)
    assert re.search(r"^RUN (/opt/venv/bin/)?pip install .*-c constraints-cuda13\.txt .*\[cuda13", recipe, re.MULTILINE)


def pip(folder: Path, *arguments: str, timeout: int) -> subprocess.CompletedProcess[str]:
    """Run a pip that reads metadata without downloading wheels (from 23.3 on), from `folder` if it was put there."""
    command = [sys.executable, "-m", "pip", "--no-cache-dir", "--disable-pip-version-check", *arguments]
    if (folder / "pip").exists():
        found_first = f"import sys; sys.path.insert(0, {str(folder)!r})"
        script = "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
        command[1:3] = ["-c", f"{found_first}; {script}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.slow
def test_dry_run_resolves_to_one_cuda(tmp_path):
    """A minute or so of waiting: of wheels only the metadata is read, by range requests."""
    reachable = pip(tmp_path, "download", "--no-deps", "--dest", str(tmp_path), "rapids-logger==0.3.0", timeout=100)
    if reachable.returncode:
        pytest.skip("no package index that has RAPIDS can be reached")
    if Version(pip(tmp_path, "--version", timeout=60).stdout.split()[1]) < Version("23.3"):
        fresh = pip(tmp_path, "install", "--quiet", "--target", str(tmp_path), "pip>=24", timeout=100)
        assert fresh.returncode == 0, fresh.stderr
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(5, 40)]
    resolved = pip(
        tmp_path,
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--use-feature=fast-deps",
        "--only-binary=:all:",
        "--python-version=3.12",
        f"--report={tmp_path / 'report.json'}",
        f"--target={tmp_path / 'nowhere'}",
        f"--constraint={CONSTRAINTS}",
        *platforms,
        "--platform=manylinux2014_x86_64",
        "--platform=linux_x86_64",
        *map(str, wanted("cuda13")),
        timeout=240,
    )
    assert resolved.returncode == 0, resolved.stderr
    installed = json.loads((tmp_path / "report.json").read_text())["install"]
    metadata = {canonicalize_name(part["metadata"]["name"]): part["metadata"] for part in installed}
    packages = {name: part["version"] for name, part in metadata.items()}
    assert faults(packages, metadata["torch"]["requires_dist"]) == []
    assert not (tmp_path / "nowhere").exists()
