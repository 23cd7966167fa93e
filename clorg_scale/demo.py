"""Demonstration: the same images embedded by two small networks, one contrastive, one supervised, compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clorg_scale.analysis import analyze, compare
from clorg_scale.datasets import FASHION_MNIST_CLASSES, load_fashion_mnist_embeddings
from clorg_scale.store.atomic import result_folder
from clorg_scale.store.locks import lock_folder, releasing_locks
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = ["run_demo"]


@releasing_locks
def run_demo(out: str | Path, *, seed: int = 0, progress: bool = False) -> Path:
    """Analyze the embeddings of Fashion-MNIST that ship with the package; write two reports and their comparison.

    10,000 training images are analyzed; the probes are scored on 10,000 test images.

    Parameters
    ----------
    out
        Folder for the results.
    seed
        Seed of everything random.
    progress
        Show progress bars on stderr.

    Returns
    -------
    Path of the comparison page.

    Raises
    ------
    InputError
        If the seed is no whole number, the folder cannot be written, or another run is writing to it.
    """
    seed = whole_number("seed", seed, 0, MOST_SEED)
    names = np.array(FASHION_MNIST_CLASSES)
    analyses = {}
    with result_folder(Path(out)):
        lock_folder(out)
        for network in ("contrastive", "supervised"):
            print(f"Fashion-MNIST by the {network} network ...", flush=True)
            train, test = (load_fashion_mnist_embeddings(network, split) for split in ("train", "test"))
            analyses[network] = analyze(
                train.embeddings,
                names[train.labels],
                test_embeddings=test.embeddings,
                test_labels=names[test.labels],
                name=network,
                output=Path(out) / network,
                seed=seed,
                progress=progress,
            )
        comparison = compare(analyses)
        for row in comparison.table():
            values = "  ".join(_number(row[network]) for network in analyses)
            print(f"{row['quantity']:<34} {values}")
        return comparison.report(Path(out) / "comparison.html")


def _number(value: str | float | None) -> str:
    """Four digits, none for counts."""
    return f"{value:12.4f}" if isinstance(value, float) else f"{value:>12}"
