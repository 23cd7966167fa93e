"""Probes of an analysis: on one split and one graph, and in a study of what they depend on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import affinity_graph
from clorg_scale.analysis.resources import Resources
from clorg_scale.analysis.split import ProbeSplit, given_split, held_out_split, stacked
from clorg_scale.analysis.stages import Stage, stage
from clorg_scale.analysis.steps import describe_table
from clorg_scale.arrays import Array, ClassLabels
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN, knn
from clorg_scale.neighbors.shared import first_neighbors, in_order
from clorg_scale.probes.comparison import GRAPH_PROBES, PROBES, compare_probes, installed_probes
from clorg_scale.probes.result import ProbeResult
from clorg_scale.probes.study import StudyRow, study_probes

__all__ = [
    "AFFINITY_TEMPERATURE",
    "FEWEST_TEST_POINTS",
    "HELD_OUT",
    "VARIED",
    "ProbeScores",
    "Probing",
    "StudyScores",
    "Varied",
    "choose_probes",
    "joint_neighbors",
    "probe_scores",
    "rows_of_own_setting",
    "study_scores",
]

AFFINITY_TEMPERATURE = 0.1
"""Temperature of the affinity graph that communities and graph probes see."""

HELD_OUT = 0.2
"""Share of the points held out for the probes where no test points are passed."""

FEWEST_TEST_POINTS = 3
"""Fewest held-out points with which probes are trained."""

Varied = Literal["labels", "neighbors", "temperature"]

VARIED: dict[Varied, tuple[float, ...]] = {
    "labels": (0.01, 0.1),
    "neighbors": (5, 50),
    "temperature": (0.05, 0.5),
}
"""Values that a study tries beside the probes' own setting: all labels, k, the temperature of the affinity graph."""


def choose_probes(names: Iterable[str] | None) -> tuple[list[str], str]:
    """Check names of probes, all of them where none are given.

    Returns
    -------
    The probes that can run here, and a sentence on those that cannot ("" where all can).

    Raises
    ------
    InputError
        If there is no probe of a name.

    Warns
    -----
    UserWarning
        If a probe cannot run here.
    """
    chosen = list(PROBES if names is None else names)
    for name in chosen:
        if name not in PROBES:
            raise InputError(f"There is no probe {name!r}; choose from {', '.join(PROBES)}.")
    available, left_out = installed_probes(chosen)
    if left_out:
        warnings.warn(left_out, stacklevel=3)
    return available, left_out


@dataclass(frozen=True)
class Probing:
    """Points and settings of the probes; the points are split when a probe first needs them.

    Attributes
    ----------
    points, classes
        (n, d) and (n,) of the analysis.
    test, test_codes
        (m, d) and (m,); None holds out a share of the points.
    probes
        Names out of `clorg_scale.probes.PROBES`.
    table
        Neighbors that the graph and the k-NN probe are made of: of the points of the analysis; of these followed by the
        test points where these were passed. None before they were searched.
    k
        Neighbors in the graph, and of the k-NN probe.
    mean_distance
        Mean distance that the temperature of the graph refers to.
    seed
        Seed of the split and the probes.
    resources
        Device, memory limit, progress.
    max_over_epochs
        Record the largest test accuracy over all epochs of the graph networks.
    """

    points: Array
    classes: ClassLabels
    test: Array | None
    test_codes: npt.NDArray[np.int64] | None
    probes: list[str]
    table: KNN | None
    k: int
    mean_distance: float
    seed: int
    resources: Resources
    max_over_epochs: bool = False

    @cached_property
    def split(self) -> ProbeSplit:
        """Training points, then test points."""
        if self.test is None or self.test_codes is None:
            return held_out_split(self.points, self.classes.codes, fraction=HELD_OUT, seed=self.seed)
        return given_split(self.points, self.classes.codes, self.test, self.test_codes)

    @property
    def training_codes(self) -> npt.NDArray[np.int64]:
        """Class codes of the training points."""
        return self.split.codes[: self.split.n_train]

    @property
    def test_labels(self) -> npt.NDArray[np.int64]:
        """Class codes of the test points."""
        return self.split.codes[self.split.n_train :]

    def sets(self) -> tuple[Array, ClassLabels, Array, ClassLabels]:
        """Training points and classes, test points and classes, in the numbering of the analysis."""
        points, n = self.split.points, self.split.n_train
        names = self.classes.names
        return points[:n], ClassLabels(self.training_codes, names), points[n:], ClassLabels(self.test_labels, names)

    def split_table(self, table: KNN) -> KNN:
        """The table with its rows in the order of the split: a permutation, no search."""
        return table if self.split.order is None else in_order(table, self.split.order)


@dataclass(frozen=True)
class ProbeScores:
    """Results of the probes, the number of labeled test points, and a sentence on both."""

    rows: list[ProbeResult]
    n_test: int
    how: str


@stage("probes", attrgetter("how"))
def probe_scores(probing: Probing, *, left_out: str) -> ProbeScores:
    """Train every probe and score it on the test points; the sentence ends with the one on probes `left_out`."""
    if not probing.probes:
        return ProbeScores([], 0, " ".join(filter(None, ("No probe was trained.", left_out))))
    test_codes = probing.test_labels
    if len(test_codes) < FEWEST_TEST_POINTS:
        how = f"Not trained: fewer than {FEWEST_TEST_POINTS} labeled points could be held out."
        return ProbeScores([], 0, " ".join(filter(None, (how, left_out))))
    assert probing.table is not None
    table = probing.split_table(probing.table)
    graph = affinity_graph(
        first_neighbors(table, min(probing.k, table.k)),
        temperature=AFFINITY_TEMPERATURE,
        mean_distance=probing.mean_distance,
    )
    most = int((probing.training_codes >= 0).sum())
    results = compare_probes(
        *probing.sets(),
        graph,
        probes=probing.probes,
        k=min(probing.k, most),
        neighbors=table,
        max_over_epochs=probing.max_over_epochs,
        seed=probing.seed,
        **probing.resources.local,
    )
    how = (
        f"Trained on {len(probing.training_codes):,} points, scored on {len(test_codes):,} others; the graph probes "
        "see one graph over both and no test label. Intervals: 95 % bootstrap over the test points."
    )
    beside = (_paper_accuracies(results), _what_ended_early(results), _what_is_approximate(results), left_out)
    return ProbeScores(results, int((test_codes >= 0).sum()), " ".join(filter(None, (how, *beside))))


def _paper_accuracies(results: list[ProbeResult]) -> str:
    """A sentence with the accuracies that the code of the paper would report, "" where they were not asked for."""
    name = "max_test_accuracy_over_epochs"
    listed = ", ".join(f"{result.name} {result.details[name]:.4f}" for result in results if name in result.details)
    return f"Largest test accuracy over all epochs, as measured by the paper's code: {listed}." if listed else ""


def _what_ended_early(results: list[ProbeResult]) -> str:
    """A sentence on the probes whose training time ended, "" where there are none."""
    ended = [result for result in results if result.settings.get("stopped_by") == "max_seconds"]
    listed = ", ".join(f"{result.name} after {result.settings['n_epochs']} epochs" for result in ended)
    return f"Stopped by the time limit, at an epoch that depends on the machine: {listed}." if ended else ""


def _what_is_approximate(results: list[ProbeResult]) -> str:
    """A sentence on labels spread with the scores of few classes, "" where all were kept."""
    for result in results:
        share = result.settings.get("certain_share", 1.0)
        if result.settings.get("scores") == "best":
            return (
                f"Label propagation kept the 15 highest scores of each point; for {100 * float(share):.1f} % of the "
                "points no dropped score can change the class."
            )
    return ""


@stage("neighbors with the test points", describe_table)
def joint_neighbors(points: Array, test: Array, *, k: int, seed: int, resources: Resources) -> KNN:
    """Find the neighbors of the points and of the test points passed, among both."""
    return knn(stacked(points, test), k, seed=seed, **resources.local)


@dataclass(frozen=True)
class StudyScores:
    """Probes in other settings, and a sentence on these."""

    rows: list[StudyRow]
    how: str


def _study(probing: Probing, table: KNN, *, varied: Varied, tried: tuple[float, ...]) -> StudyScores:
    """Train the probes again with other shares of labels, numbers of neighbors or temperatures.

    `table` is as `Probing.table`, with as many neighbors as the study takes at most.
    """
    settings: dict[Varied, Sequence[float]] = {
        "labels": (1.0,),
        "neighbors": (probing.k,),
        "temperature": (AFFINITY_TEMPERATURE,),
    }
    most = min(table.k, int((probing.training_codes >= 0).sum()))
    own = settings[varied][0]
    settings[varied] = [value for value in tried if value != own and (varied != "neighbors" or value <= most)]
    if not settings[varied]:
        return StudyScores([], "Nothing to vary: there are too few points.")
    rows = study_probes(
        *probing.sets(),
        probes=[name for name in probing.probes if _depends(name, varied)],
        label_fractions=settings["labels"],
        ks=[int(k) for k in settings["neighbors"]],
        temperatures=settings["temperature"],
        neighbors=probing.split_table(table),
        mean_distance=probing.mean_distance,
        seed=probing.seed,
        **probing.resources.local,
    )
    listed = ", ".join(f"{value:g}" for value in settings[varied])
    what = {"labels": "shares of the labels", "neighbors": "k", "temperature": "T"}[varied]
    return StudyScores(rows, f"The probes again at {what} = {listed}.")


study_scores: dict[Varied, Stage[Any, StudyScores]] = {
    varied: Stage(f"probes by {varied}", _study, attrgetter("how")) for varied in VARIED
}
"""Stage by what it varies."""


def _depends(name: str, varied: Varied) -> bool:
    """Tell whether a probe depends on a setting."""
    return varied == "labels" or name in GRAPH_PROBES or (name == "knn" and varied == "neighbors")


def rows_of_own_setting(results: list[ProbeResult], k: int) -> list[StudyRow]:
    """Rows of the probes' own setting, for the table of the study."""
    return [
        StudyRow(
            1.0,
            None if result.name == "linear" else k,
            AFFINITY_TEMPERATURE if result.name in GRAPH_PROBES else None,
            result,
        )
        for result in results
    ]
