"""All probes on real images: accuracy with its interval, parameters, seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets import load_digits, load_fashion_mnist
from clorg_scale.errors import InputError

from .harness.peers import MissingPeerError, import_peer
from .harness.records import Record
from .harness.registry import Benchmark
from .harness.session import Case, Contender, Session

__all__ = ["BENCHMARK"]

QUICK = 3
"""Probes of --quick: those that train no graph network."""

Points = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def _run(session: Session) -> None:
    import clorg_scale as cs
    from clorg_scale.probes.comparison import PROBES, compare_probes

    asked = session.settings
    name, X, y, n_train = _images(asked.quick)
    k = asked.k or 15
    session.say(f"searching {k} neighbors of {len(X):,} images")
    graph = cs.affinity_graph(cs.knn(X, k, seed=asked.seed))
    case = Case(f"{name}, {n_train:,} + {len(X) - n_train:,} images, k = {k}", {"n": len(X), "d": X.shape[1], "k": k})
    parts = X[:n_train], y[:n_train], X[n_train:], y[n_train:]
    probes = PROBES[:QUICK] if asked.quick else PROBES
    for result in compare_probes(*parts, graph, probes=probes, k=k, seed=asked.seed):
        low, high = result.accuracy_interval
        quality = {"accuracy": result.accuracy, "low": low, "high": high, "parameters": result.n_parameters}
        measured = {"size": case.size, "times": [result.seconds], "quality": quality}
        session.emit(Record("", case.name, f"ours, {result.name}", "ours", **measured))
    if asked.quick:
        return
    variants: dict[str, dict[str, Any]] = {
        "gcn, sampled": {"batch_size": 8192, "fanout": 10},
        "gcn, labels + features": {"inputs": "both"},
    }
    try:
        import_peer("torch")
    except MissingPeerError as error:
        session.missing(case, "ours, gcn and its variants", str(error))
        return
    for variant, settings in variants.items():
        contender = Contender(
            f"ours, {variant}",
            lambda settings=settings: _variant(settings, X, y, graph, n_train),
            dict,
            role="ours",
            settings=settings,
        )
        session.compare(case, [contender], repeats=1)


def _images(quick: bool) -> tuple[str, Points, Labels, int]:
    """Training images first, then test images."""
    if not quick:
        try:
            images, labels = zip(*(load_fashion_mnist(split) for split in ("train", "test")), strict=True)
        except InputError as error:
            raise InputError(f"{error} The accuracies need it; --quick takes scikit-learn's digits.") from None
        X = np.concatenate(images).reshape(-1, 784).astype(np.float32) / 255
        return "fashion-mnist", X, np.concatenate(labels), len(labels[0])
    X, y = load_digits()
    return "digits", np.asarray(X, dtype=np.float32)[:900], np.asarray(y)[:900], 700


def _variant(settings: dict[str, Any], X: Points, y: Labels, graph: Any, n_train: int) -> dict[str, float]:
    """A GCN probe of other settings."""
    from clorg_scale.probes import GCNProbe
    from clorg_scale.probes.comparison import accuracy_interval

    train = np.arange(len(y)) < n_train
    probe = GCNProbe(**settings).fit(graph, np.where(train, y, -1), train, X if "inputs" in settings else None)
    right = int(np.count_nonzero(probe.predict()[~train] == y[~train]))
    low, high = accuracy_interval(right, len(y) - n_train)
    return {"accuracy": right / (len(y) - n_train), "low": low, "high": high, "parameters": probe.n_parameters}


BENCHMARK = Benchmark(
    "probes",
    "accuracy of all probes on real images, with intervals, parameters and seconds",
    "60,000 + 10,000 images (Fashion-MNIST), k = 15",
    4,
    _run,
    frozenset({"k"}),
)
