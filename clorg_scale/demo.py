"""The demonstration: the same images embedded by two small networks, one contrastive, one supervised, compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clorg_scale.analysis import analyze, compare
from clorg_scale.datasets import FASHION_MNIST_CLASSES, load_fashion_mnist_embeddings

__all__ = ["run_demo"]


def run_demo(out: str | Path, *, seed: int = 0, progress: bool = False) -> Path:
    """Analyse the embeddings of Fashion-MNIST that ship with the package; write two reports and their comparison.

    10,000 training images are analyzed; the probes are scored on 10,000 test images.

    Parameters
    ----------
    out
        Folder for the results.
    seed
        Of everything random.
    progress
        Show progress bars on stderr.

    Returns
    -------
    Path of the comparison page.
    """
    names = np.array(FASHION_MNIST_CLASSES)
    analyses = {}
    for network in ("contrastive", "supervised"):
        print(f"Fashion-MNIST by the {network} network ...", flush=True)
        train, test = (load_fashion_mnist_embeddings(network, split) for split in ("train", "test"))
        analyses[network] = analyze(
            train.embeddings, names[train.labels], test_embeddings=test.embeddings, test_labels=names[test.labels],
            name=network, output=Path(out) / network, seed=seed, progress=progress,
        )  # fmt: skip
    comparison = compare(analyses)
    for row in comparison.table():
        values = "  ".join(_number(row[network]) for network in analyses)
        print(f"{row['quantity']:<34} {values}")
    return comparison.report(Path(out) / "comparison.html")


def _number(value: str | float | None) -> str:
    """Four digits, none for counts."""
    return f"{value:12.4f}" if isinstance(value, float) else f"{value:>12}"
