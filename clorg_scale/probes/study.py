"""Accuracy of the probes against settings of the graph and the share of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clorg_scale.affinity import affinity_graph
from clorg_scale.arrays import UNLABELLED, ClassLabels, Device, as_embeddings
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN, knn
from clorg_scale.neighbors.result import Metric
from clorg_scale.probes.comparison import GRAPH_PROBES, PROBES, compare_probes, joint_codes
from clorg_scale.probes.result import ProbeResult
from clorg_scale.probes.splits import stratified_share
from clorg_scale.results.result import Columns, Result
from clorg_scale.whole import whole_number

__all__ = ["StudyRow", "study_probes"]


@dataclass(frozen=True)
class StudyRow(Result):
    """One probe in one setting.

    Attributes
    ----------
    label_fraction
        Share of each class's training labels that the probe was shown.
    k
        Neighbors of each point in the graph, or of the k-NN probe; None where it has no effect.
    temperature
        Temperature of the graph's weights; None where it has no effect.
    result
        Name, accuracy with interval, parameters, time, settings.
    """

    label_fraction: float
    k: int | None
    temperature: float | None
    result: ProbeResult

    def row(self) -> dict[str, Any]:
        """One row of a table of the study."""
        varied = {"label_fraction": self.label_fraction, "k": self.k, "temperature": self.temperature}
        return varied | self.result.row()

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"row": lambda: {name: [value] for name, value in self.row().items()}}

    def _line(self) -> str:
        k = "" if self.k is None else f", k = {self.k}"
        temperature = "" if self.temperature is None else f", T = {self.temperature:g}"
        share = f"{self.label_fraction:.0%} of the labels"
        return f"{self.result.name}: accuracy {self.result.accuracy:.4f}; {share}{k}{temperature}"


def study_probes(
    embeddings: Any,
    labels: Any,
    test_embeddings: Any,
    test_labels: Any,
    *,
    probes: Sequence[str] = PROBES,
    ks: Sequence[int] = (5, 15, 50),
    temperatures: Sequence[float] = (0.05, 0.1, 0.5),
    label_fractions: Sequence[float] = (0.01, 0.1, 1.0),
    neighbors: KNN | None = None,
    mean_distance: float | None = None,
    metric: Metric = "euclidean",
    seed: int = 0,
    device: Device = "auto",
    memory_limit: str | int | None = None,
    progress: bool = False,
    unlabelled: int | str | None = UNLABELLED,
) -> list[StudyRow]:
    """Run the probes for every number of neighbors, temperature and share of labels.

    One k-NN search serves the whole study: fewer neighbors are the first columns of the table. A point whose
    label is not shown stays in the graph.

    Parameters
    ----------
    embeddings, labels, test_embeddings, test_labels
        As for `compare_probes`.
    probes
        Names from `PROBES`. The linear probe runs once a share of labels, the k-NN probe once a share and k,
        the graph probes for every combination.
    ks
        Neighbors of each point.
    temperatures
        Temperatures of the affinity graph.
    label_fractions
        Shares of each class's training labels, in (0, 1]; at least one label of each class is shown. A larger
        share contains the smaller ones' labels only by chance.
    neighbors
        k-NN table over the training points followed by the test points, if there is one already; otherwise the
        embeddings are stacked and searched.
    mean_distance
        Distance that the temperatures refer to; default: the k-NN table's mean.
    metric, seed, device, memory_limit, progress, unlabelled
        As for `compare_probes` and `clorg_scale.knn`.

    Returns
    -------
    One `StudyRow` for each training, by share of labels, then k, then temperature.

    Raises
    ------
    InputError
        If a share or k is out of range, or the arrays do not fit together.
    """
    X, X_test = as_embeddings(embeddings), as_embeddings(test_embeddings, name="test embeddings")
    codes, test_codes = joint_codes(labels, X.shape[0], test_labels, X_test.shape[0], unlabelled)
    seed, ks = whole_number("seed", seed, 0), [whole_number("Each of ks", k, 1) for k in ks]
    wrong = [share for share in label_fractions if not 0 < share <= 1]
    if wrong:
        raise InputError(f"label_fractions must lie in (0, 1]; {wrong[0]!r} does not.")
    if not ks:
        raise InputError("ks is empty; give at least one number of neighbors.")
    if neighbors is None:
        both = np.concatenate([X, X_test])
        neighbors = knn(
            both,
            max(ks),
            metric=metric,
            device=device,
            memory_limit=memory_limit,
            seed=seed,
            progress=progress,
        )
    elif neighbors.k < max(ks):
        raise InputError(f"The k-NN table has k = {neighbors.k}; ks asks for {max(ks)}.")
    rows: list[StudyRow] = []
    classes = np.arange(max(codes.max(), test_codes.max()) + 1)
    for share in label_fractions:
        shown = np.full(len(codes), -1, dtype=np.int64)
        chosen = stratified_share(codes, share, np.random.default_rng(seed))
        shown[chosen] = codes[chosen]
        for number, k in enumerate(ks):
            table = replace(neighbors, indices=neighbors.indices[:, :k], distances=neighbors.distances[:, :k])
            for step, temperature in enumerate(temperatures):
                # Probes that do not see the temperature, or k either, run the first time only.
                names = [
                    name
                    for name in probes
                    if name in GRAPH_PROBES
                    or (name == "knn" and step == 0)
                    or (name == "linear" and step == number == 0)
                ]
                graph = affinity_graph(table, temperature=temperature, mean_distance=mean_distance)
                results = compare_probes(
                    X,
                    ClassLabels(shown, classes),
                    X_test,
                    ClassLabels(test_codes, classes),
                    graph,
                    probes=names,
                    k=min(k, len(chosen)),
                    metric=metric,
                    neighbors=neighbors,
                    seed=seed,
                    device=device,
                    memory_limit=memory_limit,
                    progress=progress,
                )
                rows += [_row(share, k, temperature, result) for result in results]
    return rows


def _row(share: float, k: int, temperature: float, result: ProbeResult) -> StudyRow:
    """Name the settings that have an effect on this probe."""
    return StudyRow(
        label_fraction=share,
        k=None if result.name == "linear" else k,
        temperature=temperature if result.name in GRAPH_PROBES else None,
        result=result,
    )
