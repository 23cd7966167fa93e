"""Points that disagree with their neighbors, near-duplicates, outliers and look-alikes: what a report says of issues.

`clorg_scale.find_issues` says more: it scores every label.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.analysis.fallback import on_cpu
from clorg_scale.analysis.summaries import IssueSummary, Leak, LookAlike, Suspect
from clorg_scale.arrays import ClassLabels
from clorg_scale.issues.duplicates import find_duplicates
from clorg_scale.issues.graph_votes import GraphVotes
from clorg_scale.issues.look_alikes import nearest_strangers
from clorg_scale.issues.outliers import find_outliers
from clorg_scale.neighbors import KNN

__all__ = ["MOST_SUSPECTS", "find_suspects", "summarize_issues"]

MOST_SUSPECTS = 1_000
"""Points that a report lists; the summary has the number of all."""

MOST_PAIRS = 50
"""Look-alikes, and near-duplicates of test points, that a report lists."""


def find_suspects(
    graph: AffinityGraph,
    codes: npt.NDArray[np.int64],
    classes: list[str],
    local_density: npt.NDArray[np.float32],
    *,
    n_most: int | None = None,
) -> list[Suspect]:
    """Find the points of lowest local density whose neighbors mostly have one other class.

    Parameters
    ----------
    graph
        Affinity graph of the points.
    codes
        (n,) class codes, -1 where unlabelled.
    classes
        (C,) names.
    local_density
        (n,) share of each point's affinity that stays in its class; NaN where unlabelled.
    n_most
        Largest number of them; None lists all. Points with a local density of 1/2 or more are never among them.

    Returns
    -------
    Lowest local density first.
    """
    rows = np.flatnonzero((codes >= 0) & (local_density < 0.5))
    rows = rows[np.argsort(local_density[rows], kind="stable")]
    votes = GraphVotes(graph, ClassLabels(codes, np.arange(len(classes))), rounds=1)
    found: list[Suspect] = []
    for block in votes.blocks(rows):
        shares = votes.shares(block)
        suggested = shares.argmax(axis=1)
        # Without any labeled neighbor all shares are equal, and nothing is suggested.
        known = (suggested != codes[block]) & (shares.max(axis=1) > shares.min(axis=1))
        found += [
            Suspect(int(point), classes[codes[point]], classes[other], float(local_density[point]))
            for point, other in zip(block[known], suggested[known], strict=True)
        ]
        if n_most is not None and len(found) >= n_most:
            return found[:n_most]
    return found


def summarize_issues(
    table: KNN,
    codes: npt.NDArray[np.int64],
    classes: list[str],
    *,
    n_suspects: int,
    mean_distance: float,
    between: KNN | None,
    test_codes: npt.NDArray[np.int64] | None,
    neighbors_file: str | None,
) -> IssueSummary:
    """Count near-duplicates and outliers; list look-alikes, and test points that are near-duplicates of the points.

    Parameters
    ----------
    table
        k-NN table of the n points.
    codes, classes
        (n,) class codes, and the (C,) names.
    n_suspects
        Points that disagree with their neighbors.
    mean_distance
        Mean distance of all pairs, which distances are given in units of.
    between, test_codes
        Table of m test points among the points, and their (m,) codes; None where no test points were passed.
    neighbors_file
        Name of the file in the folder of results that holds the table.
    """
    table = on_cpu(table)  # once for all that follow
    duplicates = find_duplicates(table, between)
    pairs, apart = nearest_strangers(table, codes, MOST_PAIRS)
    order = np.argsort(duplicates.leak_distances, kind="stable")[:MOST_PAIRS]
    names = [*classes, ""]
    return IssueSummary(
        n_suspects=n_suspects,
        n_near_duplicates=int((duplicates.set_of[: len(codes)] >= 0).sum()),
        n_near_duplicate_sets=int(duplicates.set_of.max(initial=-1)) + 1,
        n_outliers=int(find_outliers(table).is_outlier.sum()),
        n_test_in_train=None if between is None else len(np.unique(duplicates.leaks[:, 0])),
        leaks=[
            Leak(tested, point, names[-1 if test_codes is None else test_codes[tested]], names[codes[point]], distance)
            for (tested, point), distance in zip(
                duplicates.leaks[order].tolist(), duplicates.leak_distances[order].tolist(), strict=True
            )
        ],
        look_alikes=[
            LookAlike(i, j, names[codes[i]], names[codes[j]], distance / mean_distance)
            for (i, j), distance in zip(pairs.tolist(), apart.tolist(), strict=True)
        ],
        neighbors_file=neighbors_file,
    )
