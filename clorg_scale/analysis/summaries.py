"""Summaries of the stages' results: what a report shows and a comparison needs, small at any number of points.

Per-point results stay with the stages (`RLDResult.local_density`, `KNN`, `Communities.labels`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clorg_scale.results.plain import Plain
from clorg_scale.results.stored import beside

__all__ = [
    "CommunitySummary",
    "IssueSummary",
    "Leak",
    "LookAlike",
    "NeighborSummary",
    "PointMap",
    "RLDSummary",
    "SpectrumSummary",
    "StageNote",
    "Suspect",
    "TableColumns",
]


@dataclass(frozen=True)
class RLDSummary(Plain):
    """RLD at each temperature (`clorg_scale.RLDResult` without its per-point values)."""

    temperatures: list[float]
    values: list[float]
    stderr: list[float]
    per_class: list[list[float]]
    """(t, C) share of each class; a row sums to the value."""
    purity: list[list[float | None]]
    """(t, C) W_c / K_c; None for a class without affinity."""
    null_mean: list[float]
    """RLD expected of shuffled labels, at each temperature."""
    null_std: list[float | None]
    """Its standard deviation over shufflings; None where it was not computed."""
    mean_distance: float
    method: str
    details: dict[str, Any]


@dataclass(frozen=True)
class NeighborSummary(Plain):
    """k-NN table of the graph stages (`clorg_scale.KNN` without the table)."""

    k: int
    metric: str
    index: str
    recall: float | None
    """Share of true neighbors found, measured against exact search on a sample; None where it was not measured."""


@dataclass(frozen=True)
class CommunitySummary(Plain):
    """Communities of the affinity graph beside the classes."""

    method: str
    resolution: float
    n_communities: int
    modularity: float
    class_modularity: float
    """Modularity of the class labels on the same graph."""
    nmi: float
    ari: float
    sizes: list[int]
    """Points in each community, largest first."""
    class_by_community: list[list[int]] = field(metadata=beside("int64"))
    """(C, M) points of class c in community m."""


@dataclass(frozen=True)
class SpectrumSummary(Plain):
    """Leading eigenvalues of the normalized affinity graph (`clorg_scale.Spectrum` without its vectors)."""

    eigenvalues: list[float]
    """Largest first; empty where no solver converged."""
    n_clusters: int | None
    """Eigenvalues before the largest gap: the clusters that the graph itself has."""
    n_connected: int
    """Connected components with an edge."""
    n_isolated: int
    class_share: list[float]
    """Share of the class indicators that the first 1, 2, ... eigenvectors hold, mean over classes."""
    per_class: list[float | None]
    """(C,) share of each class's indicator that all of them hold; None for a class without an edge."""
    how: str
    """Solver and residual, or the reason why no solver converged."""


@dataclass(frozen=True)
class PointMap(Plain):
    """A sample of the points laid out in two dimensions."""

    method: str
    index: list[int] = field(metadata=beside("int64"))
    """Row of each mapped point in the embeddings."""
    x: list[float] = field(metadata=beside("float64"))
    y: list[float] = field(metadata=beside("float64"))
    class_code: list[int] = field(metadata=beside("int64"))
    """Position in `Analysis.classes`; -1 where unlabelled."""
    community: list[int] = field(metadata=beside("int64"))
    local_density: list[float | None] = field(metadata=beside("float64"))
    """At `local_density_temperature`; None where unlabelled."""
    local_density_temperature: float


@dataclass(frozen=True)
class Suspect(Plain):
    """A point that disagrees with its neighbors: perhaps mislabeled."""

    index: int
    label: str
    suggested_label: str
    """Class with the largest share of the point's affinity."""
    local_density: float


@dataclass(frozen=True)
class Leak(Plain):
    """A test point that is a near-duplicate of a point."""

    test_index: int
    index: int
    test_label: str
    label: str
    distance: float


@dataclass(frozen=True)
class LookAlike(Plain):
    """Two points of different classes that are as near to each other as few such pairs are."""

    index: int
    other: int
    label: str
    other_label: str
    distance: float
    """Distance in units of the mean distance of all pairs."""


@dataclass(frozen=True)
class IssueSummary(Plain):
    """Issues of the data set as its neighbors show them (`clorg_scale.find_issues` scores every label)."""

    n_suspects: int
    """Points that disagree with their neighbors: all of them, also where the list of suspects is shorter."""
    n_near_duplicates: int
    n_near_duplicate_sets: int
    """Number of them, test points included where these were passed."""
    n_outliers: int
    n_test_in_train: int | None
    """Test points with a near-duplicate among the points; None where no test points were passed."""
    leaks: list[Leak]
    """The nearest of these."""
    look_alikes: list[LookAlike]
    """Nearest first; each point is in one pair at most."""
    neighbors_file: str | None = None
    """File of the k-NN table, beside the record: `compare` asks it about the look-alikes of other models."""


@dataclass(frozen=True)
class StageNote(Plain):
    """Method of one stage, its time and its memory."""

    stage: str
    how: str
    """One sentence: method, size, settings, device."""
    seconds: float
    """Without compilation."""
    peak_memory_bytes: int
    compile_seconds: float = 0.0
    """Compilation of functions on their first use on a machine."""
    engine: str = ""
    """Device and, on a GPU, the libraries that the stage found when it was computed; "" where it was not recorded."""


@dataclass(frozen=True)
class TableColumns(Plain):
    """Columns of a table that embeddings or labels were read from."""

    taken: list[str]
    left_out: dict[str, str]
    """Reason by column."""
    labels: str | None = None
    """Column of the labels; None where they came from elsewhere."""
