"""Packages that are missing are named with a line that works; `python -m clorg_scale`; shell completion."""

import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from packaging.requirements import Requirement

from clorg_scale import installation
from clorg_scale.installation import pip_line

WITHOUT = (
    "import sys, importlib.metadata as metadata\n"
    "missing = sys.argv.pop(1).split(',')\n"
    "version = metadata.version\n"
    "def version_of(name):\n"
    "    if name in missing: raise metadata.PackageNotFoundError(name)\n"
    "    return version(name)\n"
    "metadata.version = version_of\n"
    "class Without:\n"
    "    def __init__(self, finder): self.finder = finder\n"
    "    def __getattr__(self, name): return getattr(self.finder, name)\n"
    "    def find_spec(self, name, *rest):\n"
    "        return None if name in missing else self.finder.find_spec(name, *rest)\n"
    "sys.meta_path[:] = map(Without, sys.meta_path)\n"
    "from clorg_scale.cli import main; main()"
)


def run_without(packages, *arguments, cwd=None):
    """Run a command where some packages are not installed."""
    command = [sys.executable, "-c", WITHOUT, packages, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, cwd=cwd)


def requirements(line):
    """What a pip line asks for; each part is what pip accepts."""
    words = shlex.split(line)
    assert words[:2] == ["pip", "install"], line
    return {Requirement(word).name.lower() for word in words[2:]}


@pytest.mark.parametrize(
    ("extra", "package", "names"),
    [
        ("train", "torch", {"torch"}),
        ("cuda13", "cupy", {"cupy-cuda13x"}),
        ("cuda13", "pylibcugraph", {"pylibcugraph-cu13"}),
        ("test", "torch_geometric", {"torch-geometric"}),
        ("interop", "zarr", {"zarr"}),
        ("", "scikit-learn", {"scikit-learn"}),
        ("", "openTSNE", {"opentsne"}),
    ],
)
def test_line_for_a_package(extra, package, names):
    assert requirements(pip_line(extra, package)) == names


def test_line_for_an_extra_names_what_is_missing(monkeypatch):
    missing = {"cudf-cu13", "torch"}
    monkeypatch.setattr(installation, "_is_installed", lambda name: name not in missing)
    assert requirements(pip_line("rapids13")) == missing, "those of the extra that it is built on, too"
    assert requirements(pip_line("train")) == {"torch"}
    assert requirements(pip_line("train", "torchvision")) == {"torchvision"}
    monkeypatch.setattr(installation, "_is_installed", lambda name: True)
    assert requirements(pip_line("dask")) == {"dask", "distributed"}, "installed, but broken"


def test_every_extra_can_be_installed_without_the_name_of_the_project():
    for extra in ("train", "tensorboard", "timm", "sentences", "cuda13", "rapids13", "dask", "interop", "test"):
        assert requirements(pip_line(extra))
        assert "clorg" not in pip_line(extra)


def test_doctor_names_packages_that_pip_can_find():
    done = run_without("torch,zarr,anndata,igraph", "doctor", "--json")
    assert done.returncode == 1, "a package of the core is missing"
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    for name in ("torch", "zarr", "anndata"):
        assert not findings[name]["ok"]
        assert requirements(findings[name]["remedy"]) == {name}
    assert requirements(findings["igraph"]["remedy"]) == {"igraph"}
    for finding in findings.values():
        assert "clorg" not in finding["remedy"]
        if not finding["ok"] and finding["remedy"].startswith("pip install"):
            assert requirements(finding["remedy"])


@pytest.mark.parametrize(
    ("packages", "arguments", "line"),
    [
        ("h5py", ("knn", "x.h5"), "pip install 'h5py"),
        ("torch", ("train", "--out", "t"), "pip install 'torch"),
        ("dask,distributed", ("knn", "x.npy", "--dask", "local"), "pip install 'dask"),
    ],
)
def test_error_names_the_packages(tmp_path, packages, arguments, line):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((30, 3)))
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    done = run_without(packages, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done
    assert line in done.stderr
    assert "clorg-scale[" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("asked", [(), ("--probes", "knn,gcn")])
def test_probes_left_out_are_named_everywhere(tmp_path, asked):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", embeddings=rng.normal(size=(60, 4)), labels=np.arange(60) % 3)
    for _ in range(2 if asked else 1):  # the second time, stages are taken from the folder
        done = run_without(
            "torch", "analyze", "x.npz", "--out", "a", "--map-points", "0", "--method", "graph", *asked, cwd=tmp_path
        )
        assert done.returncode == 0, done
        left_out = "gcn" if asked else "gcn, sage"
        sentence = f"Left out, as they need PyTorch, which is not installed: {left_out} (pip install 'torch>="
        assert f"warning: {sentence}" in done.stderr
        record = json.loads((tmp_path / "a" / "analysis.json").read_text())
        note = next(stage["how"] for stage in record["stages"] if stage["stage"] == "probes")
        assert sentence in note
        assert [probe["name"] for probe in record["probes"]] == (
            ["knn"] if asked else ["linear", "knn", "label_propagation"]
        )
        assert f"not installed: {left_out}" in (tmp_path / "a" / "report.html").read_text()


@pytest.mark.slow
def test_the_package_runs_as_a_module():
    for arguments, word in ((("--version",), "clorg-scale "), ((), "Usage: clorg-scale"), (("rld", "--help"), "Usage")):
        done = subprocess.run(
            [sys.executable, "-m", "clorg_scale", *arguments], capture_output=True, text=True, timeout=200, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert word in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "clorg_scale", "knn", "no.npy"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*no\.npy.*\n", done.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell):
    done = complete({"_CLORG_SCALE_COMPLETE": f"source_{shell}"})
    assert "clorg-scale" in done
    assert f"complete_{shell}" in done


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("clorg-scale comm", {"communities"}),
        ("clorg-scale study te", {"temperature"}),
        ("clorg-scale knn --me", {"--metric", "--memory-limit"}),
    ],
)
def test_completion_of_words(words, expected):
    environment = {"_CLORG_SCALE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert set(complete(environment).split()) == expected


def complete(environment):
    done = subprocess.run(
        [sys.executable, "-c", "from clorg_scale.cli import main; main()"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
