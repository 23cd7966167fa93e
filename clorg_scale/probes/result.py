"""The result of one probe; imports nothing heavy, as records of analyses hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from clorg_scale.results.result import Columns, Result

__all__ = ["ProbeResult"]


@dataclass(frozen=True)
class ProbeResult(Result):
    """Accuracy of one probe on the test points.

    Attributes
    ----------
    name
        One of `clorg_scale.probes.PROBES`.
    accuracy
        Share of the labeled test points predicted correctly.
    accuracy_interval
        95 % bootstrap interval over the test points.
    n_parameters
        Trained numbers.
    seconds
        Training and prediction, wall clock; building the graph is not counted.
    settings
        Parameters of the probe, and the values that training chose.
    details
        What was asked for beside: "max_test_accuracy_over_epochs" of the graph networks, the number that the code of
        the paper reports. It is too high, as test labels choose the epoch.
    """

    name: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    n_parameters: int
    seconds: float
    settings: dict[str, str | int | float | bool]
    details: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain Python values."""
        return asdict(self)

    def row(self) -> dict[str, Any]:
        """One row of a table of probes."""
        low, high = self.accuracy_interval
        return {
            "probe": self.name,
            "accuracy": self.accuracy,
            "low": low,
            "high": high,
            "parameters": self.n_parameters,
            "seconds": self.seconds,
        }

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"probe": lambda: {name: [value] for name, value in self.row().items()}}

    def _line(self) -> str:
        low, high = self.accuracy_interval
        return f"{self.name}: accuracy {self.accuracy:.4f} [{low:.4f}, {high:.4f}], {self.n_parameters:,} parameters"

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ProbeResult:
        """Take back what `to_dict` gave, from JSON too, which has lists in the place of tuples."""
        low, high = fields["accuracy_interval"]
        return cls(**fields | {"accuracy_interval": (low, high)})
