"""Result of every RLD method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.results.result import Columns, Result
from clorg_scale.results.stored import beside
from clorg_scale.rld.types import Floats

__all__ = ["RLDResult"]


@dataclass(frozen=True)
class RLDResult(Result):
    """Relative Local Density at each temperature.

    Attributes
    ----------
    temperatures
        (t,) as asked for.
    values
        (t,) RLD: Newman modularity of the class labels on the affinity graph A.
    stderr
        (t,) standard error of `values`; 0 where exact.
    per_class
        (t, C) each class's share of the value, W_c / 2m - (K_c / 2m)^2; a row sums to the value.
    purity
        (t, C) W_c / K_c: share of the class's affinity that stays within it.
    classes
        (C,) class labels.
    local_density
        (t, n) w_i / k_i: share of each point's affinity that goes to its own class; NaN where unlabelled.
        The smallest values are the likeliest mislabeled points.
    null_mean
        (t,) value expected where the labels are shuffled: what is there without any signal.
    null_std
        (t,) its standard deviation over shufflings; NaN where it was not computed.
    mean_distance
        mu, the mean pairwise Euclidean distance.
    method
        How it was computed: "exact", "sampled" or "graph" (see `clorg_scale.rld`).
    n_points
        RLD at small temperatures depends on n: compare models at equal n.
    seconds
        Wall-clock time.
    details
        What the method has to say of itself (engine, precision, number of landmarks, diagnostics ...); where values are
        estimated, ``interval`` is half the width of their 95 % interval in standard errors.
    n_unlabelled
        Points that take part in the graph and belong to no class.
    """

    temperatures: Floats
    values: Floats
    stderr: Floats
    per_class: Floats
    purity: Floats
    classes: npt.NDArray[Any]
    local_density: npt.NDArray[np.float32] = field(metadata=beside())
    null_mean: Floats
    null_std: Floats
    mean_distance: float
    method: Literal["exact", "sampled", "graph"]
    n_points: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    n_unlabelled: int = 0

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"temperatures": self._by_temperature, "classes": self._by_class, "points": self._by_point}

    def _by_temperature(self) -> Columns:
        shuffled = {"null_mean": self.null_mean, "null_std": self.null_std}
        return {"temperature": self.temperatures, "rld": self.values, "stderr": self.stderr} | shuffled

    def _by_class(self) -> Columns:
        t, n_classes = self.per_class.shape
        return {
            "temperature": np.repeat(self.temperatures, n_classes),
            "class": np.tile(self.classes, t),
            "contribution": self.per_class.ravel(),
            "purity": self.purity.ravel(),
        }

    def _by_point(self) -> Columns:
        scales = zip(self.temperatures, self.local_density, strict=True)
        return {f"local_density, T = {temperature:g}": density for temperature, density in scales}

    def _line(self) -> str:
        pairs = zip(self.temperatures, self.values, strict=True)
        values = ", ".join(f"{value:.4f} at T = {temperature:g}" for temperature, value in pairs)
        return f"{values}; {self.method}, {self.n_points:,} points, {len(self.classes):,} classes"
