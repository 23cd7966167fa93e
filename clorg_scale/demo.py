"""Demonstration: the same images embedded by two small networks, one contrastive, one supervised, compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clorg_scale.analysis import Analysis, analyze, compare
from clorg_scale.datasets import FASHION_MNIST_CLASSES, load_fashion_mnist_embeddings
from clorg_scale.installation import pip_line
from clorg_scale.store.atomic import result_folder
from clorg_scale.store.locks import lock_folder, releasing_locks
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = ["findings", "run_demo"]


LEAST_COMPILATION = 1.0
"""Seconds of compilation that are worth a line."""


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
        If the seed is not a whole number, the folder cannot be written, or another run is writing to it.
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
            print(f"{row['quantity']:<42} {values}")
        print("\n" + "\n".join(findings(analyses)))
        compiling = sum(stage.compile_seconds for analysis in analyses.values() for stage in analysis.stages)
        if compiling >= LEAST_COMPILATION:
            print(f"\nCompilation, on the first use only and in no stage's time, took {compiling:.0f} s.")
        return comparison.report(Path(out) / "comparison.html")


def findings(analyses: Mapping[str, Analysis]) -> list[str]:
    """State in three sentences what the paper is about: density near and far, homogeneity, GCN against linear.

    Parameters
    ----------
    analyses
        By the name of the model, at the same temperatures and numbers of neighbors.
    """
    first = next(iter(analyses.values()))
    temperatures = first.rld.temperatures
    near, far = temperatures.index(min(temperatures)), temperatures.index(max(temperatures))
    values = {name: analysis.rld.values for name, analysis in analyses.items()}
    densest = {at: max(values, key=lambda name: values[name][at]) for at in (near, far)}
    chi = {name: analysis.class_homogeneity for name, analysis in analyses.items()}
    least, most = min(first.class_homogeneity), max(first.class_homogeneity)
    falls = "; ".join(f"{name} {of[least]:.3f} and {of[most]:.3f}" for name, of in chi.items())
    return [
        f"Density: among near neighbors (T = {temperatures[near]:g}) the classes are densest in the {densest[near]} "
        f"embeddings (RLD {_listed({name: of[near] for name, of in values.items()})}), across the whole set "
        f"(T = {temperatures[far]:g}) in the {densest[far]} ones "
        f"({_listed({name: of[far] for name, of in values.items()})}).",
        f"Class homogeneity (share of the k nearest neighbors of the same class) at k = {least} and {most:,}: {falls}.",
        _graph_against_linear(analyses),
    ]


def _graph_against_linear(analyses: Mapping[str, Analysis]) -> str:
    """Compare the GCN, which sees labels on a graph, with the linear probe, which sees the embeddings."""
    clauses = []
    for name, analysis in analyses.items():
        scores = {probe.name: probe for probe in analysis.probes}
        if not {"gcn", "linear"} <= scores.keys():
            return f"GCN against linear: the GCN needs PyTorch and did not run; install it with: {pip_line('train')}"
        gcn, linear = scores["gcn"], scores["linear"]
        clauses.append(f"{name} {gcn.accuracy:.3f} and {linear.accuracy:.3f}")
    return (
        f"Accuracy of the GCN probe ({gcn.n_parameters:,} parameters, sees the graph only) and of the linear probe "
        f"({linear.n_parameters:,}, sees the embeddings): {'; '.join(clauses)}."
    )


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _number(value: str | float | None) -> str:
    """Four digits, none for counts."""
    return f"{value:12.4f}" if isinstance(value, float) else f"{value:>12}"
