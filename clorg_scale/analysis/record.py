"""The record of an analysis: every number of one model's embeddings, as plain data that goes to JSON and back.

Per-point results stay with the stages (`RLDResult.local_density`, `KNN`, `Communities.labels`); the record holds
what a report shows and a comparison needs, so that it stays small at any number of points.
"""

from __future__ import annotations

import json
from collections.abc import Sized
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from clorg_scale.errors import InputError
from clorg_scale.probes.result import ProbeResult as ProbeScore
from clorg_scale.store.atomic import write_whole
from clorg_scale.store.endings import check_ending
from clorg_scale.store.regular import check_fits_memory

__all__ = [
    "Analysis",
    "CommunitySummary",
    "NeighborSummary",
    "PointMap",
    "ProbeScore",
    "RLDSummary",
    "SpectrumSummary",
    "StageNote",
    "StudyScore",
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
    purity: list[list[float | None]]
    """(t, C) W_c / K_c; None for a class without affinity."""
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
    """Share of true neighbors found, measured against exact search on a sample; None where nobody measured it."""


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
class SpectrumSummary:
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
    """What found them, or why nothing did."""


@dataclass(frozen=True)
class StudyScore:
    """One classifier in one setting of a study."""

    label_fraction: float
    """Share of each class's training labels that it was shown."""
    k: int | None
    """Neighbors in its graph or vote; None where they play no part."""
    temperature: float | None
    """Of its graph; None where it plays no part."""
    score: ProbeScore


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
    """A point whose surroundings belong to another class: perhaps mislabeled."""

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
    probe_study: list[StudyScore] = field(default_factory=list)
    """The probes at other shares of labels, numbers of neighbors and temperatures; empty where no study was made."""
    spectrum: SpectrumSummary | None = None
    """None in analyses of before there was one."""
    class_homogeneity_points: int | None = None
    """Points whose neighbors class homogeneity was measured on, of all that are labeled; None in older records."""

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries and lists, as in the JSON file."""
        return asdict(self)

    def to_json(self, path: str | Path) -> Path:
        """Write everything to a JSON file, whole or not at all."""
        check_ending(path, (".json",))
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
        check_fits_memory(file)
        try:
            document = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
        except FileNotFoundError:
            raise InputError(f"There is no analysis at {file}; make one with 'clorg-scale analyze'.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{file} is not an analysis, or only a part of one ({error}).") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise InputError(f"{file} is not an analysis that this version of clorg-scale wrote.")
        try:
            analysis: Analysis = _built(cls, document, "the document")
            analysis._check_lengths()
        except ValueError as error:
            raise InputError(f"{file} is not a complete analysis ({error}).") from error
        return analysis

    def _check_lengths(self) -> None:
        """Check that lists which belong together are equally long.

        Raises
        ------
        ValueError
            If they are not.
        """
        rld, points, n_classes = self.rld, self.point_map, len(self.classes)
        together: list[tuple[int, list[Sized]]] = [
            (
                len(rld.temperatures),
                [rld.values, rld.stderr, rld.null_mean, rld.null_std, rld.per_class, rld.purity],
            ),
            (n_classes, [self.class_sizes, self.communities.class_by_community, *rld.per_class, *rld.purity]),
            (len(points.index), [points.x, points.y, points.class_code, points.community, points.local_density]),
        ]
        if self.spectrum is not None:
            together.append((len(self.spectrum.eigenvalues), [self.spectrum.class_share]))
            together.append((n_classes, [self.spectrum.per_class]))
        for length, lists in together:
            if any(len(values) != length for values in lists):
                raise ValueError("lists that belong together differ in length")

    def report(self, path: str | Path) -> Path:
        """Write the self-contained HTML report."""
        from clorg_scale.report import write_report

        check_ending(path, (".html", ".htm"))
        return write_report(self, path)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _built(kind: Any, value: Any, where: str) -> Any:
    """Plain data as the dataclass, or other type, that it is said to be.

    Raises
    ------
    ValueError
        If it is something else; says where.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        types = get_type_hints(kind)
        optional = {
            part.name for part in fields(kind) if part.default_factory is not MISSING or part.default is not MISSING
        }
        differing = (value.keys() - types.keys()) | (types.keys() - value.keys() - optional)
        if differing:
            name = min(differing)
            raise ValueError(f"{name!r} is {'unknown' if name in value else 'missing'} in {where}")
        return kind(**{name: _built(types[name], part, name) for name, part in value.items()})  # type: ignore[operator]
    if origin in (UnionType, Union):
        for part in parts:
            with suppress(ValueError):
                return _built(part, value, where)
    elif origin is list and isinstance(value, list):
        return [_built(parts[0], item, where) for item in value]
    elif origin is tuple and isinstance(value, list) and len(value) == len(parts):
        return tuple(_built(part, item, where) for part, item in zip(parts, value, strict=True))
    elif origin is dict and isinstance(value, dict):
        # The keys of a JSON object are strings.
        return {parts[0](key): _built(parts[1], item, where) for key, item in value.items()}
    elif kind is type(None) and value is None:
        return None
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif type(value) is kind:
        return value
    raise ValueError(f"{where!r} holds {value!r:.40}")
