"""The record of an analysis: every number of one model's embeddings, as plain data that goes to JSON and back.

Per-point results stay with the stages (`RLDResult.local_density`, `KNN`, `Communities.labels`); the record holds
what a report shows and a comparison needs, so that it stays small at any number of points.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError
from clorg_scale.store.atomic import write_whole

__all__ = [
    "Analysis",
    "CommunitySummary",
    "NeighborSummary",
    "PointMap",
    "ProbeScore",
    "RLDSummary",
    "StageNote",
    "Suspect",
]


FORMAT = "clorg-scale analysis 1"


@dataclass(frozen=True)
class RLDSummary:
    """RLD at each temperature (`clorg_scale.RLDResult` without its per-point part)."""

    temperatures: list[float]
    values: list[float]
    stderr: list[float]
    per_class: list[list[float]]
    """(t, C) share of each class; a row sums to the value."""
    purity: list[list[float]]
    """(t, C) W_c / K_c."""
    null_mean: list[float]
    """RLD expected of shuffled labels, at each temperature."""
    null_std: list[float | None]
    """Its standard deviation over shufflings; None where it was not computed."""
    mean_distance: float
    method: str
    details: dict[str, str | int | float | bool]


@dataclass(frozen=True)
class NeighborSummary:
    """The k-NN table that the graph stages stand on."""

    k: int
    metric: str
    index: str
    recall: float | None
    """Share of true neighbours found, measured against exact search on a sample; None where nobody measured it."""


@dataclass(frozen=True)
class CommunitySummary:
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
    class_by_community: list[list[int]]
    """(C, M) points of class c in community m."""


@dataclass(frozen=True)
class ProbeScore:
    """One classifier's accuracy on the test points."""

    name: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    """95 % bootstrap interval over the test points."""
    n_parameters: int
    seconds: float
    """Training and prediction, wall clock."""
    settings: dict[str, str | int | float | bool]


@dataclass(frozen=True)
class PointMap:
    """A sample of the points laid out in two dimensions."""

    method: str
    index: list[int]
    """Row of each mapped point in the embeddings."""
    x: list[float]
    y: list[float]
    class_code: list[int]
    """Position in `Analysis.classes`; -1 where unlabelled."""
    community: list[int]
    local_density: list[float | None]
    """At `local_density_temperature`; None where unlabelled."""
    local_density_temperature: float


@dataclass(frozen=True)
class Suspect:
    """A point whose surroundings belong to another class: perhaps mislabelled."""

    index: int
    label: str
    suggested_label: str
    """The class with the largest share of the point's affinity."""
    local_density: float


@dataclass(frozen=True)
class StageNote:
    """How one stage was computed and how long it took."""

    stage: str
    how: str
    """One sentence: method, size, settings, device."""
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Analysis:
    """Every number of one model's embeddings.

    Written by `clorg_scale.analyze`; `to_json`, `from_json` and `report` take it to a file, back, and to a page.
    """

    name: str
    n_points: int
    n_features: int
    n_test: int
    test_source: str
    """Where the test points of the probes come from: "given" or "held out" (a stratified share of the points)."""
    classes: list[str]
    class_sizes: list[int]
    n_unlabelled: int
    rld: RLDSummary
    class_homogeneity: dict[int, float]
    """CHI at each k."""
    class_homogeneity_stderr: dict[int, float]
    """0 where every point was asked, else the standard error of the sample of points."""
    calinski_harabasz: float | None
    """None where it is infinite: no point differs from the mean of its class."""
    neighbors: NeighborSummary
    communities: CommunitySummary
    probes: list[ProbeScore]
    point_map: PointMap
    suspects: list[Suspect]
    """Lowest local density first."""
    stages: list[StageNote]
    settings: dict[str, str | int | float | bool | None]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries and lists, as in the JSON file."""
        return asdict(self)

    def to_json(self, path: str | Path) -> Path:
        """Write everything to a JSON file, whole or not at all."""
        text = json.dumps(self.to_dict() | {"format": FORMAT}, indent=1, allow_nan=False)
        with write_whole(path, "w") as file:
            file.write(text + "\n")
        return Path(path)

    @classmethod
    def from_json(cls, path: str | Path) -> Analysis:
        """Read what `to_json` wrote; `path` may also be the folder that `analyze` wrote.

        Raises
        ------
        InputError
            If the file is missing, truncated, or something else.
        """
        file = Path(path) / "analysis.json" if Path(path).is_dir() else Path(path)
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"There is no analysis at {file}; make one with 'clorg-scale analyze'.") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{file} is not an analysis, or only a part of one ({error}).") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise InputError(f"{file} is not an analysis that this version of clorg-scale wrote.")
        try:
            return _analysis(document)
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{file} is not a complete analysis ({error}).") from error

    def report(self, path: str | Path) -> Path:
        """Write the self-contained HTML report."""
        from clorg_scale.report import write_report

        return write_report(self, path)


def _analysis(document: dict[str, Any]) -> Analysis:
    """Plain data as the dataclasses it came from."""
    probes = [ProbeScore(**p | {"accuracy_interval": tuple(p["accuracy_interval"])}) for p in document["probes"]]
    return Analysis(
        **document
        | {
            "rld": RLDSummary(**document["rld"]),
            "class_homogeneity": {int(k): v for k, v in document["class_homogeneity"].items()},
            "class_homogeneity_stderr": {int(k): v for k, v in document["class_homogeneity_stderr"].items()},
            "neighbors": NeighborSummary(**document["neighbors"]),
            "communities": CommunitySummary(**document["communities"]),
            "probes": probes,
            "point_map": PointMap(**document["point_map"]),
            "suspects": [Suspect(**suspect) for suspect in document["suspects"]],
            "stages": [StageNote(**note) for note in document["stages"]],
        }
    )
