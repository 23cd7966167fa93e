"""What every RLD method returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["RLDResult"]


@dataclass(frozen=True)
class RLDResult:
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

    temperatures: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    stderr: npt.NDArray[np.float64]
    per_class: npt.NDArray[np.float64]
    purity: npt.NDArray[np.float64]
    classes: npt.NDArray[Any]
    local_density: npt.NDArray[np.float32]
    null_mean: npt.NDArray[np.float64]
    null_std: npt.NDArray[np.float64]
    mean_distance: float
    method: Literal["exact", "sampled", "graph"]
    n_points: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    n_unlabelled: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Everything but the per-point values, as numbers, strings and lists that JSON can hold; None for NaN."""
        return {
            "temperatures": self.temperatures.tolist(),
            "values": self.values.tolist(),
            "stderr": self.stderr.tolist(),
            "per_class": self.per_class.tolist(),
            "purity": [[None if np.isnan(share) else float(share) for share in row] for row in self.purity],
            "classes": self.classes.tolist(),
            "null_mean": self.null_mean.tolist(),
            "null_std": [None if np.isnan(deviation) else float(deviation) for deviation in self.null_std],
            "mean_distance": self.mean_distance,
            "method": self.method,
            "n_points": self.n_points,
            "n_unlabelled": self.n_unlabelled,
            "seconds": self.seconds,
            "details": self.details,
        }
