"""Commands and code of README.md run as they are written."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from readme_text import HAS_TORCH, RUN, blocks, shell_commands

import clorg_scale as cs
from clorg_scale.datasets import load_fashion_mnist_embeddings

SIZE = 300
"""Points in each of the files that commands read: enough for 15 neighbors and ten classes."""


def images(network: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The first `SIZE` shipped embeddings of a network, and their classes."""
    stored = load_fashion_mnist_embeddings(network, split)
    return np.asarray(stored.embeddings[:SIZE], dtype=np.float32), stored.labels[:SIZE]


@pytest.mark.parametrize(
    "probes", [pytest.param("knn", id="quick"), pytest.param(None, id="as written", marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("few_epochs")
def test_commands_run(tmp_path, monkeypatch, probes):
    """In the order of the README, in one folder; `compare` gets copies of the two analyses.

    The quick variant leaves out graph networks.
    """
    monkeypatch.chdir(tmp_path)
    for file, labels, network, split in (
        ("embeddings", "labels", "contrastive", "train"),
        ("train", "y", "supervised", "train"),
        ("test", "y_test", "supervised", "test"),
    ):
        X, y = images(network, split)
        np.save(f"{file}.npy", X)
        np.save(f"{labels}.npy", y)
    names = iter(("results-contrastive", "results-supervised"))
    for command in [command for command in shell_commands() if command in RUN]:
        added = ("--probes", probes) if probes and "analyze" in command else ()
        outcome = run(*shlex.split(command)[1:], *added)
        assert outcome.code == 0, (command, outcome.err)
        assert outcome.out
        if "analyze" in command:
            shutil.copytree("results", next(names))
    for file in ("results-contrastive/analysis.json", "results-supervised/report.html", "comparison/comparison.html"):
        assert Path(file).stat().st_size > 5_000


@pytest.mark.parametrize(
    "quick", [pytest.param(True, id="quick"), pytest.param(False, id="as written", marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("few_epochs")
def test_python_runs(tmp_path, monkeypatch, quick):
    """Line by line as it stands; the quick variant trains no graph network."""
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    if quick or not HAS_TORCH:
        code = "\n".join(line for line in code.splitlines() if "GCNProbe" not in line)
    if quick:
        assert 'output="results")' in code
        code = code.replace('output="results")', 'output="results", probes=("knn",), map_points=0)')
    embeddings, labels = images("contrastive", "train")
    X, y = images("supervised", "train")
    X_test, y_test = images("supervised", "test")
    train_mask = np.arange(SIZE) % 5 > 0
    a, b = (cs.analyze(*data, probes=(), map_points=0) for data in ((embeddings, labels), (X, y)))
    names = {
        "embeddings": embeddings,
        "labels": labels,
        "X": X,
        "y": y,
        "X_test": X_test,
        "y_test": y_test,
        "train_mask": train_mask,
        "test_mask": ~train_mask,
        "a": a,
        "b": b,
    }
    exec(compile(code, "README.md", "exec"), names)
    assert Path("comparison.html").stat().st_size > 5_000
    assert isinstance(names["result"], cs.RLDResult)
    for name in re.findall(r"(\w+)[, ]", re.search(r"RLDResult: ([\w, ]+)", code)[1]):
        assert hasattr(names["result"], name), name
