"""`AnalysisPlan`: the settings of an analysis, from which every stage takes its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from clorg_scale.analysis.inputs import Inputs, check_settings
from clorg_scale.analysis.probing import AFFINITY_TEMPERATURE
from clorg_scale.analysis.resources import Resources
from clorg_scale.analysis.sizes import Sizes, memory_needed, probe_memory, search_sizes
from clorg_scale.communities.detection import Method as CommunityMethod
from clorg_scale.rld.compute import Method

__all__ = ["AnalysisPlan"]


@dataclass(frozen=True, kw_only=True)
class AnalysisPlan:
    """Settings of all stages, named as by `clorg_scale.analyze`; `left_out` says which probes are not installed."""

    temperatures: list[float]
    method: Method
    target_error: float
    k: int
    community_method: CommunityMethod
    resolution: float
    probes: list[str]
    left_out: str
    probe_study: bool
    map_points: int
    perplexity: float
    chi_points: int | None
    seed: int
    normalize: bool
    max_over_epochs: bool
    resources: Resources

    def checked(self, n_points: int) -> Self:
        """Check the settings of all stages, and make plain numbers of them.

        Raises
        ------
        InputError
            If some stage would refuse one of them.
        """
        numbers: dict[str, Any] = {"k": int, "map_points": int, "seed": int}
        numbers |= {"target_error": float, "resolution": float, "perplexity": float}
        others = ("method", "community_method", "chi_points")
        check_settings(n_points, **{name: getattr(self, name) for name in (*numbers, *others)})
        return replace(self, **{name: kind(getattr(self, name)) for name, kind in numbers.items()})

    def sizes(self, data: Inputs) -> Sizes:
        """Neighbors of each point in the tables."""
        flags = {"probes": bool(self.probes), "probe_study": self.probe_study, "normalize": self.normalize}
        return search_sizes(data, self.k, chi_points=self.chi_points, **flags)

    def within_memory(self, data: Inputs) -> tuple[Self, Inputs]:
        """Check that every stage has enough memory; returns the points, normalized if requested, and the memory left.

        Raises
        ------
        InputError
            If a stage needs more than there is.
        """
        sizes = {"n_temperatures": len(self.temperatures), "method": self.method, **self.on_map}
        needs = memory_needed(data, self.sizes(data), self.k, **sizes)
        self.resources.check_memory(needs | probe_memory(data, self.probes, self.k))
        if not self.normalize:
            return self, data
        data, left = data.normalized(self.resources.memory_limit, max(needs.values()))
        return replace(self, resources=replace(self.resources, memory_limit=left)), data

    @property
    def on_map(self) -> dict[str, Any]:
        """Settings of the map."""
        return {"map_points": self.map_points, "perplexity": self.perplexity}

    def recorded(self, data: Inputs) -> dict[str, str | int | float | bool | None]:
        """Settings that the record of the analysis shows."""
        return {
            "k": self.k,
            "normalize": self.normalize,
            "method": self.method,
            "target_error": self.target_error,
            "affinity_temperature": AFFINITY_TEMPERATURE,
            "community_method": self.community_method,
            "resolution": self.resolution,
            "chi_points": self.sizes(data).n_asked,
            "device": self.resources.device,
            "engine": self.resources.engine,
            "seed": self.seed,
        }
