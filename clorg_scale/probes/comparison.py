"""All probes on the same split: accuracy, parameters and time side by side."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import (
    UNLABELLED,
    ClassLabels,
    Device,
    as_embeddings,
    encode_labels,
    is_unlabelled,
    label_array,
    on_host,
)
from clorg_scale.errors import InputError
from clorg_scale.installation import pip_line
from clorg_scale.neighbors.result import KNN, Metric
from clorg_scale.probes.result import ProbeResult
from clorg_scale.probes.transductive import read_graph
from clorg_scale.whole import whole_number

__all__ = ["GRAPH_PROBES", "PROBES", "ProbeResult", "compare_probes", "installed_probes", "joint_codes"]

PROBES = ("linear", "knn", "label_propagation", "gcn", "sage")
"""Names that `compare_probes` knows; the last two need PyTorch."""

TORCH_PROBES = ("gcn", "sage")
NOT_REPORTED = ("progress", "n_features_in", "unlabelled", "memory_limit")
"""Values of a probe that do not describe its result."""

GRAPH_PROBES = ("label_propagation", "gcn", "sage")


def compare_probes(
    embeddings: Any,
    labels: Any,
    test_embeddings: Any,
    test_labels: Any,
    graph: Any,
    *,
    probes: Sequence[str] = PROBES,
    k: int = 15,
    metric: Metric = "euclidean",
    neighbors: KNN | None = None,
    seed: int = 0,
    device: Device = "auto",
    memory_limit: str | int | None = None,
    progress: bool = False,
    unlabelled: int | str | None = UNLABELLED,
    max_over_epochs: bool = False,
) -> list[ProbeResult]:
    """Train every probe on the training points and score it on the test points.

    Parameters
    ----------
    embeddings, labels
        (n, d) and (n,), the training points; those without a label are left out of training.
    test_embeddings, test_labels
        (m, d) and (m,), the test points; those without a label are left out of the accuracy, those of a class
        that no training point has count as wrong.
    graph
        `AffinityGraph` over the n training points followed by the m test points. No probe is shown a test
        label: the graph probes are handed -1 for every test node.
    probes
        Names from `PROBES`, in the order of the result. Where PyTorch is not installed, those that need it are left
        out with a warning.
    k, metric
        Settings of the k-NN probe.
    neighbors
        k-NN table over the n training points followed by the m test points, if there is one already: the k-NN probe
        takes its neighbors from there as far as they suffice.
    seed, device, memory_limit, progress
        As for the probes themselves.
    unlabelled
        The label of points without a class; None: every label, -1 too, is a class.

    max_over_epochs
        Record the largest test accuracy over all epochs of the graph networks in `ProbeResult.details`: the number that
        the code of the paper reports, where ours stops on held-out training nodes.

    Returns
    -------
    One `ProbeResult` for each probe that ran.

    Raises
    ------
    InputError
        If the arrays do not fit together or a name is unknown.
    """
    unknown = [name for name in probes if name not in PROBES]
    if unknown:
        raise InputError(f"There is no probe {unknown[0]!r}; choose from {', '.join(PROBES)}.")
    X, X_test = as_embeddings(embeddings), as_embeddings(test_embeddings, name="test embeddings")
    n, m = X.shape[0], X_test.shape[0]
    if X.shape[1] != X_test.shape[1]:
        raise InputError(f"The test embeddings have {X_test.shape[1]} features, the embeddings {X.shape[1]}.")
    n_nodes = len(read_graph(graph)[0]) - 1
    if n_nodes != n + m:
        raise InputError(f"The graph has {n_nodes} nodes; {n} training points followed by {m} test points are needed.")
    codes, test_codes = joint_codes(labels, n, test_labels, m, unlabelled)
    seed = whole_number("seed", seed, 0)
    settings = _Settings(k, metric, seed, device, memory_limit, progress, max_over_epochs)
    task = _Task(X, codes, X_test, test_codes, graph, neighbors)
    return [_score(name, settings, task) for name in _available(probes)]


def joint_codes(
    labels: Any, n: int, test_labels: Any, m: int, unlabelled_label: int | str | None = UNLABELLED
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Codes of training and test labels in one numbering; -1 where unlabelled."""
    if isinstance(labels, ClassLabels) and isinstance(test_labels, ClassLabels):  # in one numbering already
        return labels.codes, test_labels.codes
    train = encode_labels(labels, n, unlabelled=unlabelled_label)
    test = label_array(test_labels, m, name="test labels")
    if (train.names.dtype.kind == "U") != (test.dtype.kind == "U"):
        raise InputError(
            f"The labels have dtype {train.names.dtype}, the test labels {test.dtype}; use the same kind of "
            "names in both."
        )
    unlabelled = is_unlabelled(test, unlabelled_label)
    if unlabelled.all():
        raise InputError("None of the test points has a label, so no probe can be scored.")
    classes = np.unique(np.concatenate([train.names, test[~unlabelled]]))
    numbers = np.searchsorted(classes, train.names)
    codes = np.where(train.codes >= 0, numbers[train.codes], UNLABELLED)
    return codes, np.where(unlabelled, UNLABELLED, np.searchsorted(classes, test)).astype(np.int64)


def _available(probes: Sequence[str]) -> list[str]:
    """Leave out the probes whose packages are not installed."""
    available, left_out = installed_probes(probes)
    if left_out:
        warnings.warn(left_out, stacklevel=3)
    return available


def installed_probes(probes: Sequence[str]) -> tuple[list[str], str]:
    """Tell which of the probes can run here.

    Returns
    -------
    Those that can, and a sentence that names the others and says how to get them; "" where there are none.
    """
    if importlib.util.find_spec("torch") is not None:
        return list(probes), ""
    left_out = [name for name in probes if name in TORCH_PROBES]
    sentence = (
        f"Left out, as they need PyTorch, which is not installed: {', '.join(left_out)} ({pip_line('train', 'torch')})."
    )
    return [name for name in probes if name not in TORCH_PROBES], sentence if left_out else ""


@dataclass(frozen=True)
class _Settings:
    k: int
    metric: Metric
    seed: int
    device: Device
    memory_limit: str | int | None
    progress: bool
    max_over_epochs: bool


class _Task(NamedTuple):
    """Training and test points in one numbering of classes, the graph over both, and their neighbors if known."""

    X: Any
    codes: npt.NDArray[np.int64]
    X_test: Any
    test_codes: npt.NDArray[np.int64]
    graph: Any
    neighbors: KNN | None


class _Predictions(NamedTuple):
    """Codes predicted for the test points, and details of the prediction for the result."""

    codes: npt.NDArray[np.int64]
    n_parameters: int
    settings: dict[str, str | int | float | bool]
    details: dict[str, float]


def _score(name: str, settings: _Settings, task: _Task) -> ProbeResult:
    """Train and score one probe."""
    start = time.perf_counter()
    found = _graph_probe(name, settings, task) if name in GRAPH_PROBES else _point_probe(name, settings, task)
    seconds = time.perf_counter() - start
    scored = task.test_codes >= 0
    n_correct = int(np.count_nonzero(found.codes[scored] == task.test_codes[scored]))
    n_scored = int(np.count_nonzero(scored))
    return ProbeResult(
        name=name,
        accuracy=n_correct / n_scored,
        accuracy_interval=accuracy_interval(n_correct, n_scored, seed=settings.seed),
        n_parameters=found.n_parameters,
        seconds=seconds,
        settings=found.settings,
        details=found.details,
    )


def _point_probe(name: str, settings: _Settings, task: _Task) -> _Predictions:
    """A probe of the embeddings."""
    probe = _build(name, settings)
    known = np.unique(task.codes[task.codes >= 0])
    probe.fit(task.X, ClassLabels(_numbered(task.codes, known), known))
    from_table = name == "knn" and task.neighbors is not None
    predicted = probe.predict_from(task.neighbors, task.X_test) if from_table else probe.predict(task.X_test)
    return _Predictions(on_host(predicted), probe.n_parameters, _reported_settings(probe), {})


def _graph_probe(name: str, settings: _Settings, task: _Task) -> _Predictions:
    """A probe of the graph; the test nodes have no label in what it is handed, but for the record of accuracies."""
    probe = _build(name, settings)
    n, m = len(task.codes), len(task.test_codes)
    test = np.arange(n, n + m)
    train_mask = np.arange(n + m) < n
    known = np.unique(task.codes[task.codes >= 0])
    details = {}
    if settings.max_over_epochs and name in TORCH_PROBES:
        # Of a class that no training point has: never predicted correctly.
        foreign = ~np.isin(task.test_codes, known) & (task.test_codes >= 0)
        labels = np.concatenate([task.codes, np.where(foreign, UNLABELLED, task.test_codes)])
        test_mask = ~train_mask & (labels >= 0)
        probe.fit(task.graph, ClassLabels(_numbered(labels, known), known), train_mask, test_mask=test_mask)
        share = np.count_nonzero(test_mask) / np.count_nonzero(task.test_codes >= 0)
        details = {"max_test_accuracy_over_epochs": share * (probe.max_test_accuracy_ or 0.0)}
    else:
        labels = np.concatenate([task.codes, np.full(m, UNLABELLED)])
        probe.fit(task.graph, ClassLabels(_numbered(labels, known), known), train_mask)
    predicted = probe.predict(test) if name in TORCH_PROBES else probe.predict()[n:]
    return _Predictions(predicted, probe.n_parameters, _reported_settings(probe), details)


def _numbered(codes: npt.NDArray[np.int64], known: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Codes by their position among those known; -1 stays."""
    return np.where(codes >= 0, np.searchsorted(known, codes), UNLABELLED)


def _build(name: str, s: _Settings) -> Any:
    """Build an untrained probe."""
    from clorg_scale import probes

    if name == "linear":
        return probes.LinearProbe(seed=s.seed, device=s.device, memory_limit=s.memory_limit, progress=s.progress)
    if name == "knn":
        return probes.KNNProbe(s.k, metric=s.metric, device=s.device, memory_limit=s.memory_limit, progress=s.progress)
    if name == "label_propagation":
        return probes.LabelPropagationProbe(seed=s.seed, memory_limit=s.memory_limit, progress=s.progress)
    graph_network = probes.GCNProbe if name == "gcn" else probes.SAGEProbe
    return graph_network(seed=s.seed, device=s.device, memory_limit=s.memory_limit, progress=s.progress)


def accuracy_interval(n_correct: int, n: int, *, seed: int = 0, resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of an accuracy.

    Resampling n outcomes of which n_correct are right, with replacement, gives Binomial(n, n_correct / n)
    right ones; so the resamples are drawn from there.
    """
    rng = np.random.default_rng(seed)
    shares = rng.binomial(n, n_correct / n, size=resamples) / n
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def _reported_settings(probe: Any) -> dict[str, str | int | float | bool]:
    """Parameters of the probe, and the public values that training chose (`alpha_`, `n_epochs_`)."""
    chosen = {
        name.rstrip("_"): value
        for name, value in vars(probe).items()
        if name.endswith("_") and not name.startswith("_")
    }
    return {
        name: value
        for name, value in (probe.get_params() | chosen).items()
        if isinstance(value, (str, int, float, bool)) and name not in NOT_REPORTED
    }
