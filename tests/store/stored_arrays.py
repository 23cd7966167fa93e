"""Arrays to store, and what the tests of stores share."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
Y = np.arange(50) % 3


def check(stored, embeddings=X, labels=Y):
    """The stored arrays are these."""
    assert np.array_equal(stored.embeddings, embeddings)
    assert stored.embeddings.dtype == embeddings.dtype
    if labels is None:
        assert stored.labels is None
    else:
        assert stored.labels.tolist() == list(labels)


def names(folder: Path) -> list[str]:
    """Names of everything in a folder."""
    return sorted(path.name for path in folder.iterdir())


def run_python(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own."""
    command = [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
