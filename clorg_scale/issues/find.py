"""`find_issues`: check the input, then one k-NN table for all kinds of issues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.arrays import (
    UNLABELLED,
    Array,
    ClassLabels,
    Device,
    as_embeddings,
    column_means,
    encode_labels,
)
from clorg_scale.arrays.memory import parse_memory
from clorg_scale.arrays.normalize import normalize_rows
from clorg_scale.errors import InputError
from clorg_scale.issues.duplicates import find_duplicates
from clorg_scale.issues.label_scores import score_labels
from clorg_scale.issues.look_alikes import nearest_strangers
from clorg_scale.issues.memory import Shares, share_memory
from clorg_scale.issues.outliers import find_outliers
from clorg_scale.issues.overlap import class_affinity, overlaps
from clorg_scale.issues.result import Issues
from clorg_scale.neighbors import KNN, knn
from clorg_scale.neighbors.search import knn_between
from clorg_scale.progress import stage_progress
from clorg_scale.store import StoredEmbeddings
from clorg_scale.whole import MOST_SEED, real_number, whole_number

__all__ = ["find_issues", "issues_of_table"]

LOOK_ALIKES = 50
"""Pairs of look-alikes that are listed."""

TEST_NEIGHBORS = 5
"""Points that each test point is compared with; the nearest decides whether it is a near-duplicate."""


def find_issues(
    embeddings: Any,
    labels: Any = None,
    *,
    test_embeddings: Any = None,
    test_labels: Any = None,
    class_names: Sequence[str] | None = None,
    k: int = 15,
    temperature: float = 0.1,
    neighbors: KNN | None = None,
    device: Device = "auto",
    memory_limit: str | int | None = None,
    seed: int = 0,
    progress: bool = False,
    client: Any = None,
    unlabelled: int | str | None = UNLABELLED,
    normalize: bool = False,
) -> Issues:
    """Find suspicious labels, near-duplicates, outliers and overlapping classes among all points.

    Parameters
    ----------
    embeddings
        (n, d) of any array library, or a memory map; or what `load_embeddings` returns, whose labels and names of
        classes are taken where none are passed.
    labels
        (n,) integers or strings.
    test_embeddings, test_labels
        (m, d), (m,) points that are to be new: those that are near-duplicates of `embeddings` are reported. Labels are
        optional; else nothing is computed of them.
    class_names
        Name of class 0, of class 1, and so on, where labels are integers.
    k
        Neighbors of each point.
    temperature
        Of the weights of the neighbors.
    neighbors
        k-NN table of the embeddings (`clorg_scale.knn`, `KNN.from_arrays`), Euclidean; `k` and `client` have no effect
        then.
    device, seed, progress, client
        As for `clorg_scale.knn`.
    memory_limit
        Main memory for the search and for what follows, beside the embeddings, such as "8GB".
    unlabelled
        The label of points without a class: they are neighbors, duplicates and outliers, and get a suggested label.
        None: every label, -1 too, is a class.
    normalize
        Divide each embedding by its Euclidean length first (L2).

    Returns
    -------
    Issues

    Raises
    ------
    InputError
        If embeddings or labels cannot be used, a setting is out of range, or the table is not one of these points.

    Warns
    -----
    UserWarning
        If -1 means unlabelled and looks like a class.
    """
    embeddings, labels, class_names = _handed_in(embeddings, labels, class_names)
    test_embeddings, test_labels, _ = _handed_in(test_embeddings, test_labels, None)
    if labels is None:
        raise InputError("There are no labels; pass one for each embedding.")
    points = as_embeddings(embeddings)
    classes = encode_labels(labels, len(points), unlabelled=unlabelled)
    names = _named(classes, class_names)
    test = _checked_test(points, test_embeddings)
    test_codes = None if test is None else _test_codes(test_labels, len(test), classes, unlabelled)
    k = whole_number("k", k, 1, len(points) - 1, where=f" for {len(points)} embeddings")
    seed = whole_number("seed", seed, 0, MOST_SEED)
    temperature = real_number("temperature", temperature, positive=True)
    n, d = points.shape
    n_neighbors = k if neighbors is None else neighbors.k
    memory = share_memory(n, d, len(names), n_neighbors, parse_memory(memory_limit))
    column_means(points)  # finds NaN and infinite values
    if normalize:
        points = normalize_rows(points)
        test = None if test is None else normalize_rows(test, name="test embeddings")
    search: dict[str, Any] = {"device": device, "memory_limit": memory_limit, "progress": progress}
    table = knn(points, k, seed=seed, client=client, **search) if neighbors is None else _checked(neighbors, points)
    between = None if test is None else knn_between(test, points, min(TEST_NEIGHBORS, len(points)), **search)
    with stage_progress("issues", enabled=progress):
        graph = affinity_graph(table, temperature=temperature)
        found = issues_of_table(
            points,
            ClassLabels(classes.codes, np.array(names)),
            table,
            graph,
            between=between,
            seed=seed,
            device=device,
            memory=memory,
            progress=progress,
        )
    details = found.details | {"temperature": temperature, "normalized": normalize, "seed": seed}
    return replace(found, test_given=test_codes, details=details)


def issues_of_table(
    points: Array,
    classes: ClassLabels,
    table: KNN,
    graph: AffinityGraph,
    *,
    between: KNN | None = None,
    seed: int = 0,
    device: Device = "auto",
    memory: Shares | None = None,
    progress: bool = False,
) -> Issues:
    """Find the issues of checked points from their k-NN table and affinity graph.

    Parameters
    ----------
    points, classes
        (n, d), and (n,) codes with the names of the classes.
    table, graph
        k-NN table of all points, and the affinity graph made of it.
    between
        Table of test points among the points.
    seed, device, memory, progress
        Of the label scores.
    """
    labels = score_labels(points, graph, classes, seed=seed, device=device, memory=memory, progress=progress)
    outliers = find_outliers(table)
    pairs, shares = overlaps(class_affinity(graph, classes.codes, len(classes.names)))
    strangers, apart = nearest_strangers(table, classes.codes, LOOK_ALIKES)
    names = [str(name) for name in classes.names.tolist()]
    return Issues(
        classes=names,
        given=classes.codes,
        label_score=labels.score,
        is_label_issue=labels.is_issue,
        suggested=labels.suggested,
        suggested_score=labels.suggested_score,
        outlier_factor=outliers.factor,
        isolation=outliers.isolation,
        is_outlier=outliers.is_outlier,
        duplicates=find_duplicates(table, between),
        overlap_pairs=pairs,
        overlap_shares=shares,
        look_alike_pairs=strangers,
        look_alike_distances=apart,
        details={
            "k": table.k,
            "index": table.index,
            "recall": table.measured_recall,
            "graph_weight": round(labels.weights[0], 4),
            "probe_weight": round(labels.weights[1], 4),
            "isolation_fence": round(outliers.fence, 4),
        },
    )


def _handed_in(embeddings: Any, labels: Any, class_names: Any) -> tuple[Any, Any, Any]:
    """Take labels and names from `StoredEmbeddings` unless others are passed."""
    if not isinstance(embeddings, StoredEmbeddings):
        return embeddings, labels, class_names
    if labels is not None:
        return embeddings.embeddings, labels, class_names
    names = embeddings.class_names if class_names is None else class_names
    return embeddings.embeddings, embeddings.labels, names


def _named(classes: ClassLabels, class_names: Sequence[str] | None) -> list[str]:
    """(C,) names of the classes.

    Raises
    ------
    InputError
        If a class has no name.
    """
    known = None if classes.names.dtype.kind not in "iu" else class_names
    if known is None:
        return [str(label) for label in classes.names.tolist()]
    highest, lowest = int(classes.names.max()), int(classes.names.min())
    if lowest < 0 or highest >= len(known):
        wrong = lowest if lowest < 0 else highest
        raise InputError(
            f"The labels hold the class {wrong}, but class_names has names for 0 to {len(known) - 1}; name every class."
        )
    return [str(known[label]) for label in classes.names.tolist()]


def _checked_test(points: Array, test_embeddings: Any) -> Array | None:
    """(m, d) test embeddings."""
    if test_embeddings is None:
        return None
    test = as_embeddings(test_embeddings, name="test embeddings")
    if test.shape[1] != points.shape[1]:
        raise InputError(f"The test embeddings have {test.shape[1]} features, the embeddings {points.shape[1]}.")
    column_means(test, name="test embeddings")
    return test


def _test_codes(
    labels: Any, n_points: int, classes: ClassLabels, unlabelled: int | str | None
) -> npt.NDArray[np.int64]:
    """(m,) codes of test labels in the numbering of the classes; -1 without labels, and for other classes."""
    if labels is None:
        return np.full(n_points, -1)
    given = encode_labels(labels, n_points, name="test labels", unlabelled=unlabelled, fewest=1, warn=False)
    position = {label: code for code, label in enumerate(classes.names.tolist())}
    numbers = np.array([*(position.get(label, -1) for label in given.names.tolist()), -1])
    return numbers[given.codes]


def _checked(table: KNN, points: Array) -> KNN:
    """Refuse a table that is not one of these points."""
    if table.queries is not None or table.n_points != len(points):
        rows = len(table.indices)
        raise InputError(
            f"The k-NN table is of {rows} points, but there are {len(points)} embeddings; pass their table."
        )
    if table.metric != "euclidean":
        raise InputError(f"The k-NN table is of the metric {table.metric!r}; find_issues needs a Euclidean one.")
    return table
