"""The probes of an analysis: on one split and one graph, and in a study of what they depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from clorg_scale.affinity import affinity_graph
from clorg_scale.analysis.inputs import Inputs
from clorg_scale.analysis.record import ProbeScore, StudyScore
from clorg_scale.analysis.split import ProbeSplit, given_split, held_out_split
from clorg_scale.arrays import ClassLabels
from clorg_scale.neighbors import KNN, knn

__all__ = ["AFFINITY_TEMPERATURE", "VARIED", "Probing", "Scores", "Varied", "study_rows"]

AFFINITY_TEMPERATURE = 0.1
"""Temperature of the affinity graph that communities and graph probes see."""

HELD_OUT = 0.2
"""Share of the points held out for the probes where no test points are handed in."""

FEWEST_TEST_POINTS = 3
"""With fewer held out, no probe is trained."""

Varied = Literal["labels", "neighbors", "temperature"]

VARIED: dict[Varied, tuple[float, ...]] = {
    "labels": (0.01, 0.1),
    "neighbors": (5, 50),
    "temperature": (0.05, 0.5),
}
"""What a study tries beside the probes' own setting: all labels, k, and the temperature of the affinity graph."""


@dataclass(frozen=True)
class Scores:
    """What the probes reached.

    Attributes
    ----------
    rows
        Fields of each `ProbeScore`, or of each `StudyScore`.
    n_test
        Labeled test points.
    how
        One sentence.
    """

    rows: list[dict[str, Any]]
    n_test: int
    how: str


class Probing:
    """Training and test points, put together when the first probe asks for them.

    Parameters
    ----------
    data
        Inputs of the analysis.
    probes
        Names out of `clorg_scale.probes.PROBES`.
    k
        Neighbors in the graph, and of the k-NN probe.
    mean_distance
        That the temperature of the graph refers to.
    seed
        Of the split and the probes.
    common
        Device, memory limit, progress.
    """

    def __init__(
        self, data: Inputs, probes: list[str], *, k: int, mean_distance: float, seed: int, common: dict[str, Any]
    ) -> None:
        self.data, self.probes, self.k, self.mean_distance = data, probes, k, mean_distance
        self.seed, self.common = seed, common

    @cached_property
    def split(self) -> ProbeSplit:
        """Training points, then test points."""
        codes = self.data.classes.codes
        if self.data.test is None or self.data.test_codes is None:
            return held_out_split(self.data.points, codes, fraction=HELD_OUT, seed=self.seed)
        return given_split(self.data.points, codes, self.data.test, self.data.test_codes)

    def neighbors(self, k: int) -> KNN:
        """Neighbors of all points of the split among all."""
        return knn(self.split.points, min(k, len(self.split.points) - 1), seed=self.seed, **self.common)

    def score(self) -> Scores:
        """Train every probe and score it on the test points."""
        from clorg_scale.probes import compare_probes

        if not self.probes:
            return Scores([], 0, "No probe was trained.")
        X, y, X_test, y_test = self._parts()
        if len(y_test) < FEWEST_TEST_POINTS:
            return Scores([], 0, f"Not trained: fewer than {FEWEST_TEST_POINTS} labeled points could be held out.")
        graph = affinity_graph(
            self.neighbors(self.k), temperature=AFFINITY_TEMPERATURE, mean_distance=self.mean_distance
        )
        results = compare_probes(
            X, self._as_classes(y), X_test, self._as_classes(y_test), graph, probes=self.probes,
            k=min(self.k, int((y >= 0).sum())), seed=self.seed,
            **self.common,
        )  # fmt: skip
        how = (
            f"Trained on {len(y):,} points, scored on {len(y_test):,} others; the graph probes see one graph over both "
            "and no test label. Intervals: 95 % bootstrap over the test points."
        )
        return Scores([asdict(result) for result in results], int((y_test >= 0).sum()), how)

    def study(self, varied: Varied, table: KNN) -> Scores:
        """Train the probes again with other shares of labels, numbers of neighbors or temperatures.

        `table` has as many neighbors as the study takes at most.
        """
        from clorg_scale.probes import study_probes

        settings: dict[Varied, Sequence[float]] = {
            "labels": (1.0,), "neighbors": (self.k,), "temperature": (AFFINITY_TEMPERATURE,)
        }  # fmt: skip
        most = min(table.k, int((self.split.codes[: self.split.n_train] >= 0).sum()))
        own, tried = settings[varied][0], VARIED[varied]
        settings[varied] = [value for value in tried if value != own and (varied != "neighbors" or value <= most)]
        if not settings[varied]:
            return Scores([], 0, "Nothing to vary: there are too few points.")
        X, y, X_test, y_test = self._parts()
        rows = study_probes(
            X, self._as_classes(y), X_test, self._as_classes(y_test),
            probes=[name for name in self.probes if self._depends(name, varied)],
            label_fractions=settings["labels"], ks=[int(k) for k in settings["neighbors"]],
            temperatures=settings["temperature"], neighbors=table, mean_distance=self.mean_distance, seed=self.seed,
            **self.common,
        )  # fmt: skip
        listed = ", ".join(f"{value:g}" for value in settings[varied])
        what = {"labels": "shares of the labels", "neighbors": "k", "temperature": "T"}[varied]
        return Scores(
            [asdict(row) for row in rows], int((y_test >= 0).sum()), f"The probes again at {what} = {listed}."
        )

    @staticmethod
    def _depends(name: str, varied: Varied) -> bool:
        from clorg_scale.probes.comparison import GRAPH_PROBES

        return varied == "labels" or name in GRAPH_PROBES or (name == "knn" and varied == "neighbors")

    def _as_classes(self, codes: Any) -> ClassLabels:
        """Codes in the numbering of the classes."""
        return ClassLabels(codes, np.arange(len(self.data.classes.classes)))

    def _parts(self) -> tuple[Any, Any, Any, Any]:
        """Training points and codes, test points and codes."""
        n = self.split.n_train
        return self.split.points[:n], self.split.codes[:n], self.split.points[n:], self.split.codes[n:]


def study_rows(own: list[ProbeScore], k: int, studies: list[Scores]) -> list[StudyScore]:
    """The probes' own setting and all that were tried, in one table."""
    from clorg_scale.probes.comparison import GRAPH_PROBES

    rows = [
        StudyScore(
            1.0, None if score.name == "linear" else k,
            AFFINITY_TEMPERATURE if score.name in GRAPH_PROBES else None, score,
        )
        for score in own
    ]  # fmt: skip
    for study in studies:
        for row in study.rows:
            result = row["result"]
            score = ProbeScore(**result | {"accuracy_interval": tuple(result["accuracy_interval"])})
            rows.append(StudyScore(row["label_fraction"], row["k"], row["temperature"], score))
    return rows
